# SPDX-License-Identifier: Apache-2.0
"""The root, volumes and tmpfs."""

import os
import subprocess

import pytest
from skinktest import busybox_image, wait_for

pytestmark = pytest.mark.vm


def test_the_root_is_read_only(sk):
    result = sk("run", "--rm", "busybox", "sh", "-c", "echo x >/etc/new")
    assert result.status != 0 and "Read-only file system" in result.err


@pytest.mark.vm_more
def test_the_way_out_of_a_read_only_root_is_told(sk, world):
    """Where skink can see why a program failed, it says what helps."""
    result = sk("run", "--rm", "busybox", "sh", "-c", "echo x >/var/new")
    assert "--writable" in result.err or "--tmpfs" in result.err, result


@pytest.mark.vm_more
@pytest.mark.parametrize("place", ["/tmp", "/run", "/var/tmp"])
def test_temporary_places_are_writable(sk, place):
    assert sk.shell("echo x >%s/f && cat %s/f && grep ' %s ' /proc/self/mountinfo | grep -c tmpfs" % (place, place, place)) == "x\n1"


@pytest.mark.vm_more
def test_what_the_image_has_in_temporary_places_is_copied_up(sk):
    def extra(tar):
        tar.dir("run/app", 0o750, uid=1000, gid=8).file("run/app/sock.conf", "conf", 0o640, uid=1000, gid=8)
        tar.symlink("run/link", "app/sock.conf").file("tmp/left", "left").dir("var/tmp/d").file("var/tmp/d/x", "x")
    sk.load(busybox_image("full", extra=extra))
    out = sk.shell("cat /run/link /tmp/left /var/tmp/d/x; echo; stat -c '%a %u %g' /run/app /run/app/sock.conf /tmp; "
                   "echo new >/run/app/sock.conf && echo writable", image="full")
    assert out.splitlines() == ["confleftx", "750 1000 8", "640 1000 8", "1777 0 0", "writable"]


@pytest.mark.vm_more
def test_writable_root_dies_with_the_incarnation(sk, world):
    name = sk.running("--writable", "--restart", "always", command=["sh", "-c", "test -e /mark && echo old; echo x >/mark; sleep 1000"])
    wait_for(lambda: sk("exec", name, "test", "-e", "/mark").status == 0)
    sk.ok("exec", name, "sh", "-c", "echo y >/etc/by-exec")
    pid = sk.pid(name)
    os.kill(pid, 9)
    wait_for(lambda: sk.pid(name) not in (0, pid))
    wait_for(lambda: sk("exec", name, "test", "-e", "/mark").status == 0)
    assert sk("exec", name, "test", "-e", "/etc/by-exec").status == 1
    assert "old" not in sk.ok("logs", name)


@pytest.mark.vm_more
def test_the_image_never_changes(sk):
    sk.ok("run", "--rm", "--writable", "busybox", "sh", "-c", "rm -rf /etc /home; echo x >/bin/new; chmod 777 /root")
    out = sk.ok("run", "--rm", "--writable", "busybox", "sh", "-c", "ls /etc/passwd; test -e /bin/new || echo clean; stat -c %a /root")
    assert out.split() == ["/etc/passwd", "clean", "700"]


@pytest.mark.vm_more
def test_read_only_option_makes_temporary_places_read_only_or_keeps_them(sk):
    assert sk("run", "--rm", "--read-only", "busybox", "sh", "-c", "echo x >/etc/x").status != 0
    sk.fails("run", "--rm", "--read-only", "--writable", "busybox", "true", status=125, match="writable")


def test_bind_mounts(sk, world):
    os.makedirs(world.path("data"))
    world.write("data/in", "from host\n")
    world.write("single", "one file\n")
    out = sk.ok("run", "--rm", "-v", world.path("data") + ":/data", "-v", world.path("single") + ":/etc/single:ro", "busybox", "sh",
                "-c", "cat /data/in /etc/single; echo back >/data/out; echo x >/etc/single; echo $?")
    assert out.splitlines()[:2] == ["from host", "one file"] and out.splitlines()[-1] != "0"
    with open(world.path("data/out")) as file:
        assert file.read() == "back\n"


@pytest.mark.vm_more
def test_read_only_volume(sk, world):
    os.makedirs(world.path("data"))
    result = sk("run", "--rm", "-v", world.path("data") + ":/data:ro", "busybox", "touch", "/data/x")
    assert result.status != 0 and not os.path.exists(world.path("data/x"))


@pytest.mark.vm_more
def test_mount_option_long_form(sk, world):
    os.makedirs(world.path("data"))
    world.write("data/f", "f")
    base = "type=bind,source=%s,target=/d" % world.path("data")
    assert sk.shell("cat /d/f; touch /d/g && echo rw", "--mount", base) == "frw"
    assert sk.shell("cat /d/f; touch /d/h 2>/dev/null || echo ro", "--mount", base + ",readonly") == "fro"
    out = sk.shell("stat -f -c %T /t; df -k /t | tail -n 1", "--mount", "type=tmpfs,destination=/t,tmpfs-size=1m,tmpfs-mode=700")
    assert "tmpfs" in out and "1024" in out
    sk.fails("run", "--rm", "--mount", "type=nothing,target=/x", "busybox", "true", status=125, match="nothing")
    sk.fails("run", "--rm", "--mount", "type=bind,source=%s/none,target=/x" % world.base, "busybox", "true", status=125, match="none")
    sk.fails("run", "--rm", "--mount", "type=bind,target=/x", "busybox", "true", status=125, match="source|src")
    sk.fails("run", "--rm", "--mount", "bogus", "busybox", "true", status=125, match="bogus")


@pytest.mark.vm_more
def test_volume_mistakes(sk, world):
    for value in ("relative:/x", world.base + ":relative", world.base + ":/x:bogus", ":/x", world.base + ":", "/x:/", "a:b:c:d"):
        sk.fails("run", "--rm", "-v", value, "busybox", "true", status=125)


@pytest.mark.vm_more
def test_two_mounts_on_one_place(sk, world):
    sk.fails("run", "--rm", "-v", world.base + ":/x", "--tmpfs", "/x", "busybox", "true", status=125, match="/x")


@pytest.mark.vm_more
def test_tmpfs_options(sk):
    out = sk.shell("df -k /t | tail -n 1; stat -c %a /t; cp /bin/busybox /t/b && /t/b true; echo $?; grep ' /t ' /proc/self/mountinfo",
                   "--tmpfs", "/t:size=4m,mode=0711,noexec")
    assert "4096" in out and "\n711\n" in out and "noexec" in out and "\n126\n" in out


@pytest.mark.vm_more
def test_tmpfs_is_64_mib_unless_told_otherwise(sk):
    assert "65536" in sk.shell("df -k /t | tail -n 1", "--tmpfs", "/t")


@pytest.mark.vm_more
def test_tmpfs_over_a_place_of_the_image(sk):
    assert sk.shell("ls /home | wc -l; touch /home/x && echo ok", "--tmpfs", "/home").split()[-1] == "ok"


def test_mount_points_that_the_image_lacks_are_made(sk, world):
    os.makedirs(world.path("d"))
    world.write("f", "f")
    out = sk.shell("ls -d /new/deep/place /other; cat /new/file", "-v", world.path("d") + ":/new/deep/place", "-v",
                   world.path("f") + ":/new/file", "--tmpfs", "/other")
    assert out.split() == ["/new/deep/place", "/other", "f"]


@pytest.mark.vm_more
def test_a_mount_point_in_a_user_owned_directory_keeps_its_owner(sk, world):
    os.makedirs(world.path("d"))
    assert sk.shell("stat -c '%u %a' /home/user", "-v", world.path("d") + ":/home/user/data") == "1000 755"


@pytest.mark.vm_more
def test_volumes_of_the_image_are_tmpfs_of_one_incarnation(sk, world):
    sk.load(busybox_image("vol", extra=lambda tar: tar.dir("data", uid=1000, gid=1000).file("data/seed", "seed"),
                          run={"Volumes": {"/data": {}, "/fresh": {}}}))
    result = sk("run", "--rm", "vol", "sh", "-c", "cat /data/seed; echo; touch /data/x /fresh/y && echo ok; stat -c %u /data")
    assert result.out.split() == ["seed", "ok", "1000"], result
    assert "/data" in result.err, "it should say once what becomes of the volume: %r" % result
    os.makedirs(world.path("real"))
    sk.ok("run", "--rm", "-v", world.path("real") + ":/data", "vol", "touch", "/data/kept")
    assert os.listdir(world.path("real")) == ["kept"]


@pytest.mark.vm_more
def test_a_dangling_link_as_bind_target(sk, world):
    sk.load(busybox_image("dangling", extra=lambda tar: tar.symlink("etc/conf", "/run/conf-target")))
    assert sk.shell("cat /etc/conf", "-v", world.write("c", "bound") + ":/etc/conf", image="dangling") == "bound"


@pytest.mark.vm_more
def test_tmpfs_on_an_absolute_link(sk):
    sk.load(busybox_image("linked", extra=lambda tar: tar.dir("srv/real").symlink("data", "/srv/real")))
    assert sk.shell("touch /data/x; ls /srv/real", "--tmpfs", "/data", image="linked") == "x"


@pytest.mark.vm_more
def test_submounts_of_a_volume(sk, world):
    os.makedirs(world.path("top/sub"))
    subprocess.run(["mount", "-t", "tmpfs", "skink-test-keep", world.path("top/sub")], check=True)
    try:
        world.write("top/sub/f", "sub")
        assert sk.shell("cat /t/sub/f", "-v", world.path("top") + ":/t") == "sub"
        out = sk.shell("touch /t/x 2>/dev/null || echo ro; touch /t/sub/x 2>/dev/null || echo sub-ro", "-v",
                       world.path("top") + ":/t:rro")
        assert out.split() == ["ro", "sub-ro"]
    finally:
        subprocess.run(["umount", world.path("top/sub")], check=True)


@pytest.mark.vm_more
def test_relaunch_works_with_volumes(sk, world):
    os.makedirs(world.path("d"))
    name = sk.running("--restart", "always", "-v", world.path("d") + ":/d", "--tmpfs", "/scratch")
    for _ in range(3):
        pid = sk.pid(name)
        os.kill(pid, 9)
        wait_for(lambda: sk.pid(name) not in (0, pid))
    wait_for(lambda: sk("exec", name, "touch", "/d/alive", "/scratch/x").status == 0)
    assert os.listdir(world.path("d")) == ["alive"]

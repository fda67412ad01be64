# SPDX-License-Identifier: Apache-2.0
"""A08 to A16, A18 to A21, A24, A52 and A53 through skink-oci: a root file system and volumes that are hostile."""

import json
import os
import re
import socket
import array
import stat
import subprocess

import pytest
from skinktest import ALL, Bundle, kill_quietly, read_text, support, wait_for

ROUNDS = 300 if ALL else 15


def bind(source, to, *options):
    return {"destination": to, "type": "bind", "source": source, "options": ["rbind"] + list(options)}


def run(oci, world, b):
    """It runs and stays inside, or is refused with a message: never anything between."""
    b.save()
    result = oci("run", "--bundle", b.dir, world.name())
    assert result.status == 0 or result.err, result
    return result


@pytest.mark.parametrize("number", [3, 5, 7, 9, 12])
@pytest.mark.parametrize("by_link", [False, True])
def test_a08_working_directory_on_a_descriptor(oci, world, canary, number, by_link):
    place = "/proc/self/fd/%d" % number
    b = Bundle(world, ["sh", "-c", "pwd; cat secret ../secret ../../secret; true"], cwd="/w" if by_link else place)
    if by_link:
        os.symlink(place, b.rootfs + "/w")
    b.save()
    fd = os.open(canary.top, os.O_RDONLY | os.O_DIRECTORY)

    def inherit():
        os.dup2(fd, 9)
    result = oci("run", "--bundle", b.dir, world.name(), close_fds=False, preexec_fn=inherit)
    os.close(fd)
    # Refused, unless the number is one of a directory in the container's own root.
    if result.status == 0:
        assert result.out in ("/\n", "/w\n") and canary.token not in result.out, result
    else:
        assert "process.cwd" in result.err, result


def test_a08_no_descriptor_of_the_runtime_is_inside(oci, world, canary):
    b = Bundle(world, ["sh", "-c", "ls -l /proc/self/fd"])
    b.config["mounts"].append(bind(canary.top, "/m", "ro"))
    b.config["root"]["readonly"] = False
    b.config["hooks"] = {kind: [{"path": "/bin/true"}] for kind in ("createRuntime", "createContainer", "startContainer", "poststart")}
    result = run(oci, world, b)
    numbers = sorted(int(number) for number in re.findall(r" (\d+) ->", result.out))
    assert set(numbers) <= {0, 1, 2, 3}, result


LINKS = {"absolute": lambda c: c, "climbing": lambda c: "../" * 20 + c[1:], "proc": lambda c: "/proc/1/root" + c, "self": lambda c: "/proc/self/cwd"}


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("kind", ["bind", "tmpfs", "file", "copyup", "nofollow"])
def test_a10_mount_targets_that_lead_out(oci, world, canary, name, kind):
    b = Bundle(world, ["sh", "-c", "ls -laR /m 2>/dev/null; touch /m/x; true"])
    b.config["root"]["readonly"] = False
    os.symlink(LINKS[name](canary.top), b.rootfs + "/m")
    os.makedirs(world.path("src"))
    world.write("src/BREAKOUT", "x")
    b.config["mounts"].append({"bind": bind(world.path("src"), "/m/deep"), "tmpfs": {"destination": "/m/deep", "type": "tmpfs", "source": "t"},
                               "file": bind(world.path("src/BREAKOUT"), "/m/f"), "nofollow": bind(world.path("src/BREAKOUT"), "/m", "dest-nofollow"),
                               "copyup": {"destination": "/m", "type": "tmpfs", "source": "t", "options": ["tmpcopyup"]}}[kind])
    before = world.host_mounts()
    result = run(oci, world, b)
    assert canary.token not in result.out and world.host_mounts() == before


def test_a10_a_co_container_swaps_the_mount_target(oci, world, canary):
    os.makedirs(world.path("vol/t"))
    os.symlink("/", world.path("vol/link"))
    os.makedirs(world.path("inner"))
    world.write("inner/BREAKOUT", "x")
    swap = subprocess.Popen([support("swapper"), world.path("vol/t"), world.path("vol/link"), "600"])
    world.background.append(swap)
    b = Bundle(world, ["sh", "-c", "cat %s/secret; ls -d %s; true" % (canary.top, canary.top)])
    b.config["root"]["readonly"] = False
    b.config["mounts"] += [bind(world.path("vol"), "/vol"), bind(world.path("inner"), "/vol/t/deep"), {"destination": "/vol/t/x", "type": "tmpfs", "source": "t"}]
    for _ in range(ROUNDS):
        result = run(oci, world, b)
        assert canary.token not in result.out and canary.top not in result.out, result
    kill_quietly(swap.pid)
    swap.wait()
    assert not os.path.exists("/deep") and not os.path.exists("/x") and not os.path.exists("/BREAKOUT")


@pytest.mark.parametrize("null", ["link", "file", "missing", "other-device", "directory"])
def test_a11_masks_do_not_come_from_the_containers_dev_null(oci, world, canary, null):
    os.makedirs(world.path("dev"))
    place = world.path("dev/null")
    if null == "link":
        os.symlink("/proc/sys/kernel/core_pattern", place)
    elif null == "file":
        world.write("dev/null", "not the null device")
    elif null == "other-device":
        os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    elif null == "directory":
        os.makedirs(place)
    b = Bundle(world, ["sh", "-c", "for f in $(cat /list); do [ -e $f ] && head -c 20 $f | wc -c; done; "
                                   "echo '|/x' >/proc/sys/kernel/core_pattern; true"])
    b.config["mounts"] = [mount for mount in b.config["mounts"] if not mount["destination"].startswith("/dev")] + [bind(world.path("dev"), "/dev")]
    with open(b.rootfs + "/list", "w") as file:
        file.write("\n".join(b.config["linux"]["maskedPaths"]))
    before = read_text("/proc/sys/kernel/core_pattern")
    result = run(oci, world, b)
    assert read_text("/proc/sys/kernel/core_pattern") == before
    assert set(result.out.split()) <= {"0"}, result


@pytest.mark.parametrize("name", ["console", "ptmx", "pts/0", "tty"])
def test_a12_the_console(oci, world, canary, name):
    """The terminal comes from the devpts that we mount, whatever a volume on /dev has under its names."""
    os.makedirs(world.path("dev/pts"))
    os.makedirs(world.path("dev/shm"))
    os.symlink(canary.top + "/d/ptmx", world.path("dev/" + name))
    b = Bundle(world, ["sh", "-c", "stat -f -c %T /dev/console; echo x >/dev/console; echo y >/dev/ptmx; true"], terminal=True)
    b.config["mounts"] = [bind(world.path("dev"), "/dev") if mount["destination"] == "/dev" else mount for mount in b.config["mounts"]]
    b.save()
    server = socket.socket(socket.AF_UNIX)
    server.bind(world.path("console"))
    server.listen(1)
    name = world.name()
    result = oci("create", "--bundle", b.dir, "--console-socket", world.path("console"), name)
    if result.status == 0:
        peer, _ = server.accept()
        _, ancillary, _, _ = peer.recvmsg(4096, socket.CMSG_SPACE(4))
        master = array.array("i", ancillary[0][2])[0]
        assert os.fstat(master).st_rdev == os.makedev(5, 2)
        oci.ok("start", name)
        wait_for(lambda: json.loads(oci.ok("state", name))["status"] == "stopped")
        os.close(master)
        peer.close()
    else:
        assert result.err
    server.close()
    oci.ok("delete", "--force", name)


@pytest.mark.parametrize("where", ["proc", "sys"])
@pytest.mark.parametrize("to", ["canary", "tmp", "loop"])
def test_a13_proc_and_sys_are_links(oci, world, canary, where, to):
    b = Bundle(world, ["cat", "/proc/sys/kernel/msgmax"])
    os.rmdir(b.rootfs + "/" + where)
    os.symlink({"canary": canary.top, "tmp": "/tmp", "loop": where}[to], b.rootfs + "/" + where)
    b.config["linux"]["sysctl"] = {"kernel.msgmax": "7777"}
    result = run(oci, world, b)
    assert result.status != 0 and where in result.err, result


@pytest.mark.parametrize("name", ["tmpfs-on-sys", "tmpfs-on-attr", "volume-on-proc", "volume-in-proc"])
def test_a13_mounts_over_parts_of_proc(oci, world, canary, name):
    os.makedirs(world.path("fake/sys/kernel"))
    world.write("fake/sys/kernel/msgmax", "")
    mount = {"tmpfs-on-sys": {"destination": "/proc/sys", "type": "tmpfs", "source": "tmpfs"},
             "tmpfs-on-attr": {"destination": "/proc/self/attr", "type": "tmpfs", "source": "tmpfs"},
             "volume-on-proc": bind(world.path("fake"), "/proc"), "volume-in-proc": bind(world.path("fake/sys/kernel"), "/proc/sys/kernel")}[name]
    b = Bundle(world, ["true"])
    b.config["mounts"][1:1] = [mount]
    b.config["linux"]["sysctl"] = {"kernel.msgmax": "7777"}
    before = read_text("/proc/sys/kernel/msgmax")
    run(oci, world, b)
    assert read_text("/proc/sys/kernel/msgmax") == before and read_text(world.path("fake/sys/kernel/msgmax")) == ""


@pytest.mark.parametrize("component", ["a", "a/b", "a/b/c"])
@pytest.mark.parametrize("to", ["directory", "file", "climbing"])
def test_a14_what_is_made_in_the_root_stays_there(oci, world, canary, component, to):
    """Directories and files for mounts, devices, links and the working directory, with a link at each component."""
    b = Bundle(world, ["true"], cwd="/a/b/c/work")
    b.config["root"]["readonly"] = False
    os.makedirs(os.path.join(b.rootfs, os.path.dirname(component)), exist_ok=True)
    os.symlink({"directory": canary.top + "/d", "file": canary.top + "/file", "climbing": "../../../../../../.." + canary.top + "/empty"}[to],
               os.path.join(b.rootfs, component))
    world.write("f", "x")
    b.config["mounts"] += [bind(world.path("f"), "/a/b/c/file"), {"destination": "/a/b/c/dir", "type": "tmpfs", "source": "t"}]
    b.config["linux"]["devices"] = [{"path": "/a/b/c/node", "type": "c", "major": 1, "minor": 3}]
    run(oci, world, b)


def test_a15_delete_ends_what_was_mounted_and_removes_nothing_else(oci, world, canary):
    """What the container leaves in its root and volumes is not skink-oci's to delete."""
    os.makedirs(world.path("vol"))
    script = "mkdir -p /vol/a/b /left; ln -s %s /left/link; ln -s %s /vol/a/link; true" % (canary.top, canary.top)
    b = Bundle(world, ["sh", "-c", script])
    b.config["root"]["readonly"] = False
    b.config["mounts"].append(bind(world.path("vol"), "/vol"))
    assert run(oci, world, b).status == 0
    assert os.path.islink(world.path("vol/a/link")) and os.path.islink(b.rootfs + "/left/link") and world.host_mounts() == world.mounts_before


def test_a16_a_source_that_is_swapped(oci, world, canary):
    """One object is looked at and mounted: a source that is a directory now and a link a moment later."""
    os.makedirs(world.path("vol/sub"))
    os.symlink(canary.top, world.path("vol/link"))
    swap = subprocess.Popen([support("swapper"), world.path("vol/sub"), world.path("vol/link"), "600"])
    world.background.append(swap)
    b = Bundle(world, ["cat", "/m/secret"])
    b.config["root"]["readonly"] = False
    b.config["mounts"].append(bind(world.path("vol/sub"), "/m", "src-nofollow"))
    for _ in range(ROUNDS):
        assert canary.token not in run(oci, world, b).out
    kill_quietly(swap.pid)
    swap.wait()


def test_a16_a_source_inside_the_root_that_is_swapped(oci, world, canary):
    """One that is named by the root's place on the host is looked up inside the root, whatever becomes of it meanwhile."""
    b = Bundle(world, ["cat", "/m/secret"])
    b.config["root"]["readonly"] = False
    os.makedirs(b.rootfs + "/vol/sub")
    os.symlink(canary.top, b.rootfs + "/vol/link")
    b.config["mounts"] += [bind(b.rootfs + "/vol/sub", "/m"), bind(world.path("plain"), "/n")]
    os.makedirs(world.path("plain"))
    swap = subprocess.Popen([support("swapper"), b.rootfs + "/vol/sub", b.rootfs + "/vol/link", "600"])
    world.background.append(swap)
    for _ in range(ROUNDS):
        assert canary.token not in run(oci, world, b).out
    kill_quietly(swap.pid)
    swap.wait()


def test_a18_annotations_steer_nothing_on_the_host(oci, world, canary):
    """Engines copy labels of images into annotations: those that other runtimes obey are only handed on."""
    out = world.path("written")
    b = Bundle(world, ["cat", "/proc/1/comm"])
    b.config["annotations"] = {"run.oci.hooks.stdout": out, "run.oci.hooks.stderr": out, "run.oci.handler": "krun", "run.oci.seccomp.receiver": out,
                               "run.oci.seccomp_bpf_data": "AAAA", "run.oci.systemd.subgroup": "../..", "org.systemd.property.ExecStopPost": "'/bin/touch %s'" % out,
                               "org.criu.config": canary.top + "/file", "run.oci.pidfd_receiver": out, "run.oci.delegate-cgroup": "../../x"}
    b.config["hooks"] = {"createRuntime": [{"path": "/bin/echo", "args": ["echo", "hello"]}]}
    result = run(oci, world, b)
    assert (result.status, result.out) == (0, "cat\n"), result
    assert not os.path.exists(out)


@pytest.mark.parametrize("key, value", [("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/x"), ("net/../kernel/core_pattern", "|/x"),
                                        ("kernel.core_pattern", "|/x"), ("net.ipv4.ip_forward", "1\n2"), ("kernel.msgmax/../core_pattern", "|/x"), ("vm.swappiness", "1")])
def test_a19_sysctls_of_the_host(oci, world, canary, key, value):
    b = Bundle(world, ["true"])
    b.config["linux"]["sysctl"] = {key: value}
    before = read_text("/proc/sys/kernel/core_pattern"), read_text("/proc/sys/vm/swappiness")
    result = run(oci, world, b)
    assert result.status != 0 and "linux.sysctl" in result.err, result
    assert before == (read_text("/proc/sys/kernel/core_pattern"), read_text("/proc/sys/vm/swappiness"))


def test_a20_helpers_of_the_host(oci, world, canary):
    paths = ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/kernel/modprobe", "/proc/sys/fs/binfmt_misc/register", "/sys/kernel/uevent_helper"]
    script = "; ".join("echo '|/evil' 2>/dev/null >%s && echo wrote %s" % (path, path) for path in paths)
    b = Bundle(world, ["sh", "-c", script + "; mount -o remount,rw,bind /proc/sys && echo remounted; true"])
    before = [read_text(path, "") for path in (paths[0], paths[2])]
    assert run(oci, world, b).out == ""
    assert before == [read_text(path, "") for path in (paths[0], paths[2])]


@pytest.mark.parametrize("namespace", [True, False])
def test_a21_release_agents(oci, world, canary, namespace):
    b = Bundle(world, ["sh", "-c", "for f in /sys/fs/cgroup/release_agent /sys/fs/cgroup/*/release_agent; do [ -e $f ] && { echo /evil >$f && echo wrote; }; done 2>/dev/null; "
                                   "mkdir /sys/fs/cgroup/x 2>/dev/null && echo made; mkdir /sys/fs/cgroup/memory/x 2>/dev/null && echo made; "
                                   "mount -t cgroup -o memory none /tmp && echo mounted; true"])
    b.config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"]})
    if not namespace:
        b.config["linux"]["namespaces"] = [one for one in b.config["linux"]["namespaces"] if one["type"] != "cgroup"]
    result = run(oci, world, b)
    assert result.status == 0 and result.out == "", result


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer", "poststart", "poststop"])
def test_a24_hooks_of_the_host_have_nothing_of_the_image(oci, world, canary, kind):
    b = Bundle(world, ["/bin/true"], env=["PATH=/evil", "LD_PRELOAD=/evil.so", "GCONV_PATH=/evil", "BASH_ENV=/evil", "HOME=/evil"])
    for env in (None, ["GIVEN=1"]):
        b.config["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", "tr '\\0' '\\n' </proc/$PPID/environ >/dev/null; export -p >%s" % world.path("env")]}]}
        if env:
            b.config["hooks"][kind][0]["env"] = env
        assert run(oci, world, b).status == 0
        names = sorted(re.findall(r"^export (\w+)=", read_text(world.path("env")), re.M))
        assert names == (["GIVEN", "PWD"] if env else ["PWD"]) and "evil" not in read_text(world.path("env"))


@pytest.mark.parametrize("user", [False, True])
def test_a52_flags_of_binds_hold(oci, world, user):
    top = world.path("top")
    os.makedirs(top)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid,mode=777", "skink-test-keep", top], check=True)
    os.makedirs(top + "/sub")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nodev,mode=777", "skink-test-keep", top + "/sub"], check=True)
    try:
        b = Bundle(world, ["sh", "-c", "grep ' /r*o*[a-z]*m' /proc/self/mountinfo; for d in /om /om/sub /rom /rom/sub; do touch $d/x 2>/dev/null && echo wrote $d; done; true"])
        if user:
            os.chmod(world.base, 0o755)
            subprocess.run(["chown", "-R", "100000:100000", b.rootfs], check=True)
            b.config["linux"]["namespaces"].append({"type": "user"})
            b.config["linux"]["uidMappings"] = b.config["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        b.config["root"]["readonly"] = False
        # Without a user namespace "ro" alone is, as with runc, "ro" and nothing else; nothing is lost that was asked for.
        b.config["mounts"] += [bind(top, "/om", *(["ro"] if user else ["ro", "src-flags"])), bind(top, "/rom", "rro")]
        out = run(oci, world, b).out
        assert re.findall(r"^wrote (\S+)", out, re.M) == ["/om/sub"], out
        options = {line.split()[4]: line.split()[5].split(",") for line in out.splitlines() if " - " in line}
        for place in ("/om", "/rom"):
            assert {"ro", "nosuid"} <= set(options[place]) and "nodev" in options[place + "/sub"], options
    finally:
        subprocess.run(["umount", "-R", "-l", top], check=True)


@pytest.mark.parametrize("field, value", [("apparmorProfile", "skink-test"), ("selinuxLabel", "system_u:system_r:container_t:s0")])
def test_a53_labels_that_cannot_be_put_on(oci, world, canary, field, value):
    here = {"apparmorProfile": read_text("/sys/module/apparmor/parameters/enabled", "N").startswith("Y"), "selinuxLabel": os.path.exists("/sys/fs/selinux/enforce")}
    if here[field]:
        pytest.skip("this host can put it on")
    b = Bundle(world, ["echo", "ran"])
    b.config["process"][field] = value
    result = run(oci, world, b)
    assert result.status == 1 and "process." + field in result.err and result.out == "", result


@pytest.mark.parametrize("how", [[], ["--no-pivot"]])
@pytest.mark.parametrize("kind", ["proc", "sysfs"])
def test_a59_a_user_namespace_gets_no_unmasked_view(oci, world, how, kind):
    """The kernel allows a new procfs or sysfs where one without masks can be seen: the host's own, below ours, counts."""
    b = Bundle(world, ["sh", "-c", "unshare -Ur true && echo can; unshare -Urmpf mount -t %s none /proc && echo bare" % kind])
    b.save()
    result = oci("run", *how, "--bundle", b.dir, world.name())
    assert "can" in result.out, "no user namespace could be made: this says nothing"
    assert "bare" not in result.out and "denied" in result.err + result.out or "permitted" in result.err, result

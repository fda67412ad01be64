# SPDX-License-Identifier: Apache-2.0
"""A08 to A15, A17, A37, A38, A50 to A52, A96: paths that an image chose, and what is mounted on them."""

import os
import stat
import subprocess
import time

import mkimg
import pytest
from skinktest import ALL, Bundle, busybox_image, kill_quietly, read_text, support, wait_for

ROUNDS = 500 if ALL else 25


def attempt(world, image_extra, *run, run_config=None, command=("true",), timeout=60):
    """Loads an image with these entries and runs it; skink may refuse, with a message, or stay inside."""
    sk = world.skink
    path = mkimg.oci_archive(world.path("hostile.tar"), busybox_image("hostile", extra=image_extra, run=run_config))
    loaded = sk("load", path)
    if loaded.status:
        return sk.fails("run", "--rm", path, status=125)
    result = sk("run", "--rm", *run, "hostile", *command, timeout=timeout)
    assert result.status >= 0, result
    return result


# A08: descriptors and the working directory.

@pytest.mark.parametrize("number", [3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20])
def test_a08_working_directory_on_a_descriptor_of_the_runtime(world, canary, number):
    inside = "readlink -f . >/dev/null; pwd -P; ls ../../../../.. ; cat ../../../../../%s/secret" % canary.top
    for run in (["-w", "/proc/self/fd/%d" % number], ["-w", "/w"]):
        result = attempt(world, lambda tar: tar.symlink("w", "/proc/self/fd/%d" % number), *run, command=("sh", "-c", inside),
                         )
        assert canary.token not in result.out
        if result.status == 125:
            assert "fd" in result.err or "/w" in result.err


def test_a08_an_open_directory_of_the_caller_is_not_passed_on(sk, canary, world):
    fd = os.open("/", os.O_RDONLY)
    os.set_inheritable(fd, True)
    for number in range(3, 24):
        result = sk("run", "--rm", "-w", "/proc/self/fd/%d" % number, "busybox", "cat", "../../../../../.." + canary.top + "/secret",
                    "." + canary.top + "/secret", close_fds=False)
        assert canary.token not in result.out
    os.close(fd)


def test_a08_exec_with_a_working_directory_on_a_descriptor(sk, canary):
    name = sk.running()
    for number in range(0, 24):
        result = sk("exec", "-w", "/proc/self/fd/%d" % number, name, "cat", "../../../../.." + canary.top + "/secret")
        assert result.status != 0


def test_a08_a_working_directory_that_is_swapped(sk, canary, world):
    name = sk.running("--writable", command=["sh", "-c", "mkdir /w; ln -s /proc/self/fd/7 /v; swapper /w /v 60"])
    for _ in range(ROUNDS):
        result = sk("exec", "-w", "/w", name, "sh", "-c", "cat ../../../../..%s/secret; readlink /proc/self/cwd" % canary.top)
        assert "unreachable" not in result.out, result


def test_a08_descriptors_of_the_first_process(sk):
    name = sk.running("-i")
    pid = sk.pid(name)
    targets = {os.readlink("/proc/%d/fd/%s" % (pid, fd)) for fd in os.listdir("/proc/%d/fd" % pid)}
    assert len(targets) <= 3
    assert not any(target.startswith(("/proc", "/sys", "/var/tmp/skink-test")) and "fifo" not in target and "log" not in target
                   and "std" not in target and "pipe" not in target and "/io" not in target for target in targets), targets


# A09: /dev.

@pytest.mark.parametrize("what", ["/dev", "dev-null", "dev-file", "dev-fifo"])
def test_a09_dev_is_a_link_of_the_image(world, canary, what):
    def extra(tar):
        if what == "/dev":
            tar.symlink("dev", canary.top + "/d")
        elif what == "dev-null":
            tar.dir("dev").symlink("dev/null", canary.top + "/d/null").symlink("dev/ptmx", canary.top + "/d/ptmx").symlink("dev/pts", canary.top)
        elif what == "dev-file":
            tar.file("dev", "x")
        else:
            tar.fifo("dev")
    result = attempt(world, extra, command=("sh", "-c", "echo x >/dev/null; echo x >/dev/ptmx; ls -la /dev/; true"))
    assert canary.token not in result.out


@pytest.mark.parametrize("with_mount", [True, False])
def test_a09_dev_of_a_bundle_is_a_link(bare, world, canary, with_mount):
    b = Bundle(world, ["sh", "-c", "ls /dev/; echo x >/dev/null"])
    os.rmdir(b.rootfs + "/dev")
    os.symlink(canary.top + "/d", b.rootfs + "/dev")
    if not with_mount:
        b.config["mounts"] = [m for m in b.config["mounts"] if not m["destination"].startswith("/dev")]
    b.config["linux"]["devices"] = [{"path": "/dev/made", "type": "c", "major": 1, "minor": 3}]
    b.save()
    bare("run", "--rm", "--bundle", b.dir)
    if world.oci:
        world.oci("run", "--bundle", b.dir, world.name())


# A10: mount targets.

LINKS = {
    "absolute": lambda c: [("m", c)], "relative": lambda c: [("m", "../" * 20 + c[1:])],
    "chain": lambda c: [("m", "n"), ("n", c)], "loop": lambda c: [("m", "n"), ("n", "m")],
    "parent": lambda c: [("p", c), ], "proc": lambda c: [("m", "/proc/1/root" + c)], "self": lambda c: [("m", "/proc/self/cwd")],
}


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("kind", ["bind", "tmpfs", "file"])
def test_a10_mount_target_symlink(world, canary, name, kind):
    target = "/p/sub/deep" if name == "parent" else "/m"
    os.makedirs(world.path("src"))
    world.write("src/BREAKOUT", "x")
    option = {"bind": ["-v", world.path("src") + ":" + target], "tmpfs": ["--tmpfs", target],
              "file": ["-v", world.path("src/BREAKOUT") + ":" + target + "/f"]}[kind]

    def extra(tar):
        for link, to in LINKS[name](canary.top):
            tar.symlink(link, to)
    before = read_text("/proc/self/mountinfo")
    attempt(world, extra, *option, command=("sh", "-c", "ls -laR /m /p 2>/dev/null; touch /m/x /p/sub/deep/y; true"))
    assert canary.top not in read_text("/proc/self/mountinfo") and len(before.splitlines()) <= len(read_text("/proc/self/mountinfo").splitlines()) + 3


def test_a10_a_co_container_swaps_the_mount_target(sk, canary, world):
    """CVE-2021-30465: the directory under a shared volume is a directory now and a link a moment later."""
    os.makedirs(world.path("vol/t"))
    os.symlink("/", world.path("vol/link"))
    os.makedirs(world.path("inner"))
    world.write("inner/BREAKOUT", "x")
    swapper = sk.running("-v", world.path("vol") + ":/vol", command=["swapper", "/vol/t", "/vol/link", "600"])
    for _ in range(ROUNDS):
        result = sk("run", "--rm", "-v", world.path("vol") + ":/vol", "-v", world.path("inner") + ":/vol/t/deep", "--tmpfs", "/vol/t/x",
                    "busybox", "sh", "-c", "cat %s/secret; ls -d %s 2>/dev/null; true" % (canary.top, canary.top))
        assert canary.token not in result.out and canary.top not in result.out, result
    sk.ok("rm", "-f", swapper)
    assert not os.path.exists("/deep") and not os.path.exists("/x")


# A11: masks.

@pytest.mark.parametrize("null", ["link", "file", "missing", "other-device", "directory"])
def test_a11_masks_do_not_come_from_the_containers_dev_null(world, canary, null):
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
    world.skink.load(busybox_image())
    before = read_text("/proc/sys/kernel/core_pattern")
    result = world.skink("run", "--rm", "-v", world.path("dev") + ":/dev", "busybox", "sh", "-c",
                         "for f in /proc/kcore /proc/keys /proc/timer_list /proc/latency_stats; do [ -e $f ] && head -c 20 $f | wc -c; done; "
                         "echo '|/x' >/proc/sys/kernel/core_pattern; cat /proc/keys | head -c 10; true")
    assert read_text("/proc/sys/kernel/core_pattern") == before
    if result.status == 0:
        assert set(line for line in result.out.split() if line.isdigit()) <= {"0"}, result


# A12: the console.

@pytest.mark.parametrize("name", ["dev/console", "dev/ptmx", "dev/pts/0", "dev/tty"])
def test_a12_terminal_with_links_in_the_image(world, canary, name):
    def extra(tar):
        tar.dir("dev").dir("dev/pts").symlink(name, canary.top + "/d/ptmx")
    result = attempt(world, extra, "-t", command=("sh", "-c", "stat -f -c %T /dev/console; echo x >/dev/console; echo y >/dev/ptmx; true"))
    if result.status == 0:
        assert "devpts" in result.out or "tmpfs" in result.out or "UNKNOWN" in result.out, result


def test_a12_terminal_with_a_swapped_dev_of_a_volume(world, canary):
    os.makedirs(world.path("dev/pts"))
    world.write("dev/console", "")
    os.symlink(canary.top + "/file", world.path("dev/link"))
    world.skink.load(busybox_image())
    swap = subprocess.Popen([support("swapper"), world.path("dev/console"), world.path("dev/link"), "60"])
    world.background.append(swap)
    for _ in range(ROUNDS):
        world.skink("run", "--rm", "-t", "-v", world.path("dev") + ":/dev", "busybox", "sh", "-c", "echo x >/dev/console")
    kill_quietly(swap.pid)
    swap.wait()


# A13: /proc.

@pytest.mark.parametrize("where", ["proc", "sys"])
@pytest.mark.parametrize("to", ["canary", "tmp", "loop"])
def test_a13_proc_and_sys_are_links_of_the_image(world, canary, where, to):
    target = {"canary": canary.top, "tmp": "/tmp", "loop": where}[to]
    result = attempt(world, lambda tar: tar.symlink(where, target), "--sysctl", "kernel.msgmax=7777",
                     command=("cat", "/proc/sys/kernel/msgmax"))
    if result.status == 0:
        assert result.out == "7777\n"
    else:
        assert where in result.err, result


def proc_bundle(world, mounts, sysctl=True):
    b = Bundle(world, ["sh", "-c", "cat /proc/sys/kernel/msgmax; true"])
    b.config["mounts"][1:1] = mounts
    if sysctl:
        b.config["linux"]["sysctl"] = {"kernel.msgmax": "7777"}
    return b.save()


@pytest.mark.parametrize("name", ["tmpfs-on-sys", "tmpfs-on-attr", "bind-on-attr", "volume-on-proc", "link-in-tmpfs"])
def test_a13_mounts_over_parts_of_proc(bare, world, name):
    os.makedirs(world.path("fake/sys/kernel"))
    world.write("fake/sys/kernel/msgmax", "")
    mounts = {
        "tmpfs-on-sys": [{"destination": "/proc/sys", "type": "tmpfs", "source": "tmpfs"}],
        "tmpfs-on-attr": [{"destination": "/proc/self/attr", "type": "tmpfs", "source": "tmpfs"}],
        "bind-on-attr": [{"destination": "/proc/self/attr/exec", "type": "bind", "source": "/proc/self/sched", "options": ["bind"]}],
        "volume-on-proc": [{"destination": "/proc", "type": "bind", "source": world.path("fake"), "options": ["bind"]}],
        "link-in-tmpfs": [{"destination": "/proc/sys/kernel", "type": "bind", "source": world.path("fake/sys/kernel"), "options": ["bind"]}],
    }[name]
    before = read_text("/proc/sys/kernel/msgmax")
    result = bare("run", "--rm", "--bundle", proc_bundle(world, mounts).dir)
    assert read_text("/proc/sys/kernel/msgmax") == before
    assert read_text(world.path("fake/sys/kernel/msgmax")) == "", "the sysctl went to a file of the volume"
    assert result.status in (0, 1, 125), result


# A14: what skink makes in the root.

MADE = ["etc", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", "etc/passwd", "tmp", "run", "var", "var/tmp", "dev/shm", "dev/mqueue"]


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("to", ["directory", "file"])
def test_a14_links_at_every_place_that_skink_writes(world, canary, name, to):
    def extra(tar):
        if name in ("etc", "tmp", "run", "var"):
            tar.file(".wh." + name)
            tar.symlink(name, canary.top if to == "directory" else canary.top + "/file")
        else:
            tar.dir(os.path.dirname(name)).symlink(name, canary.top if to == "directory" else canary.top + "/file")
    attempt(world, extra, "-w", "/made/dir", "--add-host", "a:1.2.3.4", command=("/bin/busybox", "true"))


@pytest.mark.parametrize("workdir", ["/link/BREAKOUT", "/link/a/../../BREAKOUT", "/a/../../../BREAKOUT", "/link", "/proc/self/cwd/BREAKOUT"])
def test_a14_working_directories_that_would_be_made_outside(world, canary, workdir):
    attempt(world, lambda tar: tar.symlink("link", canary.top), "-w", workdir, "--writable")
    attempt(world, lambda tar: tar.symlink("link", canary.top), run_config={"WorkingDir": workdir})


def test_a14_exec_with_a_working_directory_through_a_link(world, canary):
    sk = world.skink
    sk.load(busybox_image("hostile", extra=lambda tar: tar.symlink("link", canary.top)))
    name = sk.running("--writable", image="hostile")
    sk("exec", "-w", "/link/BREAKOUT", name, "true")
    sk("exec", "-w", "/link", name, "touch", "x")


# A15: the end of a container.

def test_a15_link_farms_and_deep_trees_are_removed_by_descriptor(sk, canary, world):
    name = sk.running("--writable", command=["sh", "-c", "mkdir /farm; for i in 1 2 3 4 5 6 7 8 9; do ln -s %s /farm/$i; ln -s / /farm/r$i; done; "
                                             "cd /; i=0; while [ $i -lt 3000 ]; do mkdir d; cd d; i=$((i+1)); done; ln -s %s end; "
                                             "touch /tmp/ready; sleep 1000" % (canary.top, canary.top)])
    wait_for(lambda: sk("exec", name, "test", "-e", "/tmp/ready").status == 0, 90)
    sk.ok("rm", "-f", name, timeout=120)


def test_a15_swapping_directories_while_they_are_removed(sk, canary, world):
    """A process that holds the upper layer's volume swaps a directory and a link during rm."""
    os.makedirs(world.path("vol/d/e"))
    os.symlink(canary.top, world.path("vol/link"))
    swap = subprocess.Popen([support("swapper"), world.path("vol/d"), world.path("vol/link"), "120"])
    world.background.append(swap)
    for _ in range(5):
        name = sk.running("--writable", "-v", world.path("vol") + ":/vol", command=["sh", "-c", "mkdir -p /a/b; ln -s /vol/d /a/l; sleep 1000"])
        sk.ok("rm", "-f", name)
    kill_quietly(swap.pid)
    swap.wait()
    assert os.path.isdir(world.path("vol"))


def test_a15_a_bind_mount_is_never_deleted_into(sk, canary, world):
    for _ in range(3):
        name = sk.running("--writable", "-v", canary.top + ":/c", "--tmpfs", "/c/empty")
        sk.ok("rm", "-f", name)
    canary.check()


def test_a15_mounts_made_inside_do_not_survive(sk, world):
    os.makedirs(world.path("vol"))
    name = sk.running("--privileged", "-v", world.path("vol") + ":/vol", command=["sh", "-c", "mkdir /tmp/a; mount -t tmpfs t /tmp/a; mount --bind /tmp/a /vol; "
                                                                                    "touch /tmp/a/x; touch /tmp/ready; sleep 1000"])
    wait_for(lambda: sk("exec", name, "test", "-e", "/tmp/ready").status == 0)
    sk.ok("rm", "-f", name)
    assert os.listdir(world.path("vol")) == []


# A17: an image's volumes.

@pytest.mark.parametrize("volume", ["/../../../CANARY", "/", "/proc", "/proc/sys", "/sys", "/dev", "/dev/shm", "/link", "/link/sub", "relative", "", "//",
                                    "/.", "/a/../../..", "/proc/../proc", "/etc"])
def test_a17_volumes_of_an_image(world, canary, volume):
    name = volume.replace("/CANARY", canary.top)
    result = attempt(world, lambda tar: tar.symlink("link", canary.top), run_config={"Volumes": {name: {}}},
                     command=("sh", "-c", "ls -la /link/ %s/ /; cat /link/secret; cat /proc/1/comm; true" % canary.top))
    assert canary.token not in result.out
    if volume in ("/", "/proc", "/sys", "/dev", "/proc/sys"):
        assert result.status == 125 and volume in result.err, result


# A37: ids and names.

IDS = ["../../x", ".", "..", "", "-rf", "a/b", "x" * 300, "a\nb", "a b", ".hidden", "a\x1bb", "ä", "*", "$(id)", "a;b", "/etc"]


@pytest.mark.parametrize("verb", ["cp", "commit", "export", "mount"])
def test_a22_nothing_copies_into_or_out_of_a_container(sk, world, verb):
    """So no process of it can swap a path meanwhile."""
    name = sk.running()
    for program in (sk, world.oci):
        program.fails(verb, name + ":/etc/passwd", world.path("out"), match='there is no verb "%s"' % verb)


@pytest.mark.parametrize("ident", IDS)
def test_a37_names_of_containers(sk, canary, world, ident):
    before = sorted(os.listdir(world.base))
    sk.fails("run", "-d", "--name=" + ident, "busybox", "true", status=125)
    sk.fails("create", "--name=" + ident, "busybox", "true", status=125)
    for verb in ("start", "stop", "kill", "rm", "pause", "unpause", "restart", "logs", "wait", "inspect"):
        result = sk(verb, "--", ident)
        assert result.status > 0 and b"\x1b" not in result.raw_err, result
    assert sk("exec", "--", ident, "true").status > 0
    assert sk.ps() == [] and sorted(os.listdir(world.base)) == before


def test_a37_a_nul_byte_cannot_be_given(sk):
    """The kernel ends arguments at a NUL; what is left is an ordinary name."""
    assert sk("rm", "no-such").status > 0


@pytest.mark.parametrize("ident", IDS)
def test_a37_ids_of_skink_oci(oci, canary, world, ident):
    if ident in ("-rf", ".hidden"):
        pytest.skip("allowed by the set that orchestrators rely on")
    b = Bundle(world)
    for verb in (["create", "--bundle", b.dir], ["state"], ["start"], ["kill"], ["delete"]):
        result = oci(*verb, "--", ident)
        if result.status == 0:
            result = oci(*verb, ident)
        assert result.status > 0 and b"\x1b" not in result.raw_err, result


# A38: predictable names of temporary files.

def test_a38_nothing_is_written_to_shared_directories(sk, world):
    def listing():
        return {os.path.join(top, name) for top in ("/tmp", "/var/tmp", "/dev/shm") for name in os.listdir(top) if "skink" in name and "test" not in name}
    before = listing()
    name = sk.running()
    sk.ok("exec", name, "true")
    assert {p for p in listing() - before if world.base not in p and not p.startswith("/var/tmp/skink-test-")} == set()
    sk.ok("rm", "-f", name)


def test_a38_cidfile_and_pid_file_do_not_follow_links(sk, oci, canary, world):
    os.symlink(canary.top + "/file", world.path("cid"))
    result = sk("run", "-d", "--cidfile", world.path("cid"), "busybox", "sleep", "100")
    assert result.status in (0, 125)
    os.symlink(canary.top + "/file", world.path("pid"))
    oci("create", "--bundle", Bundle(world).dir, "--pid-file", world.path("pid"), world.name())
    os.symlink(canary.top + "/file", world.path("log"))
    oci.options += ["--log", world.path("log")]
    oci("create", "--bundle", Bundle(world, ["/none"]).dir, world.name())
    oci.options[:] = oci.options[:-2]


def test_a38_planted_links_in_the_run_directory_of_another_user(world):
    """A store or run directory that is not ours, or that others may write, is refused."""
    os.makedirs(world.store, mode=0o700)
    os.chown(world.store, 1000, 1000)
    result = world.skink("ps")
    assert result.status != 0 and "store" in result.err
    os.chown(world.store, 0, 0)
    os.chmod(world.store, 0o777)
    result = world.skink("ps")
    assert result.status != 0 or stat.S_IMODE(os.stat(world.store).st_mode) == 0o700
    os.chmod(world.store, 0o700)


# A50 to A52: mounts.

def test_a50_the_hosts_mounts_never_change(sk, world):
    """Also while containers with mounts come and go, on a host whose / is shared. What keeps the layers mounted is one
    line of the table, two on such a host (docs/decisions/erofs.md)."""
    os.makedirs(world.path("d"))
    propagation = read_text("/proc/self/mountinfo").splitlines()[0]
    before = [line for line in read_text("/proc/self/mountinfo").splitlines() if world.base in line]
    runs = [sk.start("run", "--rm", "-v", world.path("d") + ":/d", "--tmpfs", "/t", "busybox", "sleep", "0.5") for _ in range(30 if ALL else 12)]
    seen = set()
    while any(run.poll() is None for run in runs):
        seen.update(line for line in read_text("/proc/self/mountinfo").splitlines() if world.base in line and " %s/layers" % world.run_dir not in line)
        time.sleep(0.01)
    assert all(run.returncode == 0 for run in runs), [run.stderr.read() for run in runs if run.returncode]
    assert seen <= set(before), (propagation, seen)


def test_a50_propagation_out_of_a_container_is_off(sk, world):
    os.makedirs(world.path("d"))
    out = sk.ok("run", "--rm", "-v", world.path("d") + ":/d", "busybox", "cat", "/proc/self/mountinfo")
    assert "shared:" not in out


def test_a51_the_old_root_cannot_be_reached(sk, canary):
    for caps in ([], ["--cap-add", "SYS_CHROOT"], ["--cap-add", "ALL"]):
        out = sk.ok("run", "--rm", *caps, "busybox", "probe", "escape", canary.top + "/secret")
        assert "outside: ok" not in out, out
    points = [line.split()[4] for line in sk.ok("run", "--rm", "busybox", "cat", "/proc/self/mountinfo").splitlines()]
    assert points.count("/") == 1 and not any(p.startswith("/var/tmp") and p != "/var/tmp" for p in points)
    assert "ok" not in sk.shell("ls /.. >/dev/null; cat /../../..%s/secret 2>/dev/null && echo ok; true" % canary.top)


def test_a52_flags_of_binds_hold(sk, world):
    os.makedirs(world.path("top/sub"))
    os.makedirs(world.path("nosuid"))
    subprocess.run(["mount", "-t", "tmpfs", "skink-test-keep", world.path("top/sub")], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid,nodev,noexec", "skink-test-keep", world.path("nosuid")], check=True)
    try:
        out = sk.shell("touch /r/x 2>/dev/null || echo ro; touch /r/sub/x 2>/dev/null && echo sub-rw; "
                       "touch /rr/sub/y 2>/dev/null || echo sub-ro; grep ' /n ' /proc/self/mountinfo", "-v", world.path("top") + ":/r:ro", "-v",
                       world.path("top") + ":/rr:rro", "-v", world.path("nosuid") + ":/n")
        lines = out.splitlines()
        assert "ro" in lines and "sub-ro" in lines
        assert all(flag in lines[-1] for flag in ("nosuid", "nodev", "noexec")), "flags of the source were lost: " + out
    finally:
        for name in ("top/sub", "nosuid"):
            subprocess.run(["umount", "-l", world.path(name)], check=True)


@pytest.mark.parametrize("option,flag", [("ro", "ro"), ("noexec", "noexec"), ("nosuid", "nosuid"), ("nodev", "nodev"), ("noatime", "noatime")])
def test_a52_options_of_volumes_are_in_mountinfo(sk, world, option, flag):
    os.makedirs(world.path("d"))
    out = sk.shell("grep ' /d ' /proc/self/mountinfo", "-v", world.path("d") + ":/d:" + option)
    assert flag in out.split()[5].split(",")


# A96: a file that the supervisor writes on the host, below a volume.

def test_a96_a_container_leads_the_cri_log_elsewhere(world, sk, canary):
    volume, place = world.path("volume"), world.path("volume/sub/file")
    os.makedirs(os.path.dirname(place))
    name = sk.running("-v", volume + ":/v", "--log-opt", "cri=" + place, "--log-opt", "cri-max-size=4k", command=["sh", "-c", (
        "echo one; until [ -e /tmp/go ]; do sleep 0.05; done; mv /v/sub /v/old; ln -s %s /v/sub; seq 1 2000; sleep 1000") % canary.top])
    wait_for(lambda: read_text(place, "").endswith(" one\n"))
    sk.ok("exec", name, "touch", "/tmp/go")
    log = "%s/containers/%s/supervisor.log" % (world.run_dir, sk.inspect(name)["id"])
    wait_for(lambda: "a link" in read_text(log, ""))
    wait_for(lambda: sk.ok("logs", "--tail", "1", name) == "2000")
    # Whoever comes after the supervisor follows the link as little.
    kill_quietly(sk.inspect(name)["supervisor_pid"])
    wait_for(lambda: read_text(log, "").count("a link") == 2)
    canary.check()
    # A directory that is there again gets what waited.
    os.unlink(volume + "/sub")
    os.mkdir(volume + "/sub")
    wait_for(lambda: read_text(place, "").endswith(" 2000\n"))


@pytest.mark.parametrize("kind", ["link", "device", "pipe", "strangers", "two names"])
def test_a96_a_file_that_is_something_else_gets_no_log(world, sk, canary, kind):
    place = world.path("volume/x.log")
    os.mkdir(os.path.dirname(place))
    other = world.write("other", "other\n")
    {"link": lambda: os.symlink(canary.top + "/file", place), "device": lambda: os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 3)),
     "pipe": lambda: os.mkfifo(place), "strangers": lambda: world.write("volume/x.log", "") and os.chown(place, 1000, 0),
     "two names": lambda: os.link(other, place)}[kind]()
    name = sk.running("--log-opt", "cri=" + place, command=["sh", "-c", "echo one; sleep 1000"])
    log = "%s/containers/%s/supervisor.log" % (world.run_dir, sk.inspect(name)["id"])
    wait_for(lambda: "move it away" in read_text(log, ""))
    assert read_text(other) == "other\n"
    os.unlink(place)
    wait_for(lambda: read_text(place, "").endswith(" one\n"))


@pytest.mark.parametrize("spoil, words", [
    (lambda top: os.chown(top, 1000, 0), "owned by uid 1000"), (lambda top: os.chmod(top, 0o775), "chmod go-w"),
    (lambda top: (os.rename(top, top + "2"), os.symlink(top + "2", top)), "a link")])
@pytest.mark.parametrize("last", [True, False])
def test_a96_a_cri_log_where_others_can_write_is_refused(world, sk, spoil, words, last):
    top = world.path("cri")
    os.makedirs(top + "/sub")
    spoil(top)
    sk.fails("create", "--log-opt", "cri=%s/%sx.log" % (top, "" if last else "sub/"), "busybox", "true", match=words)
    os.makedirs(world.path("sticky"))
    os.chmod(world.path("sticky"), 0o1777)
    sk.ok("create", "--log-opt", "cri=" + world.path("sticky/x.log"), "busybox", "true")

# SPDX-License-Identifier: Apache-2.0
"""F22, F39 and F42: hosts that lack something. What is optional is done in another way or left out with a word; what is
not is an error that names it; no container is ever weaker than it was asked to be."""

import json
import os
import re

import pytest
from skinktest import busybox_image, has_erofs, read_text, support, wait_for

# How a container is seen from inside: what confines it, and what it sees.
LOOK = ["sh", "-c", "grep -E 'NoNewPrivs|Cap|Groups|Uid' /proc/self/status; cut -d' ' -f5,6 /proc/self/mountinfo | sort; "
                    "for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n | cut -d: -f1; done; ls /dev; id"]

# What a newer kernel has, as an older one answers to it.
NEWER = {
    "6.15: how a process ended, by its descriptor": ["ioctl:1&0xffff=0xff0b:ENOTTY"],
    "6.13: layers of an overlay by descriptor": ["fsconfig:1=5:EINVAL"],
    "6.11: a mount namespace by descriptor": ["ioctl:1=0xff03:ENOTTY"],
    "6.7: layers one by one": ["fsconfig:1=5:EINVAL", "fsconfig:2~lowerdir+:EINVAL"],
    "6.5: overlay by the new calls": ["fsconfig:1=5:EOPNOTSUPP", "fsconfig:2~lowerdir+:EINVAL"],
    "6.3: memory files that cannot be executed": ["memfd_create:1&0x8=0x8:EINVAL"],
    "6.3: memory files that can be executed": ["memfd_create:1&0x10=0x10:EINVAL"],
    "5.8: access by descriptor": ["faccessat2:ENOSYS"],
    "a filter older than access by descriptor": ["faccessat2:EPERM"],
    "a kernel without keys": ["keyctl:ENOSYS", "add_key:ENOSYS"],
}
# Without these there is no container.
NEEDED = ["openat2", "clone3", "mount_setattr", "open_tree", "move_mount", "fsopen", "fsmount", "memfd_create", "close_range", "capset",
          "pivot_root", "statx"]
READ_ONLY = ["unshare", "--mount", "--propagation", "private", "sh", "-c",
             "for p in $(awk '$5 ~ \"^/sys/fs/cgroup\" {print $5}' /proc/self/mountinfo); do mount -o remount,ro,bind $p || exit 77; done; exec \"$@\"", "sh"]


def lacking(*rules):
    return [support("lacking"), *rules, "--"]


def run(sk, *args, **more):
    return sk("run", "--rm", "--hostname", "h", "busybox", *(args or LOOK), **more)


def nothing_is_left(sk, world):
    assert sk.ok("ps", "-a", "-q") == ""
    assert world.leaks() == []


@pytest.mark.parametrize("what", NEWER, ids=[re.sub(r"[^a-z0-9.]+", "-", what) for what in NEWER])
def test_f22_an_older_kernel(oci, sk, bundle, world, what):
    before = lacking(*NEWER[what])
    b = bundle(LOOK)
    assert oci.ok("run", "--bundle", b.dir, world.name(), before=before) == oci.ok("run", "--bundle", b.dir, world.name())
    assert run(sk, before=before).out == run(sk).out != ""
    name = world.name()
    sk.ok("run", "--name", name, "-d", "--writable", "--restart", "always", "busybox", "sh", "-c", "touch /made; exec sleep 1000", before=before)
    wait_for(lambda: sk("exec", name, "ls", "/made", before=before).out == "/made\n")
    sk.ok("rm", "-f", name, before=before)
    nothing_is_left(sk, world)


# The facility that "skink info" lists, how it looks where the kernel has none, and what is done without it.
LISTED = [("erofs", "fsopen:0~erofs:ENODEV", "layers are stored as directories"),
          ("overlay_descriptors", "fsconfig:1=5:EINVAL", "overlay is given its layers by path"),
          ("overlay_layers", "fsconfig:2~lowerdir+:EINVAL", "images of very many layers cannot be run"),
          ("pidfd_info", "ioctl:1&0xffff=0xff0b:ENOTTY", "how a process ended is read from /proc"),
          ("pidfd_namespaces", "ioctl:1=0xff03:ENOTTY", "namespaces are opened by way of /proc"),
          ("memfd_noexec", "memfd_create:1&0x8=0x8:EINVAL", "files in memory are sealed against writing alone"),
          ("access_by_descriptor", "faccessat2:ENOSYS", "whether a program can be executed is told by its mode")]


@pytest.mark.parametrize("name, rule, without", LISTED, ids=[row[0] for row in LISTED])
def test_f22_what_the_kernel_lacks_is_listed(bare, name, rule, without):
    before = lacking(rule)
    here = json.loads(bare.ok("info", "--format", "json"))["facilities"]
    there = json.loads(bare.ok("info", "--format", "json", before=before))["facilities"]
    assert there[name] is False
    if here[name]:
        other = {"erofs": ["erofs_file"], "overlay_layers": ["overlay_descriptors"]}.get(name, [])
        assert there == {**here, name: False, **{one: False for one in other}}
    lines = bare.ok("info", before=before).split("\n")
    assert any(line.endswith(" %s: %s" % (name, without)) for line in lines)
    found = next(line for line in lines if line.startswith("facilities ")).split()[1:]
    assert found == [one for one, has in there.items() if has]


def test_f22_what_the_kernel_has_is_listed(bare):
    """By the release, where no filter is in the way."""
    release = tuple(int(number) for number in re.match(r"(\d+)\.(\d+)", os.uname().release).groups())
    has = json.loads(bare.ok("info", "--format", "json"))["facilities"]
    since = {"overlay_descriptors": (6, 13), "overlay_layers": (6, 7), "pidfd_info": (6, 13), "pidfd_namespaces": (6, 11), "memfd_noexec": (6, 3),
             "access_by_descriptor": (5, 8)}
    assert {name: has[name] for name in since} == {name: release >= first for name, first in since.items()}
    assert has["erofs"] == has_erofs() and (has["erofs"] or not has["erofs_file"])
    assert has["cgroup_kill"] == ("cgroup2" in read_text("/proc/mounts"))


def test_f22_no_layer_can_be_mounted(bare, world):
    """No EROFS: layers are directories, and doctor says so."""
    before = lacking("fsopen:0~erofs:ENODEV")
    bare.load(busybox_image(), before=before)
    assert [name for name in os.listdir(world.path("store/layers/sha256")) if name.endswith(".erofs")] == []
    assert run(bare, "echo", "ran", before=before).out == "ran\n"
    notes = [one for one in json.loads(bare("doctor", "--format", "json", before=before).out) if one["where"] == "erofs"]
    assert [(one["level"], "directories" in one["what"]) for one in notes] == [("note", True)]
    nothing_is_left(bare, world)


@pytest.mark.parametrize("driver, error", [("spool", "EINVAL"), ("spool", "EPERM"), ("spool", "ENOSYS"), ("none", "EPERM")])
def test_f22_output_without_splice(sk, world, driver, error):
    """It is read and written instead: all of it, and a program that is silent for a while keeps nobody waiting."""
    name = world.name()
    script = "seq 30000; echo first >&2; until [ -e /tmp/go ]; do sleep 0.1; done; seq 30000; touch /tmp/done; sleep 1000"
    sk.ok("run", "-d", "--log-driver", driver, "--tmpfs", "/tmp", "--name", name, "busybox", "sh", "-c", script, before=lacking("splice:" + error))
    sk.ok("exec", name, "touch", "/tmp/go")
    wait_for(lambda: sk("exec", name, "ls", "/tmp/done").status == 0, message="the program waits for somebody to take its output")
    if driver == "spool":
        lines = "".join("%d\n" % number for number in range(1, 30001))
        logs = wait_for(lambda: (lambda got: got if got.out.count("\n") == 60000 else None)(sk("logs", name)))
        assert logs.out == lines + lines and logs.err == "first\n"
    sk.ok("rm", "-f", name)
    nothing_is_left(sk, world)


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
@pytest.mark.parametrize("call", NEEDED)
def test_f39_a_call_is_not_there(oci, sk, bundle, world, call, error):
    """By the kernel, or by the filter of a container that we are in."""
    before = lacking(call + ":" + error)
    wanted = run(sk).out
    for result in (oci("run", "--bundle", bundle(LOOK).dir, world.name(), before=before), run(sk, before=before)):
        if call == "openat2" and result.status == 0:
            assert result.out == wanted  # nothing to look for in the layers of busybox
            continue
        assert result.status in (1, 125, 126) and result.out == "" and result.err.count("\n") == 1, result
        assert ("Linux 5.14 or newer" in result.err) == (error == "ENOSYS"), result
    nothing_is_left(sk, world)


@pytest.mark.parametrize("options", [(), ("-d",)])
@pytest.mark.parametrize("call", ["pidfd_open", "execveat"])
def test_f39_no_supervisor_can_live(sk, world, call, options):
    """One that fails at once is not started anew in a circle, and the command says what its trouble is."""
    result = sk("run", *options, "--name", world.name(), "busybox", "true", before=lacking(call + ":EPERM"), timeout=30)
    assert result.status == 125 and "fail as soon as they start" in result.err, result
    assert "pidfd_open" in result.err if call == "pidfd_open" else "cannot be executed" in result.err
    nothing_is_left(sk, world)


def without(capability):
    return ["setpriv", "--bounding-set=-" + capability, "--inh-caps=-" + capability, "--"]


@pytest.mark.parametrize("capability", ["sys_admin", "net_admin", "setpcap"])
def test_f39_a_capability_is_missing(oci, sk, bundle, world, capability):
    before = without(capability)
    for result in (oci("run", "--bundle", bundle(LOOK).dir, world.name(), before=before), run(sk, before=before)):
        assert result.status in (1, 125) and result.out == "" and result.err.count("\n") == 1, result
        assert "this process has not CAP_" + capability.upper() in result.err or "without root" in result.err, result
    nothing_is_left(sk, world)


def notes(sk, **more):
    """What doctor says of the kernel: {where: (level, what, advice)}."""
    said = json.loads(sk("doctor", "--format", "json", **more).out)
    return {one["where"]: (one["level"], one["what"], one["advice"]) for one in said if one["kind"] == "kernel"}


@pytest.mark.parametrize("capability", ["sys_admin", "net_admin", "setpcap", "setgid", "sys_chroot", "mknod"])
def test_f39_doctor_tells_of_a_capability_without_which_nothing_runs(sk, world, capability):
    before = without(capability)
    assert run(sk, before=before).status == 125
    level, what, advice = notes(sk, before=before)["CAP_" + capability.upper()]
    assert level == "problem" and "has not this capability of root, and no" in what and advice.startswith("give it to")
    assert sk("doctor", before=before).status == 1 and "CAP_" + capability.upper() not in notes(sk)
    nothing_is_left(sk, world)


def test_f39_the_keepers_cannot_be_kept_from_the_oom_killer(sk, world):
    """Without CAP_SYS_RESOURCE containers run all the same; doctor tells."""
    before = ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource", "--"]
    assert run(sk, "echo", "ran", before=before).out == "ran\n"
    level, what, advice = notes(sk, before=before)["CAP_SYS_RESOURCE"]
    assert level == "note" and "when memory runs out" in what and "give it to" in advice
    has = int(re.search(r"CapEff:\t(\w+)", read_text("/proc/self/status")).group(1), 16) >> 24 & 1
    assert ("CAP_SYS_RESOURCE" in notes(sk)) == (not has)
    assert sk("doctor", before=before).status == sk("doctor").status
    nothing_is_left(sk, world)


def test_f39_programs_in_memory_are_forbidden(oci, sk, bundle, world):
    """vm.memfd_noexec = 2, which each PID namespace has of its own."""
    before = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", "echo 2 2>/dev/null >/proc/sys/vm/memfd_noexec || exit 77; exec \"$@\"", "sh"]
    results = [oci("run", "--bundle", bundle(LOOK).dir, world.name(), before=before), run(sk, before=before)]
    if results[0].status == 77:
        pytest.skip("Linux before 6.3 has no such setting")
    for result in results:
        assert result.status in (1, 125) and result.out == "" and result.err.count("\n") == 1, result
        assert "Permission denied: vm.memfd_noexec is 2, which refuses every program in memory; sysctl vm.memfd_noexec=1" in result.err, result
    level, what, advice = notes(sk, before=before)["vm.memfd_noexec"]
    assert level == "problem" and "no container can be started" in what and advice == "sysctl vm.memfd_noexec=1"
    assert "vm.memfd_noexec" not in notes(sk)
    nothing_is_left(sk, world)


def test_f39_read_only_groups(sk, world):
    result = run(sk, before=READ_ONLY)
    if result.status == 77:
        pytest.skip("cannot make it read-only")
    assert result.status == 125 and "Read-only file system" in result.err and "/sys/fs/cgroup" in result.err, result
    told = [(level, what) for where, (level, what, _) in notes(sk, before=READ_ONLY).items() if where.startswith("/sys/fs/cgroup")]
    assert told == [("problem", "it is mounted read-only, and no container can be started")]
    assert not any(where.startswith("/sys/fs/cgroup") for where in notes(sk))
    nothing_is_left(sk, world)


# As an unprivileged container of LXC: every id is mapped, and no privilege is worth anything outside. Who maps is outside.
IN_USER_NAMESPACE = ["/usr/bin/python3", "-c", """
import ctypes, os, sys
ready, start = os.pipe()
child = os.fork()
if child == 0:
    os.read(ready, 1)
    for kind in ("uid", "gid"):
        with open("/proc/%d/%s_map" % (os.getppid(), kind), "w") as file:
            file.write("0 0 4294967294")
    os._exit(0)
assert ctypes.CDLL(None).unshare(0x10000000) == 0  # CLONE_NEWUSER
os.write(start, b"x")
assert os.waitpid(child, 0)[1] == 0
os.execvp(sys.argv[1], sys.argv[1:])
""", "unshare", "--mount", "--cgroup", "--propagation", "private", "sh", "-ec",
                     'umount -R /sys/fs/cgroup || true; mount -t cgroup2 none /sys/fs/cgroup; exec "$@"', "sh"]


@pytest.mark.without_systemd("a user namespace with cgroup v2 and nobody who keeps its groups")
def test_f39_in_a_user_namespace(bare, world):
    """There the kernel takes no device rules, and lets nobody make a node: containers live as elsewhere."""
    before = IN_USER_NAMESPACE
    options = ["--pids-limit", "-1"]
    bare.load(busybox_image(), before=before)
    assert bare.ok("run", "--rm", *options, "busybox", "echo", "ran", before=before) == "ran"
    denied = bare("run", "--rm", *options, "--cap-add", "MKNOD", "busybox", "mknod", "/dev/shm/disk", "b", "8", "0", before=before)
    assert denied.status == 1 and "not permitted" in denied.err
    name = world.name()
    bare.ok("run", "-d", "--name", name, "--writable", "--restart", "always", *options, "busybox", "sh", "-c", "touch /made; exec sleep 1000",
            before=before)
    wait_for(lambda: bare("exec", name, "ls", "/made", before=before).out == "/made\n")
    assert bare.ok("restart", "-t", "0", name, before=before) == name
    level, what, _ = notes(bare, before=before)["CAP_SYS_RESOURCE"]
    assert level == "note" and "outside its user namespace" in what
    bare.ok("rm", "-f", name, before=before)
    nothing_is_left(bare, world)


@pytest.mark.parametrize("error", ["ENODEV", "EPERM"])
def test_f42_no_overlay(sk, world, error):
    """No module, or a user namespace that may not mount it: never another kind of root in its place."""
    result = run(sk, before=lacking("fsopen:0~overlay:" + error))
    assert result.status == 125 and "overlay" in result.err and result.err.count("\n") == 1, result
    nothing_is_left(sk, world)


def test_f42_a_store_on_an_overlay(sk, world):
    """As in a container: overlay takes no upper layer from an overlay."""
    top = world.path("top")
    os.mkdir(top)
    script = ("mount -t tmpfs t {top} && mkdir -m 700 {top}/up {top}/work && mount -t overlay -o lowerdir={store},upperdir={top}/up,workdir={top}/work o {store} "
              "&& exec \"$@\"").format(top=top, store=sk.world.store)
    before = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    assert run(sk, "echo", "ran", before=before).out == "ran\n"
    result = sk("run", "--rm", "--writable", "busybox", "touch", "/made", before=before)
    assert result.status == 0 or (result.status == 125 and "overlay" in result.err and result.err.count("\n") == 1), result
    nothing_is_left(sk, world)

# SPDX-License-Identifier: Apache-2.0
"""skink-oci: what a container in a user namespace gets of the host's mounts are copies of the kernel's own, whose flags root in
there cannot take off; and device nodes that the host has not."""

import os
import stat
import subprocess

import pytest
from skinktest import wait_for

IDS = [{"containerID": 0, "hostID": 100000, "size": 65536}]
FLAGS = ("ro", "nosuid", "nodev", "noexec")
# Words of mount(8) in busybox that take a flag off, every other one staying as it is.
OFF = {"ro": "rw", "nosuid": "suid", "nodev": "dev", "noexec": "exec"}


@pytest.fixture
def source(world):
    """A mount of the host with a mount below it: source(flags, flags below)."""
    place, mounted = world.path("source"), []

    def make(flags, below):
        for path, words in ((place, flags), (place + "/sub", below)):
            os.makedirs(path)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "skink-test-keep", path], check=True)
            mounted.append(path)
            os.makedirs(path + "/dir")
            with open(path + "/file", "w") as file:
                file.write(path)
        os.makedirs(place + "/sub", exist_ok=True)
        for path, words in ((place, flags), (place + "/sub", below)):
            subprocess.run(["mount", "-o", "remount,bind," + words, path], check=True)
        return place
    yield make
    for path in reversed(mounted):
        subprocess.run(["umount", "-l", path], check=True)


@pytest.fixture
def confined(bundle, world):
    """A bundle whose container is in a user namespace with every capability in there."""
    os.chmod(world.base, 0o755)

    def make(args, mounts=()):
        b = bundle(args)
        b.config["root"]["readonly"] = False
        for kind in ("bounding", "effective", "permitted"):
            b.config["process"]["capabilities"][kind] = ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_CHOWN", "CAP_FOWNER"]
        b.config["linux"]["namespaces"].append({"type": "user"})
        b.config["linux"]["uidMappings"] = b.config["linux"]["gidMappings"] = IDS
        b.config["mounts"] += list(mounts)
        subprocess.run(["chown", "-R", "-h", "100000:100000", b.rootfs], check=True)
        return b.save()
    return make


def attack(path, flags):
    """A script that tries to take each of the flags off what is mounted at the path, there and through a bind of it, and
    tells what is left."""
    target = "/mnt" if path == "/" or not path.endswith("file") else "/mnt-file"
    words = ",".join(OFF[flag] for flag in flags)
    tries = ["mount -o remount,bind,%s %s 2>/dev/null && echo TAKEN %s" % (OFF[flag], path, flag) for flag in flags]
    return "; ".join(tries + ["mount -o rbind %s %s || echo NO BIND" % (path, target),
                              "mount -o remount,bind,%s %s 2>/dev/null && echo TAKEN by a bind" % (words, target),
                              "busybox umount -l %s" % target, "grep ' %s ' /proc/self/mounts" % path])


def flags_of(out, path):
    line = [line for line in out.splitlines() if " %s " % path in line][-1]
    return set(line.split()[3].split(",")) & set(FLAGS)


def run_attacks(oci, world, b, expected):
    """Every flag in `expected` (a set for each path) is there, and stays."""
    os.makedirs(b.rootfs + "/mnt", exist_ok=True)
    open(b.rootfs + "/mnt-file", "w").close()
    for name in ("/mnt", "/mnt-file"):
        os.chown(b.rootfs + name, 100000, 100000)
    b.config["process"]["args"] = ["sh", "-c", "; ".join(attack(*item) for item in expected.items()) + "; true"]
    b.save()
    out = oci.ok("run", "--bundle", b.dir, world.name())
    assert "TAKEN" not in out and "NO BIND" not in out, out
    for path, flags in expected.items():
        assert flags_of(out, path) == flags, out


@pytest.mark.vm
@pytest.mark.vm_more
def test_flags_of_the_host_cannot_be_taken_off(oci, world, confined, source):
    place = source("ro,nosuid,nodev,noexec", "ro,nosuid")
    b = confined([], [{"destination": "/m", "type": "bind", "source": place, "options": ["rbind"]},
                      {"destination": "/file", "type": "bind", "source": place + "/sub/file", "options": ["bind"]}])
    run_attacks(oci, world, b, {"/m": set(FLAGS), "/m/sub": {"ro", "nosuid"}, "/file": {"ro", "nosuid"}})


def test_flags_of_the_configuration_cannot_be_taken_off(oci, world, confined, source):
    place = source("rw", "rw")
    b = confined([], [{"destination": "/m", "type": "bind", "source": place, "options": ["rbind", "ro", "nosuid"]},
                      {"destination": "/r", "type": "bind", "source": place, "options": ["rbind", "rro", "rnodev"]}])
    run_attacks(oci, world, b, {"/m": {"ro", "nosuid"}, "/r": {"ro", "nodev"}, "/r/sub": {"ro", "nodev"}})


def test_what_is_mounted_below_cannot_be_taken_off(oci, world, confined, source):
    """With rbind: what the host has covered stays covered."""
    place = source("rw", "rw")
    b = confined(["sh", "-c", "busybox umount /m/sub 2>/dev/null && echo UNCOVERED; cat /m/sub/file"],
                 [{"destination": "/m", "type": "bind", "source": place, "options": ["rbind", "rw"]}])
    assert oci.ok("run", "--bundle", b.dir, world.name()) == place + "/sub"


def test_a_joined_user_namespace_is_no_way_round(oci, world, confined, source):
    place = source("ro,nosuid", "rw")
    first = confined(["sleep", "1000"])
    name = world.name()
    oci.ok("run", "--detach", "--bundle", first.dir, name)
    pid = oci.ok("ps", "--format", "json", name).strip("[] \n").split(",")[0]
    b = confined([], [{"destination": "/m", "type": "bind", "source": place, "options": ["bind"]}])
    for kind in ("uidMappings", "gidMappings"):
        del b.config["linux"][kind]
    space = [n for n in b.config["linux"]["namespaces"] if n["type"] == "user"][0]
    space["path"] = "/proc/%s/ns/user" % pid
    b.config["linux"]["devices"] = [{"path": "/dev/skink-none", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7, "gid": 8}]
    run_attacks(oci, world, b, {"/m": {"ro", "nosuid"}})
    b.config["process"]["args"] = ["stat", "-c", "%u:%g %a %t:%T", "/dev/skink-none"]
    b.save()
    assert oci.ok("run", "--bundle", b.dir, world.name()) == "7:8 640 1:3"
    oci.ok("delete", "--force", name)


@pytest.mark.parametrize("option, seen", [("rprivate", set()), ("rslave", {"master"}), ("rshared", {"shared", "master"}), ("runbindable", {"unbindable"})])
def test_propagation_is_that_of_its_word(oci, world, confined, option, seen):
    place = world.path("shared")
    os.makedirs(place)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "skink-test-keep", place], check=True)
    try:
        subprocess.run(["mount", "--make-shared", place], check=True)
        os.makedirs(place + "/late")
        b = confined(["sh", "-c", "grep ' /m ' /proc/self/mountinfo; echo here > /m/here; sleep 1000"],
                     [{"destination": "/m", "type": "bind", "source": place, "options": ["rbind", option]}])
        os.chmod(place, 0o777)
        name, log = world.name(), world.path("log")
        with open(log, "w") as file:
            subprocess.run(oci.command("run", "--detach", "--bundle", b.dir, name), stdin=subprocess.DEVNULL, stdout=file, check=True)
        wait_for(lambda: os.path.exists(place + "/here"))
        fields = open(log).read().split(" - ")[0].split()[6:]
        assert {field.split(":")[0] for field in fields} == seen
        subprocess.run(["mount", "-t", "tmpfs", "skink-test-keep", place + "/late"], check=True)
        pid = oci.ok("ps", "--format", "json", name).strip("[] \n").split(",")[0]
        there = " /m/late " in open("/proc/%s/mountinfo" % pid).read()
        subprocess.run(["umount", place + "/late"], check=True)
        assert there == ("master" in seen)
        oci.ok("delete", "--force", name)
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_the_root_keeps_the_flags_of_its_mount(oci, world, confined):
    b = confined([])
    subprocess.run(["mount", "--bind", b.rootfs, b.rootfs], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,nosuid,nodev", b.rootfs], check=True)
        run_attacks(oci, world, b, {"/": {"nosuid", "nodev"}})
    finally:
        subprocess.run(["umount", "-l", b.rootfs], check=True)


@pytest.mark.vm
@pytest.mark.vm_more
def test_a_node_that_the_host_has_not_is_made(oci, world, confined):
    """Also where the host has another device of that name; owner and mode are those of the configuration."""
    taken = world.path("taken")
    os.mknod(taken, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    b = confined(["sh", "-c", "stat -c '%n %u:%g %a %t:%T' $PATHS; for p in $PATHS; do head -c 3 $p | wc -c; done"])
    b.config["linux"]["devices"] = [
        {"path": "/dev/skink-none", "type": "c", "major": 1, "minor": 7, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": taken, "type": "c", "major": 1, "minor": 7}]
    b.config["linux"]["resources"] = {"devices": [{"allow": True, "access": "rwm"}]}
    b.config["process"]["env"].append("PATHS=/dev/skink-none %s" % taken)
    b.save()
    assert oci.ok("run", "--bundle", b.dir, world.name()).splitlines() == [
        "/dev/skink-none 7:8 640 1:7", "%s 0:0 666 1:7" % taken, "3", "3"]
    assert os.stat(taken).st_rdev == os.makedev(1, 5) and not os.path.exists("/dev/skink-none")


def test_an_owner_that_is_not_mapped_is_named(oci, world, confined):
    b = confined(["true"])
    b.config["linux"]["devices"] = [{"path": "/dev/skink-none", "type": "c", "major": 1, "minor": 7, "uid": 70000}]
    b.save()
    oci.fails("create", "--bundle", b.dir, world.name(), match=["/dev/skink-none", "70000", "not mapped"])
    assert world.leaks(3) == []

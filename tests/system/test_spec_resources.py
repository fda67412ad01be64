# SPDX-License-Identifier: Apache-2.0
"""linux.cgroupsPath, linux.resources and linux.devices of config.json (runtime-spec 1.3, config-linux.md), as the kernel
shows them: on the hierarchies of this host, and on cgroup v2 alone in a mount namespace that shows nothing else. What
this host has no controller for is in tests/unit/cgroup/limits_test.cc."""

import json
import os
import re
import stat

import pytest
from skinktest import cgroup_dir, cgroup_value, read_text, unified_top, v2_alone, wait_for

from test_oci import state
from test_spec_process import SLEEP, output, real_time_left, refused, started

pytestmark = pytest.mark.vm

MIB = 1 << 20


def limited(oci, world, bundle, **resources):
    b = bundle(SLEEP)
    b.config["linux"]["resources"] = resources
    return started(oci, world, b)


def refuses(oci, world, bundle, resources, *words):
    b = bundle()
    b.config["linux"]["resources"] = resources
    refused(oci, world, b, *words)


# memory

def test_memory(oci, bundle, world):
    pid = limited(oci, world, bundle, memory={"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB})
    assert cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    assert cgroup_value(pid, "memory", "memory.soft_limit_in_bytes", "memory.low") == str(32 * MIB)
    if cgroup_dir(pid, "memory")[1] == 1:
        assert cgroup_value(pid, "memory", "memory.memsw.limit_in_bytes", "") == str(96 * MIB)
    else:
        assert cgroup_value(pid, "memory", "", "memory.swap.max") == str(32 * MIB)


def test_memory_without_limits(oci, bundle, world):
    pid = limited(oci, world, bundle, memory={"limit": -1, "swap": -1, "reservation": -1, "kernel": -1, "kernelTCP": -1})
    assert cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max") in ("9223372036854771712", "max")


def test_memory_fields_of_v1(oci, bundle, world):
    if not os.path.exists("/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        refuses(oci, world, bundle, {"memory": {"swappiness": 7}}, r"linux\.resources\.memory\.swappiness")
        return
    pid = limited(oci, world, bundle, memory={"limit": 64 * MIB, "swappiness": 7, "disableOOMKiller": True, "kernelTCP": 8 * MIB,
                                              "kernel": 64 * MIB, "useHierarchy": True})
    assert cgroup_value(pid, "memory", "memory.swappiness", "") == "7"
    assert "oom_kill_disable 1" in cgroup_value(pid, "memory", "memory.oom_control", "")
    assert cgroup_value(pid, "memory", "memory.kmem.tcp.limit_in_bytes", "") == str(8 * MIB)
    assert cgroup_value(pid, "memory", "memory.use_hierarchy", "") == "1"


@pytest.mark.parametrize("memory, words", [
    ({"limit": "lots"}, "limit"), ({"limit": -2}, "limit"), ({"limit": 1.5}, "limit"), ({"limit": 2**63}, "limit"),
    ({"swappiness": 101}, "swappiness"), ({"swappiness": -1}, "swappiness"), ({"disableOOMKiller": 1}, "disableOOMKiller"),
    ({"useHierarchy": "yes"}, "useHierarchy"), ({"checkBeforeUpdate": 0}, "checkBeforeUpdate"),
    ({"limit": 64 * MIB, "swap": 32 * MIB}, "swap")])
def test_memory_that_makes_no_sense(oci, bundle, world, memory, words):
    refuses(oci, world, bundle, {"memory": memory}, r"linux\.resources\.memory\." + words)


# cpu

def test_cpu(oci, bundle, world):
    pid = limited(oci, world, bundle, cpu={"shares": 512, "quota": 50000, "period": 200000, "burst": 10000, "cpus": "0", "mems": "0"})
    if cgroup_dir(pid, "cpu")[1] == 1:
        for file, value in (("cpu.shares", "512"), ("cpu.cfs_quota_us", "50000"), ("cpu.cfs_period_us", "200000"), ("cpu.cfs_burst_us", "10000")):
            assert cgroup_value(pid, "cpu", file, "") == value
    else:
        assert cgroup_value(pid, "cpu", "", "cpu.max") == "50000 200000" and cgroup_value(pid, "cpu", "", "cpu.max.burst") == "10000"
    assert cgroup_value(pid, "cpuset", "cpuset.cpus", "cpuset.cpus") == "0" and os.sched_getaffinity(pid) == {0}
    assert cgroup_value(pid, "cpuset", "cpuset.mems", "cpuset.mems") == "0"


def test_cpu_idle(oci, bundle, world):
    assert cgroup_value(limited(oci, world, bundle, cpu={"idle": 1}), "cpu", "cpu.idle", "cpu.idle") == "1"
    assert cgroup_value(limited(oci, world, bundle, cpu={"idle": 0, "shares": 300}), "cpu", "cpu.idle", "cpu.idle") == "0"


def test_cpu_real_time(oci, bundle, world):
    if not os.path.exists("/sys/fs/cgroup/cpu/cpu.rt_runtime_us"):
        pytest.skip("no real-time groups in this kernel")
    if not real_time_left():
        pytest.skip("another group of this host has its real time")
    b = bundle(SLEEP)
    b.config["linux"]["cgroupsPath"] = "/skink-test-" + world.id
    b.config["linux"]["resources"] = {"cpu": {"realtimePeriod": 500000, "realtimeRuntime": 2000}}
    pid = started(oci, world, b)
    assert cgroup_value(pid, "cpu", "cpu.rt_period_us", "") == "500000"
    assert cgroup_value(pid, "cpu", "cpu.rt_runtime_us", "") == "2000"


@pytest.mark.parametrize("cpu, words", [
    ({"shares": -1}, "shares"), ({"quota": -2}, "quota"), ({"quota": "x"}, "quota"), ({"period": -1}, "period"),
    ({"burst": 2000, "quota": 1000}, "burst"), ({"idle": 2}, "idle"), ({"cpus": "0-"}, "cpus"), ({"cpus": "4096"}, "cpus"),
    ({"mems": "a"}, "mems"), ({"mems": "63"}, "mems"), ({"realtimeRuntime": -2}, "realtimeRuntime"), ({"period": 5, "quota": 5}, "cpu")])
def test_cpu_that_makes_no_sense(oci, bundle, world, cpu, words):
    refuses(oci, world, bundle, {"cpu": cpu}, r"linux\.resources\.cpu", words)


def test_the_least_cpu_shares(oci, bundle, world):
    """v1 starts at 2; where they become a weight, 1 is the least one."""
    if v2_alone():
        assert cgroup_value(limited(oci, world, bundle, cpu={"shares": 1}), "cpu", "", "cpu.weight") == "1"
    else:
        refuses(oci, world, bundle, {"cpu": {"shares": 1}}, r"linux\.resources\.cpu", "shares")


# pids

@pytest.mark.parametrize("limit, version, shown", [(77, "1.0.2", "77"), (-1, "1.0.2", "max"), (0, "1.0.2-dev", "max"), (0, "1.2.1", "max"),
                                                   (0, "1.3.0", "1"), (-1, "1.3.0", "max")])
def test_pids(oci, bundle, world, limit, version, shown):
    b = bundle(SLEEP)
    b.config["ociVersion"] = version
    b.config["linux"]["resources"] = {"pids": {"limit": limit}}
    assert cgroup_value(started(oci, world, b), "pids", "pids.max", "pids.max") == shown


# blockIO

def disk():
    """A whole disk of this host, for throttling."""
    for name in sorted(os.listdir("/sys/block")):
        if not name.startswith(("loop", "zram", "ram", "dm-")):
            return [int(number) for number in read_text("/sys/block/%s/dev" % name).split(":")]
    pytest.skip("no disk")


def test_block_io(oci, bundle, world):
    major, minor = disk()
    at = {"major": major, "minor": minor}
    pid = limited(oci, world, bundle, blockIO={
        "throttleReadBpsDevice": [dict(at, rate=1000001)], "throttleWriteBpsDevice": [dict(at, rate=1000002)],
        "throttleReadIOPSDevice": [dict(at, rate=103)], "throttleWriteIOPSDevice": [dict(at, rate=104)]})
    if not v2_alone():
        for file, rate in (("read_bps", 1000001), ("write_bps", 1000002), ("read_iops", 103), ("write_iops", 104)):
            assert cgroup_value(pid, "blkio", "blkio.throttle.%s_device" % file, "") == "%d:%d %d" % (major, minor, rate)
    else:
        assert cgroup_value(pid, "io", "", "io.max") == "%d:%d rbps=1000001 wbps=1000002 riops=103 wiops=104" % (major, minor)


def test_block_io_weight(oci, bundle, world):
    """On v2 from 1 to 10000 where BFQ is not."""
    pid = limited(oci, world, bundle, blockIO={"weight": 321})
    directory, version = cgroup_dir(pid, "io" if v2_alone() else "blkio")
    if os.path.exists(directory + "/io.bfq.weight"):
        assert read_text(directory + "/io.bfq.weight").strip() == "default 321"
    elif version == 2:
        assert read_text(directory + "/io.weight").strip() == "default 3142"
    else:
        file = "blkio.bfq.weight" if os.path.exists(directory + "/blkio.bfq.weight") else "blkio.weight"
        assert "321" in read_text(directory + "/" + file)


@pytest.mark.parametrize("block_io, words", [
    ({"weight": 5}, "weight"), ({"weight": 1001}, "weight"), ({"weight": 70000}, "weight"), ({"weight": -1}, "weight"),
    ({"weightDevice": [{"major": 8, "minor": 0}]}, r"weightDevice\[0\]"), ({"weightDevice": [{"major": 8, "weight": 10}]}, r"weightDevice\[0\]\.minor"),
    ({"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": -1}]}, r"throttleReadBpsDevice\[0\]\.rate"),
    ({"throttleWriteIOPSDevice": [{"major": 4096, "minor": 0, "rate": 1}]}, r"throttleWriteIOPSDevice\[0\]"),
    ({"throttleReadIOPSDevice": [{"major": 4000, "minor": 1, "rate": 1}]}, r"throttleReadIOPSDevice\[0\]"),
    ({"throttleWriteBpsDevice": {}}, "throttleWriteBpsDevice")])
def test_block_io_that_makes_no_sense(oci, bundle, world, block_io, words):
    refuses(oci, world, bundle, {"blockIO": block_io}, r"linux\.resources\.blockIO\." + words)


# hugepageLimits: the controller is on the unified hierarchy of a hybrid host.

@pytest.mark.parametrize("size", ["2MB", "1GB"])
def test_hugepage_limits(oci, bundle, world, size):
    if "hugetlb" not in os.listdir("/sys/fs/cgroup"):
        unified_top()
    pid = limited(oci, world, bundle, hugepageLimits=[{"pageSize": size, "limit": 4 << 30}])
    for file in ("hugetlb.%s.%s", "hugetlb.%s.rsvd.%s"):
        assert cgroup_value(pid, "hugetlb", file % (size, "limit_in_bytes"), file % (size, "max")) == str(4 << 30)


@pytest.mark.vm_more
@pytest.mark.parametrize("size", ["3MB", "2048KB", "2mb", "2 MB", "../2MB", "", "-2MB", "MB"])
def test_hugepage_sizes_that_are_none(oci, bundle, world, size):
    refuses(oci, world, bundle, {"hugepageLimits": [{"pageSize": size, "limit": 1}]}, r"linux\.resources\.hugepageLimits\[0\]")


# network, rdma: without the controllers on this host, the error says so.

def test_network_and_rdma_say_what_the_host_lacks(oci, bundle, world):
    controllers = read_text("/proc/self/cgroup")
    if "net_cls" not in controllers:
        refuses(oci, world, bundle, {"network": {"classID": 1048577}}, r"linux\.resources\.network\.classID", "no net_cls controller|only cgroup v1")
    if "net_prio" not in controllers:
        refuses(oci, world, bundle, {"network": {"priorities": [{"name": "lo", "priority": 5}]}},
                r"linux\.resources\.network\.priorities\[0\]", "no net_prio controller|only cgroup v1")
    if "rdma" not in controllers and "rdma" not in read_text("/sys/fs/cgroup/cgroup.controllers", ""):
        refuses(oci, world, bundle, {"rdma": {"mlx5_1": {"hcaHandles": 3}}}, r"linux\.resources\.rdma\[.mlx5_1.\]", "no rdma controller")


@pytest.mark.vm_more
@pytest.mark.parametrize("resources, words", [
    ({"network": {"classID": -1}}, r"network\.classID"), ({"network": {"classID": 2**32}}, r"network\.classID"),
    ({"network": {"priorities": [{"name": "a/b", "priority": 1}]}}, r"network\.priorities\[0\]\.name"),
    ({"network": {"priorities": [{"name": "lo"}]}}, r"network\.priorities\[0\]\.priority"),
    ({"rdma": {"../x": {"hcaHandles": 1}}}, "rdma"), ({"rdma": {"mlx5_1": {}}}, "rdma"), ({"rdma": {"mlx5_1": {"hcaObjects": -1}}}, "rdma"),
    ({"pids": {"limit": -2}}, r"pids\.limit"), ({"pids": {"limit": "many"}}, r"pids\.limit"), ({"pids": 5}, "pids")])
def test_other_resources_that_make_no_sense(oci, bundle, world, resources, words):
    refuses(oci, world, bundle, resources, r"linux\.resources\." + words)


# unified

def test_unified(oci, bundle, world):
    top = unified_top()
    pid = limited(oci, world, bundle, unified={"hugetlb.2MB.max": str(8 * MIB), "cgroup.max.depth": "7"})
    place = [line.split(":", 2)[2] for line in read_text("/proc/%d/cgroup" % pid).splitlines() if line.startswith("0::")][0]
    assert read_text(top + place + "/hugetlb.2MB.max").strip() == str(8 * MIB)
    assert read_text(top + place + "/cgroup.max.depth").strip() == "7"


@pytest.mark.parametrize("unified", [{"nosuch.max": "1"}, {"../hugetlb.2MB.max": "1"}, {"cgroup.procs": "1"}, {"hugetlb.2MB.max": "lots"},
                                     {"hugetlb.nosuch": "1"}, {"plain": "1"}, {"hugetlb.2MB.max": 5}])
def test_unified_that_makes_no_sense(oci, bundle, world, unified):
    refuses(oci, world, bundle, {"unified": unified}, r"linux\.resources\.unified")


# What these two do, where there is v2 alone: the kernel's own behaviour, without which a value in a file is worth nothing.

@pytest.mark.vm_only  # v1 has no memory.high
@pytest.mark.parametrize("high", [str(12 * MIB), "max"])
def test_memory_high_takes_back_what_is_more(oci, bundle, world, high):
    data = world.path("data")
    os.mkdir(data)
    b = bundle(["sh", "-c", "dd if=/dev/zero of=/data/file bs=1M count=40 2>/dev/null; busybox sync; echo >/data/done; exec sleep 1000"])
    b.config["mounts"].append({"destination": "/data", "type": "bind", "source": data, "options": ["rbind", "rw"]})
    b.config["linux"]["resources"] = {"unified": {"memory.high": high}}
    pid = started(oci, world, b)
    wait_for(lambda: os.path.exists(data + "/done"), timeout=120)
    events = dict(line.split() for line in cgroup_value(pid, "memory", "", "memory.events").splitlines())
    held = int(cgroup_value(pid, "memory", "", "memory.current"))
    assert (int(events["high"]) > 0) == (high != "max") and (held < 20 * MIB) == (high != "max"), (held, events)


@pytest.mark.vm_only  # v1 has no memory.oom.group
@pytest.mark.parametrize("whole", ["1", "0"])
def test_memory_oom_group_ends_all_of_them(oci, bundle, world, whole):
    b = bundle(["sh", "-c", "busybox tail /dev/zero; echo the rest lives"])
    b.config["linux"]["resources"] = {"memory": {"limit": 24 * MIB, "swap": 24 * MIB}, "unified": {"memory.oom.group": whole}}
    result = oci("run", "--bundle", b.save().dir, world.name())
    assert (result.status, result.out) == ((137, "") if whole == "1" else (0, "the rest lives\n")), result


# devices of resources: what the kernel lets the container do

TRY = "for d in %s; do dd if=$d of=/dev/null bs=1 count=1 2>/dev/null && echo $d r; dd if=/dev/null of=$d 2>/dev/null && echo $d w; done; " \
      "rm -f /tmp/n; mknod /tmp/n c 10 229 2>/dev/null && echo fuse m; mknod /tmp/b b 7 77 2>/dev/null && echo loop m; true"


def allowed(oci, world, bundle, rules, before=()):
    b = bundle(["sh", "-c", "PATH=/bin; rm() { busybox rm \"$@\"; }; mknod() { busybox mknod \"$@\"; }; " +
                TRY % "/dev/null /dev/zero /dev/kmsg /dev/probe-b"])
    b.config["process"]["capabilities"]["bounding"] += ["CAP_SYSLOG"]
    b.config["process"]["capabilities"]["effective"] += ["CAP_SYSLOG"]
    b.config["process"]["capabilities"]["permitted"] += ["CAP_SYSLOG"]
    major, minor = 7, 0
    b.config["linux"]["devices"] = [{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666},
                                    {"path": "/dev/probe-b", "type": "b", "major": major, "minor": minor, "fileMode": 0o600}]
    b.config["linux"]["resources"] = {"devices": rules}
    return set(oci.ok("run", "--bundle", b.save().dir, world.name(), before=before).splitlines())


V2_ONLY = [] if v2_alone() else ["unshare", "-m", "--propagation", "private", "sh", "-c",
                                  'mount -t cgroup2 none /sys/fs/cgroup && exec "$@"', "x"]


@pytest.mark.parametrize("before", [(), V2_ONLY], ids=["host", "v2"])
def test_device_rules(oci, bundle, world, before):
    """A46: by default everything is denied that is not a default device; each rule after it counts in its order."""
    try:
        os.close(os.open("/dev/loop0", os.O_RDONLY))
    except OSError:
        pytest.skip("/dev/loop0 cannot be opened here")
    deny = {"allow": False, "access": "rwm"}
    major, minor = 7, 0

    def got(*rules):
        return allowed(oci, world, bundle, list(rules), before)
    base = got(deny)
    assert base == got()
    assert {"/dev/null w", "/dev/zero r", "/dev/zero w", "fuse m", "loop m"} <= base
    assert not {"/dev/kmsg r", "/dev/kmsg w", "/dev/probe-b r"} & base
    assert "/dev/kmsg w" in got(deny, {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rw"})
    some = got(deny, {"allow": True, "type": "b", "major": major, "minor": minor, "access": "r"})
    assert "/dev/probe-b r" in some and "/dev/kmsg w" not in some
    assert "/dev/probe-b r" in got(deny, {"allow": True, "type": "b", "access": "r"})
    assert "/dev/probe-b r" in got(deny, {"allow": True, "type": "b", "major": -1, "minor": -1, "access": "r"})
    assert "/dev/probe-b r" not in got({"allow": True, "access": "rwm"}, deny)
    # Nothing at all is allowed, whatever letters that is written with: others do not look at them.
    assert "/dev/probe-b r" not in got({"allow": True, "access": "rwm"}, {"allow": False, "access": "rwa"})
    assert "/dev/probe-b r" in got(deny, {"allow": True, "access": "rwm"})
    assert "/dev/probe-b r" not in got({"allow": True}, {"allow": False, "type": "b", "major": major, "minor": minor, "access": "rwm"})
    assert "/dev/kmsg w" in got({"allow": True}, {"allow": False, "type": "b", "major": major, "minor": minor, "access": "rwm"})


@pytest.mark.vm_more
@pytest.mark.parametrize("rule, words", [
    ({}, "allow"), ({"allow": "yes"}, "allow"), ({"allow": True, "type": "x"}, "type"), ({"allow": True, "access": "rwx"}, "access"),
    ({"allow": False, "type": "c", "access": "rwa"}, "access"),
    ({"allow": True, "type": "c", "major": -2}, "major"), ({"allow": True, "type": "c", "minor": "1"}, "minor")])
def test_device_rules_that_make_no_sense(oci, bundle, world, rule, words):
    refuses(oci, world, bundle, {"devices": [rule]}, r"linux\.resources\.devices\[0\]\." + words)


@pytest.mark.vm_more
def test_a_hole_that_v1_cannot_make_is_refused(oci, bundle, world):
    if not os.path.isdir("/sys/fs/cgroup/devices"):
        pytest.skip("cgroup v1 only")
    refuses(oci, world, bundle, {"devices": [{"allow": False}, {"allow": True, "type": "c", "major": 1, "access": "rw"},
                                             {"allow": False, "type": "c", "major": 1, "minor": 11, "access": "w"}]},
            r"linux\.resources\.devices\[2\]", "cgroup v1")


# linux.devices

def test_device_nodes_of_every_type(oci, bundle, world):
    b = bundle(SLEEP)
    b.config["linux"]["devices"] = [
        {"path": "/dev/one", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 12, "gid": 34},
        {"path": "/dev/deep/er/two", "type": "b", "major": 7, "minor": 300, "fileMode": 0o100600},
        {"path": "/dev/three", "type": "u", "major": 4095, "minor": 1048575},
        {"path": "/tmp/four", "type": "p", "fileMode": 0o622, "uid": 56}]
    top = "/proc/%d/root" % started(oci, world, b)

    def look(path):
        found = os.stat(top + path)
        kind = "c" if stat.S_ISCHR(found.st_mode) else "b" if stat.S_ISBLK(found.st_mode) else "p" if stat.S_ISFIFO(found.st_mode) else "?"
        return kind, os.major(found.st_rdev), os.minor(found.st_rdev), stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid
    assert look("/dev/one") == ("c", 10, 229, 0o640, 12, 34)
    assert look("/dev/deep/er/two") == ("b", 7, 300, 0o600, 0, 0)
    assert look("/dev/three") == ("c", 4095, 1048575, 0o666, 0, 0)
    assert look("/tmp/four") == ("p", 0, 0, 0o622, 56, 0)


def test_the_default_devices(oci, bundle, world):
    top = "/proc/%d/root" % started(oci, world, bundle(SLEEP))
    for path, number in (("null", (1, 3)), ("zero", (1, 5)), ("full", (1, 7)), ("random", (1, 8)), ("urandom", (1, 9)), ("tty", (5, 0))):
        found = os.stat(top + "/dev/" + path)
        assert stat.S_ISCHR(found.st_mode) and (os.major(found.st_rdev), os.minor(found.st_rdev)) == number, path
        assert stat.S_IMODE(found.st_mode) == 0o666 and found.st_uid == found.st_gid == 0, path
    for path, target in (("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"),
                         ("stderr", "/proc/self/fd/2"), ("ptmx", "pts/ptmx")):
        assert os.readlink(top + "/dev/" + path) == target


def test_a_default_device_can_be_given_another_mode(oci, bundle, world):
    b = bundle(SLEEP)
    b.config["linux"]["devices"] = [{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 9, "gid": 9}]
    found = os.stat("/proc/%d/root/dev/null" % started(oci, world, b))
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, 9)


def test_a_device_that_is_there_already(oci, bundle, world):
    """config-linux.md: a file at the path that does not match must be an error; one that matches is the device."""
    b = bundle(SLEEP)
    b.config["mounts"] = [mount for mount in b.config["mounts"] if not mount["destination"].startswith("/dev")]
    b.config["root"]["readonly"] = False
    os.mknod(os.path.join(b.rootfs, "dev/fuse"), stat.S_IFCHR | 0o600, os.makedev(10, 229))
    b.config["linux"]["devices"] = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]
    assert stat.S_ISCHR(os.stat("/proc/%d/root/dev/fuse" % started(oci, world, b)).st_mode)
    b.config["linux"]["devices"][0]["minor"] = 228
    oci.fails("run", "--bundle", b.save().dir, world.name(), match=[r"linux\.devices", "/dev/fuse", "exists"])


def test_a_dev_of_the_host_is_left_as_it_is(oci, bundle, world):
    b = bundle(SLEEP)
    b.config["mounts"] = [mount for mount in b.config["mounts"] if not mount["destination"].startswith("/dev")]
    b.config["mounts"].append({"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind", "rprivate"]})
    before = sorted((entry.name, entry.stat(follow_symlinks=False).st_mode) for entry in os.scandir("/dev"))
    pid = started(oci, world, b)
    assert os.stat("/proc/%d/root/dev/null" % pid).st_ino == os.stat("/dev/null").st_ino
    assert sorted((entry.name, entry.stat(follow_symlinks=False).st_mode) for entry in os.scandir("/dev")) == before


@pytest.mark.vm_more
@pytest.mark.parametrize("device, words", [
    ({"path": "/dev/x", "type": "c", "minor": 1}, "major"), ({"path": "/dev/x", "type": "q", "major": 1, "minor": 1}, "type"),
    ({"type": "c", "major": 1, "minor": 1}, "path"), ({"path": "dev/x", "type": "c", "major": 1, "minor": 1}, "path"),
    ({"path": "/dev/../../x", "type": "c", "major": 1, "minor": 1}, "path"), ({"path": "/dev/x", "type": "c", "major": 4096, "minor": 1}, "major"),
    ({"path": "/dev/x", "type": "c", "major": 1, "minor": -1}, "minor"), ({"path": "/dev/x", "type": "p", "fileMode": "0600"}, "fileMode"),
    ({"path": "/dev/x", "type": "p", "uid": -1}, "uid"), ({"path": "/dev/x", "type": "p", "gid": 2**32}, "gid")])
def test_devices_that_make_no_sense(oci, bundle, world, device, words):
    b = bundle()
    b.config["linux"]["devices"] = [device]
    refused(oci, world, b, r"linux\.devices\[0\]\." + words)


# cgroupsPath

def places(pid):
    return {line.split(":", 2)[2] for line in read_text("/proc/%d/cgroup" % pid).splitlines()}


def own_places():
    return {line.split(":", 2)[1]: line.split(":", 2)[2] for line in read_text("/proc/self/cgroup").splitlines()}


def host_hierarchies():
    """Those that are mounted here: only in them is a place made."""
    return len([line for line in read_text("/proc/self/mountinfo").splitlines() if " - cgroup" in line and " /sys/fs/cgroup" in line])


def test_an_absolute_cgroups_path_is_below_the_mount_point(oci, bundle, world):
    b = bundle(SLEEP)
    path = b.config["linux"]["cgroupsPath"] = "/skink-test-" + world.id
    name = world.name()
    oci.ok("create", "--bundle", b.save().dir, name)
    pid = state(oci, name)["pid"]
    assert path in places(pid)
    mounted = [line.split(":", 2) for line in read_text("/proc/%d/cgroup" % pid).splitlines()]
    assert len([1 for _, _, place in mounted if place == path]) >= host_hierarchies() - 1
    oci.ok("delete", "--force", name)
    assert world.cgroups() == []


def test_a_nested_cgroups_path(oci, bundle, world):
    b = bundle(SLEEP)
    path = b.config["linux"]["cgroupsPath"] = "/skink-test-%s/pod/container" % world.id
    name = world.name()
    oci.ok("create", "--bundle", b.save().dir, name)
    assert path in places(state(oci, name)["pid"])
    oci.ok("delete", "--force", name)
    # The parents are the engine's, and empty now.
    for top in {"."} | set(os.listdir("/sys/fs/cgroup")):
        for part in ("/pod", ""):
            directory = "/sys/fs/cgroup/%s/skink-test-%s%s" % (top, world.id, part)
            if os.path.isdir(directory):
                os.rmdir(directory)
    assert world.cgroups() == []


def test_a_relative_cgroups_path_is_below_the_callers_group(oci, bundle, world):
    b = bundle(SLEEP)
    path = b.config["linux"]["cgroupsPath"] = "skink-test-" + world.id
    own = own_places()
    pid = started(oci, world, b)
    got = {line.split(":", 2)[1]: line.split(":", 2)[2] for line in read_text("/proc/%d/cgroup" % pid).splitlines()}
    for controllers, place in got.items():
        if place.endswith(path):
            # A group with processes can give no controllers on v2.
            parent = os.path.dirname(own[controllers]) if v2_alone() else own[controllers]
            assert place == parent.rstrip("/") + "/" + path
    assert any(place.endswith(path) for place in got.values())


def test_without_a_cgroups_path_each_container_has_one(oci, bundle, world):
    one, two = started(oci, world, bundle(SLEEP)), started(oci, world, bundle(SLEEP))
    assert places(one) != places(two) and any(place.startswith("/skink-") for place in places(one))


def test_an_id_too_long_for_a_name_of_its_own_has_a_group_too(oci, bundle, world):
    name = (world.name() + "-").ljust(253, "x")
    oci.ok("create", "--bundle", bundle(SLEEP).dir, name)
    assert "/skink/" + name in places(json.loads(oci.ok("state", name))["pid"])
    oci.ok("delete", "--force", name)
    assert world.leaks(3) == []


@pytest.mark.vm_more
@pytest.mark.parametrize("path", ["/", "/../x", "a/../../b", "/a/..", "..", "/a\nb", "/a\x07b", "/" + "x" * 256, "/." , "/a/./b"])
def test_cgroups_paths_that_are_refused(oci, bundle, world, path):
    b = bundle()
    b.config["linux"]["cgroupsPath"] = path
    refused(oci, world, b, r"linux\.cgroupsPath")


@pytest.mark.vm_more
def test_a_group_with_processes_is_refused(oci, bundle, world):
    b = bundle(SLEEP)
    b.config["linux"]["cgroupsPath"] = "/skink-test-" + world.id
    started(oci, world, b)
    oci.fails("run", "--bundle", b.dir, world.name(), match=["linux.cgroupsPath", "has processes"])


# cgroup v2 alone

def v2(oci, *args):
    return oci.ok(*args, before=V2_ONLY)


def test_on_v2_alone(oci, bundle, world):
    """The group is joined by the clone itself, limits and device rules are there, and delete takes all away."""
    top = unified_top()
    b = bundle(SLEEP)
    path = b.config["linux"]["cgroupsPath"] = "/skink-test-" + world.id
    b.config["linux"]["resources"] = {"hugepageLimits": [{"pageSize": "2MB", "limit": 6 * MIB}], "unified": {"hugetlb.1GB.max": "0"},
                                      "devices": [{"allow": False, "access": "rwm"}]}
    name = world.name()
    v2(oci, "create", "--bundle", b.save().dir, name)
    pid = json.loads(v2(oci, "state", name))["pid"]
    assert "0::" + path in read_text("/proc/%d/cgroup" % pid).splitlines()
    directory = top + path
    assert read_text(directory + "/hugetlb.2MB.max").strip() == str(6 * MIB) == read_text(directory + "/hugetlb.2MB.rsvd.max").strip()
    assert read_text(directory + "/hugetlb.1GB.max").strip() == "0"
    v2(oci, "start", name)
    v2(oci, "delete", "--force", name)
    assert not os.path.exists(directory)


def test_on_v2_alone_the_error_names_what_is_missing(oci, bundle, world):
    if "memory" in read_text("/sys/fs/cgroup/unified/cgroup.controllers", "memory"):
        pytest.skip("this host's unified hierarchy has the memory controller")
    for resources, words in (({"memory": {"limit": 64 * MIB}}, r"linux\.resources\.memory\.limit"),
                             ({"cpu": {"shares": 100}}, r"linux\.resources\.cpu\.shares"),
                             ({"network": {"classID": 1}}, "only cgroup v1"), ({"unified": {"memory.high": "1"}}, "memory controller")):
        b = bundle()
        b.config["linux"]["resources"] = resources
        result = oci("run", "--bundle", b.save().dir, world.name(), before=V2_ONLY)
        assert result.status == 1, result
        assert re.search(words, result.err), result

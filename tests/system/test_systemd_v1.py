# SPDX-License-Identifier: Apache-2.0
"""skink-oci --systemd-cgroup where systemd uses the older hierarchies: a virtual machine of its own, which tests/vm/suite.py starts with
--kernel-args "systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1" under tools/test --vm and --all."""

import json
import os

import pytest
from skinktest import read_text, wait_for
from test_systemd import Driver, MIB, REEXEC, SLEEP, TOP, driver, scope, shown, systemctl, units  # noqa: F401

# By hand, in a machine with cgroup v2.
if os.path.exists(TOP + "/cgroup.controllers"):
    pytestmark = [pytest.mark.vm_only, pytest.mark.skip(reason="this machine was started with cgroup v2")]
else:
    pytestmark = [pytest.mark.vm_only, pytest.mark.timeout(300)]
# Those that systemd manages, and those that it leaves alone.
MANAGED, ALONE = ("memory", "cpu", "cpuacct", "blkio", "pids", "devices", "systemd"), ("cpuset", "freezer", "hugetlb", "perf_event")


def groups(driver, name):
    """Hierarchy: directory of the container's process."""
    found = {}
    for line in read_text("/proc/%d/cgroup" % driver.pid(name)).splitlines():
        _, controllers, path = line.split(":", 2)
        for one in (controllers or "unified").replace("name=", "").split(","):
            top = next((os.path.join(TOP, entry) for entry in os.listdir(TOP) if one in entry.split(",")), None)
            if top:
                found[one] = top + path
    return found


def value(driver, name, controller, file):
    return read_text(os.path.join(groups(driver, name)[controller], file)).strip()


RESOURCES = {"memory": {"limit": 64 * MIB}, "cpu": {"shares": 512, "quota": 20000, "period": 50000, "cpus": "1"}, "pids": {"limit": 20},
             "hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]}


def test_the_life_of_a_container(driver, oci, world):
    name = driver.running(resources=RESOURCES)
    pid, where = driver.pid(name), groups(driver, name)
    assert {path.split("/", 5)[-1] for path in where.values()} == {"system.slice/" + scope(name)}, where
    for top in where.values():
        assert read_text(top + "/cgroup.procs").split() == [str(pid)], top
    expected = {"MemoryLimit": str(64 * MIB), "CPUShares": "512", "CPUQuotaPerSecUSec": "400ms", "TasksMax": "20", "DevicePolicy": "strict"}
    files = [("memory", "memory.limit_in_bytes", str(64 * MIB)), ("cpu", "cpu.shares", "512"), ("cpu", "cpu.cfs_quota_us", "20000"),
             ("cpu", "cpu.cfs_period_us", "50000"), ("pids", "pids.max", "20"), ("cpuset", "cpuset.cpus", "1")]
    for step in ([], ["daemon-reload"], ["set-property", "--runtime", scope(name), "BlockIOAccounting=yes"]):
        if step:
            systemctl(*step)
        assert shown(scope(name), *expected) == expected, step
        assert [value(driver, name, controller, file) for controller, file, _ in files] == [row[2] for row in files], step
    oci.ok("update", "--memory", 32 * MIB, "--pids-limit", 9, "--cpu-share", 1024, name)
    systemctl("daemon-reload")
    assert value(driver, name, "memory", "memory.limit_in_bytes") == str(32 * MIB)
    assert value(driver, name, "pids", "pids.max") == "9" and value(driver, name, "cpu", "cpu.shares") == "1024"
    assert shown(scope(name), "MemoryLimit", "TasksMax", "CPUShares") == {"MemoryLimit": str(32 * MIB), "TasksMax": "9", "CPUShares": "1024"}
    process = oci.start("exec", name, "sleep", "998")
    wait_for(lambda: all(len(read_text(top + "/cgroup.procs").split()) == 2 for top in where.values()))
    process.kill()
    oci.ok("pause", name)
    assert json.loads(oci.ok("state", name))["status"] == "paused" and value(driver, name, "freezer", "freezer.state") == "FROZEN"
    oci.ok("resume", name)
    stats = json.loads(oci.ok("events", "--stats", name))["data"]
    assert stats["memory"]["usage"]["usage"] > 0
    oci.ok("delete", "--force", name)
    wait_for(lambda: not units(world))
    assert [path for path in where.values() if os.path.exists(path)] == []
    # On hierarchies that systemd leaves alone nobody else would take the slice away.
    assert [one for one in ALONE if os.path.exists("%s/%s/system.slice" % (TOP, one))] == []


def test_devices_stay_as_they_are(driver, oci):
    disk = read_text("/sys/class/block/vda/dev").strip()
    use = "busybox mknod /dev/disk b %s; head -c1 /dev/disk >/dev/null && echo opened" % disk.replace(":", " ")
    denied = driver.running()
    allowed = driver.running(resources={"devices": [{"allow": True, "access": "rwm"}]})
    before = value(driver, denied, "devices", "devices.list")
    for step in ([], ["daemon-reload"], ["set-property", "--runtime", scope(denied), "CPUShares=50"], *REEXEC):
        if step:
            systemctl(*step)
        result = oci("exec", denied, "sh", "-c", use)
        assert "opened" not in result.out and "not permitted" in result.err, (step, result)
        assert "opened" in oci("exec", allowed, "sh", "-c", use).out, step
        oci.ok("exec", denied, "sh", "-c", "for d in null zero full random urandom tty; do test -c /dev/$d || exit 1; done; head -c1 /dev/urandom >/dev/null")
        assert set(value(driver, denied, "devices", "devices.list").splitlines()) == set(before.splitlines()), step


def test_the_scope_ends_with_its_process(driver, oci, world):
    name = driver.running(["true"], resources=RESOURCES)
    wait_for(lambda: driver.status(name) == "stopped")
    wait_for(lambda: units(world) == [])
    oci.ok("delete", name)
    assert world.leaks(20) == []


def test_the_same_name_at_once(driver, oci):
    b, name = driver.prepared(resources=RESOURCES)
    for _ in range(10):
        oci.ok("--systemd-cgroup", "create", "--bundle", b.dir, name)
        oci.ok("delete", "--force", name)


def test_one_process_is_enough(driver, oci):
    name = driver.running(SLEEP, resources={"pids": {"limit": 1}})
    assert value(driver, name, "pids", "pids.max") == "1" and driver.status(name) == "running"

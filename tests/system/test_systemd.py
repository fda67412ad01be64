# SPDX-License-Identifier: Apache-2.0
"""skink-oci --systemd-cgroup with a real systemd: what `systemctl show` says and what the kernel's files say."""

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess

import pytest
import skinktest
from skinktest import listdir, read_text, support, systemd_held, wait_for

pytestmark = [pytest.mark.vm_only, pytest.mark.timeout(300)]
TOP = "/sys/fs/cgroup"
SLEEP = ["sleep", "1000"]
MIB = 1 << 20
REEXEC = [["daemon-reexec"]] if skinktest.ALL else []


def systemctl(*words, check=True):
    # While it is executed anew systemd answers nobody: not beside tests that cannot stand that.
    with systemd_held(fcntl.LOCK_EX) if words in [tuple(step) for step in REEXEC] else contextlib.nullcontext():
        done = subprocess.run(["systemctl", "--no-pager", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert not check or done.returncode == 0, done
    return done.stdout


def shown(unit, *properties):
    """What systemd has: a dictionary."""
    said = systemctl("show", unit, *["-p" + name for name in properties])
    return dict(line.split("=", 1) for line in said.splitlines())


def units(world):
    """Names of loaded units of this test, whatever became of them."""
    words = systemctl("list-units", "--all", "--plain", "--no-legend", "*%s*" % world.id).split("\n")
    return sorted(line.split()[0] for line in words if line.strip())


class Driver:
    """Containers by systemd. Only create and run are told so: the rest finds out by the container."""

    def __init__(self, oci, world, bundle):
        self.oci, self.world, self.bundle = oci, world, bundle

    def prepared(self, args=SLEEP, resources=None, path=None, annotations=None, **process):
        b, name = self.bundle(args, **process), self.world.name()
        # By default: PREFIX-NAME.scope in system.slice.
        b.config["linux"]["cgroupsPath"] = ":skinktest:" + name if path is None else path
        if resources:
            b.config["linux"]["resources"] = resources
        if annotations:
            b.config["annotations"] = annotations
        return b.save(), name

    def create(self, *args, **more):
        b, name = self.prepared(*args, **more)
        self.oci.ok("--systemd-cgroup", "create", "--bundle", b.dir, name)
        return name

    def running(self, *args, **more):
        name = self.create(*args, **more)
        self.oci.ok("start", name)
        return name

    def pid(self, name):
        return json.loads(self.oci.ok("state", name))["pid"]

    def status(self, name):
        return json.loads(self.oci.ok("state", name))["status"]

    def group(self, name):
        """The directory of the container's process on the unified hierarchy."""
        return TOP + read_text("/proc/%d/cgroup" % self.pid(name)).split("0::", 1)[1].strip()

    def file(self, name, file):
        return read_text(os.path.join(self.group(name), file)).strip()


def scope(name):
    return "skinktest-%s.scope" % name


@pytest.fixture
def driver(oci, world, bundle):
    yield Driver(oci, world, bundle)
    for name in listdir(world.oci_root):
        if not name.startswith("."):
            oci.ok("delete", "--force", name)
    wait_for(lambda: not units(world), 10, message="units left behind: %s" % units(world))


# What is asked for; what systemd says; what is in the files. Where the files of systemd's doing are others: a third part.
MAX = str((1 << 64) - 1)
LIMITS = {
    "memory and swap": ({"memory": {"limit": 64 * MIB, "swap": 96 * MIB}}, {"MemoryMax": 64 * MIB, "MemorySwapMax": 32 * MIB},
                        {"memory.max": 64 * MIB, "memory.swap.max": 32 * MIB}),
    "no swap": ({"memory": {"limit": 64 * MIB, "swap": 64 * MIB}}, {"MemoryMax": 64 * MIB, "MemorySwapMax": 0},
                {"memory.max": 64 * MIB, "memory.swap.max": 0}),
    "all memory": ({"memory": {"limit": -1, "swap": -1}}, {"MemoryMax": "infinity", "MemorySwapMax": "infinity"},
                   {"memory.max": "max", "memory.swap.max": "max"}),
    "reservation": ({"memory": {"reservation": 16 * MIB}}, {"MemoryLow": 16 * MIB, "MemoryMax": "infinity"},
                    {"memory.low": 16 * MIB, "memory.max": "max"}),
    "shares": ({"cpu": {"shares": 512}}, {"CPUWeight": 59}, {"cpu.weight": 59}),
    "quota": ({"cpu": {"quota": 15000, "period": 50000}}, {"CPUQuotaPerSecUSec": "300ms", "CPUQuotaPeriodUSec": "50ms"},
              {"cpu.max": "15000 50000"}),
    "quota alone": ({"cpu": {"quota": 250000}}, {"CPUQuotaPerSecUSec": "2.500000s"}, {"cpu.max": "250000 100000"}),
    "a quota between hundredths": ({"cpu": {"quota": 15333}}, {"CPUQuotaPerSecUSec": "160ms"}, {"cpu.max": "15333 100000"},
                                   {"cpu.max": "16000 100000"}),
    "processors": ({"cpu": {"cpus": "1", "mems": "0"}}, {"AllowedCPUs": "1", "AllowedMemoryNodes": "0"},
                   {"cpuset.cpus": "1", "cpuset.mems": "0"}),
    "two processors": ({"cpu": {"cpus": "0-1"}}, {"AllowedCPUs": "0-1"}, {"cpuset.cpus": "0-1"}),
    "idle": ({"cpu": {"idle": 1}}, {"CPUWeight": "idle"}, {"cpu.idle": 1}),
    "burst": ({"cpu": {"quota": 20000, "burst": 10000}}, {"CPUQuotaPerSecUSec": "200ms"},
              {"cpu.max": "20000 100000", "cpu.max.burst": 10000}),
    "pids": ({"pids": {"limit": 20}}, {"TasksMax": 20}, {"pids.max": 20}),
    "one process": ({"pids": {"limit": 1}}, {"TasksMax": 1}, {"pids.max": 1}),
    "one process, by its file": ({"unified": {"pids.max": "1"}}, {"TasksMax": 1}, {"pids.max": 1}),
    "any pids": ({"pids": {"limit": -1}}, {"TasksMax": "infinity"}, {"pids.max": "max"}),
    "block I/O": ({"blockIO": {"weight": 500}}, {"IOWeight": 4950}, {"io.weight": "default 4950"}),
    "huge pages": ({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]}, {}, {"hugetlb.2MB.max": 4 * MIB}),
    "unified memory": ({"unified": {"memory.high": str(48 * MIB), "memory.min": str(4 * MIB), "memory.low": str(8 * MIB),
                                    "memory.max": str(64 * MIB), "memory.swap.max": "max"}},
                       {"MemoryHigh": 48 * MIB, "MemoryMin": 4 * MIB, "MemoryLow": 8 * MIB, "MemoryMax": 64 * MIB, "MemorySwapMax": "infinity"},
                       {"memory.high": 48 * MIB, "memory.min": 4 * MIB, "memory.low": 8 * MIB, "memory.max": 64 * MIB, "memory.swap.max": "max"}),
    "unified rest": ({"unified": {"cpu.weight": "77", "cpu.max": "30000 60000", "pids.max": "33", "cpuset.cpus": "0", "io.weight": "default 300"}},
                     {"CPUWeight": 77, "CPUQuotaPerSecUSec": "500ms", "CPUQuotaPeriodUSec": "60ms", "TasksMax": 33, "AllowedCPUs": "0", "IOWeight": 300},
                     {"cpu.weight": 77, "cpu.max": "30000 60000", "pids.max": 33, "cpuset.cpus": "0", "io.weight": "default 300"}),
    # Before 253 systemd has no property of a scope for it, and writes 0 when it looks at the unit again.
    "killed as one": ({"unified": {"memory.oom.group": "1"}}, {}, {"memory.oom.group": 1}, {}),
}


def available(resources, group):
    """Without the files of controllers that this kernel was built without."""
    return [file for file in resources if os.path.exists(os.path.join(group, file))]


def differences(driver, names, later):
    found = []
    for title, name in names.items():
        _, properties, files, *rest = LIMITS[title]
        if later and rest:
            files = rest[0]
        said = shown(scope(name), *properties) if properties else {}
        found += [(title, key, said.get(key), value) for key, value in properties.items() if said.get(key) != str(value)]
        group = driver.group(name)
        found += [(title, file, read_text(os.path.join(group, file)).strip(), value) for file, value in files.items()
                  if file in available(files, group) and read_text(os.path.join(group, file)).split("\n")[0] != str(value)]
    return found


@pytest.mark.timeout(600)
@pytest.mark.vm_more
def test_limits_are_properties_and_files_and_stay(driver):
    names = {title: driver.create(resources=row[0]) for title, row in LIMITS.items()}
    assert differences(driver, names, False) == []
    systemctl("daemon-reload")
    assert differences(driver, names, True) == [], "after daemon-reload"
    for name in names.values():
        systemctl("set-property", "--runtime", scope(name), "CPUAccounting=yes", "IPAccounting=no")
    assert differences(driver, names, True) == [], "after set-property"
    for step in REEXEC:
        systemctl(*step)
        assert differences(driver, names, True) == [], "after daemon-reexec"


def test_changing_one_of_a_kind_by_systemctl_leaves_the_others(driver):
    """Each makes systemd write all files of the controller anew."""
    name = driver.running(resources={"memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 16 * MIB},
                                     "cpu": {"shares": 512, "quota": 20000, "cpus": "1"}, "pids": {"limit": 20}})
    systemctl("set-property", "--runtime", scope(name), "MemoryHigh=50M", "CPUWeight=33", "TasksMax=21")
    files = {"memory.max": 64 * MIB, "memory.swap.max": 32 * MIB, "memory.low": 16 * MIB, "memory.high": 50 * MIB, "cpu.weight": 33,
             "cpu.max": "20000 100000", "cpuset.cpus": "1", "pids.max": 21}
    assert {file: driver.file(name, file) for file in files} == {file: str(value) for file, value in files.items()}


def test_update_reaches_systemd_and_stays(driver, oci):
    name = driver.running(resources={"memory": {"limit": 64 * MIB, "swap": 96 * MIB}, "cpu": {"quota": 20000, "period": 50000}, "pids": {"limit": 20}})
    oci.ok("update", "--memory", 32 * MIB, "--pids-limit", 11, "--cpu-quota", 30000, "--cpu-share", 2048, "--cpuset-cpus", "1", name)
    # Swap counts with the memory: 96 - 32.
    oci.ok("update", "--memory-swap", 96 * MIB, name)
    oci.ok("update", "-r", "-", name, input=json.dumps({"unified": {"memory.high": str(20 * MIB)}}))
    properties = {"MemoryMax": 32 * MIB, "MemorySwapMax": 64 * MIB, "MemoryHigh": 20 * MIB, "TasksMax": 11, "CPUQuotaPerSecUSec": "600ms",
                  "CPUQuotaPeriodUSec": "50ms", "CPUWeight": 174, "AllowedCPUs": "1"}
    files = {"memory.max": 32 * MIB, "memory.swap.max": 64 * MIB, "memory.high": 20 * MIB, "pids.max": 11, "cpu.max": "30000 50000",
             "cpu.weight": 174, "cpuset.cpus": "1"}
    for step in ([], ["daemon-reload"], ["set-property", "--runtime", scope(name), "CPUAccounting=yes", "MemoryLow=1M"]):
        if step:
            systemctl(*step)
        assert shown(scope(name), *properties) == {key: str(value) for key, value in properties.items()}, step
        assert {file: driver.file(name, file) for file in files} == {file: str(value) for file, value in files.items()}, step
    # Only until it ends: nothing about it is kept on disk.
    for top in ("/etc/systemd/system.control", "/run/systemd/system.control"):
        assert not [entry for entry in listdir(top) if name in entry and "daemon" in entry]
    assert driver.status(name) == "running"


def test_a_period_alone_keeps_the_quota(driver, oci):
    name = driver.running(resources={"cpu": {"quota": 15000, "period": 50000}})
    oci.ok("update", "--cpu-period", 100000, name)
    for step in ([], ["daemon-reload"]):
        if step:
            systemctl(*step)
        assert driver.file(name, "cpu.max") == "15000 100000", step
        assert shown(scope(name), "CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec") == {"CPUQuotaPerSecUSec": "150ms", "CPUQuotaPeriodUSec": "100ms"}
    oci.ok("update", "-r", "-", name, input=json.dumps({"unified": {"cpu.max": "10000"}}))
    assert driver.file(name, "cpu.max") == "10000 100000"
    # What systemd can only say in hundredths of a processor is not what the next change starts from.
    oci.ok("update", "--cpu-quota", 15333, name)
    oci.ok("update", "--cpu-period", 200000, name)
    assert driver.file(name, "cpu.max") == "15333 200000"


def test_lifting_limits_by_update(driver, oci):
    name = driver.running(resources={"memory": {"limit": 64 * MIB, "swap": 64 * MIB}, "cpu": {"quota": 20000}, "pids": {"limit": 20}})
    oci.ok("update", "--memory", -1, "--memory-swap", -1, "--pids-limit", -1, "--cpu-quota", -1, name)
    systemctl("daemon-reload")
    assert [driver.file(name, file) for file in ("memory.max", "memory.swap.max", "pids.max", "cpu.max")] == ["max", "max", "max", "max 100000"]
    assert set(shown(scope(name), "MemoryMax", "MemorySwapMax", "TasksMax", "CPUQuotaPerSecUSec").values()) == {"infinity"}


@pytest.mark.vm_more
def test_devices_stay_denied(driver, oci):
    disk = read_text("/sys/class/block/vda/dev").strip()
    use = "busybox mknod /dev/disk b %s; head -c1 /dev/disk >/dev/null && echo opened" % disk.replace(":", " ")
    denied = driver.running()
    # The counter-proof: it is the rule that keeps it closed.
    allowed = driver.running(resources={"devices": [{"allow": True, "access": "rwm"}]})
    assert "opened" in oci("exec", allowed, "sh", "-c", use).out
    for step in ([], ["daemon-reload"], ["set-property", "--runtime", scope(denied), "CPUWeight=50"], *REEXEC):
        if step:
            systemctl(*step)
        result = oci("exec", denied, "sh", "-c", use)
        assert "opened" not in result.out and "not permitted" in result.err, (step, result)
        assert oci.ok("exec", denied, "head", "-c0", "/dev/zero") == ""


def test_the_scope(driver, oci, world):
    name = driver.running(["sh", "-c", "cat /proc/self/cgroup; cat /proc/1/cgroup; exec sleep 1000"])
    group = driver.group(name)
    assert group == TOP + "/system.slice/" + scope(name)
    said = shown(scope(name), "ActiveState", "Slice", "Delegate", "CollectMode", "Description", "ControlGroup", "DefaultDependencies",
                 "MemoryAccounting", "CPUAccounting", "TasksAccounting", "Transient")
    assert said == {"ActiveState": "active", "Slice": "system.slice", "Delegate": "yes", "CollectMode": "inactive-or-failed",
                    "Description": "skink container " + name, "ControlGroup": "/system.slice/" + scope(name), "DefaultDependencies": "no",
                    "MemoryAccounting": "yes", "CPUAccounting": "yes", "TasksAccounting": "yes", "Transient": "yes"}
    # The process alone: who kept the place for it is gone.
    assert read_text(group + "/cgroup.procs").split() == [str(driver.pid(name))]
    assert scope(name) in systemctl("status", str(driver.pid(name)))
    # It is the root of the container's cgroup namespace, also for exec.
    assert oci.ok("exec", name, "cat", "/proc/self/cgroup", "/proc/1/cgroup").split() == ["0::/", "0::/"]
    process = oci.start("exec", name, "sh", "-c", "exec sleep 998")
    found = wait_for(lambda: [pid for pid in read_text(group + "/cgroup.procs").split() if read_text("/proc/%s/cmdline" % pid, "") == "sleep\0998\0"])
    assert read_text("/proc/%s/cgroup" % found[0]).strip() == "0::/system.slice/" + scope(name)
    assert found[0] in oci.ok("ps", name)
    os.kill(int(found[0]), signal.SIGKILL)
    process.wait()
    # Groups below it are the container's own affair.
    os.mkdir(group + "/inner")
    systemctl("daemon-reload")
    assert os.path.isdir(group + "/inner")
    stats = json.loads(oci.ok("events", "--stats", name))["data"]
    assert stats["pids"]["current"] == 1 and stats["memory"]["usage"]["usage"] > 0
    oci.ok("delete", "--force", name)
    assert not os.path.exists(group) and units(world) == []


def test_pause_and_resume(driver, oci):
    name = driver.running()
    oci.ok("pause", name)
    assert driver.status(name) == "paused" and "frozen 1" in driver.file(name, "cgroup.events")
    systemctl("daemon-reload")
    assert driver.status(name) == "paused"
    oci.ok("resume", name)
    assert driver.status(name) == "running" and "frozen 0" in driver.file(name, "cgroup.events")
    oci.ok("pause", name)
    oci.ok("delete", "--force", name)
    assert shown(scope(name), "LoadState") == {"LoadState": "not-found"}


def test_kill_all(driver, oci):
    name = driver.running(["sh", "-c", "sleep 999 & sleep 998 & exec sleep 997"])
    group = driver.group(name)
    wait_for(lambda: len(read_text(group + "/cgroup.procs").split()) == 3)
    oci.ok("kill", "--all", name, "KILL")
    wait_for(lambda: driver.status(name) == "stopped")
    wait_for(lambda: shown(scope(name), "LoadState") == {"LoadState": "not-found"})
    oci.ok("delete", name)


def test_one_process_is_enough(driver, oci):
    """The process that holds the place until then does not count."""
    for limit in (1, 2):
        name = driver.running(resources={"pids": {"limit": limit}})
        want = str(limit)
        assert driver.file(name, "pids.max") == want and shown(scope(name), "TasksMax") == {"TasksMax": want}
        assert driver.status(name) == "running"
        oci.ok("delete", "--force", name)


@pytest.mark.parametrize("limit", [1, 2, 0])
def test_a_joined_pid_namespace(driver, oci, limit):
    """Two stages, the first of which waits outside."""
    first = driver.running()
    b, name = driver.prepared(resources={"pids": {"limit": limit}} if limit else None)
    for entry in b.config["linux"]["namespaces"]:
        if entry["type"] == "pid":
            entry["path"] = "/proc/%d/ns/pid" % driver.pid(first)
    oci.ok("--systemd-cgroup", "create", "--bundle", b.save().dir, name)
    oci.ok("start", name)
    assert os.readlink("/proc/%d/ns/pid" % driver.pid(name)) == os.readlink("/proc/%d/ns/pid" % driver.pid(first))
    assert driver.group(name).endswith("/" + scope(name))
    assert read_text(driver.group(name) + "/cgroup.procs").split() == [str(driver.pid(name))]


def test_without_a_pid_or_cgroup_namespace(driver, oci):
    b, name = driver.prepared()
    b.config["linux"]["namespaces"] = [entry for entry in b.config["linux"]["namespaces"] if entry["type"] not in ("pid", "cgroup")]
    oci.ok("--systemd-cgroup", "create", "--bundle", b.save().dir, name)
    oci.ok("start", name)
    assert oci.ok("exec", name, "cat", "/proc/self/cgroup").strip() == "0::/system.slice/" + scope(name)


def test_slices(driver, oci, world):
    """Named by SLICE: one that is there not yet comes with it."""
    top = "skinktest%s" % world.id
    name = driver.running(path="%s-inner.slice:pre:c" % top)
    assert driver.group(name) == "%s/%s.slice/%s-inner.slice/pre-c.scope" % (TOP, top, top)
    assert shown("pre-c.scope", "Slice") == {"Slice": top + "-inner.slice"}
    oci.ok("delete", "--force", name)
    root = driver.running(path="-:skinktest:" + world.name())
    assert driver.group(root).count("/") == TOP.count("/") + 1
    oci.ok("delete", "--force", root)
    systemctl("stop", top + "-inner.slice", top + ".slice")


@pytest.mark.vm_more
def test_a_container_that_is_a_slice(driver, oci, world):
    unit = "skinktest%s.slice" % world.id
    name = driver.running(path="::" + unit, resources={"memory": {"limit": 64 * MIB}, "pids": {"limit": 9}})
    assert driver.group(name) == TOP + "/" + unit
    assert shown(unit, "ActiveState", "MemoryMax", "TasksMax") == {"ActiveState": "active", "MemoryMax": str(64 * MIB), "TasksMax": "9"}
    systemctl("daemon-reload")
    assert driver.file(name, "memory.max") == str(64 * MIB)
    assert oci.ok("exec", name, "cat", "/proc/self/cgroup") == "0::/"
    b, other = driver.prepared(path="::" + unit)
    oci.fails("--systemd-cgroup", "create", "--bundle", b.dir, other, match=["cgroupsPath", "exists already"])
    assert driver.status(name) == "running"
    oci.ok("delete", "--force", name)
    assert not os.path.exists(TOP + "/" + unit) and units(world) == []


def test_a_unit_that_another_container_has_now(driver, oci, world):
    """A scope ends with its last process; the next container may have its name, and is not ended with the first."""
    first = driver.running()
    unit = ":skinktest:" + first
    os.kill(driver.pid(first), signal.SIGKILL)
    wait_for(lambda: driver.status(first) == "stopped" and units(world) == [])
    second = driver.running(path=unit)
    for command in (["kill", "--all", first, "9"], ["delete", first], ["delete", "--force", first]):
        oci(*command)
    assert driver.status(second) == "running" and shown(scope(first), "ActiveState") == {"ActiveState": "active"}
    oci.ok("delete", "--force", second)
    assert units(world) == []


def test_a_unit_that_is_somebody_elses(driver, oci, world):
    """Neither ended nor changed, and nothing of the second container is left."""
    first = driver.running(resources={"pids": {"limit": 20}})
    b, second = driver.prepared(path=":skinktest:" + first, resources={"pids": {"limit": 5}})
    oci.fails("--systemd-cgroup", "create", "--bundle", b.dir, second, match=["linux.cgroupsPath", scope(first), "exists already", "systemctl status"])
    oci.fails("state", second, match="does not exist")
    assert driver.status(first) == "running" and driver.file(first, "pids.max") == "20"
    oci.ok("delete", "--force", second)
    assert driver.status(first) == "running" and shown(scope(first), "TasksMax", "ActiveState") == {"TasksMax": "20", "ActiveState": "active"}


def test_a_service_of_that_name(driver, oci, world):
    """A scope that an administrator made."""
    unit = "skinktest-%s.scope" % world.id
    process = subprocess.Popen(["systemd-run", "--quiet", "--scope", "--unit", unit, "sleep", "1000"])
    try:
        wait_for(lambda: shown(unit, "ActiveState") == {"ActiveState": "active"})
        b, name = driver.prepared(path=":skinktest:" + world.id)
        oci.fails("--systemd-cgroup", "create", "--bundle", b.dir, name, match="exists already")
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_annotations(driver, oci, world):
    name = driver.running(annotations={
        "org.systemd.property.TimeoutStopUSec": "uint64 123456789", "org.systemd.property.CollectMode": "'inactive'",
        "org.systemd.property.After": "['skink-a.service', 'skink-b.service']", "org.systemd.property.IPAccounting": "true",
        "org.systemd.property.KillSignal": "int32 9", "org.systemd.property.RuntimeMaxSec": "uint32 7000",
        "org.systemd.property.DevicePolicy": "'auto'", "com.example.other": "not for systemd"})
    said = shown(scope(name), "TimeoutStopUSec", "CollectMode", "After", "IPAccounting", "KillSignal", "RuntimeMaxUSec")
    after = said.pop("After").split()
    assert {"skink-a.service", "skink-b.service"} <= set(after)
    assert said == {"TimeoutStopUSec": "2min 3.456789s", "CollectMode": "inactive", "IPAccounting": "yes", "KillSignal": "9",
                    "RuntimeMaxUSec": "1h 56min 40s"}
    oci.ok("delete", "--force", name)
    for key, value, words in (("TimeoutStopUSec", "uint64", "GVariant"), ("TimeoutStopUSec", "'text'", "TimeoutStopUSec"),
                              ("NoSuchProperty", "true", "NoSuchProperty"), ("After", "('a',)", "After"),
                              ("Description", "'a\0b'", "Description"), ("TimeoutStopUSec", "@t " * 100000 + "5", "bracket")):
        b, bad = driver.prepared(annotations={"org.systemd.property." + key: value})
        oci.fails("--systemd-cgroup", "create", "--bundle", b.dir, bad, match=words)
        assert units(world) == [], key
        oci.fails("state", bad)


@pytest.mark.vm_more
def test_what_ran_out_of_memory_is_forgotten(driver, oci, world):
    name = driver.running(["sh", "-c", "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo $x"],
                          resources={"memory": {"limit": 16 * MIB, "swap": 16 * MIB}})
    wait_for(lambda: driver.status(name) == "stopped")
    wait_for(lambda: units(world) == [], message="the scope is remembered as failed")
    assert scope(name) not in systemctl("list-units", "--all", "--failed")
    oci.ok("delete", name)
    b, again = driver.prepared(["true"], path=":skinktest:" + name)
    oci.ok("--systemd-cgroup", "run", "--bundle", b.dir, again)


def test_the_scope_goes_with_the_process(driver, oci, world):
    name = driver.running(["true"])
    wait_for(lambda: driver.status(name) == "stopped")
    wait_for(lambda: units(world) == [])
    assert not os.path.exists("%s/system.slice/%s" % (TOP, scope(name)))
    # What is asked of it afterwards is answered.
    assert oci("update", "--pids-limit", 5, name).status in (0, 1)
    oci.ok("delete", name)
    oci.fails("delete", name, match="does not exist")


def test_run_leaves_nothing(driver, oci, world):
    b, name = driver.prepared(["sh", "-c", "exit 7"])
    assert oci("--systemd-cgroup", "run", "--bundle", b.dir, name).status == 7
    assert units(world) == []


def test_create_that_fails_leaves_nothing(driver, oci, world):
    b, name = driver.prepared(["/no/such/program"])
    oci.fails("--systemd-cgroup", "run", "--bundle", b.dir, name, match="no such file")
    assert units(world) == []
    b, name = driver.prepared(resources={"unified": {"memory.max": "nonsense"}})
    oci.fails("--systemd-cgroup", "create", "--bundle", b.dir, name, match="memory.max")
    assert units(world) == [] and listdir(world.oci_root) in ([], [".cache"])


@pytest.mark.vm_more
@pytest.mark.timeout(600)
def test_the_same_name_at_once(driver, oci, world):
    """Twenty times; systemd may still be busy with the one before."""
    b, name = driver.prepared()
    quick, other = driver.prepared(["true"], path=":skinktest:" + world.name())
    for turn in range(20):
        oci.ok("--systemd-cgroup", "create", "--bundle", b.dir, name)
        oci.ok("delete", "--force", name)
        oci.ok("--systemd-cgroup", "run", "--bundle", quick.dir, other)


@pytest.mark.vm_more
def test_a_name_that_ended_by_itself_at_once(driver, oci):
    """Its scope may not have ended yet for systemd when the next one asks for the name."""
    b, name = driver.prepared()
    for turn in range(10):
        oci.ok("--systemd-cgroup", "create", "--bundle", b.dir, name)
        oci.ok("start", name)
        oci.ok("kill", name, "KILL")
        wait_for(lambda: driver.status(name) == "stopped", step=0.01)
        oci.ok("delete", name)


@pytest.mark.vm_more
def test_names_of_units(driver, oci, world):
    """The default one has the container's id in it, in which a + can be."""
    for hint in ("a+b", ".a", "a..b", "a_b"):
        b, name = driver.prepared(path="")
        name = name + hint
        oci.ok("--systemd-cgroup", "create", "--bundle", b.dir, name)
        unit = "skink-%s.scope" % name.replace("+", "\\x2b")
        assert driver.group(name) == TOP + "/system.slice/" + unit
        assert shown(unit, "ActiveState") == {"ActiveState": "active"}
        oci.ok("delete", "--force", name)
    # In the group that systemd has given it, whatever it calls that: "_" before the name, before some of them.
    for path, escaped in (("_a:%s", True), (".a:%s", True), ("cpu.a:%s", None)):
        b, name = driver.prepared()
        b.config["linux"]["cgroupsPath"] = ":" + path % name
        oci.ok("--systemd-cgroup", "create", "--bundle", b.save().dir, name)
        unit = (path % name).replace(":", "-") + ".scope"
        group = shown(unit, "ControlGroup")["ControlGroup"]
        assert driver.group(name) == TOP + group and escaped in (None, group == "/system.slice/_" + unit)
        oci.ok("delete", "--force", name)
    for slice_name in ("_skinktest%s.slice", "cpu.skinktest%s.slice"):
        name, unit = driver.create(path="::" + slice_name % world.id), slice_name % world.id
        assert driver.group(name) == TOP + shown(unit, "ControlGroup")["ControlGroup"]
        oci.ok("delete", "--force", name)
        assert not [one for one in os.listdir(TOP) if unit in one]
    name = driver.create(path=":a.b_c:%s\\x40d" % world.id)
    assert driver.group(name) == TOP + "/system.slice/a.b_c-%s\\x40d.scope" % world.id
    for bad in (":a:b c", ":a:b/c", "x:y", "a:b:c:d", "/abs/path", "nosuffix:a:b", "a--b.slice:c:d", "::", ":a:b@c", ":a:" + "x" * 250):
        b, other = driver.prepared(path=bad)
        oci.fails("--systemd-cgroup", "create", "--bundle", b.dir, other, match="linux.cgroupsPath")


def test_without_control_groups(driver, oci, world):
    b, name = driver.prepared()
    oci.ok("--cgroup-manager", "disabled", "create", "--bundle", b.dir, name)
    oci.ok("--cgroup-manager", "disabled", "start", name)
    assert units(world) == []
    assert read_text("/proc/%d/cgroup" % driver.pid(name)) == read_text("/proc/self/cgroup")
    oci.ok("delete", "--force", name)


@pytest.mark.parametrize("socket", ["/run/dbus/system_bus_socket", "/nonexistent"])
def test_the_bus_and_systemds_own_socket(driver, oci, world, socket):
    """The latter is the default; short messages go over it too."""
    way = {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=" + socket}
    b, name = driver.prepared(resources={"pids": {"limit": 20}})
    oci.ok("--systemd-cgroup", "create", "--bundle", b.dir, name, env=way)
    assert shown(scope(name), "TasksMax") == {"TasksMax": "20"}
    oci.ok("update", "--pids-limit", 21, name, env=way)
    assert shown(scope(name), "TasksMax") == {"TasksMax": "21"}
    oci.ok("delete", "--force", name, env=way)
    assert units(world) == []


def test_a_process_in_another_pid_namespace(driver, oci, world):
    """Its numbers mean other processes to systemd, which would be moved."""
    b, name = driver.prepared()
    oci.fails("--systemd-cgroup", "create", "--bundle", b.dir, name, match=["systemd", "pid namespace"],
              before=["unshare", "--pid", "--fork", "--mount-proc"])
    assert units(world) == []


@pytest.mark.vm_more
@pytest.mark.timeout(900)
def test_killed_create(driver, oci, world):
    """F01 with the real systemd, at some points; delete is enough afterwards."""
    b, name = driver.prepared(resources={"pids": {"limit": 20}})

    def create(number):
        result = oci("--systemd-cgroup", "create", "--bundle", b.dir, name, before=[support("killat"), str(number), "one"])
        return int(re.search(r"killat: seen (\d+)", result.err).group(1))
    count = create(0)
    oci.ok("delete", "--force", name)
    for number in range(count - 1, count // 4, -max(1, count // 8)):
        create(number)
        oci.ok("delete", "--force", name)
        wait_for(lambda: units(world) == [], message="killed at call %d of %d: %s" % (number, count, units(world)))
        assert world.leaks(5) == [], number

# SPDX-License-Identifier: Apache-2.0
"""skink-oci --systemd-cgroup on a host without systemd: with tests/support/fake_systemd.py, which can be a bad one.
What the real one does is in test_systemd.py."""

import json
import os
import random
import re
import subprocess
import time

import fake_systemd
import pytest
from fake_systemd import NAME, Systemd
from skinktest import ALL, Bundle, alive, cgroup_value, group_lines, listdir, read_text, support, wait_for

pytestmark = pytest.mark.without_systemd("processes would be moved behind its back")
SLEEP = ["sleep", "1000"]
MIB = 1 << 20
UNKNOWN = ("org.freedesktop.DBus.Error.ServiceUnknown", "The name org.freedesktop.systemd1 was not provided by any .service files")


@pytest.fixture
def systemd(world):
    one = Systemd(world.path("bus"))
    plain = world.environment
    # For the deletions of the teardown too.
    world.environment = lambda more=None: dict(plain(more), DBUS_SYSTEM_BUS_ADDRESS=one.address)
    yield one
    for name in listdir(world.oci_root):
        if not name.startswith("."):
            world.oci("delete", "--force", name)
    try:
        wait_for(lambda: not one.units, 10, message="units are left: %s" % list(one.units))
    finally:
        one.end()
        one.clean()
    assert one.problems == [], "what was sent is no good D-Bus"


@pytest.fixture
def prepared(world):
    def prepare(args=SLEEP, resources=None, path=None, annotations=None):
        b, name = Bundle(world, args), world.name()
        b.config["linux"]["cgroupsPath"] = "skinktest%s.slice:skinktest:%s" % (world.id, name) if path is None else path
        if resources:
            b.config["linux"]["resources"] = resources
        if annotations:
            b.config["annotations"] = annotations
        return b.save(), name
    return prepare


def scope(name):
    return "skinktest-%s.scope" % name


def create(oci, b, name):
    oci.ok("--systemd-cgroup", "create", "--bundle", b.dir, name)


def refused(oci, b, name, *words):
    result = oci.fails("--systemd-cgroup", "create", "--bundle", b.dir, name, match=list(words))
    oci.fails("state", name, match="does not exist")
    return result


def pid_of(oci, name):
    return json.loads(oci.ok("state", name))["pid"]


def test_what_systemd_is_told(oci, systemd, prepared, world):
    b, name = prepared(resources={"memory": {"limit": 64 * MIB}, "cpu": {"shares": 512, "quota": 15000, "period": 50000, "cpus": "0"},
                                  "pids": {"limit": 20}},
                       annotations={"org.systemd.property.TimeoutStopSec": "uint32 7", "org.systemd.property.CollectMode": "'inactive'"})
    create(oci, b, name)
    assert [member for member, _ in systemd.calls] == ["Hello", "AddMatch", "AddMatch", "Subscribe", "StartTransientUnit"]
    unit, mode, _, auxiliary = systemd.named("StartTransientUnit")[0]
    assert (unit, mode, auxiliary) == (scope(name), "fail", [])
    properties = systemd.properties()
    assert len(properties.pop("PIDs")) == 1
    assert properties.pop("DevicePolicy") == "strict"
    allowed = dict(properties.pop("DeviceAllow"))
    assert allowed["/dev/char/1:3"] == "rwm" and allowed["char-*"] == "m" and allowed["char-pts"] == "rwm"
    assert properties == {
        "Description": "skink container " + name, "Slice": "skinktest%s.slice" % world.id, "Delegate": True, "MemoryAccounting": True,
        "CPUAccounting": True, "IOAccounting": True, "TasksAccounting": True, "DefaultDependencies": False, "MemoryLimit": 64 * MIB,
        "CPUShares": 512, "CPUQuotaPeriodUSec": 50000, "CPUQuotaPerSecUSec": 300000, "AllowedCPUs": [1], "TasksMax": 20,
        "TimeoutStopUSec": 7000000, "CollectMode": "inactive"}
    group = "/skinktest%s.slice/%s" % (world.id, scope(name))
    pid = pid_of(oci, name)
    # On every hierarchy, those that systemd leaves alone too; and alone there.
    places = {line.split(":", 2)[2] for line in group_lines(pid)}
    assert places == {group}
    assert systemd.units[scope(name)].processes() == {pid}
    del systemd.calls[:]
    oci.ok("start", name)
    oci.ok("pause", name)
    oci.ok("resume", name)
    oci.ok("exec", name, "true")
    oci.ok("ps", name)
    assert systemd.calls == [], "nothing of this is systemd's business"
    oci.ok("update", "--memory", 32 * MIB, "--pids-limit", 9, name)
    unit, until_reboot, changed = systemd.named("SetUnitProperties")[0]
    assert (unit, until_reboot, dict(changed)) == (scope(name), True, {"MemoryLimit": 32 * MIB, "TasksMax": 9})
    del systemd.calls[:]
    oci.ok("delete", "--force", name)
    # Everything is killed by then; what the unit could still have in it is killed before it is stopped, if it is there.
    assert [member for member, _ in systemd.calls if member not in ("Hello", "AddMatch", "Subscribe")] in (["KillUnit", "StopUnit"], [])
    assert not alive(pid) and world.leaks(5) == []


def test_half_of_a_quota_is_told_with_the_other_half_in_force(oci, systemd, prepared):
    """systemd counts in a share of a processor, and writes both halves by it."""
    b, name = prepared(resources={"cpu": {"quota": 15000, "period": 50000}})
    create(oci, b, name)
    pid = pid_of(oci, name)
    for options, told, (quota, period) in (
            (["--cpu-quota", "30000"], {"CPUQuotaPerSecUSec": 600000}, ("30000", "50000")),
            (["--cpu-period", "100000"], {"CPUQuotaPeriodUSec": 100000, "CPUQuotaPerSecUSec": 300000}, ("30000", "100000")),
            (["--cpu-quota", "-1"], {"CPUQuotaPerSecUSec": (1 << 64) - 1}, ("-1", "100000")),
            (["--cpu-period", "50000"], {"CPUQuotaPeriodUSec": 50000, "CPUQuotaPerSecUSec": (1 << 64) - 1}, ("-1", "50000"))):
        oci.ok("update", *options, name)
        assert dict(systemd.named("SetUnitProperties")[-1][2]) == told, options
        assert cgroup_value(pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == quota, options
        assert cgroup_value(pid, "cpu", "cpu.cfs_period_us", "cpu.max").split()[-1] == period, options


@pytest.mark.skipif(os.path.exists("/sys/fs/cgroup/cgroup.controllers"), reason="systemd is told of devices on v1 alone")
def test_devices_that_are_denied_again_are_not_allowed_by_systemd(oci, systemd, prepared):
    """It writes its own rules when it looks at the unit again, as at a daemon-reload."""
    deny, allow = {"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": 1, "access": "rwm"}
    b, name = prepared(resources={"devices": [deny, allow, {"allow": False, "type": "c", "major": 1, "minor": 1, "access": "w"}]})
    create(oci, b, name)
    assert systemd.properties()["DevicePolicy"] == "strict"
    allowed = [access for device, access in systemd.properties()["DeviceAllow"] if device == "/dev/char/1:1"]
    assert allowed == ["rm"] and "c 1:1 rm" in cgroup_value(pid_of(oci, name), "devices", "devices.list", "")


@pytest.mark.parametrize("form", ["skinktest%s.slice:_a:%s", "skinktest%s.slice:.a:%s", "skinktest%s.slice:cpu.x:%s", "_skinktest%s.slice::%s", "::_skinktest%s-%s.slice"])
def test_names_of_groups_that_systemd_escapes(oci, systemd, prepared, world, form):
    """With one more "_": what systemd calls the group is where the container is."""
    b, name = prepared()
    b.config["linux"]["cgroupsPath"] = form % (world.id, name)
    create(oci, b.save(), name)
    unit, = systemd.units.values()
    pid = pid_of(oci, name)
    assert unit.group.rsplit("/", 1)[1].startswith("_") or "/__skinktest" in unit.group
    assert {line.split(":", 2)[2] for line in group_lines(pid)} == {unit.group} and pid in unit.processes()
    oci.ok("delete", "--force", name)
    assert not alive(pid) and world.leaks(5) == []


def test_processes_of_the_placeholder(oci, systemd, prepared):
    """It keeps nothing of the caller's open, and is gone when create returns."""
    seen = {}

    def look(client, serial, removed):
        if removed and client.systemd.named("StartTransientUnit"):
            pid = client.systemd.properties()["PIDs"][0]
            seen[pid] = (alive(pid), listdir("/proc/%d/fd" % pid))
        return b""
    systemd.noise = [look]
    b, name = prepared()
    create(oci, b, name)
    (pid, (lives, open_files)), = seen.items()
    assert lives and open_files == []
    assert not os.path.exists("/proc/%d" % pid) or pid == pid_of(oci, name)


def test_a_failed_unit_is_forgotten_first(oci, systemd, prepared):
    b, name = prepared()
    systemd.remembered.add(scope(name))
    create(oci, b, name)
    assert [member for member, _ in systemd.calls][3:] == ["Subscribe", "StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"]
    assert systemd.named("ResetFailedUnit") == [[scope(name)]]


def test_a_living_unit_is_left_alone(oci, systemd, prepared, world):
    process = subprocess.Popen(SLEEP)
    try:
        b, name = prepared()
        unit = fake_systemd.Unit(scope(name), "/skinktest%s.slice/%s" % (world.id, scope(name)), {})
        unit.make([process.pid])
        systemd.units[unit.name] = unit
        refused(oci, b, name, "linux.cgroupsPath", scope(name), "exists already", "systemctl status")
        oci("delete", "--force", name)
        assert process.poll() is None and unit.processes() == {process.pid}
        assert not {"KillUnit", "StopUnit", "SetUnitProperties"} & {member for member, _ in systemd.calls}
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("result", ["failed", "timeout", "canceled", "dependency", "\x1b[31m"])
def test_a_job_that_ends_otherwise(oci, systemd, prepared, world, result):
    systemd.result = result
    refused(oci, *prepared(), "linux.cgroupsPath", "start", "systemd says", "systemctl status")
    assert world.leaks(5) == []


def test_errors_of_systemd_are_told(oci, systemd, prepared, world):
    for number, (member, words) in enumerate([("StartTransientUnit", "Cannot set property Foo, or unknown property."),
                                              ("Hello", "The maximum number of active connections for UID 0 has been reached"),
                                              ("AddMatch", "Rule denied")]):
        systemd.errors = {member: ("org.freedesktop.DBus.Error.%d" % number, words)}
        refused(oci, *prepared(), re.escape(words), r"\(org.freedesktop.DBus.Error.%d\)" % number)
        assert world.leaks(5) == []
    systemd.errors = {"StartTransientUnit": ("System.Error.ENXIO", "Unexpected message contents")}
    refused(oci, *prepared(annotations={"org.systemd.property.Foo": "true", "org.systemd.property.BarSec": "5"}), "annotations ask for BarUSec, Foo")
    systemd.errors = {"StartTransientUnit": ("a.b.C", "line\nand \x1b[31mred")}
    refused(oci, *prepared(), r"\\x0a|\\n")


def test_answers_that_are_no_obstacle(oci, systemd, prepared):
    systemd.errors = {"Subscribe": (NAME + ".AlreadySubscribed", "Client is already subscribed.")}
    create(oci, *prepared())
    systemd.errors = {}
    systemd.chunk = 1
    create(oci, *prepared())
    systemd.chunk = 1 << 20
    systemd.signal_first = True
    b, name = prepared()
    create(oci, b, name)
    oci.ok("delete", "--force", name)
    # systemd before version 243 answers so.
    systemd.auth = b"OK 0123456789abcdef0123456789abcdef\r\n" * 2
    create(oci, *prepared())


def test_messages_that_nobody_asked_for(oci, systemd, prepared):
    """Signals of others, answers and errors for calls that were not made, calls of ours."""
    def forged(client, serial, removed):
        path = "/org/freedesktop/systemd1/job/%d" % (client.systemd.jobs if removed else client.systemd.jobs + 1)
        out = b""
        for result in ("failed", "done"):
            # The bus delivers what anybody sends to us, with the sender's own name.
            out += client.job_removed(":1.666", (1, path, "x.scope", result))
            out += client.job_removed("org.freedesktop.systemd1", (1, path, "x.scope", result))
        return out

    def strays(client, serial, removed):
        return (client.put(fake_systemd.ANSWER, serial + 1000, fake_systemd.MANAGER, "o", "/org/freedesktop/systemd1/job/999") +
                client.put(fake_systemd.ERROR, serial + 1000, fake_systemd.MANAGER, "s", "not for us") +
                client.job_removed(fake_systemd.MANAGER, (999, "/org/freedesktop/systemd1/job/999", "other.scope", "failed")) +
                fake_systemd.message(fake_systemd.SIGNAL, 77, [(1, ("o", "/")), (2, ("s", "a.b")), (3, ("s", "JobRemoved"))], "s", "x") +
                fake_systemd.message(fake_systemd.CALL, 78, [(1, ("o", "/")), (3, ("s", "Ping"))]) +
                fake_systemd.message(9, 79, []))
    systemd.noise = [forged, strays]
    for signal_first in (False, True):
        systemd.signal_first = signal_first
        b, name = prepared()
        create(oci, b, name)
        oci.ok("update", "--pids-limit", 7, name)
        oci.ok("delete", "--force", name)


@pytest.mark.parametrize("auth", [b"REJECTED EXTERNAL\r\n", b"DATA\r\nREJECTED\r\n", b"DATA\r\nDATA\r\n", b"ERROR \x1b[31m\r\n", b"\r\n", b"HTTP/1.1 400 Bad Request\r\n"])
def test_a_bus_that_lets_nobody_in(oci, systemd, prepared, world, auth):
    systemd.auth = auth
    refused(oci, *prepared(), "does not let this user in|closed the connection")
    assert world.leaks(5) == []


def test_something_else_than_a_bus(oci, systemd, prepared):
    systemd.auth = b"x" * 100000 + b"OK"
    refused(oci, *prepared(), "something else than D-Bus|closed the connection|send to systemd")


# It is waited for each time.
@pytest.mark.parametrize("member", ["Hello", "AddMatch", "Subscribe", "StartTransientUnit"] if ALL else ["StartTransientUnit"])
def test_a_bus_that_goes_in_the_middle(oci, systemd, prepared, world, member):
    for attribute in ({"hang_up": (member,)}, {"cut": member}):
        for name, value in attribute.items():
            setattr(systemd, name, value)
        # Everything is sent at once: it may be done when it is lost.
        name = world.name()
        result = oci("--systemd-cgroup", "create", "--bundle", prepared()[0].dir, name)
        if systemd.cut == "StartTransientUnit":
            assert result.status == 0 and pid_of(oci, name) > 0
            oci.ok("delete", "--force", name)
            continue
        assert result.status == 1 and "closed the connection" in result.err or "send to systemd" in result.err, result
        wait_for(lambda: not systemd.units)
        assert world.leaks(5) == []
        systemd.hang_up, systemd.cut = (), None


@pytest.mark.parametrize("works_first", [False, True])
@pytest.mark.parametrize("kind", ["scope", "slice"])
def test_a_systemd_that_executes_itself_anew(oci, systemd, prepared, world, kind, works_first):
    """daemon-reexec: every connection is lost, and what was asked for may be done by then."""
    def lose(member):
        systemd.hang_up, systemd.hang_up_times, systemd.works_first = (member,), 2, works_first

    b, name = prepared(path="skinktest%s.slice:skinktest:skinktest%s-x.slice" % (world.id, world.id) if kind == "slice" else None)
    lose("StartTransientUnit")
    create(oci, b, name)
    pid = pid_of(oci, name)
    assert pid in next(iter(systemd.units.values())).processes() and len(systemd.named("StartTransientUnit")) == (1 if works_first else 3)
    lose("SetUnitProperties")
    oci.ok("--systemd-cgroup", "update", "--pids-limit", "50", name)
    assert len(systemd.named("SetUnitProperties")) >= 3
    lose("StopUnit")
    oci.ok("--systemd-cgroup", "delete", "--force", name)
    assert not alive(pid) and world.leaks(5) == []


def test_a_systemd_that_leaves_the_bus(oci, systemd, prepared):
    """The bus stays, and says so; the answer would never come."""
    systemd.raw = {"StartTransientUnit": fake_systemd.message(
        fake_systemd.SIGNAL, 1, [(1, ("o", "/org/freedesktop/DBus")), (2, ("s", fake_systemd.BUS)), (3, ("s", "NameOwnerChanged")), (7, ("s", fake_systemd.BUS))],
        "sss", NAME, ":1.0", "")}
    b, name = prepared()
    create(oci, b, name)
    assert len(systemd.named("StartTransientUnit")) == 2


BIG = fake_systemd.message(fake_systemd.ANSWER, 1, [(5, ("u", 4))], "o", "/a")


@pytest.mark.parametrize("raw", [b"B" + BIG[1:], BIG[:3] + b"\2" + BIG[4:], BIG[:4] + b"\xff\xff\xff\xff" + BIG[8:], BIG[:12] + b"\xff\xff\xff\x07" + BIG[16:],
                                 BIG[:16] + b"\xff" * (len(BIG) - 16), os.urandom(4096)],
                         ids=["order", "version", "long", "long-header", "header", "random"])
def test_messages_that_are_none(oci, systemd, prepared, world, raw):
    systemd.raw = {"StartTransientUnit": raw}
    systemd.hang_up = ()
    b, name = prepared()
    process = oci.start("--systemd-cgroup", "create", "--bundle", b.dir, name)
    # One that says it is longer than what comes is waited for: then the other side goes.
    wait_for(lambda: systemd.named("StartTransientUnit"))
    time.sleep(0.1)
    systemd.end()
    assert process.wait(20) == 1
    said = process.stderr.read().decode()
    assert said.count("\n") == 1 and ("message from the bus" in said or "closed the connection" in said), said
    assert world.leaks(5) == []


def test_an_answer_without_a_job(oci, systemd, prepared, world):
    def other(client, serial, removed):
        return client.put(fake_systemd.ANSWER, serial, fake_systemd.MANAGER) if removed else b""
    systemd.noise = [other]
    refused(oci, *prepared(), "names no job")
    wait_for(lambda: not systemd.units)


def test_a_process_that_is_not_moved(oci, systemd, prepared, world):
    systemd.moves = False
    refused(oci, *prepared(), "has not put process")
    wait_for(lambda: not systemd.units)
    assert world.leaks(5) == []


def test_another_pid_namespace(oci, systemd, prepared, world):
    """What has our numbers there would be moved, and killed with the unit."""
    b, name = prepared()
    oci.fails("--systemd-cgroup", "create", "--bundle", b.dir, name, match=["PID namespace", "--systemd-cgroup"],
              before=["unshare", "--pid", "--fork", "--mount-proc"])
    assert systemd.calls == []


def test_a_systemd_that_is_gone_at_the_end(oci, systemd, prepared, world):
    b, name = prepared(resources={"memory": {"limit": 64 * MIB}})
    create(oci, b, name)
    pid = pid_of(oci, name)
    systemd.end()
    oci.ok("delete", "--force", name)
    assert not alive(pid)
    unit = systemd.units.pop(scope(name))
    assert not [one for one in unit.directories() if os.path.exists(one)]
    # The slice was systemd's.
    unit.remove()
    assert world.leaks(5) == []


@pytest.mark.parametrize("failure", [UNKNOWN, ("org.freedesktop.DBus.Error.NoReply", "Message recipient disconnected from message bus without replying"),
                                     ("org.freedesktop.DBus.Error.AccessDenied", "no")])
def test_a_bus_without_systemd_at_the_end(oci, systemd, prepared, world, failure):
    """A scope without a process ends when systemd comes back: it must not keep the container."""
    b, name = prepared()
    create(oci, b, name)
    systemd.errors = {"StopUnit": failure, "KillUnit": failure}
    oci.ok("delete", "--force", name)
    assert world.leaks(5) == []


def test_a_unit_that_ended_before(oci, systemd, prepared, world):
    b, name = prepared(["true"])
    create(oci, b, name)
    oci.ok("start", name)
    wait_for(lambda: not systemd.units)
    oci.ok("delete", name)
    assert world.leaks(5) == []
    b, name = prepared(["sh", "-c", "exit 3"])
    assert oci("--systemd-cgroup", "run", "--bundle", b.dir, name).status == 3


def test_many_at_once(oci, systemd, prepared):
    pairs = [prepared(["true"]) for _ in range(12)]
    processes = [oci.start("--systemd-cgroup", "run", "--bundle", b.dir, name) for b, name in pairs]
    assert [process.wait(60) for process in processes] == [0] * 12, [process.stderr.read() for process in processes]


def test_a_slice(oci, systemd, prepared, world):
    unit = "skinktest%s.slice" % world.id
    b, name = prepared(path="::" + unit, resources={"pids": {"limit": 9}})
    create(oci, b, name)
    properties = systemd.properties()
    assert properties["Wants"] == ["system.slice"] and properties["TasksMax"] == 9
    assert not {"PIDs", "Delegate", "Slice"} & set(properties)
    assert {line.split(":", 2)[2] for line in group_lines(pid_of(oci, name))} == {"/" + unit}
    oci.ok("delete", "--force", name)
    assert systemd.units == {}


# F01: killed at every system call.

def points(seen, sample):
    if ALL:
        return list(range(1, seen + 1))
    step = max(1, seen // sample)
    offset = random.Random(time.time() // 86400).randrange(step)
    return sorted({1, 2, seen - 1, seen} | set(range(1 + offset, seen + 1, step)))


def kill_at(oci, number, which, *words):
    result = oci(*words, before=[support("killat"), str(number), which], timeout=90)
    found = re.search(r"killat: seen (\d+), (killed|ended) (-?\d+)", result.err)
    assert found, result
    return int(found.group(1)), int(found.group(3))


@pytest.mark.timeout(7200 if ALL else 400)
@pytest.mark.parametrize("kind", ["scope", "slice"])
@pytest.mark.parametrize("which", ["all", "one"])
def test_f01_create_is_killed_at_every_call(oci, systemd, prepared, world, which, kind):
    """Then delete leaves neither unit nor group; without it there is no unit either, as long as no process was made."""
    b, name = prepared(resources={"memory": {"limit": 64 * MIB}}, path=None if kind == "scope" else "::skinktest%s.slice" % world.id)
    words = ["--systemd-cgroup", "create", "--bundle", b.dir, name]
    seen, status = kill_at(oci, 0, which, *words)
    assert status == 0
    oci.ok("delete", "--force", name)
    for number in points(seen, 40):
        kill_at(oci, number, which, *words)
        wait_for(lambda: oci("delete", "--force", name).status == 0, 20)
        wait_for(lambda: not systemd.units, 10, message="killed at %d of %d: %s" % (number, seen, list(systemd.units)))
        assert world.leaks(8) == [], number
    create(oci, b, name)


@pytest.mark.timeout(7200 if ALL else 400)
@pytest.mark.parametrize("verb", ["delete", "update"])
def test_f01_later_verbs_are_killed_at_every_call(oci, systemd, prepared, world, verb):
    b, name = prepared(resources={"memory": {"limit": 64 * MIB}})
    words = {"delete": ["delete", "--force", name], "update": ["update", "--memory", "48m", name]}[verb]
    create(oci, b, name)
    seen, status = kill_at(oci, 0, "all", *words)
    assert status == 0
    oci.ok("delete", "--force", name)
    for number in points(seen, 20):
        create(oci, b, name)
        kill_at(oci, number, "all", *words)
        oci.ok("delete", "--force", name)
        # It forgets a unit when it has seen the group empty.
        wait_for(lambda: systemd.units == {}, 8)
        assert world.leaks(8) == [], number

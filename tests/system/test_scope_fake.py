# SPDX-License-Identifier: Apache-2.0
"""Containers in scopes of a systemd that is tests/support/fake_systemd.py, in a view with cgroup v2 alone. What the real
one does is in test_scope.py."""

import os
import shutil
import subprocess

import fake_systemd
import pytest
from fake_systemd import Systemd
from skinktest import alive, kill_quietly, listdir, read_text, wait_for

UNIFIED = "/sys/fs/cgroup/unified"
pytestmark = [pytest.mark.not_vm(reason="a systemd of its own"),
              pytest.mark.skipif(not os.path.exists(UNIFIED + "/cgroup.procs"), reason="no hybrid host")]
VIEW = ["unshare", "--mount", "--propagation", "private", "sh", "-ec",
        'umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; mount -t tmpfs none /run; mkdir -p /run/systemd/system; exec "$@"', "sh"]


@pytest.fixture
def systemd(world, monkeypatch):
    monkeypatch.setattr(fake_systemd, "hierarchies", lambda: [UNIFIED])
    one = Systemd(world.path("bus"))
    plain = world.environment
    world.environment = lambda more=None: {**plain(more), "DBUS_SYSTEM_BUS_ADDRESS": one.address, **(more or {})}
    yield one
    try:
        for name in listdir(world.path("store/containers")):
            world.skink.ok("rm", "-f", name, before=VIEW)
        wait_for(lambda: not one.units, 10, message="units are left: %s" % list(one.units))
    finally:
        one.end()
        one.clean()
    assert one.problems == [], "what was sent is no good D-Bus"


@pytest.fixture
def started(sk, systemd, world):
    """A container of which nothing is in a group of v1; its facts."""
    def start(*options, **more):
        name = world.name()
        sk.ok("run", "-d", "--name", name, "--pids-limit", "-1", *options, "busybox", "sleep", "1000", before=VIEW, **more)
        return sk.inspect(name)
    return start


def group_of(pid):
    lines = (read_text("/proc/%d/cgroup" % pid, "") or "").splitlines()
    return next((line[3:] for line in lines if line.startswith("0::")), "")


def scope_of(facts):
    return "skink-%s.scope" % facts["id"]


def members(facts, below):
    return [int(pid) for pid in (read_text("%s/skink.slice/%s/%s/cgroup.procs" % (UNIFIED, scope_of(facts), below), "") or "").split()]


def lose_run_directory(world, facts):
    shutil.rmtree(os.path.join(world.run_dir, "containers", facts["id"]))


def lose_keepers(facts):
    for which in ("guard_pid", "supervisor_pid"):
        kill_quietly(facts[which])
    wait_for(lambda: not alive(facts["guard_pid"]) and not alive(facts["supervisor_pid"]))


def without_bus(world):
    return {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=" + world.path("nobody")}


def test_a_scope_stops_before_what_its_container_may_need(systemd, started):
    """And has the container's own time for it, however long that is."""
    systemd.active = ("local-fs.target", "network.target", "remote-fs.target", "multi-user.target")
    facts = started("--stop-timeout", "600")
    properties = systemd.properties()
    assert sorted(properties["After"]) == ["local-fs.target", "network.target", "remote-fs.target"]
    assert properties["TimeoutStopUSec"] >= 600_000_000
    assert members(facts, "container") == [facts["pid"]] and len(members(facts, "supervisor")) == 2


def test_a_scope_waits_for_nothing_that_is_not_up_yet(systemd, started):
    systemd.active = ("local-fs.target",)
    started()
    assert systemd.properties()["After"] == ["local-fs.target"]


def test_f28_a_damaged_run_directory_is_not_the_end_of_a_container_in_a_scope(sk, world, started):
    """F28: nor of what it has written, and of its record; it can be ended, and that is all that can be done with it."""
    facts = started("--writable", "--rm")
    os.unlink(os.path.join(world.run_dir, "containers", facts["id"], "status.json"))
    kill_quietly(facts["supervisor_pid"])
    wait_for(lambda: not alive(facts["supervisor_pid"]))
    store = world.path("store/containers/" + facts["id"])
    complaints = os.path.join(world.run_dir, "containers", facts["id"], "supervisor.log")
    wait_for(lambda: "run directory is damaged" in (read_text(complaints, "") or ""))
    assert alive(facts["pid"]) and [name for name in listdir(store) if name.startswith("upper.")]
    sk.ok("rm", "-f", facts["id"], before=VIEW)
    assert not alive(facts["pid"])


@pytest.mark.full
def test_f28_without_the_bus_a_lost_run_directory_still_leads_to_the_container(sk, world, started):
    """F28: with a systemd it may be in a scope or, when its bus was not there, where it is without one."""
    facts = started(env=without_bus(world))
    assert group_of(facts["pid"]) == "/skink/" + facts["id"]
    lose_run_directory(world, facts)
    sk.ok("rm", "-f", facts["id"], before=VIEW, timeout=40)
    assert not alive(facts["pid"]) and not alive(facts["guard_pid"])


@pytest.mark.parametrize("bus", [True, False])
def test_f28_a_lost_run_directory_and_dead_keepers(sk, world, started, bus):
    facts = started(env={} if bus else without_bus(world))
    lose_run_directory(world, facts)
    lose_keepers(facts)
    sk.ok("rm", "-f", facts["id"], before=VIEW)
    assert not alive(facts["pid"])


def test_keepers_that_come_back_to_a_scope_that_lives(sk, systemd, started):
    facts = started("--restart", "always")
    lose_keepers(facts)
    del systemd.calls[:]
    sk.ok("ps", before=VIEW)
    wait_for(lambda: len(members(facts, "supervisor")) == 2)
    assert members(facts, "container") == [facts["pid"]] and not systemd.named("StartTransientUnit")


def test_a_scope_that_systemd_has_given_up_is_made_anew(sk, systemd, started):
    """Somebody in it is still dying when the new keepers come."""
    facts = started("--restart", "always")
    with subprocess.Popen(["sleep", "1000"]) as dying:
        with systemd.lock:
            with open("%s/skink.slice/%s/supervisor/cgroup.procs" % (UNIFIED, scope_of(facts)), "w") as procs:
                procs.write(str(dying.pid))
            del systemd.units[scope_of(facts)]
        for which in ("guard_pid", "supervisor_pid", "pid"):
            kill_quietly(facts[which])
        wait_for(lambda: not any(alive(facts[which]) for which in ("guard_pid", "supervisor_pid", "pid")))
        del systemd.calls[:]
        look = sk.start("ps", before=VIEW, stdout=subprocess.DEVNULL)
        wait_for(lambda: any(member == "GetUnit" for member, _ in systemd.calls))
        dying.kill()
        dying.wait()
    assert look.wait(timeout=60) == 0
    assert systemd.named("StartTransientUnit")[0][0] == scope_of(facts)
    wait_for(lambda: len(members(facts, "supervisor")) == 2 and members(facts, "container"))
    assert scope_of(facts) in systemd.units


def test_a_program_in_a_scope_that_systemd_has_given_up_gets_its_keepers(sk, systemd, started):
    facts = started("--restart", "always")
    with systemd.lock:
        unit = systemd.units.pop(scope_of(facts))
    lose_keepers(facts)
    sk.ok("ps", before=VIEW)
    wait_for(lambda: len(members(facts, "supervisor")) == 2)
    assert alive(facts["pid"])
    sk.ok("rm", "-f", facts["id"], before=VIEW)
    wait_for(lambda: not unit.processes())
    unit.remove()

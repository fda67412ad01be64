# SPDX-License-Identifier: Apache-2.0
"""A hundred containers at once, and many starts in parallel."""

import json
import os
import time

import pytest
from skinktest import ALL, alive, read_text, wait_for


@pytest.mark.timeout(900)
def test_a_hundred_containers_at_once(sk, world):
    """F40: ten starts at a time, all of them run and are told apart."""
    count = 300 if ALL else 100
    names = [world.name() for _ in range(count)]
    starting = []
    for n, name in enumerate(names):
        starting.append(sk.start("run", "-d", "--name", name, "--restart", "always", "busybox", "sh", "-c", "echo %d; sleep 5000" % n))
        if len(starting) >= 10:
            first = starting.pop(0)
            out, err = first.communicate(timeout=120)
            assert first.returncode == 0, err
    for one in starting:
        out, err = one.communicate(timeout=120)
        assert one.returncode == 0, err
    rows = {row["name"]: row for row in sk.ps()}
    assert set(rows) == set(names) and all(row["state"] == "running" for row in rows.values())
    assert len({row["pid"] for row in rows.values()}) == count
    victims = names[::10]
    for name in victims:
        os.kill(rows[name]["pid"], 9)
    wait_for(lambda: all(row["pid"] not in (0, rows[row["name"]]["pid"]) and row["state"] == "running"
                         for row in sk.ps() if row["name"] in victims), 90)
    for n, name in list(enumerate(names))[::17]:
        assert str(n) in sk.ok("logs", name).split()
    sk.ok("rm", "-f", *names, timeout=300)
    assert sk.ps() == []
    assert not any(alive(row["pid"]) for row in rows.values())


def start_all(sk, commands):
    """{name: command} as detached containers, ten at a time."""
    starting = []
    for name, command in commands.items():
        starting.append(sk.start("run", "-d", "--name", name, "--restart", "always", "busybox", *command))
        if len(starting) >= 10:
            _, err = starting.pop(0).communicate(timeout=300)
            assert err == b"", err
    for one in starting:
        _, err = one.communicate(timeout=300)
        assert one.returncode == 0 and err == b"", err


def ran(pid):
    """For how long a process has been on a processor, to the nanosecond."""
    return read_text("/proc/%d/schedstat" % pid, "gone").split()[0]


def still(pids):
    """Those that have not run at all for a moment."""
    before = {pid: ran(pid) for pid in pids}
    time.sleep(0.5)
    return {pid for pid in pids if ran(pid) == before[pid]}


@pytest.mark.timeout(1800)
def test_many_of_which_some_crash_again_and_again(sk, world):
    """They are listed as what they are, and no supervisor is busy, not even one that waits for the next try."""
    count, crashing = (1000, 100) if ALL else (30, 3)
    commands = {world.name(): ["sleep", "5000"] if n >= crashing else ["false"] for n in range(count)}
    bad = list(commands)[:crashing]
    start_all(sk, commands)
    # Each has failed a few times and waits: the pauses grow, so all of them do at some time.
    wait_for(lambda: all(sk_row["restarts"] >= 3 for sk_row in sk.ps() if sk_row["name"] in bad), 300)
    rows = {row["name"]: row for row in sk.ps()}
    assert set(rows) == set(commands)
    assert all(rows[name]["state"] == "running" for name in commands if name not in bad)
    assert {rows[name]["state"] for name in bad} <= {"restarting", "running"}
    busy = {row["supervisor_pid"] for row in rows.values()}
    assert len(busy) == count

    def all_were_still():
        busy.difference_update(still(busy))
        return not busy
    wait_for(all_were_still, 300, message="always busy: %s" % busy)
    sk.ok("rm", "-f", *commands, timeout=600)
    assert sk.ps() == []


def test_many_loads_of_one_image_at_once(bare, world):
    import mkimg
    from skinktest import busybox_image
    path = mkimg.oci_archive(world.path("x.tar"), busybox_image("same"))
    loads = [bare.start("load", path) for _ in range(8)]
    for one in loads:
        out, err = one.communicate(timeout=120)
        assert one.returncode == 0, err
    assert len(json.loads(bare.ok("images", "--format", "json"))) == 1 if bare.ok("images", "--format", "json").startswith("[") else True
    assert bare.ok("run", "--rm", "same", "echo", "x") == "x"


def test_short_containers_in_a_row(sk):
    for n in range(100 if ALL else 25):
        assert sk("run", "--rm", "busybox", "sh", "-c", "exit %d" % (n % 100)).status == n % 100

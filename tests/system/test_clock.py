# SPDX-License-Identifier: Apache-2.0
"""F25: the clock is set back and forth by a day, under containers that run, wait, are probed and write. Whoever waits waits as long
as he was to, what is told of the past and of what is to come is right by the clock as it is set now, and the log is whole."""

import itertools
import re
import subprocess
import time

import pytest
from skinktest import SLOWER, wait_for

# It is everybody's clock: the machine's own, and nobody else is at work.
pytestmark = [pytest.mark.vm_only, pytest.mark.alone]

DAY = 86400


def set_by(seconds):
    """Sets the clock, from what it would be by now."""
    time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME) + seconds)


@pytest.fixture(params=[DAY, pytest.param(10 * 365 * DAY, marks=pytest.mark.full)], ids=["a-day", "ten-years"])
def jump(request):
    """Back, forth by twice as much, back, ..."""
    subprocess.run(["timedatectl", "set-ntp", "false"], capture_output=True)
    begun = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    jumps = itertools.chain([-request.param], itertools.cycle([2 * request.param, -2 * request.param]))
    yield lambda: set_by(next(jumps))
    time.clock_settime(time.CLOCK_REALTIME, begun + time.clock_gettime(time.CLOCK_BOOTTIME))


@pytest.mark.vm_more
def test_f25_what_waits_runs_and_is_asked_while_the_clock_jumps(sk, jump):
    counting = sk.running("--restart", "no", command=["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done"])
    waiting = sk.running("--restart", "always", "--restart-delay", "20m", "--restart-max-delay", "20m", command=["false"])
    probed = sk.running("--restart", "always", "--liveness", "exec:test -e /dev/null,interval=200ms,timeout=20s,failures=2", "--readiness",
                        "exec:test -e /tmp/ready,interval=200ms", command=["sh", "-c", "sleep 1000"])
    wait_for(lambda: sk.row(waiting)["restarts"] == 2 and sk.state(waiting) == "restarting")
    wait_for(lambda: sk.inspect(probed)["health"] == "healthy")
    before = {name: sk.inspect(name)["pid"] for name in (counting, probed)}
    jump()
    for again in (False, True):
        # In some twenty minutes, not in a day, and not a day ago.
        text = sk.row(waiting)["status"]
        assert 600 < int(re.search(r"next try in (\d+) s", text)[1]) <= 1320, text
        ups = [sk.row(name)["status"] for name in (counting, probed)]
        assert not any(word in up for up in ups for word in ("day", "hour", "year", "week", "month")), ups
        if not again:
            jump()
    # Probes go on at their pace and see what changes; the relaunch does not come before its time.
    sk.ok("exec", probed, "touch", "/tmp/ready")
    wait_for(lambda: sk.inspect(probed)["ready"])
    assert sk.state(waiting) == "restarting" and sk.row(waiting)["restarts"] == 2
    assert {name: sk.inspect(name)["pid"] for name in (counting, probed)} == before
    # A shorter wait that begins now is as long as it was to be.
    again = sk.running("--restart", "always", "--restart-delay", "2s", "--restart-jitter", "0", command=["false"])
    wait_for(lambda: sk.row(again)["restarts"] == 2, step=0.01)
    jump()
    since = time.monotonic()
    wait_for(lambda: sk.row(again)["restarts"] == 3, step=0.05)
    assert time.monotonic() - since < 15 * SLOWER
    # A stop that waits for SIGKILL, too.
    stubborn = sk.running("--restart", "no", command=["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"])
    stop = sk.start("stop", "-t", "2", stubborn)
    wait_for(lambda: sk.row(stubborn)["state"] in ("running", "exited"))
    jump()
    assert stop.wait(timeout=60 * SLOWER) == 0 and sk.inspect(stubborn)["exit"]["status"] == 137


@pytest.mark.vm_more
def test_f25_the_log_and_the_history_over_a_jump(sk, jump):
    name = sk.running("--restart", "always", "--restart-delay", "1ms", "--restart-jitter", "0", command=[
        "sh", "-c", "echo before; until [ -e /tmp/go ]; do sleep 0.1; done; echo after; exit 4"])
    wait_for(lambda: sk.ok("logs", name) == "before")
    follower = sk.start("logs", "-f", name)
    jump()
    sk.ok("exec", name, "touch", "/tmp/go")
    wait_for(lambda: sk.ok("logs", name).split() == ["before", "after", "before"])
    jump()
    # Each by its own stamp, in the order in which they were written; none hides another.
    shown = [line.split() for line in sk.ok("logs", "-t", name).splitlines()]
    assert [word for _, word in shown] == ["before", "after", "before"]
    for stamp in {shown[0][0], shown[1][0]}:
        expected = [word for at, word in shown if at >= stamp]
        assert sk.ok("logs", "--since", stamp, name).split() == expected
        assert sk.ok("logs", "--until", stamp, name).split() == [word for at, word in shown if at <= stamp]
    # By now all of it is two days or one day old, by its stamps.
    assert sk.ok("logs", "--since", "10m", name) == "" and sk.ok("logs", "--since", "1", name).split() == ["before", "after", "before"]
    assert sk.ok("logs", "--tail", "2", name).split() == ["after", "before"]
    # The run that was over it began, by the clock as it is now, just before it ended.
    run = sk.history(name)[0]
    assert run["exit"]["status"] == 4 and abs(seconds(run["exit"]["at"]) - seconds(run["started"])) < 300, run
    # Later runs, and what one command starts and another removes.
    assert sk.ok("run", "--rm", "busybox", "echo", "fine") == "fine"
    sk.ok("stop", "-t", "0", name)
    out = follower.communicate(timeout=60 * SLOWER)[0]
    assert out.decode().split() == ["before", "after", "before"]
    assert sk("doctor").status == 0, sk("doctor")


def seconds(stamp):
    done = subprocess.run(["date", "-d", stamp, "+%s"], capture_output=True, check=True)
    return int(done.stdout)

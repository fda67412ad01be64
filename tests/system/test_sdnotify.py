# SPDX-License-Identifier: Apache-2.0
"""sd_notify of containers: what a program says of itself, who may say it, its watchdog, and systemd behind it."""

import json
import os
import signal
import socket
import time

import pytest
from skinktest import alive, kill_quietly, read_text, sanitized, wait_for

IDLE = ["sleep", "1000"]


def says(sk, name, *lines):
    """From a process of the container; over when the supervisor has heard it."""
    out = sk.ok("exec", name, "probe", "notify", *lines)
    assert "notify: ok" in out and "released: 1" in out, out


def actions(sk, name, action):
    lines = sk.ok("events", "--until", "0s", "--filter", "container=" + name, "--format", "json").splitlines()
    return [one["attributes"] for one in map(json.loads, lines) if one["action"] == action]


def notify_socket(sk, name):
    return "%s/containers/%s/notify/notify.sock" % (sk.world.run_dir, sk.inspect(name)["id"])


def test_ready_status_and_stopping_are_shown_and_told(sk):
    """A read-only root, a network of its own and another user: the socket is a file of its mount."""
    name = sk.running("--sdnotify", "container", "-u", "1234:1234", command=["sh", "-c", "echo $NOTIFY_SOCKET $WATCHDOG_USEC; exec sleep 1000"])
    one = sk.inspect(name)
    assert one["sdnotify"] == "container" and one["ready"] is False and "(not ready)" in one["status"] and one["health"] == ""
    says(sk, name, "STATUS=loading \x1b[31m12 %", "MAINPID=1", "X=Y")
    assert sk.inspect(name)["ready"] is False and sk.inspect(name)["said"] == "loading \x1b[31m12 %"
    assert "\\x1b[31m12 %" in sk.row(name)["status"] and "\x1b" not in sk.ok("ps")
    says(sk, name, "READY=1", "STATUS=serving")
    assert sk.inspect(name)["ready"] is True and sk.row(name)["status"].endswith(": serving")
    assert "serving" in sk.ok("why", name) and actions(sk, name, "ready") == [{"ready": True}]
    says(sk, name, "STOPPING=1")
    assert sk.inspect(name)["ready"] is False and actions(sk, name, "ready") == [{"ready": True}, {"ready": False}]
    assert sk.ok("logs", name) == "/run/notify/notify.sock"
    sk.ok("restart", "-t", "0", name)
    assert sk.inspect(name)["said"] == "" and sk.inspect(name)["ready"] is False, "it is what another run has said"


@pytest.mark.vm  # another hierarchy: the group is a scope's there
def test_only_processes_of_the_container_are_heard(sk):
    name = sk.running("--sdnotify", "container")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        directory = os.open(os.path.dirname(notify_socket(sk, name)), os.O_PATH)
        stranger.sendto(b"READY=1\nSTATUS=hello from the host\n", "/proc/self/fd/%d/notify.sock" % directory)
        os.close(directory)
        other = sk.running()
        assert sk.ok("exec", other, "sh", "-c", "echo x$NOTIFY_SOCKET; ls /run/notify 2>&1 | wc -l") == "x\n1"
        says(sk, name, "X_SEEN=1")  # it comes after that of the stranger
    one = sk.inspect(name)
    assert one["said"] == "" and one["ready"] is False
    assert "read-only" in sk("exec", name, "sh", "-c", "touch /run/notify/x").err.lower()


def test_what_floods_or_lingers_holds_nobody_up(sk):
    """A descriptor whose last close takes an hour, and datagrams without end."""
    name = sk.running("--sdnotify", "container", "--restart", "no", command=["sh", "-c", "probe notifylinger & sleep 0.2; exec probe notifyflood"])
    wait_for(lambda: sk.inspect(name)["said"].startswith("flood"))
    keeper = sk.inspect(name)["supervisor_pid"]
    size = lambda: int(read_text("/proc/%d/statm" % keeper).split()[1])
    ticks = lambda: sum(map(int, read_text("/proc/%d/stat" % keeper).rsplit(")", 1)[1].split()[11:13]))
    before, used = size(), ticks()
    first = sk.inspect(name)["said"]
    for _ in range(5):
        assert sk.ok("exec", name, "echo", "here") == "here"
    assert wait_for(lambda: sk.inspect(name)["said"] != first)
    assert (sanitized() or size() - before < 64) and sk.state(name) == "running"
    counted = int(sk.inspect(name)["said"].split()[1])
    assert counted < 5000, "%d datagrams were read" % counted
    assert ticks() - used < 100
    helpers = [pid for pid in os.listdir("/proc") if pid.isdigit() and read_text("/proc/%s/comm" % pid, "").strip() == "skink-notify"
               and int(read_text("/proc/%s/stat" % pid, "x) Z 0").rsplit(")", 1)[1].split()[1]) == keeper]
    assert not helpers, "what drops a descriptor has ended"


def test_descriptors_without_end_cost_few_processes(sk):
    """Each datagram that brings one costs the supervisor a child: 64 notices in a burst, 50 a second, and these count as five."""
    name = sk.running("--sdnotify", "container", "--restart", "no", command=["probe", "notifydescriptors"])
    heard = lambda: int(sk.inspect(name)["said"].split()[1])
    wait_for(lambda: sk.inspect(name)["said"].startswith("flood") and heard() > 14)
    since = time.monotonic()
    before = heard()
    wait_for(lambda: heard() > before + 5)
    assert sk.ok("exec", name, "echo", "here") == "here"
    count = heard() - before
    assert count < 20 + 12 * (time.monotonic() - since), "%d children" % count


def test_who_changes_its_mind_all_the_time_leaves_the_events_to_others(sk):
    """After a burst of ten one event a second; the last state is told."""
    name = sk.running("--sdnotify", "container", "--restart", "no")
    since = time.monotonic()
    says(sk, name, "WATCHDOG_USEC=3600000000")
    sk.ok("exec", name, "probe", "notifyswing", "25")
    says(sk, name, "X=1")
    assert sk.inspect(name)["health"] == "unhealthy"
    told = wait_for(lambda: [one["health"] for one in actions(sk, name, "health_status")][-1:] == ["unhealthy"] and actions(sk, name, "health_status"))
    assert 2 <= len(told) < 14 + time.monotonic() - since and told[0] == {"health": "healthy"}
    assert all(one != other for one, other in zip(told, told[1:])), "only changes are told"


def test_a_watchdog_missed_under_a_killed_supervisor_ends_the_run(sk):
    """It was killed when it had written down what was missed, and nothing else: its successor ends the run."""
    name = sk.running("--watchdog", "1h", "--restart", "always", "--restart-delay", "1ms", "--stop-timeout", "0")
    says(sk, name, "READY=1")
    one = sk.inspect(name)
    status = "%s/containers/%s/status.json" % (sk.world.run_dir, one["id"])
    os.kill(one["guard_pid"], signal.SIGSTOP)
    kill_quietly(one["supervisor_pid"])
    wait_for(lambda: read_text("/proc/%d/stat" % one["supervisor_pid"], "x) Z 0").rsplit(")", 1)[1].split()[0] == "Z")
    written = json.loads(read_text(status))
    written["said"]["missed"] = True
    with open(status, "w") as out:
        json.dump(written, out)
    os.kill(one["guard_pid"], signal.SIGCONT)
    wait_for(lambda: sk.inspect(name)["restarts"] == 1)
    assert "its watchdog" in sk.history(name)[0]["exit"]["cause"] and sk.pid(name) != one["pid"]


def test_the_watchdog_ends_and_relaunches(sk):
    name = sk.running("--watchdog", "700ms", "--restart", "always", "--restart-delay", "1ms", "--stop-timeout", "0",
                      command=["sh", "-c", "echo $WATCHDOG_USEC; [ -e /tmp/x ] || probe notify WATCHDOG=1; exec sleep 1000"])
    first = sk.pid(name)
    wait_for(lambda: sk.inspect(name)["restarts"] >= 1)
    exit_ = sk.history(name)[0]["exit"]
    assert exit_["cause"] == "its watchdog: no WATCHDOG=1 within 700ms" and sk.pid(name) != first
    assert {"health": "unhealthy"} in actions(sk, name, "health_status")
    assert "its watchdog" in sk.ok("why", name) and sk.ok("logs", name).splitlines()[0] == "700000"


def test_a_watchdog_that_is_fed_triggers_and_comes_back(sk):
    """With policy no it is only told; a program may set its own time, and nothing is missed while it is paused."""
    name = sk.running("--sdnotify", "container", "--restart", "no")
    assert sk.inspect(name)["health"] == "" and sk.inspect(name)["watchdog_ns"] == 0
    says(sk, name, "WATCHDOG_USEC=60000000")
    assert sk.inspect(name)["health"] == "starting" and sk.inspect(name)["watchdog_ns"] == 60_000_000_000
    says(sk, name, "READY=1")
    assert sk.inspect(name)["health"] == "healthy"
    says(sk, name, "WATCHDOG=trigger")
    assert sk.inspect(name)["health"] == "unhealthy" and "watchdog: bad: it has said WATCHDOG=trigger" in sk.inspect(name)["probe_texts"]
    says(sk, name, "WATCHDOG=1")
    assert sk.inspect(name)["health"] == "healthy" and sk.state(name) == "running"
    sk.ok("pause", name)
    says_late = lambda: sk.inspect(name)["health"]
    assert says_late() == "healthy"
    sk.ok("unpause", name)
    says(sk, name, "WATCHDOG_USEC=100000")
    wait_for(lambda: says_late() == "unhealthy")
    says(sk, name, "WATCHDOG_USEC=0", "WATCHDOG=1")
    assert sk.inspect(name)["health"] == "" and sk.inspect(name)["watchdog_ns"] == 0


@pytest.mark.parametrize("who", ["supervisor", "guard", "both"])
def test_what_was_said_outlives_the_keepers(sk, who):
    """The socket is the next supervisor's; when all are killed at once, a new one is in its place."""
    name = sk.running("--watchdog", "1h", "--restart", "always")
    says(sk, name, "READY=1", "STATUS=before")
    one = sk.inspect(name)
    inode = os.stat(notify_socket(sk, name)).st_ino
    keepers = [one["supervisor_pid"]] if who == "supervisor" else [one["guard_pid"]] if who == "guard" else [one["guard_pid"], one["supervisor_pid"]]
    for pid in keepers:
        kill_quietly(pid)
    wait_for(lambda: not any(map(alive, keepers)))
    wait_for(lambda: sk.inspect(name)["supervisor_pid"] not in [0] + keepers)
    after = sk.inspect(name)
    assert after["pid"] == one["pid"] and after["ready"] is True and after["said"] == "before" and after["health"] == "healthy"
    says(sk, name, "STATUS=after")
    assert sk.inspect(name)["said"] == "after" and (who == "both" or os.stat(notify_socket(sk, name)).st_ino == inode)


@pytest.mark.parametrize("how", ["container", "healthy"])
def test_systemd_hears_when_it_is_ready(sk, world, how):
    """skink@NAME.service runs `start --notify`: READY=1 goes on when the program has said it, or is healthy."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(world.path("manager"))
        manager.settimeout(30)
        name = world.name()
        more = ["--liveness", "exec:test -e /tmp/up,interval=50ms,failures=1000"] if how == "healthy" else []
        sk.ok("create", "--name", name, "--sdnotify", how, *more, "busybox", *IDLE)
        front = sk.start("start", "--notify", name, env={"NOTIFY_SOCKET": world.path("manager")})
        first = manager.recv(4096).decode()
        assert "READY" not in first and "STATUS=busybox as process" in first
        if how == "container":
            says(sk, name, "STATUS=half way")
            assert manager.recv(4096).decode().endswith(": half way")
            says(sk, name, "READY=1")
        else:
            sk.ok("exec", name, "touch", "/tmp/up")
        assert manager.recv(4096).decode().startswith("READY=1\nSTATUS=busybox as process")
        sk.ok("stop", "-t", "0", name)
        assert front.wait(30) == 0


def test_what_cannot_be_is_refused(sk, world):
    sk.fails("run", "--sdnotify", "systemd", "busybox", "true", status=125, match=["--sdnotify", "container"])
    sk.fails("run", "--sdnotify", "conmon", "--watchdog", "1s", "busybox", "true", status=125, match=["--watchdog", "--sdnotify conmon"])
    os.makedirs(world.path("n"))
    sk.fails("run", "--sdnotify", "container", "-v", world.path("n") + ":/run/notify", "busybox", "true", status=125, match="/run/notify")
    assert sk.ok("run", "--rm", "--sdnotify", "container", "--tmpfs", "/run", "-e", "NOTIFY_SOCKET=/x", "busybox", "sh", "-c",
                 "echo $NOTIFY_SOCKET; probe notify READY=1 | tail -n 1") == "/run/notify/notify.sock\nreleased: 1"


def test_a_standby_is_heard_when_it_is_its_turn(sk):
    """Made with the same socket, and what its predecessor has said is not its own."""
    name = sk.running("--standby", "--restart", "always", "--sdnotify", "container", "--writable", command=["sh", "-c", "probe notify READY=1 STATUS=$HOSTNAME; exec sleep 1000"])
    for _ in range(3):
        wait_for(lambda: sk.inspect(name)["ready"])
        wait_for(lambda: "standby" in read_text("%s/containers/%s/status.json" % (sk.world.run_dir, sk.inspect(name)["id"])))
        first = sk.pid(name)
        kill_quietly(first)
        wait_for(lambda: sk.pid(name) not in (0, first))
    wait_for(lambda: sk.inspect(name)["ready"])
    assert [one["ready"] for one in actions(sk, name, "ready")] == [True] * 4

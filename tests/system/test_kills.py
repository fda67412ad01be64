# SPDX-License-Identifier: Apache-2.0
"""kill -9 at random instants of everything that is ours, one at a time and all at once, under a container that counts at
full speed: it goes on with the same pid, its log has every number once, how it ended is exact, and what was killed is back."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import time

import pytest
from skinktest import ALL, alive, listdir, read_text, starttime, wait_for

INSTANTS = 200 if ALL else 4
STATUS = 43
COUNTER = "trap 'exit %d' TERM; i=0; while :; do i=$((i+1)); echo $i; done" % STATUS


def started(pid):
    return int(starttime(pid) or 0)


def kill_exactly(pid, born):
    """That process and no other that has its number by now."""
    try:
        pidfd = os.pidfd_open(pid)
    except (OSError, ValueError):
        return
    try:
        if started(pid) == born:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


class Kept:
    """A container that counts, and its keepers as they write themselves down: no command of ours has a hand in it."""

    def __init__(self, sk, world, *options):
        self.sk, self.name = sk, world.name()
        self.id = sk.ok("run", "-d", "--name", self.name, "--restart", "always", "--log-opt", "max-size=1g", *options,
                        "busybox", "sh", "-c", COUNTER)
        self.file = os.path.join(world.run_dir, "containers", self.id, "status.json")
        self.pid = self.status()["init"][0]
        self.born = started(self.pid)
        self.seed = random.randrange(1 << 30)
        self.chance = random.Random(self.seed)

    def status(self):
        return json.loads(wait_for(lambda: read_text(self.file, "")))

    def keeper(self, which):
        """(pid, start time) of one that lives."""
        def look():
            found = self.status()[which]
            return found[0] and alive(found[0]) and started(found[0]) == found[1] and tuple(found)
        return wait_for(look, step=0.002, message="no %s: %s" % (which, self.note()))

    def helpers(self, comm):
        """The supervisor's children of that name."""
        supervisor = str(self.status()["supervisor"][0])
        stats = ((int(pid), read_text("/proc/%s/stat" % pid, "")) for pid in listdir("/proc") if pid.isdigit())
        return [pid for pid, stat in stats if "(%s)" % comm in stat and stat.rsplit(")", 1)[1].split()[1] == supervisor]

    def note(self):
        return "seed %d; %s" % (self.seed, read_text(self.file, "no status"))

    def pause(self):
        time.sleep(self.chance.uniform(0, 0.02))

    def check(self):
        """As it was, and counted without a gap; ends it."""
        assert alive(self.pid) and started(self.pid) == self.born, "the container was disturbed; " + self.note()
        row = self.sk.row(self.name)
        assert (row["pid"], row["restarts"]) == (self.pid, 0), "%s; %s" % (row, self.note())
        self.sk.ok("stop", self.name)
        # One that was killed with its supervisor may have to be looked at by the next.
        wait_for(lambda: self.sk.state(self.name) == "exited")
        exit_ = self.sk.row(self.name)["exit"]
        assert exit_["known"] and exit_["status"] == STATUS, "%s; %s" % (exit_, self.note())
        numbers = list(map(int, self.sk.ok("logs", self.name, timeout=180).split()))
        wrong = next((at for at, number in enumerate(numbers) if number != at + 1), None)
        assert numbers and wrong is None, "at line %s: %s; %s" % (wrong, numbers[max(0, (wrong or 0) - 2):][:5], self.note())
        self.sk.ok("rm", self.name)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("which", ["supervisor", "guard"])
def test_keepers_killed_at_any_instant(sk, world, which):
    kept = Kept(sk, world)
    for _ in range(INSTANTS):
        before = kept.keeper(which)
        kept.pause()
        kill_exactly(*before)
        wait_for(lambda: kept.keeper(which) != before, step=0.002, message="it did not come back: " + kept.note())
    kept.check()


@pytest.mark.timeout(900)
def test_one_of_both_at_any_instant(sk, world):
    """By turns, and without waiting for the one before to be back."""
    kept = Kept(sk, world)
    for _ in range(INSTANTS):
        kill_exactly(*kept.status()[kept.chance.choice(["supervisor", "guard"])])
        kept.pause()
        # Both dead at once is another test: nothing but a command brings them back then.
        if not any(alive(kept.status()[which][0]) for which in ("supervisor", "guard")):
            sk.ok("heal")
    sk.ok("heal")
    kept.keeper("supervisor"), kept.keeper("guard")
    kept.check()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("restored_by", ["heal", "ps"])
def test_all_at_once(sk, world, restored_by):
    """The container runs on until a command restores supervision."""
    kept = Kept(sk, world)
    for _ in range(INSTANTS // 4 if ALL else 2):
        keepers = [kept.keeper("supervisor"), kept.keeper("guard")]
        front = sk.start("attach", kept.name, stdout=subprocess.DEVNULL)
        kept.pause()
        for pid, born in [(front.pid, started(front.pid))] + keepers:
            kill_exactly(pid, born)
        front.wait()
        wait_for(lambda: not any(alive(pid) and started(pid) == born for pid, born in keepers))
        assert alive(kept.pid) and started(kept.pid) == kept.born, kept.note()
        # Either had started the other before it was killed too, or a command does.
        sk.ok(restored_by, *(["-a"] if restored_by == "ps" else []))
        kept.keeper("supervisor"), kept.keeper("guard")
    kept.check()


@pytest.mark.timeout(900)
def test_fronts_killed_at_any_instant(sk, world):
    """skink run and skink attach in the foreground: whoever looks on is nobody's parent."""
    name = world.name()
    front = sk.start("run", "--name", name, "--restart", "always", "--log-opt", "max-size=1g", "busybox", "sh", "-c", COUNTER,
                     stdout=subprocess.DEVNULL)
    wait_for(lambda: sk.state(name) == "running")
    kept = Kept.__new__(Kept)
    kept.sk, kept.name, kept.id = sk, name, sk.inspect(name)["id"]
    kept.file = os.path.join(world.run_dir, "containers", kept.id, "status.json")
    kept.pid, kept.seed = sk.pid(name), random.randrange(1 << 30)
    kept.born, kept.chance = started(kept.pid), random.Random(kept.seed)
    for _ in range(INSTANTS):
        kept.pause()
        front.kill()
        front.wait()
        front = sk.start("attach", name, stdout=subprocess.DEVNULL)
    front.kill()
    kept.check()


@contextlib.contextmanager
def silent_server():
    """Takes connections on a port of the host and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as server:
        yield server.getsockname()[1]


def kill_helpers(kept, comm, count):
    killed = set()
    while len(killed) < count:
        def another():
            return [pid for pid in kept.helpers(comm) if (pid, started(pid)) not in killed]
        found = wait_for(another, step=0.0005, message="no %s: %s" % (comm, kept.note()))
        born = started(found[0])
        if kept.chance.random() < 0.7:
            time.sleep(kept.chance.uniform(0, 0.004))
        if born:
            kill_exactly(found[0], born)
            killed.add((found[0], born))


@pytest.mark.timeout(900)
def test_helpers_of_exec_probes_killed_at_any_instant(sk, world):
    """And no process that one was starting is left, nor a file about it."""
    kept = Kept(sk, world, "--readiness", "exec:true,interval=10ms,timeout=10s")
    wait_for(lambda: sk.inspect(kept.name)["ready"])
    kill_helpers(kept, "skink-launch", INSTANTS)
    wait_for(lambda: sk.inspect(kept.name)["ready"])
    wait_for(lambda: not any(entry.startswith("half-made.") for entry in listdir(os.path.dirname(kept.file))))
    kept.check()


@pytest.mark.timeout(900)
def test_helpers_of_https_probes_killed_at_any_instant(sk, world):
    with silent_server() as port:
        kept = Kept(sk, world, "--network", "host", "--readiness", "https://127.0.0.1:%d/,interval=10ms,timeout=60s" % port)
        kill_helpers(kept, "skink-tls", INSTANTS)
        wait_for(lambda: "ended with status 137" in sk.inspect(kept.name)["probe_texts"])
        kept.check()

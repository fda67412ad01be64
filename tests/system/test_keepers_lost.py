# SPDX-License-Identifier: Apache-2.0
"""What goes on when a container has lost its keepers, a group, its run directory, or what a keeper needs to come back."""

import fcntl
import os
import re
import shutil
import signal
import threading
import time

import pytest
from skinktest import alive, cgroup_dir, kill_quietly, listdir, read_text, unified_top, wait_for


def kill_both(sk, name):
    """At one instant: stopped first, so that neither starts the other."""
    facts = sk.inspect(name)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for keeper in ("guard_pid", "supervisor_pid"):
            os.kill(facts[keeper], number)
    wait_for(lambda: not any(alive(facts[keeper]) for keeper in ("guard_pid", "supervisor_pid")))


class OtherCommand:
    """Has the container's lock for a while, as a command that works on it has."""

    def __init__(self, world, ident, seconds):
        self.fd = os.open(os.path.join(world.store, "containers", ident), os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        self.timer = threading.Timer(seconds, os.close, [self.fd])
        self.timer.start()


def replaced(sk, name, which, before):
    return wait_for(lambda: sk.inspect(name)[which] not in (0, before))


@pytest.mark.parametrize("which", ["supervisor_pid", "guard_pid"])
def test_a_probe_is_not_early_because_a_keeper_was_killed(sk, which):
    """Its delay counts from the start of the run, whoever asks."""
    name = sk.running("--restart", "always", "--liveness", "tcp://:1,delay=30s,interval=1s,failures=1")
    pid = sk.pid(name)
    for _ in range(2):
        before = sk.inspect(name)[which]
        kill_quietly(before)
        replaced(sk, name, which, before)
    time.sleep(0.5)
    row = sk.inspect(name)
    assert sk.pid(name) == pid and row["restarts"] == 0 and row["health"] == "starting"


def test_failures_of_a_probe_are_counted_on_by_a_successor(sk):
    name = sk.running("--restart", "always", "--liveness", "tcp://:1,interval=300ms,failures=6")
    pid = sk.pid(name)
    deadline = time.monotonic() + 60
    while sk.pid(name) == pid:
        before = sk.inspect(name)["supervisor_pid"]
        kill_quietly(before)
        time.sleep(0.7)
        assert time.monotonic() < deadline, sk.inspect(name)
    wait_for(lambda: sk.row(name)["restarts"] == 1)
    # One that was killed when it had counted the last one left its successor to ask once more.
    assert re.search(r"failed [67] times in a row", sk.ok("why", name))


@pytest.mark.parametrize("verb", ["exec", "kill", "pause", "wait"])
def test_a_command_beside_another_one_when_both_keepers_are_dead(sk, world, verb):
    """It waits for what the other does, and takes the container for what it is: running."""
    name = sk.running("--restart", "always")
    pid, ident = sk.pid(name), sk.inspect(name)["id"]
    kill_both(sk, name)
    other = OtherCommand(world, ident, 1)
    if verb == "wait":
        waiting = sk.start("wait", name)
        other.timer.join()
        assert waiting.poll() is None
        sk.ok("kill", "-s", "KILL", name)
        assert waiting.communicate(timeout=60)[0].strip() == b"137"
        return
    words = {"exec": ["exec", name, "echo", "here"], "kill": ["kill", "-s", "WINCH", name], "pause": ["pause", name]}[verb]
    assert sk.ok(*words).strip() == ("here" if verb == "exec" else name)
    if verb == "pause":
        sk.ok("unpause", name)
    assert sk.pid(name) == pid


def test_an_update_when_both_keepers_are_dead_reaches_the_kernel(sk):
    name = sk.running("-m", "64m", "--restart", "always")
    pid = sk.pid(name)
    directory, version = cgroup_dir(pid, "memory")
    kill_both(sk, name)
    sk.ok("update", "-m", "51m", name)
    limit = read_text(os.path.join(directory, "memory.max" if version == 2 else "memory.limit_in_bytes"))
    assert int(limit) == 51 << 20 and sk.pid(name) == pid


@pytest.mark.parametrize("controller", ["pids", "freezer", "devices"])
def test_f29_exec_when_one_of_its_groups_is_gone(sk, world, controller):
    """It goes where the program was moved, and the supervisor answers on."""
    name = sk.running("--restart", "always", "--liveness", "exec:true,interval=300ms")
    directory, version = cgroup_dir(sk.pid(name), controller)
    if version != 1:
        pytest.skip("not cgroup v1")
    elsewhere = os.path.join(os.path.dirname(directory), "skink-test-moved-" + world.id)
    os.mkdir(elsewhere)
    try:
        def move():
            for pid in read_text(directory + "/cgroup.procs").split():
                try:
                    with open(elsewhere + "/cgroup.procs", "w") as procs:
                        procs.write(pid)
                except ProcessLookupError:
                    pass
            try:
                os.rmdir(directory)
            except OSError:
                return False
            return True
        wait_for(move)
        assert sk.ok("exec", name, "echo", "here") == "here"
        process = sk.start("exec", name, "sleep", "1000")
        wait_for(lambda: "sleep" in [read_text("/proc/%s/comm" % pid, "").strip() for pid in read_text(elsewhere + "/cgroup.procs").split() if int(pid) != sk.pid(name)])
        wait_for(lambda: sk.inspect(name)["health"] == "healthy")
        sk.ok("stop", "-t", "0", name)
        assert process.wait(60) == 137
    finally:
        sk("rm", "-f", name)
        wait_for(lambda: not read_text(elsewhere + "/cgroup.procs").split())
        os.rmdir(elsewhere)


@pytest.mark.full
def test_f28_a_container_whose_run_directory_was_removed_can_be_ended(sk, world):
    name = sk.running("--restart", "always")
    facts = sk.inspect(name)
    shutil.rmtree(os.path.join(world.run_dir, "containers", facts["id"]))
    sk.fails("stop", "-t", "0", name, status=1, match=["run directory", "rm -f"])
    assert alive(facts["pid"])
    sk.ok("rm", "-f", name)
    wait_for(lambda: not any(alive(facts[which]) for which in ("pid", "guard_pid", "supervisor_pid")))


def children(pid):
    return [int(child) for child in read_text("/proc/%d/task/%d/children" % (pid, pid), "").split()]


def test_a_guard_that_can_start_nobody_tries_on(sk, world):
    """For longer than it gives somebody who starts a container."""
    name = sk.running("--restart", "always")
    facts = sk.inspect(name)
    top, version = cgroup_dir(os.getpid(), "pids")
    if version != 1:
        pytest.skip("not cgroup v1, where a process can be put into a group of one controller")
    while top.count("/") > 4:
        top = os.path.dirname(top)
    group = os.path.join(top, "skink-test-guard-" + world.id)
    os.mkdir(group)
    try:
        with open(group + "/cgroup.procs", "w") as procs:
            procs.write(str(facts["guard_pid"]))
        with open(group + "/pids.max", "w") as limit:
            limit.write("1")
        kill_quietly(facts["supervisor_pid"])
        wait_for(lambda: not alive(facts["supervisor_pid"]))
        time.sleep(4)
        assert alive(facts["guard_pid"]) and alive(facts["pid"])
        with open(group + "/pids.max", "w") as limit:
            limit.write("max")
        wait_for(lambda: any("skink-supervise" in read_text("/proc/%d/comm" % pid, "") for pid in children(facts["guard_pid"])))
        assert sk.inspect(name)["guard_pid"] == facts["guard_pid"] and sk.pid(name) == facts["pid"]
        sk.ok("rm", "-f", name)
    finally:
        wait_for(lambda: not read_text(group + "/cgroup.procs").split())
        os.rmdir(group)


def test_a_guard_whose_supervisors_cannot_set_up_tries_on(sk, world):
    """The file that they have to write to is a directory for a while, as a store that has become read-only refuses to be written to."""
    name = sk.running("--restart", "always")
    facts = sk.inspect(name)
    index = os.path.join(world.store, "containers", facts["id"], "log.index")
    complaints = os.path.join(world.run_dir, "containers", facts["id"], "supervisor.log")
    time.sleep(1.2)  # for so long one has to live
    os.rename(index, index + ".aside")
    os.mkdir(index)
    kill_quietly(facts["supervisor_pid"])
    # It gives somebody who starts a container twenty of them.
    wait_for(lambda: read_text(complaints).count("\n") > 22)
    assert alive(facts["guard_pid"]) and alive(facts["pid"])
    os.rmdir(index)
    os.rename(index + ".aside", index)
    wait_for(lambda: any(pid != facts["pid"] and len(listdir("/proc/%d/fd" % pid)) > 20 for pid in children(facts["guard_pid"])))
    assert sk.inspect(name)["guard_pid"] == facts["guard_pid"] and sk.pid(name) == facts["pid"]


def test_what_supervisors_complain_of_is_bounded(sk, world, bundle):
    """The latest of it is kept, by whole lines."""
    b = bundle(["false"])
    b.config["hooks"] = {"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", "exit 1"]}]}
    name = world.name()
    sk.ok("run", "-d", "--restart", "always", "--restart-delay", "1s", "--restart-factor", "1", "--name", name, "--bundle", b.save().dir)
    complaints = os.path.join(world.run_dir, "containers", sk.inspect(name)["id"], "supervisor.log")
    with open(complaints, "a") as log:
        log.write("".join("an old one, %06d\n" % number for number in range(10000)))
    before = sk.inspect(name)["restarts"]
    wait_for(lambda: sk.inspect(name)["restarts"] > before + 1)
    lines = read_text(complaints).splitlines()
    assert os.stat(complaints).st_size < 64 << 10 and lines[0].startswith("an old one, 00") and len(lines) > 1000
    assert "an old one, 009999" in lines and "poststop" in lines[-1], lines[-3:]


def test_a_program_that_goes_on_after_a_stop_signal_can_be_wanted_again(sk):
    """kill -s TERM says that it shall not start again; it is probed on, and start takes that back."""
    name = sk.running("--restart", "always", "--readiness", "exec:test -e /tmp/ready,interval=200ms", "--writable",
                      command=["sh", "-c", "trap : TERM; while :; do sleep 0.1; done"])
    pid = sk.pid(name)
    sk.ok("kill", "-s", "TERM", name)
    sk.ok("exec", name, "touch", "/tmp/ready")
    wait_for(lambda: sk.inspect(name)["ready"])
    assert "SIGTERM was sent by skink kill; when it has ended it is not started again" in sk.ok("why", name)
    sk.ok("start", name)
    assert sk.inspect(name)["asked_to_end"] == "" and "not started again" not in sk.ok("why", name)
    assert sk.pid(name) == pid
    kill_quietly(pid)
    wait_for(lambda: sk.state(name) == "running" and sk.pid(name) not in (0, pid))
    now = sk.pid(name)
    sk.ok("kill", "-s", "TERM", name)
    kill_quietly(now)
    wait_for(lambda: sk.state(name) == "exited")


def test_start_of_such_a_program_when_both_keepers_are_dead(sk):
    """It is given new ones, as with its keepers, and is not killed for another."""
    name = sk.running("--restart", "always", command=["sh", "-c", "trap : TERM; echo ready; while :; do sleep 0.1; done"])
    wait_for(lambda: sk.ok("logs", name) == "ready")
    pid = sk.pid(name)
    sk.ok("kill", "-s", "TERM", name)
    kill_both(sk, name)
    sk.ok("start", name)
    assert sk.pid(name) == pid and alive(pid)
    assert sk.inspect(name)["asked_to_end"] == "" and sk.inspect(name)["history"] == []
    kill_quietly(pid)
    wait_for(lambda: sk.state(name) == "running" and sk.pid(name) not in (0, pid))


class Freezer:
    """A container's group, as an administrator or a supervisor that is killed just then leaves it."""

    def __init__(self, pid, unified):
        self.unified = unified
        if unified:
            self.path = unified_top() + next(line[3:] for line in read_text("/proc/%d/cgroup" % pid).splitlines() if line.startswith("0::"))
        else:
            self.path = cgroup_dir(pid, "freezer")[0]

    def tell(self, frozen):
        file, text = ("cgroup.freeze", str(int(frozen))) if self.unified else ("freezer.state", "FROZEN" if frozen else "THAWED")
        with open(os.path.join(self.path, file), "w") as control:
            control.write(text)
        shown = ("cgroup.events", "frozen " + text) if self.unified else (file, text)
        wait_for(lambda: shown[1] in read_text(os.path.join(self.path, shown[0])))


def test_a_run_that_is_killed_in_a_frozen_group_is_followed_by_another(sk):
    """And its supervisor answers: what is made in such a group would never come back to it."""
    name = sk.running("--restart", "always", "--restart-delay", "2s")
    pid = sk.pid(name)
    freezer = Freezer(pid, unified=True)
    freezer.tell(True)
    kill_quietly(pid)
    now = wait_for(lambda: sk.pid(name) not in (0, pid) and sk.pid(name))
    assert sk.ok("exec", name, "echo", "here") == "here"
    # While it waits for the next one the group is empty.
    kill_quietly(now)
    wait_for(lambda: sk.state(name) == "restarting")
    freezer.tell(True)
    sk.wait_state(name, "running")
    assert sk.ok("exec", name, "echo", "here") == "here"


@pytest.mark.parametrize("verb", ["pause", "unpause"])
def test_a_supervisor_that_was_killed_while_it_froze_or_thawed(sk, verb):
    """Between the group and the record: its successor takes the container for what it is."""
    name = sk.running("--restart", "always")
    facts = sk.inspect(name)
    if verb == "pause":
        sk.ok("pause", name)
    Freezer(facts["pid"], not os.path.isdir("/sys/fs/cgroup/freezer")).tell(verb == "unpause")
    kill_quietly(facts["supervisor_pid"])
    replaced(sk, name, "supervisor_pid", facts["supervisor_pid"])
    assert sk.state(name) == ("running" if verb == "pause" else "paused")
    sk.ok(verb, name)
    assert sk.state(name) == ("paused" if verb == "pause" else "running")
    assert sk.pid(name) == facts["pid"]
    sk.ok("rm", "-f", name)

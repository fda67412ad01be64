# SPDX-License-Identifier: Apache-2.0
"""A85 to A87 and F19, F20, F33, F36: what a container does to the processes that keep it, to its log, and in its end."""

import os
import shutil
import signal
import time

import pytest
from skinktest import ALL, Skink, alive, kill_quietly, read_text, wait_for


def threads_and_fds(pid):
    return len(os.listdir("/proc/%d/task" % pid)), len(os.listdir("/proc/%d/fd" % pid))


def resident(pid):
    """KiB."""
    return int(read_text("/proc/%d/status" % pid).split("VmRSS:")[1].split()[0])


def test_a85_a_flood_to_a_reader_that_stands_still(sk, world):
    """A85: neither memory nor the log grow with it, and the container can be ended."""
    name = sk.running("--restart", "no", "--log-opt", "max-size=256k", "--log-opt", "max-file=2", command=["yes"])
    reader = sk.start("attach", "--no-stdin", name)
    assert os.read(reader.stdout.fileno(), 2)
    os.kill(reader.pid, signal.SIGSTOP)
    one = sk.inspect(name)
    spooled = os.path.join(world.store, "containers", one["id"], "log.stdout")
    most = (4 << 30) if ALL else (64 << 20)
    wait_for(lambda: os.stat(spooled).st_size > 1 << 20)
    before, keepers = resident(one["supervisor_pid"]), threads_and_fds(one["supervisor_pid"])
    wait_for(lambda: os.stat(spooled).st_size > most, timeout=300)
    assert resident(one["supervisor_pid"]) < before + 512 and threads_and_fds(one["supervisor_pid"]) == keepers
    # max-size, max-file times, a step of what is given back at once, and what is being moved
    assert os.stat(spooled).st_blocks * 512 < (512 << 10) + (128 << 10) + (2 << 20)
    sk.ok("stop", "-t", "0", name)
    os.kill(reader.pid, signal.SIGCONT)
    reader.communicate(timeout=60)


@pytest.mark.timeout(3600)
def test_a86_who_attaches_and_goes_leaves_nothing(sk):
    """A86: no descriptor and no thread of the supervisor for each, killed at its work."""
    name = sk.running("-i", "--restart", "no", command=["sh", "-c", "while :; do echo tick; sleep 0.05; done"])
    pid = sk.inspect(name)["supervisor_pid"]
    counts = []
    for n in range(10000 if ALL else 12):
        reader = sk.start("attach", name)
        assert os.read(reader.stdout.fileno(), 1)
        kill_quietly(reader.pid)
        reader.communicate(timeout=60)
        if n == 1:
            sk.ok("exec", name, "true")
            wait_for(lambda: counts.append(threads_and_fds(pid)) or counts[-3:] == counts[-1:] * 3)
            rested = counts[-1]
        if n % 100 == 3:
            sk.ok("exec", name, "true")
    wait_for(lambda: threads_and_fds(pid) <= rested, message="%r, once %r" % (threads_and_fds(pid), rested))
    assert sk.inspect(name)["supervisor_pid"] == pid


@pytest.mark.parametrize("file", ["log.stdout", "log.stderr", "log.index"])
def test_a87_a_link_in_the_place_of_a_log(sk, world, canary, file):
    """A87: neither is it written through nor read through."""
    name = sk.ok("create", "--restart", "no", "busybox", "sh", "-c", "echo out; echo err >&2")
    directory = os.path.join(world.store, "containers", sk.inspect(name)["id"])
    for target in (canary.top + "/secret", canary.top + "/new"):
        path = os.path.join(directory, file)
        if os.path.lexists(path):
            os.unlink(path)
        os.symlink(target, path)
        assert sk("start", *["-a"] * (target == canary.top + "/new"), name).status != 0
        sk("logs", name)
        sk("why", name)
    sk.ok("rm", "-f", name)


@pytest.mark.vm
@pytest.mark.vm_more
def test_f19_a_supervisor_that_the_oom_killer_ends(sk, world):
    """F19: in a group of its own with no memory left. As when it is killed by hand: another one is there, the run and its log are
    whole."""
    name = sk.running("--restart", "always", command=["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"])
    before = sk.inspect(name)
    top, limit = ("/sys/fs/cgroup", "memory.max") if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else \
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
    group = os.path.join(top, "skink-test-" + world.id)
    os.mkdir(group)
    try:
        for file, value in (("cgroup.procs", before["supervisor_pid"]), (limit, 64 << 10)):
            with open(os.path.join(group, file), "w") as control:
                control.write(str(value))
        wait_for(lambda: sk("exec", name, "true") and sk.inspect(name)["supervisor_pid"] not in (0, before["supervisor_pid"]))
    finally:
        wait_for(lambda: not read_text(group + "/cgroup.procs"))
        os.rmdir(group)
    now = sk.inspect(name)
    assert (now["pid"], now["guard_pid"], now["restarts"], now["state"]) == (before["pid"], before["guard_pid"], 0, "running")
    sk.ok("exec", name, "true")
    sk.ok("stop", "-t", "0", name)
    numbers = list(map(int, sk.ok("logs", name).split()))
    assert numbers == list(range(1, len(numbers) + 1))


def test_f20_an_end_for_want_of_memory_is_known_once(sk):
    """F20: of the first process and of another one; status 137 and the reason, nothing relaunched, and it can be removed."""
    first = sk.running("--restart", "no", "-m", "16m", command=["sh", "-c", "exec tail /dev/zero"])
    sk.wait_state(first, "exited")
    one = sk.inspect(first)
    assert (one["exit"]["status"], one["exit"]["oom"], one["restarts"]) == (137, True, 0)
    assert sk.ok("why", first).count("OOM") >= 1 or "memory" in sk.ok("why", first)
    sk.ok("rm", first)
    child = sk.running("--restart", "no", "-m", "16m", command=["sh", "-c", "tail /dev/zero; echo its status $?; sleep 1000"])
    wait_for(lambda: "its status 137" in sk.ok("logs", child))
    assert sk.state(child) == "running" and sk.row(child)["restarts"] == 0
    sk.ok("rm", "-f", child)


def zombies(parent):
    found = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        fields = read_text("/proc/%s/stat" % pid, "x) X 0").rsplit(")", 1)[1].split()
        found += fields[0] == "Z" and fields[1] == str(parent)
    return found


@pytest.mark.timeout(900)
def test_f33_a_first_process_that_neither_ends_nor_reaps(sk):
    """F33: its zombies are its own and count against its limit; it is killed when its time is over, and they go with it."""
    count = 10000 if ALL else 100
    script = "trap '' TERM; mkfifo /tmp/go; i=0; while [ $i -lt %d ]; do i=$((i+1)); : </tmp/go & done; exec sleep 1000" % count
    name = sk.running("--restart", "no", "--pids-limit", str(count + 3), command=["sh", "-c", script])
    pid = sk.pid(name)
    # None ends before the shell, which would reap it, is gone.
    wait_for(lambda: read_text("/proc/%d/comm" % pid) == "sleep\n", timeout=300)
    sk.ok("exec", name, "sh", "-c", "exec 3>/tmp/go")
    wait_for(lambda: zombies(pid) == count)
    one = sk.inspect(name)
    assert zombies(one["supervisor_pid"]) == zombies(one["guard_pid"]) == 0
    assert sk("exec", name, "sh", "-c", "sleep 1 & sleep 1 & sleep 1 & sleep 1 & wait").status != 0
    sk.ok("stop", "-t", "1", name)
    assert not alive(pid) and zombies(pid) == 0 and sk.inspect(name)["exit"]["status"] == 137


def test_f36_the_program_is_replaced_while_containers_run(sk, world):
    """F36: keepers of a binary that is gone go on, bring each other back, and are kept by the new one's commands."""
    copy = world.path("bin/skink")
    os.makedirs(os.path.dirname(copy))
    shutil.copy(sk.path, copy)
    old = Skink(world, copy, sk.options)
    name = old.running("--restart", "always", command=["sh", "-c", "echo run; exec sleep 1000"])
    os.unlink(copy)
    for keeper in ("supervisor_pid", "guard_pid"):
        before = sk.inspect(name)
        kill_quietly(before[keeper])
        wait_for(lambda: sk.inspect(name)[keeper] not in (0, before[keeper]))
        assert sk.pid(name) == before["pid"]
    assert sk.ok("exec", name, "echo", "works") == "works"
    kill_quietly(sk.pid(name))
    wait_for(lambda: sk.ok("logs", name).split() == ["run", "run"])
    time.sleep(0.1)
    sk.ok("stop", "-t", "0", name)
    sk.ok("start", name)
    sk.ok("rm", "-f", name)

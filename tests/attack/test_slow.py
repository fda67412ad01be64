# SPDX-License-Identifier: Apache-2.0
"""F24: a machine that is slow, a process of skink's that is stopped. No command fails because it had to wait."""

import os
import signal
from pathlib import Path

import pytest
from skinktest import alive, cgroup_dir, read_text, support, wait_for


def dawdle(milliseconds, who):
    return [support("dawdle"), str(milliseconds), who]


SHORT = [(["run", "--rm", "busybox", "sh", "-c", "echo out; exit 7"], 7, "out\n"), (["run", "busybox", "true"], 0, ""),
         (["run", "--rm", "-i", "busybox", "cat"], 0, "typed"), (["run", "-d", "--rm", "busybox", "true"], 0, None),
         (["run", "-d", "--restart", "no", "busybox", "false"], 0, None), (["start", "NAME"], 0, None),
         (["run", "--rm", "busybox", "nothing-there"], 127, ""), (["run", "-d", "busybox", "nothing-there"], 127, "")]


@pytest.mark.parametrize("who", ["first", "others"])
@pytest.mark.parametrize("args,status,out", SHORT, ids=lambda value: "-".join(value[:3]) if isinstance(value, list) else "")
def test_f24_a_program_that_is_over_before_anybody_looks(sk, world, who, args, status, out):
    """The command is slow and its keepers are not, or the other way round: it hears how the program ended all the same."""
    name = world.name()
    sk.ok("create", "--name", name, "--restart", "no", "busybox", "true")
    args = [name if word == "NAME" else word for word in args]
    result = sk(*args, before=dawdle({"first": 3, "others": 1}[who], who), input="typed")
    assert result.status == status, result
    assert out is None or result.out == out, result


@pytest.fixture
def short_of_cpu(world):
    """A command prefix: what runs under it, and the guards and supervisors that it starts, get a fiftieth of a CPU."""
    directory, version = cgroup_dir(os.getpid(), "cpu")
    group = os.path.join(directory, "skink-test-" + world.id)
    os.mkdir(group)
    if version == 2:
        Path(group, "cpu.max").write_text("2000 100000")
    else:
        Path(group, "cpu.cfs_period_us").write_text("100000")
        Path(group, "cpu.cfs_quota_us").write_text("2000")
    yield ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', group]
    world.remove_containers()
    wait_for(lambda: read_text(group + "/cgroup.procs") == "")
    wait_for(lambda: not os.path.exists(group) or try_to(os.rmdir, group))


def try_to(what, *args):
    try:
        what(*args)
    except OSError:
        return False
    return True


def test_f24_every_verb_on_a_machine_that_is_very_slow(sk, world, short_of_cpu):
    def slowly(*args, status=0):
        result = sk(*args, before=short_of_cpu, timeout=120)
        assert result.status == status, result
        return result.out.strip()
    assert slowly("run", "--rm", "busybox", "sh", "-c", "echo out; exit 3", status=3) == "out"
    name = world.name()
    slowly("run", "-d", "--name", name, "--restart", "no", "busybox", "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done")
    assert slowly("exec", name, "sh", "-c", "echo inside; exit 4", status=4) == "inside"
    slowly("pause", name)
    slowly("unpause", name)
    slowly("stop", name)
    assert (sk.state(name), sk.inspect(name)["exit"]["status"]) == ("exited", 7)
    slowly("start", name)
    slowly("kill", name)
    assert slowly("wait", name) == "137"
    slowly("start", name)
    slowly("rm", "-f", name)
    assert sk.row(name) is None


@pytest.mark.full
def test_f24_a_supervisor_that_is_stopped(sk):
    """Every command ends and says what holds it up; when it goes on, so does everything else."""
    name = sk.running("--restart", "no")
    row, pid = sk.row(name), sk.pid(name)
    keeper = row["supervisor_pid"]
    os.kill(keeper, signal.SIGSTOP)
    try:
        assert sk.state(name) == "running"
        asked = [sk.start(*args) for args in (["pause", name], ["exec", name, "true"], ["stop", "-t", "0", name], ["start", name])]
        for one in asked:
            _, err = one.communicate(timeout=100)
            assert one.returncode > 0 and "process %d " % keeper in err.decode() and "kill -CONT" in err.decode(), err
    finally:
        os.kill(keeper, signal.SIGCONT)
    wait_for(lambda: not alive(pid), message="what was asked for meanwhile is done")
    wait_for(lambda: sk.state(name) == "exited")
    sk.ok("start", name)
    os.kill(sk.row(name)["supervisor_pid"], signal.SIGSTOP)
    sk.ok("rm", "-f", name)


@pytest.mark.parametrize("what", ["program", "exec"])
def test_f24_how_it_ended_is_known_while_the_guard_is_stopped(sk, what):
    """Who writes down exits cannot; the process's zombie tells."""
    name = sk.running("--restart", "no", command=["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done"])
    row = sk.row(name)
    os.kill(row["guard_pid"], signal.SIGSTOP)
    try:
        if what == "exec":
            assert sk("exec", name, "sh", "-c", "exit 3").status == 3
            return
        os.kill(row["pid"], signal.SIGTERM)
        wait_for(lambda: sk.state(name) == "exited")
        last = sk.inspect(name)["exit"]
        assert last["known"] and last["status"] == 7, last
    finally:
        os.kill(row["guard_pid"], signal.SIGCONT)


def test_everything_killed_at_once_is_not_said_to_run(sk):
    for _ in range(4):
        name = sk.running("--restart", "no")
        row = sk.row(name)
        keepers = [row["guard_pid"], row["supervisor_pid"]]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for one in keepers + [row["pid"]] * (number == signal.SIGKILL):
                os.kill(one, number)
        wait_for(lambda: not alive(row["pid"]))
        seen = [sk.state(name)]
        while seen[-1] != "exited":
            seen.append(sk.state(name))
        assert set(seen) <= {"unknown", "exited"}, seen

# SPDX-License-Identifier: Apache-2.0
"""stop, kill, pause, wait, rm, and the ways in which a container is named."""

import os
import signal
import subprocess
import time

import pytest
from skinktest import alive, busybox_image, listdir, read_text, wait_for

TRAP = "trap 'echo got %s; exit 7' %s; echo ready; while :; do sleep 0.05; done"


def ready(sk, name):
    wait_for(lambda: "ready" in sk.ok("logs", name))


def test_stop_sends_term_and_records_the_status(sk):
    name = sk.running("--restart", "no", command=["sh", "-c", TRAP % ("TERM", "TERM")])
    ready(sk, name)
    assert sk.ok("stop", name) == name
    row = sk.row(name)
    assert row["state"] == "exited" and row["exit"]["status"] == 7
    assert "got TERM" in sk.ok("logs", name)


def test_stop_kills_what_ignores_it(sk):
    name = sk.running("--restart", "no", command=["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"])
    ready(sk, name)
    sk.ok("stop", "-t", "1", name)
    assert sk.row(name)["exit"]["status"] == 137


def test_stop_timeout_of_zero(sk):
    name = sk.running("--restart", "no")
    sk.ok("stop", "-t", "0", name)
    assert sk.state(name) == "exited"


def test_stop_signal_of_the_option_and_of_the_image(sk):
    name = sk.running("--stop-signal", "USR1", "--restart", "no", command=["sh", "-c", TRAP % ("USR1", "USR1")])
    ready(sk, name)
    sk.ok("stop", name)
    assert "got USR1" in sk.ok("logs", name)
    sk.load(busybox_image("sig", run={"StopSignal": "SIGINT"}))
    name = sk.running("--restart", "no", image="sig", command=["sh", "-c", TRAP % ("INT", "INT")])
    ready(sk, name)
    sk.ok("stop", name)
    assert "got INT" in sk.ok("logs", name)
    sk.fails("run", "--rm", "--stop-signal", "NOSUCH", "busybox", "true", status=125, match="NOSUCH")


def test_stop_timeout_option_of_run(sk):
    name = sk.running("--stop-timeout", "1", "--restart", "no", command=["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"])
    ready(sk, name)
    sk.ok("stop", name, timeout=30)
    assert sk.row(name)["exit"]["status"] == 137


def test_stop_of_a_stopped_container_is_success(sk):
    name = sk.running("--restart", "no", command=["true"])
    sk.wait_state(name, "exited")
    assert sk.ok("stop", name) == name


def test_stop_several(sk):
    names = [sk.running() for _ in range(3)]
    assert sk.ok("stop", "-t", "1", *names).split() == names
    assert all(sk.state(name) == "exited" for name in names)


@pytest.mark.parametrize("given", ["HUP", "SIGHUP", "1", "hup"])
def test_kill_sends_the_signal(sk, given):
    name = sk.running("--restart", "no", command=["sh", "-c", TRAP % ("HUP", "HUP")])
    ready(sk, name)
    assert sk.ok("kill", "-s", given, name) == name
    sk.wait_state(name, "exited")
    assert sk.row(name)["exit"]["status"] == 7


def test_kill_defaults_to_sigkill(sk):
    name = sk.running("--restart", "no")
    sk.ok("kill", name)
    sk.wait_state(name, "exited")
    row = sk.row(name)
    assert row["exit"]["status"] == 137 and row["exit"]["signal"] == 9


def test_kill_of_a_stopped_container_and_unknown_signals(sk):
    name = sk.running("--restart", "no")
    sk.fails("kill", "-s", "NOSUCH", name, match="NOSUCH")
    sk.fails("kill", "-s", "99", name, match="99")
    sk.ok("kill", name)
    sk.wait_state(name, "exited")
    sk.fails("kill", name, status=1, match=[name, "not running"])


def test_pause_freezes_and_unpause_thaws(sk):
    name = sk.running(command=["sh", "-c", "while :; do echo tick; sleep 0.05; done"])
    wait_for(lambda: "tick" in sk.ok("logs", name))
    assert sk.ok("pause", name) == name
    assert sk.state(name) == "paused"
    time.sleep(0.3)
    before = len(sk.ok("logs", name))
    time.sleep(0.7)
    assert len(sk.ok("logs", name)) == before
    sk.fails("pause", name, match="paused")
    sk.ok("unpause", name)
    assert sk.state(name) == "running"
    wait_for(lambda: len(sk.ok("logs", name)) > before)
    sk.fails("unpause", name, match="not paused")


def test_a_paused_container_can_be_stopped_and_removed(sk):
    name = sk.running("--restart", "no")
    sk.ok("pause", name)
    sk.ok("stop", "-t", "1", name)
    assert sk.state(name) == "exited"
    name = sk.running()
    sk.ok("pause", name)
    sk.fails("exec", name, "true", match="paused")
    sk.ok("rm", "-f", name)
    assert sk.row(name) is None


def test_wait_gives_the_exit_status(sk):
    name = sk.running("--restart", "no", command=["sh", "-c", "sleep 0.5; exit 33"])
    assert sk.ok("wait", name) == "33"
    assert sk.ok("wait", name) == "33", "after the end too"
    other = sk.running("--restart", "no", command=["sh", "-c", "kill -9 $$; sleep 9"])
    assert sk.ok("wait", name, other).split()[0] == "33"


def test_wait_for_a_signal_death(sk):
    name = sk.running("--restart", "no")
    waiting = sk.start("wait", name)
    time.sleep(0.3)
    os.kill(sk.pid(name), signal.SIGKILL)
    out, _ = waiting.communicate(timeout=60)
    assert out.decode().strip() == "137"


def test_rm_refuses_a_running_container(sk):
    name = sk.running()
    sk.fails("rm", name, status=1, match=[name, "running|-f"])
    sk.ok("stop", "-t", "0", name)
    assert sk.ok("rm", name) == name
    assert sk.row(name) is None


def test_rm_of_an_unknown_container(sk):
    sk.fails("rm", "nothing", match="nothing")


def test_rm_option_removes_at_the_end(sk):
    name = sk.running("--rm", command=["sleep", "0.3"])
    wait_for(lambda: sk.row(name) is None)
    sk("run", "--rm", "--name", name, "busybox", "sh", "-c", "exit 3")
    assert sk.row(name) is None


def test_without_rm_a_foreground_container_is_kept(sk, world):
    name = world.name()
    assert sk("run", "--name", name, "busybox", "sh", "-c", "echo kept; exit 3").status == 3
    assert sk.row(name)["exit"]["status"] == 3
    assert sk.ok("logs", name) == "kept"


def test_ids_and_prefixes_name_a_container(sk):
    name = sk.running()
    ident = sk.inspect(name)["id"]
    for given in (ident, ident[:12], ident[:6]):
        assert sk.ok("exec", given, "echo", "x") == "x"
        assert sk.inspect(given)["name"] == name
    other = sk.running()
    sk.fails("inspect", "", match="")
    sk.ok("stop", "-t", "0", ident[:12])
    assert sk.state(name) == "exited" and sk.state(other) == "running"


def test_an_ambiguous_prefix_is_refused(sk, world):
    names = [sk.ok("create", "--name", world.name(), "busybox", "true") for _ in range(20)]
    firsts = [name[0] for name in names]
    common = next(c for c in firsts if firsts.count(c) > 1)
    sk.fails("rm", "-f", common, match="ambig|more than one|several|%s|no " % common)
    assert len(sk.ps()) == 20


def test_every_verb_says_so_when_a_container_is_unknown(sk):
    for verb in ("start", "stop", "kill", "restart", "pause", "unpause", "rm", "logs", "wait", "inspect"):
        sk.fails(verb, "nobody", status=1, match="nobody")
    sk.fails("exec", "nobody", "true", match="nobody")


def test_one_wrong_name_does_not_keep_the_others_from_being_stopped(sk):
    name = sk.running()
    result = sk("stop", "-t", "0", "nobody", name)
    assert result.status == 1 and "nobody" in result.err and name in result.out
    assert sk.state(name) == "exited"


def test_create_then_rm_leaves_nothing(sk, world):
    name = world.name()
    sk.ok("create", "--name", name, "busybox", "true")
    sk.ok("rm", name)
    assert sk.row(name) is None and world.leaks(1) == []


def test_a_failed_run_leaves_nothing(sk, world):
    for options in (["--name", "x"], ["-d"], ["--rm"]):
        sk.fails("run", *options, "busybox", "/no/such/program", status=127)
        for row in sk.ps():
            sk.ok("rm", "-f", row["id"])
    assert world.leaks(5) == []


def test_oom_score_of_keepers(sk):
    name = sk.running()
    row = sk.row(name)
    assert alive(row["guard_pid"])
    assert int(read_text("/proc/%d/oom_score_adj" % row["supervisor_pid"])) <= int(read_text("/proc/%d/oom_score_adj" % sk.pid(name)))


@pytest.mark.parametrize("pace", ["quick", "slow to lock"])
def test_a_list_does_not_sweep_away_what_is_being_created(sk, world, pace):
    """Slow: what it has opened as a draft is a container by the time it has the lock."""
    slowly = ["strace", "-qq", "-o", "/dev/null", "--trace=flock", "--inject=flock:delay_enter=20000"] if pace != "quick" else []
    lists = [subprocess.Popen(["sh", "-c", 'while :; do "$@" >/dev/null; done', "sh"] + slowly + sk.command("ps", "-a"), env=world.environment())
             for _ in range(3)]
    world.background += lists
    names = []
    for _ in range(150):
        names.append(world.name())
        sk.ok("create", "--name", names[-1], "busybox", "true")
        while len(names) > (0 if pace == "quick" else 10):
            sk.ok("rm", names.pop(0))
    for name in names:
        sk.ok("rm", name)


POLLS = ("7", "271", "47", "232", "281")  # poll, ppoll, recvmsg, epoll_wait, epoll_pwait


@pytest.mark.vm
@pytest.mark.parametrize("words", [["wait"], ["stop", "-t", "1000"], ["attach"]], ids=lambda words: words[0])
@pytest.mark.vm_more
def test_who_hears_of_the_end_late_does_not_wait_for_the_next_life(sk, words):
    """Another command has started the container again before this one could look whether its keepers are gone."""
    name = sk.running("--restart", "no", command=["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"])
    ready(sk, name)
    late = sk.start(*words, name)
    sockets = lambda: [fd for fd in listdir("/proc/%d/fd" % late.pid) if "socket:" in os.readlink("/proc/%d/fd/%s" % (late.pid, fd))]
    wait_for(lambda: read_text("/proc/%d/syscall" % late.pid).split()[0] in POLLS and sockets())
    late.send_signal(signal.SIGSTOP)
    sk.ok("kill", name)
    sk.ok("start", name)
    late.send_signal(signal.SIGCONT)
    out, _ = late.communicate(timeout=30)
    assert late.returncode == (137 if words[0] == "attach" else 0) and sk.state(name) == "running"
    assert words[0] != "wait" or out == b"137\n"


def test_one_that_waits_for_its_relaunch_is_not_said_to_run(sk):
    name = sk.running("--restart", "always", "--restart-delay", "1h", "--restart-max-delay", "1h", command=["false"])
    wait_for(lambda: sk.row(name)["restarts"] == 2)  # the first was at once
    sk.fails("rm", name, status=1, match=["waits for its relaunch", "rm -f"])
    result = sk.fails("top", name, status=1, match=[name, "waits for its relaunch"])
    assert "skink start" not in result.err

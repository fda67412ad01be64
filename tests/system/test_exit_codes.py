# SPDX-License-Identifier: Apache-2.0
"""Foreground runs: exit statuses, signals, and callers that die."""

import os
import signal
import time

import pytest
from skinktest import alive, busybox_image, wait_for


@pytest.mark.parametrize("status", [0, 1, 2, 42, 125, 126, 127, 255])
def test_the_status_of_the_program_is_passed_on(sk, status):
    assert sk("run", "--rm", "busybox", "sh", "-c", "exit %d" % status).status == status


@pytest.mark.parametrize("number", [2, 6, 9, 11, 15])
def test_128_plus_the_signal(sk, number):
    assert sk("run", "--rm", "--init", "busybox", "sh", "-c", "kill -%d $$; sleep 9" % number).status == 128 + number


@pytest.mark.parametrize("command", ["/no/such/program", "nosuchprogram", "./relative", "/etc/passwd/x"])
def test_127_when_it_is_not_found(sk, command):
    sk.fails("run", "--rm", "busybox", command, status=127, match=command.replace(".", r"\."))


@pytest.mark.parametrize("command", ["/etc", "/etc/passwd", "/"])
def test_126_when_it_cannot_be_executed(sk, command):
    sk.fails("run", "--rm", "busybox", command, status=126, match="permission|directory|executable")


def test_126_for_a_file_that_is_no_program(sk):
    sk.load(busybox_image("odd", extra=lambda tar: tar.file("bin/odd", b"\x7fELF garbage", 0o755).file(
        "bin/lost", "#!/no/such/interpreter\n", 0o755)))
    sk.fails("run", "--rm", "odd", "odd", status=126)
    assert sk("run", "--rm", "odd", "lost").status in (126, 127)


def test_125_for_our_own_failures(sk):
    sk.fails("run", "--rm", "no-such-image", "true", status=125, match="no-such-image")
    sk.fails("run", "--no-such-option", "busybox", status=125, match="no-such-option")
    sk.fails("run", status=125)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT])
def test_signals_are_forwarded(sk, number):
    name = signal.Signals(number).name[3:]
    run = sk.start("run", "--rm", "busybox", "sh", "-c", "trap 'echo got; exit 40' %s; echo ready; while :; do sleep 0.05; done" % name)
    assert run.stdout.readline() == b"ready\n"
    run.send_signal(number)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (40, b"got\n"), err


def test_a_foreground_run_that_is_killed(sk, world):
    """kill -9 of `skink run`: the container goes on or ends as its policy says, never half."""
    name = world.name()
    run = sk.start("run", "--name", name, "busybox", "sh", "-c", "echo ready; sleep 1000")
    assert run.stdout.readline() == b"ready\n"
    pid = sk.pid(name)
    run.kill()
    run.wait()
    time.sleep(1)
    state = sk.state(name)
    assert state in ("running", "exited", "unknown")
    assert alive(pid) == (state == "running")
    if state == "running":
        assert sk.ok("exec", name, "echo", "x") == "x"
    sk.ok("rm", "-f", name)
    wait_for(lambda: not alive(pid))


def test_a_foreground_run_with_rm_that_is_killed_leaves_nothing(sk, world):
    name = world.name()
    run = sk.start("run", "--rm", "--name", name, "busybox", "sh", "-c", "echo ready; sleep 2")
    assert run.stdout.readline() == b"ready\n"
    run.kill()
    run.wait()
    wait_for(lambda: sk.row(name) is None)


def test_a_foreground_run_follows_its_policy(sk, world):
    result = sk("run", "--name", world.name(), "--restart", "on-failure:2", "busybox", "sh", "-c", "echo run; exit 6")
    assert result.status == 6 and result.out == "run\n" * 3


def test_a_closed_standard_output(sk, world):
    import subprocess
    done = subprocess.run(["sh", "-c", "%s run --rm busybox seq 1 100000 | head -n 1" % " ".join(sk.command())], capture_output=True,
                          env=world.environment(), timeout=90)
    assert done.stdout == b"1\n"
    wait_for(lambda: sk.ps() == [])


def test_not_root_is_one_clear_line(world):
    import subprocess
    import shutil
    shutil.copy(world.skink.path, world.path("skink"))
    os.chmod(world.base, 0o755)
    done = subprocess.run([world.path("skink"), "--root", world.path("s"), "--run", world.path("r"), "ps"], capture_output=True,
                          preexec_fn=lambda: (os.setgroups([]), os.setresgid(65534, 65534, 65534), os.setresuid(65534, 65534, 65534)))
    assert done.returncode not in (0, None) and done.returncode > 0
    assert done.stderr.count(b"\n") == 1 and b"root" in done.stderr, done

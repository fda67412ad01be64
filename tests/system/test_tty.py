# SPDX-License-Identifier: Apache-2.0
"""Terminals: -t, resize, and what the caller's terminal is left like."""

import re
import signal
import termios

from skinktest import wait_for
from terminal import terminal  # noqa: F401


def test_a_terminal_of_its_own(sk, terminal):
    t = terminal("run", "--rm", "-it", "busybox", "sh", "-c", "probe terminals; stat -f -c %T /dev/console; ls -l /dev/console | cut -c1; exit 5")
    assert t.end() == 5
    text = t.text.decode()
    assert re.search(r"0: /dev/(pts/0|console)", text) and re.search("1: /dev", text), text


def test_input_echo_and_line_editing(sk, terminal):
    t = terminal("run", "--rm", "-it", "busybox", "sh", "-c", "echo ready; read x; echo \"got [$x]\"")
    # What is typed before our terminal is raw is echoed by that as well.
    t.expect(rb"ready")
    t.type("hello\r")
    t.expect(rb"got \[hello\]")
    assert t.end() == 0
    assert t.text.count(b"hello") == 2, "echoed once by the container's terminal: %r" % t.text


def test_size_and_resize(sk, terminal):
    t = terminal("run", "--rm", "-it", "busybox", "probe", "window", columns=101, lines=33)
    t.expect(rb"window: 101x33")
    t.resize(120, 40)
    t.process.send_signal(signal.SIGWINCH)
    t.expect(rb"window: 120x40")
    t.type("\r")
    assert t.end() == 0


def test_control_c_reaches_the_program(sk, terminal):
    t = terminal("run", "--rm", "-it", "busybox", "sh", "-c", "trap 'echo interrupted; exit 8' INT; echo ready; while :; do sleep 0.05; done")
    t.expect(rb"ready")
    t.type("\x03")
    assert t.end() == 8
    assert b"interrupted" in t.text


def test_the_callers_terminal_is_restored(sk, terminal):
    t = terminal("run", "--rm", "-it", "busybox", "sh", "-c", "echo ready; sleep 0.3")
    t.expect(rb"ready")
    assert t.end() == 0
    assert termios.tcgetattr(t.slave) == t.before


def test_the_callers_terminal_is_restored_after_a_signal(sk, terminal):
    t = terminal("run", "--rm", "-it", "busybox", "sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done")
    t.expect(rb"ready")
    t.process.send_signal(signal.SIGTERM)
    assert t.end() == 9
    assert termios.tcgetattr(t.slave) == t.before


def test_exec_with_a_terminal(sk, terminal):
    name = sk.running()
    t = terminal("exec", "-it", name, "probe", "window", columns=90, lines=30)
    t.expect(rb"window: 90x30")
    t.resize(91, 31)
    t.process.send_signal(signal.SIGWINCH)
    t.expect(rb"window: 91x31")
    t.type("\r")
    assert t.end() == 0


def test_i_and_t_without_a_terminal_are_refused(sk):
    sk.fails("run", "--rm", "-it", "busybox", "true", status=125, match="tty|terminal")


def test_t_alone_gives_a_terminal_without_input(sk):
    result = sk("run", "--rm", "-t", "busybox", "sh", "-c", "probe terminals; echo done")
    assert result.status == 0 and "done" in result.out and "no tty" not in result.out, result


def test_a_detached_container_with_a_terminal(sk):
    name = sk.running("-t", "--restart", "no", command=["sh", "-c", "probe terminals; echo end"])
    sk.ok("wait", name)
    assert "no tty" not in sk.ok("logs", name) and "end" in sk.ok("logs", name)


def test_the_callers_terminal_is_not_the_containers(sk, terminal):
    """Without -t nothing of the caller's terminal is passed in."""
    t = terminal("run", "--rm", "busybox", "probe", "terminals")
    assert t.end() == 0
    assert t.text.count(b"no tty") == 3, t.text

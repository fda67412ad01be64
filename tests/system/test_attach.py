# SPDX-License-Identifier: Apache-2.0
"""skink attach, and letting go of a terminal."""

import os
import subprocess
import time

from skinktest import wait_for
from terminal import terminal  # noqa: F401


def test_several_see_the_output_and_the_status(sk):
    name = sk.running("--restart", "no", command=["sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.05; done; echo seen; echo too >&2; exit 7"])
    both = [sk.start("attach", "--no-stdin", name) for _ in range(2)]
    wait_for(lambda: all(os.path.exists("/proc/%d" % one.pid) for one in both))
    time.sleep(0.5)
    sk.ok("exec", name, "touch", "/tmp/go")
    for one in both:
        out, err = one.communicate(timeout=60)
        assert (one.returncode, out, err) == (7, b"seen\n", b"too\n")


def test_standard_input(sk):
    name = sk.running("-i", "--restart", "no", command=["cat"])
    one = sk.start("attach", name, stdin=subprocess.PIPE)
    out, _ = one.communicate(b"typed\n", timeout=60)
    assert out == b"typed\n" and one.returncode == 0


def test_keys_let_go_of_a_terminal_and_attach_comes_back(sk, terminal):
    name = sk.world.name()
    t = terminal("run", "-it", "--restart", "no", "--name", name, "busybox", "sh")
    t.type("x=kept; echo ready-$((1+1))\r")
    t.expect(rb"ready-2")
    first = sk.pid(name)
    t.type("\x10\x11")
    assert t.end() == 0
    assert sk.pid(name) == first and sk.state(name) == "running"
    t = terminal("attach", "--detach-keys", "ctrl-e,d", name)
    # A key that only begins the sequence is passed on.
    t.type("echo \x05again-$x\r")
    t.expect(rb"again-kept")
    t.type("\x05d")
    assert t.end() == 0 and sk.state(name) == "running"
    t = terminal("attach", name)
    t.type("exit 3\r")
    assert t.end() == 3


def test_what_cannot_be_attached_to(sk):
    name = sk.ok("create", "busybox", "true")
    sk.fails("attach", name, status=125, match="is not running; skink start -a")
    sk.fails("attach", "nobody", status=125, match="no such container")
    sk.fails("attach", "--detach-keys", "alt-x", name, status=125, match="ctrl-p,ctrl-q")
    sk.fails("run", "--detach-keys", "ctrl-1", "busybox", "true", status=125, match="ctrl-p,ctrl-q")


def test_a_container_that_is_being_stopped_is_not_started_again(sk, world):
    name = sk.running(command=["sh", "-c", "trap 'touch /tmp/asked' TERM; echo ready; while :; do sleep 0.1; done"])
    wait_for(lambda: "ready" in sk.ok("logs", name))
    stop = sk.start("stop", "-t", "5", name)
    wait_for(lambda: sk("exec", name, "test", "-e", "/tmp/asked").status == 0)
    assert sk("attach", name, timeout=60).status == 137
    assert stop.wait(timeout=60) == 0 and sk.state(name) == "exited"
    assert sk.row(name)["restarts"] == 0

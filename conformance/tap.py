# SPDX-License-Identifier: Apache-2.0
"""Results in the Test Anything Protocol, which both suites speak, and how one program that speaks it is run."""
import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading

REAPER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "reaper.py")
LINE = re.compile(r"^(not )?ok\b(?: \d+)?(?: ?-)? ?(.*)$")
SKIP = re.compile(r"\s*# ?SKIP\b:? ?(.*)$", re.I)
TODO = re.compile(r"\s*# ?TODO\b.*$", re.I)


class Point:
    """One line of a result: "pass", "fail" or "skip", what was looked at, and what was said about it."""

    def __init__(self, status, name, said=""):
        self.status, self.name, self.said = status, name, said


def parse(text):
    """The points of a program's output. Lines between two points belong to the one before."""
    points = []
    for line in text.splitlines():
        match = LINE.match(line)
        if not match:
            if points and line.strip() and not re.match(r"^(TAP version|\d+\.\.\d+)", line):
                points[-1].said += line.strip().lstrip("# ") + "\n"
            continue
        failed, name = match.groups()
        skip = SKIP.search(name)
        status = "skip" if skip else "fail" if failed and not TODO.search(name) else "pass"
        points.append(Point(status, SKIP.sub("", TODO.sub("", name)).strip(), skip.group(1) + "\n" if skip else ""))
    return points


def kill_session(child):
    """The program and its group; a shell below it that has made a group of its own dies of the lost terminal."""
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def drain(master_fd):
    """Reads a terminal until nobody has its other end, so that no writer ever waits."""
    try:
        while os.read(master_fd, 4096):
            pass
    except OSError:
        pass
    os.close(master_fd)


def run(argv, cwd, environment, seconds, log, terminal=False):
    """(exit status or None when it took too long, everything it said). `log` gets the same. With `terminal` it has a
    controlling terminal, as standard input too."""
    slave_fd = subprocess.DEVNULL
    if terminal:
        master_fd, slave_fd = pty.openpty()
        threading.Thread(target=drain, args=[master_fd], daemon=True).start()

    def take_terminal():
        if terminal:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    with open(log, "wb+") as out:
        child = subprocess.Popen([sys.executable, REAPER, *argv], cwd=cwd, env={**os.environ, **environment}, stdin=slave_fd, stdout=out,
                                 stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=take_terminal)
        if terminal:
            os.close(slave_fd)
        try:
            status = child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            kill_session(child)
            status = None
        out.seek(0)
        return status, out.read().decode(errors="replace")

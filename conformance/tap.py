# SPDX-License-Identifier: Apache-2.0
"""Results in the Test Anything Protocol, which both suites speak, and how one program that speaks it is run."""
import os
import re
import signal
import subprocess

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


def run(argv, cwd, environment, seconds, log):
    """(exit status or None when it took too long, standard output); standard error goes to the end of `log`."""
    with open(log, "wb+") as out:
        child = subprocess.Popen(argv, cwd=cwd, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=out,
                                 stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            status = None
        out.seek(0)
        return status, out.read().decode(errors="replace")

# SPDX-License-Identifier: Apache-2.0
"""A command on a pseudo-terminal of ours."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

import pytest
from skinktest import wait_for


class Terminal:
    def __init__(self, world, command, columns=80, lines=24):
        self.master, slave = pty.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(slave)
        self.slave = os.dup(slave)
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=world.environment(),
                                        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        world.background.append(self.process)
        self.text = b""

    def resize(self, columns, lines):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read(self, timeout=0.1):
        ready, _, _ = select.select([self.master], [], [], timeout)
        if ready:
            try:
                self.text += os.read(self.master, 65536)
            except OSError:
                pass
        return self.text

    def expect(self, pattern, timeout=40):
        wait_for(lambda: re.search(pattern, self.read()), timeout, 0, "%r in %r" % (pattern, self.text))

    def type(self, text):
        os.write(self.master, text.encode())

    def end(self, timeout=60):
        stop = time.monotonic() + timeout
        while self.process.poll() is None and time.monotonic() < stop:
            self.read()
        for _ in range(5):
            self.read()
        return self.process.wait(timeout=5)

    def close(self):
        os.close(self.master)
        os.close(self.slave)


def terminals(world, program):
    """What starts `program`, which is skink or skink-oci, on terminals that are closed at the end of the test."""
    made = []

    def make(*args, **more):
        made.append(Terminal(world, program.command(*args), **more))
        return made[-1]
    yield make
    for one in made:
        one.close()


@pytest.fixture
def terminal(world):
    yield from terminals(world, world.skink)

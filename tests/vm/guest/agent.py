# SPDX-License-Identifier: Apache-2.0
"""Runs commands for the host of the virtual machine: frames come and go on a virtio port (see ../machine.py).

Few imports: each costs a tenth of a second where the processor is emulated.
"""

import os
import select
import signal
import struct

PORT_NAME = b"skink.agent"
HEADER = struct.Struct("<cII")
CHUNK = 65536


def find_port():
    # By name, without udev's links; ports are few.
    top = "/sys/class/virtio-ports"
    for name in os.listdir(top):
        with open(os.path.join(top, name, "name"), "rb") as file:
            if file.read().strip() == PORT_NAME:
                return os.open("/dev/" + name, os.O_RDWR | os.O_CLOEXEC)
    raise SystemExit("agent: no port of the host")


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


def resize(path, size):
    """size: b"24x80"; by stty, so that two modules stay out."""
    rows, columns = size.split(b"x")
    os.spawnlp(os.P_WAIT, "stty", "stty", "-F", path, "rows", rows, "cols", columns)


class Command:
    """A process with what goes in and comes out. `terminal`: its size, or nothing for three pipes."""

    def __init__(self, number, words, directory, terminal):
        self.number = number
        self.input, self.input_ends, self.terminal = b"", False, None
        if terminal:
            self.start_with_terminal(words, directory, terminal)
        else:
            self.start_with_pipes(words, directory)
        os.set_blocking(self.stdin, False)

    def start_with_pipes(self, words, directory):
        child_in, self.stdin = os.pipe2(os.O_CLOEXEC)
        out, child_out = os.pipe2(os.O_CLOEXEC)
        err, child_err = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            become(words, directory, (child_in, child_out, child_err))
        for fd in (child_in, child_out, child_err):
            os.close(fd)
        self.outputs = {out: b"O", err: b"E"}

    def start_with_terminal(self, words, directory, size):
        master, slave = os.openpty()
        self.terminal = os.ttyname(slave)
        resize(self.terminal, size)
        self.pid = os.fork()
        if self.pid == 0:
            become(words, directory, (slave, slave, slave))
        os.close(slave)
        self.stdin = os.dup(master)
        self.outputs = {master: b"O"}


def become(words, directory, fds):
    """In the child: never returns. words: count of variables, variables, arguments."""
    status = 127
    try:
        os.setsid()
        if os.isatty(fds[0]):
            # The first terminal that a session opens is its own.
            os.close(os.open(os.ttyname(fds[0]), os.O_RDWR))
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        # The agent's own protection is not for them.
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("0")
        count = int(words[0])
        environment = dict(word.split(b"=", 1) for word in words[1:count + 1])
        words = words[count + 1:]
        os.chdir(directory)
        os.execvpe(words[0], words, environment)
    except OSError as error:
        status = 126 if isinstance(error, PermissionError) else 127
        write_all(2, b"tools/vm: %s: %s\n" % (words[0], os.strerror(error.errno).encode()))
    finally:
        os._exit(status)


class Agent:
    def __init__(self):
        self.port = find_port()
        self.commands, self.pending = {}, b""
        self.poll = select.poll()
        self.poll.register(self.port, select.POLLIN)
        self.woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.poll.register(self.woken, select.POLLIN)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def say(self, kind, number, data=b""):
        write_all(self.port, HEADER.pack(kind, number, len(data)) + data)

    def receive(self):
        data = os.read(self.port, CHUNK)
        if not data:
            # Nobody has opened the host's end; poll would spin.
            select.select([], [], [], 0.1)
        self.pending += data
        while len(self.pending) >= HEADER.size:
            kind, number, size = HEADER.unpack_from(self.pending)
            if len(self.pending) < HEADER.size + size:
                return
            payload = self.pending[HEADER.size:HEADER.size + size]
            self.pending = self.pending[HEADER.size + size:]
            self.obey(kind, number, payload)

    def obey(self, kind, number, payload):
        if kind == b"R":
            words = payload.split(b"\0")
            command = self.commands[number] = Command(number, words[2:], words[0], words[1])
            for fd in command.outputs:
                self.poll.register(fd, select.POLLIN)
            return
        command = self.commands.get(number)
        if command is None:
            return
        if kind == b"S":
            try:
                os.killpg(command.pid, int(payload))
            except ProcessLookupError:
                pass
        elif kind == b"W" and command.terminal:
            resize(command.terminal, payload)
        elif kind in b"IC" and command.stdin >= 0:
            command.input += payload
            command.input_ends = kind == b"C"
            self.feed(command)

    def feed(self, command):
        """Writes what the command takes now; says how much, so that the host sends no more than that ahead."""
        try:
            count = os.write(command.stdin, command.input) if command.input else 0
        except BlockingIOError:
            count = 0
        except OSError:
            # It reads no more: what comes is thrown away.
            count = len(command.input)
        command.input = command.input[count:]
        if count:
            self.say(b"A", command.number, b"%d" % count)
        if command.input:
            self.poll.register(command.stdin, select.POLLOUT)
        elif command.input_ends:
            self.close_input(command)
        else:
            self.forget(command.stdin)

    def forget(self, fd):
        try:
            self.poll.unregister(fd)
        except KeyError:
            pass

    def close_input(self, command):
        if command.stdin >= 0:
            self.forget(command.stdin)
            os.close(command.stdin)
            command.stdin = -1

    def reap(self):
        for command in list(self.commands.values()):
            pid, status = os.waitpid(command.pid, os.WNOHANG)
            if pid:
                self.finish(command, os.waitstatus_to_exitcode(status))

    def finish(self, command, status):
        """What is in the pipes when the command has ended is its output; its children are not waited for."""
        for fd in list(command.outputs):
            while fd in command.outputs and select.select([fd], [], [], 0)[0]:
                self.forward(command, fd)
        for fd in list(command.outputs):
            self.drop(command, fd)
        self.close_input(command)
        del self.commands[command.number]
        self.say(b"X", command.number, b"%d" % status)

    def drop(self, command, fd):
        self.forget(fd)
        os.close(fd)
        del command.outputs[fd]

    def forward(self, command, fd):
        try:
            data = os.read(fd, CHUNK)
        except OSError:
            # The last process has closed the terminal.
            data = b""
        if data:
            self.say(command.outputs[fd], command.number, data)
        else:
            self.drop(command, fd)

    def serve(self):
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            self.say(b"H", 0, file.read().strip())
        while True:
            for fd, _ in self.poll.poll():
                if fd == self.port:
                    self.receive()
                elif fd == self.woken:
                    os.read(fd, CHUNK)
                for command in list(self.commands.values()):
                    if fd in command.outputs:
                        self.forward(command, fd)
                    elif fd == command.stdin:
                        self.feed(command)
            self.reap()


Agent().serve()

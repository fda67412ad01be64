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


class Command:
    def __init__(self, number, words, directory, terminal):
        self.number, self.status = number, None
        self.outputs = {}
        if terminal:
            self.start_with_terminal(words, directory)
        else:
            self.start_with_pipes(words, directory)

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

    def start_with_terminal(self, words, directory):
        master, slave = os.openpty()
        os.set_inheritable(master, False)
        self.pid = os.fork()
        if self.pid == 0:
            become(words, directory, (slave, slave, slave))
        os.close(slave)
        self.stdin = os.dup(master)
        self.outputs = {master: b"O"}


def become(words, directory, fds):
    """In the child: never returns."""
    try:
        os.setsid()
        if os.isatty(fds[0]):
            import fcntl
            import termios
            fcntl.ioctl(fds[0], termios.TIOCSCTTY, 0)
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        count = int(words[0])
        environment = dict(word.split(b"=", 1) for word in words[1:count + 1])
        argv = words[count + 1:]
        os.chdir(directory)
        os.execvpe(argv[0], argv, environment)
    except OSError as error:
        write_all(2, b"tools/vm: %s: %s\n" % (argv[0], os.strerror(error.errno).encode()))
    finally:
        os._exit(127 if not isinstance(locals().get("error"), PermissionError) else 126)


class Agent:
    def __init__(self):
        self.port = find_port()
        self.commands, self.pending = {}, b""
        self.poll = select.poll()
        self.poll.register(self.port, select.POLLIN)
        wake, self.wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.woken = wake
        self.poll.register(wake, select.POLLIN)
        signal.set_wakeup_fd(self.wake, warn_on_full_buffer=False)
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
        command = self.commands.get(number)
        if kind == b"R":
            words = payload.split(b"\0")
            command = Command(number, words[2:], words[0], words[1] == b"tty")
            self.commands[number] = command
            for fd in command.outputs:
                self.poll.register(fd, select.POLLIN)
        elif command is None:
            return
        elif kind == b"I":
            try:
                write_all(command.stdin, payload)
            except OSError:
                pass
        elif kind == b"C" and command.stdin >= 0:
            os.close(command.stdin)
            command.stdin = -1
        elif kind == b"S":
            try:
                os.killpg(command.pid, int(payload))
            except OSError:
                pass

    def reap(self):
        for command in list(self.commands.values()):
            if command.status is None:
                pid, status = os.waitpid(command.pid, os.WNOHANG)
                if pid:
                    command.status = os.waitstatus_to_exitcode(status)
                    self.finish(command)

    def finish(self, command):
        """What is in the pipes when the command has ended is its output; what its children say later is not waited for."""
        for fd in list(command.outputs):
            while self.forward(command, fd, 0):
                pass
        for fd in list(command.outputs):
            self.drop(command, fd)
        if command.stdin >= 0:
            os.close(command.stdin)
        del self.commands[command.number]
        self.say(b"X", command.number, b"%d" % command.status)

    def drop(self, command, fd):
        self.poll.unregister(fd)
        os.close(fd)
        del command.outputs[fd]

    def forward(self, command, fd, patience=None):
        if patience is not None and not select.select([fd], [], [], patience)[0]:
            return False
        try:
            data = os.read(fd, CHUNK)
        except OSError:
            data = b""
        if data:
            self.say(command.outputs[fd], command.number, data)
            return True
        self.drop(command, fd)
        return False

    def serve(self):
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            self.say(b"H", 0, file.read().strip())
        while True:
            for fd, _ in self.poll.poll():
                if fd == self.port:
                    self.receive()
                elif fd == self.woken:
                    os.read(fd, CHUNK)
                else:
                    for command in list(self.commands.values()):
                        if fd in command.outputs:
                            self.forward(command, fd)
            self.reap()


Agent().serve()

# SPDX-License-Identifier: Apache-2.0
"""A virtual machine to run commands in: Debian 12 under systemd, with the built programs and the tests in /skink.

    with Machine(disk="/var/tmp/x/disk") as machine:       # without disk: whatever is written is forgotten
        machine.run(["systemctl", "is-system-running"]).out
        machine.pull_the_plug(); machine.boot()             # or machine.reboot()

The host talks with guest/agent.py by frames on a virtio port: a letter, the number of the command, a length, the payload.
To the guest: R run (directory, size of the terminal or "", count of variables, variables, words; NUL between), I input,
C close input, S signal, W new size of the terminal. From the guest: H the agent is there (with the boot id), O and E
output, A input that was taken (how much), X exit status, negative for a signal.

The disk of a killed machine holds what the guest had handed to it: the page cache of this machine outlives qemu.
"""

import ctypes
import io
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
import image  # noqa: E402
from image import ImageError  # noqa: E402,F401

HEADER = struct.Struct("<cII")
# What the kernel is told; most of it saves time where the processor is emulated.
KERNEL_ARGS = ("console=ttyS0 loglevel=4 panic=-1 mitigations=off nopti no_timer_check tsc=reliable cryptomgr.notests audit=0 "
               "nokaslr random.trust_cpu=on systemd.show_status=0")
GUEST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BUILT = "build"
CHUNK = 65536
MOST_AHEAD = 4 * CHUNK
# A kernel says its first words within a second where KVM works.
PROBE_SECONDS = 8
# As in the tests: a machine that has much else to do, or sleeps in between, needs more.
SLOWER = float(os.environ.get("SKINK_TEST_SLOWER") or 1)


class MachineError(Exception):
    """The machine, not a command in it, went wrong: did not boot, panicked, ended, hung."""


class Result:
    def __init__(self, status, out, err):
        self.status, self.raw_out, self.raw_err = status, out, err
        self.out, self.err = out.decode("utf-8", "replace"), err.decode("utf-8", "replace")

    def __repr__(self):
        return "-> %s\nstdout: %s\nstderr: %s" % (self.status, self.out[-3000:], self.err[-3000:])


def payload_parts(build):
    """What the guest gets: pairs of (path in /skink, path here). Objects and libraries stay out."""
    parts = [(name, os.path.join(TOP, name)) for name in
             ("tests", "tools", "images", "docs", "src", "include", "bench", "README.md", "HACKING.md", "LICENSE", "meson.build",
              "meson_options.txt", "conformance", "packaging", "units")]
    parts += [(BUILT + "/" + name, os.path.join(build, name)) for name in ("units", "docs")]
    for directory, subdirs, names in os.walk(build):
        subdirs[:] = [name for name in subdirs if not name.endswith(".p") and
                      name not in ("logs", "meson-logs", "meson-private", "units", "docs")]
        for name in names:
            path = os.path.join(directory, name)
            if os.access(path, os.X_OK) and not name.endswith(".so"):
                parts.append((os.path.join(BUILT, os.path.relpath(path, build)), path))
            if name in ("skink", "skink-oci"):
                parts.append(("bin/" + name, path))
    return [(there, here) for there, here in parts if os.path.exists(here)]


# Bind mounts on a tmpfs show mke2fs one tree; all of it vanishes with the namespace. Nothing is copied.
STAGE = r"""
set -e
mount -t tmpfs -o mode=755 payload /mnt
while IFS='	' read -r there here; do
  mkdir -p "/mnt/$(dirname "$there")"
  if [ -d "$here" ]; then mkdir -p "/mnt/$there"; else : >"/mnt/$there"; fi
  mount --bind "$here" "/mnt/$there"
done
exec mke2fs -q -F -t ext4 -O ^has_journal -E lazy_itable_init=1,root_owner=0:0 -m 0 -d /mnt "$1" 512M
"""


def make_payload(build):
    """The disk with programs and tests: an open file without a name."""
    file = tempfile.TemporaryFile(dir=scratch_directory())
    listing = "".join("%s\t%s\n" % part for part in payload_parts(os.path.abspath(build)))
    path = "/proc/%d/fd/%d" % (os.getpid(), file.fileno())
    done = subprocess.run(["unshare", "--mount", "sh", "-c", STAGE, "sh", path], input=listing.encode(),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise MachineError("the disk with the programs cannot be made: %s" % done.stdout.decode(errors="replace"))
    return file


def scratch_directory():
    return os.environ.get("TMPDIR") or "/var/tmp"


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Command:
    """A command that runs in the guest; `sink(letter, bytes)` gets its output as it comes."""

    def __init__(self, number, sink):
        self.number, self.sink, self.status = number, sink, None
        # Input on its way that the command has not taken yet.
        self.ahead = 0


def kvm_works(directory):
    """Boots the image's kernel with KVM as far as its first program: where machines are nested, /dev/kvm can be there and
    a guest hang. The answer is kept until this machine boots again."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    with open("/proc/sys/kernel/random/boot_id") as file:
        kept = os.path.join(image.cache_top(), "kvm-" + file.read().strip())
    if not os.path.exists(kept):
        with image.locked(image.cache_top()):
            for name in os.listdir(image.cache_top()):
                if name.startswith("kvm-"):
                    os.unlink(os.path.join(image.cache_top(), name))
            answer = probe_kvm(directory)
            with open(kept + ".new", "w") as file:
                file.write(answer)
            os.rename(kept + ".new", kept)
    with open(kept) as file:
        return file.read() == "works"


def probe_kvm(directory):
    command = ["qemu-system-x86_64", "-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "256", "-nodefaults",
               "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", directory + "/vmlinuz",
               "-initrd", directory + "/initrd", "-append", KERNEL_ARGS + " probe"]
    try:
        said = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=PROBE_SECONDS, preexec_fn=die_with_parent).stdout
    except subprocess.TimeoutExpired:
        return "hangs"
    return "works" if b"init: the processor works" in said else "fails"


def accelerator(directory):
    return ["-accel", "kvm", "-cpu", "host"] if kvm_works(directory) else ["-accel", "tcg,thread=multi", "-cpu", "max"]


class Machine:
    def __init__(self, disk=None, memory=2048, cpus=2, kernel_args="", build=None, packages=(), say=lambda text: None):
        self.memory, self.cpus, self.kernel_args, self.say = memory, cpus, kernel_args, say
        self.image = image.ensure(say, packages)
        self.disk = disk
        if disk is not None and not os.path.exists(disk):
            copy_sparse(os.path.join(self.image, "disk"), disk)
        self.payload = make_payload(build or os.environ.get("SKINK_BUILD") or os.path.join(TOP, "build"))
        self.process = self.port = self.console = None
        self.received, self.commands, self.count, self.boot_id = b"", {}, 0, None
        # Descriptors to look after while waiting, with what to call when there is something to read.
        self.watched = {}

    def __enter__(self):
        try:
            self.boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.pull_the_plug()
        self.payload.close()

    def nodes(self):
        """Two NUMA nodes, each with one half of the memory and of the processors."""
        words, half, last = [], self.memory // 2, self.cpus - 1
        for number, size, cpus in ((0, half, "0-%d" % (last // 2)), (1, self.memory - half, "%d-%d" % (last // 2 + 1, last))):
            words += ["-object", "memory-backend-ram,id=node%d,size=%dM" % (number, size),
                      "-numa", "node,nodeid=%d,cpus=%s,memdev=node%d" % (number, cpus, number)]
        return words if self.cpus > 1 else []

    # Power.

    def qemu_command(self, port, payload):
        # Flushes may be ignored: they would guard against a failure of this machine.
        disk = "file=%s,format=raw,if=none,id=root,cache=unsafe" % (self.disk or os.path.join(self.image, "disk"))
        return ["qemu-system-x86_64", "-machine", "q35", *accelerator(self.image), "-smp", str(self.cpus), "-m", str(self.memory), *self.nodes(),
                "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none", "-monitor", "none", "-serial", "stdio",
                "-no-reboot", "-kernel", os.path.join(self.image, "vmlinuz"), "-initrd", os.path.join(self.image, "initrd"),
                "-append", KERNEL_ARGS + " " + self.kernel_args,
                "-drive", disk + ("" if self.disk else ",snapshot=on"),
                "-device", "virtio-blk-pci,drive=root",
                "-drive", "file=/proc/self/fd/%d,format=raw,if=none,id=payload,cache=unsafe" % payload,
                "-device", "virtio-blk-pci,drive=payload",
                "-device", "virtio-serial-pci", "-chardev", "socket,id=agent,fd=%d" % port,
                "-device", "virtserialport,chardev=agent,name=skink.agent"]

    def boot(self, timeout=300 * SLOWER):
        """Starts the machine; returns when its agent answers."""
        assert self.process is None
        self.port, theirs = socket.socketpair()
        self.console = tempfile.TemporaryFile(dir=scratch_directory())
        self.received, self.commands = b"", {}
        with theirs:
            self.process = subprocess.Popen(self.qemu_command(theirs.fileno(), self.payload.fileno()),
                                            stdin=subprocess.DEVNULL, stdout=self.console, stderr=self.console,
                                            pass_fds=(theirs.fileno(), self.payload.fileno()), preexec_fn=die_with_parent,
                                            env=dict(os.environ, TMPDIR=scratch_directory()))
        self.boot_id = None
        self.pump(lambda: self.boot_id, timeout, "boot")

    def console_text(self):
        self.console.seek(0)
        return self.console.read().decode("utf-8", "replace").replace("\r", "")

    def pull_the_plug(self):
        """Ends the machine as a power failure does: what the guest has not written to its disk is lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.forget()

    def forget(self):
        self.port.close()
        self.console.close()
        self.process = self.port = None

    def power_off(self, timeout=120 * SLOWER):
        """Asks systemd to power off and waits until it has done so. SIGRTMIN+4 to PID 1 is what poweroff sends."""
        self.start(["kill", "-s", "RTMIN+4", "1"])
        try:
            self.wait_end(timeout)
        finally:
            self.pull_the_plug()

    def wait_end(self, timeout):
        end = time.monotonic() + timeout
        while self.process.poll() is None:
            if time.monotonic() > end:
                raise MachineError("did not power off in %d s\n%s" % (timeout, self.console_text()[-3000:]))
            # Its output must go somewhere meanwhile.
            if select.select([self.port], [], [], 0.2)[0] and not self.port.recv(65536):
                time.sleep(0.05)
        self.forget()

    def reboot(self, timeout=120 * SLOWER):
        """As `systemctl reboot`; the disk must be a persistent one to be of use."""
        self.power_off(timeout)
        self.boot()

    # Commands.

    def send(self, kind, number, payload=b""):
        self.port.sendall(HEADER.pack(kind, number, len(payload)) + payload)

    def start(self, words, env=None, cwd="/root", sink=lambda letter, data: None, terminal=""):
        """`terminal`: its size, as "24x80"; without it the command gets three pipes."""
        environment = {"PATH": GUEST_PATH, "HOME": "/root", "LANG": "C.UTF-8", "USER": "root", "SHELL": "/bin/bash"}
        environment.update(env or {})
        fields = [cwd, terminal, str(len(environment))]
        fields += ["%s=%s" % item for item in environment.items()] + list(words)
        self.count += 1
        command = self.commands[self.count] = Command(self.count, sink)
        self.send(b"R", command.number, b"\0".join(os.fsencode(field) for field in fields))
        return command

    def wait(self, command, timeout=None):
        """The exit status as a shell has it: 128 and the number for one that a signal ended."""
        self.pump(lambda: command.status is not None, timeout, "command")
        return command.status if command.status >= 0 else 128 - command.status

    def run(self, words, timeout=600 * SLOWER, input=b"", **more):
        said = {b"O": [], b"E": []}
        command = self.start(words, sink=lambda letter, data: said[letter].append(data), **more)
        for start in range(0, len(input), CHUNK):
            self.feed(command, input[start:start + CHUNK], timeout)
        self.send(b"C", command.number)
        status = self.wait(command, timeout)
        return Result(status, b"".join(said[b"O"]), b"".join(said[b"E"]))

    def feed(self, command, data, timeout=None):
        """Waits while too much is on its way already."""
        self.pump(lambda: command.ahead < MOST_AHEAD or command.status is not None, timeout, "command")
        command.ahead += len(data)
        self.send(b"I", command.number, data)

    def shell(self, script, **more):
        return self.run(["bash", "-c", script], **more)

    def fetch(self, directory, target):
        """Copies what is in a directory of the guest to one here."""
        packed = self.run(["tar", "-C", directory, "-cf", "-", "."])
        if packed.status != 0:
            raise MachineError("%s cannot be read: %s" % (directory, packed.err))
        os.makedirs(target, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(packed.raw_out)) as archive:
            for member in archive:
                if member.isreg() or member.isdir():
                    archive.extract(member, target, set_attrs=False)

    def pump(self, done, timeout, what):
        """Reads frames until `done`; says so when the machine ends or hangs before."""
        end = None if timeout is None else time.monotonic() + timeout
        while not done():
            patience = 1.0 if end is None else min(1.0, end - time.monotonic())
            if patience <= 0:
                raise TimeoutError("the %s did not end in %d s\n%s" % (what, timeout, self.console_text()[-3000:]))
            ready = select.select([self.port, *self.watched], [], [], patience)[0]
            for fd in ready:
                if fd is self.port:
                    self.read_frames()
                else:
                    self.watched[fd]()
            if not ready and self.process.poll() is not None:
                self.raise_dead(what)

    def read_frames(self):
        try:
            data = self.port.recv(1 << 20)
        except ConnectionError:
            data = b""
        if not data:
            self.process.wait()
            self.raise_dead("command")
        self.received += data
        start = 0
        while len(self.received) - start >= HEADER.size:
            kind, number, size = HEADER.unpack_from(self.received, start)
            if len(self.received) - start < HEADER.size + size:
                break
            payload = self.received[start + HEADER.size:start + HEADER.size + size]
            start += HEADER.size + size
            self.take(kind, number, payload)
        self.received = self.received[start:]

    def take(self, kind, number, payload):
        if kind == b"H":
            if self.boot_id is not None:
                raise MachineError("the agent in the virtual machine was started again; see its journal")
            self.boot_id = payload.decode()
        elif number in self.commands:
            command = self.commands[number]
            if kind == b"X":
                command.status = int(payload)
                del self.commands[number]
            elif kind == b"A":
                command.ahead -= int(payload)
            else:
                command.sink(kind, payload)

    def raise_dead(self, what):
        raise MachineError("the virtual machine ended (qemu's status %d) before the %s did\n%s" % (
            self.process.returncode, what, self.console_text()[-3000:]))


def copy_sparse(source, target):
    temporary = target + ".new"
    try:
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", source, temporary], check=True)
        os.rename(temporary, target)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)

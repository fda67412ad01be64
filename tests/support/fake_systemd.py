# SPDX-License-Identifier: Apache-2.0
"""A bus with systemd's manager on it, for hosts without: one socket that a client finds by DBUS_SYSTEM_BUS_ADDRESS.

It moves processes into groups of the host's own hierarchies and removes these when they are empty, as systemd does, for
units whose names have the test's id in them. Attributes of Systemd make it a bad bus: see below.
"""

import os
import signal
import socket
import struct
import threading
import time

TOP = "/sys/fs/cgroup"
# What systemd leaves alone on v1.
UNMANAGED = ("cpuset", "freezer", "hugetlb", "perf_event", "net_cls", "net_prio", "rdma", "misc")
BUS, MANAGER, NAME = "org.freedesktop.DBus", ":1.0", "org.freedesktop.systemd1"
CALL, ANSWER, ERROR, SIGNAL = 1, 2, 3, 4
ALIGNMENT = {"y": 1, "g": 1, "v": 1, "n": 2, "q": 2, "x": 8, "t": 8, "d": 8, "(": 8, "{": 8}
FORMAT = {"y": "B", "n": "h", "q": "H", "i": "i", "u": "I", "b": "I", "x": "q", "t": "Q", "d": "d"}


def first_type(types):
    if types[0] == "a":
        return "a" + first_type(types[1:])
    if types[0] != "(":
        return types[0]
    at = 1
    while types[at] != ")":
        at += len(first_type(types[at:]))
    return types[:at + 1]


def split_types(types):
    found = []
    while types:
        found.append(first_type(types))
        types = types[len(found[-1]):]
    return found


class Reader:
    """Strict: padding has to be zero, texts have to end in NUL, as dbus-daemon checks before it passes a message on."""

    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def align(self, to):
        end = (self.at + to - 1) // to * to
        assert not any(self.data[self.at:end]), "padding that is not zero"
        self.at = end

    def take(self, size):
        assert self.at + size <= len(self.data), "a message that is cut off"
        self.at += size
        return self.data[self.at - size:self.at]

    def text(self, form):
        size = self.value("u") if form == 4 else self.take(1)[0]
        text = self.take(size).decode()
        assert self.take(1) == b"\0" and "\0" not in text
        return text

    def value(self, kind):
        self.align(ALIGNMENT.get(kind[0], 4))
        if kind in FORMAT:
            number = struct.unpack("<" + FORMAT[kind], self.take(struct.calcsize(FORMAT[kind])))[0]
            assert kind != "b" or number in (0, 1)
            return bool(number) if kind == "b" else number
        if kind in "so":
            return self.text(4)
        if kind == "g":
            return self.text(1)
        if kind == "v":
            return self.value(self.text(1))
        if kind[0] == "(":
            return tuple(self.value(one) for one in split_types(kind[1:-1]))
        size = self.value("u")
        self.align(ALIGNMENT.get(kind[1], 4))
        end, items = self.at + size, []
        while self.at < end:
            items.append(self.value(kind[1:]))
        assert self.at == end
        return items


class Writer:
    def __init__(self):
        self.data = bytearray()

    def align(self, to):
        self.data += bytes(-len(self.data) % to)

    def value(self, kind, value):
        self.align(ALIGNMENT.get(kind[0], 4))
        if kind in FORMAT:
            self.data += struct.pack("<" + FORMAT[kind], value)
        elif kind in "so":
            self.data += struct.pack("<I", len(value.encode())) + value.encode() + b"\0"
        elif kind == "g":
            self.data += bytes([len(value)]) + value.encode() + b"\0"
        elif kind == "v":
            self.value("g", value[0])
            self.value(*value)
        elif kind[0] == "(":
            for one, item in zip(split_types(kind[1:-1]), value):
                self.value(one, item)
        else:
            inner = Writer()
            at = len(self.data)
            self.data += bytes(4)
            self.align(ALIGNMENT.get(kind[1], 4))
            inner.data, start = self.data, len(self.data)
            for item in value:
                inner.value(kind[1:], item)
            struct.pack_into("<I", self.data, at, len(self.data) - start)


def message(kind, serial, fields, types="", *values, order="l"):
    body = Writer()
    for one, value in zip(split_types(types), values):
        body.value(one, value)
    head = Writer()
    head.data += order.encode() + bytes([kind, 1, 1])
    head.value("u", len(body.data))
    head.value("u", serial)
    if types:
        fields = fields + [(8, ("g", types))]
    head.value("a(yv)", fields)
    head.align(8)
    return bytes(head.data + body.data)


def escaped(name):
    """As cg_escape does: no name of a control file, and none that looks escaped."""
    bad = name[0] in "_." or name.split(".")[0] in ("cgroup", "cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids")
    return "_" * bad + name


def expanded(unit_slice):
    if unit_slice == "-.slice":
        return ""
    parts = unit_slice[:-len(".slice")].split("-")
    return "".join("/" + escaped("-".join(parts[:n]) + ".slice") for n in range(1, len(parts) + 1))


def hierarchies():
    names = [name for name in os.listdir(TOP) if os.path.exists("%s/%s/cgroup.procs" % (TOP, name))]
    return [os.path.join(TOP, name) for name in names if not set(name.split(",")) & set(UNMANAGED)]


def members(directory):
    try:
        with open(directory + "/cgroup.procs") as file:
            return [int(line) for line in file]
    except OSError:
        return []


class Unit:
    def __init__(self, name, group, properties):
        self.name, self.group, self.properties = name, group, properties

    def directories(self):
        return [top + self.group for top in hierarchies()]

    def processes(self):
        found = set()
        for top in self.directories():
            for directory, _, _ in os.walk(top):
                found.update(members(directory))
        return found

    def make(self, pids):
        for directory in self.directories():
            os.makedirs(directory, exist_ok=True)
            for pid in pids:
                with open(directory + "/cgroup.procs", "w") as file:
                    file.write(str(pid))

    def kill(self):
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass

    def remove(self):
        """With the slices above it that are empty."""
        for top in hierarchies():
            for directory, _, _ in os.walk(top + self.group, topdown=False):
                remove(directory)
            parent = os.path.dirname(self.group)
            while parent != "/" and remove(top + parent):
                parent = os.path.dirname(parent)


def remove(directory):
    try:
        os.rmdir(directory)
    except OSError:
        return not os.path.exists(directory)
    return True


class Systemd:
    """What it does wrong; everything is right by default."""
    auth = b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n"
    chunk = 1 << 20          # how many bytes it sends at once
    silent = ()              # members that get no answer
    hang_up = ()             # members on which it closes the connection
    hang_up_times = 1 << 30  # how often it does
    works_first = False      # whether it has done by then what it was asked for
    cut = None               # a member whose answer ends in the middle
    errors = {}              # member: (name of the error, words)
    result = "done"          # of jobs of StartTransientUnit
    signal_first = False     # JobRemoved before the answer that names the job
    noise = ()               # messages sent before every answer, as functions of this and the call's serial
    moves = True             # whether the processes are really moved
    order = "l"
    state = "running"        # of the whole system
    active = ()              # units of others that are up
    raw = {}                 # member: bytes sent instead of an answer

    def __init__(self, path):
        self.path, self.calls, self.units, self.jobs, self.lock = path, [], {}, 0, threading.RLock()
        self.remembered = set()  # failed units that are still known
        self.serial, self.clients, self.problems = 0, [], []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(16)
        self.running = True
        for work in (self.accept, self.watch):
            threading.Thread(target=work, daemon=True).start()

    @property
    def address(self):
        return "unix:path=%s" % self.path

    def named(self, member):
        """The arguments of the calls of that name."""
        return [arguments for name, arguments in self.calls if name == member]

    def properties(self):
        """Of the last unit that was asked for."""
        return dict(self.named("StartTransientUnit")[-1][2])

    def end(self):
        """As if systemd had gone: units stay as they are."""
        self.running = False
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        with self.lock:
            for client in self.clients:
                try:
                    client.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        if os.path.exists(self.path):
            os.unlink(self.path)

    def clean(self):
        for unit in list(self.units.values()):
            unit.kill()
            end = time.monotonic() + 5
            while unit.processes() and time.monotonic() < end:
                time.sleep(0.01)
            unit.remove()

    # Threads.

    def accept(self):
        number = 0
        while self.running:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            number += 1
            with self.lock:
                self.clients.append(client)
            threading.Thread(target=self.serve, args=(client, number), daemon=True).start()

    def watch(self):
        """A scope ends with its last process."""
        while self.running:
            with self.lock:
                for name, unit in list(self.units.items()):
                    if name.endswith(".scope") and not unit.processes():
                        unit.remove()
                        del self.units[name]
            time.sleep(0.01)

    def serve(self, client, number):
        try:
            Client(self, client, ":1.%d" % (100 + number)).serve()
        except (OSError, EOFError):
            pass
        except Exception as problem:  # pylint: disable=broad-except
            self.problems.append(repr(problem))
        finally:
            client.close()
            with self.lock:
                self.clients.remove(client)

    # The manager.

    def start(self, name, mode, properties, auxiliary):
        assert mode in ("fail", "replace") and auxiliary == []
        asked = dict(properties)
        with self.lock:
            if name in self.units or name in self.remembered:
                raise Failure(NAME + ".UnitExists", "Unit %s was already loaded or has a fragment file." % name)
            group = expanded(name) if name.endswith(".slice") else expanded(asked["Slice"]) + "/" + escaped(name)
            unit = Unit(name, group, asked)
            if self.result == "done":
                self.units[name] = unit
                unit.make(asked.get("PIDs", []) if self.moves else [])
        return self.job(name, self.result)

    def stop(self, name):
        with self.lock:
            unit = self.units.get(name)
            if unit is None:
                raise Failure(NAME + ".NoSuchUnit", "Unit %s not loaded." % name)
            unit.kill()
            while unit.processes():
                time.sleep(0.005)
            unit.remove()
            del self.units[name]
        return self.job(name, "done")

    def job(self, name, result):
        self.jobs += 1
        return "/org/freedesktop/systemd1/job/%d" % self.jobs, (self.jobs, "/org/freedesktop/systemd1/job/%d" % self.jobs, name, result)

    def perform(self, path, member, arguments):
        """The answer: types, values, and what JobRemoved says."""
        if member in self.errors:
            raise Failure(*self.errors[member])
        if member == "StartTransientUnit":
            job, removed = self.start(*arguments)
            return "o", [job], removed
        if member == "StopUnit":
            job, removed = self.stop(arguments[0])
            return "o", [job], removed
        if member == "ResetFailedUnit":
            if arguments[0] in self.remembered:
                self.remembered.discard(arguments[0])
            elif arguments[0] not in self.units:
                raise Failure(NAME + ".NoSuchUnit", "Unit %s not loaded." % arguments[0])
        elif member in ("SetUnitProperties", "KillUnit"):
            if arguments[0] not in self.units:
                raise Failure(NAME + ".NoSuchUnit", "Unit %s not loaded." % arguments[0])
            if member == "KillUnit":
                self.units[arguments[0]].kill()
        elif member == "GetUnit":
            if arguments[0] not in self.units and arguments[0] not in self.active:
                raise Failure(NAME + ".NoSuchUnit", "Unit %s not loaded." % arguments[0])
            return "o", ["/unit/" + arguments[0].encode().hex()], None
        elif member == "Get" and arguments[0] == NAME + ".Slice" and arguments[1] == "ControlGroup":
            return "v", [("s", self.units[bytes.fromhex(path[len("/unit/"):]).decode()].group)], None
        elif member == "Get" and arguments[0] == NAME + ".Unit":
            name = bytes.fromhex(path[len("/unit/"):]).decode()
            properties = dict(self.units[name].properties if name in self.units else {}, ActiveState="active")
            return "v", [("s", properties[arguments[1]])], None
        elif member == "Get":
            return "v", [("s", {"Version": "252.30-1~deb12u2", "ControlGroup": "", "SystemState": self.state}[arguments[1]])], None
        elif member != "Subscribe":
            raise Failure(BUS + ".Error.UnknownMethod", "Unknown method " + member)
        return "", [], None


class Failure(Exception):
    def __init__(self, name, words):
        super().__init__(words)
        self.name, self.words = name, words


class Client:
    def __init__(self, systemd, connection, name):
        self.systemd, self.connection, self.name, self.data = systemd, connection, name, b""

    def receive(self, size):
        while len(self.data) < size:
            more = self.connection.recv(65536)
            if not more:
                raise EOFError
            self.data += more
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def send(self, data):
        for at in range(0, len(data), self.systemd.chunk):
            self.connection.sendall(data[at:at + self.systemd.chunk])
            if self.systemd.chunk < 64:
                time.sleep(0.0002)

    def serve(self):
        assert self.receive(1) == b"\0"
        while True:
            line = b""
            while not line.endswith(b"\r\n"):
                line += self.receive(1)
            if line == b"BEGIN\r\n":
                break
        self.send(self.systemd.auth)
        if b"OK" not in self.systemd.auth:
            return
        while True:
            head = self.receive(16)
            assert head[:1] == b"l" and head[3] == 1
            body_size, serial, fields_size = struct.unpack("<III", head[4:])
            rest = self.receive((fields_size + 7) // 8 * 8 + body_size)
            reader = Reader(head + rest, 12)
            fields = {}
            for number, value in reader.value("a(yv)"):
                fields[number] = value
            reader.align(8)
            arguments = [reader.value(kind) for kind in split_types(fields.get(8, ""))]
            assert reader.at == len(head + rest), "more than its signature says"
            if not self.answer(serial, fields, arguments):
                return

    def fields(self, kind, serial, sender):
        return [(6, ("s", self.name)), (5, ("u", serial)), (7, ("s", sender))] if kind in (ANSWER, ERROR) else [(7, ("s", sender))]

    def put(self, kind, serial, sender, types="", *values):
        self.systemd.serial += 1
        return message(kind, self.systemd.serial, self.fields(kind, serial, sender), types, *values, order=self.systemd.order)

    def job_removed(self, sender, values, path="/org/freedesktop/systemd1"):
        self.systemd.serial += 1
        return message(SIGNAL, self.systemd.serial, [(1, ("o", path)), (2, ("s", NAME + ".Manager")), (3, ("s", "JobRemoved")), (7, ("s", sender))],
                       "uoss", *values)

    def answer(self, serial, fields, arguments):
        """False when the connection is to be closed."""
        member, destination = fields[3], fields.get(6)
        with self.systemd.lock:
            self.systemd.calls.append((member, arguments))
        if member in self.systemd.hang_up and self.systemd.hang_up_times > 0:
            self.systemd.hang_up_times -= 1
            try:
                if self.systemd.works_first:
                    self.systemd.perform(fields[1], member, arguments)
            except Failure:
                pass
            return False
        if member in self.systemd.silent:
            return True
        if member in self.systemd.raw:
            self.send(self.systemd.raw.pop(member))
            return True
        out, removed = b"", None
        if destination == BUS:
            if member in self.systemd.errors:
                name, words = self.systemd.errors[member]
                out = message(ERROR, 1, self.fields(ERROR, serial, BUS) + [(4, ("s", name))], "s", words)
            else:
                out = self.put(ANSWER, serial, BUS, *(["s", self.name] if member == "Hello" else []))
        else:
            try:
                types, values, removed = self.systemd.perform(fields[1], member, arguments)
                out = self.put(ANSWER, serial, MANAGER, types, *values)
            except Failure as failure:
                out = message(ERROR, 1, self.fields(ERROR, serial, MANAGER) + [(4, ("s", failure.name))], "s", failure.words)
        for make in self.systemd.noise:
            out = make(self, serial, removed) + out
        if removed:
            told = self.job_removed(MANAGER, removed)
            out = told + out if self.systemd.signal_first else out + told
        if member == self.systemd.cut:
            self.send(out[:len(out) // 2])
            return False
        self.send(out)
        return True

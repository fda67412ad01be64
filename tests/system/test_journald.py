# SPDX-License-Identifier: Apache-2.0
"""--log-driver journald: the lines of a container in the journal, whatever becomes of the journal meanwhile.

The journal is a socket of ours, in a mount namespace in which the container is started and kept; where systemd runs, its own
journal is asked too."""

import array
import fcntl
import os
import socket
import struct
import subprocess

import pytest
from skinktest import alive, kill_quietly, wait_for

pytestmark = pytest.mark.vm

SOCKET = "/run/systemd/journal/socket"


def fields_of(data):
    """One message of the native protocol."""
    fields = {}
    while data:
        line, _, rest = data.partition(b"\n")
        if b"=" in line:
            name, _, value = line.partition(b"=")
        else:
            name, size = line, struct.unpack("<Q", rest[:8])[0]
            value, rest = rest[8:8 + size], rest[8 + size + 1:]
        fields[name.decode()] = value.decode("utf-8", "surrogateescape")
        data = rest
    return fields


class Journal:
    def __init__(self, world):
        self.world, self.directory, self.entries, self.memfds = world, world.path("journal"), [], 0
        os.mkdir(self.directory)
        self.listen()

    def listen(self):
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.server.bind(os.path.join(self.directory, "socket"))
        self.server.setblocking(False)

    def close(self):
        self.server.close()
        os.unlink(os.path.join(self.directory, "socket"))

    def before(self):
        """Words in front of a command: it and all that it starts see this journal."""
        script = 'mount -t tmpfs none /run && mkdir -p /run/systemd/journal && mount --bind "$0" /run/systemd/journal && exec "$@"'
        return ["unshare", "-m", "sh", "-c", script, self.directory]

    def read(self):
        while True:
            try:
                data, control, _, _ = self.server.recvmsg(1 << 20, socket.CMSG_SPACE(4))
            except BlockingIOError:
                return self.entries
            for _, _, rights in control:
                fd = array.array("i", rights)[0]
                assert fcntl.fcntl(fd, 1034) == 0xf, "F_GET_SEALS: the journal takes sealed files only"
                self.memfds += 1
                with open(fd, "rb") as file:
                    file.seek(0)
                    data = file.read()
            self.entries.append(fields_of(data))

    def messages(self, priority=None):
        return [entry["MESSAGE"] for entry in self.read() if priority in (None, entry["PRIORITY"])]

    def wait_for(self, count):
        wait_for(lambda: len(self.read()) >= count, message="only %d messages" % len(self.entries))


@pytest.fixture
def journal(world):
    journal = Journal(world)
    yield journal
    journal.server.close()


def run(sk, journal, script, *options, restart="no"):
    name = sk.world.name()
    sk.ok("run", "-d", "--log-driver", "journald", "--restart", restart, "--name", name, *options, "busybox", "sh", "-c", script,
          before=journal.before())
    return name


@pytest.mark.vm_more
def test_lines_have_dockers_fields_and_logs_still_works(sk, journal):
    name = run(sk, journal, "echo out; echo err >&2; printf unfinished")
    sk.ok("wait", name)
    journal.wait_for(3)
    ident = sk.row(name)["id"]
    out, err = journal.messages("6"), journal.messages("3")
    assert out == ["out", "unfinished"] and err == ["err"]
    for entry in journal.entries:
        assert entry["CONTAINER_NAME"] == entry["SYSLOG_IDENTIFIER"] == entry["CONTAINER_TAG"] == name
        assert entry["CONTAINER_ID"] == ident[:12] and entry["CONTAINER_ID_FULL"] == ident
        assert entry["IMAGE_NAME"] == "busybox" and entry["SYSLOG_TIMESTAMP"].endswith("Z")
    logs = sk("logs", name)
    assert logs.out == "out\nunfinished" and logs.err == "err\n"


@pytest.mark.vm_more
def test_a_line_is_no_field_and_large_ones_come_whole(sk, journal):
    name = run(sk, journal, "printf 'MESSAGE=x PRIORITY=0\\n\\n'; head -c 250000 /dev/zero | tr '\\0' a; echo; "
               "head -c 600000 /dev/zero | tr '\\0' b; echo; echo last")
    sk.ok("wait", name)
    wait_for(lambda: "last" in journal.messages())
    entries = journal.read()
    assert entries[0]["MESSAGE"] == "MESSAGE=x PRIORITY=0" and entries[0]["PRIORITY"] == "6" and entries[1]["MESSAGE"] == ""
    assert entries[2]["MESSAGE"] == "a" * 250000 and "CONTAINER_PARTIAL_MESSAGE" not in entries[2]
    parts = entries[3:-1]
    assert "".join(part["MESSAGE"] for part in parts) == "b" * 600000
    assert [part.get("CONTAINER_PARTIAL_MESSAGE") for part in parts] == ["true", "true", None]
    assert entries[-1]["MESSAGE"] == "last"


@pytest.mark.full
@pytest.mark.vm_more
def test_a_journal_that_does_not_read_holds_nobody_up_and_gets_all_later(sk, journal):
    name = run(sk, journal, "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; done; echo done >&2; sleep 1000")
    wait_for(lambda: "done" in sk("logs", name).err, message="the container was held up")
    wait_for(lambda: len(journal.messages()) >= 3001)
    assert journal.messages("6") == [str(n) for n in range(1, 3001)]


@pytest.mark.vm_more
def test_a_journal_that_is_away_for_a_while(sk, journal):
    name = run(sk, journal, "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done")
    journal.wait_for(5)
    journal.close()
    before = len(sk.ok("logs", name).split())
    wait_for(lambda: len(sk.ok("logs", name).split()) > before + 20, message="the container was held up")
    journal.listen()
    journal.wait_for(before + 40)
    lines = journal.messages()
    # What the old socket had in its queue when it was closed is lost with it, as with a real journal that crashes.
    tail = [int(line) for line in lines]
    assert tail == sorted(set(tail)) and tail[-20:] == list(range(tail[-1] - 19, tail[-1] + 1))


@pytest.mark.full
def test_what_the_log_gives_back_before_the_journal_takes_it_is_a_gap_between_whole_lines(sk, journal):
    name = run(sk, journal, "printf half; until [ -e /tmp/go ]; do sleep 0.05; done; seq 100000 140000; echo done >&2; sleep 1000",
               "--log-opt", "max-size=16k", "--log-opt", "max-file=2")
    journal.close()
    sk.ok("exec", name, "touch", "/tmp/go")
    wait_for(lambda: "done" in sk("logs", name).err)
    journal.listen()
    wait_for(lambda: "140000" in journal.messages("6"))
    gap, *lines = [line for line in journal.messages("6") if line != "half"]
    assert gap.startswith("skink: ") and gap.endswith(" bytes of output are missing here: no longer kept")
    assert lines == [str(n) for n in range(140001 - len(lines), 140001)] and len(lines) > 1000


@pytest.mark.vm_more
def test_killed_supervisors_lose_no_line_and_double_at_most_one_each(sk, journal):
    name = run(sk, journal, "i=0; while :; do i=$((i+1)); echo $i; sleep 0.005; done", restart="always")
    kills = 4
    for _ in range(kills):
        count = len(journal.read())
        supervisor = sk.row(name)["supervisor_pid"]
        kill_quietly(supervisor)
        wait_for(lambda: not alive(supervisor))
        wait_for(lambda: len(journal.read()) > count + 20)
    lines = [int(line) for line in journal.messages()]
    assert sorted(set(lines)) == list(range(1, max(lines) + 1)), "lines are missing"
    assert len(lines) - len(set(lines)) <= kills


@pytest.mark.vm_more
def test_a_host_without_a_journal_and_unknown_drivers_are_refused(sk, world):
    empty = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh"]
    sk.fails("run", "-d", "--log-driver", "journald", "busybox", "true", before=empty, status=125, match=["journald", SOCKET])
    sk.fails("run", "--log-driver", "syslog", "busybox", "true", status=125, match=["--log-driver", "syslog", "journald"])
    assert sk.ok("run", "--rm", "--log-driver", "json-file", "busybox", "echo", "x") == "x"


@pytest.mark.vm_only
def test_the_real_journal_has_it(sk, world):
    name = world.name()
    sk.ok("run", "--log-driver", "journald", "--name", name, "busybox", "sh", "-c", "echo seen; echo bad >&2")

    def found(*more):
        done = subprocess.run(["journalctl", "-q", "-o", "cat", "CONTAINER_NAME=" + name] + list(more), stdout=subprocess.PIPE)
        return done.stdout.decode().split()
    wait_for(lambda: sorted(found()) == ["bad", "seen"])
    assert found("-p", "err") == ["bad"]

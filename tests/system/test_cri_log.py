# SPDX-License-Identifier: Apache-2.0
"""--log-opt cri=PATH and logs --format cri: files in Kubernetes' CRI logging format that follow the spool, whole for whoever
reads along, whatever is killed, renamed or full meanwhile."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time

import pytest
from skinktest import ALL, alive, kill_quietly, read, read_text, starttime, wait_for

LINE = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (stdout|stderr) ([FP]) (.*)", re.DOTALL)
COUNTER = "trap 'exit 0' TERM; i=0; while :; do i=$((i+1)); echo $i; done"


def parse(data):
    """(stream, tag, content) of each line."""
    assert data.endswith(b"\n") or not data, data[-100:]
    found = [LINE.fullmatch(line) for line in data.split(b"\n")[:-1]]
    assert all(found), [line for line, match in zip(data.split(b"\n"), found) if not match][:3]
    return [(match[2].decode(), match[3].decode(), match[4]) for match in found]


def joined(lines, stream):
    """What was written to it, as an agent puts it together: what ends without a newline gets one."""
    return b"".join(text + (b"\n" if tag == "F" else b"") for one, tag, text in lines if one == stream)


@pytest.fixture
def place(world):
    path = world.path("cri")
    os.mkdir(path)
    return path + "/web.log"


def files_of(path):
    """Oldest first."""
    names = [name for name in os.listdir(os.path.dirname(path)) if name.startswith(os.path.basename(path))]
    def number(name):
        rest = name[len(os.path.basename(path)):]
        return int(rest[1:]) if rest else 0
    return [os.path.join(os.path.dirname(path), name) for name in sorted(names, key=number, reverse=True)]


def whole(path):
    return b"".join(read(name) for name in files_of(path))


class Agent:
    """Reads along as those of a node do: each file under whatever name, by its inode, to its end."""

    def __init__(self, path):
        self.path, self.files = path, {}

    def look(self):
        for name in files_of(self.path):
            try:
                fd = os.open(name, os.O_RDONLY)
            except FileNotFoundError:
                continue
            inode = os.fstat(fd).st_ino
            if inode in self.files:
                os.close(fd)
            else:
                self.files[inode] = [fd, b""]
        for one in self.files.values():
            while data := os.read(one[0], 1 << 20):
                one[1] += data

    def close(self):
        """All that it has read, the files in order. None of them is gone."""
        self.look()
        for fd, _ in self.files.values():
            os.close(fd)
        return b"".join(self.files[os.stat(name).st_ino][1] for name in files_of(self.path))


def test_lines_parts_streams_and_bytes_are_as_they_were_written(sk, place):
    odd = bytes(range(256)).replace(b"\n", b"") * 3
    script = ("echo one; echo two >&2; echo; head -c 40000 /dev/zero | tr '\\0' x; echo; printf '%s\\n'; printf end; exit 3"
              % "".join("\\%03o" % byte for byte in odd))
    name = sk.running("--log-opt", "cri=" + place, "--restart", "on-failure:1", "--restart-delay", "1ms", command=["sh", "-c", script])
    wait_for(lambda: sk.state(name) == "exited")
    lines = parse(read(place))
    out = [(tag, text) for stream, tag, text in lines if stream == "stdout"]
    run = [("F", b"one"), ("F", b""), ("P", b"x" * 16384), ("P", b"x" * 16384), ("F", b"x" * 7232), ("F", odd), ("F", b"end")]
    assert out == run * 2 and [text for stream, _, text in lines if stream == "stderr"] == [b"two"] * 2
    assert os.stat(place).st_mode & 0o777 == 0o640
    # The same on demand; there the last line has no end, and goes on in the next run.
    shown = sk("logs", "--format", "cri", name).raw_out
    assert joined(parse(shown), "stdout") + b"\n" == b"".join(text + (b"\n" if tag == "F" else b"") for tag, text in run[:-1]) * 1 + \
        b"endone\n" + b"".join(text + (b"\n" if tag == "F" else b"") for tag, text in run[1:-1]) + b"end\n"
    assert parse(shown)[-1][1:] == ("P", b"end") and shown.split(b"\n")[0] == read(place).split(b"\n")[0]
    assert sk.inspect(name)["log"]["cri"] == {"path": place, "max_size": 10 << 20, "max_files": 5}
    # The container goes, its log is the administrator's.
    sk.ok("rm", name)
    assert parse(read(place)) == lines


def test_logs_in_cri_format_with_every_filter(sk):
    name = sk.running(command=["sh", "-c", "echo one; echo two >&2; sleep 0.05; echo three; until [ -e /tmp/go ]; do sleep 0.05; done; printf four; sleep 1000"])
    wait_for(lambda: "three" in sk.ok("logs", name))
    show = lambda *options: [(stream, tag, text.decode()) for stream, tag, text in parse(sk("logs", "--format", "cri", *options, name).raw_out)]
    assert sorted(show()) == [("stderr", "F", "two"), ("stdout", "F", "one"), ("stdout", "F", "three")]
    assert show("--tail", "1") == [("stdout", "F", "three")] and show("--stream", "stderr") == [("stderr", "F", "two")]
    assert len(show("--since", "1h")) == 3 and show("--until", "1h") == []
    follower = sk.start("logs", "-f", "--format", "cri", name)
    assert os.read(follower.stdout.fileno(), 10)
    sk.ok("exec", name, "touch", "/tmp/go")
    wait_for(lambda: "four" in sk.ok("logs", name))
    sk.ok("stop", "-t", "0", name)
    assert follower.communicate(timeout=60)[0].endswith(b" stdout P four\n")


def numbers_of(data):
    lines = parse(data)
    assert {tag for _, tag, _ in lines} <= {"F"}
    return [int(text) for _, _, text in lines]


def assert_counted(numbers, last=None):
    wrong = next((at for at, number in enumerate(numbers) if number != at + 1), None)
    assert numbers and wrong is None, "at line %s: %s" % (wrong, numbers[max(0, (wrong or 0) - 2):][:5])
    assert last in (None, len(numbers)), (len(numbers), last)


def kill_exactly(pid, born):
    if pid and int(starttime(pid) or 0) == born:
        kill_quietly(pid)


@pytest.mark.timeout(900)
def test_rotation_and_kill_9_lose_and_double_nothing_for_who_reads_along(sk, world, place):
    name = sk.running("--restart", "always", "--log-opt", "max-size=1g", "--log-opt", "cri=" + place, "--log-opt", "cri-max-size=256k",
                      "--log-opt", "cri-max-file=10000", command=["sh", "-c", COUNTER])
    status = os.path.join(world.run_dir, "containers", sk.inspect(name)["id"], "status.json")
    agent, pid, chance = Agent(place), sk.pid(name), random.Random()
    for instant in range(200 if ALL else 8):
        found = json.loads(wait_for(lambda: read_text(status, "")))
        kill_exactly(*found["guard" if instant % 4 == 3 else "supervisor"])
        time.sleep(chance.uniform(0, 0.03))
        agent.look()
        if not any(alive(found[which][0]) for which in ("supervisor", "guard")):
            sk.ok("heal")
    sk.ok("heal")
    wait_for(lambda: len(files_of(place)) > 2)
    agent.look()
    assert sk.pid(name) == pid
    sk.ok("stop", name)
    wait_for(lambda: sk.state(name) == "exited")
    spooled = list(map(int, sk.ok("logs", name, timeout=180).split()))
    assert_counted(spooled)
    written = whole(place)
    assert_counted(numbers_of(written), len(spooled))
    # Nothing was ever written again that somebody may have read.
    assert agent.close() == written
    assert all(os.path.getsize(path) <= 256 << 10 for path in files_of(place))


def test_no_more_files_are_kept_than_was_asked_for_and_others_may_rotate_too(sk, place):
    script = "seq 1 3000; until [ -e /tmp/go ]; do sleep 0.05; done; seq 3001 3010; sleep 1000"
    name = sk.running("--log-opt", "cri=" + place, "--log-opt", "cri-max-size=32k", "--log-opt", "cri-max-file=3", command=["sh", "-c", script])
    wait_for(lambda: whole(place).endswith(b" 3000\n"))
    assert files_of(place) == [place + ".2", place + ".1", place]
    kept = numbers_of(whole(place))
    assert kept == list(range(kept[0], 3001)) and 1000 < len(kept) < 2500
    # As logrotate does it.
    os.rename(place, place + ".0")
    sk.ok("exec", name, "touch", "/tmp/go")
    wait_for(lambda: read(place, b"").endswith(b" 3010\n"))
    assert numbers_of(read(place)) == list(range(3001, 3011)) and read(place + ".0").endswith(b" 3000\n")


def test_no_file_is_larger_than_was_asked_for_also_of_long_lines(sk, place):
    name = sk.running("--log-opt", "cri=" + place, "--log-opt", "cri-max-size=4k", "--log-opt", "cri-max-file=1000", command=["sh", "-c", (
        "head -c 40000 /dev/zero | tr '\\0' x; echo; head -c 50000 /dev/zero | tr '\\0' y >&2; printf z; exit 0")])
    wait_for(lambda: sk.state(name) == "exited")
    sizes = [os.path.getsize(path) for path in files_of(place)]
    lines = parse(whole(place))
    assert max(sizes) <= 4096 and len(sizes) > 20, sizes
    assert joined(lines, "stdout") == b"x" * 40000 + b"\nz\n" and joined(lines, "stderr") == b"y" * 50000 + b"\n"


def complaints(sk, name):
    return read_text("%s/containers/%s/supervisor.log" % (sk.world.run_dir, sk.inspect(name)["id"]), "")


def test_a_full_disk_there_harms_nothing_else_and_what_waited_comes_later(sk, world, place):
    """Also when supervisors are killed meanwhile."""
    small = os.path.dirname(place)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=0755", "skink-test-keep", small], check=True)
    try:
        name = sk.running("--log-opt", "cri=" + place, "--restart", "no", command=["sh", "-c", "seq 1 20000; exec sleep 1000"])
        wait_for(lambda: sk.ok("logs", "--tail", "1", name) == "20000")
        wait_for(lambda: "No space left" in complaints(sk, name))
        for _ in range(3):
            kill_quietly(sk.inspect(name)["supervisor_pid"])
            wait_for(lambda: alive(sk.inspect(name)["supervisor_pid"]))
        assert sk.state(name) == "running" and sk.ok("logs", name).split() == list(map(str, range(1, 20001)))
        agent = Agent(place)
        agent.look()
        subprocess.run(["mount", "-o", "remount,size=4m", small], check=True)
        wait_for(lambda: read(place).endswith(b" 20000\n"))
        assert_counted(numbers_of(read(place)), 20000)
        assert agent.close() == read(place)
        assert complaints(sk, name).count("No space left") <= 4  # once by each supervisor
        sk.ok("rm", "-f", name)
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_what_the_spool_gives_back_before_it_could_be_written_is_told(sk, place):
    """Something else is in the place of the file; the container has its output taken all the same."""
    os.mkdir(place)
    script = "until [ -e /tmp/go ]; do sleep 0.05; done; "
    name = sk.running("--log-opt", "cri=" + place, "--log-opt", "max-size=16k", "--log-opt", "max-file=2",
                      command=["sh", "-c", script + "seq 1 30000; sleep 1000"])
    sk.ok("exec", name, "touch", "/tmp/go")
    wait_for(lambda: sk.ok("logs", "--tail", "1", name) == "30000")
    assert "web.log" in complaints(sk, name)
    os.rmdir(place)
    wait_for(lambda: read(place, b"").endswith(b" 30000\n"))
    lines = parse(read(place))
    at = next(at for at, line in enumerate(lines) if line[0] == "stderr")
    missing = re.fullmatch(rb"skink: (\d+) bytes of output are missing here: no longer kept", lines[at][2])
    # What it held already, in the end half a line perhaps; the gap; what was still there.
    *before, half = [text.decode() for _, _, text in lines[:at]]
    rest = [int(text) for _, _, text in lines[at + 1:]]
    assert before == list(map(str, range(1, at))) and str(at).startswith(half)
    assert rest == list(range(rest[0], 30001)) and len(rest) > 2000
    assert int(missing[1]) == sum(len("%d\n" % number) for number in range(at, rest[0])) - len(half)


def test_a_flood_waits_for_the_file_where_little_is_kept(sk, place):
    """As long as it can be written nothing is outrun, however small the spool is."""
    name = sk.running("--log-opt", "cri=" + place, "--log-opt", "max-size=16k", "--log-opt", "cri-max-size=1g",
                      command=["sh", "-c", "seq 1 100000; exec sleep 1000"])
    wait_for(lambda: read(place, b"").endswith(b" 100000\n"))
    assert_counted(numbers_of(read(place)), 100000)


def test_one_file_is_not_for_two(sk, place):
    first = sk.running("--log-opt", "cri=" + place, command=["sh", "-c", "echo first; sleep 1000"])
    wait_for(lambda: read(place, b"").endswith(b"first\n"))
    second = sk.running("--log-opt", "cri=" + place, command=["sh", "-c", "echo second; sleep 1000"])
    wait_for(lambda: "another process writes to it" in complaints(sk, second))
    sk.ok("rm", "-f", first)
    wait_for(lambda: read(place).endswith(b"second\n"))
    assert [text for _, _, text in parse(read(place))] == [b"first", b"second"]


def test_the_last_lines_come_although_it_could_not_be_written_a_while_ago(sk, place):
    """Whoever waits longer and longer between tries tries at once when the program has ended."""
    directory = os.path.dirname(place)
    sk.ok("create", "--name", "c", "--log-opt", "cri=" + place, "busybox", "sh", "-c",
          "echo one; until [ -e /tmp/go ]; do sleep 0.05; done; printf two")
    os.rmdir(directory)
    sk.ok("start", "c")
    wait_for(lambda: "web.log" in complaints(sk, "c") or "No such file" in complaints(sk, "c"))
    time.sleep(7.5)  # tried at 0, 1, 3 and 7 seconds, and next at 15
    os.mkdir(directory)
    sk.ok("exec", "c", "touch", "/tmp/go")
    wait_for(lambda: sk.state("c") == "exited")
    assert [text for _, _, text in parse(read(place))] == [b"one", b"two"]


def test_the_last_lines_wait_for_another_that_has_the_file(sk, place):
    first = sk.running("--log-opt", "cri=" + place, command=["sh", "-c", "echo first; sleep 1000"])
    wait_for(lambda: read(place, b"").endswith(b"first\n"))
    second = sk.running("--log-opt", "cri=" + place, command=["sh", "-c", "until [ -e /tmp/go ]; do sleep 0.05; done; echo second"])
    sk.ok("exec", second, "touch", "/tmp/go")
    wait_for(lambda: sk.state(second) == "exited", timeout=30)
    found = [json.loads(line) for line in sk.ok("events", "--no-follow", "--format", "json").splitlines()]
    behind = [event for event in found if event["action"] == "cri_log_behind"]
    assert len(behind) == 1 and behind[0]["attributes"]["missing"] == len("second\n"), found
    assert "another process writes to it" in behind[0]["attributes"]["error"]
    # The next run brings what is missing.
    sk.ok("rm", "-f", first)
    sk.ok("start", second)
    wait_for(lambda: read(place).endswith(b"second\n"))


@pytest.mark.parametrize("options, words", [
    (["cri=web.log"], "absolute"), (["cri=/tmp/.."], "absolute"), (["cri=/tmp/."], "absolute"),
    (["cri=/nonexistent/x/web.log"], "mkdir"), (["cri-max-size=1m"], "cri="),
    (["cri=/tmp/x.log", "cri-max-file=1"], "2 to 10000"), (["cri=/tmp/x.log", "cri-max-size=1k"], "4k")])
def test_what_cannot_be_meant_is_refused(sk, options, words):
    sk.fails("create", *[part for one in options for part in ("--log-opt", one)], "busybox", "true", match=words)


def test_there_is_no_file_of_what_is_not_kept(sk, place):
    sk.fails("create", "--log-driver", "none", "--log-opt", "cri=" + place, "busybox", "true", match="contradict")

# SPDX-License-Identifier: Apache-2.0
"""--log-driver and --log-opt: rotation, compression, output that is not kept, output that goes to the caller."""

import gzip
import json
import os
import re
import signal
import subprocess
import time

import pytest
from terminal import terminal  # noqa: F401
from skinktest import ALL, kill_quietly, listdir, read_text, wait_for

COUNT = "i=0; while [ $i -lt %d ]; do i=$((i+1)); echo line $i; done; echo the end >&2; sleep 1000"


def store(sk, name):
    return "%s/containers/%s" % (sk.world.store, sk.inspect(name)["id"])


def parts(sk, name):
    """The compressed files of standard output, oldest first."""
    names = [one for one in listdir(store(sk, name)) if one.startswith("log.stdout.") and one.endswith(".gz")]
    return sorted(names, key=lambda one: int(one.split(".")[2].split("-")[0]))


def expected(last, first=1):
    return ["line %d" % n for n in range(first, last + 1)]


def test_compressed_files_are_read_with_every_filter(sk):
    name = sk.running("--log-opt", "max-size=20k", "--log-opt", "max-file=100", "--log-opt", "compress=true", command=["sh", "-c", COUNT % 20000])
    wait_for(lambda: len(parts(sk, name)) == 208894 // 20480)
    lines = expected(20000)
    assert sk.ok("logs", name).splitlines() == lines and sk("logs", name).err == "the end\n"
    assert sk.ok("logs", "--tail", "15000", "--stream", "stdout", name).splitlines() == lines[5000:]
    found = [json.loads(line) for line in sk.ok("logs", "--format", "json", "--since", "1h", name).splitlines()]
    assert [one["log"] for one in found if one["stream"] == "stdout"] == lines
    stamped = sk.ok("logs", "-t", "--stream", "stdout", name).splitlines()
    middle = stamped[10000].split()[0]
    assert [line.split(" ", 1)[1] for line in stamped if line.split()[0] >= middle] == sk.ok("logs", "--since", middle, "--stream", "stdout", name).splitlines()
    follower = sk.start("logs", "-f", name)
    kept = os.stat(store(sk, name) + "/log.stdout").st_blocks * 512
    assert kept <= 40960 and sk.inspect(name)["log"] == {"driver": "spool", "max_size": 20480, "max_files": 100, "compress": True}
    # Any host's zcat reads them, and they are what was written.
    begin = b"".join(gzip.open(os.path.join(store(sk, name), one)).read() for one in parts(sk, name))
    assert ("\n".join(lines) + "\n").encode().startswith(begin) and len(begin) > 200000
    sk.ok("stop", "-t", "0", name)
    assert follower.communicate(timeout=60)[0].decode().splitlines() == lines


@pytest.mark.parametrize("compress", ["true", "false"])
def test_no_more_is_kept_than_was_asked_for(sk, compress):
    name = sk.running("--log-opt", "max-size=16k", "--log-opt", "max-file=3", "--log-opt", "compress=" + compress, command=["sh", "-c", COUNT % 30000])
    wait_for(lambda: "line 30000" in sk.ok("logs", "--tail", "1", "--stream", "stdout", name))
    result = sk("logs", name)
    text, lines = result.out, result.out.splitlines()
    missing = re.match(r"skink: (\d+) bytes of output are missing here: no longer kept\n", result.err)
    assert missing and int(missing.group(1)) + len(text) == len("\n".join(expected(30000))) + 1
    assert lines == expected(30000, 30001 - len(lines)) and 2 * 16384 < len(text) <= 4 * 16384 + 4096
    wait_for(lambda: len(parts(sk, name)) == (2 if compress == "true" else 0))
    assert os.stat(store(sk, name) + "/log.stdout").st_blocks * 512 <= 6 * 16384


@pytest.mark.parametrize("compress", ["true", "false"])
def test_who_is_outrun_by_rotation_sees_a_gap_and_whole_lines(sk, compress):
    script = "until [ -e /tmp/a ]; do echo tick; sleep 0.05; done; echo begin; printf half; until [ -e /tmp/b ]; do sleep 0.05; done; "
    name = sk.running("--log-opt", "max-size=16k", "--log-opt", "max-file=2", "--log-opt", "compress=" + compress,
                      command=["sh", "-c", script + COUNT % 30000])
    verbs = [("attach", "--no-stdin"), ("logs", "-f"), ("logs", "-f", "--tail", "1", "-t"), ("logs", "-f", "--format", "json")]
    readers = [sk.start(*verb, name) for verb in verbs]
    shown = {reader: os.read(reader.stdout.fileno(), 1) for reader in readers}  # all of them are there
    sk.ok("exec", name, "touch", "/tmp/a")
    wait_for(lambda: sk.ok("logs", "--tail", "1", name) == "half")
    time.sleep(0.5)  # and have read that
    for reader in readers:
        os.kill(reader.pid, signal.SIGSTOP)
    sk.ok("exec", name, "touch", "/tmp/b")
    wait_for(lambda: "line 30000" in sk.ok("logs", "--tail", "1", "--stream", "stdout", name))
    for reader in readers:
        os.kill(reader.pid, signal.SIGCONT)
    sk.ok("stop", "-t", "0", name)
    for verb, reader in zip(verbs, readers):
        out, err = reader.communicate(timeout=60)
        lines = (shown[reader] + out).decode().splitlines()
        if "json" in verb:
            records = [json.loads(line) for line in lines]
            gaps = [one for one in records if "missing" in one]
            assert [(one["stream"], one["reason"]) for one in gaps] == [("stdout", "no longer kept")]
            assert [one["log"] for one in records if one.get("partial")] == ["half"]
            err, lines = b"no longer kept", [one["log"] for one in records if one.get("log") and one["stream"] == "stdout"]
        if "-t" in verb:
            lines = [line.split(" ", 1)[1] for line in lines]
        lines = [line for line in lines if line != "tick"]
        rest = lines[lines.index("half") + 1:]
        assert lines[:lines.index("half")] == ["begin"] and 100 < len(rest) < 10000, (verb, lines[:5])
        assert rest == expected(30000, 30001 - len(rest)) and b"no longer kept" in err, (verb, err)


def test_what_cannot_be_compressed_is_told_once_and_tried_less_and_less(sk):
    """Something is in the place of the first part; when it is gone nothing was lost."""
    name = sk.running("--log-opt", "max-size=16k", "--log-opt", "max-file=100", "--log-opt", "compress=true",
                      command=["sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.05; done; " + COUNT % 5000])
    obstacle = store(sk, name) + "/log.stdout.0-16384.gz"
    os.mkdir(obstacle)
    sk.ok("exec", name, "touch", "/tmp/go")
    told = lambda: read_text("%s/containers/%s/supervisor.log" % (sk.world.run_dir, sk.inspect(name)["id"]), "").count("0-16384.gz")
    wait_for(told)
    time.sleep(2.5)  # the second attempt comes after a second
    os.rmdir(obstacle)
    wait_for(lambda: os.path.isfile(obstacle) and len(parts(sk, name)) == 2)
    assert told() == 1 and sk.ok("logs", "--stream", "stdout", name).splitlines() == expected(5000)


def packers(supervisor):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if read_text("/proc/%s/comm" % pid, "").strip() == "skink-pack":
            fields = read_text("/proc/%s/stat" % pid, "x) Z 0").rsplit(")", 1)[1].split()
            found += [int(pid)] if fields[1] == str(supervisor) else []
    return found


def test_killed_while_it_compresses_nothing_is_lost_or_doubled(sk):
    """Supervisors, guards and what compresses are killed while a counter runs; a reader follows all the time."""
    last, size = 300000, 128 << 10
    whole = sum(len("%d\n" % n) for n in range(1, last + 1))
    name = sk.running("--log-opt", "max-size=%d" % size, "--log-opt", "max-file=1000", "--log-opt", "compress=true",
                      command=["sh", "-c", "seq 1 %d; exec sleep 1000" % last])
    follower = sk.start("logs", "-f", name)
    os.set_blocking(follower.stdout.fileno(), False)
    chunks, kills, hits = [], 0, 0
    while kills < (200 if ALL else 20) or hits < 5:
        one = sk.inspect(name)
        packing = packers(one["supervisor_pid"])
        victims = [one["guard_pid"]] if kills % 4 == 3 else packing or [one["supervisor_pid"]]
        hits += bool(packing)
        for pid in filter(None, victims):
            kill_quietly(pid)
        kills += 1
        chunks.append(follower.stdout.read() or b"")
        time.sleep(0.01 * (kills % 5))
        if len(parts(sk, name)) == whole // size and hits < 5 and kills > 40:
            break  # a machine so fast that it cannot be caught
    wait_for(lambda: len(parts(sk, name)) == whole // size)
    assert sk.ok("logs", name).splitlines() == list(map(str, range(1, last + 1)))
    assert not [one for one in listdir(store(sk, name)) if one.startswith("log.packing")]
    sk.ok("stop", "-t", "0", name)
    os.set_blocking(follower.stdout.fileno(), True)
    chunks.append(follower.communicate(timeout=60)[0])
    assert b"".join(chunks).decode().splitlines() == list(map(str, range(1, last + 1)))


def test_none_keeps_nothing_but_shows_it_to_who_is_attached(sk, world):
    name = world.name()
    done = sk("run", "--name", name, "--log-driver", "none", "busybox", "sh", "-c", "seq 1 20000; echo err >&2")
    assert done.out.splitlines() == list(map(str, range(1, 20001))) and done.err == "err\n"
    sk.fails("logs", name, match="--log-driver none")
    assert not [one for one in listdir(store(sk, name)) if one.startswith("log.")]
    name = sk.running("--log-driver", "none", command=["sh", "-c", "while :; do seq 1 100000; sleep 0.1; done"])
    spooled = store(sk, name) + "/log.stdout"
    wait_for(lambda: os.stat(spooled).st_blocks * 512 <= 8192 and os.stat(spooled).st_size > 0)
    size = os.stat(spooled).st_size
    front = sk.start("attach", "--no-stdin", name)
    assert wait_for(lambda: os.read(front.stdout.fileno(), 100))
    kill_quietly(front.pid)
    front.wait()
    wait_for(lambda: os.stat(spooled).st_blocks * 512 <= 8192 and os.stat(spooled).st_size > size)


def test_passthrough_goes_to_the_starters_own_descriptors(sk, world):
    with open(world.path("out"), "wb") as out, open(world.path("err"), "wb") as err:
        name = world.name()
        assert sk("run", "-d", "--name", name, "--restart", "always", "--log-driver", "passthrough", "busybox", "sh", "-c",
                  "echo out $$; echo err >&2; exec sleep 1000", stdout=out, stderr=err).status == 0
    # What the command itself prints is there too.
    told = lambda: [line for line in read_text(world.path("out")).splitlines() if line.startswith("out")]
    wait_for(lambda: told() == ["out 1"] and read_text(world.path("err")) == "err\n")
    one = sk.inspect(name)
    for keeper in ("supervisor_pid", "guard_pid"):
        before = sk.inspect(name)[keeper]
        kill_quietly(before)
        wait_for(lambda: sk.inspect(name)[keeper] not in (0, before))
    kill_quietly(one["pid"])
    wait_for(lambda: told() == ["out 1", "out 1"])
    sk.fails("logs", name, match="--log-driver passthrough")
    assert not [one for one in listdir(store(sk, name)) if one.startswith("log.") and one != "log.gap" and os.path.getsize(os.path.join(store(sk, name), one))]
    pipe = subprocess.run(sk.command("run", "--rm", "--log-driver", "passthrough", "busybox", "sh", "-c", "echo there; exit 3"), stdout=subprocess.PIPE,
                          env=world.environment(), timeout=60)
    assert (pipe.stdout, pipe.returncode) == (b"there\n", 3)


def test_a_terminal_of_the_host_is_not_passed_through(sk, terminal):
    t = terminal("run", "--rm", "--log-driver", "passthrough", "busybox", "probe", "terminals")
    assert t.end() == 125 and b"is a terminal" in t.text


@pytest.mark.parametrize("options,words", [
    (["--log-driver", "syslog"], ["syslog", "journald", "none"]), (["--log-opt", "tag=x"], ["--log-opt", "max-size"]),
    (["--log-opt", "max-size=-1"], "max-size"), (["--log-opt", "max-file=3"], "max-size"),
    (["--log-opt", "max-size=1m", "--log-opt", "compress=true"], "max-file=2"), (["--log-driver", "none", "--log-opt", "max-size=1m"], "contradict"),
    (["--log-driver", "passthrough", "-t"], "contradict")])
def test_what_cannot_be_is_refused(sk, options, words):
    sk.fails("run", "--rm", *options, "busybox", "true", status=125, match=words)

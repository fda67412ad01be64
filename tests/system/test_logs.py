# SPDX-License-Identifier: Apache-2.0
"""logs: what a container wrote, whole and in order."""

import json
import os
import re
import signal
import time

from skinktest import wait_for


def finished(sk, script, *options):
    name = sk.running("--restart", "no", *options, command=["sh", "-c", script])
    sk.ok("wait", name)
    return name


def test_both_streams_go_where_they_belong(sk):
    name = finished(sk, "echo out; echo err >&2")
    result = sk("logs", name)
    assert (result.out, result.err) == ("out\n", "err\n")


def test_output_of_a_foreground_run_is_in_the_logs_too(sk, world):
    name = world.name()
    sk.ok("run", "--name", name, "busybox", "echo", "both places")
    assert sk.ok("logs", name) == "both places"


def test_tail(sk):
    name = finished(sk, "for i in 1 2 3 4 5; do echo $i; done; printf 'no newline'")
    assert sk.ok("logs", "--tail", "2", name).split("\n") == ["5", "no newline"]
    assert sk.ok("logs", "--tail", "0", name) == ""
    assert sk.ok("logs", "-n", "100", name).count("\n") == 5
    assert sk.ok("logs", "--tail", "all", name).startswith("1\n")
    sk.fails("logs", "--tail", "some", name, match="some")


def test_timestamps_and_since(sk):
    name = finished(sk, "echo first; sleep 2.2; echo second")
    lines = sk.ok("logs", "-t", name).splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z? ?", line) for line in lines), lines
    stamp = lines[1].split()[0]
    assert sk.ok("logs", "--since", stamp, name) == "second"
    assert sk.ok("logs", "--since", "1h", name) == "first\nsecond"
    assert sk.ok("logs", "--since", str(int(time.time()) + 3600), name) == ""
    sk.fails("logs", "--since", "yesterday", name, match="yesterday")


def test_follow_ends_with_the_container(sk):
    name = sk.running("--restart", "no", command=["sh", "-c", "for i in 1 2 3 4 5 6; do echo $i; sleep 0.2; done"])
    assert sk.ok("logs", "-f", name).split() == ["1", "2", "3", "4", "5", "6"]


def test_follow_goes_on_over_a_relaunch(sk):
    name = sk.running("--restart", "always", command=["sh", "-c", "echo begin; sleep 1000"])
    following = sk.start("logs", "-f", name)
    wait_for(lambda: "begin" in sk.ok("logs", name))
    pid = sk.pid(name)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: sk.pid(name) not in (0, pid) and sk.ok("logs", name).count("begin") == 2)
    sk.ok("rm", "-f", name)
    out, _ = following.communicate(timeout=60)
    assert out.decode().count("begin") == 2


def test_much_output_is_kept_whole(sk):
    name = finished(sk, "seq 1 100000")
    assert sk.ok("logs", name) == "\n".join(map(str, range(1, 100001)))


def test_binary_output_is_kept(sk):
    name = finished(sk, r"printf 'a\000b\377c\r\n'")
    assert sk("logs", name).raw_out == b"a\0b\xffc\r\n"


def test_a_very_long_line(sk):
    name = finished(sk, "head -c 300000 /dev/zero | tr '\\0' x; echo; echo end")
    out = sk.ok("logs", name)
    assert out == "x" * 300000 + "\nend"


def test_nothing_is_lost_when_keepers_die(sk):
    name = sk.running("--restart", "no", command=["sh", "-c", "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; done; sleep 1000"])
    for n in range(8):
        row = sk.row(name)
        victim = row["supervisor_pid"] if n % 2 == 0 else row["guard_pid"]
        if victim:
            os.kill(victim, signal.SIGKILL)
        time.sleep(0.1)
    wait_for(lambda: "line 3000" in sk.ok("logs", name))
    assert sk.ok("logs", name).splitlines() == ["line %d" % n for n in range(1, 3001)]


def test_logs_of_a_created_container_are_empty(sk, world):
    name = world.name()
    sk.ok("create", "--name", name, "busybox", "echo", "x")
    assert sk.ok("logs", name) == ""


def test_the_logs_of_several_incarnations_stay(sk):
    name = sk.running("--restart", "on-failure:2", command=["sh", "-c", "echo run; exit 1"])
    sk.ok("wait", name)
    assert sk.ok("logs", name).split() == ["run"] * 3


def test_a_reader_that_goes_away(sk):
    name = finished(sk, "seq 1 100000")
    import subprocess
    done = subprocess.run(["sh", "-c", "%s | head -n 1" % " ".join(sk.command("logs", name))], capture_output=True,
                          env=sk.world.environment(), timeout=60)
    assert done.stdout == b"1\n" and done.stderr == b""


def test_one_stream_and_json(sk):
    name = sk.running("--restart", "no", command=["sh", "-c", "echo out; echo err >&2; printf '\\377\\n'; printf 'no end'"])
    sk.wait_state(name, "exited")
    assert sk("logs", "--stream", "stderr", name).err == "err\n" and sk("logs", "--stream", "stderr", name).out == ""
    assert sk("logs", "--stream", "stdout", name).raw_out == b"out\n\xff\nno end"
    lines = [json.loads(line) for line in sk.ok("logs", "--format", "json", name).splitlines()]
    assert {(one["stream"], one.get("log", one.get("bytes")), one.get("partial")) for one in lines} == {
        ("stdout", "out", None), ("stderr", "err", None), ("stdout", "ff", None), ("stdout", "no end", True)}
    assert len(lines) == 4 and [one["bytes"] for one in lines if "bytes" in one] == ["ff"]
    assert all(one["time"].endswith("Z") for one in lines)
    assert len(sk.ok("logs", "--format", "json", "--tail", "1", "--stream", "stderr", name).splitlines()) == 1
    sk.fails("logs", "--stream", "both", name, match="neither stdout nor stderr")
    sk.fails("logs", "--format", "xml", name, match="json and cri")


def test_the_last_lines_before_a_time(sk):
    name = finished(sk, "echo 1; echo 2; echo 3; sleep 0.6; echo 4; echo 5; echo err >&2")
    stamps = {line.split()[1]: line.split()[0] for line in sk("logs", "-t", name).out.splitlines()}
    assert sk.ok("logs", "--until", stamps["3"], "--tail", "2", name) == "2\n3"
    assert sk.ok("logs", "--until", stamps["3"], "--tail", "100", name) == "1\n2\n3"
    assert sk.ok("logs", "--until", "1h", "--tail", "2", name) == ""


def test_following_until_a_time(sk):
    """It ends then, with all that was written until then; at once for one that is over."""
    name = sk.running("--restart", "no", command=["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"])
    wait_for(lambda: sk.ok("logs", name))
    until = time.time() + 1.5
    following = sk.start("logs", "-f", "-t", "--until", "%.3f" % until, name)
    out, _ = following.communicate(timeout=60)
    assert time.time() > until and sk.state(name) == "running" and following.returncode == 0
    lines = out.decode().splitlines()
    assert [line.split()[1] for line in lines] == [str(n) for n in range(1, len(lines) + 1)]
    later = str(len(lines) + 1)
    known = wait_for(lambda: (lambda all_: later in all_ and all_)(
        {line.split()[1]: line.split()[0] for line in sk.ok("logs", "-t", name).splitlines()}))
    assert lines and known[later] > lines[-1].split()[0]
    assert sk.ok("logs", "-f", "--until", "%.3f" % until, name).count("\n") == len(lines) - 1

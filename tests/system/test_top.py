# SPDX-License-Identifier: Apache-2.0
"""top: the processes of a container, held against /proc."""

import json
import os
import re

import pytest
from skinktest import cgroup_dir, read_text, status_of, wait_for
from terminal import Terminal

TREE = ("sh", "-c", "sh -c 'sleep 1000 & wait' & sleep 1001 & wait")


def rows(sk, *args):
    """The table as lists of cells."""
    return [re.split(r" {3,}", line) for line in sk.ok("top", *args).splitlines()]


def documents(sk, name, *args):
    return json.loads(sk.ok("top", name, "--format", "json", *args))


def members(pid):
    """Who is in the container's groups."""
    directory, _ = cgroup_dir(pid, "pids")
    found = []
    for place, _, _ in os.walk(directory):
        found += map(int, read_text(place + "/cgroup.procs").split())
    return sorted(found)


@pytest.mark.vm
@pytest.mark.vm_more
def test_all_processes_of_the_group(sk):
    name = sk.running(command=TREE)
    wait_for(lambda: len(documents(sk, name)) == 4)
    found = documents(sk, name)
    init = sk.pid(name)
    assert sorted(one["pid"] for one in found) == members(init)
    assert found[0]["pid"] == init and found[0]["nspid"] == 1 and found[0]["comm"] == "sh"
    for one in found:
        status = status_of(one["pid"])
        assert one["ppid"] == int(status["PPid"]) and one["nspid"] == int(status["NSpid"].split()[-1])
        assert one["threads"] == 1 and one["state"] in "RSD" and one["user"] == "root" and one["tty"] is None
        words = read_text("/proc/%d/cmdline" % one["pid"])[:-1].split("\0")
        assert one["command"] == words and one["rss"] > 0 and one["vsz"] >= one["rss"]


def test_the_usual_columns(sk):
    name = sk.running("-u", "1000")
    heading, row = rows(sk, name)
    assert heading == ["UID", "PID", "PPID", "%CPU", "STIME", "TTY", "TIME", "CMD"]
    cells = dict(zip(heading, row))
    assert cells["UID"] == "1000" and cells["PID"] == str(sk.pid(name)) and cells["CMD"] == "sleep 1000"
    assert cells["TTY"] == "?" and re.fullmatch(r"\d\d:\d\d:\d\d", cells["TIME"])
    assert re.fullmatch(r"\d\d:\d\d", cells["STIME"]) and re.fullmatch(r"\d+\.\d", cells["%CPU"])


def test_columns_are_chosen_as_ps_has_them(sk):
    name = sk.running()
    pid = str(sk.pid(name))
    assert rows(sk, name, "-o", "pid,nspid,comm") == [["PID", "NSPID", "COMMAND"], [pid, "1", "sleep"]]
    assert rows(sk, name, "-eo", "nspid,args") == [["NSPID", "CMD"], ["1", "sleep 1000"]]
    assert rows(sk, "--columns=hostpid", name) == [["PID"], [pid]]
    assert rows(sk, name, "-ef")[0] == rows(sk, name)[0]
    assert rows(sk, name, "aux")[0] == ["USER", "PID", "%CPU", "%MEM", "VSZ", "RSS", "TTY", "STAT", "STIME", "TIME", "CMD"]
    assert rows(sk, name, "aux")[1][0] == "root"
    sk.fails("top", name, "-o", "pid,shoe", status=1, match=["shoe", "nspid"])
    sk.fails("top", name, "axjf", status=1, match="axjf")


def test_children_come_after_their_parents(sk):
    name = sk.running(command=TREE)
    wait_for(lambda: len(documents(sk, name)) == 4)
    seen = {documents(sk, name)[0]["ppid"]}
    for one in documents(sk, name):
        assert one["ppid"] in seen
        seen.add(one["pid"])
    numbers = [one["pid"] for one in documents(sk, name, "--sort", "pid")]
    assert numbers == sorted(numbers)


def test_programs_of_exec_are_there_too(sk):
    name = sk.running()
    sk.start("exec", name, "sleep", "1234")
    wait_for(lambda: ["sleep", "1234"] in [one["command"] for one in documents(sk, name)])


def test_cpu_time_is_counted(sk):
    name = sk.running(command=("sh", "-c", "while :; do :; done"))
    # %CPU is over its life: on a busy machine that is less than a processor, never nothing.
    busy = wait_for(lambda: (lambda one: one["cpu_ns"] >= 200_000_000 and one)(documents(sk, name)[0]))
    assert busy["cpu_percent"] > 1


def test_memory_is_told(sk):
    name = sk.running(command=("sh", "-c", "x=$(head -c 20971520 /dev/zero | tr '\\0' x); echo ready; sleep 1000; echo $x"))
    wait_for(lambda: "ready" in sk.ok("logs", name))
    assert documents(sk, name)[0]["rss"] >= 20 << 20
    assert int(rows(sk, name, "-o", "rss")[1][0]) >= 20 << 10


def test_a_terminal_has_its_name(sk, world):
    name = world.name()
    terminal = Terminal(world, sk.command("run", "--name", name, "-it", "busybox", "sleep", "1000"))
    wait_for(lambda: (terminal.read(), sk.state(name))[1] == "running")
    assert re.fullmatch(r"pts/\d+", documents(sk, name)[0]["tty"])


def test_bytes_that_steer_a_terminal_are_shown(sk):
    name = sk.running(command=("sh", "-c", "sleep 1000; :", "\x1b[2J\n", "\r"))
    wait_for(lambda: len(documents(sk, name)) == 2)
    result = sk("top", name, "-o", "nspid,cmd")
    assert result.out.splitlines()[1].endswith("sh -c sleep 1000; : \\x1b[2J\\x0a \\x0d")
    assert len(result.out.splitlines()) == 3
    assert b"\x1b" not in sk("top", name, "--format", "json").raw_out
    assert documents(sk, name)[0]["command"][-2:] == ["\x1b[2J\n", "\r"]
    assert sk.ok("top", name, "--format", "{{.nspid}} {{.comm}}") == "1 sh\n2 sleep"


def test_a_name_that_a_process_gave_itself(sk):
    name = sk.running(command=("sh", "-c", "printf 'a) Z 1 (\\033' > /proc/self/comm; while :; do read x < /dev/null; done"))
    one = wait_for(lambda: (lambda one: one["comm"].startswith("a)") and one)(documents(sk, name)[0]))
    assert one["comm"] == "a) Z 1 (\x1b" and one["pid"] == sk.pid(name) and one["state"] != "Z"
    assert rows(sk, name, "-o", "comm")[1] == ["a) Z 1 (\\x1b"]


def test_no_ps_is_run(sk):
    name = sk.running()
    assert "sleep 1000" in sk.ok("top", name, env={"PATH": "/nonexistent"})


def test_one_that_does_not_run(sk, world):
    name = world.name()
    sk.ok("create", "--name", name, "busybox", "true")
    sk.fails("top", name, status=1, match=[name, "not running", "skink start"])
    sk.ok("start", "--attach", name)
    sk.fails("top", name, status=1, match="not running")
    sk.fails("top", "nobody", status=1, match="nobody")


def test_a_paused_one_is_shown(sk):
    name = sk.running()
    sk.ok("pause", name)
    assert documents(sk, name)[0]["command"] == ["sleep", "1000"]

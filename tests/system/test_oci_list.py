# SPDX-License-Identifier: Apache-2.0
"""list tells of every container what state tells: it takes a shorter way."""

import json
import os
import signal
import subprocess

import pytest
from skinktest import alive, cgroup_dir, kill_quietly, read_text, wait_for

SLEEP = ["sleep", "1000"]
# A host without a unified hierarchy, where that can be had: its freezer is another one.
V1_VIEW = ["unshare", "--mount", "--propagation", "private", "sh", "-c",
           "if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi; exec \"$@\"", "sh"]


@pytest.fixture(params=["all hierarchies", "v1 only"])
def view(request):
    if request.param == "all hierarchies":
        return []
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        pytest.skip("no v1 hierarchies on this host")
    return V1_VIEW


def listed(oci, name, view=()):
    """The container as list and as state tell it, which is the same."""
    rows = {row["id"]: row for row in json.loads(oci.ok("list", "--format", "json", before=view))}
    state = json.loads(oci.ok("state", name, before=view))
    assert rows[name] == state
    table = [line.split() for line in oci.ok("list", before=view).splitlines()]
    assert [line[:3] for line in table if line[0] == name] == [[name, str(state["pid"]), state["status"]]]
    return state


def started(oci, world, bundle, args=(), view=(), **more):
    b, name = bundle(list(args) or SLEEP), world.name()
    b.config.update(more)
    b.save()
    oci.ok("create", "--bundle", b.dir, name, before=view)
    oci.ok("start", name, before=view)
    return name


def test_a_life(oci, world, bundle, view):
    name = world.name()
    b = bundle(SLEEP)
    oci.ok("create", "--bundle", b.dir, name, before=view)
    assert listed(oci, name, view)["status"] == "created"
    oci.ok("start", name, before=view)
    state = listed(oci, name, view)
    assert state["status"] == "running" and state["owner"] == "root" and state["bundle"] == b.dir
    oci.ok("pause", name, before=view)
    assert listed(oci, name, view)["status"] == "paused"
    oci.ok("resume", name, before=view)
    assert listed(oci, name, view)["status"] == "running"
    oci.ok("kill", name, "KILL", before=view)
    # Dying takes its time, and the two commands that are compared are not one moment.
    wait_for(lambda: not alive(state["pid"]))
    assert listed(oci, name, view)["status"] == "stopped"
    oci.ok("delete", name, before=view)
    assert oci.ok("list", "--quiet", before=view) == ""


def test_run(oci, world, bundle):
    name = world.name()
    oci.ok("run", "--detach", "--bundle", bundle(SLEEP).dir, name)
    assert listed(oci, name)["status"] == "running"


def test_a_start_that_was_killed(oci, world, bundle):
    """The program runs, and nobody could say so in the directory: it is seen all the same."""
    name = started(oci, world, bundle)
    top = os.path.join(world.oci_root, name)
    os.chmod(top, 0o700)
    assert listed(oci, name)["status"] == "running"
    with open(os.path.join(top, "creating.sock"), "w"):
        pass
    assert listed(oci, name)["status"] == "creating"


@pytest.mark.parametrize("program", [SLEEP, ["sh", "-c", "while :; do :; done"], ["sh", "-c", "kill -STOP $$; sleep 1000"],
                                     ["sh", "-c", "sleep 1000 & sleep 1000 & wait"], ["cat", "/tmp/fifo"]])
def test_paused_is_seen_whatever_the_process_does(oci, world, bundle, view, program):
    """Also when somebody else froze the group; and what only sleeps deeply is not paused."""
    if program[0] == "cat":
        program = ["sh", "-c", "mkdir -p /tmp; /bin/busybox mkfifo /tmp/fifo; exec cat /tmp/fifo"]
    name = started(oci, world, bundle, program, view)
    assert listed(oci, name, view)["status"] == "running"
    for _ in range(3):
        oci.ok("pause", name, before=view)
        assert listed(oci, name, view)["status"] == "paused"
        oci.ok("resume", name, before=view)
        assert listed(oci, name, view)["status"] == "running"


def test_frozen_by_somebody_else(oci, world, bundle, view):
    name = started(oci, world, bundle, view=view)
    pid = listed(oci, name, view)["pid"]
    directory, version = cgroup_dir(pid, "freezer")
    assert version == 1
    path = os.path.join(directory, "freezer.state")
    with open(path, "w") as file:
        file.write("FROZEN")
    wait_for(lambda: read_text(path) == "FROZEN\n")
    assert listed(oci, name, view)["status"] == "paused"
    with open(path, "w") as file:
        file.write("THAWED")
    assert listed(oci, name, view)["status"] == "running"


def test_a_zombie_has_stopped(oci, world, bundle):
    """Nobody has reaped it yet: we are its parent, by prctl(2), and do not."""
    b, name = bundle(SLEEP), world.name()
    script = ("import ctypes, os, sys\nctypes.CDLL(None).prctl(36, 1)\n"
              "status = os.spawnvp(os.P_WAIT, sys.argv[1], sys.argv[1:])\nprint(status, flush=True)\nsys.stdin.read()\n")
    with subprocess.Popen(["/usr/bin/python3", "-c", script] + oci.command("run", "--detach", "--bundle", b.dir, name), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, env=world.environment()) as reaper:
        assert reaper.stdout.readline() == b"0\n"
        pid = listed(oci, name)["pid"]
        kill_quietly(pid)
        wait_for(lambda: "\nState:\tZ" in read_text("/proc/%d/status" % pid, "\nState:\tZ"))
        assert os.path.exists("/proc/%d" % pid), "somebody else has reaped it"
        state = listed(oci, name)
        assert (state["status"], state["pid"]) == ("stopped", 0)
        reaper.stdin.close()


def test_a_number_of_another_process(oci, world, bundle):
    name = started(oci, world, bundle)
    path = os.path.join(world.oci_root, name, "state.json")
    record = json.loads(read_text(path))
    with open(path, "w") as file:
        json.dump(record | {"startTime": record["startTime"] + 1}, file)
    assert listed(oci, name)["status"] == "stopped"
    with open(path, "w") as file:
        json.dump(record, file)
    assert listed(oci, name)["status"] == "running"


def test_records_of_every_form(oci, world, bundle):
    """What is not written as usual is read all the same: other letters, other spaces, members of the future, a large one."""
    notes = {"plain": "x", "quote": 'say "\\" \t\n/', "letters": "äöü \u2028 \U0001f98e", "empty": ""}
    plain = started(oci, world, bundle, annotations={"plain": "x", "quote": 'say "\\" \t\n/'})
    other = started(oci, world, bundle, annotations=notes)
    large = started(oci, world, bundle, annotations={"large": "x" * 5000})
    assert listed(oci, plain)["annotations"]["quote"] == notes["quote"]
    assert listed(oci, other)["annotations"] == notes
    assert len(listed(oci, large)["annotations"]["large"]) == 5000
    path = os.path.join(world.oci_root, plain, "state.json")
    record = json.loads(read_text(path))
    for text in (json.dumps(record, indent=4), json.dumps(record | {"future": [1, {"deep": None}]}), json.dumps(dict(reversed(record.items())))):
        with open(path, "w") as file:
            file.write(text)
        assert listed(oci, plain)["status"] == "running"


def test_one_that_cannot_be_read_is_told_and_hides_no_other(oci, world, bundle):
    name, broken = started(oci, world, bundle), started(oci, world, bundle)
    path = os.path.join(world.oci_root, broken, "state.json")
    good = read_text(path)
    for text in ("", "{", good[:-1], good + "}", good.replace(broken, name), good.replace('"pid":', '"pid":x')):
        with open(path, "w") as file:
            file.write(text)
        result = oci("list", "--format", "json")
        assert result.status == 0 and [row["id"] for row in json.loads(result.out)] == [name]
        assert "warning" in result.err and broken in result.err and "state.json" in result.err
    with open(path, "w") as file:
        file.write(good)
    kill_quietly(listed(oci, broken)["pid"])

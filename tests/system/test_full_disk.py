# SPDX-License-Identifier: Apache-2.0
"""A full disk below the store, the run directory or a writable layer."""

import json
import os
import signal
import subprocess

import mkimg
import pytest
from skinktest import Skink, alive, busybox_image, wait_for


@pytest.fixture
def small(world):
    """skink with a store or a run directory on a small tmpfs."""
    made = []

    def make(size, store=True, inodes=None):
        place = world.path("small%d" % len(made))
        os.makedirs(place)
        options = "size=%s,mode=0755" % size + (",nr_inodes=%d" % inodes if inodes else "")
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "skink-test-keep", place], check=True)
        made.append(place)
        if store:
            world.store = place + "/s"
        else:
            world.run_dir = place + "/r"
        world.skink.options[:] = ["--root", world.store, "--run", world.run_dir]
        return world.skink
    yield make
    world.remove_containers()
    for place in made:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize("size", ["64k", "256k", "1m", "2500k"])
def test_f14_a_load_that_does_not_fit_leaves_nothing(small, world, size):
    sk = small(size)
    path = mkimg.oci_archive(world.path("x.tar"), busybox_image("big", extra=lambda tar: tar.file("fill", os.urandom(3 << 20))))
    sk.fails("load", path, match="no space|ENOSPC")
    if sk("images", "-q").status == 0:
        assert sk.ok("images", "-q") == ""
    used = sum(os.path.getsize(os.path.join(top, name)) for top, _, files in os.walk(world.store) for name in files)
    assert used < 60000, "the failed load keeps space"


def test_previous_images_stay_intact(small, world):
    sk = small("12m")
    sk.load(busybox_image("first"))
    path = mkimg.oci_archive(world.path("x.tar"), busybox_image("big", extra=lambda tar: tar.file("fill", os.urandom(12 << 20))))
    sk.fails("load", path, match="no space")
    assert sk.ok("run", "--rm", "first", "echo", "fine") == "fine"
    sk.load(busybox_image("second", extra=lambda tar: tar.file("little", "x")))
    assert sk.ok("run", "--rm", "second", "cat", "/little") == "x"


def test_no_inodes(small, world):
    sk = small("50m", inodes=60)
    path = mkimg.oci_archive(world.path("x.tar"), busybox_image("big"))
    result = sk("load", path)
    if result.status != 0:
        sk.fails("load", path, match="no space")


def test_a_full_run_directory(small, world):
    sk = small("5m", store=False)
    sk.load(busybox_image())
    name = sk.running(command=["sh", "-c", "echo ready; while :; do sleep 0.1; done"])
    fill = os.open(os.path.join(world.run_dir, "..", "fill"), os.O_CREAT | os.O_WRONLY)
    try:
        while os.write(fill, b"x" * 4096):
            pass
    except OSError:
        pass
    os.close(fill)
    assert sk.state(name) == "running"
    result = sk("run", "-d", "busybox", "sleep", "100")
    assert result.status in (0, 125), result
    if result.status:
        assert "space" in result.err
    os.kill(sk.pid(name), 9)
    sk.ok("rm", "-f", name)
    os.unlink(os.path.join(world.run_dir, "..", "fill"))
    assert sk.ok("run", "--rm", "busybox", "echo", "again") == "again"


def test_a_full_log_does_not_stop_the_container(small, world):
    sk = small("4m", store=False)
    sk.load(busybox_image())
    name = sk.running("--restart", "no", command=["sh", "-c", "seq 1 1500000; echo over; sleep 1000"])
    wait_for(lambda: "sleep 1000" in sk.ok("exec", name, "ps"), 90)
    assert sk.state(name) == "running"
    sk.ok("rm", "-f", name)


def fill_up(path):
    size = 1 << 16
    with open(path, "wb", buffering=0) as file:
        while size:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2


def test_f15_a_gap_of_a_full_disk_is_marked_and_no_line_is_invented(small, world):
    """F15: half a line before the gap and half a line after it never become one, whoever reads; `why` keeps to its last lines."""
    sk = small("6m")
    sk.load(busybox_image())
    until = "until [ -e /tmp/%s ]; do sleep 0.05; done; "
    name = sk.running("--restart", "no", command=["sh", "-c", "printf 'one\ntwo'; " + until % "a" + "seq 1 20000; printf lost; " +
                                                  until % "b" + "printf 'rest\nlast\n'; exec sleep 1000"])
    wait_for(lambda: sk.ok("logs", name) == "one\ntwo")
    readers = [sk.start("logs", "-f", name), sk.start("logs", "-f", "--tail", "1", name)]
    fill = os.path.join(world.store, "..", "fill")
    fill_up(fill)
    sk.ok("exec", name, "touch", "/tmp/a")
    dropped = "".join("%d\n" % n for n in range(1, 20001)) + "lost"

    def records(*options):
        return [json.loads(line) for line in sk.ok("logs", "--format", "json", *options, name).splitlines()]

    def counted():
        return sum(one.get("missing", 0) or len(one["log"]) + (not one.get("partial")) for one in records())
    wait_for(lambda: counted() == len("one\ntwo" + dropped), message="not all is kept or marked")
    assert len([one for one in records() if "missing" in one]) == 1, "one gap is told more than once"
    os.unlink(fill)
    sk.ok("exec", name, "touch", "/tmp/b")
    wait_for(lambda: "last" in sk.ok("logs", name))
    page = sk.inspect(name) and json.loads(sk.ok("why", "--format", "json", name))["output"]
    sk.ok("stop", "-t", "0", name)
    whole = ("one\ntwo" + dropped).split("\n")

    def check(lines, whole=whole):
        *before, half, last = lines
        assert last == "last" and before == whole[:len(before)] and whole[len(before)].startswith(half), lines[-5:]
    result = sk("logs", name)
    check(result.out.splitlines())
    assert result.err.count("\n") == 1 and "bytes of output are missing here: the disk was full" in result.err
    check([line.split(" ", 1)[1] for line in sk.ok("logs", "-t", name).splitlines()])
    found = records()
    check([one["log"] for one in found if "log" in one])
    assert [one["reason"] for one in found if "missing" in one] == ["the disk was full"] and found[-1]["log"] == "last"
    assert len(page.splitlines()) <= 21 and page.endswith("last\n") and "missing here" in page
    for reader, expected in zip(readers, (whole, ["two1"] + whole[2:])):
        out, err = reader.communicate(timeout=60)
        check(out.decode().splitlines(), expected)
        assert b"the disk was full" in err


def test_f15_who_is_attached_sees_the_gap(small, world):
    """F15, with attach: it ends the line that the gap cuts."""
    sk = small("6m")
    sk.load(busybox_image())
    name = sk.running("--restart", "no", command=["sh", "-c", "until [ -e /tmp/a ]; do echo tick; sleep 0.05; done; seq 1 20000; printf lost; "
                                                  "until [ -e /tmp/b ]; do sleep 0.05; done; printf 'rest\nlast\n'; exec sleep 1000"])
    front = sk.start("attach", "--no-stdin", name)
    assert os.read(front.stdout.fileno(), 5) == b"tick\n"
    fill = os.path.join(world.store, "..", "fill")
    fill_up(fill)
    sk.ok("exec", name, "touch", "/tmp/a")
    told = lambda: [one["missing"] for one in map(json.loads, sk.ok("logs", "--format", "json", name).splitlines()) if "missing" in one]
    wait_for(lambda: sum(told()) > 100000)
    os.unlink(fill)
    sk.ok("exec", name, "touch", "/tmp/b")
    wait_for(lambda: "last" in sk.ok("logs", name))
    sk.ok("stop", "-t", "0", name)
    out, err = front.communicate(timeout=60)
    lines = [line for line in out.decode().splitlines() if line != "tick"]
    *before, half, last = lines
    assert last == "last" and "rest" not in lines and before == [str(n) for n in range(1, len(before) + 1)], lines[-5:]
    assert str(len(before) + 1).startswith(half) or half == "", lines[-5:]
    assert b"bytes of output are missing here: the disk was full\n" in err


def test_f15_a_gap_outlives_its_supervisor(small, world):
    """F15: what was dropped and could not be written down yet is counted all the same, whoever is killed meanwhile."""
    sk = small("6m")
    sk.load(busybox_image())
    until = "until [ -e /tmp/%s ]; do sleep 0.05; done; "
    name = sk.running("--restart", "no", command=["sh", "-c", "echo one; " + until % "a" + "seq 1 20000; " + until % "b" +
                                                  "seq 1 20000; " + until % "c" + "echo last; exec sleep 1000"])
    wait_for(lambda: sk.ok("logs", name) == "one")
    directory = os.path.join(world.store, "containers", sk.inspect(name)["id"])
    fill = os.path.join(world.store, "..", "fill")
    fill_up(fill)
    # No room in the index either: its page is full.
    with open(os.path.join(directory, "log.index"), "r+b") as index:
        index.truncate(4096)
    supervisor = sk.inspect(name)["supervisor_pid"]
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: sk.inspect(name)["supervisor_pid"] not in (0, supervisor))
    written = sum(len("%d\n" % n) for n in range(1, 20001))
    pending = lambda: int.from_bytes(open(os.path.join(directory, "log.gap"), "rb").read(8), "little")
    for go, least in (("a", written - (64 << 10)), ("b", 2 * written - (64 << 10))):
        sk.ok("exec", name, "touch", "/tmp/" + go)
        wait_for(lambda: pending() >= least)
        supervisor = sk.inspect(name)["supervisor_pid"]
        os.kill(supervisor, signal.SIGKILL)
        wait_for(lambda: sk.inspect(name)["supervisor_pid"] not in (0, supervisor))
    os.unlink(fill)
    sk.ok("exec", name, "touch", "/tmp/c")
    wait_for(lambda: "last" in sk.ok("logs", name))
    found = [json.loads(line) for line in sk.ok("logs", "--format", "json", name).splitlines()]
    there = sum(len(one["log"]) + (not one.get("partial")) for one in found if "log" in one) - len("one\nlast\n")
    assert there + sum(one.get("missing", 0) for one in found) == 2 * written and pending() == 0
    assert {one["reason"] for one in found if "missing" in one} == {"the disk was full"}


def test_why_keeps_to_the_last_lines_on_a_full_disk(small, world):
    """What has no entry in the index, as there was no room for one, is no more than the last lines either."""
    sk = small("6m")
    sk.load(busybox_image())
    name = sk.running("--restart", "no", command=["seq", "1", "500"])
    sk.wait_state(name, "exited")
    index = os.path.join(world.store, "containers", sk.inspect(name)["id"], "log.index")
    os.truncate(index, 0)
    assert json.loads(sk.ok("why", "--format", "json", name))["output"].split() == [str(n) for n in range(481, 501)]
    assert sk.ok("logs", "--tail", "3", name).split() == ["498", "499", "500"]


def test_a_full_writable_layer(sk):
    result = sk("run", "--rm", "--writable", "--storage-opt", "size=4m", "busybox", "sh", "-c",
                "dd if=/dev/zero of=/fill bs=1M count=64 2>&1; echo status $?")
    assert "space" in result.out or result.status == 125, result


def test_how_it_ended_is_known_with_a_full_store(small, world):
    sk = small("5m")
    sk.load(busybox_image())
    name = sk.running(command=["sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done"])
    wait_for(lambda: sk.ok("logs", name) == "ready")
    fill = os.path.join(world.store, "..", "fill")
    with open(fill, "wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass
    sk.ok("stop", name)
    for _ in range(2):
        assert (sk.state(name), sk.inspect(name)["exit"]["status"]) == ("exited", 7)
    os.unlink(fill)
    assert (sk.state(name), sk.inspect(name)["exit"]["status"]) == ("exited", 7)
    wait_for(lambda: not os.path.exists(os.path.join(world.run_dir, "containers", sk.inspect(name)["id"])))
    assert (sk.state(name), sk.inspect(name)["exit"]["status"]) == ("exited", 7)


def test_how_it_ended_is_known_with_everything_on_a_full_disk(small, world):
    """Store and run directory on the same one: nothing can be written anew, and `ps` tells the truth all the same."""
    sk = small("5m")
    world.run_dir = os.path.join(world.store, "..", "r")
    sk.options[:] = ["--root", world.store, "--run", world.run_dir]
    sk.load(busybox_image())
    name = sk.running("--restart", "no", command=["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done"])
    fill = os.path.join(world.store, "..", "fill")
    with open(fill, "wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass
    sk.ok("pause", name)
    assert sk.state(name) == "paused"
    sk.ok("unpause", name)
    os.kill(sk.pid(name), signal.SIGTERM)
    wait_for(lambda: sk.state(name) != "running")
    for _ in range(2):
        assert (sk.state(name), sk.inspect(name)["exit"]["status"]) == ("exited", 7)
    os.unlink(fill)
    wait_for(lambda: sk.state(name) == "exited" and not os.path.exists(
        os.path.join(world.run_dir, "containers", sk.inspect(name)["id"])))
    assert sk.inspect(name)["exit"]["status"] == 7


def test_an_end_for_which_there_is_no_room(small, world):
    """It is no container that lost its keepers, and heal alone is no way out."""
    sk = small("8m")
    sk.load(busybox_image())
    name = sk.running("--restart", "no", command=["sh", "-c", "while ! [ -e /tmp/go ]; do sleep 0.05; done; exit 5"])
    sk.ok("exec", name, "touch", "/tmp/ready")
    supervisor = sk.inspect(name)["supervisor_pid"]
    sk.start("exec", name, "sh", "-c", "sleep 1; touch /tmp/go")
    filler = os.path.join(world.store, "..", "filler")
    size = 1 << 16
    with open(filler, "ab", 0) as file:
        while size:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2
    wait_for(lambda: not alive(supervisor))
    found = [one for one in json.loads(sk("doctor", "--format", "json").out) if one["where"].endswith(name)]
    assert [one["kind"] for one in found] == ["unwritten-end"] and "full" in found[0]["what"] and "make room" in found[0]["advice"], found
    os.unlink(filler)
    sk.ok("heal")
    sk.wait_state(name, "exited")
    assert sk.row(name)["exit"]["status"] == 5
    assert not [one for one in json.loads(sk("doctor", "--format", "json").out) if one["where"].endswith(name)]

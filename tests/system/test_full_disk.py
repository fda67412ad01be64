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

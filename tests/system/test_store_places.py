# SPDX-License-Identifier: Apache-2.0
"""A store or a run directory that cannot be written, and a store whose file system was taken away below a container."""

import json
import os
import shutil
import subprocess

import pytest
from skinktest import alive, busybox_image, kill_quietly, mkimg, needs, wait_for


def mount(*words):
    subprocess.run(["mount", *words], check=True)


class Place:
    """A directory that is a file system of its own, to be made read-only or taken off."""

    def __init__(self, world, path):
        self.disk, self.path = world.path("disk"), path
        os.mkdir(self.disk, 0o700)
        os.mkdir(path, 0o700)
        self.put()

    def put(self):
        mount("--bind", self.disk, self.path)
        self.is_on = True

    def take_off(self):
        subprocess.run(["umount", "-l", self.path], check=True)
        self.is_on = False

    def read_only(self, wanted=True):
        mount("-o", "remount,bind," + ("ro" if wanted else "rw"), self.path)


    def end(self, world):
        if self.is_on:
            self.read_only(False)
            world.remove_containers()
            world.skink("image", "prune", "--all", "--force")
            self.take_off()


@pytest.fixture
def store(world):
    place = Place(world, world.store)
    yield place
    place.end(world)


@pytest.fixture
def run_dir(world):
    place = Place(world, world.run_dir)
    yield place
    place.end(world)


def findings(sk):
    return {one["kind"]: one for one in json.loads(sk("doctor", "--format", "json").out) if one["level"] == "problem"}


def test_a_read_only_store_is_named_with_a_way_out(store, sk, world):
    stopped = world.name()
    sk.ok("create", "--name", stopped, "busybox", "true")
    archive = mkimg.oci_archive(world.path("other.tar"), busybox_image("other"))
    store.read_only()
    words = [store.path, "Read-only file system", "is mounted read-only: mount -o remount,rw it, or choose another --root"]
    sk.fails("run", "busybox", "true", status=125, match=[store.path + "/containers: mkdir"] + words)
    sk.fails("create", "busybox", "true", match=words)
    sk.fails("load", archive, match=[store.path + "/tmp: mkdir"] + words)
    sk.fails("rm", stopped, match=words)
    sk.fails("start", stopped, match=words)
    assert [row["name"] for row in sk.ps()] == [stopped]
    found = findings(sk)["read-only"]
    assert found["where"] == store.path and "cannot be written" in found["what"] and "remount,rw" in found["advice"]


def test_a_read_only_run_directory_is_named_with_a_way_out(run_dir, sk, world):
    stopped = world.name()
    sk.ok("create", "--name", stopped, "busybox", "true")
    run_dir.read_only()
    words = [run_dir.path + "/containers: mkdir", "Read-only file system", "choose another --run"]
    sk.fails("run", "busybox", "true", status=125, match=words)
    sk.fails("start", stopped, match=words)
    assert findings(sk)["read-only"]["where"] == run_dir.path


def test_an_empty_run_directory_that_is_read_only(run_dir, bare):
    run_dir.read_only()
    bare.fails("ps", match=[run_dir.path + ": mkdir containers: Read-only file system", "choose another --run"])


def lost(sk, pid, *words):
    status = 125 if words[0] == "run" else 1
    return sk.fails(*words, status=status, match=["1 container runs whose record cannot be reached", r"\(process %d\)" % pid,
                                                  "was the store's file system unmounted\\? Mount it again"])


def test_a_store_that_vanished_is_told_and_no_other_is_made(store, sk, world):
    name = sk.running("--restart", "always")
    pid = sk.pid(name)
    store.take_off()
    for words in (["ps"], ["ps", "-aq"], ["rm", "-f", name], ["images"], ["inspect", name], ["stop", name], ["run", "busybox"]):
        assert "no store is there" in lost(sk, pid, *words).err
    assert os.listdir(store.path) == []
    found = findings(sk)["vanished-store"]
    assert found["where"] == store.path and str(pid) in found["what"] and "Mount it again" in found["advice"]
    assert alive(pid)
    store.put()
    assert sk.state(name) == "running" and sk.pid(name) == pid
    sk.ok("rm", "-f", name)


def test_a_store_that_vanished_over_another_one(store, bare, world):
    """As one is below a mount point that was forgotten once."""
    store.take_off()
    bare.ok("ps")
    store.put()
    bare.load(busybox_image())
    name = bare.running()
    pid = bare.pid(name)
    store.take_off()
    lost(bare, pid, "ps")
    lost(bare, pid, "ps", "-q")
    lost(bare, pid, "rm", "-f", name)
    lost(bare, pid, "stop", name)
    assert bare.ok("images", "-q") == ""
    store.put()
    bare.ok("ps")
    bare.ok("rm", "-f", name)


def test_another_store_with_the_same_run_directory_has_not_vanished(sk, world):
    """Its containers are none of the other's business."""
    name = sk.running()
    beside = type(sk)(world, sk.path, ["--root", world.path("beside"), "--run", world.run_dir])
    assert beside.ok("ps", "-aq") == ""
    assert "cannot be reached" not in beside("rm", "-f", name).err
    assert sk.state(name) == "running"


def test_a_record_that_was_removed_by_hand(sk, world):
    name = sk.running()
    record = sk.inspect(name)
    shutil.rmtree(os.path.join(world.store, "containers", record["id"]))
    lost(sk, record["pid"], "ps")
    lost(sk, record["pid"], "rm", "-f", name)
    world.leaks_expected = True
    for key in ("guard_pid", "supervisor_pid", "pid"):
        kill_quietly(record[key])
    wait_for(lambda: not alive(record["pid"]))
    assert sk.ok("ps", "-aq") == ""


@pytest.mark.vm
@pytest.mark.vm_more
def test_a_store_that_folds_case(sk, world):
    """Names that differ in case alone are one there: no store is made in it."""
    if not os.path.exists("/sys/fs/ext4/features/casefold"):
        pytest.skip("this kernel folds no case")
    needs("mke2fs")
    needs("chattr")
    disk, place = world.path("disk"), world.path("folded")
    os.mkdir(place)
    with open(disk, "wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-O", "casefold", disk], check=True)
    subprocess.run(["mount", "-o", "loop", disk, place], check=True)
    try:
        os.mkdir(place + "/store", 0o700)
        subprocess.run(["chattr", "+F", place + "/store"], check=True)
        folded = type(sk)(world, sk.path, ["--root", place + "/store", "--run", world.path("folded-run")])
        folded.fails("ps", status=1, match=[place + "/store: the directory folds case", "chattr -F it while it is empty, or choose another"])
        assert os.listdir(place + "/store") == []
        subprocess.run(["chattr", "-F", place + "/store"], check=True)
        folded.ok("ps")
    finally:
        subprocess.run(["umount", "-l", place], check=True)

# SPDX-License-Identifier: Apache-2.0
"""Layers that are files: mounted once for all containers, out of the host's sight, gone with their image."""

import ctypes
import os
import struct
import subprocess

import pytest

import mkimg
from mktar import Tar
from skinktest import ALL, Image, Layer, base_layer, has_erofs, listdir

pytestmark = pytest.mark.skipif(not has_erofs(), reason="this kernel has no EROFS")


def load(sk, world, name, *tars, **environment):
    path = world.path(name + ".tar")
    layers = [base_layer()] + [Layer(tar) for tar in tars]
    mkimg.oci_archive(path, Image(layers, {"Env": ["PATH=/bin"], "Cmd": ["sleep", "1000"]}, [name]))
    sk.ok("load", path, env=environment)


def layers(world):
    return listdir(world.path("store/layers/sha256"))


def kept(world):
    """What the host's mounts show; the directory of the pin is one where the run directory is shared with other namespaces."""
    places = [line.split()[4] for line in world.host_mounts()]
    return [os.path.basename(place) for place in places if place != world.run_dir + "/layers"]


def mounts_behind(pin):
    """The mounts of the namespace that a pin keeps: those of a process that has entered it, as there is no /proc in it."""
    ready, wait, end = *os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        fd = os.open(pin, os.O_RDONLY)
        entered = ctypes.CDLL(None).setns(fd, 0x20000)  # CLONE_NEWNS
        os.write(wait, b"%d" % entered)
        os.close(end[1])
        os.read(end[0], 1)
        os._exit(0)
    try:
        assert os.read(ready, 9) == b"0"
        with open("/proc/%d/mountinfo" % pid) as file:
            return file.read().splitlines()
    finally:
        for fd in (ready, wait, *end):
            os.close(fd)
        os.waitpid(pid, 0)


def frame_of_program(pid):
    """The frame of memory of the first page of the program that a process runs: Documentation/admin-guide/mm/pagemap.rst."""
    with open("/proc/%d/maps" % pid) as maps:
        start = next(int(line.split("-")[0], 16) for line in maps if "busybox" in line and "r-xp" in line)
    with open("/proc/%d/pagemap" % pid, "rb") as pagemap:
        for page in range(start // 4096, start // 4096 + 64):
            pagemap.seek(page * 8)
            entry = struct.unpack("Q", pagemap.read(8))[0]
            if entry >> 63:
                return page - start // 4096, entry & ((1 << 55) - 1)
    return None


def test_containers_share_the_memory_of_layers(bare, world):
    load(bare, world, "web")
    names = [bare.running(image="web") for _ in range(50 if ALL else 6)]
    frames = {frame_of_program(bare.pid(name)) for name in names}
    assert len(frames) == 1 and None not in frames
    # Scaffold and layer, mounted once; each mount of its own would have a cache of its own.
    assert sum(" - erofs " in line for line in mounts_behind(world.run_dir + "/layers/pin")) == 2
    # The host's mounts show what keeps the layers' namespace and no more.
    assert kept(world) == ["pin"]


def test_an_image_that_goes_takes_its_mounts_along(bare, world):
    load(bare, world, "web")
    load(bare, world, "other", Tar().file("other", "1"))
    for name in ("web", "other"):
        bare.ok("run", "--rm", name, "true")
    bare.ok("rmi", "other")
    assert kept(world) == ["pin"] and len(layers(world)) == 1
    bare.ok("rmi", "web")
    assert world.host_mounts() == [] and layers(world) == [] and listdir(world.path("store/marks")) == []


@pytest.mark.vm_more
@pytest.mark.vm
def test_layers_of_both_forms_in_one_image(bare, world):
    load(bare, world, "old", SKINK_LAYERS="directories")
    assert not layers(world)[0].endswith(".erofs")
    assert bare.shell("echo fine", image="old") == "fine"
    low = Tar().dir("d", mode=0o750).file("d/low", "1").file("gone", "x")
    load(bare, world, "mixed", low, Tar().file(".wh.gone").file("d/high", "2"))
    assert sorted(name.endswith(".erofs") for name in layers(world)) == [False, True, True]
    script = "cat d/low d/high; ls gone 2>&1; stat -c %a d; stat -c %d / /bin/busybox /d/low /d/high | uniq | wc -l"
    for options in ([], ["--writable"], ["-v", world.base + ":/a/new/place"]):
        assert bare.shell(script, *options, image="mixed").split("\n") == ["12ls: gone: No such file or directory", "750", "1"]
    for name in ("old", "mixed"):
        bare.ok("rmi", name)
    assert world.host_mounts() == [] and layers(world) == []


def test_a_recursive_bind_of_the_run_directory(bare, world):
    """As -v /:/host of monitors is one. The kernel attaches no namespace there."""
    load(bare, world, "web")
    bare.ok("run", "--rm", "web", "true")
    assert bare.shell("ls /host/layers", "-v", world.run_dir + ":/host", image="web") == "pin"


def test_where_the_run_directory_is_shared(bare, world):
    """As /run is under systemd, with services in namespaces of their own."""
    load(bare, world, "web")
    skink = " ".join(bare.command("run", "--rm", "web", "echo", "fine"))
    script = ("set -e; mount --bind %s %s; mount --make-shared %s; unshare -m --propagation unchanged sleep 5 & other=$!; sleep 0.3; "
              "%s; grep -c layers/pin /proc/self/mountinfo; %s rmi web >/dev/null; grep -c %s/layers /proc/self/mountinfo || true; kill $other"
              % (world.run_dir, world.run_dir, world.run_dir, skink, skink.split(" run ")[0], world.run_dir))
    result = subprocess.run(["unshare", "-m", "sh", "-c", script], env=world.environment(), capture_output=True, text=True, timeout=30)
    assert result.stdout.split() == ["fine", "1", "0"], result


def test_files_of_all_layers_are_of_one_device(bare, world):
    """find -xdev and tar --one-file-system see one file system."""
    load(bare, world, "web", Tar().file("a", "1"), Tar().file("b", "2"))
    for options in ([], ["--writable"], ["-v", world.base + ":/new/place"]):
        assert bare.shell("stat -c %d / /a /b /bin /bin/busybox | uniq | wc -l", *options, image="web") == "1"


def test_a_layer_that_was_cut_off_is_named(bare, world):
    load(bare, world, "web")
    path = world.path("store/layers/sha256/" + layers(world)[0])
    assert os.stat(path).st_mode & 0o777 == 0o400
    os.truncate(path, 8192)
    result = bare("doctor", "--format", "json")
    assert "the layer's file is damaged" in result.out and os.path.basename(path).split(".")[0] in result.out


def test_mounts_of_a_store_that_is_gone(bare, world):
    load(bare, world, "web")
    bare.ok("run", "--rm", "web", "true")
    os.rename(world.store, world.path("away"))
    result = bare("doctor", "--fix")
    assert "2 layers are mounted that are no longer stored" in result.out
    assert world.host_mounts() == []
    assert bare("doctor").status == 0


@pytest.mark.vm
def test_a_start_after_everything_was_taken_off(bare, world):
    """By a reboot, or by hand."""
    load(bare, world, "web")
    name = bare.running(image="web")
    for line in reversed(world.host_mounts()):
        assert os.system("umount -l " + line.split()[4]) == 0
    assert bare.ok("exec", name, "cat", "/etc/passwd")
    assert bare.shell("echo fine", image="web") == "fine"
    bare.ok("restart", "-t", "0", name)
    assert bare.ok("exec", name, "echo", "fine") == "fine"

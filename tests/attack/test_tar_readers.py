# SPDX-License-Identifier: Apache-2.0
"""A72: an archive of which two readers make different entries. What passes a scanner could be something else here, so
skink refuses what GNU tar, Python's tarfile and Go's archive/tar do not read alike (CVE-2025-62518)."""

import gzip
import os
import random
import subprocess
import tarfile

import mkimg
import pytest
from mktar import DIR, FIFO, FILE, LINK, SYMLINK, Tar, header, pad, pax_record
from skinktest import ALL, BUILD, Image, Layer, base_layer, needs, read

LISTER = os.path.join(BUILD, "tests", "support", "erofs-layer")
# A file whose one block is the header of another: whoever takes the size of the first for 0 sees the second.
EVIL = header("evil", size=4)
LABEL = b"V"


def as_skink_sees(path):
    """(type, name, size, target) of each entry, or None when it is refused."""
    done = subprocess.run([LISTER, "list", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    if done.returncode:
        assert done.returncode == 1 and done.stderr.startswith(b"erofs-layer: "), done
        return None
    fields = [line.split(b" ") for line in done.stdout.splitlines()]
    text = lambda digits: bytes.fromhex(digits.decode()).decode()  # noqa: E731
    return [(kind.decode(), text(name).rstrip("/"), int(size), text(link) if kind in b"hl" else "")
            for kind, size, name, link in fields]


def as_gnu_tar_sees(path):
    done = subprocess.run(["tar", "-tvPf", path, "--numeric-owner", "--quoting-style=escape"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.environ["PATH"]}, timeout=60)
    if done.returncode:
        return "error: " + done.stderr.decode("utf-8", "replace")
    entries = []
    for line in done.stdout.decode().splitlines():
        mode, _, size, _, _, name = line.split(None, 5)
        kind = {"-": "f", "C": "f"}.get(mode[0], mode[0])
        name, _, link = name.partition({"h": " link to ", "l": " -> "}.get(kind, "\0"))
        if kind != LABEL.decode():
            entries.append((kind, name.rstrip("/"), int(size) if kind == "f" else 0, link))
    return entries


def as_python_sees(path):
    entries = []
    try:
        with tarfile.open(path) as archive:
            for member in archive.getmembers():
                kind = {DIR: "d", FIFO: "p", SYMLINK: "l", LINK: "h"}.get(member.type, "f")
                if member.type != LABEL:
                    entries.append((kind, member.name.rstrip("/"), member.size if kind == "f" else 0,
                                    member.linkname if kind in "hl" else ""))
    except (tarfile.TarError, ValueError) as error:
        return "error: %s" % error
    return entries


def add_meta(tar, pick):
    """One header in front of an entry."""
    kind = pick.choice("xxxxggLLKKV")
    if kind == "V":
        return tar.raw(header("label", type=LABEL))
    if kind in "LK":
        data = pick.choice([b"long", b"other", b"long\0", b"d/", b""])
        return tar.raw(header("././@LongLink", type=kind.encode(), size=len(data)) + pad(data))
    if kind == "g":
        return tar.pax({pick.choice(["comment", "VENDOR.key"]): "c"}, type=b"g")
    values = {"size": ["0", "512", "1024", ""], "path": ["paxname", "long", "d/", ""], "linkpath": ["target", "other", ""],
              "comment": ["c", ""], "uid": ["7", ""], "mtime": ["1.5", ""], "uname": ["", "u"], "VENDOR.key": [""]}
    return tar.pax(b"".join(pax_record(key, pick.choice(values[key]))
                            for key in pick.choices(list(values), weights=[6, 3, 2, 3, 1, 1, 1, 1], k=pick.randint(1, 2))))


def random_archive(pick):
    tar = Tar()
    for number in range(pick.randint(1, 3)):
        for _ in range(pick.choice([0, 0, 1, 1, 1, 2, 2, 3, 4])):
            add_meta(tar, pick)
        kind = pick.choice([FILE, FILE, FILE, b"\0", b"7", LINK, LINK, SYMLINK, DIR, FIFO])
        size = pick.choice([0, 0, 0, 512, 1024]) if kind != DIR else pick.choice([0, 0, 0, 512])
        name = pick.choice(["e%d" % number] * 5 + ["e%d/" % number])
        tar.raw(header(name, type=kind, size=size, linkname="t" if kind in (LINK, SYMLINK) else ""))
        # What stands behind need not be what the header says.
        tar.raw((EVIL + pad(b"boo\n"))[:pick.choice([size] * 4 + [0, 512, 1024])])
    tar.file("last", "1")
    return tar.bytes()


def test_a72_random_stacks_of_headers_are_read_as_other_readers_do(world):
    """Or refused. Some of both, so that neither is for want of the other."""
    count = 10000 if ALL else 400
    pick = random.Random(72)
    path = world.path("stack.tar")
    taken = stacked = 0
    for number in range(count):
        data = random_archive(pick)
        world.write("stack.tar", data)
        entries = as_skink_sees(path)
        if entries is None:
            continue
        taken += 1
        stacked += any(data[at + 156:at + 157] in (b"x", b"L", b"K") for at in range(0, len(data), 512))
        assert entries == as_gnu_tar_sees(path) == as_python_sees(path), "archive %d: %s" % (number, data.hex())
    assert taken > count / 10 and stacked > count / 30 and taken < count * 9 / 10, (taken, stacked)


AMBIGUOUS = {
    "two pax headers in front of one entry": lambda tar: tar.pax({"size": "512"}).pax({"comment": "c"}),
    'pax record "size" without a value': lambda tar: tar.pax(pax_record("size", "512") + pax_record("size", "")),
    "a global pax header between an extended header and its entry": lambda tar: tar.pax({"size": "512"}).pax({"comment": "c"}, type=b"g"),
    "a long name of GNU and another of pax": lambda tar: tar.add("././@LongLink", "long\0", type=b"L").pax({"path": "paxname"}),
    "two long names in front of one entry": lambda tar: tar.add("././@LongLink", "a\0", type=b"L").add("././@LongLink", "b\0", type=b"L"),
}


@pytest.mark.parametrize("words", AMBIGUOUS)
def test_a72_a_layer_that_readers_take_for_different_things_is_refused(world, canary, words):
    tar = AMBIGUOUS[words](Tar().file("first")).add("v").raw(EVIL + pad(b"boo\n"))
    path = mkimg.oci_archive(world.path("hostile.tar"), Image([base_layer(), Layer(tar)], {"Cmd": ["sh"]}, "hostile"))
    world.skink.fails("load", path, match=["layer 2: tar header at byte", words, "which readers of tar take for different things; pack it anew"])
    assert world.skink.ok("images", "-q") == ""


@pytest.mark.parametrize("how", ["gnu", "oldgnu", "pax", "posix", "ustar", "v7", "python-gnu", "python-pax", "umoci"])
def test_what_tools_write_is_read_whole(world, how):
    """Long names and targets, hard links, labels, owners that do not fit into octal digits."""
    top = world.path("tree")
    long = "n" * (60 if how in ("ustar", "v7") else 180)
    os.makedirs(top + "/d")
    for name in ("f", "d/" + long):
        with open(os.path.join(top, name), "w") as file:
            file.write(name)
        os.link(os.path.join(top, name), os.path.join(top, name + "-2"))
    os.symlink("t" * 150 if len(long) > 100 else "t", top + "/s")
    if how != "v7":
        os.mkfifo(top + "/p")
    if how not in ("ustar", "v7"):
        os.chown(top + "/f", 3000000000, 3000000000)
    path = world.path("made.tar")
    if how.startswith("python"):
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT if how == "python-gnu" else tarfile.PAX_FORMAT) as archive:
            archive.add(top, ".")
    elif how == "umoci":
        needs("umoci")
        path = layer_of_umoci(world, top)
    else:
        label = [] if how in ("ustar", "v7") else ["--label=backup"]
        subprocess.run(["tar", "--format=" + how, "-cf", path, "-C", top, *label, "."], check=True, timeout=60)
    entries = as_skink_sees(path)
    assert entries == as_gnu_tar_sees(path) == as_python_sees(path)
    assert len(entries) >= 7 and {kind for kind, *_ in entries} >= set("fhld")


def layer_of_umoci(world, tree):
    """The layer that umoci makes of a tree, unpacked."""
    layout = world.path("layout")
    for args in (["init", "--layout", layout], ["new", "--image", layout + ":made"], ["insert", "--image", layout + ":made", tree, "/x"]):
        subprocess.run(["umoci", *args], check=True, stdout=subprocess.DEVNULL, timeout=60)
    blobs = os.path.join(layout, "blobs", "sha256")
    packed = [data for data in (read(os.path.join(blobs, name)) for name in os.listdir(blobs)) if data[:2] == b"\x1f\x8b"]
    assert len(packed) == 1
    return world.write("umoci.tar", gzip.decompress(packed[0]))


SPARSE = {
    "gnu": {},
    "pax-0.0": {"GNU.sparse.size": str(1 << 60), "GNU.sparse.numblocks": "10000000"},
    "pax-0.1": {"GNU.sparse.map": "0,1,0,1," * 100000 + "-5,1"},
    "pax-1.0": {"GNU.sparse.major": "1", "GNU.sparse.realsize": str(1 << 60)},
    "star": {"SCHILY.realsize": str(1 << 60)},
}


@pytest.mark.parametrize("kind", SPARSE)
def test_a71_sparse_entries_are_refused_and_named(world, canary, kind):
    """Their maps are never read."""
    tar = Tar().file("first", "1").add("holes", b"data", type=b"S" if kind == "gnu" else FILE, pax=SPARSE[kind])
    path = mkimg.oci_archive(world.path("hostile.tar"), Image([base_layer(), Layer(tar)], {"Cmd": ["sh"]}, "hostile"))
    world.skink.fails("load", path, match=["layer 2: tar header at byte 1024, %s: sparse entries are not supported; pack the image without --sparse"
                                           % ("of holes" if kind == "gnu" else "behind first")])
    assert world.skink.ok("images", "-q") == ""


@pytest.mark.parametrize("how", ["gnu", "pax"])
def test_a71_sparse_entries_of_gnu_tar(world, canary, how):
    with open(world.path("holes"), "wb") as file:
        file.truncate(10 << 20)
        file.write(b"x")
    made = subprocess.run(["tar", "--sparse", "--format=" + how, "-cf", "-", "-C", world.base, "holes"], stdout=subprocess.PIPE, check=True, timeout=60)
    path = mkimg.oci_archive(world.path("hostile.tar"), Image([base_layer(), Layer(made.stdout)], {"Cmd": ["sh"]}, "hostile"))
    world.skink.fails("load", path, match="pack the image without --sparse")

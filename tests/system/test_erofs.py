# SPDX-License-Identifier: Apache-2.0
"""Layer files: what the kernel shows of one is what GNU tar extracts from the same tar, entry by entry."""

import ctypes
import os
import random
import shutil
import stat
import subprocess

import pytest

from mktar import Tar
from skinktest import ALL, BUILD, has_erofs

LAYER = os.path.join(BUILD, "tests", "support", "erofs-layer")
CAPABILITY = b"\x01\x00\x00\x02\x00\x20\x00\x00" + bytes(12)
LIBC = ctypes.CDLL(None, use_errno=True)

pytestmark = pytest.mark.skipif(not has_erofs(), reason="this kernel has no EROFS")


class Mounted:
    def __init__(self, path, at):
        self.path, self.at = path, at
        os.makedirs(at, exist_ok=True)

    def __enter__(self):
        if LIBC.mount(self.path.encode(), self.at.encode(), b"erofs", 1, None) != 0:
            # Older kernels, and files of tmpfs or overlay.
            subprocess.run(["mount", "-t", "erofs", "-o", "loop,ro", self.path, self.at], check=True, timeout=20)
        return self.at

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.at], check=True, timeout=20)


def write_layer(tmp_path, tar, name="layer"):
    path = str(tmp_path / name)
    with open(path + ".tar", "wb") as file:
        file.write(tar)
    done = subprocess.run([LAYER, "write", path + ".tar", path], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for check in (["fsck.erofs", path], ["dump.erofs", "-s", path]):
        if shutil.which(check[0]):
            checked = subprocess.run(check, capture_output=True, timeout=60)
            assert checked.returncode == 0, (check, checked.stdout[-2000:], checked.stderr[-2000:])
    return path, set(os.fsdecode(done.stdout).split("\n")[:-1])


def describe(top, implied=()):
    """{path: everything that can be seen of it}; of an implied directory only that it is one."""
    found, inodes = {}, {}
    for here, dirs, files in os.walk(top):
        for name in [""] * (here == top) + dirs + files:
            path = os.path.join(here, name).rstrip("/")
            status = os.lstat(path)
            short = os.path.relpath(path, top) if path != top else ""
            if short in implied and stat.S_ISDIR(status.st_mode):
                found[short] = "directory"
                continue
            inodes.setdefault(status.st_ino, []).append(short)
            xattrs = {} if stat.S_ISLNK(status.st_mode) else {
                key: os.getxattr(path, key) for key in os.listxattr(path) if key.startswith(("user.", "security.cap"))}
            found[short] = (oct(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns, xattrs,
                            os.readlink(path) if stat.S_ISLNK(status.st_mode) else
                            open(path, "rb").read() if stat.S_ISREG(status.st_mode) else b"",
                            0 if stat.S_ISDIR(status.st_mode) else status.st_nlink)
    return found, sorted(sorted(paths) for paths in inodes.values() if len(paths) > 1)


def compare(tmp_path, tar, name="layer"):
    path, implied = write_layer(tmp_path, tar, name)
    plain = str(tmp_path / (name + ".plain"))
    os.mkdir(plain)
    subprocess.run(["tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--recursive-unlink",
                    "--delay-directory-restore", "-xpf",
                    path + ".tar", "-C", plain], check=True, stderr=subprocess.DEVNULL, timeout=120)
    wanted = describe(plain, implied)
    with Mounted(path, str(tmp_path / "mounted")) as at:
        found = describe(at, implied)
    assert found[1] == wanted[1]
    assert found[0].keys() == wanted[0].keys()
    for one in wanted[0]:
        assert found[0][one] == wanted[0][one], one
    read_back(path, wanted[0])
    shutil.rmtree(plain)
    return path


def read_back(path, wanted):
    """The reader of our own finds the same without a mount."""
    names = sorted(wanted) + ["no/such", "zzz"]
    done = subprocess.run([LAYER, "read", path], input=b"".join(os.fsencode(name) + b"\0" for name in names),
                          capture_output=True, check=True, timeout=60)
    lines = done.stdout.split(b"\n")
    at = 0
    for name in names:
        if name not in wanted:
            assert lines[at] == b"none", name
        elif wanted[name] != "directory":
            mode, uid, gid, mtime, _, content, _ = wanted[name]
            fields = lines[at].split()
            assert int(fields[0], 8) == int(mode, 8) and [int(x) for x in fields[1:3]] == [uid, gid], name
            assert int(fields[4]) * 10**9 + int(fields[5]) == mtime, name
            if stat.S_ISLNK(int(mode, 8)):
                assert lines[at + 1] == os.fsencode(content), name
                at += 1
        at += 1


class Maker:
    """A random tree as a tar. Every name is new or replaces a file, since archivers disagree about the rest."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.tar, self.dirs, self.files = Tar(), [""], []
        self.count = 0

    def name(self):
        self.count += 1
        kinds = ["n%d", "-%d", ".%d", "!%d", "n\xff%d", "a space %d", "x" * self.random.randrange(1, 240) + "%d", "\x01%d"]
        return os.path.join(self.random.choice(self.dirs), self.random.choice(kinds) % self.count)

    def more(self):
        pick, rand = self.random.random(), self.random
        fields = {"mode": rand.randrange(0o10000), "uid": rand.choice([0, 1000, 70000, 2**31]), "gid": rand.randrange(70000)}
        pax = {"mtime": "%d.%09d" % (rand.choice([0, 1, 2**31 + 5, 10**9]), rand.randrange(10**9))}
        if rand.random() < 0.1:
            pax["SCHILY.xattr.user." + "k" * rand.randrange(1, 60)] = "v" * rand.choice([0, 1, 100, 3000])
        if pick < 0.15:
            name = self.name()
            self.dirs.append(name)
            self.tar.add(name + "/", type=b"5", pax=pax, **fields)
        elif pick < 0.25:
            del fields["mode"]
            self.tar.symlink(self.name(), "t" * rand.choice([1, 10, 300, 4000]), pax={"mtime": pax["mtime"]}, **fields)
        elif pick < 0.3:
            self.tar.add(self.name(), type=b"6", pax={"mtime": pax["mtime"]}, **fields)
        elif pick < 0.4 and self.files:
            self.tar.link(self.name(), rand.choice(self.files))
        else:
            if rand.random() < 0.05:
                pax["SCHILY.xattr.security.capability"] = CAPABILITY
            old = self.files and rand.random() < 0.1
            name = rand.choice(self.files) if old else self.name() if rand.random() < 0.9 else self.name() + "/d/f"
            size = rand.choice([0, 1, 100, 2000, 4031, 4032, 4033, 4095, 4096, 4097, 8192, 70000, 300000])
            self.files.append(name)
            self.tar.file(name, bytes(size) if rand.random() < 0.2 else rand.randbytes(size), pax=pax, **fields)

    def bytes(self, count):
        for _ in range(count):
            self.more()
        return self.tar.bytes()


@pytest.mark.parametrize("seed", range(200 if ALL else 4))
def test_the_kernel_shows_what_tar_extracts(tmp_path, seed):
    compare(tmp_path, Maker(seed).bytes(random.Random(seed).randrange(1, 250)))


def test_a_layer_file_depends_on_its_tar_alone(tmp_path):
    tar = Maker(1000).bytes(200)
    one, two = (open(write_layer(tmp_path, tar, name)[0], "rb").read() for name in ("one", "two"))
    assert one == two


def test_small_files_take_no_more_than_in_the_tar(tmp_path):
    made, rand = Tar(), random.Random(7)
    for number in range(3000):
        made.file("d/%d" % number, rand.randbytes(int(rand.expovariate(1 / 1500))))
    tar = made.bytes()
    path, _ = write_layer(tmp_path, tar)
    assert os.path.getsize(path) < len(tar)


def test_a_directory_of_many_entries(tmp_path):
    count = 150_000 if ALL else 20_000
    made = Tar().dir("d")
    for number in range(count):
        made.file("d/%d" % (number * 7919 % count))
    path, _ = write_layer(tmp_path, made.bytes())
    with Mounted(path, str(tmp_path / "mounted")) as at:
        assert sorted(os.listdir(at + "/d")) == sorted(map(str, range(count)))
        assert os.stat(at + "/d/%d" % (count - 1)).st_size == 0
        assert not os.path.exists(at + "/d/%d" % count)


@pytest.mark.parametrize("size", [2800, 3000, 60000])
def test_attributes_of_the_root_and_large_ones(tmp_path, size):
    pax = {"SCHILY.xattr.user.a": "v" * size, "SCHILY.xattr.user.b": "w", "mtime": "5.5"}
    made = Tar().add("./", type=b"5", mode=0o711, pax=pax).add("d/", type=b"5", mode=0o700, pax=pax)
    made.file("f", b"data", pax=pax).file("g", b"more" * 1000, pax=pax)
    path, _ = write_layer(tmp_path, made.bytes())
    with Mounted(path, str(tmp_path / "mounted")) as at:
        for name in ("", "/d", "/f", "/g"):
            assert os.getxattr(at + name, "user.a") == b"v" * size
            assert os.getxattr(at + name, "user.b") == b"w"
        assert open(at + "/g", "rb").read() == b"more" * 1000


def test_the_largest_value_of_an_attribute(tmp_path):
    """EROFS notes its size in 16 bits; the kernel would take one byte more."""
    path, _ = write_layer(tmp_path, Tar().file("f", b"data", pax={"SCHILY.xattr.user.a": "v" * 65535}).bytes())
    with Mounted(path, str(tmp_path / "mounted")) as at:
        assert os.getxattr(at + "/f", "user.a") == b"v" * 65535
    with pytest.raises(AssertionError, match="user.a has 65536 bytes; at most 65535 can be kept"):
        write_layer(tmp_path, Tar().file("f", b"data", pax={"SCHILY.xattr.user.a": "v" * 65536}).bytes(), "more")


def test_times_before_the_epoch_and_far_ahead(tmp_path):
    """In the header as a negative base-256 number and in pax, with fractions: what tar extracts and stat(2) shows."""
    times = {"a": "-1", "b": "-0.5", "c": "-2147472000.75", "d": "0", "e": "4102444800.000000001"}
    made = Tar().file("old", b"1", mtime=-2147472000).dir("dir", mtime=-86400).file("new", mtime=4102444800)
    for name, mtime in times.items():
        made.file("pax/" + name, name.encode(), pax={"mtime": mtime}).symlink("pax/l" + name, name, pax={"mtime": mtime})
    path = compare(tmp_path, made.bytes())
    with Mounted(path, str(tmp_path / "mounted")) as at:
        shown = subprocess.run(["stat", "-c", "%n %y", "old", "dir", "pax/c", "pax/lc", "pax/b"], cwd=at, check=True, timeout=20,
                               env={**os.environ, "TZ": "UTC"}, stdout=subprocess.PIPE).stdout.decode().splitlines()
    assert shown == ["old 1901-12-14 00:00:00.000000000 +0000", "dir 1969-12-31 00:00:00.000000000 +0000",
                     "pax/c 1901-12-13 23:59:59.250000000 +0000", "pax/lc 1901-12-13 23:59:59.250000000 +0000",
                     "pax/b 1969-12-31 23:59:59.500000000 +0000"]


def test_whiteouts_in_every_order(tmp_path):
    parts = [lambda t: t.file(".wh.gone"), lambda t: t.file(".wh.dir"), lambda t: t.file("dir/new", b"1"),
             lambda t: t.file("o/.wh..wh..opq"), lambda t: t.file("o/.wh.x"), lambda t: t.file("gone/.wh.y")]
    seen = set()
    for seed in range(24):
        random.Random(seed).shuffle(parts)
        made = Tar()
        for part in parts:
            part(made)
        path, _ = write_layer(tmp_path, made.bytes())
        with Mounted(path, str(tmp_path / "mounted")) as at:
            seen.add(str([(os.path.relpath(p, at), stat.S_IFMT(os.lstat(p).st_mode), os.lstat(p).st_rdev,
                           stat.S_ISDIR(os.lstat(p).st_mode) and os.listxattr(p))
                          for here, dirs, files in os.walk(at) for p in sorted(os.path.join(here, n) for n in dirs + files)]))
    assert seen == {str([("dir", stat.S_IFDIR, 0, ["trusted.overlay.opaque"]), ("gone", stat.S_IFCHR, 0, False),
                         ("o", stat.S_IFDIR, 0, ["trusted.overlay.opaque"]), ("dir/new", stat.S_IFREG, 0, False)])}


@pytest.mark.full
def test_memory_of_a_million_entries(tmp_path):
    made = Tar()
    for number in range(1_000_000):
        made.file("usr/share/doc/package-%d/copyright-%d" % (number // 1000, number), b"x")
    path = str(tmp_path / "layer")
    with open(path + ".tar", "wb") as file:
        file.write(made.bytes())
    done = subprocess.run(["/usr/bin/time", "-f", "%M", LAYER, "write", path + ".tar", path], capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stderr.split()[-1]) < (64 << 10) + 128 * 1000, "kilobytes"

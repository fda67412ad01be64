# SPDX-License-Identifier: Apache-2.0
"""A60: whiteouts and opaque directories in every order, seen from a container and compared with what umoci unpacks."""

import os
import random
import subprocess

import mkimg
import pytest
from mktar import Tar
from skinktest import ALL, Image, Layer, base_layer, needs

OPAQUE = ".wh..wh..opq"
# What a container of skink has of its own.
OURS = {"dev", "proc", "sys", "tmp", "run", "etc", "var", "bin", "root", "home", "usr"}


@pytest.fixture(params=["files"] + ["directories"] * ALL)
def form(request, world):
    """How layers are stored."""
    world.more_environment = {"SKINK_LAYERS": request.param}


# Every name with its kind and contents; one that leads nowhere cannot be looked at, and find says so.
LIST = ("cd /x && find . -exec stat -c '%n %F %a %h' {} + 2>&1 | sort; find . -type f -exec grep -H . {} + 2>&1 | sort; "
        "find . -type l -exec readlink {} + | sort")


def shown(sk, *tars):
    """What a container sees below /x, of layers on top of the programs."""
    sk.load(Image([base_layer()] + [Layer(tar) for tar in tars], {"Env": ["PATH=/bin"], "Cmd": ["sh"]}, "made"))
    return sk.shell(LIST, image="made")


def names(text):
    return sorted(line.split()[0] for line in text.splitlines() if line.startswith("./") and ":" not in line.split()[0])


def low():
    return Tar().dir("x").dir("x/d").file("x/d/a", "low a").file("x/d/b", "low b").dir("x/d/s").file("x/d/s/c", "low c").file("x/f", "low f")


@pytest.mark.parametrize("kind", ["files", "directories"])
def test_a60_a_whiteout_of_nothing_leaves_no_name(bare, world, kind):
    """In a directory that no other layer has, at any depth, whatever else is in it."""
    world.more_environment = {"SKINK_LAYERS": kind}
    tars = [low(), Tar().dir("x/new", 0o750, uid=7, mtime=1000).file("x/new/.wh.ghost").file("x/new/own", "1").dir("x/new/sub")
            .file("x/new/sub/.wh.ghost").file("x/implied/deep/.wh.ghost").file("x/.wh.f").file("x/d/.wh.nothing")]
    text = shown(bare, *tars)
    assert "ghost" not in text and "nothing" not in text and "No such file" not in text, text
    assert {"./new/own", "./new/sub", "./d/a"} <= set(names(text)) and "./f" not in names(text)
    assert bare.shell("stat -c '%a %u %Y' /x/new; ls -a /x/new/sub | wc -l", image="made").split() == ["750", "7", "1000", "2"]


@pytest.mark.parametrize("kind", ["files", "directories"])
def test_a60_an_opaque_directory_without_an_entry_keeps_what_it_was(bare, world, kind):
    """Its mode, owner and time, however many layers lie between; what is removed and made anew, without an entry, is new."""
    world.more_environment = {"SKINK_LAYERS": kind}
    kept = {"uid": 1000, "gid": 1001, "mtime": 5000}
    pax = {"SCHILY.xattr.user.kept": "1"}
    low = (Tar().dir("./", 0o750, **kept).dir("x").dir("x/private", 0o700, pax=pax, **kept).file("x/private/old", "1")
           .dir("x/anew", 0o700, **kept).file("x/anew/old", "1").dir("x/file", 0o700, **kept).dir("x/both", 0o700, **kept))
    tars = [low, Tar().file("x/private/between", "1").file("x/.wh.both").file("x/.wh.file"), Tar().file("x/file", "no directory"),
            Tar().file("x/private/" + OPAQUE).file("x/private/new", "1").file("x/anew/new", "1").file("x/.wh.anew")
            .file("x/both/" + OPAQUE).file("x/file/" + OPAQUE)]
    bare.load(Image([base_layer()] + [Layer(tar) for tar in tars], {"Env": ["PATH=/bin"]}, "made"))
    see = "stat -c '%a %u %g %Y' "
    text = bare.shell(see + "/x/private /x/anew /x/both /x/file /; ls /x/private /x/anew", image="made")
    assert text.splitlines() == ["700 1000 1001 5000", "755 0 0 0", "755 0 0 0", "755 0 0 0", "750 1000 1001 5000",
                                 "/x/anew:", "new", "", "/x/private:", "new"], text
    bare.running(name="one", image="made")
    assert os.getxattr("/proc/%d/root/x/private" % bare.pid("one"), "user.kept") == b"1"
    # The same of a whole root: the layer hides all programs, and brings them again.
    bare.load(Image([Layer(low), Layer(Tar().file(OPAQUE)), Layer(base_layer().tar)], {"Env": ["PATH=/bin"]}, "root"))
    assert bare.shell(see + "/; ls -d /x 2>&1; true", image="root").splitlines() == ["750 1000 1001 5000", "ls: /x: No such file or directory"]


def test_a61_a63_attributes_of_directories_that_the_scaffold_shows(bare, world, form):
    """Those that only lower layers describe, or whose whiteouts have to vanish: they keep user.*, and get nothing of the host's."""
    long = "v" * 2000
    pax = {"SCHILY.xattr.user.kept": "1", "SCHILY.xattr.user.long": long, "SCHILY.xattr.user.overlay.opaque": "y",
           "SCHILY.xattr.trusted.overlay.redirect": "/", "SCHILY.xattr.trusted.other": "1", "SCHILY.xattr.security.selinux": "1"}
    bare.load(Image([base_layer(), Tar().dir("x").dir("x/below", 0o750, pax=pax).file("x/below/a", "1"),
                     Tar().dir("./", 0o755, pax={"SCHILY.xattr.user.root": "r"}).file("x/below/sub/b", "2").file("x/one/.wh.ghost")
                     .dir("x/one", 0o710, pax=pax)], {"Env": ["PATH=/bin"]}, "made"))
    top = "/proc/%d/root" % bare.pid(bare.running(image="made"))
    assert os.listdir(top + "/x/one") == []
    for path, mode in (("/x/below", 0o750), ("/x/one", 0o710)):
        assert os.stat(top + path).st_mode & 0o7777 == mode
        assert sorted(os.listxattr(top + path)) == ["user.kept", "user.long"], path
        assert os.getxattr(top + path, "user.long") == long.encode()
    assert os.getxattr(top, "user.root") == b"r"


def test_a60_the_order_within_a_layer_has_no_meaning(bare, world, form):
    parts = [lambda t: t.dir("x"), lambda t: t.dir("x/d"), lambda t: t.file("x/d/" + OPAQUE), lambda t: t.file("x/d/new", "new"),
             lambda t: t.file("x/d/.wh.a"), lambda t: t.file("x/.wh.f"), lambda t: t.file("x/f", "again"),
             lambda t: t.dir("x/d/s"), lambda t: t.file("x/d/s/e", "e"), lambda t: t.file("x/g/.wh.h")]
    seen = set()
    for seed in range(12 if ALL else 3):
        random.Random(seed).shuffle(parts)
        tar = Tar()
        for part in parts:
            part(tar)
        seen.add(shown(bare, low(), tar))
    assert len(seen) == 1, seen
    there = set(names(seen.pop()))
    assert there >= {"./d/new", "./d/s/e", "./f"} and "./d/b" not in there


def test_a60_hard_links_and_whiteouts(bare, world, form):
    """A whiteout takes a name, not what other names lead to."""
    first = Tar().dir("x").file("x/a", "text").link("x/b", "x/a")
    assert "./b:text" in shown(bare, first, Tar().file("x/.wh.a"))
    both = shown(bare, low(), Tar().file("x/one", "one").link("x/two", "x/one").file("x/.wh.one").file("x/.wh.f"))
    assert "./one:one" in both and "./two:one" in both and "./f" not in names(both)
    # A layer made on AUFS has its whiteouts as links to one file.
    assert "./f" not in names(shown(bare, low(), Tar().file("x/.wh.f").link("x/d/.wh.a", "x/.wh.f")))


@pytest.mark.parametrize("name", [".wh..wh.plnk", ".wh..wh.aufs", ".wh..wh.orph", "d/.wh.", "d/.wh..", "d/.wh...", ".wh.d/f"])
def test_a60_names_that_are_no_whiteouts(bare, world, name):
    path = mkimg.oci_archive(world.path("x.tar"), Image([base_layer(), Tar().dir("d").file(name)], {}, "made"))
    bare.fails("load", path, match=["whiteout", name.split("/")[0]])
    assert bare.ok("images", "-q") == ""


class Maker:
    """Random layers of few names, so that they meet: files, directories, links, whiteouts of all kinds in any order."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.no_directories = set()  # names that were something else in some layer: what an implied directory hides or follows

    def layer(self, number):
        rand, tar, kinds, entries, implied = self.random, Tar(), {"x": "dir"}, [], set()
        for _ in range(rand.randrange(3, 14)):
            parents = [name for name, kind in kinds.items() if kind == "dir"]
            name = "%s/%s" % (rand.choice(parents), rand.choice("abcd"))
            if name in kinds or name.count("/") > 4:
                continue
            kinds[name] = kind = rand.choice(["dir", "dir", "file", "file", "symlink"])
            if kind != "dir":
                self.no_directories.add(name)
            if kind == "dir":
                entries.append(lambda t, n=name: n in implied or t.dir(n, 0o700 + number))
            elif kind == "file":
                entries.append(lambda t, n=name: t.file(n, "%s of %d" % (n, number)))
            else:
                entries.append(lambda t, n=name: t.symlink(n, "nowhere-%d" % number))
        # By what is in it; of whiteouts alone umoci makes no directory.
        implied.update(name for name in sorted(kinds) if kinds[name] == "dir" and name not in self.no_directories | {"x"} and rand.random() < 0.4
                       and any(inside.startswith(name + "/") and kind != "dir" for inside, kind in kinds.items()))
        marks = []
        for name in sorted(kinds):
            if kinds[name] == "dir" and rand.random() < 0.2:
                marks.append(lambda t, n=name: t.file(n + "/" + OPAQUE))
            if rand.random() < 0.4:
                parent = name if kinds[name] == "dir" and rand.random() < 0.6 else os.path.dirname(name) or "x"
                gone = rand.choice("abcd")
                # Whether a directory that is removed and implied keeps its mode is a matter of the order to umoci.
                if "%s/%s" % (parent, gone) not in implied:
                    marks.append(lambda t, n=parent, w=gone: t.file("%s/.wh.%s" % (n, w)))
        # Entries keep their order, since archivers disagree about a child before its directory; marks go anywhere.
        tar.dir("x", 0o755)
        for mark in marks:
            entries.insert(rand.randrange(len(entries) + 1), mark)
        for entry in entries:
            entry(tar)
        return tar


def described(top):
    found = {}
    for here, dirs, files in os.walk(top):
        for name in dirs + files:
            path = os.path.join(here, name)
            info = os.lstat(path)
            found[os.path.relpath(path, top)] = (oct(info.st_mode), os.readlink(path) if os.path.islink(path) else
                                                 open(path).read() if os.path.isfile(path) else "")
    return found


def by_umoci(world, layers, name):
    """Below x, what umoci unpacks; it applies each layer to the one before."""
    image = Image(layers, {}, "made")
    layout, bundle = world.path(name + ".layout"), world.path(name + ".bundle")
    os.makedirs(layout)
    subprocess.run(["tar", "-xf", mkimg.oci_archive(world.path(name + ".tar"), image), "-C", layout], check=True)
    subprocess.run(["umoci", "unpack", "--image", layout + ":made", bundle], check=True, capture_output=True)
    return described(bundle + "/rootfs/x")


def by_skink(world, sk, layers, name):
    """The same out of a container: GNU tar's picture of it, unpacked here."""
    sk.load(Image([base_layer()] + layers, {"Env": ["PATH=/bin"], "Cmd": ["sh"]}, name))
    out = world.path(name + ".out")
    os.makedirs(out)
    with open(out + ".tar", "wb") as file:
        result = sk("run", "--rm", name, "tar", "-cf", "-", "x", stdout=file)
    assert result.status == 0, result
    subprocess.run(["tar", "-xpf", out + ".tar", "-C", out], check=True)
    return described(out + "/x")


@pytest.mark.parametrize("seeds", [range(n, n + 4) for n in range(0, 200 if ALL else 4, 4)], ids=lambda r: str(r[0]))
def test_a60_what_a_container_sees_is_what_umoci_unpacks(bare, world, form, seeds):
    needs("umoci")
    for seed in seeds:
        maker = Maker(seed)
        layers = [Layer(maker.layer(number)) for number in range(maker.random.randrange(2, 5))]
        wanted, found = by_umoci(world, layers, "u%d" % seed), by_skink(world, bare, layers, "s%d" % seed)
        assert found == wanted, seed

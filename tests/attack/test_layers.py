# SPDX-License-Identifier: Apache-2.0
"""A02 to A06: what the entries of a layer and the members of an archive may not do."""

import os
import stat

import mkimg
import pytest
from mktar import BLOCK, CHAR, DIR, FIFO, FILE, LINK, SYMLINK, Tar
from skinktest import Image, Layer, Layout, base_layer


def try_layers(world, tars, also_run="true"):
    """Loads an image with these layers. Refusing it is as right as keeping it inside; what is loaded must run."""
    sk = world.skink
    path = world.path("hostile.tar")
    mkimg.oci_archive(path, Image([base_layer()] + [Layer(tar) for tar in tars], {"Env": ["PATH=/bin"], "Cmd": ["sh"]}, "hostile"))
    result = sk("load", path, timeout=60)
    if result.status == 0:
        sk("run", "--rm", "hostile", "sh", "-c", also_run, timeout=60)
    else:
        sk.fails("load", path)
        assert sk.ok("images", "-q") == ""
    return result


def outside(canary, world):
    """Nothing beside the layers: no file of the attack's content in the store's parents."""
    for directory, _, files in os.walk(world.base):
        if directory.startswith((world.store, world.run_dir)):
            continue
        assert not any(name.startswith("BREAKOUT") for name in files), directory


BREAKOUTS = {
    "symlink-absolute": lambda c: Tar().symlink("l", c).file("l/BREAKOUT", "x"),
    "symlink-relative-up": lambda c: Tar().symlink("l", "../" * 30 + c[1:]).file("l/BREAKOUT", "x"),
    "symlink-up-and-out": lambda c: Tar().dir("d").symlink("d/up", "../..").file("d/up" + c + "/BREAKOUT", "x"),
    "multi-symlink": lambda c: Tar().symlink("a", "b").symlink("b", c).file("a/BREAKOUT", "x"),
    "name-with-dots": lambda c: Tar().file("../" * 30 + c[1:] + "/BREAKOUT", "x"),
    "absolute-name": lambda c: Tar().file(c + "/BREAKOUT", "x"),
    "hardlink-to-absolute": lambda c: Tar().link("h", c + "/file").file("h", "changed"),
    "hardlink-down-and-out": lambda c: Tar().dir("d").link("d/h", "../" * 30 + c[1:] + "/file").file("d/h", "changed"),
    "hardlink-through-symlink": lambda c: Tar().symlink("l", c).link("h", "l/file").file("h", "changed"),
    "hardlink-to-symlink-then-write": lambda c: Tar().symlink("l", c + "/file").link("h", "l").file("h", "changed"),
    "hardlink-symlink-chmod": lambda c: Tar().symlink("l", c + "/secret").link("h", "l", mode=0o777),
    "hardlink-symlink-chown": lambda c: Tar().symlink("l", c + "/secret").link("h", "l", mode=0o4777, uid=1000, gid=1000),
    "symlink-override-path": lambda c: Tar().dir("d").file("d/a", "a").symlink("d", c).file("d/BREAKOUT", "x"),
    "symlink-parent-directory": lambda c: Tar().dir("d").symlink("d/s", c).dir("d/s/BREAKOUT").file("d/s/BREAKOUT/f", "x"),
    "directory-over-symlink": lambda c: Tar().symlink("d", c).dir("d", 0o777, uid=7, gid=7),
    "file-over-symlink": lambda c: Tar().symlink("f", c + "/file").file("f", "changed"),
    "fifo-over-symlink": lambda c: Tar().symlink("f", c + "/file").fifo("f"),
    "device-over-symlink": lambda c: Tar().symlink("f", c + "/file").device("f"),
    "symlink-over-symlink": lambda c: Tar().symlink("f", c + "/link").symlink("f", "elsewhere"),
    "whiteout-through-symlink": lambda c: Tar().symlink("l", c).file("l/.wh.file"),
    "opaque-through-symlink": lambda c: Tar().symlink("l", c).file("l/.wh..wh..opq"),
    "whiteout-of-dots": lambda c: Tar().file(".wh..").file(".wh...").file("d/.wh..."),
    "whiteout-with-slash": lambda c: Tar().file(".wh./" + "../" * 20 + c[1:] + "/file"),
    "xattr-through-symlink": lambda c: Tar().symlink("l", c + "/file").link("h", "l", pax={"SCHILY.xattr.user.x": "y"}),
    "pax-path": lambda c: Tar().add("innocent", "x", pax={"path": c + "/BREAKOUT"}),
    "pax-linkpath": lambda c: Tar().add("h", type=LINK, linkname="innocent", pax={"linkpath": c + "/file"}).file("h", "changed"),
    "prefix-field": lambda c: Tar().add("BREAKOUT", "x", prefix=c[:150]),
    "prefix-twin": lambda c: Tar().symlink("l", "../layer-x").file("l/BREAKOUT", "x"),
    "long-link-record": lambda c: Tar().add("././@LongLink", c + "/BREAKOUT\0", type=b"L").file("innocent", "x"),
    "device-write": lambda c: Tar().device("sda", type=BLOCK, major=254, minor=0),
    "proc-link": lambda c: Tar().symlink("l", "/proc/self/cwd").file("l/BREAKOUT", "x").symlink("m", "/proc/1/root" + c).file("m/BREAKOUT", "x"),
}


@pytest.mark.parametrize("name", BREAKOUTS)
@pytest.mark.parametrize("split", [False, True], ids=["one-layer", "two-layers"])
def test_a02_layer_entries_stay_inside(world, canary, name, split):
    tar = BREAKOUTS[name](canary.top)
    tars = [tar]
    if split:
        # The same entries, the last one in a layer of its own.
        data = tar.bytes(end=False)
        cut = last_entry(data)
        tars = [data[:cut] + b"\0" * 1024, data[cut:] + b"\0" * 1024]
    try_layers(world, tars, "ls -la / >/dev/null; timeout 2 cat /l/file /h /f 2>/dev/null; true")
    outside(canary, world)


def last_entry(data):
    """Offset of the last header that is not an extension record."""
    position, last, start = 0, 0, None
    while position < len(data):
        kind, size = data[position + 156:position + 157], int(data[position + 124:position + 135] or b"0", 8)
        if start is None:
            start = position
        if kind not in (b"x", b"L", b"K", b"g"):
            last, start = start, None
        position += 512 + (size + 511) // 512 * 512
    return last


@pytest.mark.parametrize("name", [".", "/", "./", "/.", "a/..", "", "//", "./.", "a/../"])
@pytest.mark.parametrize("kind", [SYMLINK, LINK, FILE, FIFO, CHAR, DIR])
def test_a03_the_root_entry_is_a_directory_or_nothing(world, canary, name, kind):
    tar = Tar()
    if name.startswith("a"):
        tar.dir("a")
    tar.add(name, b"data" if kind == FILE else b"", type=kind, mode=0o755, linkname=canary.top if kind in (LINK, SYMLINK) else "")
    tar.file("BREAKOUT", "x").file("d/BREAKOUT", "x")
    result = try_layers(world, [tar, Tar().file("second/BREAKOUT", "y")], "ls /")
    outside(canary, world)
    assert not os.path.islink(world.store)
    if kind == DIR and name in (".", "./", "/"):
        assert result.status == 0, "real images have this entry: %r" % result


@pytest.mark.parametrize("siblings", [0, 10000])
@pytest.mark.parametrize("layers", [1, 2])
def test_a04_a_directory_that_becomes_a_symlink_is_not_reused(world, canary, siblings, layers):
    first = Tar().dir("d").file("d/a", "a")
    second = first if layers == 1 else Tar()
    for n in range(siblings):
        second.file("s/%d" % n)
    second.symlink("d", canary.top).file("d/BREAKOUT", "x").file("d/secret", "x").file("d/sub/deep/BREAKOUT", "x")
    try_layers(world, [first] if layers == 1 else [first, second], "cat /d/secret")
    outside(canary, world)


HARDLINKS = {
    "absolute": lambda c: c + "/secret", "dots": lambda c: "../" * 40 + c[1:] + "/secret", "to-nothing": lambda c: "nothing",
    "to-itself": lambda c: "h", "to-directory": lambda c: "etc", "empty": lambda c: "", "to-root": lambda c: "/",
    "to-dot": lambda c: ".", "lower-layer": lambda c: "etc/passwd", "proc": lambda c: "/proc/self/exe",
    "trailing-slash": lambda c: "etc/passwd/", "through-file": lambda c: "etc/passwd/x",
}


@pytest.mark.parametrize("name", HARDLINKS)
def test_a05_hard_links_resolve_inside(world, canary, name):
    tar = Tar().link("h", HARDLINKS[name](canary.top), mode=0o777, uid=1000, gid=1000)
    result = try_layers(world, [tar], "cat /h")
    if name == "to-nothing":
        assert result.status != 0 and "nothing" in result.err, result


def test_a05_a_link_to_a_link_does_not_change_the_target(world, canary):
    tar = (Tar().symlink("s", canary.top + "/secret").link("h", "s", mode=0o777).link("i", "h", mode=0o4777, uid=7)
           .add("s2", type=SYMLINK, linkname=canary.top + "/secret", mode=0o777, uid=7, gid=7))
    try_layers(world, [tar], "cat /h /i /s /s2")


def hostile_archive(world, add, with_image=True):
    layout = Layout()
    if with_image:
        layout.name(layout.add_image(Image([base_layer()], {"Cmd": ["sh"], "Env": ["PATH=/bin"]})), ["inner"])
    layout.extra.append(add)
    return layout.write(world.path("outer.tar"))


@pytest.mark.parametrize("kind", [LINK, SYMLINK, CHAR, FIFO, BLOCK, DIR, b"9", b"S"])
@pytest.mark.parametrize("member", ["index.json", "oci-layout", "blob"])
def test_a06_members_that_are_no_files(world, canary, kind, member):
    layout = Layout()
    layout.name(layout.add_image(Image([base_layer()], {"Cmd": ["sh"]})), ["inner"])
    tar = Tar()
    names = {"index.json": mkimg.dump(layout.index), "oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    names.update({"blobs/" + digest.replace(":", "/"): data for digest, data in layout.blobs.items()})
    victim = member if member != "blob" else sorted(name for name in names if name.startswith("blobs"))[0]
    for name, data in names.items():
        if name == victim:
            tar.add(name, type=kind, linkname=canary.top + "/secret" if kind in (LINK, SYMLINK) else "", major=1, minor=5)
        else:
            tar.file(name, data)
    path = world.write("outer.tar", tar.bytes())
    result = world.skink("load", path)
    if member != "oci-layout" or result.status != 0:
        world.skink.fails("load", path)
        assert world.skink.ok("images", "-q") == ""


@pytest.mark.parametrize("layers,config", [(["../../../../etc/passwd"], None), (["/etc/passwd"], None), (["CANARY"], None),
                                           (None, "../../../../etc/passwd"), (None, "CANARY"), (["missing/layer.tar"], None),
                                           ([""], None), (None, ""), (["."], None), (["a\0b"], None)])
def test_a06_paths_in_a_docker_manifest(world, canary, layers, config):
    image = Image([base_layer()], {"Cmd": ["sh"]}, "inner:1")
    import hashlib
    good_config = hashlib.sha256(mkimg.dump(image.config)).hexdigest() + ".json"
    put = lambda text: text.replace("CANARY", canary.top + "/secret")  # noqa: E731
    entry = {"Config": good_config if config is None else put(config), "RepoTags": ["inner:1"],
             "Layers": [image.layers[0].diff_id[7:] + "/layer.tar"] if layers is None else [put(one) for one in layers]}
    path = mkimg.docker_archive(world.path("docker.tar"), image, entries=[entry])
    world.skink.fails("load", path)
    assert world.skink.ok("images", "-q") == ""


@pytest.mark.parametrize("tag", ["../../x:1", "a/../../b:1", "/abs:1", "a:../x", "", ":", "a:b/c", "\x1b[2J:1", "x" * 5000 + ":1", "A B:1", "a\0b:1"])
@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_a06_names_never_become_paths(world, canary, tag, kind):
    image = Image([base_layer()], {"Cmd": ["sh"]}, [tag])
    path = world.path("named.tar")
    (mkimg.oci_archive if kind == "oci" else mkimg.docker_archive)(path, image)
    before = sorted(os.listdir(world.base))
    result = world.skink("load", path)
    assert result.status >= 0
    if result.status:
        world.skink.fails("load", path)
    text = world.skink("images").raw_out
    assert b"\x1b" not in text and b"\0" not in text
    assert set(os.listdir(world.base)) - set(before) <= {"store", "run"}


def test_a06_members_with_the_same_name(world, canary):
    image = Image([base_layer()], {"Cmd": ["sh"]})
    layout = Layout()
    layout.name(layout.add_image(image), ["inner"])
    layout.extra.append(lambda tar: tar.file("index.json", b'{"schemaVersion":2,"manifests":[]}'))
    result = world.skink("load", layout.write(world.path("twice.tar")))
    if result.status:
        world.skink.fails("load", world.path("twice.tar"))


@pytest.mark.parametrize("size", [-1, 1 << 62, b"77777777777\0", b"\x80" + b"\xff" * 11, b"garbage!    "])
def test_a06_sizes_of_members_that_lie(world, canary, size):
    path = hostile_archive(world, lambda tar: tar.add("extra", b"x", size=size))
    result = world.skink("load", path)
    if result.status:
        world.skink.fails("load", path)
    tar = Tar().add("index.json", b"{}", size=size)
    world.skink.fails("load", world.write("lies.tar", tar.bytes()))


@pytest.mark.parametrize("size", [-1, 1 << 62, b"77777777777\0", b"\x80" + b"\xff" * 11])
def test_a06_sizes_of_layer_entries_that_lie(world, canary, size):
    try_layers(world, [Tar().add("f", b"x", size=size)])


def test_a06_devices_and_setuid_files_in_layers_stay_data(world, canary):
    """They may be stored for the container, but nobody else of the host can reach them (A34)."""
    try_layers(world, [Tar().device("mem", major=1, minor=1, mode=0o666).file("su", "x", 0o6755)], "ls -l /mem /su")
    if os.path.isdir(world.store):
        assert stat.S_IMODE(os.stat(world.store).st_mode) == 0o700

# SPDX-License-Identifier: Apache-2.0
"""A07, A32, A62, A70, A73, A75, A76, A80: what an archive holds beside paths that lead out. Nothing of it is executed, opened,
fetched or mounted, and what is too much is said."""

import gzip
import os
import re

import mkimg
import pytest
from mktar import BLOCK, CHAR, Tar
from skinktest import Image, Layer, base_layer, busybox_image, needs, read_text

# What other programs have loaded or executed of an image, by the names that they look for.
TRAPS = ["usr/bin/unpigz", "usr/bin/xz", "usr/bin/gzip", "usr/bin/zstd", "usr/bin/tar", "bin/unpigz", "sbin/ldconfig", "sbin/modprobe"]
LIBRARIES = ["lib/x86_64-linux-gnu/libnss_files.so.2", "lib/libnss_files.so.2", "lib64/libc.so.6", "usr/lib/x86_64-linux-gnu/gconv/UTF-16.so"]


def with_traps(top):
    trap = "#!/bin/sh\necho caught >%s/d/trap; echo caught >/caught\n" % top
    def extra(tar):
        for name in TRAPS:
            tar.file(name, trap, 0o755)
        for name in LIBRARIES:
            tar.file(name, b"\x7fELF trap", 0o755)
        tar.file("etc/ld.so.preload", "/lib/libnss_files.so.2\n").file("etc/nsswitch.conf", "passwd: files trap\n")
        tar.file("usr/lib/x86_64-linux-gnu/gconv/gconv-modules", "module  UTF-16// INTERNAL UTF-16 1\n").file("etc/locale.alias", "x")
    return extra


def traced(world, what):
    log = world.path("strace")
    return log, ["strace", "-f", "-qq", "-e", "signal=none", "-e", "trace=" + what, "-o", log]


@pytest.mark.parametrize("pack", ["gzip", "zstd"])
def test_a07_no_helper_or_library_of_the_image(bare, world, canary, pack):
    """During load, run and exec, also with programs of these names in front of the caller's PATH."""
    needs("strace")
    os.mkdir(world.path("path"))
    for name in ("unpigz", "gzip", "xz", "zstd", "tar"):
        world.write("path/" + name, "#!/bin/sh\necho caught >%s/d/trap\n" % canary.top, 0o755)
    world.more_environment = {"PATH": world.path("path") + ":" + os.environ["PATH"]}
    image = busybox_image("trap", with_traps(canary.top))
    image.layers = [Layer(layer.tar, pack) for layer in image.layers]
    path = mkimg.oci_archive(world.path("trap.tar"), image)
    for args, programs in ((("load", path), []), (("run", "--rm", "trap", "id", "-un"), ["/bin/id"]), (("exec", "trap", "id", "-un"), ["/bin/id"])):
        if args[0] == "exec":
            bare.running(name="trap", image="trap")
        log, before = traced(world, "execve,execveat,openat,open")
        bare.ok(*args, before=before, timeout=90)
        text = read_text(log)
        for one in re.findall(r"execve(?:at)?\(([^)]*)", text):
            assert "skink" in one or '""' in one or any('"%s"' % program in one for program in programs), one
        opened = re.findall(r'open(?:at)?\(([^)]*)\)', text)
        assert not [one for one in opened if re.search(r"\.so[.\"]|gconv|nsswitch|ld\.so|locale", one)], opened
    assert "caught" not in bare.ok("exec", "trap", "ls", "/")


@pytest.mark.parametrize("home", ["/x\nr:x:0:0::/:/bin/sh", "/x\\nr:x:0:0::/:/bin/sh", "/x:/bin/sh"])
@pytest.mark.parametrize("whose", ["image", "option"])
def test_a32_no_line_gets_into_passwd(bare, world, home, whose):
    """/etc/passwd is the image's, whoever the user is and whatever HOME says."""
    env = {"Env": ["PATH=/bin", "HOME=" + home]} if whose == "image" else {"Env": ["PATH=/bin"]}
    bare.load(busybox_image("lines", None, {**env, "User": "4321:4321"}))
    options = ["-e", "HOME=" + home] if whose == "option" else []
    before = bare.shell("cat /etc/passwd /etc/group", "--user", "0", image="lines")
    assert "4321" not in before
    for writable in ([], ["--writable"]):
        assert bare.shell("cat /etc/passwd /etc/group", *options, *writable, image="lines") == before
    assert bare.shell("printf %s \"$HOME\"", *options, image="lines") == home


DEVICES = {
    "the-whiteout-of-overlayfs": (lambda tar: tar.device("etc", CHAR, 0, 0), "character device 0:0 is not allowed"),
    "minor-above-32-bits": (lambda tar: tar.device("x/disk", BLOCK, 8, (1 << 32) + 1), "device number out of range"),
    "major-above-32-bits": (lambda tar: tar.device("x/disk", BLOCK, (1 << 32) + 8, 1), "device number out of range"),
    "minor-above-20-bits": (lambda tar: tar.device("x/disk", BLOCK, 8, 1 << 20), "device number out of range"),
    "negative": (lambda tar: tar.device("x/disk", BLOCK, 8, -1), "bad device number"),
}


@pytest.mark.parametrize("name", DEVICES)
def test_a62_devices_that_are_refused(bare, world, name):
    make, words = DEVICES[name]
    path = mkimg.oci_archive(world.path("x.tar"), Image([base_layer(), make(Tar())], {"Cmd": ["sh"]}, "device"))
    bare.fails("load", path, match=[words, "x/disk" if name != "the-whiteout-of-overlayfs" else "entry etc"])
    assert bare.ok("images", "-q") == ""


@pytest.mark.parametrize("form", ["files", "directories"])
def test_a62_a_device_is_left_out_with_its_links_and_hides_what_it_replaces(bare, world, form):
    """Also a file of its own layer, and one of a layer below: another runtime would show the device there."""
    world.more_environment = {"SKINK_LAYERS": form}
    low = Tar().file("x/low", "low").file("x/null", "low").file("x/twin", "low").file("x/kept", "kept")
    top = (Tar().file("x/null", "same layer").device("x/null").link("x/twin", "x/null").link("y/third", "x/twin")
           .device("x/low", BLOCK, 8, 0).device("x/new", BLOCK, 8, 0).file("x/new", "new"))
    path = mkimg.oci_archive(world.path("x.tar"), Image([base_layer(), low, top], {"Env": ["PATH=/bin"]}, "device"))
    result = bare("load", path)
    assert result.status == 0 and "layer 3: 5 device nodes were left out" in result.err, result
    assert bare.shell("cd /; find x y | sort; cat x/kept x/new", image="device").split() == ["x", "x/kept", "x/new", "y", "keptnew"]
    missing = mkimg.oci_archive(world.path("y.tar"), Image([base_layer(), Tar().link("h", "x/none")], {}, "none"))
    bare.fails("load", missing, match='entry h: hard link to "x/none", which is not in this layer')


def test_a70_a_million_empty_members(bare, world):
    """Each is a stream of its own to unpack, of 20 bytes and to nothing."""
    tar = Tar().file("x/f", "1").bytes()
    blob = gzip.compress(tar[:512]) + gzip.compress(b"") * 1_000_000 + gzip.compress(tar[512:])
    layer = Layer(tar, blob=blob, media_type=mkimg.LAYER + "+gzip")
    path = mkimg.oci_archive(world.path("x.tar"), Image([base_layer(), layer], {"Env": ["PATH=/bin"]}, "members"))
    bare.ok("load", path, before=("prlimit", "--data=%d" % (64 << 20)), timeout=60)
    assert bare.shell("cat /x/f", image="members") == "1"


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_a73_more_entries_than_a_layer_may_have(bare, world):
    def pieces():
        for start in range(0, 1_001_000, 1000):
            tar = Tar()
            for number in range(start, start + 1000):
                tar.file("d/%d" % number)
            yield tar.bytes(end=False)
    path = mkimg.oci_archive(world.path("x.tar"), Image([base_layer(), mkimg.layer_of_pieces(pieces())], {}, "many"))
    bare.fails("load", path, match=["layer 2", "more than 1000000 entries in one layer"], timeout=900)
    assert bare.ok("images", "-q") == "" and os.listdir(world.store + "/tmp") == []


NAMES = {
    "long-component": ("c" * 256, "a name component of more than 255 bytes"),
    "long-path": ("d/" * 2049 + "f", "bad value"),
    "deep": ("d/" * 513 + "f", "a name of more than 512 components"),
    "of-five-thousand-bytes": ("n" * 5000, "bad value"),
    "empty": ("", "an entry without a name"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a73_names_that_are_too_much(bare, world, name):
    """The error shows the beginning of the name and not all of it."""
    text, words = NAMES[name]
    path = mkimg.oci_archive(world.path("x.tar"), Image([base_layer(), Tar().file("first").file(text)], {}, "name"))
    result = bare.fails("load", path, match=words)
    assert len(result.err) < 700, result
    assert bare.ok("images", "-q") == ""


LAYER_TYPES = {
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": "lies outside the image; skink fetches none",
    "application/vnd.oci.image.layer.nondistributable.v1.tar": "lies outside the image; skink fetches none",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": "lies outside the image; skink fetches none",
    "application/vnd.oci.image.layer.v1.tar+xz": "is not a tar, plain or packed with gzip or zstd",
    "application/vnd.erofs.layer.v1": "is not a tar, plain or packed with gzip or zstd",
    "application/vnd.sylabs.sif.layer.v1.sif": "is not a tar, plain or packed with gzip or zstd",
    "application/vnd.oci.image.layer.squashfs": "is not a tar, plain or packed with gzip or zstd",
}


class Elsewhere(Layer):
    """A layer that names addresses."""

    def descriptor(self):
        return {**super().descriptor(), "urls": ["http://127.0.0.1:9/layer", "https://example.invalid/layer"]}


def load_traced(bare, world, layer):
    """The image with this layer is loaded: how that ended, and the calls of sockets."""
    needs("strace")
    path = mkimg.oci_archive(world.path("x.tar"), Image([base_layer(), layer], {"Env": ["PATH=/bin"], "Cmd": ["sh"]}, "odd"))
    log, before = traced(world, "network")
    result = bare("load", path, before=before, timeout=90)
    return result, read_text(log)


@pytest.mark.parametrize("media_type", LAYER_TYPES)
def test_a75_a76_types_of_layers_that_are_refused_and_not_fetched(bare, world, media_type):
    result, calls = load_traced(bare, world, Elsewhere(Tar().file("x"), media_type=media_type))
    assert result.status != 0 and media_type in result.err and LAYER_TYPES[media_type] in result.err, result
    assert calls == "" and bare.ok("images", "-q") == ""


def test_a75_addresses_of_a_layer_that_is_there_are_not_used(bare, world):
    result, calls = load_traced(bare, world, Elsewhere(Tar().file("x")))
    assert result.status == 0 and calls == "", (result, calls)


@pytest.mark.parametrize("kind", ["erofs", "squashfs", "ext4"])
def test_a76_a_file_system_in_the_place_of_a_tar_is_not_mounted(bare, world, kind):
    magic = {"erofs": (1024, b"\xe2\xe1\xf5\xe0"), "squashfs": (0, b"hsqs"), "ext4": (1080, b"\x53\xef")}[kind]
    data = bytearray(b"\1" * 8192)
    data[magic[0]:magic[0] + len(magic[1])] = magic[1]
    path = mkimg.oci_archive(world.path("x.tar"), Image([base_layer(), Layer(bytes(data))], {}, "odd"))
    needs("strace")
    log, before = traced(world, "mount,fsopen,fsconfig,fsmount,move_mount,open_tree")
    result = bare("load", path, before=before, timeout=90)
    assert result.status != 0 and "layer 2: not a tar archive: it does not begin with a header of one" in result.err, result
    # Skink looks whether the kernel mounts an EROFS file, and takes one of its own for that.
    assert re.findall(r'(?:mount|fsopen)\("([^"]*)"', read_text(log)) in ([], ["erofs"])


@pytest.mark.parametrize("count,words", [(500, "500 layers; at most 499 can be stacked"), (501, "501 layers; at most 499 can be stacked"),
                                         (2000, 'the document has 2000 entries in "layers"; at most 1000 are read')])
def test_a80_more_layers_than_can_be_stacked(bare, world, count, words):
    """Known from the manifest, before any of them is unpacked."""
    layers = [Tar().file("f%d" % number) for number in range(count)]
    path = mkimg.oci_archive(world.path("x.tar"), Image(layers, {}, "many"))
    bare.fails("load", path, match=words)
    assert bare.ok("images", "-q") == ""


def test_a80_as_many_layers_as_can_be_stacked(bare, world):
    layers = [base_layer()] + [Tar().file("x/f%d" % number) for number in range(498)]
    bare.load(Image(layers, {"Env": ["PATH=/bin"]}, "many"), timeout=600)
    assert bare.shell("ls /x | wc -l", image="many", timeout=90) == "498"


def test_a80_a_layer_that_is_there_twice(bare, world):
    """The kernel takes no directory twice: the upper one counts."""
    one, other = Tar().file("x/f", "one"), Tar().file("x/f", "other").file("x/.wh.g")
    bare.load(Image([base_layer(), one, other, one], {"Env": ["PATH=/bin"]}, "twice"))
    assert bare.shell("cat /x/f", image="twice") == "one"
    bare.load(Image([base_layer(), other, one, other, other], {"Env": ["PATH=/bin"]}, "thrice"))
    assert bare.shell("cat /x/f", image="thrice") == "other"

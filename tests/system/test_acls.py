# SPDX-License-Identifier: Apache-2.0
"""POSIX ACLs of an image: what a container sees of them, and that nobody gains where one cannot be kept (A63)."""

import os
import struct
import subprocess

import pytest
from mktar import Tar
from skinktest import ALL, Image, Layer, base_layer, read_text

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
XATTR = "SCHILY.xattr."
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
NOBODY = 0xffffffff


@pytest.fixture(autouse=True, params=["files", "directories"])
def form(request, world):
    """How layers are stored."""
    world.more_environment = {"SKINK_LAYERS": request.param}
    return request.param


def acl(*entries, version=2):
    return struct.pack("<I", version) + b"".join(struct.pack("<HHI", *(entry + (NOBODY,))[:3]) for entry in entries)


# GNU tar writes the names of accounts that this host has: these are none. Bob reads, the group does nothing; the group bits of the mode are the mask.
BOB = acl((USER_OBJ, 6), (USER, 4, 54321), (GROUP_OBJ, 0), (MASK, 4), (OTHER, 0))
HEIRS = acl((USER_OBJ, 7), (GROUP_OBJ, 5), (GROUP, 7, 54322), (MASK, 7), (OTHER, 0))


def load(sk, world, *tars):
    return sk.load(Image([base_layer()] + [Layer(tar) for tar in tars], {"Env": ["PATH=/bin"], "Cmd": ["sh"]}, "made"))


def look(sk, path):
    """Mode and ACLs of a path as a container has them."""
    top = "/proc/%d/root/" % sk.pid("look")
    here = os.listxattr(top + path)
    return oct(os.stat(top + path).st_mode & 0o7777), {name: os.getxattr(top + path, name) for name in here if "acl" in name}


def test_acls_of_gnu_tar_and_of_the_kernel(bare, world):
    tree = world.path("tree")
    os.makedirs(tree + "/d/e")
    for name, mode, value in (("file", 0o640, BOB), ("d/e", 0o770, acl((USER_OBJ, 7), (USER, 6, 54323), (GROUP_OBJ, 5), (MASK, 7), (OTHER, 0)))):
        if name == "file":
            world.write("tree/file", "text")
        os.chmod(os.path.join(tree, name), mode)
        os.setxattr(os.path.join(tree, name), ACCESS, value)
    os.setxattr(tree + "/d", DEFAULT, HEIRS)
    world.write("tree/d/heir", "text")  # it has one of its own by that
    wanted = {name: (oct(os.stat(os.path.join(tree, name)).st_mode & 0o7777),
                     {key: os.getxattr(os.path.join(tree, name), key) for key in os.listxattr(os.path.join(tree, name)) if "acl" in key})
              for name in ("file", "d", "d/e", "d/heir")}
    assert [len(wanted[name][1]) for name in ("file", "d", "d/e", "d/heir")] == [1, 1, 1, 1]
    for how, options in (("text", ["--acls"]), ("kernel", ["--xattrs", "--xattrs-include=*"])):
        tar = subprocess.run(["tar", "--numeric-owner", "--format=pax"] + options + ["-cf", "-", "-C", tree, "."], check=True, capture_output=True).stdout
        assert (b"SCHILY.acl.access" if how == "text" else b"SCHILY.xattr.system.posix_acl_access") in tar
        # d is only implied in the layer above, so that the scaffold shows it.
        bare.load(Image([base_layer(), Layer(tar), Layer(Tar().file("d/more", "1"))], {"Env": ["PATH=/bin"]}, "made"))
        assert "left out" not in world.said[-1].err
        bare.running(name="look", image="made")
        for name, (mode, acls) in wanted.items():
            assert look(bare, name) == (mode, acls), (how, name)
        assert bare.ok("exec", "--user", "54321:54321", "look", "cat", "/file") == "text"
        for other in ("1001:1001", "1001:0"):
            bare.fails("exec", "--user", other, "look", "cat", "/file", match="denied")
        bare.ok("rm", "-f", "look")
        bare.ok("rmi", "made")


def test_acls_in_what_is_copied_into_a_tmpfs(bare, world):
    """A file of /run, and a mode that an option of the tmpfs names."""
    load(bare, world, Tar().file("run/secret", "text", 0o640, pax={XATTR + ACCESS: BOB}).dir("data", 0o750, pax={XATTR + ACCESS: BOB}))
    bare.running("--tmpfs", "/data:mode=0711", name="look", image="made")
    assert look(bare, "run/secret") == ("0o640", {ACCESS: BOB})
    assert look(bare, "data")[0] == "0o711"


@pytest.mark.parametrize("more", [(), ("--writable",)], ids=["read-only", "writable"])
def test_acls_of_the_top_directory(bare, world, more):
    """The top of a writable layer is another directory than the image's."""
    entry = acl((USER_OBJ, 7), (USER, 7, 54321), (GROUP_OBJ, 0), (MASK, 7), (OTHER, 5))
    load(bare, world, Tar().dir("./", 0o775, pax={XATTR + ACCESS: entry, XATTR + DEFAULT: HEIRS}))
    bare.running(*more, name="look", image="made")
    assert look(bare, "") == ("0o775", {ACCESS: entry, DEFAULT: HEIRS})


def test_an_acl_of_somebody_whom_the_namespace_has_not(oci, bundle, world):
    """It cannot be set there; the mode's group bits are its mask."""
    os.chmod(world.base, 0o755)
    b = bundle(["stat", "-c", "%a", "/run", "/run/secret", "/run/known"])
    for name in ("secret", "known"):
        world.write(os.path.relpath(b.rootfs, world.base) + "/run/" + name, "text")
    subprocess.run(["chown", "-R", "100000:100000", b.rootfs], check=True)
    for name, user in (("", 1200000), ("/secret", 1200000), ("/known", 100001)):
        os.chmod(b.rootfs + "/run" + name, 0o750 if name == "" else 0o640)
        right = 5 if name == "" else 4
        os.setxattr(b.rootfs + "/run" + name, ACCESS, acl((USER_OBJ, right | 2), (USER, right, user), (GROUP_OBJ, 0), (MASK, right), (OTHER, 0)))
    b.config["mounts"].append({"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "tmpcopyup"]})
    b.config["linux"]["namespaces"].append({"type": "user"})
    b.config["linux"]["uidMappings"] = b.config["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    b.save()
    assert oci.ok("run", "--bundle", b.dir, world.name()).split() == ["700", "600", "640"]


def test_an_acl_that_is_too_large_for_the_file_system(bare, world, form):
    """ext4 has a block for it. Of directories of the store, and of the top of a writable layer."""
    large = acl((USER_OBJ, 7), *((USER, 7, 60000 + i) for i in range(1000)), (GROUP_OBJ, 0), (MASK, 7), (OTHER, 0))
    world.write("file", "")
    try:
        os.setxattr(world.path("file"), ACCESS, large)
        room = True
    except OSError:
        room = False
    pax = {XATTR + ACCESS: large, XATTR + DEFAULT: large}
    load(bare, world, Tar().dir("./", 0o770, pax=pax).dir("d", 0o770, pax=pax).file("file", "text", 0o770, pax={XATTR + ACCESS: large}))
    bare.running("--writable", name="look", image="made")
    kept = room or form == "files"
    assert look(bare, "file") == (("0o770", {ACCESS: large}) if kept else ("0o700", {}))
    assert look(bare, "d") == (("0o770", {ACCESS: large, DEFAULT: large}) if kept else ("0o700", {}))
    assert look(bare, "") == (("0o770", {ACCESS: large, DEFAULT: large}) if room else ("0o700", {}))


TEXTS = {
    # Of star and libarchive, with numbers behind names; of lines, and with a comment.
    "numbers-behind-names": "user::rw-,user:bob:r--:54321,group::---,mask::r--,other::---",
    "lines": "user::rw-\nuser:54321:r--\t\t#effective:r--\ngroup::---\nmask::r--\nother::---\n",
    "blanks-and-comments-in-names": "# of a domain\nuser::rw-\nuser:domain user#1:r--:54321 #effective:r--\ngroup::---\nmask::r--\nother::---\n",
    "any-order": "other::---,u:54321:r--,m:r--,g::---,u::rw-",
}


@pytest.mark.parametrize("text", TEXTS)
def test_acls_as_text(bare, world, text):
    load(bare, world, Tar().file("file", "text", 0o640, pax={"SCHILY.acl.access": TEXTS[text]}))
    bare.running(name="look", image="made")
    assert look(bare, "file") == ("0o640", {ACCESS: BOB})


WRONG = {
    "a-name-without-a-number": ({"SCHILY.acl.access": "user::rwx,user:bob:rwx,group::---,mask::rwx,other::---"}, "0o700"),
    "one-who-has-less": ({"SCHILY.acl.access": "user::rwx,user:bob:r-x,group::rwx,mask::rwx,other::rw-"}, "0o754"),
    "one-that-cannot-be-read": ({"SCHILY.acl.access": "user::rwx,user:bob:rwx:x:y,group::rwx,mask::rwx,other::r-x"}, "0o700"),
    "no-mask": ({XATTR + ACCESS: acl((USER_OBJ, 7), (USER, 7, 1), (GROUP_OBJ, 0), (OTHER, 0))}, "0o700"),
    "another-version": ({XATTR + ACCESS: acl((USER_OBJ, 7), (GROUP_OBJ, 0), (OTHER, 0), version=1)}, "0o706"),
    "out-of-order": ({XATTR + ACCESS: acl((USER_OBJ, 7), (USER, 7, 2), (USER, 7, 1), (GROUP_OBJ, 0), (MASK, 7), (OTHER, 0))}, "0o706"),
    "an-unknown-tag": ({XATTR + ACCESS: acl((USER_OBJ, 7), (GROUP_OBJ, 0), (OTHER, 0), (64, 0))}, "0o706"),
    "rights-that-are-none": ({XATTR + ACCESS: acl((USER_OBJ, 9), (USER, 7, 1), (GROUP_OBJ, 0), (MASK, 7), (OTHER, 0))}, "0o706"),
    "a-part-of-one": ({XATTR + ACCESS: BOB[:-3]}, "0o706"),
    "nobody": ({XATTR + ACCESS: acl((USER_OBJ, 7), (USER, 7), (GROUP_OBJ, 0), (MASK, 7), (OTHER, 0))}, "0o706"),
    "a-default-of-a-file": ({XATTR + DEFAULT: HEIRS}, "0o776"),
    "of-nfs": ({"SCHILY.acl.ace": "owner@:rwx::allow"}, "0o776"),
}


@pytest.mark.parametrize("name", WRONG if ALL else ["a-name-without-a-number", "one-who-has-less", "no-mask", "a-part-of-one", "of-nfs"])
def test_a63_an_acl_that_cannot_be_kept_gives_nobody_more(bare, world, name):
    """Its mask is not the group's right. It is counted."""
    pax, mode = WRONG[name]
    given = 0o770 if name in ("a-name-without-a-number", "no-mask") else 0o776
    load(bare, world, Tar().file("file", "text", given, pax=pax).dir("d", given, pax=pax if DEFAULT not in str(pax) else {}))
    said = bare.world.said[-1].err
    assert "extended attributes were left out" in said, said
    bare.running(name="look", image="made")
    assert look(bare, "file") == (mode, {}), name
    if DEFAULT not in str(pax):
        assert look(bare, "d") == (mode, {}), name


def test_an_acl_that_says_no_more_than_the_mode(bare, world):
    minimal = acl((USER_OBJ, 7), (GROUP_OBJ, 5), (OTHER, 1))
    load(bare, world, Tar().file("file", "text", 0o751, pax={XATTR + ACCESS: minimal, "SCHILY.acl.default": ""}))
    assert "left out" not in bare.world.said[-1].err
    bare.running(name="look", image="made")
    assert look(bare, "file") == ("0o751", {})


def test_a_later_entry_of_a_directory_changes_the_mask(bare, world):
    """As chmod does."""
    load(bare, world, Tar().dir("d", 0o770, pax={XATTR + ACCESS: acl((USER_OBJ, 7), (USER, 7, 1000), (GROUP_OBJ, 0), (MASK, 7), (OTHER, 0))})
         .dir("d", 0o711))
    bare.running(name="look", image="made")
    assert look(bare, "d") == ("0o711", {ACCESS: acl((USER_OBJ, 7), (USER, 7, 1000), (GROUP_OBJ, 0), (MASK, 1), (OTHER, 1))})
    assert read_text("/proc/%d/root/etc/passwd" % bare.pid("look"))

# SPDX-License-Identifier: Apache-2.0
"""Users: names and numbers are resolved in the image."""

import pytest
from skinktest import busybox_image


def ids_of(sk, *options, image="busybox"):
    out = sk.ok("run", "--rm", *options, image, "probe", "ids")
    rows = dict(line.split(": ", 1) if ": " in line else (line.rstrip(":"), "") for line in out.splitlines())
    return rows["uid"].split()[0], rows["gid"].split()[0], sorted(map(int, rows["groups"].split()))


@pytest.mark.parametrize("user,uid,gid,groups", [
    ("0", "0", "0", {0}), ("root", "0", "0", {0}), ("user", "1000", "1000", {8, 100, 1000}),
    ("1000", "1000", "1000", {8, 100, 1000}), ("4711", "4711", "0", {0}), ("4711:4712", "4711", "4712", {4712}),
    ("user:mail", "1000", "8", {8}), ("0:100", "0", "100", {100}), ("nobody", "65534", "65534", {65534}),
    ("user:0", "1000", "0", {0}),
])
def test_user_option(sk, user, uid, gid, groups):
    got = ids_of(sk, "--user", user)
    assert got[:2] == (uid, gid)
    assert set(got[2]) <= groups | {int(gid)} and groups - {int(gid)} <= set(got[2])


def test_group_add_by_name_and_number(sk):
    uid, _, groups = ids_of(sk, "-u", "4711:4711", "--group-add", "mail", "--group-add", "5555")
    assert uid == "4711" and {8, 5555} <= set(groups) and set(groups) <= {8, 5555, 4711}


def test_unknown_names_are_errors(sk):
    sk.fails("run", "--rm", "-u", "stranger", "busybox", "true", status=125, match="stranger")
    sk.fails("run", "--rm", "-u", "user:strangers", "busybox", "true", status=125, match="strangers")
    sk.fails("run", "--rm", "--group-add", "strangers", "busybox", "true", status=125, match="strangers")


def test_the_images_user_and_the_option_that_beats_it(sk):
    sk.load(busybox_image("u", run={"User": "user"}))
    assert ids_of(sk, image="u")[0] == "1000"
    assert ids_of(sk, "-u", "0", image="u")[0] == "0"


def test_home_comes_from_passwd(sk):
    assert sk.ok("run", "--rm", "-u", "user", "busybox", "sh", "-c", "echo $HOME") == "/home/user"
    assert sk.ok("run", "--rm", "-u", "4711", "busybox", "sh", "-c", "echo $HOME") == "/"
    assert sk.ok("run", "--rm", "-e", "HOME=/x", "busybox", "sh", "-c", "echo $HOME") == "/x"


def test_an_image_without_passwd(sk):
    def remove(tar):
        tar.file("etc/.wh.passwd").file("etc/.wh.group")
    sk.load(busybox_image("bare", extra=remove))
    assert ids_of(sk, image="bare")[0] == "0"
    assert ids_of(sk, "-u", "7:8", image="bare")[:2] == ("7", "8")
    sk.fails("run", "--rm", "-u", "user", "bare", "true", status=125, match="user")


@pytest.mark.parametrize("shape", ["opaque", "directory link", "file link", "replaced"])
def test_user_files_are_those_that_the_container_sees(sk, shape):
    line = "other:x:77:78::/o:/bin/sh\n"

    def change(tar):
        if shape == "opaque":
            tar.dir("etc").file("etc/.wh..wh..opq").file("etc/passwd", line)
        elif shape == "directory link":
            tar.file(".wh.etc").dir("usr/etc").file("usr/etc/passwd", line).symlink("etc", "usr/etc")
        elif shape == "file link":
            tar.file("usr/users", line).symlink("etc/passwd", "../usr/users")
        else:
            tar.file("etc/passwd", line)
    sk.load(busybox_image("shaped", extra=change))
    assert ids_of(sk, "-u", "other", image="shaped")[:2] == ("77", "78")
    sk.fails("run", "--rm", "-u", "user", "shaped", "true", status=125, match="user")


def test_a_user_can_write_its_output(sk):
    """/dev/stdout of a process that is not root: the streams belong to the container's user."""
    assert sk.ok("run", "--rm", "-u", "1000", "busybox", "sh", "-c", "echo one >/dev/stdout; echo two >/proc/self/fd/1") == "one\ntwo"
    name = sk.running("-u", "1000", "--restart", "no", command=["sh", "-c", "echo detached >/dev/stdout; echo e >/dev/stderr"])
    sk.ok("wait", name)
    assert sk.ok("logs", name).splitlines()[0] == "detached"


def test_passwd_and_group_as_absolute_symlinks_in_the_image(sk):
    def links(tar):
        tar.dir("nix").file("nix/passwd", "root:x:0:0::/root:/bin/sh\nlinked:x:77:78::/:/bin/sh\n")
        tar.symlink("etc/passwd", "/nix/passwd")
    sk.load(busybox_image("nix", extra=links))
    assert ids_of(sk, "-u", "linked", image="nix")[:2] == ("77", "78")

# SPDX-License-Identifier: Apache-2.0
"""A27 to A31, A33, A39, A45: who a container's process is."""

import os
import stat
import struct
import subprocess

import mkimg
import pytest
from skinktest import busybox_image, read, status_of, support


def file_caps(effective, permitted, inheritable):
    return struct.pack("<IIIII", 0x02000000 | (1 if effective else 0), permitted, inheritable, 0, 0)


def capable_image(names, **caps):
    def extra(tar):
        tar.add("bin/capable", read(support("probe")), mode=0o755, pax={"SCHILY.xattr.security.capability": file_caps(**caps)})
        tar.add("bin/grep", read(mkimg.BUSYBOX), mode=0o755, pax={"SCHILY.xattr.security.capability": file_caps(**caps)})
    return busybox_image(names, extra=extra)


def test_a27_inheritable_capabilities_are_empty(sk):
    """A file with inheritable capabilities gives nothing back, in run and in exec."""
    sk.load(capable_image("caps", effective=True, permitted=0, inheritable=1 << 12))
    for out in (sk.ok("run", "--rm", "-u", "1000", "caps", "grep", "Cap", "/proc/self/status"),
                sk.ok("exec", "-u", "1000", sk.running(image="caps"), "grep", "Cap", "/proc/self/status")):
        fields = dict(line.split(":\t") for line in out.splitlines())
        assert int(fields["CapInh"], 16) == 0 and int(fields["CapPrm"], 16) == 0 and int(fields["CapEff"], 16) == 0, out
    name = sk.running("--cap-add", "NET_ADMIN")
    assert int(status_of(sk.pid(name))["CapInh"], 16) == 0


@pytest.mark.parametrize("more", [[], ["--cap-add", "NET_ADMIN"], ["--cap-add", "ALL"]])
def test_a28_a_user_that_is_not_root_has_no_power(sk, more):
    name = sk.running("-u", "1000", *more)
    status = status_of(sk.pid(name))
    assert int(status["CapEff"], 16) == 0 and int(status["CapAmb"], 16) == 0 and int(status["CapPrm"], 16) == 0
    out = sk.ok("exec", name, "grep", "-E", "CapEff|CapAmb|CapPrm", "/proc/self/status")
    assert {line.split()[1].strip("0") for line in out.splitlines()} == {""}


def test_a29_setgroups_and_id_maps(oci, world):
    """In a user namespace the maps are read back, and groups are exactly those asked for."""
    from skinktest import Bundle
    b = Bundle(world, ["sh", "-c", "cat /proc/self/uid_map /proc/self/gid_map; probe ids"])
    subprocess.run(["chown", "-R", "100000:100000", b.rootfs], check=True)
    os.chmod(world.base, 0o755)
    b.config["linux"]["namespaces"].append({"type": "user"})
    b.config["linux"]["uidMappings"] = b.config["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    b.config["process"]["user"]["additionalGids"] = [7]
    b.save()
    out = oci.ok("run", "--bundle", b.dir, world.name(), before=["setpriv", "--groups", "4,27", "--"])
    assert out.count("100000") == 2 and "groups: 7" in out.replace("groups: 0 7", "groups: 7"), out


USERS = [("1", 1), ("1:", None), (":1", None), ("-1", None), ("+1", None), ("4294967295", None), ("2147483648", 2147483648),
         ("4294967294", 4294967294), ("4294967296", None), ("0x0", None), (" 1", None), ("1 ", None), ("1000", 1000), ("00", 0),
         ("18446744073709551616", None), ("1:4294967295", None), ("1:-1", None), ("1:2:3", None), ("", 0), ("root:", None), ("\u0661", None),
         ("zero", 0), ("4711name", 4712), ("nobodyatall", None)]


def number_image():
    passwd = ("root:x:0:0:root:/root:/bin/sh\n1000:x:0:0:evil:/:/bin/sh\n4711name:x:4712:4712::/:/bin/sh\nzero:x:0:0::/:/bin/sh\n"
              "bad:x:4294967295:0::/:/bin/sh\nbad2:x:4294967296:0::/:/bin/sh\nbad3:x:-1:0::/:/bin/sh\nbad4:x::0::/:/bin/sh\n")
    return busybox_image("numbers", extra=lambda tar: tar.file("etc/passwd", passwd))


@pytest.mark.parametrize("user,uid", USERS, ids=[repr(user) for user, _ in USERS])
def test_a30_user_numbers(world, user, uid):
    """An all-digit string is never a name; nothing that is not a number becomes 0."""
    sk = world.skink
    sk.load(number_image())
    results = [sk("run", "--rm", "-u", user, "numbers", "probe", "ids")]
    name = sk.running(image="numbers")
    results.append(sk("exec", "-u", user, name, "probe", "ids"))
    image = number_image()
    image.config["config"]["User"] = user
    image.names = ["asimage"]
    path = mkimg.oci_archive(world.path("u.tar"), image)
    loaded = sk("load", path)
    if loaded.status == 0:
        results.append(sk("run", "--rm", "asimage", "probe", "ids"))
    for result in results:
        if result.status == 0:
            got = result.out.splitlines()[0].split()[1:]
            if uid is not None:
                assert got == [str(uid)] * 3, result
            else:
                assert user in ("1:", "root:", "") and got == [user.rstrip(":").replace("root", "0") or "0"] * 3, \
                    "a user that means nothing ran: %r" % result
        else:
            assert uid is None, result
            assert len(result.err.strip().splitlines()) == 1, result


@pytest.mark.parametrize("name", ["bad", "bad2", "bad3", "bad4"])
def test_a30_passwd_lines_with_impossible_numbers(world, name):
    world.skink.load(number_image())
    result = world.skink("run", "--rm", "-u", name, "numbers", "probe", "ids")
    assert result.status == 125, result


def hostile_files(canary):
    return {
        "fifo": lambda tar, f: tar.fifo(f), "device": lambda tar, f: tar.device(f, major=1, minor=5),
        "directory": lambda tar, f: tar.dir(f + "/sub"), "link-to-host": lambda tar, f: tar.symlink(f, canary.top + "/secret"),
        "link-loop": lambda tar, f: tar.symlink(f, os.path.basename(f)), "link-to-proc": lambda tar, f: tar.symlink(f, "/proc/self/environ"),
        "long-line": lambda tar, f: tar.file(f, "x" * 1000000 + "\nroot:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:\n"),
        "nuls": lambda tar, f: tar.file(f, b"\0" * 5000 + b"\nuser:x:1000:1000::/:\n"),
        "big": lambda tar, f: tar.file(f, b"y:x:1:1::/:\n" * (1 << 20)),
        "no-newline": lambda tar, f: tar.file(f, b"user:x:1000:1000"),
    }


@pytest.mark.parametrize("file", ["etc/passwd", "etc/group"])
@pytest.mark.parametrize("kind", ["fifo", "device", "directory", "link-to-host", "link-loop", "link-to-proc", "long-line", "nuls", "big", "no-newline"])
def test_a31_passwd_and_group_of_the_image(world, canary, file, kind):
    sk = world.skink

    def extra(tar):
        tar.file("etc/.wh." + os.path.basename(file))
    hidden = busybox_image("hidden", extra=extra)
    from skinktest import Layer, Tar
    tar = Tar()
    hostile_files(canary)[kind](tar, file)
    hidden.layers.append(Layer(tar))
    from skinktest import Image
    path = mkimg.oci_archive(world.path("h.tar"), Image(hidden.layers, {"Env": ["PATH=/bin"], "Cmd": ["sh"]}, "hostile"))
    loaded = sk("load", path, timeout=30)
    if loaded.status:
        return
    for user in ("user", "user:users", "1000", "0"):
        result = sk("run", "--rm", "-u", user, "hostile", "probe", "ids", timeout=20)
        assert result.status in (0, 125) and canary.token not in result.err + result.out, result
        if result.status == 0 and user.startswith("user"):
            assert result.out.startswith("uid: 1000"), result
    name = world.name()
    if sk("run", "-d", "--name", name, "hostile", "sleep", "1000", timeout=20).status == 0:
        result = sk("exec", "-u", "user", name, "probe", "ids", timeout=20)
        assert canary.token not in result.err + result.out


def test_a33_the_callers_groups_are_gone(sk):
    for user, groups in ((["-u", "0"], {0}), (["-u", "4711:4711"], {4711}), (["-u", "4711:4711", "--group-add", "99"], {4711, 99})):
        out = sk.ok("run", "--rm", *user, "busybox", "probe", "ids", before=["setpriv", "--groups", "4,27,999", "--"])
        got = set(map(int, out.splitlines()[-1].split(":")[1].split()))
        assert got <= groups and groups - {0, 4711} <= got, out


@pytest.mark.parametrize("stream", ["stdout", "stderr", "stdin"])
@pytest.mark.parametrize("kind", ["file", "null", "pipe"])
def test_a39_streams_of_the_caller_keep_their_owner(sk, world, stream, kind):
    path = {"file": world.write("stream", "", 0o640), "null": "/dev/null", "pipe": world.path("fifo")}[kind]
    if kind == "pipe":
        os.mkfifo(path, 0o600)
    before = os.stat(path)
    fd = os.open(path, os.O_RDWR)
    options = ["-i"] if stream == "stdin" and kind != "pipe" else []
    sk("run", "--rm", "-u", "1000", *options, "busybox", "true", **{stream: fd})
    os.close(fd)
    after = os.stat(path)
    assert (before.st_uid, before.st_gid, before.st_mode) == (after.st_uid, after.st_gid, after.st_mode)


@pytest.mark.parametrize("kind", ["file", "null"])
def test_a39_streams_of_skink_oci_keep_their_owner(oci, world, kind):
    from skinktest import Bundle
    path = world.write("stream", "", 0o640) if kind == "file" else "/dev/null"
    before = os.stat(path)
    fd = os.open(path, os.O_RDWR)
    b = Bundle(world, ["true"], user={"uid": 1000, "gid": 1000})
    oci("run", "--bundle", b.dir, world.name(), stdout=fd, stderr=fd, stdin=fd)
    os.close(fd)
    after = os.stat(path)
    assert (before.st_uid, before.st_gid, before.st_mode) == (after.st_uid, after.st_gid, after.st_mode)


def test_a45_setuid_programs_give_nothing(sk, world):
    def extra(tar):
        tar.file("bin/su-probe", read(support("probe")), 0o6755)
    sk.load(busybox_image("suid", extra=extra))
    os.makedirs(world.path("vol"))
    world.write("vol/su-probe", read(support("probe")), 0o6755)
    name = sk.running("-u", "1000", "-v", world.path("vol") + ":/vol", image="suid")
    outs = [sk.ok("run", "--rm", "-u", "1000", "-v", world.path("vol") + ":/vol", "suid", program, "ids") for program in ("su-probe", "/vol/su-probe")]
    outs += [sk.ok("exec", name, program, "ids") for program in ("su-probe", "/vol/su-probe")]
    for out in outs:
        assert out.splitlines()[0] == "uid: 1000 1000 1000" and "nnp: 1" in out, out
    assert stat.S_ISUID & os.stat(world.path("vol/su-probe")).st_mode

# SPDX-License-Identifier: Apache-2.0
"""skink-oci: every mount option of config.md, what the kernel made of it, and the root's own: propagation and hidden paths."""

import json
import os
import socket
import stat
import subprocess

import pytest
from skinktest import read_text, wait_for


class Mountinfo:
    """One line of mountinfo (man 5 proc)."""

    def __init__(self, line):
        before, after = line.split(" - ")
        fields = before.split()
        self.target, self.options, self.optional = fields[4], fields[5].split(","), fields[6:]
        self.type, self.source, superblock = (after + " ").split(" ", 2)
        self.superblock = superblock.strip().split(",")

    def peers(self, kind):
        return [word for word in self.optional if word.startswith(kind)]


def mounts_of(pid):
    table = {}
    for line in read_text("/proc/%d/mountinfo" % pid).splitlines():
        mount = Mountinfo(line)
        table[mount.target] = mount
    return table


@pytest.fixture
def started(oci, bundle, world):
    """Runs a container with these mounts added; gives its pid."""
    def start(*mounts, change=None, args=("sleep", "1000")):
        b = bundle(list(args))
        b.config["mounts"] += mounts
        b.config["root"]["readonly"] = False
        if change:
            change(b)
        b.save()
        name = world.name()
        oci.ok("create", "--bundle", b.dir, name)
        oci.ok("start", name)
        start.name, start.bundle = name, b
        return json.loads(oci.ok("state", name))["pid"]
    return start


@pytest.fixture
def tree(world):
    """A directory of the host with another mount below it: world.path("top") and .../sub."""
    top = world.path("top")
    os.makedirs(top)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "skink-test-keep", top], check=True)
    subprocess.run(["mount", "--make-private", top], check=True)
    os.makedirs(top + "/sub")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "skink-test-keep", top + "/sub"], check=True)
    yield top
    subprocess.run(["umount", "-R", "-l", top], check=True)


@pytest.fixture
def mappable(world):
    """The same of directories on the disk: a tmpfs has idmapped mounts from Linux 6.3 on."""
    top = world.path("top")
    for name in ("top/sub", "below"):
        os.makedirs(world.path(name))
    subprocess.run(["mount", "--bind", "--make-private", top, top], check=True)
    subprocess.run(["mount", "--bind", world.path("below"), top + "/sub"], check=True)
    yield top
    subprocess.run(["umount", "-R", "-l", top], check=True)


def bind(source, *options, to="/m", **more):
    return dict({"destination": to, "type": "bind", "source": source, "options": ["rbind"] + list(options)}, **more)


ATTRIBUTES = [("ro", "ro"), ("nosuid", "nosuid"), ("nodev", "nodev"), ("noexec", "noexec"), ("noatime", "noatime"),
              ("nodiratime", "nodiratime"), ("nosymfollow", "nosymfollow"), ("relatime", "relatime")]


@pytest.mark.parametrize("kind", ["tmpfs", "bind", "none"])
def test_attributes(started, tree, kind):
    """All at once on one mount: of a new file system, and of a bind, whose submounts stay as they are."""
    words = [word for word, _ in ATTRIBUTES if word != "relatime"]
    mount = {"destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": words}
    if kind != "tmpfs":
        mount = dict(bind(tree, *words), type=kind)
    table = mounts_of(started(mount))
    for word in words:
        assert word in table["/m"].options, word
        if kind != "tmpfs":
            assert word not in table["/m/sub"].options, word


@pytest.mark.parametrize("word, shown", ATTRIBUTES)
def test_recursive_attributes(started, tree, word, shown):
    table = mounts_of(started(bind(tree, "r" + word)))
    assert shown in table["/m"].options and shown in table["/m/sub"].options


@pytest.mark.parametrize("set_word, clear_word, shown", [
    ("ro", "rrw", "ro"), ("nosuid", "rsuid", "nosuid"), ("nodev", "rdev", "nodev"), ("noexec", "rexec", "noexec"),
    ("nodiratime", "rdiratime", "nodiratime"), ("nosymfollow", "rsymfollow", "nosymfollow"), ("noatime", "ratime", "noatime"),
    ("noatime", "rstrictatime", "noatime")])
def test_recursive_attributes_are_taken_off(started, tree, set_word, clear_word, shown):
    for path in (tree, tree + "/sub"):
        subprocess.run(["mount", "-o", "remount,bind," + set_word, path], check=True)
    kept = mounts_of(started(bind(tree)))
    assert shown in kept["/m"].options and shown in kept["/m/sub"].options, "the source's own flags are kept"
    table = mounts_of(started(bind(tree, clear_word)))
    assert shown not in table["/m"].options and shown not in table["/m/sub"].options


def test_access_times(started):
    table = mounts_of(started(*[{"destination": "/" + word, "type": "tmpfs", "source": "t", "options": [word]} for word in
                                ("strictatime", "noatime", "relatime", "atime", "norelatime", "nostrictatime")]))
    assert "noatime" in table["/noatime"].options
    for word in ("relatime", "atime", "nostrictatime", "norelatime"):
        assert "relatime" in table["/" + word].options, word
    assert not {"relatime", "noatime"} & set(table["/strictatime"].options)


@pytest.mark.parametrize("word, shown", [("ratime", "relatime"), ("rrelatime", "relatime"), ("rnorelatime", "relatime"), ("rnostrictatime", "relatime"),
                                         ("rnoatime", "noatime"), ("rstrictatime", None)])
def test_access_times_of_a_whole_tree(started, tree, word, shown):
    subprocess.run(["mount", "-o", "remount,bind,noatime" if shown != "noatime" else "remount,bind,strictatime", tree + "/sub"], check=True)
    table = mounts_of(started(bind(tree, word)))
    for target in ("/m", "/m/sub"):
        assert {"relatime", "noatime"} & set(table[target].options) == ({shown} if shown else set()), target


def test_flags_of_the_file_system(started):
    table = mounts_of(started(
        {"destination": "/on", "type": "tmpfs", "source": "t", "options": ["sync", "dirsync", "lazytime", "iversion", "silent", "mode=711", "size=4m"]},
        {"destination": "/off", "type": "tmpfs", "source": "t", "options": ["defaults", "async", "nolazytime", "noiversion", "loud", "nomand", "suid", "dev", "exec", "rw", "diratime", "symfollow"]}))
    assert {"sync", "dirsync", "lazytime", "mode=711", "size=4096k"} <= set(table["/on"].superblock)
    assert not {"sync", "dirsync", "lazytime"} & set(table["/off"].superblock)
    assert not {"ro", "nosuid", "nodev", "noexec", "nodiratime", "nosymfollow"} & set(table["/off"].options)


def test_options_that_the_file_system_refuses(oci, bundle, world):
    for mount, wanted in [({"type": "tmpfs", "source": "t", "options": ["nonsense"]}, "nonsense"), ({"type": "tmpfs", "source": "t", "options": ["size=x"]}, "size"),
                          ({"type": "nosuchfs", "source": "t"}, "nosuchfs"), ({"source": "t"}, "type"), ({"type": "none", "source": "/tmp"}, "type"),
                          ({"type": "bind", "options": ["bind"]}, "source"), ({"type": "proc", "source": "proc", "options": ["idmap"]}, "idmap|uidMappings"),
                          ({"type": "bind", "source": "/tmp", "options": ["bind", "idmap"]}, r"mounts\[6\].uidMappings"),
                          ({"type": "bind", "source": "/tmp", "options": ["bind"], "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}, "gidMappings"),
                          ({"type": "bind", "source": "/tmp", "options": ["bind", "idmap=uids=x"]}, "idmap"),
                          ({"type": "bind", "source": "/tmp", "options": ["idmap"], "uidMappings": [{"containerID": 0, "hostID": 1, "size": 0}],
                            "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}, r"mounts\[6\].uidMappings\[0\].size")]:
        b = bundle()
        b.config["mounts"].append(dict(mount, destination="/m"))
        b.config["root"]["readonly"] = False
        b.config["hooks"] = {"prestart": [{"path": "/bin/touch", "args": ["touch", world.path("hooked")]}]}
        b.save()
        oci.fails("create", "--bundle", b.dir, world.name(), status=1, match=[r"mounts\[6\]", wanted])
    assert world.leaks(3) == [] and not os.path.exists(world.path("hooked"))


@pytest.mark.parametrize("word, kind", [("private", ""), ("slave", "master:"), ("shared", "shared:"), ("unbindable", "unbindable")])
@pytest.mark.parametrize("recursive", ["", "r"])
def test_propagation(started, tree, word, kind, recursive):
    subprocess.run(["mount", "--make-rshared", tree], check=True)
    table = mounts_of(started(bind(tree, recursive + word)))
    shown = {target: [one for one in ("shared:", "master:", "unbindable") if table[target].peers(one)] for target in ("/m", "/m/sub")}
    assert shown["/m"] == ([kind] if kind else [])
    if recursive:
        assert shown["/m/sub"] == ([kind] if kind else [])


def test_where_new_mounts_go(started, tree):
    subprocess.run(["mount", "--make-rshared", tree], check=True)
    os.makedirs(tree + "/later")
    pid = started(bind(tree, "rslave", to="/slave"), bind(tree, "rprivate", to="/private"), bind(tree, "rshared", to="/shared"), bind(tree, to="/default"))
    subprocess.run(["mount", "-t", "tmpfs", "skink-test-keep", tree + "/later"], check=True)
    table = mounts_of(pid)
    assert "/slave/later" in table and "/shared/later" in table
    assert "/private/later" not in table and "/default/later" not in table
    subprocess.run(["nsenter", "-t", str(pid), "-m", "/bin/mount", "-t", "tmpfs", "skink-test-keep", "/shared/sub"], check=True)
    ours = [line.split()[4] for line in read_text("/proc/self/mountinfo").splitlines()]
    assert ours.count(tree + "/sub") == 2


def test_propagation_of_a_new_file_system(started):
    table = mounts_of(started(*[{"destination": "/" + word, "type": "tmpfs", "source": "t", "options": [word]} for word in ("shared", "private", "unbindable")]))
    assert table["/shared"].peers("shared:") and table["/unbindable"].peers("unbindable") and not table["/private"].optional


def test_a_bind_takes_submounts_only_when_asked(started, tree):
    table = mounts_of(started(dict(bind(tree), options=["bind"]), bind(tree, to="/r"), bind(tree, "bind", to="/both")))
    assert "/m/sub" not in table and "/r/sub" in table and "/both/sub" in table


def test_remount(started, tree):
    table = mounts_of(started(bind(tree), {"destination": "/m", "type": "none", "source": "", "options": ["remount", "ro", "nosuid", "rprivate"]},
                              {"destination": "/t", "type": "tmpfs", "source": "t", "options": ["size=1m"]},
                              {"destination": "/t", "type": "tmpfs", "source": "t", "options": ["remount", "size=2m", "noexec"]}))
    assert {"ro", "nosuid"} <= set(table["/m"].options) and "ro" not in table["/m/sub"].options
    assert "size=2048k" in table["/t"].superblock and "noexec" in table["/t"].options


def test_sources_that_are_no_directories(oci, bundle, world):
    server = socket.socket(socket.AF_UNIX)
    server.bind(world.path("socket"))
    os.mkfifo(world.path("fifo"))
    b = bundle(["sh", "-c", "cat /file; for f in /socket /fifo /null /rel; do stat -c %F $f; done"])
    b.config["root"]["readonly"] = False
    with open(b.dir + "/below", "w") as file:
        file.write("x")
    b.config["mounts"] += [bind(world.write("file", "text\n"), to="/file"), bind(world.path("socket"), to="/socket"), bind(world.path("fifo"), to="/fifo"),
                           bind("/dev/null", to="/null"), bind("below", to="rel")]
    b.save()
    assert oci.ok("run", "--bundle", b.dir, world.name()).splitlines() == ["text", "socket", "fifo", "character special file", "regular file"]
    server.close()


def test_relative_destinations_and_ones_that_climb(started, tree):
    table = mounts_of(started(bind(tree, to="deep/er"), bind(tree, to="/../../up"), bind(tree, to="/x/../y")))
    assert {"/deep/er", "/up", "/y"} <= set(table)


def test_symlinks_as_source_and_destination(oci, bundle, world):
    """crun's src-nofollow, dest-nofollow and copy-symlink, as podman writes them."""
    os.makedirs(world.path("dir"))
    world.write("dir/f", "content\n")
    os.symlink("dir", world.path("link"))
    b = bundle(["sh", "-c", "cat /followed/f; readlink /itself; readlink /copied; readlink /old/copied; cat /target/f; readlink /etc/link || echo mounted"])
    b.config["root"]["readonly"] = False
    os.makedirs(b.rootfs + "/target")
    os.makedirs(b.rootfs + "/old")
    os.symlink("dir", b.rootfs + "/old/copied")
    os.symlink("/target", b.rootfs + "/by-link")
    os.symlink("/nowhere", b.rootfs + "/etc/link")
    b.config["mounts"] += [bind(world.path("link"), to="/followed"), bind(world.path("link"), "src-nofollow", to="/itself"),
                           bind(world.path("link"), "copy-symlink", to="/copied"), bind(world.path("link"), "copy-symlink", to="/old/copied"),
                           bind(world.path("dir"), to="/by-link"), bind(world.write("plain", "p"), "dest-nofollow", to="/etc/link")]
    b.save()
    assert oci.ok("run", "--bundle", b.dir, world.name()).splitlines() == ["content", "dir", "dir", "dir", "content", "mounted"]
    b.config["mounts"].append(bind(world.path("link"), "copy-symlink", to="/target"))
    b.save()
    oci.fails("run", "--bundle", b.dir, world.name(), match=[r"mounts\[12\]", "exists"])


def test_tmpcopyup(oci, bundle, world):
    b = bundle(["sh", "-c", "cat /data/f /data/d/g; stat -c '%a %u' /data /data/d; touch /data/new && echo writable"])
    os.makedirs(b.rootfs + "/data/d")
    os.chmod(b.rootfs + "/data", 0o750)
    os.chown(b.rootfs + "/data/d", 1000, 1000)
    for path, text in (("/data/f", "one\n"), ("/data/d/g", "two\n")):
        with open(b.rootfs + path, "w") as file:
            file.write(text)
    b.config["mounts"].append({"destination": "/data", "type": "tmpfs", "source": "t", "options": ["tmpcopyup", "nosuid"]})
    b.save()
    assert oci.ok("run", "--bundle", b.dir, world.name()).splitlines() == ["one", "two", "750 0", "755 1000", "writable"]
    assert sorted(os.listdir(b.rootfs + "/data")) == ["d", "f"]


def kinds(top):
    """Files of every type, as an image may have them at the target of a tmpfs; with times of their own."""
    os.makedirs(top + "/d/e")
    for name, text in (("f", "one"), ("d/setuid", "two")):
        with open(top + "/" + name, "w") as file:
            file.write(text)
    os.chown(top + "/d/setuid", 1000, 1001)
    os.chmod(top + "/d/setuid", 0o4751)
    os.symlink("f", top + "/link")
    os.lchown(top + "/link", 1002, 1003)
    os.link(top + "/f", top + "/d/e/same")
    os.link(top + "/link", top + "/d/same-link", follow_symlinks=False)
    os.mkfifo(top + "/fifo", 0o640)
    os.mknod(top + "/null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(top + "/socket")
    os.setxattr(top + "/f", "trusted.skink", b"kept")
    os.setxattr(top + "/d", "trusted.skink", b"too")
    os.setxattr(top + "/d/setuid", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    for number, path in enumerate(["f", "link", "fifo", "null", "socket", "d/setuid", "d/e", "d", ""]):
        os.utime(top + "/" + path, ns=(10**18 + number, 11 * 10**17 + number), follow_symlinks=False)


def described(top):
    """What is below, without what only the file system decides."""
    found, links = {}, {}
    for path, dirs, files in os.walk(top):
        for full in [path] + [os.path.join(path, name) for name in dirs + files]:
            at = os.lstat(full)
            attributes = {name: os.getxattr(full, name, follow_symlinks=False) for name in os.listxattr(full, follow_symlinks=False)}
            found[os.path.relpath(full, top)] = (at.st_mode, at.st_uid, at.st_gid, at.st_rdev, at.st_mtime_ns, attributes,
                                                 os.readlink(full) if stat.S_ISLNK(at.st_mode) else stat.S_ISREG(at.st_mode) and read_text(full))
            links.setdefault(at.st_ino, set()).add(os.path.relpath(full, top))
    return found, sorted(map(sorted, links.values()))


def test_tmpcopyup_is_whole(oci, bundle, world, started):
    def change(b):
        kinds(b.rootfs + "/data")
    mount = {"destination": "/data", "type": "tmpfs", "source": "t", "options": ["tmpcopyup", "nosuid"]}
    pid = started(mount, change=change)
    assert described("/proc/%d/root/data" % pid) == described(started.bundle.rootfs + "/data")
    oci.ok("delete", "--force", started.name)


def test_tmpcopyup_leaves_what_the_options_name(oci, started):
    def change(b):
        os.makedirs(b.rootfs + "/data/d")
        os.chown(b.rootfs + "/data", 5, 6)
        os.chown(b.rootfs + "/data/d", 7, 8)
    for options, want in ((["uid=1000"], (1000, 6, 0o755)), (["gid=1001", "mode=0700"], (5, 1001, 0o700))):
        pid = started({"destination": "/data", "type": "tmpfs", "source": "t", "options": ["tmpcopyup", *options]}, change=change)
        top, inner = os.stat("/proc/%d/root/data" % pid), os.stat("/proc/%d/root/data/d" % pid)
        assert (top.st_uid, top.st_gid, stat.S_IMODE(top.st_mode)) == want and (inner.st_uid, inner.st_gid) == (7, 8)
        oci.ok("delete", "--force", started.name)


# The container's view of control groups.

CGROUPS = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}


@pytest.mark.skipif(os.path.exists("/sys/fs/cgroup/cgroup.controllers"), reason="one hierarchy alone, in which no directory is one")
@pytest.mark.parametrize("own", [True, False])
def test_mounts_below_a_read_only_view_of_control_groups(oci, started, own):
    def change(b):
        if not own:
            b.config["linux"]["namespaces"] = [n for n in b.config["linux"]["namespaces"] if n["type"] != "cgroup"]
    pid = started(CGROUPS, {"destination": "/sys/fs/cgroup/more/deep", "type": "tmpfs", "source": "t"}, change=change)
    table = mounts_of(pid)
    assert "ro" in table["/sys/fs/cgroup"].options and table["/sys/fs/cgroup/more/deep"].type == "tmpfs"
    oci.ok("delete", "--force", started.name)
    pid = started(CGROUPS, {"destination": "/sys/fs/cgroup", "type": "tmpfs", "source": "t"}, change=change)
    assert "rw" in mounts_of(pid)["/sys/fs/cgroup"].options
    oci.ok("delete", "--force", started.name)


@pytest.mark.skipif(not os.path.isdir("/sys/fs/cgroup/unified") and not os.path.exists("/sys/fs/cgroup/cgroup.controllers"), reason="no hierarchy of cgroup v2")
@pytest.mark.parametrize("own", [True, False])
def test_cgroup2_is_the_unified_hierarchy_alone(oci, started, own):
    def change(b):
        if not own:
            b.config["linux"]["namespaces"] = [n for n in b.config["linux"]["namespaces"] if n["type"] != "cgroup"]
    pid = started(dict(CGROUPS, type="cgroup2", destination="/cg"), change=change)
    assert mounts_of(pid)["/cg"].type == "cgroup2" and "ro" in mounts_of(pid)["/cg"].options
    assert read_text("/proc/%d/root/cg/cgroup.procs" % pid).split() != []
    assert os.stat("/proc/%d/root/cg" % pid).st_ino == os.stat(own_group(pid)).st_ino
    oci.ok("delete", "--force", started.name)


def own_group(pid):
    line = next(line for line in read_text("/proc/%d/cgroup" % pid).splitlines() if line.startswith("0::"))
    top = "/sys/fs/cgroup" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "/sys/fs/cgroup/unified"
    return top + line[3:]


# Idmapped mounts.

def owned(tree):
    for place in (tree, tree + "/sub"):
        for owner in (0, 1000):
            path = "%s/of-%d" % (place, owner)
            open(path, "w").close()
            os.chown(path, owner, owner)


MAP = [{"containerID": 0, "hostID": 70000, "size": 5000}]
LOOK = "stat -c %u:%g /m/of-0 /m/of-1000 /m/sub/of-0"


@pytest.mark.parametrize("option, sub", [("idmap", "0:0"), ("ridmap", "70000:70000")])
def test_idmap_with_mappings_of_its_own(oci, bundle, world, mappable, option, sub):
    owned(mappable)
    b = bundle(["sh", "-c", LOOK])
    b.config["root"]["readonly"] = False
    b.config["mounts"].append(bind(mappable, option, uidMappings=MAP, gidMappings=MAP))
    b.save()
    assert oci.ok("run", "--bundle", b.dir, world.name()).split() == ["70000:70000", "71000:71000", sub]
    # What is made through it is the mapped owner's on the host.
    b.config["process"]["args"] = ["sh", "-c", "touch /m/made"]
    b.config["process"]["user"] = {"uid": 70007, "gid": 70007}
    os.chmod(mappable, 0o777)
    os.chmod(world.base, 0o755)
    b.save()
    oci.ok("run", "--bundle", b.dir, world.name())
    assert os.stat(mappable + "/made").st_uid == 7


def test_mappings_without_the_option_count_too(oci, bundle, world, mappable):
    owned(mappable)
    b = bundle(["sh", "-c", LOOK])
    b.config["root"]["readonly"] = False
    b.config["mounts"].append(bind(mappable, uidMappings=MAP, gidMappings=MAP))
    b.save()
    assert oci.ok("run", "--bundle", b.dir, world.name()).split() == ["70000:70000", "71000:71000", "0:0"]


def test_idmap_with_cruns_words(oci, bundle, world, mappable):
    owned(mappable)
    b = bundle(["sh", "-c", LOOK])
    b.config["root"]["readonly"] = False
    b.config["mounts"].append(bind(mappable, "idmap=uids=0-70000-1#1000-50-1;gids=0-60000-2000"))
    b.save()
    assert oci.ok("run", "--bundle", b.dir, world.name()).split() == ["70000:60000", "50:61000", "0:0"]


def test_idmap_in_a_user_namespace(oci, bundle, world, mappable):
    owned(mappable)
    os.chmod(world.base, 0o755)

    def run(option, **more):
        b = bundle(["sh", "-c", LOOK])
        subprocess.run(["chown", "-R", "100000:100000", b.rootfs], check=True)
        b.config["linux"]["namespaces"].append({"type": "user"})
        b.config["linux"]["uidMappings"] = b.config["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        b.config["mounts"].append(bind(mappable, option, **more))
        b.save()
        return oci.ok("run", "--bundle", b.dir, world.name()).split()
    assert run("rw") == ["65534:65534"] * 3
    assert run("idmap") == ["0:0", "1000:1000", "65534:65534"]
    assert run("ridmap") == ["0:0", "1000:1000", "0:0"]
    other = [{"containerID": 0, "hostID": 100500, "size": 2000}]
    assert run("idmap", uidMappings=other, gidMappings=other)[:2] == ["500:500", "1500:1500"]
    assert run("idmap=uids=@0-5-2000;gids=@0-6-2000")[:2] == ["5:6", "1005:1006"]


# File systems of the kernel in a user namespace, labels, the root.

def test_file_systems_in_a_user_namespace(oci, bundle, world):
    os.chmod(world.base, 0o755)
    b = bundle(["sh", "-c", "ls /sys/kernel >/dev/null && ls /proc/self >/dev/null && ls /dev/pts/ptmx && ls /dev/mqueue && ls /sys/fs/cgroup >/dev/null && "
                            "echo x >/dev/null && head -c 1 /dev/zero | wc -c && grep -c ' /dev/mqueue ' /proc/self/mountinfo"])
    subprocess.run(["chown", "-R", "100000:100000", b.rootfs], check=True)
    b.config["linux"]["namespaces"].append({"type": "user"})
    b.config["linux"]["uidMappings"] = b.config["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    b.config["mounts"] += [{"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
                           {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}]
    b.save()
    assert oci.ok("run", "--bundle", b.dir, world.name()).split() == ["/dev/pts/ptmx", "1", "1"]


def test_a_mount_label_that_cannot_be_put_on(oci, bundle, world):
    if os.path.exists("/sys/fs/selinux/enforce"):
        pytest.skip("this host has SELinux")
    b = bundle()
    b.config["linux"]["mountLabel"] = "system_u:object_r:container_file_t:s0:c1,c2"
    b.save()
    oci.fails("create", "--bundle", b.dir, world.name(), status=1, match=["linux.mountLabel", "SELinux"])


@pytest.mark.parametrize("mode, shown", [("", []), ("private", []), ("rprivate", []), ("slave", ["master:"]), ("rslave", ["master:"]),
                                         ("shared", ["shared:"]), ("rshared", ["shared:"]), ("unbindable", ["unbindable"]), ("runbindable", ["unbindable"])])
def test_rootfs_propagation(oci, started, world, mode, shown):
    outer = world.path("outer")
    os.makedirs(outer)
    subprocess.run(["mount", "-t", "tmpfs", "skink-test-keep", outer], check=True)
    subprocess.run(["mount", "--make-shared", outer], check=True)
    try:
        def move_in(b):
            subprocess.run(["cp", "-a", b.rootfs, outer + "/rootfs"], check=True)
            os.makedirs(outer + "/rootfs/later")
            b.config["root"]["path"] = outer + "/rootfs"
            if mode:
                b.config["linux"]["rootfsPropagation"] = mode
        pid = started(change=move_in)
        root = mounts_of(pid)["/"]
        for word in shown:
            assert root.peers(word)
        assert len(root.optional) == len(shown), "nothing else: findmnt shows %s" % root.optional
        # What the host mounts below it is seen by a slave and by nobody private; what the container mounts stays inside.
        subprocess.run(["mount", "-t", "tmpfs", "skink-test-keep", outer + "/rootfs/later"], check=True)
        assert ("/later" in mounts_of(pid)) == (mode in ("slave", "rslave"))
        subprocess.run(["nsenter", "-t", str(pid), "-m", "/bin/mount", "-t", "tmpfs", "inside", "/var/tmp"], check=True)
        assert not [line for line in read_text("/proc/self/mountinfo").splitlines() if " - tmpfs inside " in line]
        oci.ok("delete", "--force", started.name)
    finally:
        subprocess.run(["umount", "-R", "-l", outer], check=True)


@pytest.mark.parametrize("mode", ["rprivate", "rslave"])
def test_a_mounts_own_propagation_holds_whatever_the_roots_is(started, tree, mode):
    subprocess.run(["mount", "--make-rshared", tree], check=True)
    table = mounts_of(started(bind(tree, "rshared"), change=lambda b: b.config["linux"].update(rootfsPropagation=mode)))
    assert table["/m"].peers("shared:") and table["/m/sub"].peers("shared:") and not table["/"].peers("shared:")


def test_an_unknown_root_propagation(oci, bundle, world):
    b = bundle()
    b.config["linux"]["rootfsPropagation"] = "sideways"
    b.save()
    oci.fails("create", "--bundle", b.dir, world.name(), match="linux.rootfsPropagation")


def test_hidden_and_read_only_paths(oci, bundle, world):
    script = ("cat /secret/f 2>&1; ls /secret; cat /file; echo end; ls /secret2 | wc -l; echo x >/locked/f || echo no; echo x >/open/f && echo yes; "
              "echo x >/locked/deep/f || echo no; cat /by-link")
    b = bundle(["sh", "-c", script])
    b.config["root"]["readonly"] = False
    for name in ("secret", "secret2", "locked/deep", "open"):
        os.makedirs(b.rootfs + "/" + name)
    for name in ("secret/f", "secret2/f", "file", "real"):
        with open(b.rootfs + "/" + name, "w") as file:
            file.write("secret text")
    os.symlink("real", b.rootfs + "/by-link")
    b.config["mounts"].append({"destination": "/locked/deep", "type": "tmpfs", "source": "t"})
    b.config["linux"]["maskedPaths"] += ["/secret", "/secret2", "/file", "/not/there", "/by-link", "/file/not/a/directory"]
    b.config["linux"]["readonlyPaths"] += ["/locked", "/not/there/either"]
    b.save()
    result = oci("run", "--bundle", b.dir, world.name())
    assert result.status == 0 and "secret text" not in result.out
    assert result.out.splitlines()[-5:] == ["0", "no", "yes", "no"] or result.out.split()[-5:] == ["end", "0", "no", "yes", "no"], result
    for change, wanted in (({"maskedPaths": ["relative"]}, r"linux.maskedPaths\[0\]"), ({"readonlyPaths": ["../relative"]}, r"linux.readonlyPaths\[0\]")):
        b.config["linux"].update(change)
        b.save()
        oci.fails("create", "--bundle", b.dir, world.name(), match=wanted)
        b.config["linux"].update({"maskedPaths": [], "readonlyPaths": []})


def test_unknown_fields_are_ignored(oci, bundle, world):
    b = bundle(["echo", "ran"])
    b.config["future"] = {"x": 1}
    b.config["mounts"][0]["future"] = [1]
    b.config["linux"]["future"] = "x"
    b.config["linux"]["namespaces"][0]["future"] = None
    b.config["hooks"] = {"futureHook": [{"path": "relative"}]}
    b.save()
    assert oci.ok("run", "--bundle", b.dir, world.name()) == "ran"


def test_directories_made_for_a_target_can_be_entered_by_everybody(sk, world):
    """The supervisor's umask (077) must not show in a writable root, which has no scaffold."""
    out = sk.ok("run", "--rm", "--writable", "-u", "1000", "--tmpfs", "/made/for/it", "busybox", "ls", "-ld", "/made", "/made/for")
    assert [line.split()[0] for line in out.splitlines()] == ["drwxr-xr-x"] * 2, out

# SPDX-License-Identifier: Apache-2.0
"""skink-oci without the host's root: for a plain user, whose configuration has a user namespace, and as root of a user
namespace that somebody else made, as podman calls it. The user is a number that nobody has; /etc is left alone."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from skinktest import Bundle, Program, read_text, status_of, unified_top, wait_for

USER = 54321
FIRST = 20_0000_0000  # of ids that nobody has on this host

# Root of a namespace with a range of ids, made by the host's root: what podman's own helper does for it.
INSIDE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def own(kind, pid, size):
    with open("/proc/%%d/%%s_map" %% (pid, kind), "w") as file: file.write("0 %d %%d" %% size)
go, done = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    libc.unshare(0x10000000) and os._exit(99)
    os.write(go[1], b"x"); os.read(done[0], 1)
    os.setgroups([]); os.setresgid(0, 0, 0); os.setresuid(0, 0, 0)
    libc.unshare(0x00020000) and os._exit(98)
    os.execv(sys.argv[1], sys.argv[1:])
os.read(go[0], 1); own("uid", pid, 65536); own("gid", pid, 65536); os.write(done[1], b"x")
status = os.waitpid(pid, 0)[1]
sys.exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)
""" % FIRST


def copied(oci, world, owner):
    """The program where the user can reach it, with a state directory of the user's."""
    os.chmod(world.base, 0o755)
    home = world.path("home")
    os.makedirs(home + "/run")
    shutil.copy(oci.path, home + "/skink-oci")
    for path in (home, home + "/run"):
        os.chown(path, owner, owner)
    return Program(world, home + "/skink-oci", ["--root", home + "/run/oci"])


def give(b, owner):
    subprocess.run(["chown", "-R", "-h", "%d:%d" % (owner, owner), b.save().dir], check=True)
    return b


class User:
    """A plain user with skink-oci; `before` is in front of each call."""

    def __init__(self, oci, world, before, owner):
        self.world, self.program, self.before, self.owner = world, copied(oci, world, owner), before, owner

    def __call__(self, *args, **more):
        return self.program(*args, before=self.before, **more)

    def ok(self, *args, **more):
        return self.program.ok(*args, before=self.before, **more)

    def fails(self, *args, **more):
        return self.program.fails(*args, before=self.before, **more)

    def bundle(self, *args, mappings=None, **process):
        b = Bundle(self.world, *args, **process)
        if mappings is not None:
            b.config["linux"]["namespaces"].append({"type": "user"})
            b.config["linux"]["uidMappings"] = b.config["linux"]["gidMappings"] = [
                {"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in mappings]
        return give(b, self.owner)


@pytest.fixture
def plain(oci, world):
    return User(oci, world, ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups"], USER)


@pytest.fixture
def inside(oci, world):
    return User(oci, world, [sys.executable, "-c", INSIDE], FIRST)


OWN = [(0, USER, 1)]
SLEEP = ["sleep", "1000"]


def test_a_plain_user_runs_a_container(plain, world):
    b = plain.bundle(["sh", "-c", "id -u; id -g; cat /proc/self/uid_map /proc/self/setgroups; exit 7"], mappings=OWN)
    result = plain("run", "--bundle", b.dir, world.name())
    assert result.status == 7, result
    assert result.out.split() == ["0", "0", "0", str(USER), "1", "deny"]


def test_the_whole_life_of_a_plain_users_container(plain, world):
    b, name = plain.bundle(SLEEP, mappings=OWN), world.name()
    plain.ok("create", "--bundle", b.dir, name)
    state = json.loads(plain.ok("state", name))
    pid = state["pid"]
    assert state["status"] == "created" and status_of(pid)["Uid"].split() == [str(USER)] * 4
    plain.ok("start", name)
    assert json.loads(plain.ok("state", name))["status"] == "running"
    assert os.readlink("/proc/%d/ns/user" % pid) != os.readlink("/proc/self/ns/user")
    # The host's own nodes: none can be made there.
    for device in ("null", "zero", "full", "random", "urandom", "tty"):
        assert os.stat("/proc/%d/root/dev/%s" % (pid, device)).st_ino == os.stat("/dev/" + device).st_ino
    plain.ok("kill", name, "KILL")
    wait_for(lambda: json.loads(plain.ok("state", name))["status"] == "stopped")
    plain.ok("delete", name)
    plain.fails("state", name, match="does not exist")


def test_a_plain_user_executes_more(plain, world):
    b, name = plain.bundle(SLEEP, mappings=OWN), world.name()
    plain.ok("create", "--bundle", b.dir, name)
    plain.ok("start", name)
    result = plain("exec", name, "sh", "-c", "id -u; cat /proc/1/comm")
    assert (result.status, result.out.split()[0]) == (0, "0"), result
    plain.ok("delete", "--force", name)


def test_a_terminal_of_a_plain_user(plain, world):
    b = plain.bundle(["probe", "terminals"], mappings=OWN, terminal=True)
    assert "0: /dev/pts/0" in plain.ok("run", "--bundle", b.dir, world.name())


def test_what_spec_writes_for_a_plain_user_runs(plain, world):
    b = plain.bundle()
    os.unlink(b.dir + "/config.json")
    plain.ok("spec", "--rootless", "--bundle", b.dir)
    with open(b.dir + "/config.json") as file:
        b.config = json.load(file)
    b.config["process"].update(terminal=False, args=["sh", "-c", "id -u; cat /proc/self/uid_map"])
    assert plain.ok("run", "--bundle", give(b, USER).dir, world.name()).split() == ["0", "0", str(USER), "1"]


def test_what_a_plain_user_cannot_have(plain, world):
    name = world.name()
    plain.fails("run", "--bundle", plain.bundle().dir, name, match=["linux.namespaces", "user namespace"])
    plain.fails("run", "--bundle", plain.bundle(mappings=[(0, 0, 1)]).dir, name, match=["linux.uidMappings"])
    groups = plain.bundle(mappings=OWN, user={"uid": 0, "gid": 0, "additionalGids": [0]})
    plain.fails("run", "--bundle", groups.dir, name, match=[r"process\.user\.additionalGids", "setgroups"])
    lowered = plain.bundle(mappings=OWN, oomScoreAdj=-500)
    plain.fails("run", "--bundle", lowered.dir, name, match=[r"process\.oomScoreAdj"])
    device = plain.bundle(mappings=OWN)
    device.config["linux"]["devices"] = [{"path": "/dev/null", "type": "c", "major": 1, "minor": 5}]
    plain.fails("run", "--bundle", give(device, USER).dir, name, match=[r"linux\.devices", "/dev/null", "1:3"])
    limited = plain.bundle(mappings=OWN)
    limited.config["linux"]["resources"] = {"memory": {"limit": 64 << 20}}
    plain.fails("run", "--bundle", give(limited, USER).dir, name, match=[r"linux\.resources\.memory", "delegated"])
    plain.fails("state", name, match="does not exist")


def test_the_oom_score_of_a_plain_users_container(plain, world):
    b = plain.bundle(["cat", "/proc/self/oom_score_adj"], mappings=OWN, oomScoreAdj=321)
    assert plain.ok("run", "--bundle", b.dir, world.name()) == "321"


def test_a_plain_users_fifo_and_device(plain, world):
    b = plain.bundle(["sh", "-c", "test -p /dev/pipe && test -c /dev/fullish || test -c /dev/full && echo there"], mappings=OWN)
    b.config["linux"]["devices"] = [{"path": "/dev/pipe", "type": "p", "fileMode": 0o666}]
    assert plain.ok("run", "--bundle", give(b, USER).dir, world.name()) == "there"


# newuidmap

def with_subids(world, plain, lines):
    """/etc/passwd, /etc/subuid and /etc/subgid of a mount namespace of our own."""
    files = {"/etc/passwd": read_text("/etc/passwd") + "skinkuser:x:%d:%d::/:/bin/sh\n" % (USER, USER),
             "/etc/subuid": lines, "/etc/subgid": lines}
    script = ""
    for path, text in files.items():
        script += "mount --bind %s %s; " % (world.write(os.path.basename(path), text), path)
        if not os.path.exists(path):
            pytest.skip("no %s on this host" % path)
    return ["unshare", "-m", "--propagation", "private", "sh", "-ec", script + 'exec "$@"', "x"] + plain.before


def test_hooks_of_a_plain_user(plain, world):
    """Those of create have the container's user namespace, in which the user is root; those of start and delete are the user's."""
    said, kinds = world.path("home/said"), ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    os.makedirs(said)
    b, name = plain.bundle(SLEEP, mappings=[(0, USER, 1)]), world.name()
    b.config["mounts"].append({"destination": "/said", "type": "bind", "source": said, "options": ["rbind"]})
    look = "cat >%s; id -u >%s; cat /proc/self/uid_map >%s; readlink /proc/self/ns/user >%s; readlink /proc/self/ns/mnt >%s"
    b.config["hooks"] = {}
    for kind in kinds:
        os.makedirs(os.path.join(said, kind))
        at = os.path.join("/said" if kind == "startContainer" else said, kind)
        files = tuple(os.path.join(at, word) for word in ("state", "uid", "map", "user", "mnt"))
        b.config["hooks"][kind] = [{"path": "/bin/sh", "args": ["sh", "-c", look % files], "env": ["PATH=/bin:/usr/bin"]}]
    give(b, USER)
    subprocess.run(["chown", "-R", str(USER), said], check=True)
    plain.ok("create", "--bundle", b.dir, name)
    pid = json.loads(plain.ok("state", name))["pid"]
    user, mounts = (os.readlink("/proc/%d/ns/%s" % (pid, kind)) for kind in ("user", "mnt"))
    plain.ok("start", name)
    plain.ok("kill", name, "KILL")
    wait_for(lambda: json.loads(plain.ok("state", name))["status"] == "stopped")
    plain.ok("delete", name)

    def see(kind, what):
        return read_text(os.path.join(said, kind, what)).strip()
    for kind in kinds:
        inside = kind not in ("poststart", "poststop")
        assert json.loads(see(kind, "state"))["id"] == name, kind
        assert see(kind, "uid") == ("0" if inside else str(USER)), kind
        assert see(kind, "user") == (user if inside else os.readlink("/proc/self/ns/user")), kind
        assert see(kind, "map").split() == (["0", str(USER), "1"] if inside else ["0", "0", "4294967295"]), kind
        assert (see(kind, "mnt") == mounts) == (kind in ("createContainer", "startContainer")), kind
        assert os.stat(os.path.join(said, kind, "uid")).st_uid == USER


def test_ids_of_others_by_newuidmap(plain, world):
    if not os.path.exists("/usr/bin/newuidmap"):
        pytest.skip("newuidmap is not installed")
    before = list(plain.before)
    plain.before = with_subids(world, plain, "skinkuser:%d:65536\n" % FIRST)
    mappings = [(0, USER, 1), (1, FIRST, 65535)]
    # A newuidmap in the caller's PATH is not the one that is executed (A84).
    trap, token = world.path("bin"), world.path("token")
    os.makedirs(trap)
    for tool in ("newuidmap", "newgidmap"):
        with open(os.path.join(trap, tool), "w") as file:
            file.write("#!/bin/sh\ntouch %s\n" % token)
        os.chmod(os.path.join(trap, tool), 0o755)
    b = plain.bundle(["sh", "-c", "id -u; id -G; cat /proc/self/uid_map"], mappings=mappings,
                     user={"uid": 1000, "gid": 1000, "additionalGids": [4, 5]})
    out = plain.ok("run", "--bundle", b.dir, world.name(), env={"PATH": trap + ":/bin:/usr/bin"}).split()
    assert out[:4] == ["1000", "1000", "4", "5"] and out[4:] == ["0", str(USER), "1", "1", str(FIRST), "65535"]
    assert not os.path.exists(token)
    plain.fails("run", "--bundle", plain.bundle(mappings=[(0, FIRST + 70000, 1)]).dir, world.name(), match=["linux.uidMappings", "subuid"])
    plain.before = before


# as podman calls it

def test_inside_a_user_namespace(inside, world):
    b = inside.bundle(["sh", "-c", "id -G; cat /proc/self/uid_map; echo out"], user={"uid": 7, "gid": 8, "additionalGids": [9]})
    out = inside.ok("run", "--bundle", b.dir, world.name()).split()
    assert out[:2] == ["8", "9"] and out[2:] == ["0", str(FIRST), "65536", "out"]


def test_a_network_namespace_too_many(inside, world):
    # The limit of the user namespace that we are root of.
    inside.before += ["/bin/sh", "-c", 'echo 0 >/proc/sys/user/max_net_namespaces; exec "$@"', "x"]
    name = world.name()
    inside.fails("run", "--bundle", inside.bundle(SLEEP).dir, name, match=["network namespace", "No space left", "max_net_namespaces"])
    inside.fails("state", name, match="not exist")


def test_the_whole_life_inside_a_user_namespace(inside, world):
    # Each call is in a namespace of its own here, so root's processes are the ones that it may signal.
    b, name = inside.bundle(SLEEP, oomScoreAdj=100), world.name()
    inside.ok("--log", world.path("home/log"), "create", "--bundle", b.dir, name)
    pid = json.loads(inside.ok("state", name))["pid"]
    inside.ok("start", name)
    assert status_of(pid)["Uid"].split() == [str(FIRST)] * 4
    assert read_text("/proc/%d/oom_score_adj" % pid).strip() == "100"
    assert os.stat("/proc/%d/root/dev/null" % pid).st_ino == os.stat("/dev/null").st_ino
    inside.ok("kill", name, "KILL")
    wait_for(lambda: json.loads(inside.ok("state", name))["status"] == "stopped")
    inside.ok("delete", name)


def test_groups_that_cannot_be_made_are_done_without_unless_limits_need_them(inside, world):
    b = inside.bundle(["echo", "in"])
    b.config["linux"]["cgroupsPath"] = "/skink-test-" + world.id
    b.config["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    assert inside.ok("run", "--bundle", give(b, FIRST).dir, world.name()) == "in"
    b.config["linux"]["resources"]["pids"] = {"limit": 50}
    inside.fails("run", "--bundle", give(b, FIRST).dir, world.name(), match=r"linux\.resources\.pids")
    del b.config["linux"]["cgroupsPath"], b.config["linux"]["resources"]["pids"]
    assert inside.ok("--cgroup-manager", "disabled", "run", "--bundle", give(b, FIRST).dir, world.name()) == "in"


def test_groups_that_were_given_to_the_user_are_used(inside, world):
    """On cgroup v2 alone, a group that belongs to the user and has the controllers switched on."""
    top = unified_top()
    group = "%s/skink-test-%s" % (top, world.id)
    with open(top + "/cgroup.subtree_control", "w") as file:
        file.write("+hugetlb")
    os.makedirs(group + "/session")
    with open(group + "/cgroup.subtree_control", "w") as file:
        file.write("+hugetlb")
    try:
        for directory in (group, group + "/session"):
            os.chown(directory, FIRST, FIRST)
            for name in ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
                os.chown(os.path.join(directory, name), FIRST, FIRST)
        inside.before = ["unshare", "-m", "--propagation", "private", "sh", "-ec", 'mount -t cgroup2 none /sys/fs/cgroup; '
                         'echo $$ >/sys/fs/cgroup/skink-test-%s/session/cgroup.procs; exec "$@"' % world.id, "x"] + inside.before
        b, name = inside.bundle(SLEEP), world.name()
        b.config["linux"]["resources"] = {"hugepageLimits": [{"pageSize": "2MB", "limit": 8 << 20}]}
        inside.ok("create", "--bundle", give(b, FIRST).dir, name)
        pid = json.loads(inside.ok("state", name))["pid"]
        assert "0::/skink-test-%s/skink-%s" % (world.id, name) in read_text("/proc/%d/cgroup" % pid).splitlines()
        assert read_text("%s/skink-%s/hugetlb.2MB.max" % (group, name)).strip() == str(8 << 20)
        inside.ok("delete", "--force", name)
        assert not os.path.exists("%s/skink-%s" % (group, name))
    finally:
        for directory in (group + "/session", group):
            wait_for(lambda: not read_text(directory + "/cgroup.procs", "").split())
            os.rmdir(directory)


def test_a_user_namespace_inside_a_user_namespace(inside, world):
    b = inside.bundle(["cat", "/proc/self/uid_map"], mappings=[(0, 1000, 1000)])
    subprocess.run(["chown", "-R", "-h", "%d:%d" % (FIRST + 1000, FIRST + 1000), b.rootfs], check=True)
    assert inside.ok("run", "--bundle", b.dir, world.name()).split() == ["0", "1000", "1000"]


def test_groups_of_the_caller_can_be_kept(inside, world):
    b = inside.bundle(["id", "-G"])
    b.config["annotations"] = {"run.oci.keep_original_groups": "1"}
    assert inside.ok("run", "--bundle", give(b, FIRST).dir, world.name()) == "0"

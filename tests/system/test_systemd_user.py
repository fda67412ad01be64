# SPDX-License-Identifier: Apache-2.0
"""skink-oci --systemd-cgroup for a plain user, with the systemd of the user's session: directly, and as root of a user
namespace of the user's, as podman calls it. In the virtual machine only, whose /etc may be written."""

import fcntl
import json
import os
import subprocess

import pytest
from skinktest import listdir, read_text, systemd_held, wait_for
from test_rootless import OWN, USER, User

pytestmark = [pytest.mark.vm_only, pytest.mark.timeout(300)]
NAME, RUNTIME = "skinkuser", "/run/user/%d" % USER
MANAGER = "/user.slice/user-%d.slice/user@%d.service" % (USER, USER)
MIB = 1 << 20
BECOME = ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups"]
# In a scope of the user's manager, where podman's own processes are.
WITHIN = ["systemd-run", "--user", "--scope", "--quiet", "--collect"]
ENVIRONMENT = {"XDG_RUNTIME_DIR": RUNTIME, "DBUS_SESSION_BUS_ADDRESS": "unix:path=%s/bus" % RUNTIME}


def ask(*words, check=True):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert not check or done.returncode == 0, done
    return done.stdout


@pytest.fixture(scope="module")
def session():
    """An account whose manager runs without a login."""
    for path, line in (("/etc/passwd", "%s:x:%d:%d::/:/bin/sh\n" % (NAME, USER, USER)), ("/etc/group", "%s:x:%d:\n" % (NAME, USER)),
                       ("/etc/shadow", "%s:*:19000:0:99999:7:::\n" % NAME)):
        with open(path, "a") as file:
            file.write(line)
    ask("loginctl", "enable-linger", NAME)
    wait_for(lambda: os.path.exists(RUNTIME + "/systemd/private") and os.path.exists(RUNTIME + "/bus"), 60)
    yield
    ask("loginctl", "disable-linger", NAME)


def user_systemctl(*words):
    return ask(*BECOME, "env", "XDG_RUNTIME_DIR=" + RUNTIME, "systemctl", "--user", "--no-pager", *words)


def units(world):
    lines = user_systemctl("list-units", "--all", "--plain", "--no-legend", "*%s*" % world.id).split("\n")
    return [line.split()[0] for line in lines if line.strip()]


@pytest.fixture
def namespace():
    """A user namespace with one process that keeps it, as podman has one; how to get into it."""
    keeper = subprocess.Popen(BECOME + ["unshare", "--user", "--mount", "--map-root-user", "sh", "-c", "echo; exec sleep 1000"],
                              stdout=subprocess.PIPE)
    assert keeper.stdout.readline() == b"\n"
    yield ["nsenter", "--target", str(keeper.pid), "--user", "--mount", "--preserve-credentials"]
    keeper.kill()
    keeper.wait()


@pytest.fixture(params=["direct", pytest.param("direct-within", marks=pytest.mark.vm_more), pytest.param("namespace", marks=pytest.mark.vm_more),
                        "namespace-within"])
def user(request, session, namespace, oci, world):
    before = BECOME + (WITHIN if "within" in request.param else []) + (namespace if "namespace" in request.param else [])
    one = User(oci, world, before, USER)
    one.namespace = "namespace" in request.param
    plain = world.environment
    world.environment = lambda more=None: dict(plain(ENVIRONMENT), **(more or {}))
    # The user's manager needs the host's to move processes, and systemd-run says nothing when that is away.
    with systemd_held(fcntl.LOCK_SH):
        yield one
        for name in listdir(one.world.path("home/run/oci")):
            if not name.startswith("."):
                one.ok("delete", "--force", name)
    wait_for(lambda: not units(world), 10, message="units are left: %s" % units(world))


def prepared(user, resources=None, path=None):
    b = user.bundle(["sleep", "1000"], mappings=None if user.namespace else OWN)
    name = user.world.name()
    b.config["linux"]["cgroupsPath"] = "user.slice:skinktest:" + name if path is None else path
    b.config["linux"]["resources"] = resources or {}
    b.save()
    return b, name


def running(user, name, b):
    user.ok("--systemd-cgroup", "create", "--bundle", b.dir, name)
    user.ok("start", name)
    pid = json.loads(user.ok("state", name))["pid"]
    return pid, read_text("/proc/%d/cgroup" % pid).split("0::")[1].strip()


def test_the_life_of_a_container(user, world):
    b, name = prepared(user, {"memory": {"limit": 64 * MIB}, "pids": {"limit": 20}})
    pid, group = running(user, name, b)
    unit = "skinktest-%s.scope" % name
    assert group == "%s/user.slice/%s" % (MANAGER, unit)
    said = user_systemctl("show", unit, "-p", "MemoryMax", "-p", "TasksMax", "-p", "Delegate")
    assert sorted(said.split()) == ["Delegate=yes", "MemoryMax=%d" % (64 * MIB), "TasksMax=20"]
    top = "/sys/fs/cgroup" + group
    assert read_text(top + "/memory.max").strip() == str(64 * MIB) and read_text(top + "/pids.max").strip() == "20"
    assert read_text(top + "/cgroup.procs").split() == [str(pid)]
    user_systemctl("daemon-reload")
    assert read_text(top + "/memory.max").strip() == str(64 * MIB)
    user.ok("update", "--pids-limit", 21, name)
    assert read_text(top + "/pids.max").strip() == "21"
    assert user_systemctl("show", unit, "-p", "TasksMax").strip() == "TasksMax=21"
    assert user.ok("exec", name, "cat", "/proc/self/cgroup").strip() == "0::/"
    user.ok("pause", name)
    assert json.loads(user.ok("state", name))["status"] == "paused"
    user.ok("resume", name)
    user.ok("kill", name, "KILL")
    wait_for(lambda: json.loads(user.ok("state", name))["status"] == "stopped")
    user.ok("delete", name)
    assert not os.path.exists(top)


def test_the_defaults(user, world):
    """user.slice of the user's manager; the directory by the user's number, also from within the namespace."""
    b, name = prepared(user, path="")
    nothing = {"DBUS_SESSION_BUS_ADDRESS": "", "XDG_RUNTIME_DIR": RUNTIME}
    user.ok("--systemd-cgroup", "create", "--bundle", b.dir, name, env=nothing)
    pid = json.loads(user.ok("state", name))["pid"]
    assert read_text("/proc/%d/cgroup" % pid).strip() == "0::%s/user.slice/skink-%s.scope" % (MANAGER, name)
    user.ok("delete", "--force", name, env=nothing)


def test_without_the_environment(user, world):
    """The directory is that of the user as the host knows it, also for root of a namespace."""
    b, name = prepared(user)
    nothing = {"DBUS_SESSION_BUS_ADDRESS": "", "XDG_RUNTIME_DIR": ""}
    if "systemd-run" in user.before:
        pytest.skip("systemd-run itself needs it")
    user.ok("--systemd-cgroup", "create", "--bundle", b.dir, name, env=nothing)
    pid = json.loads(user.ok("state", name))["pid"]
    assert MANAGER in read_text("/proc/%d/cgroup" % pid)
    user.ok("delete", "--force", name, env=nothing)
    assert units(world) == []


def test_a_host_without_a_session_bus(user, world):
    """The manager's own socket answers."""
    b, name = prepared(user, {"pids": {"limit": 20}})
    nowhere = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent"}
    user.ok("--systemd-cgroup", "create", "--bundle", b.dir, name, env=nowhere)
    user.ok("update", "--pids-limit", 21, name, env=nowhere)
    user.ok("delete", "--force", name, env=nowhere)


def test_limits_that_are_not_delegated(user, world):
    b, name = prepared(user, {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]})
    user.fails("--systemd-cgroup", "create", "--bundle", b.dir, name, match="hugepageLimits|hugetlb")
    assert units(world) == []


def test_a_user_without_a_session(oci, world):
    other = User(oci, world, ["setpriv", "--reuid", "54399", "--regid", "54399", "--clear-groups"], 54399)
    b = other.bundle(["true"], mappings=[(0, 54399, 1)])
    b.config["linux"]["cgroupsPath"] = "user.slice:skinktest:" + world.id
    b.save()
    other.fails("--systemd-cgroup", "create", "--bundle", b.dir, world.name(), match=["user's session", "/run/user/54399/bus", "enable-linger", "XDG_RUNTIME_DIR"])

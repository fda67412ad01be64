# SPDX-License-Identifier: Apache-2.0
"""skink-oci exec: the namespaces, control groups and CPUs of its process."""

import json
import os
import re
import signal

import pytest
from skinktest import alive, cgroup_dir, read_text, status_of, unified_top, wait_for

from test_oci_exec import document, running, state  # noqa: F401


# Namespaces and control groups.

IDS = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def with_user_namespace(config):
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = IDS


@pytest.fixture
def reachable(world):
    os.chmod(world.base, 0o755)


def test_a_user_namespace(oci, running, world, reachable):
    name = running(with_user_namespace)
    script = "id -u; id -g; cat /proc/self/uid_map; touch /tmp/x; stat -c %u /tmp/x; grep -E 'CapEff|Groups' /proc/self/status"
    out = oci.ok("exec", name, "sh", "-c", script).split("\n")
    init = status_of(state(oci, name)["pid"])
    assert out[:2] == ["0", "0"] and out[2].split() == ["0", "100000", "65536"] and out[3] == "0"
    assert sorted(line.split()[1:] for line in out[4:]) == sorted([[], [init["CapEff"]]])
    assert oci.ok("exec", "-u", "1000:1000", name, "id", "-u") == "1000"
    # The terminal belongs to the user inside.
    assert oci.ok("exec", "-t", "-u", "1000:1000", name, "sh", "-c", "stat -c %u $(busybox tty)") == "1000"
    assert oci.fails("exec", "-u", "70000", name, "true", status=255, match="process.user.uid")


def test_a_user_namespace_that_was_joined(oci, running, world, reachable):
    """As in a pod: the second container gets the first one's namespaces by path."""
    pid = state(oci, running(with_user_namespace))["pid"]

    def join(config):
        for space in config["linux"]["namespaces"]:
            if space["type"] in ("network", "ipc", "uts"):
                space["path"] = "/proc/%d/ns/%s" % (pid, {"network": "net"}.get(space["type"], space["type"]))
        config["linux"]["namespaces"].append({"type": "user", "path": "/proc/%d/ns/user" % pid})
        config.pop("hostname")
    second = running(join)
    assert os.readlink("/proc/%d/ns/user" % state(oci, second)["pid"]) == os.readlink("/proc/%d/ns/user" % pid)
    assert oci.ok("exec", second, "sh", "-c", "id -u; cat /proc/self/uid_map").split() == ["0", "0", "100000", "65536"]
    assert status_of(state(oci, second)["pid"])["Uid"].split() == ["100000"] * 4


def test_a_shared_process_namespace(oci, running):
    def share(config):
        config["linux"]["namespaces"] = [one for one in config["linux"]["namespaces"] if one["type"] != "pid"]
    name = running(share)
    assert oci.ok("exec", name, "readlink", "/proc/self/ns/pid") == os.readlink("/proc/self/ns/pid")
    process = oci.start("exec", name, "sleep", "1000")
    directory, _ = cgroup_dir(state(oci, name)["pid"], "pids")

    def both_run():
        pids = read_text(directory + "/cgroup.procs").split()
        return len(pids) == 2 and all(read_text("/proc/%s/comm" % pid, "").strip() == "sleep" for pid in pids)
    wait_for(both_run)
    oci.ok("delete", "--force", name)
    assert process.wait(60) == 137


def test_a_process_namespace_that_was_joined(oci, running):
    first = running()
    pid = state(oci, first)["pid"]

    def join(config):
        for space in config["linux"]["namespaces"]:
            if space["type"] == "pid":
                space["path"] = "/proc/%d/ns/pid" % pid
    second = running(join)
    assert oci.ok("exec", second, "readlink", "/proc/self/ns/pid") == os.readlink("/proc/%d/ns/pid" % pid)


def test_a_time_namespace(oci, running):
    def offset(config):
        config["linux"]["namespaces"].append({"type": "time"})
        config["linux"]["timeOffsets"] = {"boottime": {"secs": 7000000, "nanosecs": 0}}
    name = running(offset)
    assert oci.ok("exec", name, "readlink", "/proc/self/ns/time") == os.readlink("/proc/%d/ns/time" % state(oci, name)["pid"])
    assert float(oci.ok("exec", name, "cat", "/proc/uptime").split()[0]) > 7000000


V2 = ["unshare", "-m", "--propagation", "private", "sh", "-c",
      "umount -R /sys/fs/cgroup 2>/dev/null; mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"", "sh"]


@pytest.fixture
def paused_v2(oci, bundle, world):
    """A paused container of a host with nothing but cgroup v2, and its group."""
    top = unified_top()
    b, name, group = bundle(["sleep", "1000"]), world.name(), "/skink-test-%s" % world.id
    b.config["linux"]["cgroupsPath"] = group
    b.save()
    with open(os.devnull, "wb") as sink:
        assert oci("run", "-d", "--bundle", b.dir, name, before=V2, stdout=sink, stderr=sink).status == 0
    oci.ok("pause", name, before=V2)
    assert json.loads(oci.ok("state", name, before=V2))["status"] == "paused"
    assert read_text(top + group + "/cgroup.freeze") == "1\n"
    yield name, top + group
    oci("delete", "--force", name, before=V2)


def waiting(oci, group, *words):
    """An exec that is in the group and waits; as with runc it is as frozen as all the others there."""
    process = oci.start("exec", "--ignore-paused", *words, before=V2)
    wait_for(lambda: len(read_text(group + "/cgroup.procs").split()) == 2)
    assert process.poll() is None
    return process


def test_a_paused_container_of_cgroup_v2(oci, paused_v2):
    name, group = paused_v2
    oci.fails("exec", name, "true", before=V2, status=255, match="cannot exec in a paused container")
    process = waiting(oci, group, name, "sh", "-c", "cat /proc/self/cgroup; exit 7")
    # Nothing of it holds anybody up.
    assert json.loads(oci.ok("state", name, before=V2))["status"] == "paused"
    oci.ok("resume", name, before=V2)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 7 and out.endswith(b"0::/\n") and err == b""


def test_a_detached_exec_in_a_paused_container_of_cgroup_v2(oci, world, paused_v2):
    name, group = paused_v2
    pid_file = world.path("pid")
    process = waiting(oci, group, "--detach", "--pid-file", pid_file, name, "sleep", "1000")
    assert not os.path.exists(pid_file)
    oci.ok("resume", name, before=V2)
    assert process.wait(timeout=60) == 0
    assert read_text("/proc/%s/comm" % read_text(pid_file)) == "sleep\n"


def test_an_exec_that_waits_ends_with_the_container(oci, paused_v2):
    name, group = paused_v2
    process = waiting(oci, group, name, "true")
    assert oci("delete", "--force", name, before=V2).status == 0
    out, err = process.communicate(timeout=60)
    assert process.returncode == 255 and out == b"" and len(err.splitlines()) == 1


def test_an_exec_that_waits_can_be_killed(oci, world, paused_v2):
    """What it has begun does not run when the container goes on."""
    name, group = paused_v2
    process = waiting(oci, group, name, "touch", "/tmp/ran")
    children = [int(pid) for pid in read_text(group + "/cgroup.procs").split()]
    # The program itself, not the shell before it.
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    oci.ok("resume", name, before=V2)
    wait_for(lambda: len(read_text(group + "/cgroup.procs").split()) == 1)
    assert sum(alive(pid) for pid in children) == 1
    oci.fails("exec", name, "cat", "/tmp/ran", before=V2)


def test_init_in_a_group_below_its_own(oci, bundle, world):
    """cgroup v2: what systemd and nested engines do. Nobody may join a group that gives controllers to groups below."""
    top = unified_top()
    controllers = [one for one in read_text(top + "/cgroup.controllers").split() if one not in ("cpu", "cpuset", "pids", "perf_event")]
    if not controllers:
        pytest.skip("no domain controller in the unified hierarchy")
    b, name, group = bundle(["sleep", "1000"]), world.name(), "/skink-test-%s" % world.id
    b.config["linux"]["cgroupsPath"] = group
    b.config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw", "nosuid", "nodev", "noexec"]})
    b.save()
    with open(os.devnull, "wb") as sink:
        assert oci("run", "-d", "--bundle", b.dir, name, before=V2, stdout=sink, stderr=sink).status == 0

    def run(*words):
        return oci.ok("exec", *words, before=V2)
    assert run(name, "sh", "-c", "mkdir /sys/fs/cgroup/foo && echo 1 >/sys/fs/cgroup/foo/cgroup.procs; cat /proc/1/cgroup").endswith("0::/foo")
    # Still open to processes, so that is where one is put.
    assert run(name, "cat", "/proc/self/cgroup").endswith("0::/")
    run(name, "sh", "-c", "echo $$ >/sys/fs/cgroup/foo/cgroup.procs; echo +%s >/sys/fs/cgroup/cgroup.subtree_control" % controllers[0])
    assert run(name, "cat", "/proc/self/cgroup").endswith("0::/foo")
    assert run("--cgroup", "foo", name, "cat", "/proc/self/cgroup").endswith("0::/foo")
    oci.fails("exec", "--cgroup", "/", name, "true", before=V2, status=255, match="busy")
    run(name, "mkdir", "/sys/fs/cgroup/second")
    assert run("--cgroup", "/second", name, "cat", "/proc/self/cgroup").endswith("0::/second")
    oci.fails("exec", "--cgroup", "..", name, "true", before=V2, status=255, match="bad sub cgroup path")
    oci.fails("exec", "--cgroup", "none", name, "true", before=V2, status=255, match="adding pid to cgroup.*no such file")
    assert oci("delete", "--force", name, before=V2).status == 0


def test_groups_of_single_controllers(oci, running, world):
    name = running()
    pid = state(oci, name)["pid"]
    memory, version = cgroup_dir(pid, "memory")
    pids, other = cgroup_dir(pid, "pids")
    if (version, other) != (1, 1):
        pytest.skip("not cgroup v1")
    os.mkdir(memory + "/submem")
    os.mkdir(pids + "/subpid")
    out = oci.ok("exec", "--cgroup", "memory:submem", "--cgroup", "pids:/subpid", name, "sleep", "0")
    process = oci.start("exec", "--cgroup", "memory:submem", "--cgroup", "pids:/subpid", name, "sleep", "1000")
    wait_for(lambda: read_text(memory + "/submem/cgroup.procs").split())
    wait_for(lambda: read_text(pids + "/subpid/cgroup.procs").split())
    assert out == "" and process.poll() is None
    for words, text in ((["whaaat:/"], "unknown controller"), (["nonexistent"], "adding pid to cgroup.*no such file"), ([".."], "bad sub cgroup path"),
                        (["memory:../x"], "bad sub cgroup path"), (["a", "b"], "controller"), ([",memory:x"], "empty")):
        options = [one for word in words for one in ("--cgroup", word)]
        oci.fails("exec", *options, name, "true", status=255, match=text)
    oci.ok("exec", "--cgroup", "/", name, "true")
    oci.ok("delete", "--force", name)
    assert process.wait(60) == 137


def test_f29_a_group_that_was_removed_and_an_init_that_was_moved(oci, running, world):
    """exec follows init to where somebody moved it, and does not run without groups."""
    name = running()
    pid = state(oci, name)["pid"]
    directory, version = cgroup_dir(pid, "memory")
    if version != 1:
        pytest.skip("not cgroup v1")
    elsewhere = os.path.join(os.path.dirname(directory), "skink-test-moved-" + world.id)
    os.mkdir(elsewhere)
    with open(elsewhere + "/cgroup.procs", "w") as procs:
        procs.write(str(pid))
    os.rmdir(directory)
    lines = [line for line in oci.ok("exec", name, "sleep", "0").splitlines()]
    process = oci.start("exec", name, "sleep", "1000")
    wait_for(lambda: [read_text("/proc/%s/comm" % one, "") for one in read_text(elsewhere + "/cgroup.procs").split()] == ["sleep\n"] * 2)
    assert lines == []
    oci.ok("delete", "--force", name)
    assert process.wait(60) == 137
    wait_for(lambda: not read_text(elsewhere + "/cgroup.procs").split())
    os.rmdir(elsewhere)


# CPUs.

def cpus():
    text = re.search(r"Cpus_allowed_list:\s+(\S+)", read_text("/proc/self/status")).group(1)
    found = []
    for piece in text.split(","):
        first, _, last = piece.partition("-")
        found += range(int(first), int(last or first) + 1)
    if len(found) < 2:
        pytest.skip("one CPU")
    return found


ALLOWED = ["grep", "-F", "Cpus_allowed_list:", "/proc/self/status"]


def allowed(out):
    return re.search(r"Cpus_allowed_list:\s+(\S+)", out).group(1)


def test_cpus_of_a_document(oci, running, world):
    first, second = cpus()[:2]
    name = running()

    def run(**affinity):
        return allowed(oci.ok("exec", "--process", document(world, args=ALLOWED, cwd="/", execCPUAffinity=affinity), name))
    assert run(initial=str(first), final=str(second)) == str(second)
    assert run(final=str(first)) == str(first)
    # Nothing changes it after the initial one; what stays is the kernel's.
    assert run(initial=str(second)) == str(second)
    for affinity, path in (({"initial": "4000"}, "execCPUAffinity.initial"), ({"final": "4000"}, "execCPUAffinity.final"), ({"final": "x"}, "execCPUAffinity.final")):
        oci.fails("exec", "--process", document(world, args=["true"], cwd="/", execCPUAffinity=affinity), name, status=255, match=path)


def test_cpus_of_the_configuration(oci, running):
    """They are for exec, not for the container's init (config.md)."""
    first, second = cpus()[:2]
    name = running(lambda config: config["process"].update(execCPUAffinity={"initial": str(first), "final": str(second)}))
    assert allowed(oci.ok("exec", name, *ALLOWED)) == str(second)
    assert allowed(read_text("/proc/%d/status" % state(oci, name)["pid"])) == allowed(read_text("/proc/self/status"))


def test_cpus_are_not_those_of_the_caller(oci, running, bundle, world):
    one = str(cpus()[0])
    name = running()
    everything = allowed(read_text("/proc/self/status"))
    assert allowed(oci.ok("exec", name, *ALLOWED, before=["taskset", "-c", one])) == everything
    assert allowed(oci.ok("run", "--bundle", bundle(ALLOWED).dir, world.name(), before=["taskset", "-c", one])) == everything

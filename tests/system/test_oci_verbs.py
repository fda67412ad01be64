# SPDX-License-Identifier: Apache-2.0
"""skink-oci: every verb but create, run and exec; texts, statuses and documents that engines look for."""

import json
import os
import re
import signal
import subprocess
import time

import pytest
from skinktest import alive, cgroup_dir, read_text, wait_for

SLEEP = ["sleep", "1000"]


def state(oci, name):
    return json.loads(oci.ok("state", name))


def status(oci, name):
    return state(oci, name)["status"]


def create(oci, world, bundle, *options):
    name = world.name()
    oci.ok("create", "--bundle", bundle.dir, *options, name)
    return name


def running(oci, world, bundle):
    name = create(oci, world, bundle)
    oci.ok("start", name)
    return name


def host_pids(bundle):
    """Shares the host's process ids: nothing ends with its first process."""
    bundle.config["linux"]["namespaces"] = [one for one in bundle.config["linux"]["namespaces"] if one["type"] != "pid"]
    bundle.save()
    return bundle


# state

def test_state_has_these_members_and_no_others(oci, bundle, world):
    b = bundle(SLEEP)
    b.config["annotations"] = {"org.example.key": "value"}
    b.save()
    name = create(oci, world, b)
    document = state(oci, name)
    assert list(document) == ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "annotations", "owner"]
    assert document["ociVersion"] == "1.3.0" and document["owner"] == "root"
    assert document["rootfs"] == b.rootfs and document["bundle"] == b.dir
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", document["created"])
    assert document["annotations"] == {"org.example.key": "value"}


def test_state_is_created_running_paused_stopped(oci, bundle, world):
    name = create(oci, world, bundle(SLEEP))
    assert status(oci, name) == "created"
    oci.ok("start", name)
    assert status(oci, name) == "running"
    oci.ok("pause", name)
    assert status(oci, name) == "paused" and state(oci, name)["pid"] > 0
    oci.ok("resume", name)
    assert status(oci, name) == "running"
    oci.ok("kill", name, "9")
    wait_for(lambda: status(oci, name) == "stopped")
    assert state(oci, name)["pid"] == 0


def test_state_of_a_zombie_is_stopped(oci, bundle, world, subreaper):
    """Engines ask in the very window before they reap."""
    name = running(oci, world, bundle(SLEEP))
    pid = state(oci, name)["pid"]
    subreaper.append(pid)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not alive(pid))
    assert os.path.exists("/proc/%d" % pid), "it should still be a zombie"
    assert status(oci, name) == "stopped"
    oci.fails("kill", name, "9", status=1, match="container not running")
    oci.ok("kill", "--all", name, "9")
    oci.ok("delete", name)


def test_state_while_create_is_in_a_hook_is_creating(oci, bundle, world):
    """Nothing that only looks, or kills, waits for the command that works on the container."""
    fifo = world.path("go")
    os.mkfifo(fifo)
    b = bundle(SLEEP)
    b.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "read x <%s" % fifo]}]}
    b.save()
    name = world.name()
    making = oci.start("create", "--bundle", b.dir, name)
    wait_for(lambda: oci("state", name).status == 0 and state(oci, name)["pid"] > 0)
    document = state(oci, name)
    assert document["status"] == "creating"
    assert [row["status"] for row in json.loads(oci.ok("list", "--format", "json")) if row["id"] == name] == ["creating"]
    assert json.loads(oci.ok("ps", "--format", "json", name)) == [document["pid"]]
    with open(fifo, "w") as out:
        out.write("go\n")
    assert making.wait(60) == 0, making.stderr.read()
    assert status(oci, name) == "created"


def test_state_when_start_was_killed_half_way(oci, bundle, world):
    """Without its socket removed, a started container is running all the same."""
    name = running(oci, world, bundle(SLEEP))
    directory = os.path.join(world.oci_root, name)
    assert not os.path.exists(directory + "/start.sock")
    import socket
    left = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.chdir(directory)
    left.bind("start.sock")
    left.close()
    os.chdir("/")
    assert status(oci, name) == "running"


# kill

@pytest.mark.parametrize("word", ["9", "KILL", "SIGKILL", "sigkill", "Kill", "kIlL"])
def test_kill_takes_every_spelling(oci, bundle, world, word):
    name = running(oci, world, bundle(SLEEP))
    oci.ok("kill", name, word)
    wait_for(lambda: status(oci, name) == "stopped")


def test_kill_with_other_words(oci, bundle, world):
    name = running(oci, world, bundle(SLEEP))
    oci.ok("kill", name, "0")
    assert status(oci, name) == "running"
    for word in ("NOSUCH", "65", "-1", "", "SIGSIG", "9x"):
        oci.fails("kill", name, word, status=1, match="signal")
    assert status(oci, name) == "running"
    oci.fails("kill", name, "0", "1", status=1, match="usage")
    oci.fails("kill", status=1, match="usage")


def test_kill_texts(oci, bundle, world):
    oci.fails("kill", "unknown-" + world.id, "9", status=1, match="container does not exist")
    oci.fails("kill", "--all", "unknown-" + world.id, "9", status=1, match="container does not exist")
    name = running(oci, world, bundle(["true"]))
    wait_for(lambda: status(oci, name) == "stopped")
    for signal_name in ("9", "15", "0", "SIGUSR1"):
        oci.fails("kill", name, signal_name, status=1, match="container not running")
    for flag in ("--all", "-a"):
        assert oci.ok("kill", flag, name, "9") == ""
        oci.ok("kill", flag, name, "15")


def test_kill_all_reaches_every_process(oci, bundle, world):
    b = bundle(["sh", "-c", "trap 'exit 3' USR1; (trap 'echo got >/out/child; exit' USR1; while :; do sleep 0.1; done) & "
                "echo >/out/ready; while :; do sleep 0.1; done"])
    out = world.path("out")
    os.mkdir(out)
    b.config["mounts"].append({"destination": "/out", "type": "bind", "source": out, "options": ["bind", "rw"]})
    host_pids(b)
    name = running(oci, world, b)
    wait_for(lambda: os.path.exists(out + "/ready"))
    time.sleep(0.3)
    oci.ok("kill", "--all", name, "USR1")
    wait_for(lambda: os.path.exists(out + "/child"))
    oci.ok("kill", "-a", name, "KILL")
    wait_for(lambda: status(oci, name) == "stopped")


def leftover(oci, world, bundle):
    """A container whose first process is dead while another one lives: name and pids."""
    b = host_pids(bundle(["sh", "-c", "sleep 1000 & sleep 1000"]))
    name = running(oci, world, b)
    pids = wait_for(lambda: (lambda found: found if len(found) >= 2 else None)(
        json.loads(oci.ok("ps", "--format", "json", name))))
    init = state(oci, name)["pid"]
    os.kill(init, signal.SIGKILL)
    wait_for(lambda: status(oci, name) == "stopped")
    rest = [pid for pid in pids if pid != init]
    assert any(alive(pid) for pid in rest)
    return name, rest


@pytest.mark.parametrize("command", [["kill", "NAME", "9"], ["kill", "--all", "NAME", "9"], ["kill", "-a", "NAME", "KILL"],
                                     ["delete", "NAME"], ["delete", "--force", "NAME"]], ids=" ".join)
def test_a89_processes_that_outlive_the_first_one_end(oci, bundle, world, command):
    name, rest = leftover(oci, world, bundle)
    assert sorted(json.loads(oci.ok("ps", "--format", "json", name))) == sorted(pid for pid in rest if alive(pid))
    oci.ok(*[name if word == "NAME" else word for word in command])
    wait_for(lambda: not any(alive(pid) for pid in rest))
    if command[0] == "kill":
        oci.fails("kill", name, "9", status=1, match="container not running")
    oci.ok("delete", "--force", name)
    assert world.leaks(3) == []


# delete

def test_delete_texts_and_statuses(oci, bundle, world):
    unknown = "unknown-" + world.id
    oci.fails("delete", unknown, status=1, match="container does not exist")
    for _ in range(2):
        assert oci.ok("delete", "--force", unknown) == ""
        oci.ok("delete", "-f", unknown)
    name = create(oci, world, bundle(SLEEP))
    pid = state(oci, name)["pid"]
    oci.ok("delete", name)
    assert not alive(pid)
    name = running(oci, world, bundle(SLEEP))
    oci.fails("delete", name, status=1, match=["running", "--force"])
    oci.ok("pause", name)
    oci.fails("delete", name, status=1, match="paused")
    pid = state(oci, name)["pid"]
    oci.ok("delete", "--force", name)
    assert not alive(pid)
    oci.ok("delete", "--force", name)
    oci.fails("delete", name, status=1, match="does not exist")
    assert world.leaks(3) == []


def test_delete_force_of_one_whose_create_hangs(oci, bundle, world):
    """An engine gives up on a create and deletes: the hook that hangs goes with it."""
    b = bundle(SLEEP)
    b.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "exec sleep 1000"]}]}
    b.save()
    name = world.name()
    making = oci.start("create", "--bundle", b.dir, name)
    wait_for(lambda: oci("state", name).status == 0 and state(oci, name)["pid"] > 0)
    making.kill()
    making.wait()
    oci.ok("delete", "--force", name)
    oci.fails("state", name, match="does not exist")
    for pid in [pid for pid, words in world.processes().items() if "sleep" in words]:
        os.kill(pid, 9)  # the hook itself was the killed command's


# list

def test_list_of_none(oci, world):
    oci.fails("list", status=1, match=["--root", world.oci_root, "No such file"])
    assert not os.path.exists(world.oci_root)
    os.mkdir(world.oci_root, 0o700)
    assert oci.ok("list") == "ID          PID         STATUS      BUNDLE      CREATED     OWNER"
    assert oci.ok("list", "--format", "json") == "null"
    assert oci.ok("list", "-q") == ""
    assert oci.ok("list", "--format=json", "--quiet") == ""
    oci.fails("list", "--format", "yaml", status=1, match="yaml")
    oci.fails("list", "x", status=1, match="usage")


def test_list_as_table_json_and_ids(oci, bundle, world):
    b = bundle(SLEEP)
    b.config["annotations"] = {"k": "v"}
    b.save()
    first, second = create(oci, world, b), running(oci, world, b)
    third = running(oci, world, bundle(["true"]))
    wait_for(lambda: status(oci, third) == "stopped")
    rows = {row["id"]: row for row in json.loads(oci.ok("list", "-f", "json"))}
    assert set(rows) == {first, second, third}
    for name in rows:
        assert rows[name] == state(oci, name)
    assert [rows[name]["status"] for name in (first, second, third)] == ["created", "running", "stopped"]
    lines = oci.ok("list").splitlines()
    assert lines[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    table = {line.split()[0]: line.split() for line in lines[1:]}
    assert table[second] == [second, str(rows[second]["pid"]), "running", b.dir, rows[second]["created"], "root"]
    assert len({line.index(line.split()[2]) for line in lines}) == 1, "columns are not in line"
    assert oci.ok("list", "--quiet").split() == sorted([first, second, third])


def test_list_passes_over_what_it_cannot_read(oci, bundle, world):
    name, bad = create(oci, world, bundle(SLEEP)), create(oci, world, bundle(SLEEP))
    path = os.path.join(world.oci_root, bad, "state.json")
    good = read_text(path)
    with open(path, "w") as file:
        file.write("{")
    result = oci("list", "--format", "json")
    assert result.status == 0 and [row["id"] for row in json.loads(result.out)] == [name]
    assert bad in result.err and result.err.count("\n") == 1
    with open(path, "w") as file:
        file.write(good)


def test_list_reads_no_configuration(oci, bundle, world):
    name = create(oci, world, bundle(SLEEP))
    os.rename(os.path.join(world.oci_root, name, "config.json"), world.path("hidden"))
    assert status(oci, name) == "created" and json.loads(oci.ok("list", "-f", "json"))[0]["id"] == name
    os.rename(world.path("hidden"), os.path.join(world.oci_root, name, "config.json"))


# ps

def test_ps_as_json_counts_groups_below(oci, bundle, world):
    name = running(oci, world, bundle(["sh", "-c", "sleep 1000 & exec sleep 1000"]))
    pids = wait_for(lambda: (lambda found: found if len(found) == 2 else None)(
        json.loads(oci.ok("ps", "--format", "json", name))))
    init = state(oci, name)["pid"]
    assert init in pids
    directory, _ = cgroup_dir(init, "pids")
    other = [pid for pid in pids if pid != init][0]
    os.mkdir(directory + "/below")
    with open(directory + "/below/cgroup.procs", "w") as file:
        file.write(str(other))
    assert sorted(json.loads(oci.ok("ps", "-f", "json", name))) == sorted(pids)
    oci.ok("kill", name, "9")
    wait_for(lambda: oci.ok("ps", "--format=json", name) == "null")
    oci.ok("delete", name)
    assert world.leaks(3) == []


def test_ps_as_table_passes_options_on(oci, bundle, world):
    name = running(oci, world, bundle(SLEEP))
    pid = str(state(oci, name)["pid"])
    lines = oci.ok("ps", name).splitlines()
    assert len(lines) == 2 and lines[0].split()[:2] == ["UID", "PID"] and lines[1].split()[1] == pid
    lines = oci.ok("ps", "--format", "table", name, "-e", "-o", "comm,pid").splitlines()
    assert [line.split() for line in lines] == [["COMMAND", "PID"], ["sleep", pid]]
    oci.fails("ps", name, "-e", "-o", "comm", status=1, match="PID")
    oci.fails("ps", "unknown-" + world.id, status=1, match="container does not exist")
    oci.fails("ps", "--format", "xml", name, status=1, match="xml")


# pause and resume

def test_pause_and_resume(oci, bundle, world):
    b = bundle(["sh", "-c", "while :; do echo >>/out/beat; sleep 0.02; done"])
    out = world.path("out")
    os.mkdir(out)
    b.config["mounts"].append({"destination": "/out", "type": "bind", "source": out, "options": ["bind", "rw"]})
    b.save()
    name = running(oci, world, b)

    def beats():
        return read_text(out + "/beat", "")
    wait_for(beats)
    oci.ok("pause", name)
    before = beats()
    time.sleep(0.3)
    assert beats() == before, "it runs on"
    oci.fails("pause", name, status=1, match="paused")
    oci.ok("resume", name)
    wait_for(lambda: beats() != before)
    oci.fails("resume", name, status=1, match="not paused")
    oci.ok("kill", name, "9")
    wait_for(lambda: status(oci, name) == "stopped")
    oci.fails("pause", name, status=1, match="container not running")
    oci.fails("resume", name, status=1, match="container not running")
    oci.fails("pause", "unknown-" + world.id, status=1, match="container does not exist")


def test_pause_before_start(oci, bundle, world):
    name = create(oci, world, bundle(SLEEP))
    oci.ok("pause", name)
    assert status(oci, name) == "paused"
    oci.fails("start", name, status=1, match="paused")
    oci.ok("resume", name)
    assert status(oci, name) == "created"
    oci.ok("start", name)


@pytest.mark.parametrize("command", [["kill", "9"], ["kill", "--all", "9"], ["delete", "--force"]], ids=" ".join)
def test_a90_a_paused_container_can_be_ended(oci, bundle, world, command):
    name = running(oci, world, bundle(SLEEP))
    pid = state(oci, name)["pid"]
    oci.ok("pause", name)
    arguments = [command[0]] + [word for word in command[1:] if word.startswith("-")] + [name] + \
        [word for word in command[1:] if not word.startswith("-")]
    oci.ok(*arguments, timeout=30)
    wait_for(lambda: not alive(pid))
    if command[0] == "kill":
        assert status(oci, name) == "stopped"
        oci.ok("delete", name)
    assert world.leaks(3) == []


def test_a90_nothing_hangs_on_a_paused_container(oci, bundle, world):
    name = running(oci, world, bundle(SLEEP))
    oci.ok("pause", name)
    for command in (["state", name], ["list"], ["ps", name], ["ps", "--format", "json", name], ["events", "--stats", name],
                    ["kill", name, "15"], ["update", "--pids-limit", "50", name]):
        oci.ok(*command, timeout=20)
    for command in (["start", name], ["delete", name], ["pause", name]):
        oci.fails(*command, status=1, timeout=20)
    oci.ok("resume", name)
    wait_for(lambda: status(oci, name) in ("running", "stopped"))


# events

STATS = {"cpu": {"usage", "throttling"}, "cpuset": {"cpus", "mems"}, "memory": {"cache", "usage", "swap", "kernel", "kernelTCP", "raw"},
         "pids": {"current", "limit"}, "blkio": {"ioServiceBytesRecursive", "ioServicedRecursive", "ioQueueRecursive",
                                                "ioServiceTimeRecursive", "ioWaitTimeRecursive", "ioMergedRecursive",
                                                "ioTimeRecursive", "sectorsRecursive"}}


def test_events_stats(oci, bundle, world):
    b = bundle(["sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 1000"])
    b.config["linux"]["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 33}}
    b.save()
    name = running(oci, world, b)
    event = json.loads(oci.ok("events", "--stats", name))
    assert event["type"] == "stats" and event["id"] == name
    data = event["data"]
    for member, inner in STATS.items():
        assert inner <= set(data[member]), member
    assert data["intel_rdt"] == {} and data["network_interfaces"] is None and isinstance(data["hugetlb"], dict)
    assert data["pids"]["limit"] == 33 and data["pids"]["current"] >= 1
    assert data["memory"]["usage"]["limit"] == 64 << 20 and data["memory"]["usage"]["usage"] > 0
    # The kernel sums this one up every few seconds.
    wait_for(lambda: json.loads(oci.ok("events", "--stats", name))["data"]["memory"]["raw"]["pgfault"] > 0)
    usage = data["cpu"]["usage"]
    assert usage["total"] > 0 and isinstance(usage["kernel"], int) and isinstance(usage["user"], int)
    if os.path.exists("/proc/pressure/cpu") and "psi" in data["cpu"]:
        assert set(data["cpu"]["psi"]) == {"some", "full"}
        assert set(data["cpu"]["psi"]["some"]) == {"avg10", "avg60", "avg300", "total"}


def events_of(process):
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    return [json.loads(line) for line in out.decode().splitlines()]


def test_events_come_again_and_end_with_the_container(oci, bundle, world):
    name = running(oci, world, bundle(SLEEP))
    process = oci.start("events", "--interval", "100ms", name)
    time.sleep(1)
    oci.ok("kill", name, "9")
    events = events_of(process)
    assert len(events) >= 2 and all(event["type"] == "stats" and event["id"] == name for event in events)


def test_events_tell_that_memory_ran_out(oci, bundle, world):
    """By hand: memory is filled when somebody says so, in a child, so that the first process lives on."""
    b = bundle(["sh", "-c", "read x </in/go; probe memory 67108864; echo >/in/done; sleep 1000"])
    b.config["linux"]["resources"] = {"memory": {"limit": 16 << 20}}
    if os.path.exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"):
        b.config["linux"]["resources"]["memory"]["swap"] = 16 << 20
    fifo = world.path("in")
    os.mkdir(fifo)
    os.mkfifo(fifo + "/go")
    b.config["mounts"].append({"destination": "/in", "type": "bind", "source": fifo, "options": ["bind", "rw"]})
    b.save()
    name = running(oci, world, b)
    process = oci.start("events", "--interval=1h", name)
    assert json.loads(process.stdout.readline())["type"] == "stats"
    with open(fifo + "/go", "w") as out:
        out.write("go\n")
    wait_for(lambda: os.path.exists(fifo + "/done"))
    oci.ok("kill", name, "9")
    types = [event["type"] for event in events_of(process)]
    assert "oom" in types, types
    assert set(types) <= {"oom", "memory-pressure"}


def test_events_of_what_does_not_run(oci, bundle, world):
    name = running(oci, world, bundle(["true"]))
    wait_for(lambda: status(oci, name) == "stopped")
    oci.fails("events", "--stats", name, status=1, match="container not running")
    oci.fails("events", name, status=1, match="container not running")
    oci.fails("events", "unknown-" + world.id, status=1, match="container does not exist")
    oci.fails("events", "--interval", "0", name, status=1, match="interval")
    oci.fails("events", "--interval", "soon", name, status=1, match="interval")


# features

def test_features_is_the_document_of_the_specification(oci):
    result = oci("features")
    assert result.status == 0 and result.err == ""
    document = json.loads(result.out)
    assert set(document) <= {"ociVersionMin", "ociVersionMax", "hooks", "mountOptions", "linux", "annotations",
                             "potentiallyUnsafeConfigAnnotations"}
    assert document["ociVersionMin"] == "1.0.0" and document["ociVersionMax"] == "1.3.0"
    assert "rro" in document["mountOptions"] and document["mountOptions"] == sorted(set(document["mountOptions"]))
    linux = document["linux"]
    assert set(linux) == {"namespaces", "capabilities", "cgroup", "seccomp", "apparmor", "selinux", "memoryPolicy", "intelRdt",
                          "mountExtensions", "netDevices"}
    assert {"user", "time", "cgroup", "pid", "mount", "network", "ipc", "uts"} == set(linux["namespaces"])
    assert len(linux["capabilities"]) == 41 and "CAP_CHECKPOINT_RESTORE" in linux["capabilities"]
    assert linux["cgroup"] == {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True}
    seccomp = linux["seccomp"]
    assert set(seccomp) == {"enabled", "actions", "operators", "archs", "knownFlags", "supportedFlags"}
    assert set(seccomp["supportedFlags"]) <= set(seccomp["knownFlags"]) and len(seccomp["operators"]) == 7
    assert document["annotations"]["org.opencontainers.runc.checkpoint.enabled"] == "false"
    assert all(value == value.strip() for value in document["annotations"].values())


def test_features_needs_nothing(oci, world):
    """No option, no root, an empty environment."""
    bare = subprocess.run([oci.path, "features"], env={}, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True)
    assert json.loads(bare.stdout)["ociVersionMax"]
    user = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", oci.path, "features"],
                          env={"PATH": "/usr/bin:/bin"}, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if b"ermission denied" in user.stdout:
        pytest.skip("a plain user cannot execute what is built here")
    assert json.loads(user.stdout) == json.loads(bare.stdout)


CLAIMS = [  # whether it is claimed, what asks for it
    (lambda f: "createContainer" in f["hooks"], lambda c: c.update(hooks={"createContainer": [{"path": "/bin/true"}]})),
    (lambda f: "startContainer" in f["hooks"], lambda c: c.update(hooks={"startContainer": [{"path": "/bin/true"}]})),
    (lambda f: f["linux"]["memoryPolicy"]["modes"], lambda c: c["linux"].update(memoryPolicy={"mode": "MPOL_DEFAULT", "nodes": ""})),
    (lambda f: f["linux"]["netDevices"]["enabled"], lambda c: c["linux"].update(netDevices={"sk-none": {}})),
    (lambda f: f["linux"]["intelRdt"]["enabled"], lambda c: c["linux"].update(intelRdt={"closID": "sk"})),
    (lambda f: "SCMP_ACT_NOTIFY" in f["linux"]["seccomp"]["actions"],
     lambda c: c["linux"].update(seccomp={"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/nonexistent/sock",
                                          "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]})),
    (lambda f: f["linux"]["mountExtensions"]["idmap"]["enabled"],
     lambda c: c["mounts"].append({"destination": "/tmp", "type": "bind", "source": "/usr", "options": ["bind"],
                                   "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
                                   "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}]})),
]


@pytest.mark.parametrize("row", CLAIMS, ids=range(len(CLAIMS)))
def test_features_claims_what_create_does(oci, bundle, world, row):
    claimed = bool(row[0](json.loads(oci.ok("features"))))
    b = bundle(["true"])
    row[1](b.config)
    b.save()
    result = oci("create", "--bundle", b.dir, world.name())
    assert claimed == ("is not there yet" not in result.err and "are not there yet" not in result.err), result


# spec

def test_spec_makes_a_bundle_that_runs(oci, bundle, world):
    b = bundle()
    os.unlink(b.dir + "/config.json")
    oci.ok("spec", "-b", b.dir)
    config = json.loads(read_text(b.dir + "/config.json"))
    assert config["ociVersion"] == "1.3.0" and config["process"]["args"] == ["sh"] and config["root"] == {"path": "rootfs", "readonly": True}
    oci.fails("spec", "--bundle", b.dir, status=1, match="config.json exists")
    config["process"].update(terminal=False, args=["id", "-u"])
    with open(b.dir + "/config.json", "w") as file:
        json.dump(config, file)
    assert oci.ok("run", world.name(), cwd=b.dir) == "0"


def test_spec_here_and_rootless(oci, world):
    place = world.path("spec")
    os.mkdir(place)
    oci.ok("spec", "--rootless", cwd=place)
    config = json.loads(read_text(place + "/config.json"))
    kinds = {one["type"] for one in config["linux"]["namespaces"]}
    assert "user" in kinds and "network" not in kinds
    assert config["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 0, "size": 1}]
    assert "resources" not in config["linux"]
    oci.fails("spec", "-b", world.path("none"), status=1, match="none")


# checkpoint and restore

@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["c1"], ["--image-path", "/x", "--work-path", "/y", "--leave-running", "c1"],
                                       ["--lsm-mount-context"], ["-no-subreaper", "--bundle", "/b", "c1"]], ids=" ".join)
@pytest.mark.parametrize("verb", ["checkpoint", "restore"])
def test_a93_checkpoints_are_not_supported(oci, verb, arguments):
    result = oci.fails(verb, *arguments, status=1, match="not supported")
    assert result.out == ""
    # podman takes these words of `restore --lsm-mount-context` for "can do it".
    assert "needs an argument" not in result.err and "requires an argument" not in result.err

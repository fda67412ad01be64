# SPDX-License-Identifier: Apache-2.0
"""A46, A47, A81, A82, A88, A90, A94 and F04, F10, F12, F30, F32, F35, F39, F41 through skink-oci; see tests/system/test_oci_verbs.py too."""

import json
import os
import stat
import signal
import socket
import subprocess
import time

import pytest
from skinktest import ALL, alive, cgroup_dir, group_lines, kill_quietly, older_stranger, read_text, wait_for

SLEEP = ["sleep", "1000"]


def state(oci, name):
    return json.loads(oci.ok("state", name))


def running(oci, world, bundle):
    name = world.name()
    oci.ok("create", "--bundle", bundle.dir, name)
    oci.ok("start", name)
    return name


def groups_of(pid):
    """The directories of a process's groups on the host."""
    return {cgroup_dir(pid, controller)[0] for controller in ("memory", "pids", "cpu")}


# A47: groups

@pytest.mark.parametrize("path", ["/../ID", "/a/../../ID", "../ID", "/ID/..", "..", "/", "/.", "/ID/./x", "/a\nID", "/" + "x" * 300])
def test_a47_paths_of_groups_that_lead_elsewhere(oci, bundle, world, canary, path):
    b = bundle()
    b.config["linux"]["cgroupsPath"] = path.replace("ID", "skink-test-" + world.id)
    b.save()
    oci.fails("create", "--bundle", b.dir, world.name(), status=1, match="cgroup")
    assert world.leaks(3) == []


def test_a47_the_container_is_where_it_was_sent(oci, bundle, world):
    b = bundle(["sh", "-c", "mkdir /sys/fs/cgroup/x 2>&1; cat /proc/self/cgroup; sleep 1000"])
    own = "/skink-test-%s" % world.id
    b.config["linux"]["cgroupsPath"] = own
    b.config["linux"]["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 50}}
    b.config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid", "noexec", "nodev"]})
    b.save()
    name, out = world.name(), open(world.path("out"), "wb")
    assert oci("create", "--bundle", b.dir, name, stdout=out).status == 0
    oci.ok("start", name)
    pid = state(oci, name)["pid"]
    for line in group_lines(pid):
        assert line.split(":", 2)[2] == own, line
    wait_for(lambda: "/" in read_text(world.path("out")))
    out.close()
    text = read_text(world.path("out"))
    assert "Read-only" in text and world.id not in text, "it sees the names of the host's groups"
    oci.ok("delete", "--force", name)
    assert world.leaks(3) == []


def test_a47_a_link_in_the_hierarchy_is_not_followed(oci, bundle, world):
    """Groups cannot hold links; what a mount puts in their place is another file system and refused."""
    b = bundle()
    b.config["linux"]["cgroupsPath"] = "/skink-test-%s" % world.id
    b.save()
    script = "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/skink-test-%s 2>/dev/null && mount -t tmpfs none $d/skink-test-%s; done; " \
             "\"$@\"; status=$?; for d in /sys/fs/cgroup /sys/fs/cgroup/*; do umount $d/skink-test-%s; done 2>/dev/null; exit $status" % ((world.id,) * 3)
    done = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", oci.path, *oci.options, "create",
                           "--bundle", b.dir, world.name()], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=world.environment())
    for directory, subdirs, _ in os.walk("/sys/fs/cgroup"):
        for one in [one for one in subdirs if one == "skink-test-" + world.id]:
            os.rmdir(os.path.join(directory, one))
    assert done.returncode == 1 and b"skink-oci: error: create" in done.stderr


# A81: strings that become names of files

A81 = [
    ("linux.resources", {"unified": {"../x": "1"}}), ("linux.resources", {"unified": {"a/b.c": "1"}}),
    ("linux.resources", {"unified": {"x" * 300 + ".y": "1"}}), ("linux.resources", {"unified": {"cgroup.kill": "1"}}),
    ("linux.resources", {"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}),
    ("linux.resources", {"hugepageLimits": [{"pageSize": "2MB/../x", "limit": 1}]}),
    ("linux.resources", {"rdma": {"../x": {"hcaHandles": 1}}}), ("linux.resources", {"rdma": {"a/b": {"hcaObjects": 1}}}),
    ("linux.resources", {"network": {"priorities": [{"name": "../x", "priority": 1}]}}),
    ("linux.devices", [{"path": "dev/x", "type": "c", "major": 1, "minor": 3}]),
    ("linux.devices", [{"path": "/dev/\0x", "type": "c", "major": 1, "minor": 3}]),
    ("linux.intelRdt", {"closID": "../x"}), ("linux.intelRdt", {"closID": "a/b"}), ("linux.intelRdt", {"closID": ".."}),
    ("linux.netDevices", {"../x": {}}), ("linux.netDevices", {"x": {"name": "a/b"}}), ("linux.netDevices", {"x" * 300: {}}),
]


@pytest.mark.parametrize("row", A81, ids=range(len(A81)))
def test_a81_strings_that_become_names(oci, bundle, world, canary, row):
    member, value = row
    b = bundle()
    b.config["linux"][member.split(".")[1]] = value
    b.save()
    oci.fails("create", "--bundle", b.dir, world.name(), status=1, match=member.split(".")[1])
    assert world.leaks(3) == []


def test_a81_a_device_path_stays_below_the_root(oci, bundle, world, canary):
    b = bundle()
    b.config["linux"]["devices"] = [{"path": "/../../../" + canary.top + "/made", "type": "c", "major": 1, "minor": 3}]
    b.config["root"]["readonly"] = False
    b.save()
    result = oci("run", "--bundle", b.dir, world.name())
    assert result.status in (0, 1) and not os.path.exists(canary.top + "/made")


# A82: the bundle changes, or is odd

def test_a82_a_bundle_that_changes_after_create(oci, bundle, world):
    log = world.path("log")
    open(log, "w").close()
    b = bundle(["sh", "-c", "echo old >>/log; sleep 1000"])
    b.config["mounts"].append({"destination": "/log", "type": "bind", "source": log, "options": ["bind", "rw"]})
    b.config["annotations"] = {"age": "old"}
    hook = world.write("hook", "#!/bin/sh\necho $1 >>%s\n" % log, 0o755)
    b.config["hooks"] = {"poststart": [{"path": hook, "args": ["hook", "old-start"]}], "poststop": [{"path": hook, "args": ["hook", "old-stop"]}]}
    b.save()
    name = world.name()
    oci.ok("create", "--bundle", b.dir, name)
    b.config["process"]["args"] = ["sh", "-c", "echo new >>/log"]
    b.config["annotations"] = {"age": "new"}
    b.config["hooks"] = {"poststart": [{"path": hook, "args": ["hook", "new"]}], "poststop": [{"path": hook, "args": ["hook", "new"]}]}
    b.save()
    os.rename(b.rootfs, b.rootfs + ".away")
    os.mkdir(b.rootfs)
    oci.ok("start", name)
    wait_for(lambda: "old\n" in read_text(log))
    assert state(oci, name)["annotations"] == {"age": "old"}
    os.rename(b.dir, b.dir + ".away")
    for command in (["state", name], ["pause", name], ["resume", name], ["update", "--pids-limit", "50", name], ["kill", name, "9"]):
        oci.ok(*command)
    oci.ok("delete", "--force", name)
    assert sorted(read_text(log).split()) == ["old", "old-start", "old-stop"]


@pytest.mark.parametrize("kind", ["fifo", "link", "directory", "device", "huge", "missing", "nul", "empty", "deep", "twice"])
def test_a82_odd_files_as_configuration(oci, bundle, world, canary, kind):
    b = bundle()
    path = b.dir + "/config.json"
    text = read_text(path)
    os.unlink(path)
    make = {"fifo": lambda: os.mkfifo(path), "link": lambda: os.symlink(canary.top + "/secret", path), "directory": lambda: os.mkdir(path),
            "device": lambda: os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5)), "missing": lambda: None,
            "huge": lambda: open(path, "w").truncate(17 << 20), "nul": lambda: open(path, "w").write(text + "\0{}"),
            "empty": lambda: open(path, "w").close(), "deep": lambda: open(path, "w").write("[" * 100000),
            "twice": lambda: open(path, "w").write('{"root":{"path":"/"},' + text[1:])}
    make[kind]()
    oci.fails("create", "--bundle", b.dir, world.name(), status=1, timeout=20)
    assert world.leaks(3) == []


# A88: forks against the kill

@pytest.mark.parametrize("shared", [False, True], ids=["own-pids", "host-pids"])
@pytest.mark.parametrize("command", [["kill", "--all", "NAME", "9"], ["delete", "--force", "NAME"]], ids=["kill", "delete"])
def test_a88_a_fork_bomb_ends(oci, bundle, world, shared, command):
    b = bundle(["sh", "/bomb"])
    # A shell that cannot fork ends, and begins anew.
    with open(os.path.join(b.rootfs, "bomb"), "w") as file:
        file.write("trap 'exec sh /bomb' EXIT\nbomb() { bomb & bomb & sleep 3; }\nwhile :; do bomb 2>/dev/null; done\n")
    b.config["linux"]["resources"] = {"pids": {"limit": 150}}
    if shared:
        b.config["linux"]["namespaces"] = [one for one in b.config["linux"]["namespaces"] if one["type"] != "pid"]
    b.save()
    name = running(oci, world, b)
    wait_for(lambda: len(json.loads(oci.ok("ps", "-f", "json", name)) or []) > 20)
    oci.ok(*[name if word == "NAME" else word for word in command], timeout=60)
    if command[0] == "kill":
        wait_for(lambda: state(oci, name)["status"] == "stopped")
        wait_for(lambda: oci.ok("ps", "-f", "json", name) == "null")
        oci.ok("delete", name)
    assert world.leaks(5) == []


# A94: sockets and terminals

def test_a94_a_long_state_directory(oci, bundle, world):
    root = world.path("r" * 120 + "/" + "s" * 120)
    os.makedirs(root)
    before = list(oci.options)
    oci.options[:] = ["--root", root]
    name = "n" * 100 + world.id
    oci.ok("create", "--bundle", bundle(SLEEP).dir, name)
    assert state(oci, name)["status"] == "created"
    oci.ok("start", name)
    assert state(oci, name)["status"] == "running"
    oci.ok("delete", "--force", name)
    oci.options[:] = before
    assert world.leaks(3) == []


@pytest.mark.parametrize("peer", ["never-accepts", "closes", "absent", "no-socket", "directory", "datagram"])
def test_a94_f35_peers_of_the_console_socket(oci, bundle, world, peer):
    """The runtime sends and goes: nobody has to read, and who is not there is named."""
    b = bundle(["sh", "-c", "sleep 1000"], terminal=True)
    path, name = world.path("console"), world.name()
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if peer == "datagram" else socket.SOCK_STREAM)
    if peer in ("never-accepts", "closes", "datagram"):
        server.bind(path)
    if peer in ("never-accepts", "closes"):
        server.listen(1)
    if peer == "closes":
        server.close()
    if peer == "no-socket":
        world.write("console", "x")
    if peer == "directory":
        os.mkdir(path)
    command = ["create", "--bundle", b.dir, "--console-socket", path, name]
    if peer == "never-accepts":
        oci.ok(*command, timeout=20)
        oci.ok("start", name)
        oci.ok("delete", "--force", name)
    else:
        oci.fails(*command, status=1, match="--console-socket", timeout=20)
        oci.fails("state", name, match="does not exist")
    server.close()
    assert world.leaks(3) == []


# F04: the first process dies

def test_f04_dies_between_create_and_start(oci, bundle, world):
    b = bundle(SLEEP)
    log = world.path("log")
    hook = world.write("hook", "#!/bin/sh\necho stop >>%s\n" % log, 0o755)
    b.config["hooks"] = {"poststop": [{"path": hook}]}
    b.save()
    name = world.name()
    oci.ok("create", "--bundle", b.dir, name)
    os.kill(state(oci, name)["pid"], signal.SIGKILL)
    wait_for(lambda: state(oci, name)["status"] == "stopped")
    oci.fails("start", name, status=1, match="stopped", timeout=20)
    oci.ok("delete", name)
    assert read_text(log) == "stop\n"


@pytest.mark.parametrize("kind", ["prestart", "createRuntime"])
def test_f04_dies_in_a_hook(oci, bundle, world, kind):
    b = bundle(SLEEP)
    script = world.write("hook", "#!/bin/sh\nkill -9 $(tr ',' '\\n' | grep '\"pid\"' | tr -dc 0-9)\n", 0o755)
    b.config["hooks"] = {kind: [{"path": script}]}
    b.save()
    name = world.name()
    oci.fails("create", "--bundle", b.dir, name, status=1, timeout=30)
    oci.fails("state", name, match="does not exist")
    assert world.leaks(3) == []


# F10: numbers that are somebody else's by now

def test_f10_a_record_whose_number_is_a_strangers(oci, bundle, world):
    stranger = older_stranger()
    try:
        name = running(oci, world, bundle(SLEEP))
        record = os.path.join(world.oci_root, name, "state.json")
        document = json.loads(read_text(record))
        kill_quietly(document["pid"])
        wait_for(lambda: state(oci, name)["status"] == "stopped")
        document["pid"] = stranger.pid
        with open(record, "w") as file:
            json.dump(document, file)
        assert state(oci, name) | {"status": "stopped", "pid": 0} == state(oci, name)
        for command in (["kill", name, "9"], ["kill", "--all", name, "9"], ["pause", name], ["events", "--stats", name], ["delete", "--force", name]):
            oci(*command)
        assert stranger.poll() is None, "a stranger was killed"
        oci.fails("state", name, match="does not exist")
    finally:
        stranger.kill()
        stranger.wait()


# F12: the holder of the lock dies

def test_f12_the_holder_of_the_lock_is_killed(oci, bundle, world):
    name = running(oci, world, bundle(SLEEP))
    directory = os.path.join(world.oci_root, name)
    holder = subprocess.Popen(["flock", directory, "sleep", "1000"], start_new_session=True)
    wait_for(lambda: subprocess.run(["flock", "-n", directory, "true"]).returncode)
    # Whoever looks or kills does not wait.
    assert state(oci, name)["status"] == "running"
    oci.ok("kill", name, "9", timeout=10)
    waiting = oci.start("delete", "--force", name)
    time.sleep(0.5)
    assert waiting.poll() is None and os.path.isdir(directory)
    os.killpg(holder.pid, signal.SIGKILL)
    holder.wait()
    assert waiting.wait(30) == 0
    assert not os.path.exists(directory) and world.leaks(3) == []


# F30: groups that the container left

def test_f30_groups_that_the_container_made(oci, bundle, world):
    name = running(oci, world, bundle(SLEEP))
    pid = state(oci, name)["pid"]
    for top in groups_of(pid):
        here = os.open(top, os.O_RDONLY)
        for _ in range(400 if ALL else 60):  # nested
            os.mkdir("n", dir_fd=here)
            below = os.open("n", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(here)
        for number in range(600 if ALL else 60):  # side by side
            os.mkdir("%s/w%d" % (top, number))
    oci.ok("delete", "--force", name, timeout=120)
    assert world.leaks(3) == []


# F31: the root file system is in use

def test_f31_somebody_is_in_the_root_file_system(oci, bundle, world):
    b = bundle(SLEEP)
    name = running(oci, world, b)
    sitter = subprocess.Popen(["sleep", "1000"], cwd=b.rootfs)
    watcher = subprocess.Popen(["nsenter", "--mount=/proc/%d/ns/mnt" % state(oci, name)["pid"], "sleep", "1000"])
    try:
        time.sleep(0.2)
        oci.ok("delete", "--force", name)
        assert os.path.exists(b.rootfs + "/bin/busybox")
    finally:
        for process in (sitter, watcher):
            process.kill()
            process.wait()


# F32: processes that will not die

def test_f32_processes_that_cannot_die(oci, bundle, world):
    """A frozen parent of the group holds them: told by number within the deadline, and later all goes."""
    top = "/sys/fs/cgroup/freezer"
    if not os.path.isdir(top):
        pytest.skip("only cgroup v1 keeps what is frozen from dying")
    b = bundle(SLEEP)
    parent = "skink-test-" + world.id
    b.config["linux"]["cgroupsPath"] = "/%s/one" % parent
    b.save()
    name = running(oci, world, b)
    pid = state(oci, name)["pid"]
    with open("%s/%s/freezer.state" % (top, parent), "w") as file:
        file.write("FROZEN")
    try:
        oci.fails("delete", "--force", name, status=1, match=str(pid), timeout=60)
        assert alive(pid) and state(oci, name)["id"] == name
    finally:
        with open("%s/%s/freezer.state" % (top, parent), "w") as file:
            file.write("THAWED")
    oci.ok("delete", "--force", name)
    for directory, subdirs, _ in os.walk("/sys/fs/cgroup"):
        for one in [one for one in subdirs if one == parent]:
            os.rmdir(os.path.join(directory, one))
    assert world.leaks(3) == []


# F39: privileges that are missing

def test_f39_read_only_groups(oci, bundle, world):
    b, name = bundle(["echo", "ran"]), world.name()
    script = "for p in $(awk '$5 ~ \"^/sys/fs/cgroup\" {print $5}' /proc/self/mountinfo); do mount -o remount,ro,bind $p || exit 77; done; exec \"$@\""
    before = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    result = oci("run", "--bundle", b.dir, name, before=before)
    if result.status == 77:
        pytest.skip("cannot make it read-only")
    assert result.status == 1 and "Read-only file system" in result.err and "/sys/fs/cgroup" in result.err
    oci.fails("state", name, match="does not exist")
    assert oci("--cgroup-manager", "disabled", "run", "--bundle", b.dir, name, before=before).out == "ran\n"


@pytest.mark.parametrize("capability", ["sys_admin", "setuid", "setpcap", "mknod", "sys_chroot", "dac_override", "sys_resource", "net_admin"])
def test_f39_a_capability_is_missing(oci, bundle, world, capability):
    """It works, or says why not; never a container that is weaker than asked."""
    b, name = bundle(["grep", "-E", "NoNewPrivs|CapBnd", "/proc/self/status"]), world.name()
    wanted = oci.ok("run", "--bundle", b.dir, name)
    before = ["setpriv", "--bounding-set=-" + capability, "--inh-caps=-" + capability, "--"]
    result = oci("run", "--bundle", b.dir, name, before=before)
    if result.status == 0:
        assert result.out.strip() == wanted or int(result.out.split()[1], 16) & ~int(wanted.split()[1], 16) == 0
    else:
        assert result.status == 1 and result.err.count("\n") == 1, result
    assert world.leaks(3) == []


# F41: ends at every moment

@pytest.mark.timeout(600)
def test_f41_a_container_that_ends_while_it_is_worked_on(oci, bundle, world):
    b = bundle(["true"])
    for _ in range(100 if ALL else 8):
        name = world.name()
        oci.ok("create", "--bundle", b.dir, name)
        commands = [oci.start(*words) for words in (["start", name], ["state", name], ["ps", "-f", "json", name], ["kill", name, "15"],
                                                   ["list"], ["pause", name], ["resume", name], ["update", "--pids-limit", "9", name])]
        for one in commands:
            out, err = one.communicate(timeout=60)
            assert one.returncode in (0, 1) and err.count(b"\n") == one.returncode, (one.args, one.returncode, err)
        removals = [oci.start("delete", "--force", name) for _ in range(3)]
        assert [one.wait(60) for one in removals] == [0, 0, 0], [one.stderr.read() for one in removals]
        oci.fails("state", name, match="does not exist")
    assert world.leaks(3) == []


@pytest.mark.timeout(600)
def test_f41_exit_statuses_are_exact(oci, bundle, world):
    for number in range(256 if ALL else 12):
        wanted = number if ALL else number * 21
        b = bundle(["sh", "-c", "exit %d" % wanted])
        assert oci("run", "--bundle", b.dir, world.name()).status == wanted


def test_a46_nodes_of_an_image_and_of_mknod(oci, bundle, world):
    """What an image brings along, and what the container makes itself, opens nothing that it was not given."""
    numbers = {"mem": (stat.S_IFCHR, 1, 1), "kmsg": (stat.S_IFCHR, 1, 11), "loop": (stat.S_IFBLK, 7, 0), "disk": (stat.S_IFBLK, 254, 0)}
    script = "".join("busybox mknod /tmp/%s %s %d %d; " % (name, "c" if kind == stat.S_IFCHR else "b", major, minor)
                     for name, (kind, major, minor) in numbers.items())
    script += "for d in /tmp/* /nodes/*; do (exec 3<$d) 2>/dev/null && echo read $d; (exec 3>>$d) 2>/dev/null && echo written $d; done; ls /tmp"
    b = bundle(["sh", "-c", script])
    # A root file system that allows devices, so that only the rules of the group are in the way.
    for mount in b.config["mounts"]:
        mount["options"] = [option for option in mount.get("options", []) if option != "nodev"]
    os.mkdir(os.path.join(b.rootfs, "nodes"))
    for name, (kind, major, minor) in numbers.items():
        os.mknod(os.path.join(b.rootfs, "nodes", name), kind | 0o666, os.makedev(major, minor))
    assert sorted(oci.ok("run", "--bundle", b.save().dir, world.name()).split()) == sorted(numbers)


V2_ONLY = ["unshare", "-m", "--propagation", "private", "sh", "-c",
           "umount -R /sys/fs/cgroup 2>/dev/null; mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"", "sh"]
NODES = {"mem": (1, 1), "kmsg": (1, 11), "tty0": (4, 0)}
TRY = ["/bin/probe", "openw"] + ["/nodes/" + name for name in sorted(NODES)]
DENIED = "".join("/nodes/%s: EPERM\n" % name for name in sorted(NODES)).strip()


@pytest.mark.parametrize("before", [[], V2_ONLY], ids=["all hierarchies", "v2 only"])
def test_a46_no_window_at_any_start(oci, bundle, world, before):
    """Opening a device is the very first thing that each process does that comes into a container in any way, also while
    update changes limits all the time."""
    def new(args, **more):
        b = bundle(args)
        b.config["linux"]["cgroupsPath"] = "/skink-test-%s" % world.name("g")
        b.config.update(more)
        os.mkdir(os.path.join(b.rootfs, "nodes"))
        for name, numbers in NODES.items():
            os.mknod(os.path.join(b.rootfs, "nodes", name), stat.S_IFCHR | 0o666, os.makedev(*numbers))
        return b.save().dir
    rounds = 200 if ALL else 8
    once, out = new(TRY), world.path("out")
    for _ in range(rounds):
        assert oci.ok("run", "--bundle", once, world.name(), before=before) == DENIED
        name = world.name()
        with open(out, "w+b") as file:
            assert oci("create", "--bundle", once, name, before=before, stdout=file).status == 0
            assert oci.ok("exec", name, *TRY, before=before) == DENIED
            oci.ok("start", name, before=before)
            wait_for(lambda: read_text(out).strip() == DENIED)
        oci.ok("delete", "--force", name, before=before)
    # A hook inside fails the start when it opens nothing, and its words tell what it was told.
    said = oci("run", "--bundle", new(["true"], hooks={"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", " ".join(TRY) + "; exit 3"]}]}),
               world.name(), before=before).err
    assert said.count("EPERM") == len(NODES), said
    name = world.name()
    oci.ok("run", "--detach", "--bundle", new(["sleep", "1000"]), name, before=before)
    document = world.write("resources", json.dumps(
        {"devices": [{"allow": True, "access": "rwm"}]} | ({"unified": {"cgroup.max.descendants": "100"}} if before else {"pids": {"limit": 500}})))
    with subprocess.Popen(["sh", "-c", "while :; do \"$@\" || exit; done", "sh"] + before + oci.command("update", "--resources", document, name),
                          start_new_session=True, env=world.environment()) as updating:
        try:
            for _ in range(rounds):
                assert oci.ok("exec", name, *TRY, before=before) == DENIED
            assert updating.poll() is None
        finally:
            os.killpg(updating.pid, signal.SIGKILL)
    oci.ok("delete", "--force", name, before=before)

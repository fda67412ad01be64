# SPDX-License-Identifier: Apache-2.0
"""skink-oci: hooks of all six kinds: where they run, what they are told, and what their failure does."""

import json
import os
import re
import shlex
import subprocess
import time

import pytest
from skinktest import ALL, alive, read_text, wait_for

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
NAMESPACES = ("mnt", "pid", "net", "ipc", "uts", "cgroup")


def state(oci, name):
    return json.loads(oci.ok("state", name))


def say(script):
    return {"path": "/bin/sh", "args": ["sh", "-c", script]}


def reporter(world, bundle, kind):
    """A hook that writes down what it sees. Those of the host write to the test's directory; the one inside to a
    directory of the test's that is mounted there."""
    where = "/report" if kind == "startContainer" else world.path("report")
    script = ("cat >%(d)s/state; readlink /proc/$$/ns/%(n)s; pwd >%(d)s/cwd; env >%(d)s/env; id -u >%(d)s/uid; ls / >%(d)s/root;"
              "for n in %(all)s; do readlink /proc/self/ns/$n; done >%(d)s/ns; tr '\\0' ' ' </proc/self/cgroup >%(d)s/cgroup;"
              "ls >%(d)s/here; echo $$ >%(d)s/pid") % {"d": "%s/%s" % (where, kind), "n": "pid", "all": " ".join(NAMESPACES)}
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["ONLY=" + kind], "timeout": 60}


@pytest.fixture
def reported(oci, bundle, world):
    """A container of which every hook has written down what it saw."""
    b = bundle(["sleep", "1000"], env=["PATH=/bin", "LD_PRELOAD=/evil.so", "SECRET=x"])
    for kind in KINDS:
        os.makedirs(world.path("report/" + kind))
    b.config["mounts"].append({"destination": "/report", "type": "bind", "source": world.path("report"), "options": ["rbind"]})
    b.config["hooks"] = {kind: [reporter(world, b, kind)] for kind in KINDS}
    b.config["annotations"] = {"org.example.a": "b \" c"}
    b.save()
    name = world.name()
    oci.ok("create", "--bundle", b.dir, name)
    pid = state(oci, name)["pid"]
    ns = {kind: os.readlink("/proc/%d/ns/%s" % (pid, kind)) for kind in NAMESPACES}
    created = sorted(kind for kind in KINDS if os.listdir(world.path("report/" + kind)))
    oci.ok("start", name)
    started = sorted(kind for kind in KINDS if os.listdir(world.path("report/" + kind)))
    oci.ok("kill", name, "KILL")
    wait_for(lambda: state(oci, name)["status"] == "stopped")
    oci.ok("delete", name)

    def see(kind, what):
        return read_text(world.path("report/%s/%s" % (kind, what)))
    return {"bundle": b, "name": name, "pid": pid, "ns": ns, "created": created, "started": started, "see": see}


def test_when_each_hook_runs(reported):
    assert reported["created"] == sorted(["prestart", "createRuntime", "createContainer"])
    assert reported["started"] == sorted(set(KINDS) - {"poststop"})
    assert reported["see"]("poststop", "state")


def test_what_each_hook_is_told(reported):
    due = {"prestart": "creating", "createRuntime": "creating", "createContainer": "creating", "startContainer": "created",
           "poststart": "running", "poststop": "stopped"}
    for kind, status in due.items():
        told = json.loads(reported["see"](kind, "state"))
        assert told["status"] == status, kind
        assert told["id"] == reported["name"] and told["bundle"] == reported["bundle"].dir and told["ociVersion"]
        assert told["annotations"] == {"org.example.a": "b \" c"}
        # As the namespace in which the hook runs sees it.
        expected = {"createContainer": 1, "startContainer": 1, "poststop": 0}.get(kind, reported["pid"])
        assert told.get("pid", 0) == expected, kind


def test_in_which_namespaces_each_hook_runs(reported):
    host = {kind: os.readlink("/proc/self/ns/" + kind) for kind in NAMESPACES}
    for kind in KINDS:
        # A hook before pivot_root still sees the host's /proc, in which /proc/self is nobody of its pid namespace.
        seen = reported["see"](kind, "ns").split()
        if kind in ("prestart", "createRuntime", "poststart", "poststop"):
            assert seen == [host[one] for one in NAMESPACES], kind
        elif kind == "startContainer":
            assert seen == [reported["ns"][one] for one in NAMESPACES], kind
    assert "2" in reported["see"]("createContainer", "pid").split()
    assert "sbin" in reported["see"]("createContainer", "root") and "proc" in reported["see"]("createContainer", "here")
    assert "report" in reported["see"]("startContainer", "root")


def test_working_directory_and_environment_of_each_hook(reported):
    b = reported["bundle"]
    for kind in KINDS:
        expected = {"createContainer": b.rootfs, "startContainer": "/"}.get(kind, b.dir)
        assert reported["see"](kind, "cwd").strip() == expected, kind
        env = [line for line in reported["see"](kind, "env").splitlines() if not line.startswith(("PWD=", "SHLVL=", "_=", "PATH=/sbin:"))]
        assert env == ["ONLY=" + kind], kind


def test_create_container_hooks_see_the_mounts_at_the_root_of_the_bundle(oci, bundle, world):
    b = bundle(["sh", "-c", "cat /data/made; cat /bound"])
    os.makedirs(world.path("data"))
    world.write("given", "given\n")
    b.config["mounts"].append({"destination": "/data", "type": "bind", "source": world.path("data"), "options": ["rbind"]})
    b.config["root"]["readonly"] = False
    # All of it in the container's mount namespace: nothing is to be seen on the host.
    script = "echo made >%s/data/made && touch bound && mount --bind %s %s/bound" % (b.rootfs, world.path("given"), b.rootfs)
    b.config["hooks"] = {"createContainer": [dict(say(script), env=["PATH=/usr/bin:/bin"])]}
    b.save()
    assert oci.ok("run", "--bundle", b.dir, world.name()) == "made\ngiven"
    assert read_text(world.path("data/made")) == "made\n"
    assert read_text(os.path.join(b.rootfs, "bound")) == ""


def test_create_runtime_hooks_can_enter_the_mount_namespace(oci, bundle, world):
    b = bundle(["cat", "/bound"])
    b.config["root"]["readonly"] = False
    world.write("given", "given\n")
    script = ("pid=$(grep -o '\"pid\":[0-9]*' | cut -d: -f2); touch %(r)s/bound; "
              "nsenter -m -t $pid mount --bind %(g)s %(r)s/bound") % {"r": b.rootfs, "g": world.path("given")}
    b.config["hooks"] = {"createRuntime": [dict(say(script), env=["PATH=/usr/bin:/bin"])]}
    b.save()
    assert oci.ok("run", "--bundle", b.dir, world.name()) == "given"
    assert read_text(os.path.join(b.rootfs, "bound")) == ""


def test_hooks_of_the_host_find_the_network_namespace(oci, bundle, world):
    b = bundle(["sh", "-c", "readlink /proc/self/ns/net; ip -o link"])
    look = "pid=$(grep -o '\"pid\":[0-9]*' | cut -d: -f2); readlink /proc/$pid/ns/net >>%s; nsenter -n -t $pid ip link set lo mtu 9000" % world.path("seen")
    b.config["hooks"] = {kind: [dict(say(look), env=["PATH=/usr/sbin:/usr/bin:/sbin:/bin"])] for kind in ("prestart", "createRuntime")}
    inside, link = oci.ok("run", "--bundle", b.save().dir, world.name()).splitlines()
    assert read_text(world.path("seen")).split() == [inside] * 2 and inside != os.readlink("/proc/self/ns/net")
    assert "UP" in link and "9000" in link, link


def test_the_order_of_hooks_in_a_list(oci, bundle, world):
    b = bundle(["true"])
    log = world.path("log")
    b.config["hooks"] = {kind: [say("echo %s%d >>%s" % (kind, number, log)) for number in range(3)]
                         for kind in ("prestart", "createRuntime", "createContainer", "poststart", "poststop")}
    b.save()
    oci.ok("run", "--bundle", b.dir, world.name())
    assert read_text(log).split() == [kind + str(number) for kind in ("prestart", "createRuntime", "createContainer", "poststart",
                                                                     "poststop") for number in range(3)]


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_a_hook_that_fails_in_create(oci, bundle, world, kind):
    b = bundle(["sh", "-c", "echo ran"])
    after, stopped, log = world.path("after"), world.path("stopped"), world.path("log.json")
    b.config["hooks"] = {kind: [say("echo why it failed >&2; exit 3"), say("touch " + after)], "poststop": [say("touch " + stopped)]}
    b.save()
    name = world.name()
    oci.fails("create", "--bundle", b.dir, name, status=1, match=["hooks.%s" % kind, "/bin/sh", "3", "why it failed"])
    assert not os.path.exists(after) and os.path.exists(stopped)
    oci.fails("state", name, match="does not exist")
    assert world.leaks(3) == []
    oci.fails("run", "--bundle", b.dir, name, status=1, match="why it failed")
    oci.options += ["--log", log, "--log-format", "json"]
    oci.fails("create", "--bundle", b.dir, name)
    del oci.options[-4:]
    records = [json.loads(line) for line in read_text(log).splitlines()]
    assert len(records) == 1 and "why it failed" in records[0]["msg"] and "/bin/sh" in records[0]["msg"]


def test_a_start_container_hook_that_fails(oci, bundle, world):
    b = bundle(["sh", "-c", "echo ran >/report/ran"])
    os.makedirs(world.path("report"))
    b.config["mounts"].append({"destination": "/report", "type": "bind", "source": world.path("report"), "options": ["rbind"]})
    stopped = world.path("stopped")
    b.config["hooks"] = {"startContainer": [say("echo one >/report/one"), say("echo inside it failed >&2; exit 9"),
                                            say("echo three >/report/three")], "poststop": [say("touch " + stopped)]}
    b.save()
    name = world.name()
    oci.ok("create", "--bundle", b.dir, name)
    oci.fails("start", name, status=1, match=[r"hooks.startContainer\[1\]", "/bin/sh", "9", "inside it failed"])
    wait_for(lambda: state(oci, name)["status"] == "stopped")
    assert os.listdir(world.path("report")) == ["one"] and not os.path.exists(stopped)
    oci.fails("start", name, status=1)
    oci.ok("delete", name)
    assert os.path.exists(stopped)
    oci.fails("run", "--bundle", b.dir, name, status=1, match="inside it failed")
    oci.fails("state", name, match="does not exist")


def test_start_container_hooks_are_the_containers(oci, bundle, world):
    """Its user, its capabilities, its filter, its descriptors and, without an own one, its environment."""
    b = bundle(["true"], env=["PATH=/bin", "OF=container"], user={"uid": 1000, "gid": 1000, "additionalGids": [7]})
    os.makedirs(world.path("report"))
    os.chmod(world.path("report"), 0o777)
    os.chmod(world.base, 0o755)
    b.config["mounts"].append({"destination": "/report", "type": "bind", "source": world.path("report"), "options": ["rbind"]})
    b.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}
    b.config["hooks"] = {"startContainer": [say("cd /report; env >env; cat /proc/self/status >status; ls -l /proc/self/fd >fd; mkdir d 2>mkdir")]}
    b.config["hooks"]["startContainer"][0]["path"] = "/bin/busybox"
    b.save()
    oci.fails("run", "--bundle", b.dir, world.name(), match="startContainer")
    assert "OF=container" in read_text(world.path("report/env"))
    status = dict(line.split(":\t", 1) for line in read_text(world.path("report/status")).splitlines())
    assert status["Uid"].split() == ["1000"] * 4 and status["Groups"].split() == ["7"]
    assert int(status["CapEff"], 16) == 0 and status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert len(read_text(world.path("report/fd")).strip().splitlines()) <= 5
    assert "not supported" in read_text(world.path("report/mkdir"))


def test_a_poststart_hook_that_fails(oci, bundle, world):
    b = bundle(["sleep", "1000"])
    second = world.path("second")
    b.config["hooks"] = {"poststart": [say("echo bad end >&2; exit 4"), say("touch " + second)]}
    b.save()
    name = world.name()
    oci.ok("create", "--bundle", b.dir, name)
    pid = state(oci, name)["pid"]
    oci.fails("start", name, status=1, match=["hooks.poststart", "4", "bad end"])
    assert not alive(pid) and not os.path.exists(second)
    oci.fails("state", name, match="does not exist")
    oci.fails("run", "--bundle", b.dir, name, status=1, match="bad end")
    oci.fails("state", name, match="does not exist")
    oci.fails("run", "--keep", "--bundle", b.dir, name, status=1, match="bad end")
    assert state(oci, name)["status"] == "stopped"
    oci.ok("delete", name)


def test_a_poststop_hook_that_fails_is_told_and_the_rest_run(oci, bundle, world):
    b = bundle(["true"])
    last = world.path("last")
    b.config["hooks"] = {"poststop": [say("echo no good >&2; exit 4"), {"path": "/no/such/hook"}, say("touch " + last)]}
    b.save()
    name = world.name()
    oci.ok("create", "--bundle", b.dir, name)
    result = oci("delete", name)
    assert result.status == 0 and "no good" in result.err and "/no/such/hook" in result.err and os.path.exists(last)
    oci.fails("state", name, match="does not exist")


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer", "poststart"])
def test_a_hook_that_hangs_is_killed_with_its_children(oci, bundle, world, kind):
    b = bundle(["sleep", "1000"])
    mark = "86399.%s" % int(world.id[-6:], 16) if all(c in "0123456789abcdef" for c in world.id[-6:]) else "86399.7"
    b.config["hooks"] = {kind: [dict(say("sleep %s & sleep %s" % (mark, mark)), timeout=1)]}
    b.save()
    name = world.name()
    create = oci("create", "--bundle", b.dir, name)
    result = oci("start", name) if create.status == 0 else create
    assert result.status == 1 and "timeout" in result.err and "hooks." + kind in result.err, result

    def left():
        return [pid for pid in os.listdir("/proc") if pid.isdigit() and mark in read_text("/proc/%s/cmdline" % pid, "")]
    wait_for(lambda: not left())
    oci.ok("delete", "--force", name)


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer"])
def test_a_hook_that_hangs_ends_with_the_containers_process(oci, bundle, world, kind):
    """It has no timeout: a create that waits for it must come back when the process of the container is killed."""
    b = bundle(["sleep", "1000"])
    where = world.path("hook")
    b.config["hooks"] = {kind: [say("echo $$ >%s; exec sleep 1000" % where)]}
    b.save()
    name = world.name()
    with open(world.path("err"), "wb") as err:
        create = subprocess.Popen(oci.command("create", "--bundle", b.dir, name), env=world.environment(), stderr=err)
        world.background.append(create)
        wait_for(lambda: read_text(where, "").strip())
        init = int(re.search(r'"pid": *(\d+)', read_text(os.path.join(world.oci_root, name, "state.json"))).group(1))
        os.kill(init, 9)
        assert create.wait(timeout=40) == 1
    assert world.leaks(5) == []


ASK = {"state": ["state", "ID"], "ps": ["ps", "--format", "json", "ID"], "kill": ["kill", "ID", "0"], "exec": ["exec", "ID", "true"],
       "pause": ["pause", "ID"], "resume": ["resume", "ID"], "update": ["update", "--pids-limit", "50", "ID"], "start": ["start", "ID"],
       "delete": ["delete", "ID"]}


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_a_hook_that_asks_for_its_own_container(oci, bundle, world, kind):
    """Nothing waits for the command that waits for the hook: what looks works, the rest says at once why it does not."""
    b, name = bundle(["sleep", "1000"]), world.name()
    os.makedirs(world.path("said"))
    lines = ["cd %s" % shlex.quote(world.path("said"))]
    for verb, words in ASK.items():
        command = " ".join(shlex.quote(word) for word in oci.command(*[name if word == "ID" else word for word in words]))
        lines.append("%s >%s.out 2>%s.err; echo $? >%s.status" % (command, verb, verb, verb))
    b.config["hooks"] = {kind: [dict(say("\n".join(lines)), env=["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], timeout=60)]}
    b.save()
    began = time.monotonic()
    oci.ok("create", "--bundle", b.dir, name)
    assert time.monotonic() - began < 25

    def said(verb, what):
        return read_text(world.path("said/%s.%s" % (verb, what))).strip()
    told = json.loads(said("state", "out"))
    assert (told["id"], told["status"], told["pid"]) == (name, "creating", state(oci, name)["pid"])
    assert said("state", "status") == said("ps", "status") == "0"
    # In the container's pid namespace the host's numbers mean nobody.
    if kind != "createContainer":
        assert json.loads(said("ps", "out")) == [told["pid"]] and said("kill", "status") == "0"
    assert said("exec", "status") == "255" and "still being made" in said("exec", "err")
    for verb in ("pause", "resume", "update", "start", "delete"):
        assert said(verb, "status") == "1" and "the command that runs this hook is at work on it" in said(verb, "err"), (verb, said(verb, "err"))
    oci.ok("start", name)
    assert state(oci, name)["status"] == "running"


@pytest.mark.parametrize("kind", KINDS[:5])
def test_a_hook_that_does_not_exist_or_cannot_be_executed(oci, bundle, world, kind):
    b = bundle(["sleep", "1000"])
    name = world.name()
    plain = world.write("plain", "no program", 0o644)
    for path, why in (("/no/such/hook", "No such file"), ("/etc/passwd" if kind == "startContainer" else plain, "Permission denied")):
        b.config["hooks"] = {kind: [{"path": path}]}
        b.save()
        create = oci("create", "--bundle", b.dir, name)
        result = oci("start", name) if create.status == 0 else create
        assert result.status == 1 and path in result.err and why in result.err and "hooks." + kind in result.err, result
        oci.ok("delete", "--force", name)


def test_a_hook_that_reads_nothing_and_one_that_prints_a_lot(oci, bundle, world):
    b = bundle(["echo", "ran"])
    noisy = say("i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done")
    b.config["annotations"] = {"big": "x" * 200000}
    b.config["hooks"] = {kind: [say("exec <&-"), noisy] for kind in ("createRuntime", "createContainer", "startContainer")}
    b.save()
    assert oci.ok("run", "--bundle", b.dir, world.name()) == "ran"


@pytest.fixture
def small_memory(world):
    """What to put before a command so that it and what it starts have 24 MiB together."""
    top = "/sys/fs/cgroup/memory" if os.path.isdir("/sys/fs/cgroup/memory") else "/sys/fs/cgroup"
    group = os.path.join(top, "skink-test-memory-" + world.id)
    os.mkdir(group)
    limit = "memory.limit_in_bytes" if top.endswith("memory") else "memory.max"
    with open(os.path.join(group, limit), "w") as file:
        file.write(str(24 << 20))
    yield ["sh", "-c", "echo 0 >%s/cgroup.procs; exec \"$@\"" % group, "sh"]
    for pid in read_text(group + "/cgroup.procs").split():
        os.kill(int(pid), 9)
    wait_for(lambda: not read_text(group + "/cgroup.procs"))
    os.rmdir(group)


FLOOD = (1 << 30 if ALL else 1 << 27) >> 20  # MiB


@pytest.mark.parametrize("kind", KINDS)
def test_f34_a_hook_that_floods_us(oci, bundle, world, small_memory, kind):
    """It is neither blocked nor is what it prints kept: only the end, for the message."""
    b = bundle(["sleep", "1000"])
    flood = "echo first; i=0; while [ $i -lt %d ]; do head -c 1048576 /dev/zero | tr '\\0' x; i=$((i+1)); done; echo; echo last" % FLOOD
    log = world.path("log.json")
    for status in (0, 3):
        name = world.name()
        b.config["hooks"] = {kind: [dict(say("%s; exit %d" % (flood, status)), env=["PATH=/bin:/usr/bin"])]}
        b.save()
        told = ""
        for command in (["create", "--bundle", b.dir, name], ["start", name], ["kill", name, "KILL"]):
            result = oci("--log", log, *command, timeout=300, before=small_memory)
            told += result.err
            if result.status != 0:
                break
        wait_for(lambda: oci("state", name).status != 0 or state(oci, name)["status"] == "stopped")
        told += oci("delete", "--force", name, timeout=300, before=small_memory).err
        if status == 0:
            assert told == ""
        else:
            assert "hooks.%s[0]" % kind in told and "exit status 3: [...]xxx" in told
            assert told.rstrip().endswith("last") and "first" not in told and len(told) < 5000


@pytest.mark.parametrize("kind", KINDS)
def test_f34_a_hook_that_leaves_something_behind(oci, bundle, world, kind):
    """It holds what the hook printed into and goes on printing: nobody waits for it, and nothing ends it."""
    b = bundle(["sleep", "1000"])
    mark = "86397%d" % (int(world.id[:6], 16))
    inside = kind in ("createContainer", "startContainer")
    # In the pid namespace of a container it ends with that, so it has to have lived on before.
    b.config["hooks"] = {kind: [dict(say("(trap '' HUP; while [ $((n=n+1)) -lt 30000 ]; do echo 0123456789; done; exec sleep %s) & echo mine" % mark),
                                     env=["PATH=/bin:/usr/bin"])]}
    b.save()
    name = world.name()

    def left():
        return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and read_text("/proc/%s/cmdline" % pid, "").rstrip("\0").endswith(mark)]
    try:
        oci.ok("create", "--bundle", b.dir, name)
        oci.ok("start", name)
        if inside:
            wait_for(left)
        oci.ok("kill", name, "KILL")
        wait_for(lambda: state(oci, name)["status"] == "stopped")
        oci.ok("delete", name)
        if not inside:
            wait_for(left)
    finally:
        for pid in left():
            os.kill(pid, 9)


@pytest.mark.parametrize("hook, wanted", [
    ({"path": "relative"}, r"hooks.createContainer\[0\].path"), ({"path": "/x", "timeout": 0}, r"hooks.createContainer\[0\].timeout"),
    ({"args": ["x"]}, r"hooks.createContainer\[0\].path"), ({"path": "/x", "env": ["NOEQUALS"]}, r"hooks.createContainer\[0\].env"),
    ({"path": 5}, r"hooks.createContainer\[0\].path"), ({"path": "/x", "timeout": -1}, r"hooks.createContainer\[0\].timeout")])
def test_hooks_that_are_wrong_are_refused_before_anything_is_made(oci, bundle, world, hook, wanted):
    b = bundle()
    b.config["hooks"] = {"createContainer": [hook], "createRuntime": [say("touch " + world.path("ran"))]}
    b.save()
    name = world.name()
    oci.fails("create", "--bundle", b.dir, name, status=1, match=wanted)
    assert not os.path.exists(world.path("ran"))
    oci.fails("state", name, match="does not exist")


def test_hooks_in_a_user_namespace(oci, bundle, world):
    b = bundle(["true"])
    os.chmod(world.base, 0o755)
    os.makedirs(b.rootfs + "/report")
    for kind in ("createContainer", "startContainer"):
        os.makedirs(world.path("report/" + kind))
        os.chmod(world.path("report/" + kind), 0o777)
    b.config["linux"]["namespaces"].append({"type": "user"})
    b.config["linux"]["uidMappings"] = b.config["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    b.config["mounts"].append({"destination": "/report", "type": "bind", "source": world.path("report"), "options": ["rbind"]})
    b.config["hooks"] = {kind: [reporter(world, b, kind)] for kind in ("createContainer", "startContainer")}
    b.save()
    oci.ok("run", "--bundle", b.dir, world.name())
    for kind in ("createContainer", "startContainer"):
        assert json.loads(read_text(world.path("report/%s/state" % kind)))["pid"] == 1
        assert os.stat(world.path("report/%s/state" % kind)).st_uid == 100000


def test_a_lock_of_the_callers_on_another_file_is_not_the_containers(oci, world, bundle):
    """The first file of every tmpfs has the same number."""
    roots = []
    for one in ("roots-state", "roots-other"):
        roots.append(world.path(one))
        os.mkdir(roots[-1])
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=700", "skink-test-keep", roots[-1]], check=True)
    try:
        name = world.name()
        oci.ok("--root", roots[0], "create", "--bundle", bundle(["sleep", "1000"]).dir, name)
        number = os.stat("%s/%s" % (roots[0], name)).st_ino
        for made in range(number + 10):
            path = "%s/%d" % (roots[1], made)
            open(path, "w").close()
            if os.stat(path).st_ino == number:
                break
        assert os.stat(path).st_ino == number
        holder = subprocess.Popen(["flock", "%s/%s" % (roots[0], name), "sh", "-c", "echo held; sleep 1"], stdout=subprocess.PIPE)
        assert holder.stdout.readline() == b"held\n"
        oci.ok("--root", roots[0], "pause", name, before=["flock", path])
        holder.communicate()
    finally:
        oci("--root", roots[0], "delete", "-f", name)
        for root in roots:
            subprocess.run(["umount", root], check=True)

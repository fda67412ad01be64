# SPDX-License-Identifier: Apache-2.0
"""Small things that users of runc rely on, each once missed by somebody who tried skink-oci in its place."""

import json
import os
import stat

import pytest
from skinktest import cgroup_dir, read_text, wait_for

SLEEP = ["sleep", "1000"]


def bind(source, destination):
    return {"destination": destination, "type": "bind", "source": source, "options": ["bind", "rprivate"]}


@pytest.mark.parametrize("action", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_TRAP"])
def test_a_filter_that_refuses_everything_ends_the_container(oci, bundle, world, action):
    """Also the call by which a process ends."""
    b, name = bundle(["true"]), world.name()
    b.config["linux"]["seccomp"] = {"defaultAction": action}
    result = oci("run", "--bundle", b.save().dir, name, timeout=20)
    assert result.status != 0
    oci.ok("delete", "--force", name)
    name = world.name()
    oci.ok("create", "--bundle", b.dir, name, timeout=20)
    oci("start", name, timeout=20)
    oci.ok("delete", "--force", name)
    assert world.leaks(3) == []


@pytest.mark.parametrize("source,destination", [("/dev/urandom", "/dev/random"), ("/dev/null", "/dev/tty"), ("FILE", "/dev/full")])
def test_a_bind_over_a_default_device_stays(oci, bundle, world, source, destination):
    source = world.write("file", "text") if source == "FILE" else source
    b = bundle(["stat", "-c", "%F %t:%T", destination])
    b.config["mounts"].append(bind(source, destination))
    found = os.stat(source)
    kind = "character special file" if stat.S_ISCHR(found.st_mode) else "regular file"
    assert oci.ok("run", "--bundle", b.save().dir, world.name()) == "%s %x:%x" % (kind, os.major(found.st_rdev), os.minor(found.st_rdev))


@pytest.mark.parametrize("there", [True, False])
def test_a_file_on_a_path_that_ends_with_a_slash(oci, bundle, world, there):
    b = bundle(["cat", "/etc/target"])
    if there:
        with open(os.path.join(b.rootfs, "etc/target"), "w") as file:
            file.write("image")
    b.config["mounts"].append(bind(world.write("file", "text"), "/etc/target/"))
    assert oci.ok("run", "--bundle", b.save().dir, world.name()) == "text"


def test_the_whole_root_as_a_read_only_path(oci, bundle, world):
    b = bundle(["sh", "-c", "touch /new; touch /tmp/new && echo kept"])
    b.config["root"]["readonly"] = False
    b.config["linux"]["readonlyPaths"] = ["/", "/proc/sys"]
    result = oci("run", "--bundle", b.save().dir, world.name())
    assert result.out == "kept\n" and "Read-only file system" in result.err, result
    assert not os.path.exists(os.path.join(b.rootfs, "new"))


def test_an_id_that_is_taken_is_told_first(oci, bundle, world):
    b, name = bundle(SLEEP), world.name()
    oci.ok("create", "--bundle", b.dir, name)
    for verb in ("create", "run"):
        said = oci.fails(verb, "--bundle", b.dir, name, status=1, match="container with given ID already exists").err
        assert "cgroup" not in said


def test_times_can_be_read_by_everybody(oci, bundle, world):
    """One directory that is none of a container's must not make a client refuse the whole list."""
    oci.ok("create", "--bundle", bundle(SLEEP).dir, world.name())
    os.mkdir(os.path.join(world.oci_root, "stray"), 0o700)
    for entry in json.loads(oci.ok("list", "--format", "json")):
        assert entry["created"].endswith("Z") and entry["created"][:4].isdigit(), entry
    os.rmdir(os.path.join(world.oci_root, "stray"))


@pytest.mark.parametrize("number", [1, 2])
def test_a_log_that_is_a_standard_stream(oci, bundle, world, number):
    result = oci("--log", {1: "/dev/stdout", 2: "/dev/stderr"}[number], "--debug", "run", "--bundle", bundle(["echo", "ran"]).dir, world.name())
    assert result.status == 0 and "ran\n" in result.out and "level=debug" in {1: result.out, 2: result.err}[number]


@pytest.mark.parametrize("signal,status", [("TERM", 143), ("HUP", 129), ("INT", 130)])
@pytest.mark.parametrize("shared", [False, True], ids=["own-pids", "host-pids"])
def test_a_signal_ends_a_container_that_waits_for_start(oci, bundle, world, signal, status, shared):
    """Also one that is a PID 1, which drops what it has no handler for."""
    b, name = bundle(SLEEP), world.name()
    if shared:
        b.config["linux"]["namespaces"] = [one for one in b.config["linux"]["namespaces"] if one["type"] != "pid"]
    oci.ok("create", "--bundle", b.save().dir, name)
    oci.ok("kill", name, signal)
    wait_for(lambda: json.loads(oci.ok("state", name))["status"] == "stopped")
    oci.fails("start", name, status=1, match="cannot start a container that is stopped")
    oci.ok("delete", name)
    assert status > 128 and world.leaks(3) == []


@pytest.mark.parametrize("signal", ["USR1", "WINCH"])
def test_other_signals_leave_it_waiting(oci, bundle, world, signal):
    b, name, out = bundle(["echo", "ran"]), world.name(), world.path("out")
    with open(out, "wb") as file:
        oci.ok("create", "--bundle", b.dir, name, stdout=file)
    oci.ok("kill", name, signal)
    oci.ok("start", name)
    wait_for(lambda: read_text(out) == "ran\n")


def test_a_hook_that_a_signal_ends_is_told_as_that(oci, bundle, world):
    for kind in ("createRuntime", "createContainer"):
        b = bundle(SLEEP)
        b.config["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", "echo said; kill -9 $$"]}]}
        oci.fails("create", "--bundle", b.save().dir, world.name(), status=1, match=r"was ended by signal SIGKILL \(killed\): said")


def test_a_device_path_with_a_slash_at_its_end(oci, bundle, world):
    b = bundle(["stat", "-c", "%F %t:%T", "/dev/foo"])
    b.config["linux"]["devices"] = [{"path": "/dev/foo/", "type": "b", "major": 10, "minor": 229}]
    assert oci.ok("run", "--bundle", b.save().dir, world.name()) == "block special file a:e5"


def test_a_read_only_path_without_a_slash_in_front(oci, bundle, world):
    b = bundle(["sh", "-c", "touch /tmp/new && touch /etc/new"])
    b.config["root"]["readonly"] = False
    b.config["linux"]["readonlyPaths"] = ["etc", "not/there"]
    result = oci("run", "--bundle", b.save().dir, world.name())
    assert result.status == 1 and "/etc/new: Read-only file system" in result.err, result


def test_debug_tells_the_affinity_of_an_exec(oci, bundle, world):
    b, name = bundle(SLEEP), world.name()
    b.config["process"]["execCPUAffinity"] = {"initial": "0"}
    oci.ok("run", "--detach", "--bundle", b.save().dir, name)
    assert "runs on CPUs 0, affinity: 0x1" in oci("--debug", "exec", name, "true").err


def test_a_kernel_parameter_with_the_end_of_its_line(oci, bundle, world):
    b = bundle(["cat", "/proc/sys/kernel/msgmax"])
    b.config["linux"]["sysctl"] = {"kernel.msgmax": "4711\n"}
    assert oci.ok("run", "--bundle", b.save().dir, world.name()) == "4711"


def test_a_domain_name_that_is_given_twice(oci, bundle, world):
    b = bundle(["cat", "/proc/sys/kernel/domainname"])
    b.config["domainname"], b.config["linux"]["sysctl"] = "one", {"kernel.domainname": "two"}
    oci.fails("run", "--bundle", b.save().dir, world.name(), status=1, match=[r'linux.sysctl\["kernel.domainname"\]', "leave one of them out"])
    b.config["linux"]["sysctl"] = {"kernel.domainname": "one"}
    assert oci.ok("run", "--bundle", b.save().dir, world.name()) == "one"


@pytest.mark.skipif(not os.path.exists("/sys/fs/cgroup/freezer"), reason="no freezer of cgroup v1")
def test_delete_gets_a_process_out_of_anothers_freezer(oci, bundle, world):
    name, foreign = world.name(), "/sys/fs/cgroup/freezer/" + world.name()
    oci.ok("run", "--detach", "--bundle", bundle(SLEEP).dir, name)
    os.mkdir(foreign)
    try:
        for file, text in (("tasks", str(json.loads(oci.ok("state", name))["pid"])), ("freezer.state", "FROZEN")):
            with open(os.path.join(foreign, file), "w") as control:
                control.write(text)
        oci.ok("delete", "--force", name, timeout=8)
    finally:
        with open(foreign + "/freezer.state", "w") as control:
            control.write("THAWED")
        wait_for(lambda: read_text(foreign + "/tasks") == "")
        os.rmdir(foreign)
    assert world.leaks(3) == []


@pytest.mark.parametrize("no_pivot", [[], ["--no-pivot"]], ids=["pivot", "no-pivot"])
@pytest.mark.parametrize("kind", ["tmpcopyup", "tmpfs", "bind"])
def test_a_mount_on_the_root_is_the_root(oci, bundle, world, kind, no_pivot):
    """Nothing that is written there reaches what lies below."""
    b = bundle(["/probe-dir/busybox", "sh", "-c", "echo text > /new; echo text > /tmp/new; busybox=/probe-dir/busybox; $busybox ls / /proc/self/exe; $busybox cat /new"])
    b.config["root"]["readonly"] = False
    tree = world.path("tree")
    os.makedirs(tree + "/tmp")
    mount = {"tmpcopyup": {"type": "tmpfs", "source": "t", "options": ["tmpcopyup"]}, "tmpfs": {"type": "tmpfs", "source": "t"},
             "bind": bind(tree, "/")}[kind]
    b.config["mounts"].insert(0, dict(mount, destination="/"))
    b.config["mounts"] += [bind(os.path.join(b.rootfs, "bin"), "/probe-dir"), {"destination": "/tmp", "type": "tmpfs", "source": "t"}]
    result = oci("run", *no_pivot, "--bundle", b.save().dir, world.name())
    names = result.out.split()
    assert result.status == 0 and names[-1] == "text" and "new" in names and "proc" in names, result
    assert ("etc" in names) == (kind == "tmpcopyup")
    assert not os.path.exists(os.path.join(b.rootfs, "new")) and os.path.exists(tree + "/new") == (kind == "bind")


IGNORES = ["python3", "-c", "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execvp(sys.argv[1], sys.argv[1:])"]


def test_a_caller_that_ignores_its_children(oci, sk, bundle, world):
    """It hands that on, and the kernel then reaps every child before anybody has waited for it."""
    b, name = bundle(["sh", "-c", "exit 7"]), world.name()
    assert oci("run", "--bundle", b.dir, name, before=IGNORES).status == 7
    oci.fails("state", name, match="does not exist")
    b.config["hooks"] = {"prestart": [{"path": "/bin/true"}], "poststop": [{"path": "/bin/true"}]}
    b.config["process"]["args"] = SLEEP
    oci.ok("create", "--bundle", b.save().dir, name, before=IGNORES)
    oci.ok("start", name, before=IGNORES)
    assert oci("exec", name, "sh", "-c", "exit 9", before=IGNORES).status == 9
    assert "sleep" in oci.ok("ps", name, before=IGNORES)
    oci.ok("delete", "-f", name, before=IGNORES)
    assert sk("run", "--rm", "busybox", "sh", "-c", "exit 5", before=IGNORES).status == 5


@pytest.mark.parametrize("verb", ["start", "run"])
def test_a_poststart_hook_may_work_on_its_container(oci, bundle, world, verb):
    b, name = bundle(SLEEP), world.name()
    script = " ".join(oci.command("update", "--pids-limit", "40", name)) + " && " + " ".join(oci.command("pause", name))
    b.config["hooks"] = {"poststart": [{"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 20}]}
    b.save()
    if verb == "run":
        oci.ok("run", "-d", "--bundle", b.dir, name)
    else:
        oci.ok("create", "--bundle", b.dir, name)
        oci.ok("start", name)
    facts = json.loads(oci.ok("state", name))
    directory, _ = cgroup_dir(facts["pid"], "pids")
    assert facts["status"] == "paused" and read_text(directory + "/pids.max").strip() == "40"
    oci.ok("resume", name)
    # One that deletes it and fails has nothing left to be ended.
    other = world.name()
    b.config["hooks"]["poststart"][0]["args"][2] = " ".join(oci.command("delete", "-f", other)) + "; exit 3"
    b.save()
    oci.fails("run", "-d", "--bundle", b.dir, other, match="poststart")
    oci.fails("state", other, match="does not exist")


def test_a_group_that_is_gone_is_no_host_without_controllers(oci, bundle, world):
    b, name = bundle(["true"]), world.name()
    oci.ok("create", "--bundle", b.dir, name)
    pid = json.loads(oci.ok("state", name))["pid"]
    directory, _ = cgroup_dir(pid, "pids")
    with open(os.path.dirname(directory) + "/cgroup.procs", "w") as file:
        file.write(str(pid))
    os.rmdir(directory)
    oci.fails("update", "--pids-limit", "5", name, status=1, match=["control group", "not there any more"])
    oci.ok("delete", "--force", name)

# SPDX-License-Identifier: Apache-2.0
"""Every field of "process" in config.json (runtime-spec 1.3, config.md), as the kernel shows it of the started process."""

import array
import ctypes
import os
import re
import resource
import socket
import stat
import struct
import subprocess
import termios
import fcntl

import pytest
from skinktest import read_text, status_of, wait_for

from test_oci import state

LIBC = ctypes.CDLL(None, use_errno=True)
SLEEP = ["sleep", "1000"]


def started(oci, world, b, *options):
    """The pid of the program of a bundle, executed."""
    name = world.name()
    oci.ok("create", "--bundle", b.save().dir, *options, name)
    oci.ok("start", name)
    return state(oci, name)["pid"]


def output(oci, world, b):
    return oci.ok("run", "--bundle", b.save().dir, world.name())


def refused(oci, world, b, *words, verb="run"):
    """Fails, names the field, and leaves nothing behind."""
    name = world.name()
    oci.fails(verb, "--bundle", b.save().dir, name, match=list(words))
    oci.fails("state", name, match="does not exist")
    assert world.leaks(3) == []


# terminal, consoleSize

def console(oci, world, b):
    path = world.path(world.name("s"))
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(1)
    pid = started(oci, world, b, "--console-socket", path)
    peer, _ = server.accept()
    _, ancillary, _, _ = peer.recvmsg(4096, socket.CMSG_SPACE(4))
    peer.close(), server.close()
    return pid, array.array("i", ancillary[0][2])[0]


def window(fd):
    return struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8))[:2]


def test_the_terminal_has_the_size_of_consolesize(oci, bundle, world):
    pid, master = console(oci, world, bundle(SLEEP, terminal=True, consoleSize={"height": 31, "width": 113}))
    assert window(master) == (31, 113)
    for fd in (0, 1, 2):
        assert os.readlink("/proc/%d/fd/%d" % (pid, fd)) == "/dev/pts/0"
    device = os.stat("/proc/%d/root/dev/console" % pid)
    assert stat.S_ISCHR(device.st_mode) and device.st_rdev == os.stat("/proc/%d/root/dev/pts/0" % pid).st_rdev
    # The controlling terminal, which is field 7 of stat.
    assert int(read_text("/proc/%d/stat" % pid).rsplit(")", 1)[1].split()[4]) != 0
    os.close(master)


def test_the_terminal_belongs_to_the_user(oci, bundle, world):
    b = bundle(SLEEP, terminal=True, user={"uid": 1000, "gid": 1000})
    pid, master = console(oci, world, b)
    assert os.stat("/proc/%d/root/dev/pts/0" % pid).st_uid == 1000
    os.close(master)


def test_consolesize_without_a_terminal_is_ignored(oci, bundle, world):
    b = bundle(["probe", "terminals"], terminal=False, consoleSize={"height": 31, "width": 113})
    assert "0: no tty" in output(oci, world, b) or "0: /dev/null" in output(oci, world, b)


# user

def test_user_groups_and_umask(oci, bundle, world):
    b = bundle(SLEEP, user={"uid": 1234, "gid": 2345, "umask": 0o137, "additionalGids": [7, 8, 4294967294]})
    status = status_of(started(oci, world, b))
    assert status["Uid"].split() == ["1234"] * 4 and status["Gid"].split() == ["2345"] * 4
    assert status["Groups"].split() == ["7", "8", "4294967294"]
    assert int(status["Umask"], 8) == 0o137


def test_without_a_umask_files_are_made_as_usual(oci, bundle, world):
    before = os.umask(0o077)
    try:
        assert int(status_of(started(oci, world, bundle(SLEEP)))["Umask"], 8) == 0o022
    finally:
        os.umask(before)


def test_a_umask_is_a_mode(oci, bundle, world):
    refused(oci, world, bundle(user={"uid": 0, "gid": 0, "umask": 0o1000}), r"process\.user\.umask")


# args, env, cwd

def test_arguments_are_passed_as_they_are(oci, bundle, world):
    args = ["sleep", "1000", "", "a b", "ü\x01\n"]
    pid = started(oci, world, bundle(args[:2]))
    assert read_text("/proc/%d/cmdline" % pid).split("\0")[:2] == args[:2]
    assert output(oci, world, bundle(["sh", "-c", 'printf "<%s>" "$@"', "x"] + args[2:])) == "<><a b><ü\x01\n>"


def environment(pid):
    return [entry for entry in read_text("/proc/%d/environ" % pid).split("\0") if entry]


def test_the_environment_is_the_configured_one_and_home(oci, bundle, world):
    pid = started(oci, world, bundle(SLEEP, env=["PATH=/bin", "B=2", "A=1", "EMPTY=", "LONG=" + "x" * 70000]))
    assert environment(pid) == ["PATH=/bin", "B=2", "A=1", "EMPTY=", "LONG=" + "x" * 70000, "HOME=/root"]


def test_of_a_variable_given_twice_the_last_one_counts(oci, bundle, world):
    pid = started(oci, world, bundle(SLEEP, env=["A=1", "PATH=/nowhere", "B=1", "A=2", "PATH=/bin"]))
    assert environment(pid) == ["B=1", "A=2", "PATH=/bin", "HOME=/root"]


@pytest.mark.parametrize("env, uid, home", [
    (["HOME=/given"], 0, "/given"), (["HOME="], 0, "/root"), ([], 1000, "/home/user"), ([], 4321, "/"),
    (["HOME=/a", "HOME="], 1000, "/home/user"), (["HOME=", "HOME=/b"], 0, "/b")])
def test_home(oci, bundle, world, env, uid, home):
    pid = started(oci, world, bundle(SLEEP, env=["PATH=/bin"] + env, user={"uid": uid, "gid": 0}))
    assert [entry for entry in environment(pid) if entry.startswith("HOME=")] == ["HOME=" + home]


def test_an_environment_entry_without_a_name_is_refused(oci, bundle, world):
    refused(oci, world, bundle(env=["=x"]), r"process\.env\[0\]")
    refused(oci, world, bundle(env=["A=1", "B"]), r"process\.env\[1\]")


def test_cwd(oci, bundle, world):
    assert os.readlink("/proc/%d/cwd" % started(oci, world, bundle(SLEEP, cwd="/var/tmp"))).endswith("/var/tmp")
    b = bundle(["pwd", "-P"], cwd="/link/tmp")
    os.symlink("var", os.path.join(b.rootfs, "link"))
    assert output(oci, world, b) == "/var/tmp"


def test_a_missing_cwd_is_made_below_a_writable_root(oci, bundle, world):
    b = bundle(["pwd"], cwd="/new/er/dir")
    b.config["root"]["readonly"] = False
    assert output(oci, world, b) == "/new/er/dir"
    assert os.path.isdir(os.path.join(b.rootfs, "new/er/dir"))


def test_a_cwd_that_leads_out_of_the_root_stays_inside(oci, bundle, world):
    b = bundle(["pwd", "-P"], cwd="/out")
    os.symlink("../../../../../../tmp", os.path.join(b.rootfs, "out"))
    assert output(oci, world, b) == "/tmp"


def test_a_cwd_that_only_root_may_enter_is_entered_as_root(oci, bundle, world):
    b = bundle(["pwd"], cwd="/private", user={"uid": 1000, "gid": 1000})
    b.config["process"]["capabilities"] = {}
    b.save()
    os.mkdir(os.path.join(b.rootfs, "private"), 0o700)
    assert output(oci, world, b) == "/private"


def test_a_cwd_that_is_a_file_or_cannot_be_entered(oci, bundle, world):
    refused(oci, world, bundle(cwd="/etc/passwd"), r"process\.cwd", "Not a directory")
    refused(oci, world, bundle(cwd=""), r"process\.cwd")
    refused(oci, world, bundle(cwd="bin"), r"process\.cwd")


# capabilities, noNewPrivileges

def mask(*names):
    numbers = {"CAP_CHOWN": 0, "CAP_KILL": 5, "CAP_SETUID": 7, "CAP_NET_BIND_SERVICE": 10, "CAP_AUDIT_WRITE": 29}
    return sum(1 << numbers[name] for name in names)


@pytest.mark.parametrize("uid", [0, 1000])
def test_the_five_sets_of_capabilities(oci, bundle, world, uid):
    sets = {"bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_NET_BIND_SERVICE", "CAP_AUDIT_WRITE"],
            "permitted": ["CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_AUDIT_WRITE"],
            "inheritable": ["CAP_KILL", "CAP_NET_BIND_SERVICE"],
            "effective": ["CAP_KILL", "CAP_NET_BIND_SERVICE"],
            "ambient": ["CAP_NET_BIND_SERVICE"]}
    status = status_of(started(oci, world, bundle(SLEEP, user={"uid": uid, "gid": 0}, capabilities=sets, noNewPrivileges=False)))
    got = {key: int(status[word], 16) for key, word in (("bounding", "CapBnd"), ("permitted", "CapPrm"),
                                                        ("inheritable", "CapInh"), ("effective", "CapEff"), ("ambient", "CapAmb"))}
    assert got["bounding"] == mask(*sets["bounding"])
    assert got["inheritable"] == mask(*sets["inheritable"])
    # execve(2) computes the rest: root gets what is in the bounding set, another user the ambient ones.
    if uid == 0:
        assert got["permitted"] == got["effective"] == mask(*sets["bounding"])
    else:
        assert got["permitted"] == got["effective"] == got["ambient"] == mask(*sets["ambient"])


def test_no_capabilities_are_none(oci, bundle, world):
    b = bundle(SLEEP)
    del b.config["process"]["capabilities"]
    status = status_of(started(oci, world, b))
    assert all(int(status[word], 16) == 0 for word in ("CapBnd", "CapPrm", "CapInh", "CapEff", "CapAmb"))


@pytest.mark.parametrize("wanted", [True, False])
def test_no_new_privileges(oci, bundle, world, wanted):
    assert status_of(started(oci, world, bundle(SLEEP, noNewPrivileges=wanted)))["NoNewPrivs"] == str(int(wanted))


# rlimits

RLIMITS = {"AS": "Max address space", "CORE": "Max core file size", "CPU": "Max cpu time", "DATA": "Max data size",
           "FSIZE": "Max file size", "LOCKS": "Max file locks", "MEMLOCK": "Max locked memory",
           "MSGQUEUE": "Max msgqueue size", "NICE": "Max nice priority", "NOFILE": "Max open files",
           "NPROC": "Max processes", "RSS": "Max resident set", "RTPRIO": "Max realtime priority",
           "RTTIME": "Max realtime timeout", "SIGPENDING": "Max pending signals", "STACK": "Max stack size"}


def host_limits():
    lines = read_text("/proc/self/limits").splitlines()[1:]
    return {line[:26].strip(): line[26:].split()[:2] for line in lines}


def test_every_rlimit_by_its_name(oci, bundle, world):
    host, wanted = host_limits(), {}
    for name, title in RLIMITS.items():
        hard = host[title][1]
        # What is asked is below the host's hard limit (raising it needs CAP_SYS_RESOURCE) and enough to run.
        most = (1 << 40) if hard == "unlimited" else int(hard)
        wanted[name] = (most // 2, most)
    b = bundle(SLEEP, rlimits=[{"type": "RLIMIT_" + name, "soft": soft, "hard": hard} for name, (soft, hard) in wanted.items()])
    pid = started(oci, world, b)
    got = {line[:26].strip(): line[26:].split()[:2] for line in read_text("/proc/%d/limits" % pid).splitlines()[1:]}
    assert {name: got[title] for name, title in RLIMITS.items()} == {
        name: [str(soft), str(hard)] for name, (soft, hard) in wanted.items()}


def test_an_unlimited_rlimit(oci, bundle, world):
    b = bundle(SLEEP, rlimits=[{"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64 - 1}])
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
        pytest.skip("the host's own limit is lower")
    assert "Max core file size        0                    unlimited" in read_text("/proc/%d/limits" % started(oci, world, b))


def has_capability(number):
    return int(status_of(os.getpid())["CapEff"], 16) >> number & 1 == 1


@pytest.mark.vm
def test_raising_a_hard_limit_needs_a_capability(oci, bundle, world):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    b = bundle(SLEEP, rlimits=[{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": hard + 1}])
    if has_capability(24):
        assert str(hard + 1) in read_text("/proc/%d/limits" % started(oci, world, b))
    else:
        refused(oci, world, b, r"process\.rlimits\[0\]", "RLIMIT_NOFILE", "CAP_SYS_RESOURCE")


def test_rlimits_that_make_no_sense(oci, bundle, world):
    refused(oci, world, bundle(rlimits=[{"type": "RLIMIT_WAT", "soft": 1, "hard": 1}]), r"process\.rlimits\[0\]\.type", "RLIMIT_WAT")
    refused(oci, world, bundle(rlimits=[{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]), r"process\.rlimits\[0\]")
    twice = {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}
    refused(oci, world, bundle(rlimits=[twice, twice]), r"process\.rlimits\[1\]")


# apparmorProfile, selinuxLabel (A53)

def test_a_label_that_cannot_be_put_on_is_refused(oci, bundle, world):
    if not read_text("/sys/module/apparmor/parameters/enabled", "").startswith("Y"):
        refused(oci, world, bundle(apparmorProfile="acme"), r"process\.apparmorProfile", "not enabled")
    if not os.path.exists("/sys/fs/selinux/enforce"):
        refused(oci, world, bundle(selinuxLabel="system_u:system_r:svirt_lxc_net_t:s0:c124,c675"), r"process\.selinuxLabel", "not enabled")


def test_no_label_and_unconfined_need_no_lsm(oci, bundle, world):
    assert output(oci, world, bundle(["echo", "in"], apparmorProfile="", selinuxLabel="")) == "in"
    if not read_text("/sys/module/apparmor/parameters/enabled", "").startswith("Y"):
        assert output(oci, world, bundle(["echo", "in"], apparmorProfile="unconfined")) == "in"


PROFILE = """
profile %s flags=(attach_disconnected,mediate_deleted) {
  file,
  capability,
  network,
  signal,
  ptrace,
  mount,
  umount,
  pivot_root,
  unix,
  deny /tmp/** w,
}
"""


@pytest.mark.vm_only
def test_an_apparmor_profile_is_put_on(oci, bundle, world):
    name = "skink-test-" + world.name()
    file = world.write("profile", PROFILE % name)
    subprocess.run(["apparmor_parser", "--add", "--skip-cache", file], check=True)
    try:
        show = "cat /proc/self/attr/current; echo x > /tmp/new && echo written"
        b = bundle(["sh", "-c", show + "; sleep 1000"], apparmorProfile=name)
        b.config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmp"})
        container = world.name()
        oci.ok("create", "--bundle", b.save().dir, container)
        pid = state(oci, container)["pid"]
        oci.ok("start", container)
        wait_for(lambda: read_text("/proc/%d/attr/current" % pid).strip() == name + " (enforce)")
        # exec has the container's, or another one that is named.
        result = oci("exec", container, "sh", "-c", show)
        assert result.out.split() == [name, "(enforce)"] and "Permission denied" in result.err
        result = oci("exec", "--apparmor", "unconfined", container, "sh", "-c", show)
        assert result.out.split() == ["unconfined", "written"]
        oci.fails("exec", "--apparmor", name + "-none", container, "true", status=255, match="apparmor")
        oci.ok("delete", "--force", container)
    finally:
        subprocess.run(["apparmor_parser", "--remove", file], check=True)


# oomScoreAdj

def test_the_oom_score_is_set_or_left_alone(oci, bundle, world):
    pid = started(oci, world, bundle(SLEEP, oomScoreAdj=777))
    assert read_text("/proc/%d/oom_score_adj" % pid).strip() == "777"
    pid = started(oci, world, bundle(SLEEP))
    assert read_text("/proc/%d/oom_score_adj" % pid) == read_text("/proc/self/oom_score_adj")


@pytest.mark.vm
def test_lowering_the_oom_score_needs_a_capability(oci, bundle, world):
    refused(oci, world, bundle(oomScoreAdj=1001), r"process\.oomScoreAdj", "1001")
    b = bundle(SLEEP, oomScoreAdj=-999)
    if has_capability(24):
        assert read_text("/proc/%d/oom_score_adj" % started(oci, world, b)).strip() == "-999"
    else:
        refused(oci, world, b, r"process\.oomScoreAdj", "CAP_SYS_RESOURCE")


# scheduler

class Attributes(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("policy", ctypes.c_uint32), ("flags", ctypes.c_uint64), ("nice", ctypes.c_int32),
                ("priority", ctypes.c_uint32), ("runtime", ctypes.c_uint64), ("deadline", ctypes.c_uint64),
                ("period", ctypes.c_uint64), ("least", ctypes.c_uint32), ("most", ctypes.c_uint32)]


def attributes(pid):
    out = Attributes()
    assert LIBC.syscall(315, pid, ctypes.byref(out), ctypes.sizeof(out), 0) == 0  # sched_getattr
    return out


@pytest.mark.parametrize("policy, number, nice", [("SCHED_OTHER", 0, 7), ("SCHED_OTHER", 0, -5), ("SCHED_BATCH", 3, 11), ("SCHED_IDLE", 5, 0)])
def test_scheduler_of_the_fair_policies(oci, bundle, world, policy, number, nice):
    scheduler = {"policy": policy, "nice": nice} if nice else {"policy": policy}
    got = attributes(started(oci, world, bundle(SLEEP, scheduler=scheduler)))
    # SCHED_IDLE has no nice value; the kernel keeps the one that was there.
    assert (got.policy, got.flags & 1) == (number, 0) and (policy == "SCHED_IDLE" or got.nice == nice)


def real_time_left():
    """Whether no other group has taken the real time of this host, of which 95 % are given away at most."""
    top = "/sys/fs/cgroup/cpu"
    return all(read_text("%s/%s/cpu.rt_runtime_us" % (top, name), "0").strip() in ("0", "") for name in os.listdir(top)
               if os.path.isdir(os.path.join(top, name)))


@pytest.mark.parametrize("policy, number", [("SCHED_FIFO", 1), ("SCHED_RR", 2)])
def test_scheduler_of_the_real_time_policies(oci, bundle, world, policy, number):
    b = bundle(SLEEP, scheduler={"policy": policy, "priority": 42, "flags": ["SCHED_FLAG_RESET_ON_FORK"]})
    if os.path.exists("/sys/fs/cgroup/cpu/cpu.rt_runtime_us"):
        # cgroup v1 gives a new group no real time at all.
        refused(oci, world, b, r"process\.scheduler", "realtimeRuntime")
        if not real_time_left():
            pytest.skip("another group of this host has its real time")
        b.config["linux"]["cgroupsPath"] = "/skink-test-" + world.id
        b.config["linux"]["resources"] = {"cpu": {"realtimeRuntime": 1000, "realtimePeriod": 1000000}}
    got = attributes(started(oci, world, b))
    assert (got.policy, got.priority, got.flags & 1) == (number, 42, 1)


def test_scheduler_of_the_deadline_policy(oci, bundle, world):
    b = bundle(SLEEP, scheduler={"policy": "SCHED_DEADLINE", "runtime": 1000000, "deadline": 20000000, "period": 100000000,
                                 "flags": ["SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_RESET_ON_FORK"]})
    got = attributes(started(oci, world, b))
    assert (got.policy, got.runtime, got.deadline, got.period, got.flags) == (6, 1000000, 20000000, 100000000, 7)


def test_scheduler_flags_that_keep(oci, bundle, world):
    b = bundle(SLEEP, scheduler={"policy": "SCHED_BATCH", "nice": 3, "flags": ["SCHED_FLAG_KEEP_POLICY"]})
    got = attributes(started(oci, world, b))
    assert (got.policy, got.nice) == (0, 3)
    b = bundle(SLEEP, scheduler={"policy": "SCHED_BATCH", "nice": 3, "flags": ["SCHED_FLAG_KEEP_PARAMS"]})
    got = attributes(started(oci, world, b))
    # With kept parameters the kernel keeps the policy too.
    assert (got.policy, got.nice) == (0, os.getpriority(os.PRIO_PROCESS, 0))


def test_utilization_clamps_are_passed_to_the_kernel(oci, bundle, world):
    log = world.path("strace")
    for flag in ("SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX"):
        result = oci("run", "--bundle", bundle(["true"], scheduler={"policy": "SCHED_OTHER", "flags": [flag]}).dir, world.name(),
                     before=["strace", "-f", "-qq", "-e", "trace=sched_setattr", "-o", log])
        asked, answer = re.search(r"sched_setattr\(0, \{.*sched_flags=(\w+).*sched_util_min=0, sched_util_max=0\}, 0\) = (\S+)", read_text(log)).groups()
        assert asked == flag
        # Without CONFIG_UCLAMP_TASK: EOPNOTSUPP.
        assert result.status == 0 if answer == "0" else "process.scheduler: sched_setattr: Operation not supported" in result.err, result


@pytest.mark.parametrize("scheduler, words", [
    ({"policy": "SCHED_WAT"}, "policy"), ({}, "policy"), ({"policy": "SCHED_ISO"}, "SCHED_ISO"),
    ({"policy": "SCHED_OTHER", "nice": 20}, "nice"), ({"policy": "SCHED_OTHER", "priority": 5}, "priority"),
    ({"policy": "SCHED_FIFO"}, "priority"), ({"policy": "SCHED_OTHER", "runtime": 5}, "scheduler"),
    ({"policy": "SCHED_DEADLINE", "runtime": 5, "deadline": 4, "period": 9}, "scheduler"),
    ({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_WAT"]}, "flags")])
def test_schedulers_that_make_no_sense(oci, bundle, world, scheduler, words):
    refused(oci, world, bundle(scheduler=scheduler), r"process\.scheduler", words)


# ioPriority

@pytest.mark.parametrize("name, number, priority", [("RT", 1, 3), ("BE", 2, 7), ("IDLE", 3, 0)])
def test_io_priority(oci, bundle, world, name, number, priority):
    pid = started(oci, world, bundle(SLEEP, ioPriority={"class": "IOPRIO_CLASS_" + name, "priority": priority}))
    assert LIBC.syscall(252, 1, pid) == number << 13 | priority  # ioprio_get


def test_io_priorities_that_make_no_sense(oci, bundle, world):
    refused(oci, world, bundle(ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 8}), r"process\.ioPriority\.priority")
    refused(oci, world, bundle(ioPriority={"class": "IOPRIO_CLASS_WAT", "priority": 1}), r"process\.ioPriority\.class")
    refused(oci, world, bundle(ioPriority={"priority": 1}), r"process\.ioPriority\.class")


# execCPUAffinity

def test_exec_cpu_affinity_is_not_for_the_first_process(oci, bundle, world):
    pid = started(oci, world, bundle(SLEEP, execCPUAffinity={"initial": "0", "final": "0"}))
    assert os.sched_getaffinity(pid) == os.sched_getaffinity(0)


@pytest.mark.parametrize("member", ["initial", "final"])
def test_exec_cpu_affinities_that_make_no_sense(oci, bundle, world, member):
    for text in ("a", "1-", "3-1", "0,,1", "-1"):
        refused(oci, world, bundle(execCPUAffinity={member: text}), r"process\.execCPUAffinity\." + member)


# hostname, domainname, annotations, personality

def test_hostname_and_domainname(oci, bundle, world):
    b = bundle(["cat", "/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname"])
    b.config["hostname"], b.config["domainname"] = "slartibartfast", "magrathea.example"
    before = (socket.gethostname(), read_text("/proc/sys/kernel/domainname"))
    assert output(oci, world, b).split() == ["slartibartfast", "magrathea.example"]
    assert (socket.gethostname(), read_text("/proc/sys/kernel/domainname")) == before


@pytest.mark.parametrize("field", ["hostname", "domainname"])
def test_names_of_the_host_are_not_changed(oci, bundle, world, field):
    b = bundle()
    b.config.pop("hostname")
    b.config[field] = "x" * 65
    refused(oci, world, b, field)
    b.config[field] = "changed"
    b.config["linux"]["namespaces"] = [ns for ns in b.config["linux"]["namespaces"] if ns["type"] != "uts"]
    refused(oci, world, b, field)


def test_annotations_are_told_back(oci, bundle, world):
    b = bundle(SLEEP)
    b.config["annotations"] = {"com.example.key": "värde", "com.example.empty": "", "org.opencontainers.image.os": "linux"}
    name = world.name()
    oci.ok("create", "--bundle", b.save().dir, name)
    assert state(oci, name)["annotations"] == b.config["annotations"]


@pytest.mark.parametrize("domain, number, machine", [("LINUX", 0, os.uname().machine), ("LINUX32", 8, "i686")])
def test_personality(oci, bundle, world, domain, number, machine):
    b = bundle(["sh", "-c", "cat /proc/self/personality; busybox uname -m"])
    b.config["linux"]["personality"] = {"domain": domain, "flags": []}
    words = output(oci, world, b).split()
    assert int(words[0], 16) == number
    if os.uname().machine == "x86_64":
        assert words[1] == machine
    b.config["linux"]["personality"]["domain"] = "SUNOS"
    refused(oci, world, b, r"linux\.personality\.domain")
    b.config["linux"]["personality"] = {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}
    refused(oci, world, b, r"linux\.personality\.flags")


# linux.sysctl

def test_sysctls_of_the_containers_own_namespaces(oci, bundle, world):
    wanted = {"net.ipv4.ip_forward": "1", "net/core/somaxconn": "256", "kernel.shmmax": "12345678", "kernel.msgmax": "9000",
              "fs.mqueue.msg_max": "15"}
    b = bundle(["cat"] + ["/proc/sys/" + key.replace(".", "/") for key in wanted])
    b.config["linux"]["sysctl"] = wanted
    before = [read_text("/proc/sys/" + key.replace(".", "/")) for key in wanted]
    assert output(oci, world, b).split() == list(wanted.values())
    assert [read_text("/proc/sys/" + key.replace(".", "/")) for key in wanted] == before


@pytest.mark.parametrize("key", ["kernel.core_pattern", "vm.swappiness", "net/../kernel/panic", "kernel.hostname.x", "fs.file-max",
                                 "no.such", "net.ipv4.no_such", "kernel.hostname"])
def test_sysctls_of_the_host_are_refused(oci, bundle, world, key):
    b = bundle()
    b.config["linux"]["sysctl"] = {key: "1"}
    refused(oci, world, b, r"linux\.sysctl")


def test_a_sysctl_needs_the_namespace(oci, bundle, world):
    for kind, key in (("network", "net.ipv4.ip_forward"), ("ipc", "kernel.shmmax")):
        b = bundle()
        b.config["linux"]["sysctl"] = {key: "1"}
        b.config["linux"]["namespaces"] = [ns for ns in b.config["linux"]["namespaces"] if ns["type"] != kind]
        refused(oci, world, b, r"linux\.sysctl", kind)


# linux.memoryPolicy

def policy_of(pid):
    """The policy of the process, which the kernel shows beside each of its mappings."""
    return read_text("/proc/%d/numa_maps" % pid).splitlines()[0].split()[1]


@pytest.mark.parametrize("policy, shown", [
    ({"mode": "MPOL_DEFAULT"}, "default"), ({"mode": "MPOL_BIND", "nodes": "0"}, "bind:0"),
    ({"mode": "MPOL_INTERLEAVE", "nodes": "0"}, "interleave:0"), ({"mode": "MPOL_PREFERRED", "nodes": "0"}, "prefer:0"),
    ({"mode": "MPOL_PREFERRED"}, "local"), ({"mode": "MPOL_LOCAL"}, "local"),
    ({"mode": "MPOL_PREFERRED_MANY", "nodes": "0-0"}, "prefer (many):0"),
    ({"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": " 0 "}, "weighted interleave:0"),
    ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, "bind=static:0"),
    ({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]}, "interleave=relative:0"),
    ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]}, "bind=balancing:0")])
def test_memory_policy(oci, bundle, world, policy, shown):
    b = bundle(SLEEP)
    b.config["linux"]["memoryPolicy"] = policy
    line = read_text("/proc/%d/numa_maps" % started(oci, world, b)).splitlines()[0].split(" ", 1)[1]
    assert line.startswith(shown), line


@pytest.mark.parametrize("policy, words", [
    ({}, "mode"), ({"mode": "MPOL_WAT"}, "mode"), ({"mode": "MPOL_DEFAULT", "nodes": "0"}, "nodes"),
    ({"mode": "MPOL_LOCAL", "nodes": "0"}, "nodes"), ({"mode": "MPOL_BIND"}, "nodes"), ({"mode": "MPOL_INTERLEAVE", "nodes": ""}, "nodes"),
    ({"mode": "MPOL_BIND", "nodes": "0-"}, "nodes"), ({"mode": "MPOL_BIND", "nodes": "99999999"}, "nodes"),
    ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_WAT"]}, "flags"), ({"mode": "MPOL_BIND", "nodes": "1000"}, "memoryPolicy")])
def test_memory_policies_that_make_no_sense(oci, bundle, world, policy, words):
    b = bundle()
    b.config["linux"]["memoryPolicy"] = policy
    refused(oci, world, b, r"linux\.memoryPolicy", words)


# linux.intelRdt; what is written there is looked at by the unit test of a fake tree.

def test_intel_rdt_without_resctrl_is_refused(oci, bundle, world):
    if " - resctrl " in read_text("/proc/self/mountinfo"):
        pytest.skip("this host has resctrl")
    b = bundle()
    b.config["linux"]["intelRdt"] = {"closID": "gold", "schemata": ["L3:0=f"]}
    refused(oci, world, b, r"linux\.intelRdt", "resctrl")


@pytest.mark.parametrize("rdt, words", [
    ({"closID": ".."}, "closID"), ({"closID": "a/b"}, "closID"), ({"closID": "x" * 256}, "closID"), ({"closID": 5}, "closID"),
    ({"schemata": ["L3:0=f\nMB:0=1"]}, "schemata"), ({"memBwSchema": "L3:0=1"}, "memBwSchema"), ({"l3CacheSchema": "L3:0=1\n"}, "l3CacheSchema"),
    ({"enableMonitoring": "yes"}, "enableMonitoring")])
def test_intel_rdt_values_that_make_no_sense(oci, bundle, world, rdt, words):
    b = bundle()
    b.config["linux"]["intelRdt"] = rdt
    refused(oci, world, b, r"linux\.intelRdt", words)

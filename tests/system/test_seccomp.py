# SPDX-License-Identifier: Apache-2.0
"""skink-oci: linux.seccomp: every action, operator and flag, and a supervisor of SCMP_ACT_NOTIFY."""

import array
import errno
import fcntl
import json
import os
import socket
import struct
import threading

import pytest
from skinktest import alive, read_text, status_of, wait_for

RECV, SEND = 0xC0502100, 0xC0182101
CONTINUE = 1
MKDIR = ["mkdir", "mkdirat"]


def with_filter(bundle, args, seccomp, **process):
    b = bundle(args, **process)
    b.config["linux"]["seccomp"] = seccomp
    return b.save()


def allow_but(action, names=None, **more):
    rule = {"names": names or MKDIR, "action": action}
    rule.update(more)
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}


@pytest.mark.parametrize("action, more, status, said", [
    ("SCMP_ACT_ERRNO", {}, 1, "Operation not permitted"),
    ("SCMP_ACT_ERRNO", {"errnoRet": errno.ENOTSUP}, 1, "not supported"),
    ("SCMP_ACT_KILL", {}, 159, ""), ("SCMP_ACT_KILL_THREAD", {}, 159, ""), ("SCMP_ACT_KILL_PROCESS", {}, 159, ""),
    ("SCMP_ACT_TRAP", {}, 159, ""),
    # Nobody traces: the kernel says that there is no such call.
    ("SCMP_ACT_TRACE", {}, 1, "not implemented"), ("SCMP_ACT_TRACE", {"errnoRet": 7}, 1, "not implemented"),
    ("SCMP_ACT_LOG", {}, 0, ""), ("SCMP_ACT_ALLOW", {}, 0, "")])
@pytest.mark.parametrize("privileges", [True, False])
def test_actions(oci, bundle, world, action, more, status, said, privileges):
    b = with_filter(bundle, ["mkdir", "/tmp/made"], allow_but(action, **more), noNewPrivileges=privileges)
    result = oci("run", "--bundle", b.dir, world.name())
    assert result.status == status and said in result.err, result


def test_the_default_action_and_its_errno(oci, bundle, world):
    allowed = """execve arch_prctl set_tid_address set_robust_list rseq brk mprotect prlimit64 readlink readlinkat getrandom getuid
        getgid geteuid getegid exit exit_group write writev read open openat close dup dup2 fcntl stat fstat lstat newfstatat statx
        rt_sigaction rt_sigprocmask rt_sigreturn ioctl getpid getppid getcwd uname umask mmap munmap mremap access setpgid getpgrp
        fork vfork clone wait4 chdir setuid setgid prctl close_range clone3""".split()
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": errno.EDOM, "syscalls": [{"names": allowed, "action": "SCMP_ACT_ALLOW"}]}
    result = oci("run", "--bundle", with_filter(bundle, ["mkdir", "/tmp/x"], profile).dir, world.name())
    assert result.status == 1 and "out of domain" in result.err, result
    del profile["defaultErrnoRet"]
    result = oci("run", "--bundle", with_filter(bundle, ["mkdir", "/tmp/x"], profile).dir, world.name())
    assert result.status == 1 and "not permitted" in result.err, result


OPERATORS = [("SCMP_CMP_EQ", {"value": 5000}, [5000], [4999, 5001]), ("SCMP_CMP_NE", {"value": 5000}, [4999], [5000]),
             ("SCMP_CMP_LT", {"value": 5000}, [4999], [5000, 5001]), ("SCMP_CMP_LE", {"value": 5000}, [4999, 5000], [5001]),
             ("SCMP_CMP_GT", {"value": 5000}, [5001], [5000, 4999]), ("SCMP_CMP_GE", {"value": 5000}, [5000, 5001], [4999]),
             ("SCMP_CMP_MASKED_EQ", {"value": 0xFF00, "valueTwo": 0x1200}, [0x1234, 0x12FF], [0x1334])]


@pytest.mark.parametrize("op, values, hit, missed", OPERATORS)
def test_operators(oci, bundle, world, op, values, hit, missed):
    """Looked at through kill(PID, 0) of processes that do not exist."""
    profile = allow_but("SCMP_ACT_ERRNO", ["kill"], errnoRet=errno.EDOM, args=[dict(values, index=0, op=op)])
    script = "; ".join("kill -0 %d 2>&1" % pid for pid in hit + missed)
    out = oci.ok("run", "--bundle", with_filter(bundle, ["sh", "-c", script + "; true"], profile).dir, world.name()).splitlines()
    assert ["domain" in line for line in out] == [True] * len(hit) + [False] * len(missed), out


def test_flags_and_architectures(oci, bundle, world):
    flags = ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]
    profile = allow_but("SCMP_ACT_ERRNO")
    profile["architectures"] = ["SCMP_ARCH_" + name for name in
                                "X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE "
                                "S390 S390X PARISC PARISC64 RISCV64".split()]
    for chosen in [flags] + [[flag] for flag in flags]:
        profile["flags"] = chosen
        out = oci.ok("run", "--bundle", with_filter(bundle, ["grep", "Seccomp", "/proc/self/status"], profile).dir, world.name())
        assert "Seccomp:\t2" in out and "Seccomp_filters:\t1" in out


@pytest.mark.parametrize("change, wanted", [
    ({"defaultAction": "SCMP_ACT_WAT"}, "linux.seccomp.defaultAction"), ({"architectures": ["SCMP_ARCH_WAT"]}, r"linux.seccomp.architectures\[0\]"),
    ({"flags": ["WAT"]}, r"linux.seccomp.flags\[0\]"), ({"listenerMetadata": "x"}, "linux.seccomp.listenerMetadata"),
    ({"syscalls": [{"names": [], "action": "SCMP_ACT_ALLOW"}]}, r"linux.seccomp.syscalls\[0\].names"),
    ({"syscalls": [{"names": ["read"], "action": "WAT"}]}, r"linux.seccomp.syscalls\[0\].action"),
    ({"syscalls": [{"names": ["read"], "action": "SCMP_ACT_KILL", "errnoRet": 1}]}, r"linux.seccomp.syscalls\[0\].errnoRet"),
    ({"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]}, r"args\[0\].index"),
    ({"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "WAT"}]}]}, r"args\[0\].op"),
    ({"syscalls": [{"names": MKDIR, "action": "SCMP_ACT_NOTIFY"}]}, "linux.seccomp.listenerPath"),
    ({"syscalls": [{"names": ["write"], "action": "SCMP_ACT_NOTIFY"}], "listenerPath": "/run/x"}, "write"),
    ({"syscalls": [{"names": MKDIR, "action": "SCMP_ACT_NOTIFY"}], "listenerPath": "/no/such/socket"}, "linux.seccomp.listenerPath: .*no/such"),
    ({"syscalls": [{"names": MKDIR, "action": "SCMP_ACT_NOTIFY"}], "listenerPath": "/etc/passwd"}, "linux.seccomp.listenerPath: .*no socket"),
    ({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/run/x"}, "linux.seccomp.defaultAction")])
def test_profiles_that_are_wrong(oci, bundle, world, change, wanted):
    profile = {"defaultAction": "SCMP_ACT_ALLOW"}
    profile.update(change)
    oci.fails("create", "--bundle", with_filter(bundle, ["true"], profile).dir, world.name(), status=1, match=wanted)
    assert world.leaks(3) == []


class Supervisor:
    """Takes one container process state and answers every call that it is asked about."""

    def __init__(self, path, answer):
        self.path, self.answer, self.asked, self.payload, self.fds = path, answer, [], b"", []
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(path)
        self.server.listen(4)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        peer, _ = self.server.accept()
        while True:
            data, ancillary, _, _ = peer.recvmsg(65536, socket.CMSG_SPACE(4 * 4))
            for _, _, raw in ancillary:
                self.fds += array.array("i", raw[:len(raw) - len(raw) % 4])
            if not data:
                break
            self.payload += data
        peer.close()
        while True:
            notice = bytearray(80)
            try:
                fcntl.ioctl(self.fds[0], RECV, notice)
                number, pid, _, call = struct.unpack_from("=QIIi", notice)
                self.asked.append((pid, call))
                fcntl.ioctl(self.fds[0], SEND, struct.pack("=QqiI", number, *self.answer))
            except OSError:
                return

    def state(self):
        wait_for(lambda: self.payload.endswith(b"}") and self.fds)
        return json.loads(self.payload)

    def close(self):
        self.server.close()
        for fd in self.fds:
            os.close(fd)


def notify(world, path=None, names=None, **more):
    profile = allow_but("SCMP_ACT_NOTIFY", names)
    profile.update(listenerPath=path or world.path("listener"), **more)
    return profile


@pytest.mark.parametrize("privileges", [True, False])
@pytest.mark.parametrize("answer, said", [((0, -errno.EDOM, 0), "out of domain"), ((0, 0, CONTINUE), "")])
def test_a_supervisor_is_asked(oci, bundle, world, privileges, answer, said):
    supervisor = Supervisor(world.path("listener"), answer)
    b = with_filter(bundle, ["sh", "-c", "mkdir /tmp/x 2>&1; test -d /tmp/x && echo made; true"], notify(world, listenerMetadata="MKDIR=1"),
                    noNewPrivileges=privileges)
    b.config["annotations"] = {"org.example.key": "value"}
    b.save()
    name = world.name()
    out = oci.ok("run", "--bundle", b.dir, name)
    told = supervisor.state()
    assert (said in out) if said else out == "made"
    assert told["fds"] == ["seccompFd"] and told["metadata"] == "MKDIR=1" and told["ociVersion"]
    assert told["state"]["id"] == name and told["state"]["bundle"] == b.dir and told["state"]["status"] == "creating"
    assert told["state"]["pid"] == told["pid"] > 1 and told["state"]["annotations"] == {"org.example.key": "value"}
    assert len(supervisor.fds) == 1 and len(supervisor.asked) == 1
    supervisor.close()


def test_a_supervisor_of_create_and_start(oci, bundle, world):
    supervisor = Supervisor(world.path("listener"), (0, -errno.EDOM, 0))
    name = world.name()
    b = with_filter(bundle, ["sh", "-c", "mkdir /tmp/x; ls /proc/self/fd | wc -l; sleep 1000"], notify(world))
    with open(world.path("out"), "wb") as out:
        assert oci("create", "--bundle", b.dir, name, stdout=out, stderr=out).status == 0
    pid = json.loads(oci.ok("state", name))["pid"]
    oci.ok("start", name)
    told = supervisor.state()
    assert told["pid"] == pid and told["state"]["status"] == "created" and "metadata" not in told
    # Neither the listener nor anything else is left in the container: 0, 1, 2 and the directory that is read.
    wait_for(lambda: "4" in read_text(world.path("out")).split())
    assert "domain" in read_text(world.path("out"))
    assert status_of(pid)["Seccomp_filters"] == "1"
    assert not [fd for fd in os.listdir("/proc/%d/fd" % pid) if "seccomp" in os.readlink("/proc/%d/fd/%s" % (pid, fd))]
    oci.ok("delete", "--force", name)
    supervisor.close()


def test_a_filter_that_forbids_what_start_takes(oci, bundle, world):
    """What waits for `start` has its filter already where that lets it go on, and else gets it last."""
    for names, waits_under_it in ((MKDIR, True), (["accept4", "dup3", "sendmsg"], False)):
        b, name = with_filter(bundle, ["sleep", "1000"], allow_but("SCMP_ACT_KILL_PROCESS", names)), world.name()
        oci.ok("create", "--bundle", b.dir, name)
        pid = json.loads(oci.ok("state", name))["pid"]
        wait_for(lambda: status_of(pid)["Seccomp_filters"] == str(int(waits_under_it)))
        oci.ok("start", name)
        assert status_of(pid)["Seccomp_filters"] == "1" and status_of(pid)["SigBlk"] == "0" * 16, names
        oci.ok("delete", "--force", name)
    b, name = with_filter(bundle, ["true"], allow_but("SCMP_ACT_ERRNO", ["execve"])), world.name()
    oci.ok("create", "--bundle", b.dir, name)
    oci.fails("start", name, match=["exec", "not permitted"])
    oci.ok("delete", "--force", name)


def test_a_supervisor_of_exec(oci, bundle, world):
    first = Supervisor(world.path("listener"), (0, 0, CONTINUE))
    name = world.name()
    b = with_filter(bundle, ["sleep", "1000"], notify(world, listenerMetadata="m"))
    oci.ok("create", "--bundle", b.dir, name)
    oci.ok("start", name)
    first.state()
    first.server.close()
    os.unlink(world.path("listener"))
    oci.fails("exec", name, "true", match="linux.seccomp.listenerPath")
    second = Supervisor(world.path("listener"), (0, -errno.EDOM, 0))
    result = oci("exec", name, "mkdir", "/tmp/x")
    assert result.status == 1 and "domain" in result.err, result
    told, init = second.state(), json.loads(oci.ok("state", name))["pid"]
    assert told["state"]["pid"] == init != told["pid"] and told["state"]["status"] == "running" and told["metadata"] == "m"
    assert told["state"]["id"] == name and told["state"]["bundle"] == b.dir
    oci.ok("delete", "--force", name)
    first.close(), second.close()


def test_calls_of_the_last_steps_can_be_supervised(oci, bundle, world):
    """The supervisor has the listener before the next call is made, so even execve and close may be its business."""
    supervisor = Supervisor(world.path("listener"), (0, 0, CONTINUE))
    b = with_filter(bundle, ["echo", "ran"], notify(world, names=["execve", "close", "close_range", "read", "recvmsg", "sendmsg"]))
    assert oci.ok("run", "--bundle", b.dir, world.name()) == "ran"
    supervisor.close()


def test_a_supervisor_that_is_gone(oci, bundle, world):
    server = socket.socket(socket.AF_UNIX)
    server.bind(world.path("listener"))
    b = with_filter(bundle, ["sh", "-c", "echo ran"], notify(world))
    name = world.name()
    oci.ok("create", "--bundle", b.dir, name)
    pid = json.loads(oci.ok("state", name))["pid"]
    server.close()
    oci.fails("start", name, status=1, match=["linux.seccomp.listenerPath", "refused"])
    wait_for(lambda: not alive(pid))
    oci.ok("delete", name)
    result = oci("run", "--bundle", b.dir, world.name())
    assert result.status == 1 and "listenerPath" in result.err and "ran" not in result.out
    assert world.leaks(3) == []


def test_a_listener_path_without_a_notify_rule_is_ignored(oci, bundle, world):
    profile = allow_but("SCMP_ACT_ERRNO")
    profile["listenerPath"] = "/no/such/socket"
    assert oci.ok("run", "--bundle", with_filter(bundle, ["echo", "ran"], profile).dir, world.name()) == "ran"


def test_a_listener_path_longer_than_an_address(oci, bundle, world):
    deep = world.path("d" * 100)
    os.makedirs(deep)
    here = os.getcwd()
    os.chdir(deep)
    try:
        supervisor = Supervisor("listener", (0, -errno.EDOM, 0))
    finally:
        os.chdir(here)
    b = with_filter(bundle, ["mkdir", "/tmp/x"], notify(world, os.path.join(deep, "listener")))
    result = oci("run", "--bundle", b.dir, world.name())
    assert result.status == 1 and "domain" in result.err, result
    supervisor.close()

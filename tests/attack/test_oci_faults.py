# SPDX-License-Identifier: Apache-2.0
"""F21 through skink-oci: system calls that fail."""

import re

import pytest
from skinktest import ALL, Bundle, needs, read_text

# What the kernel says about the program: where a failing call made a difference here, the container was weaker.
WATCHED = ["/proc/self/status", "/proc/self/mountinfo", "/proc/self/cgroup", "/proc/self/limits", "/proc/self/oom_score_adj",
           "/proc/sys/kernel/hostname", "/proc/sys/kernel/msgmax", "/proc/net/dev", "/proc/keys", "/proc/timer_list"]
FIELDS = ("Umask", "Pid", "PPid", "Uid", "Gid", "Groups", "NSpid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp",
          "Seccomp_filters", "Cpus_allowed_list", "SigBlk", "SigIgn")
ERRORS = ["EPERM", "ENOSYS", "EIO", "EINTR", "EAGAIN", "ENOSPC"]
# Without those that cannot fail.
CALLS = ["arch_prctl", "capset", "chdir", "clone3", "close", "close_range", "execveat", "faccessat2", "fchdir", "fchmodat", "fcntl", "flock",
         "fsconfig", "fsmount", "fsopen", "fstatfs", "getdents64", "keyctl", "memfd_create", "mkdirat", "mknodat", "mount_setattr",
         "move_mount", "newfstatat", "open_tree", "openat", "openat2", "pidfd_open", "pivot_root", "prctl", "prlimit64", "read", "recvmsg",
         "renameat2", "sched_setaffinity", "seccomp", "sendmsg", "sendto", "setgroups", "sethostname", "setresgid", "setresuid",
         "setsid", "signalfd4", "socketpair", "statx", "symlinkat", "umount2", "unlinkat", "unshare", "waitid", "write"]


def guarded(world):
    b = Bundle(world, ["cat"] + WATCHED, oomScoreAdj=77, apparmorProfile="", user={"uid": 5, "gid": 6, "additionalGids": [7], "umask": 0o27},
               rlimits=[{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}])
    b.config["linux"]["sysctl"] = {"kernel.msgmax": "7777"}
    b.config["linux"]["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 50}}
    b.config["linux"]["cgroupsPath"] = "/skink-test-%s" % world.id
    b.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}]}
    return b.save()


def shown(text):
    """The report without what differs from run to run."""
    lines = []
    for line in text.splitlines():
        words = line.split()
        if " - " in line and words[0].isdigit():
            rest = line.split(" - ")[1].split()
            line = " ".join([words[3] if rest[0] != "cgroup" else "", words[4], words[5], rest[0]])
        elif re.match(r"\w+:\s", line) and not re.match(r"\d+:", line) and words[0][:-1] not in FIELDS:
            continue
        elif "Inter-" in line or "face |" in line or words[:1] == ["lo:"]:
            line = words[0]
        lines.append(line)
    return lines


class Injected:
    """One run in which a call fails: what strace saw of it."""

    def __init__(self, oci, world, bundle, name, call, error, number):
        log = world.path("strace")
        self.result = oci("run", "--bundle", bundle.dir, name, timeout=60, before=[
            "strace", "-f", "-qq", "-o", log, "-e", "trace=execve," + call, "-e", "signal=none", "-e", "inject=%s:error=%s:when=%d" % (call, error, number)])
        self.inside = self.hit = False
        programs = set()
        for line in read_text(log).splitlines():
            pid = line.split()[0]
            if 'execve("/bin/cat"' in line:
                programs.add(pid)
            if "(INJECTED)" in line:
                self.hit = True
                self.inside |= pid in programs


@pytest.mark.timeout(7200 if ALL else 400)
@pytest.mark.parametrize("call", CALLS)
def test_f21_a_call_that_fails(oci, world, canary, call):
    """Without it the container is the same, or there is none and the reason is told; never a weaker one, never remains."""
    needs("strace")
    b, name = guarded(world), world.name()
    reference = shown(oci.ok("run", "--bundle", b.dir, name))
    assert "Seccomp: 2" in [" ".join(line.split()) for line in reference] and "7777" in reference
    numbers = range(1, 1000) if ALL else [1, 2, 3, 4, 6, 9, 13, 20, 31, 48]
    for number in numbers:
        hit = False
        for error in ERRORS if ALL else [ERRORS[(number + CALLS.index(call)) % len(ERRORS)]]:
            one = Injected(oci, world, b, name, call, error, number)
            hit |= one.hit
            where = (call, error, number, one.result)
            assert one.result.status >= 0, where
            if one.hit and not one.inside:
                if one.result.out:
                    assert shown(one.result.out) == reference, where
                else:
                    # fcntl: whether there is a standard error to tell it on is just what it failed to find out.
                    assert one.result.status != 0 and (one.result.err.strip() or call == "fcntl"), where
                    assert "AddressSanitizer" not in one.result.err
            oci.ok("delete", "--force", name)
            assert world.leaks(5) == [], where
        if not hit:
            break

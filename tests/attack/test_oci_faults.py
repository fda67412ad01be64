# SPDX-License-Identifier: Apache-2.0
"""F21 through skink-oci: system calls that fail."""

import json
import os
import re
import signal
import subprocess

import pytest
from skinktest import ALL, Bundle, check_sane_text, listdir, needs, read_text, wait_for

# What the kernel says about the program: where a failing call made a difference here, the container was weaker.
WATCHED = ["/proc/self/status", "/proc/self/mountinfo", "/proc/self/cgroup", "/proc/self/limits", "/proc/self/oom_score_adj",
           "/proc/sys/kernel/hostname", "/proc/sys/kernel/msgmax", "/proc/net/dev", "/proc/keys", "/proc/timer_list"]
FIELDS = ("Umask", "Pid", "PPid", "Uid", "Gid", "Groups", "NSpid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp",
          "Seccomp_filters", "Cpus_allowed_list", "SigBlk", "SigIgn")
ERRORS = ["EPERM", "ENOSYS", "EIO", "EINTR", "EAGAIN", "ENOSPC"]
# Without those that cannot fail. Nor is close among them: the kernel's has closed whatever it answers, one that strace lets
# fail has not, and then an end of file that somebody waits for never comes.
CALLS = ["arch_prctl", "capset", "chdir", "clone3", "close_range", "execveat", "faccessat2", "fchdir", "fchmodat", "fcntl", "flock",
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


class Traced:
    """One command in which a call fails, of itself or of what it starts. What lives on is let go when the command has ended."""

    def __init__(self, oci, world, words, call, error, number):
        log, out, err = world.path("strace"), world.path("out"), world.path("err")
        before = ["strace", "-f", "-q", "-I", "2", "-o", log, "-e", "trace=" + call, "-e", "signal=none",
                  "-e", "inject=%s:error=%s:when=%d" % (call, error, number)]
        if os.path.exists(log):
            os.unlink(log)
        with open(out, "ab") as stdout, open(err, "wb") as stderr:
            process = subprocess.Popen(before + oci.command(*words), env=world.environment(), stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
        world.background.append(process)

        # It may be long gone when we first look; what it left behind keeps strace.
        def ended():
            children = read_text("/proc/%d/task/%d/children" % (process.pid, process.pid), "").split()
            lives = any("skink-oci" in read_text("/proc/%s/cmdline" % pid, "") for pid in children)
            return process.poll() is not None or (not lives and "+++ exited" in read_text(log, ""))
        wait_for(ended, 60, message="%s %s %d" % (call, error, number))
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        text = read_text(log)
        self.hit = "(INJECTED)" in text
        self.err = read_text(err)


# Those of F21 that skink-oci makes, and what else its other verbs do.
VERB_CALLS = ["openat2", "openat", "mount_setattr", "move_mount", "fsopen", "clone3", "pidfd_open", "pidfd_send_signal", "unshare", "renameat2", "write",
              "read", "setgroups", "prctl", "keyctl", "mkdirat", "unlinkat", "bind", "listen", "connect", "accept4", "flock", "fchmod",
              "memfd_create", "pipe2", "sendto", "recvmsg", "poll", "ppoll", "waitid", "getdents64", "newfstatat", "fstatfs", "execve", "lseek"]


@pytest.mark.timeout(7200 if ALL else 400)
@pytest.mark.parametrize("verb", ["create", "start", "delete", "delete-force"])
def test_f21_a_call_of_the_other_verbs_fails(oci, world, canary, verb):
    """It works all the same, or says why it does not; then delete --force clears whatever is there."""
    needs("strace")
    b, log = guarded(world), world.path("program")
    b.config["mounts"].append({"destination": "/out", "type": "bind", "source": world.base, "options": ["bind"]})
    b.config["process"]["user"] = {"uid": 0, "gid": 0}
    b.config["process"]["args"] = ["sh", "-c", "cat %s >/out/program" % " ".join(WATCHED)]
    b.config["hooks"] = {kind: [{"path": "/bin/true"}] for kind in ("createRuntime", "createContainer", "startContainer", "poststart", "poststop")}
    b.save()

    def make(name, steps):
        for step in steps:
            oci.ok(*{"create": ["create", "--bundle", b.dir, name]}.get(step, [step, name]))

    def status(name):
        answer = oci("state", name)
        return json.loads(answer.out)["status"] if answer.status == 0 else None
    first = world.name()
    make(first, ["create", "start"])
    wait_for(lambda: status(first) == "stopped")
    reference = shown(read_text(log))
    assert "7777" in reference
    oci.ok("delete", first)
    words = {"create": ["create", "--bundle", b.dir], "delete-force": ["delete", "--force"]}.get(verb, [verb])
    runs = hits = 0
    for call in VERB_CALLS:
        for number in range(1, 1000) if ALL else (1, 2, 5, 12):
            hit = False
            for error in ERRORS if ALL else [ERRORS[(number + VERB_CALLS.index(call)) % len(ERRORS)]]:
                name = world.name()
                if os.path.exists(log):
                    os.unlink(log)
                make(name, {"create": [], "start": ["create"], "delete": ["create", "start"], "delete-force": ["create"]}[verb])
                if verb == "delete":
                    wait_for(lambda name=name: status(name) == "stopped")
                one = Traced(oci, world, words + [name], call, error, number)
                runs, hits, hit = runs + 1, hits + one.hit, hit or one.hit
                where = (call, error, number, one.err)
                after = status(name)
                assert "AddressSanitizer" not in one.err, where
                told = one.err.strip()
                # A process that is lost when create has ended already is start's to tell about.
                if verb == "create" and after is not None:
                    told += oci("start", name).err.strip()
                # A start that has said why it did nothing leaves the container as it was.
                if verb == "start" and after == "created":
                    assert one.err.strip(), where
                elif verb in ("create", "start") and after in ("created", "running", "stopped"):
                    wait_for(lambda name=name: status(name) in ("stopped", None), 30, message=where)
                    # A container that ran was no weaker than the one in which nothing failed, as far as it came: a poststart
                    # hook that fails ends it.
                    got = shown(read_text(log, ""))
                    assert got == reference or (told and got[:-1] == reference[:max(len(got) - 1, 0)]), where
                if (verb == "create" and after is None) or (verb.startswith("delete") and after is not None):
                    assert one.err.strip() or call in ("fcntl", "write"), where
                oci.ok("delete", "--force", name)
                assert world.leaks(5) == [], where
            if not hit:
                break
    print("F21 %s: %d runs, %d with a call that failed" % (verb, runs, hits))
    assert hits > (200 if ALL else 20)


def in_group(bundle):
    """The processes in the group of a bundle's container, on whatever hierarchy."""
    name = bundle.config["linux"]["cgroupsPath"]
    groups = [line for entry in listdir("/proc") if entry.isdigit() for line in [read_text("/proc/%s/cgroup" % entry, "")]]
    return sum(name + "\n" in text for text in groups)


# Where something changes: with 3 nothing can be opened, with 63 all can be done.
FEW = range(3, 64) if ALL else (4, 6, 12, 20, 22, 29, 38, 63)


@pytest.mark.parametrize("verb", ["create", "run", "start", "exec", "kill", "delete"])
def test_f16_few_descriptors(oci, world, verb):
    """All of it is done or nothing, whatever descriptor is one too many; the limit is named and the way out."""
    b, name = guarded(world), world.name()
    b.config["process"]["user"] = {"uid": 0, "gid": 0}
    b.config["process"]["args"] = ["sleep", "1000"]
    del b.config["process"]["rlimits"]
    b.config["hooks"] = {"createRuntime": [{"path": "/bin/true"}], "poststart": [{"path": "/bin/true"}]}
    b.save()

    def status():
        answer = oci("state", name)
        return json.loads(answer.out)["status"] if answer.status == 0 else None
    words = {"create": ["create", "--bundle", b.dir, name], "run": ["run", "--detach", "--bundle", b.dir, name],
             "exec": ["exec", name, "sh", "-c", "kill -0 $$"], "delete": ["delete", "--force", name],
             "kill": ["kill", "--all", name, "KILL"]}.get(verb, [verb, name])
    before = {"create": None, "run": None, "start": "created"}.get(verb, "running")
    after = {"create": "created", "delete": None, "kill": "stopped"}.get(verb, "running")
    outcomes = set()
    for limit in FEW:
        if before and status() is None:
            oci.ok("create", "--bundle", b.dir, name)
            if before == "running":
                oci.ok("start", name)
        result = oci(*words, before=["prlimit", "--nofile=%d:%d" % (limit, limit), "--"])
        where = (limit, result)
        outcomes.add(result.status)
        if result.status == 0:
            wait_for(lambda: status() == after, message=where)
        else:
            assert result.status == (255 if verb == "exec" else 1), where
            check_sane_text(result)
            assert "may have %d files open (RLIMIT_NOFILE)" % limit in result.err and "ulimit -n" in result.err, where
            left = status()
            # A hook that could not be run, or a word that was lost on its way: it is not half started.
            assert left == before or (verb == "start" and left in (None, "stopped")), where
            if left is None:
                assert world.leaks(5) == [], where
            if left == "running":
                wait_for(lambda: in_group(b) == 1, message=where)
        if result.status == 0 or status() != before:
            oci.ok("delete", "--force", name)
            assert world.leaks(5) == [], where
    assert outcomes == {0, 255 if verb == "exec" else 1}

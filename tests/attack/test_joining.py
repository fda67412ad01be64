# SPDX-License-Identifier: Apache-2.0
"""A01, A11, A25, A49, A53 to A56, A83, F01, F21, F27 through skink-oci exec."""

import json
import os
import re
import stat
import subprocess

import pytest
from skinktest import ALL, SKINK_OCI, Bundle, alive, kill_quietly, listdir, needs, read_text, support, wait_for
from test_faults import KillAt, points

EXECS = 200 if ALL else 40


@pytest.fixture
def start(oci, world):
    """A container in the background; its name."""
    def make(args=("sleep", "1000"), change=None, out=os.devnull):
        b = Bundle(world, list(args))
        b.config["linux"]["cgroupsPath"] = "/skink-test-%s" % world.name("g")
        if change:
            change(b.config)
        b.save()
        name = world.name()
        with open(out, "wb") as sink:
            assert oci("run", "-d", "--bundle", b.dir, name, stdout=sink, stderr=sink).status == 0, read_text(out)
        return name
    return make


def init_of(oci, name):
    return json.loads(oci.ok("state", name))["pid"]


def members(world):
    """The processes in the container's groups."""
    found = set()
    for path in world.cgroups():
        for directory, _, _ in os.walk(path):
            found.update(int(pid) for pid in read_text(directory + "/cgroup.procs", "").split())
    return found


# A83: one path.

SHOW = ("cat /proc/self/status /proc/self/limits /proc/self/cgroup /proc/self/oom_score_adj /proc/self/attr/current "
        "/proc/self/personality /proc/self/uid_map /proc/self/setgroups /proc/self/timerslack_ns /proc/self/coredump_filter 2>&1; "
        "cut -d' ' -f18,19,40,41 /proc/self/stat; umask; id; pwd; env | sort; busybox ionice; for n in /proc/self/ns/*; do readlink $n; done; ls -l /proc/self/root; "
        "grep -c . /proc/self/mountinfo; ulimit -c")
OWN = re.compile(r"^(Pid|PPid|Tgid|Ngid|NSpid|NStgid|NSpgid|NSsid|Vm\w+|Rss\w+|Hugetlb\w+|voluntary\w+|nonvoluntary\w+|FDSize|Threads|Mems_allowed\S*|SigQ|Name|Speculation\w*|"
                 r"SigPnd|ShdPnd|lrwx\S*\s.*|SHLVL|total.*)\b")


def rich(config, user):
    config["process"].update(
        user={"uid": user, "gid": user, "umask": 0o027, "additionalGids": [4, 5]}, cwd="/tmp", oomScoreAdj=321,
        env=["PATH=/bin:/usr/bin", "A=1"], rlimits=[{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
        scheduler={"policy": "SCHED_BATCH", "nice": 5}, ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 6})
    config["process"]["capabilities"] = {kind: ["CAP_CHOWN", "CAP_KILL"] for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")}
    config["linux"]["personality"] = {"domain": "LINUX32"}
    config["linux"]["resources"] = {"pids": {"limit": 50}, "memory": {"limit": 64 << 20}}
    config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdirat", "mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}


@pytest.mark.parametrize("form", ["words", "document", "full-document"])
@pytest.mark.parametrize("user", [0, 1000])
@pytest.mark.parametrize("nnp", [True, False])
def test_a83_exec_is_as_run(oci, world, start, user, nnp, form):
    saved = {}

    def change(config):
        rich(config, user)
        config["process"]["noNewPrivileges"] = nnp
        saved.update(config["process"])
    show = ["sh", "-c", SHOW]
    name = start(["sh", "-c", SHOW + "; echo END; sleep 1000"], change, world.path("run"))
    wait_for(lambda: "END" in read_text(world.path("run")))
    if form == "words":
        out = oci.ok("exec", name, *show)
    else:
        document = {"args": show} if form == "document" else dict(saved, args=show)
        out = oci.ok("exec", "--process", world.write("process", json.dumps(document)), name)

    def lines(text):
        return [line for line in text.split("\n") if line and not OWN.match(line) and line != "END"]
    assert lines(out) == lines(read_text(world.path("run")))
    assert "Seccomp:\t2" in out and "NoNewPrivs:\t%d" % nnp in out and "Umask:\t0027" in out
    assert oci("exec", name, "mkdir", "/tmp/x").status != 0, "the filter is not there"


# A01, A25: what a container sees of an exec.

@pytest.mark.parametrize("shared", [False, True], ids=["own-pids", "shared-pids"])
@pytest.mark.parametrize("trace", [False, True], ids=["watch", "trace"])
def test_a01_a25_skink_oci_exec_is_watched(oci, world, canary, start, shared, trace):
    def change(config):
        for kind in ("bounding", "effective", "permitted"):
            config["process"]["capabilities"][kind] += ["CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_READ_SEARCH"]
        if shared:
            config["linux"]["namespaces"] = [{"type": "pid", "path": "/proc/%d/ns/pid" % init_of(oci, first)} if one["type"] == "pid" else one
                                             for one in config["linux"]["namespaces"]]
    first = start()
    out = world.path("watch")
    name = start(["watch", "3600"] + (["trace"] if trace else []), change, out)
    wait_for(lambda: "watching" in read_text(out))
    # Into the container that watches, and with shared pids into its neighbour, whose processes it sees too.
    for n in range(EXECS):
        oci.ok("exec", first if shared and n % 2 else name, "true", timeout=30)
    oci.ok("kill", name, "KILL")
    text = read_text(out)
    assert "WRITABLE" not in text and "exe " in text, text[:3000]
    for line in text.splitlines():
        kind, _, target = line.partition(" ")
        if kind in ("cwd", "root"):
            assert target in ("/", "/root") or not target.startswith(("/var/tmp/skink", "/run/skink")), line
        if kind == "fd":
            assert not target.startswith(("/var/tmp/skink", "/run/skink", "/sys/fs", "/home", "/etc/shadow")), line
        if kind == "exe":
            assert os.path.dirname(SKINK_OCI) not in target, line


@pytest.mark.parametrize("program", ["/proc/self/exe", "/proc/1/exe", "/proc/self/fd/3", "/proc/self/fd/4", "/x"])
def test_a01_exec_of_the_runtime_itself(oci, canary, start, program):
    def change(config):
        config["root"]["readonly"] = False
    name = start(change=change)
    oci.ok("exec", name, "sh", "-c", "printf '#!/proc/self/exe\\n' >/x; busybox chmod 755 /x")
    result = oci("exec", name, program, "--version")
    assert result.status != 0 and "skink-oci version" not in result.out, result


# A11, A49: the masks hold for exec too.

def test_a11_a49_what_is_masked_is_masked_for_exec(oci, start):
    name = start()
    for path in ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"):
        out = oci("exec", name, "sh", "-c", "if test -d %s; then ls -A %s; else cat %s | wc -c | grep -v '^0$'; fi" % (path, path, path)).out
        assert out == "", (path, out)
    for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity", "/sys/kernel/uevent_helper"):
        assert oci("exec", name, "sh", "-c", "echo x >%s" % path).status != 0, path


# A53: a label that cannot be put on.

@pytest.mark.parametrize("option", [["--apparmor", "some-profile"], ["--process-label", "system_u:system_r:container_t:s0"]])
def test_a53_labels_that_cannot_be_applied(oci, world, start, option):
    if "apparmor" in option[0] and read_text("/sys/module/apparmor/parameters/enabled", "N").startswith("Y"):
        pytest.skip("AppArmor is enabled here")
    if "label" in option[0] and os.path.exists("/sys/fs/selinux/enforce"):
        pytest.skip("SELinux is enabled here")
    name = start()
    result = oci.fails("exec", *option, name, "echo", "ran", status=255, match="is not enabled")
    assert "ran" not in result.out
    member = {"--apparmor": "apparmorProfile", "--process-label": "selinuxLabel"}[option[0]]
    document = world.write("process", json.dumps({"args": ["echo", "ran"], member: option[1]}))
    oci.fails("exec", "--process", document, name, status=255, match=member)


# A54: descriptors.

@pytest.mark.parametrize("verb", ["exec", "run", "create"])
@pytest.mark.parametrize("kind", ["directory", "path", "memfd", "socket"])
def test_a54_descriptors_that_lead_out(oci, world, canary, start, kind, verb):
    import socket
    pair = socket.socketpair()
    fd = {"directory": lambda: os.open("/", os.O_RDONLY | os.O_DIRECTORY), "path": lambda: os.open("/etc/passwd", os.O_PATH),
          "memfd": lambda: os.memfd_create("x", 0), "socket": lambda: os.dup(pair[0].fileno())}[kind]()
    words = ["exec", "--preserve-fds", "1", start(), "true"] if verb == "exec" else \
        [verb, "--preserve-fds", "1", "--bundle", Bundle(world).dir, world.name()]
    try:
        result = oci(*words, close_fds=False, preexec_fn=lambda: os.dup2(fd, 3))
        if kind in ("directory", "path"):
            assert result.status == (255 if verb == "exec" else 1) and "descriptor 3" in result.err, result
        else:
            assert result.status == 0, result
    finally:
        os.close(fd)


# A55: nothing of the caller's environment.

def test_a55_the_callers_environment_stays_outside(oci, world, start):
    out = world.path("watch")
    name = start(["sh", "-c", "while :; do cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline; done 2>/dev/null"], None, out)
    for _ in range(10):
        assert "SECRET" not in oci.ok("exec", name, "env", env={"SECRET": "tok-" + world.id})
    oci.ok("kill", name, "KILL")
    assert "tok-" + world.id not in read_text(out)


# A56: long strings do not shift what stands behind them.

@pytest.mark.parametrize("length", [65535, 65536, 65537, 130000])
def test_a56_long_strings(oci, world, start, length):
    name = start()
    document = world.write("process", json.dumps({"args": ["sh", "-c", "echo ${#LONG} $AFTER; id -u; pwd"], "cwd": "/tmp", "user": {"uid": 7, "gid": 7},
                                                  "env": ["PATH=/bin", "LONG=" + "x" * (length - 5), "AFTER=after"]}))
    assert oci.ok("exec", "--process", document, name).splitlines() == ["%d after" % (length - 5), "7", "/tmp"]


def test_a56_nul_bytes_and_huge_documents(oci, world, start):
    name = start()
    for process in ({"args": ["true\0x"]}, {"args": ["true"], "env": ["A=\0"]}, {"args": ["true"], "cwd": "/\0"}):
        oci.fails("exec", "--process", world.write("process", json.dumps(process)), name, status=255, match="process")
    huge = world.write("huge", '{"args": ["true"], "env": ["' + "x" * (70 << 20) + '"]}')
    oci.fails("exec", "--process", huge, name, status=255, match="huge")


# F01: killed at every system call.

@pytest.mark.timeout(7200 if ALL else 400)
@pytest.mark.parametrize("which", ["all", "one"])
@pytest.mark.parametrize("shape", ["foreground", "detached", "terminal"])
def test_f01_skink_oci_exec_is_killed_at_every_call(oci, world, canary, start, which, shape):
    """No helper is left, and the container goes on."""
    name = start()
    init = init_of(oci, name)
    kill_at = KillAt(oci)
    words = ["exec"] + {"foreground": [], "detached": ["-d", "--pid-file", world.path("pid")], "terminal": ["-t"]}[shape] + [name, "true"]
    seen, _, status = kill_at(0, which, *words)
    assert status == 0 and seen > 20
    for n in points(seen, 40):
        kill_at(n, which, *words)
        wait_for(lambda: {pid for pid in members(world) if alive(pid)} == {init}, 20, message="killed at %d: %s" % (n, members(world)))
        text = read_text(world.path("pid"), "")
        assert re.fullmatch(r"\d*", text), text
    assert alive(init) and oci.ok("exec", name, "echo", "again") == "again"
    assert json.loads(oci.ok("state", name))["status"] == "running"
    helpers = [pid for pid in listdir("/proc") if pid.isdigit() and alive(int(pid)) and read_text("/proc/%s/comm" % pid, "").strip() == "skink-init"
               and world.id.encode() in open("/proc/%s/cmdline" % pid, "rb").read()]
    assert helpers == []
    oci.ok("delete", "--force", name)
    assert world.leaks(5) == []


# F21: system calls that fail.

SECURITY = ["setns", "clone3", "setgroups", "setresuid", "setresgid", "capset", "seccomp", "prctl", "prlimit64"]
OTHERS = ["openat2", "pidfd_open", "close_range", "keyctl", "memfd_create", "fcntl", "sendmsg", "recvmsg", "waitid", "setsid", "sched_setaffinity"]


@pytest.mark.timeout(7200 if ALL else 300)
@pytest.mark.parametrize("call", SECURITY + OTHERS)
def test_f21_a_call_of_exec_fails(oci, world, canary, start, call):
    needs("strace")

    def change(config):
        config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}]
        config["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [4]}
        config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdirat"], "action": "SCMP_ACT_ERRNO"}]}
    name = start(change=change)
    init = init_of(oci, name)
    wanted = "Groups:\t4 |Uid:\t1000\t1000\t1000\t1000|CapEff:\t0000000000000000|NoNewPrivs:\t1|Seccomp:\t2"
    for error in ("ENOSYS", "EPERM", "EIO", "EINTR", "ENOSPC") if ALL else ("ENOSYS", "EPERM", "EIO"):
        for when in range(1, 12 if ALL else 5):
            # Only what runs before the program: the wait for its first own file ends the tracing of calls that count.
            result = oci("exec", name, "grep", "-E", "^(Groups|Uid|CapEff|NoNewPrivs|Seccomp):", "/proc/self/status", timeout=60,
                         before=["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + call, "-e", "inject=%s:error=%s:when=%d" % (call, error, when)])
            assert result.status >= 0, (call, error, when, result)
            if result.status == 0:
                for line in wanted.split("|"):
                    assert line in result.out, (call, error, when, result)
            elif result.out == "" and result.status == 255:
                assert result.err.count("\n") >= 1, (call, error, when, result)
    wait_for(lambda: {pid for pid in members(world) if alive(pid)} == {init}, 20)
    assert alive(init) and oci.ok("exec", name, "echo", "again") == "again"


# F27: the state directory is not as we left it.

def test_f27_foreign_state(oci, world, start):
    name = start()
    place = os.path.join(world.oci_root, name)
    for file in ("state.json", "config.json"):
        path, kept = os.path.join(place, file), world.path("kept-" + file)
        os.rename(path, kept)
        for make in (lambda: None, lambda: os.mkfifo(path), lambda: os.mkdir(path), lambda: os.symlink(kept, path),
                     lambda: world.write(os.path.relpath(path, world.base), "{"), lambda: world.write(os.path.relpath(path, world.base), "\0" * 100)):
            make()
            oci.fails("exec", name, "true", status=255, timeout=20)
            if os.path.lexists(path):
                os.rmdir(path) if stat.S_ISDIR(os.lstat(path).st_mode) else os.unlink(path)
        os.rename(kept, path)
    world.write(os.path.relpath(os.path.join(place, "more"), world.base), "x")
    assert oci.ok("exec", name, "echo", "fine") == "fine"
    os.chmod(world.oci_root, 0o777)
    oci.fails("exec", name, "true", status=255, match=world.oci_root)
    os.chmod(world.oci_root, 0o700)
    oci.ok("delete", "--force", name)

# SPDX-License-Identifier: Apache-2.0
"""A01, A25, A26, A34, A35, A40 to A44, A48, A59, A91, A92: what a container's process can reach."""

import fcntl
import os
import pty
import re
import select
import shutil
import subprocess
import termios
import time

import pytest
from skinktest import ALL, SKINK, busybox_image, needs, read_text, status_of, wait_for

EXECS = 200 if ALL else 40


# A01: the runtime's own file.

def watch_checks(out):
    assert "WRITABLE" not in out, out
    names = {line.split(" ", 1)[1] for line in out.splitlines() if line.startswith("exe ")}
    own = os.path.basename(SKINK)
    for name in names:
        assert name.startswith(("/bin/", "/memfd:", "/proc", "/")) and os.path.dirname(SKINK) not in name, names
        assert not name.endswith("/" + own), names
    return names


@pytest.mark.parametrize("caps", [[], ["--cap-add", "SYS_PTRACE"], ["--cap-add", "ALL"], ["--privileged"]], ids=["default", "ptrace", "all", "privileged"])
def test_a01_exec_is_watched(sk, canary, caps):
    name = sk.running("--restart", "no", *caps, command=["watch", "3600"])
    wait_for(lambda: "watching" in sk.ok("logs", name))
    for _ in range(EXECS):
        assert sk("exec", name, "true").status == 0
    sk.ok("stop", "-t", "0", name)
    assert watch_checks(sk.ok("logs", name)), "nobody was seen: the test proves nothing"


@pytest.mark.parametrize("program", ["/proc/self/exe", "/x", "/proc/1/exe", "/proc/self/fd/3"])
def test_a01_a_program_that_is_the_runtime(sk, canary, program):
    """`#!/proc/self/exe` as entry point, interpreter and exec target."""
    sk.load(busybox_image("exe", extra=lambda tar: tar.file("x", "#!/proc/self/exe\n", 0o755).symlink("l", "/proc/self/exe")))
    for args in (["run", "--rm", "exe", program], ["run", "--rm", "--entrypoint", program, "exe"], ["run", "--rm", "exe", "/l"]):
        result = sk(*args)
        assert result.status >= 0 and result.status != 0 or "skink" not in result.out, result
    name = sk.running(image="exe")
    for _ in range(5):
        sk("exec", name, program)


def test_a01_a_library_loader_of_the_image_sees_no_runtime(sk, canary):
    """LD_PRELOAD, LD_LIBRARY_PATH and the like of an image mean nothing to what runs before its program."""
    name = sk.running("-e", "LD_PRELOAD=/tmp/x.so", "-e", "LD_LIBRARY_PATH=/tmp")
    assert sk.ok("exec", name, "echo", "fine") == "fine"


def test_a01_shared_pid_namespace_of_the_host(sk, world, canary):
    # A copy of its own: root may write what other tests run in user namespaces that root made, and sees them here.
    sk.path = shutil.copy(SKINK, world.path("skink"))
    name = sk.running("--pid", "host", "--restart", "no", command=["watch", "3600"])
    wait_for(lambda: "watching" in sk.ok("logs", name))
    for _ in range(20):
        sk("exec", name, "true")
    sk.ok("stop", "-t", "0", name)
    assert not re.search("(WRITABLE|TRACED) %s$" % re.escape(sk.path), sk.ok("logs", name), re.M)


# A25: processes that join.

def test_a25_joining_processes_show_nothing_of_the_host(sk, canary):
    name = sk.running("--restart", "no", "--cap-add", "SYS_PTRACE", "--security-opt", "seccomp=unconfined", command=["watch", "3600", "trace"])
    wait_for(lambda: "watching" in sk.ok("logs", name))
    for _ in range(EXECS):
        sk("exec", name, "true", timeout=30)
    sk.ok("stop", "-t", "0", name)
    out = sk.ok("logs", name)
    assert "WRITABLE" not in out and "exe " in out
    for line in out.splitlines():
        kind, _, target = line.partition(" ")
        if kind in ("cwd", "root"):
            assert target in ("/", "/root") or not target.startswith(("/var/tmp/skink", "/run/skink")), line
        if kind == "fd":
            assert not target.startswith(("/var/tmp/skink", "/run/skink", "/sys/fs", "/home", "/etc/shadow")), line
        if kind == "exe":
            assert os.path.dirname(SKINK) not in target, line


# A26: magic links as programs.

@pytest.mark.parametrize("number", [3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30])
def test_a26_descriptors_as_programs(sk, canary, number):
    sk.load(busybox_image("magic", extra=lambda tar: tar.symlink("l", "/proc/self/fd/%d" % number)))
    for program in ("/proc/self/fd/%d" % number, "/l"):
        result = sk("run", "--rm", "magic", program)
        assert result.status in (125, 126, 127), result


def test_a26_exec_of_magic_links(sk, canary):
    name = sk.running()
    for program in ["/proc/self/fd/%d" % n for n in range(3, 12)] + ["/proc/self/exe", "/proc/thread-self/exe"]:
        result = sk("exec", name, program)
        assert result.status != 0 and "skink version" not in result.out, result


# A34, A35: who else on the host can reach what is ours.

def as_nobody():
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)


def test_a34_other_users_cannot_reach_the_store(sk, world):
    sk.load(busybox_image("suid", extra=lambda tar: tar.file("bin/root-shell", "#!/bin/sh\n", 0o6755)))
    sk.running("--writable", image="suid")
    os.chmod(world.base, 0o755)
    for top in (world.store, world.run_dir):
        assert os.stat(top).st_mode & 0o077 == 0, oct(os.stat(top).st_mode)
        inner = [os.path.join(directory, name) for directory, subdirs, files in os.walk(top) for name in subdirs + files][:400]
        script = "for f in \"$@\"; do [ -e \"$f\" ] && echo \"$f\"; cat \"$f\" 2>/dev/null; done; find %s 2>/dev/null | grep -vx %s" % (top, top)
        done = subprocess.run(["sh", "-c", script, "sh"] + inner, preexec_fn=as_nobody, capture_output=True)
        assert done.stdout == b"", done.stdout[:500]


def test_a34_processes_of_the_container_cannot_be_entered_by_others(sk):
    pid = sk.pid(sk.running())
    done = subprocess.run(["ls", "/proc/%d/root/" % pid, "/proc/%d/cwd/" % pid], preexec_fn=as_nobody, capture_output=True)
    assert done.stdout.strip() == b""


def test_a35_no_socket_can_be_reached(sk, world):
    name = sk.running("--network", "host")
    assert "@" not in "".join(line.split()[-1] for line in read_text("/proc/net/unix").splitlines() if "skink" in line)
    os.chmod(world.base, 0o755)
    sockets = [line.split()[-1] for line in read_text("/proc/net/unix").splitlines() if world.base in line]
    import socket
    for path in sockets:
        pid = os.fork()
        if pid == 0:
            try:
                as_nobody()
                socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(path)
                os._exit(1)
            except OSError:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0, "uid 65534 could connect to " + path
    for abstract in ("skink", "/run/skink", "skink-" + name):
        assert "ok" not in sk.ok("exec", name, "probe", "abstract", abstract)
    assert sk("exec", name, "ls", world.run_dir).status != 0


# A40, A42: the caller's terminal.

@pytest.mark.parametrize("options", [[], ["-i"], ["-t"], ["-i", "-t"]], ids=["plain", "i", "t", "it"])
def test_a40_nothing_can_be_typed_into_the_callers_terminal(sk, world, options):
    master, slave = pty.openpty()
    settings = termios.tcgetattr(slave)
    settings[3] &= ~termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, settings)
    process = subprocess.Popen(sk.command("run", "--rm", *options, "busybox", "probe", "tiocsti"), stdin=slave, stdout=slave, stderr=slave,
                               env=world.environment(), start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    world.background.append(process)
    text, end = b"", time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end:
        if select.select([master], [], [], 0.1)[0]:
            text += os.read(master, 4096)
    while select.select([master], [], [], 0.3)[0]:
        text += os.read(master, 4096)
    # What was typed in would now be waiting to be read by the shell.
    os.set_blocking(slave, False)
    try:
        pushed = os.read(slave, 100)
    except BlockingIOError:
        pushed = b""
    os.close(master), os.close(slave)
    assert b"plain: ok" not in text and b"high: ok" not in text and b"tioclinux: ok" not in text, text
    assert b"plain: " in text and pushed == b"", (text, pushed)


def test_a42_the_high_bits_of_an_ioctl_do_not_help(sk):
    out = sk.ok("run", "--rm", "-t", "busybox", "probe", "tiocsti")
    answers = dict(line.strip().split(": ") for line in out.splitlines() if ": " in line)
    assert answers["plain"] == answers["high"] and answers["plain"] in ("EPERM", "EIO", "ENOTTY")
    assert answers["tioclinux"] == answers["tioclinux-high"] and not answers["tioclinux"].startswith("ok")


# A41, A43, A44: seccomp.

def test_a41_other_calling_conventions(sk):
    out = sk.ok("run", "--rm", "busybox", "probe", "abi")
    if not out:
        pytest.skip("only x86 has them")
    assert "x32-getpid: ok" not in out
    assert "int80-socketcall: ok" not in out, out


ALWAYS_DENIED = {  # numbers of x86_64
    "mount": 165, "umount2": 166, "pivot_root": 155, "swapon": 167, "reboot": 169, "init_module": 175, "finit_module": 313,
    "delete_module": 176, "kexec_load": 246, "kexec_file_load": 320, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323,
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429, "fsopen": 430,
    "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_getfd": 438, "mount_setattr": 442, "add_key": 248, "request_key": 249,
    "keyctl": 250, "setns": 308, "acct": 163, "settimeofday": 164, "clock_settime": 227, "open_by_handle_at": 304, "ptrace": 101,
    "process_vm_readv": 310, "process_vm_writev": 311, "lookup_dcookie": 212, "quotactl": 179, "nfsservctl": 180, "syslog": 103,
    "iopl": 172, "ioperm": 173, "vhangup": 153, "move_pages": 279, "kcmp": 312, "personality": 135,
}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86_64")
def test_a43_every_call_number(sk):
    out = sk.ok("run", "--rm", "busybox", "probe", "syscalls", timeout=170)
    answers = {int(line.split(" ", 1)[0]): line.split(" ", 1)[1] for line in out.splitlines()}
    assert len(answers) > 400
    for name, number in ALWAYS_DENIED.items():
        if name in ("ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "personality", "open_by_handle_at"):
            continue  # allowed or not by kernel and capability; listed so that the table is whole
        assert answers[number] in ("ENOSYS", "EPERM"), (name, answers[number])
    for number in range(470, 501):
        assert answers[number] == "ENOSYS", "unknown numbers get ENOSYS: %d %s" % (number, answers[number])
    for number in (0, 1, 2, 3, 9, 39, 257, 262, 332, 437, 439):
        assert answers[number] not in ("ENOSYS",), (number, answers[number])


def test_a43_clone3_and_new_namespaces(sk):
    out = sk.ok("run", "--rm", "busybox", "probe", "call", "435", "0", "0")
    assert "ENOSYS" in out, "clone3 hides its flags behind a pointer: " + out
    for flag in (0x10000000, 0x00020000, 0x40000000, 0x20000000, 0x02000000, 0x08000000):
        out = sk.ok("run", "--rm", "busybox", "probe", "call", "272", str(flag))
        assert "EPERM" in out or "ENOSYS" in out, (hex(flag), out)


def test_a43_socket_families(sk):
    out = sk.ok("run", "--rm", "busybox", "probe", "sockets")
    assert "alg: ok" not in out and "vsock: ok" not in out and "inet: ok" in out and "unix: ok" in out
    assert "packet: ok" not in out and "raw: ok" not in out


@pytest.mark.parametrize("nnp", ["true", "false"])
@pytest.mark.parametrize("denied", [["setresuid", "setresgid", "setgroups"], ["capset"], ["close_range"], ["openat2", "mount", "move_mount"], ["prctl"]])
def test_a44_a_filter_that_denies_what_the_launch_needs(sk, world, nnp, denied):
    import json
    profile = world.write("p.json", json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": denied, "action": "SCMP_ACT_ERRNO"}]}))
    out = sk.ok("run", "--rm", "-u", "1000", "--security-opt", "seccomp=" + profile, "--security-opt", "no-new-privileges=" + nnp, "busybox",
                "sh", "-c", "grep -h Seccomp: /proc/[0-9]*/task/*/status | sort -u; probe ids | head -n 1")
    assert out.split("\n") == ["Seccomp:\t2", "uid: 1000 1000 1000"]


# A48: keyrings.

def test_a48_keys_of_the_host_and_of_others(sk):
    libc = __import__("ctypes").CDLL(None, use_errno=True)
    number = 248 if os.uname().machine == "x86_64" else 217
    serial = libc.syscall(number, b"user", b"skink-test", b"host-secret", 11, -3)
    if serial < 0:
        pytest.skip("this host has no keyrings")
    open_profile = ["--security-opt", "seccomp=unconfined"]
    out = sk.ok("run", "--rm", *open_profile, "busybox", "probe", "keyring", str(serial))
    assert "host-secret" not in out, out
    own = libc.syscall(250 if os.uname().machine == "x86_64" else 219, 0, -3, 0)
    sessions = [sk.ok("run", "--rm", *open_profile, "busybox", "probe", "keyring").split()[-1] for _ in range(2)]
    assert sessions[0] != sessions[1] and str(own) not in sessions
    name = sk.running(*open_profile)
    assert "host-secret" not in sk.ok("exec", name, "probe", "keyring", str(serial))
    out = sk.ok("run", "--rm", "busybox", "probe", "keyring", str(serial))
    assert "ok" not in out, "the profile denies keyctl: " + out
    assert sk.ok("run", "--rm", "busybox", "sh", "-c", "cat /proc/keys /proc/key-users 2>/dev/null | wc -c") == "0"


# A59: a fresh /proc.

@pytest.mark.parametrize("options,wanted", [([], "refused"), (["--cap-add", "ALL"], "refused"),
                                            (["--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"], "masked")])
def test_a59_a_second_proc_without_masks(sk, options, wanted):
    out = sk.ok("run", "--rm", *options, "busybox", "probe", "nested")
    assert "mount: ok" not in out, "an unmasked /proc in a user namespace: " + out
    if wanted == "refused" and not options:
        assert "unshare: EPERM" in out and "unshare-root: EPERM" in out, out


# A91: out of memory.

def test_a91_only_the_container_dies(sk, world):
    other = sk.running()
    name = sk.running("-m", "24m", "--memory-swap", "24m", "--restart", "no", command=["sh", "-c", "probe memory 300000000"])
    keepers = [sk.row(name)[key] for key in ("supervisor_pid", "guard_pid")]
    assert sk.ok("wait", name) == "137"
    row = sk.row(name)
    assert row["exit"]["status"] == 137 and row["exit"]["oom"] is True and "memory" in row["status"].lower(), row
    assert sk.state(other) == "running" and keepers


def test_a91_a_memory_hog_is_relaunched_and_keepers_live(sk):
    name = sk.running("-m", "24m", "--memory-swap", "24m", "--restart", "always", command=["sh", "-c", "sleep 0.2; probe memory 300000000"])
    keepers = [sk.row(name)[key] for key in ("supervisor_pid", "guard_pid")]
    wait_for(lambda: sk.row(name)["restarts"] >= 3, 60)
    assert [sk.row(name)[key] for key in ("supervisor_pid", "guard_pid")] == keepers


def test_a91_the_score_cannot_be_lowered(sk):
    out = sk.shell("echo -1000 >/proc/self/oom_score_adj; echo $?; cat /proc/self/oom_score_adj")
    assert out.splitlines()[-2] != "0"


# A92: what the default set has.

def test_a92_default_capabilities(sk):
    out = sk.ok("run", "--rm", "busybox", "grep", "CapBnd", "/proc/self/status")
    wanted = sum(1 << n for n in (0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 27, 29, 31))
    assert int(out.split()[1], 16) == wanted
    assert not int(out.split()[1], 16) & (1 << 13), "NET_RAW is off"


def test_a92_the_hosts_network_is_told_about(sk, world):
    name = sk.running("--network", "host")
    assert int(status_of(sk.pid(name))["CapEff"], 16) & (1 << 13 | 1 << 12) == 0
    out = sk.ok("run", "--rm", "--network", "host", "busybox", "probe", "sockets")
    assert "raw: ok" not in out and "packet: ok" not in out


def test_a92_no_execve_but_ours_and_the_programs(sk, world):
    """A07 in small: no helper of host or image is executed, no library is opened."""
    needs("strace")
    log = world.path("strace")
    sk.ok("run", "--rm", "busybox", "true", before=["strace", "-f", "-qq", "-e", "trace=execve,execveat,openat,open", "-o", log], timeout=90)
    text = read_text(log)
    executed = re.findall(r'execve(?:at)?\(([^)]*)', text)
    for one in executed:
        assert "skink" in one or '"/bin/true"' in one or '""' in one or "busybox" in one or "true" in one, one
    assert not re.findall(r'open(?:at)?\([^)]*\.so[."]', text)

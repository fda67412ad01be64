# SPDX-License-Identifier: Apache-2.0
"""What system and attack tests stand on: running the programs, inputs, and the oracles HOST, LEAK, SANE and TIME.

Every test gets a skink of its own: own --root and --run, own prefix for names, and a teardown that removes everything
(first by skink, then by hand) and fails the test for what skink had left behind.
"""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import uuid

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
import mkimg  # noqa: E402
from mkimg import Image, Layer, Layout  # noqa: E402,F401
from mktar import Tar  # noqa: E402,F401

BUILD = os.path.abspath(os.environ.get("SKINK_BUILD") or os.path.join(TOP, "build"))
ALL = bool(os.environ.get("SKINK_TEST_ALL"))
# In the virtual machine of tools/vm, and how many times longer everything may take there.
IN_VM = bool(os.environ.get("SKINK_TEST_VM"))
SLOWER = float(os.environ.get("SKINK_TEST_SLOWER") or 1)
SUPPORT = os.path.join(BUILD, "tests", "support")
PREFIX = "/var/tmp/skink-test-"
PR_SET_CHILD_SUBREAPER = 36


def find_program(name):
    for place in ("src/cli", "src/oci_cli", "src/ocicli", "", "src"):
        path = os.path.join(BUILD, place, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    for directory, _, files in os.walk(BUILD):
        if name in files and os.access(os.path.join(directory, name), os.X_OK):
            return os.path.join(directory, name)
    return None


SKINK, SKINK_OCI = find_program("skink"), find_program("skink-oci")


def support(name):
    path = os.path.join(SUPPORT, name)
    if not os.path.exists(path):
        pytest.fail("%s is not built" % path)
    return path


def sanitized():
    with open(SKINK, "rb") as program:
        return b"__asan_init" in program.read()


def wait_for(what, timeout=40.0, step=0.05, message=None):
    """Calls `what` until it answers something true; returns that. Generous: nothing here measures time."""
    end = time.monotonic() + timeout * SLOWER
    while True:
        result = what()
        if result:
            return result
        if time.monotonic() > end:
            pytest.fail("waited %.0f s in vain: %s" % (timeout * SLOWER, message or what))
        time.sleep(step)


def read(path, default=None):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        if default is None:
            raise
        return default


def listdir(path):
    try:
        return os.listdir(path)
    except OSError:
        return []


def read_text(path, default=None):
    return read(path, None if default is None else default.encode()).decode("utf-8", "replace")


@contextlib.contextmanager
def systemd_held(how):
    """Who has systemd exec itself anew takes this fcntl.LOCK_EX, who fails while it does fcntl.LOCK_SH: whatever runs beside."""
    place = os.open("/run/systemd", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(place, how)
        yield
    finally:
        os.close(place)


def alive(pid):
    """Whether the process exists and is no zombie."""
    text = read_text("/proc/%d/stat" % pid, "x) Z")
    return text.rsplit(")", 1)[1].split()[0] not in ("Z", "X")


def children(pid):
    stats = {int(entry): read_text("/proc/%s/stat" % entry, ") Z 0").rsplit(")", 1)[1].split() for entry in os.listdir("/proc") if entry.isdigit()}
    return [child for child, fields in stats.items() if fields[1] == str(pid)]


def status_of(pid):
    fields = {}
    for line in read_text("/proc/%d/status" % pid).splitlines():
        key, _, value = line.partition(":")
        fields[key] = value.strip()
    return fields


def kill_quietly(pid, number=signal.SIGKILL):
    try:
        os.kill(pid, number)
    except OSError:
        pass


class Result:
    def __init__(self, args, status, out, err):
        self.args, self.status, self.raw_out, self.raw_err = args, status, out, err
        self.out, self.err = out.decode("utf-8", "replace"), err.decode("utf-8", "replace")

    def __repr__(self):
        return "%s\n-> %s\nstdout: %s\nstderr: %s" % (" ".join(map(str, self.args)), self.status, self.out[-3000:],
                                                    self.err[-3000:])


def check_sane_text(result):
    """One line, no control bytes, no crash."""
    lines = [line for line in result.err.split("\n") if line]
    assert lines, "no message: %r" % result
    assert len(lines) == 1, "more than one line: %r" % result
    assert all(byte >= 32 for byte in result.raw_err.rstrip(b"\n")), "control bytes: %r" % result
    assert 127 not in result.raw_err


class Program:
    """Runs one of the programs; keeps what it said for the oracles."""

    def __init__(self, world, path, options):
        self.world, self.path, self.options = world, path, options

    def command(self, *args):
        return [self.path] + self.options + [os.fspath(arg) if isinstance(arg, os.PathLike) else
                                             arg if isinstance(arg, bytes) else str(arg) for arg in args]

    def __call__(self, *args, input=None, env=None, timeout=60, cwd=None, before=(), **more):
        """TIME: ends by itself within `timeout` or the test fails."""
        command = list(before) + self.command(*args)
        # Files, not pipes: a supervisor that keeps a descriptor must not make us wait for its end.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            stdout, stderr = more.pop("stdout", out), more.pop("stderr", err)
            process = subprocess.Popen(command, stdin=more.pop("stdin", subprocess.PIPE if input is not None
                                                               else subprocess.DEVNULL),
                                       stdout=stdout, stderr=stderr, cwd=cwd, env=self.world.environment(env), **more)
            try:
                process.communicate(input.encode() if isinstance(input, str) else input, timeout=timeout * SLOWER)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                out.seek(0), err.seek(0)
                pytest.fail("TIME: did not end in %d s: %r" % (timeout * SLOWER, Result(command, "hangs", out.read(), err.read())))
            out.seek(0), err.seek(0)
            result = Result(command, process.returncode, out.read(), err.read())
        self.world.said.append(result)
        for word in ("AddressSanitizer", "LeakSanitizer", "runtime error:"):
            assert word not in result.err, "sanitizer: %r" % result
        return result

    def ok(self, *args, **more):
        result = self(*args, **more)
        assert result.status == 0, "should succeed: %r" % result
        return result.out.strip()

    def fails(self, *args, status=None, match=None, **more):
        """SANE: a documented non-zero status, no signal, a one-line message that names the offending thing."""
        result = self(*args, **more)
        assert result.status > 0, "should fail without a signal: %r" % result
        if status is not None:
            allowed = status if isinstance(status, (tuple, list, set)) else (status,)
            assert result.status in allowed, "status %s wanted: %r" % (status, result)
        check_sane_text(result)
        for word in ([match] if isinstance(match, str) else match or []):
            assert re.search(word, result.err, re.I), "should say %r: %r" % (word, result)
        return result

    def start(self, *args, env=None, before=(), **more):
        """In the background; ended by the teardown."""
        more.setdefault("stdin", subprocess.DEVNULL)
        more.setdefault("stdout", subprocess.PIPE)
        more.setdefault("stderr", subprocess.PIPE)
        process = subprocess.Popen(list(before) + self.command(*args), env=self.world.environment(env), **more)
        self.world.background.append(process)
        return process


class Skink(Program):
    def load(self, *images, **more):
        """Loads images made by mkimg through an oci-archive."""
        path = self.world.path("image-%d.tar" % len(self.world.said))
        mkimg.oci_archive(path, *images)
        return self.ok("load", path, **more)

    def inspect(self, name):
        document = json.loads(self.ok("inspect", "--format", "json", name))
        return document[0] if isinstance(document, list) else document

    def history(self, name, count=1):
        """Its runs that are over, once there are so many: a relaunch or an end is told a moment before its record is written."""
        return wait_for(lambda: len(self.inspect(name)["history"]) >= count and self.inspect(name)["history"],
                        message="%d runs of %s" % (count, name))

    def pid(self, name):
        return self.inspect(name)["pid"]

    def ps(self, *options):
        """`ps --format json`: an array, or an object a line."""
        text = self.ok("ps", "-a", "--format", "json", *options)
        if not text:
            return []
        if text.startswith("["):
            return json.loads(text)
        return [json.loads(line) for line in text.splitlines()]

    def row(self, name):
        for row in self.ps():
            if name in (row.get("name"), row.get("id"), row.get("Names"), row.get("Name"), row.get("ID")):
                return {key.lower(): value for key, value in row.items()}
        return None

    def state(self, name):
        row = self.row(name)
        return row and row.get("state")

    def wait_state(self, name, *states, timeout=40):
        return wait_for(lambda: self.state(name) in states, timeout, 0.1,
                        "%s is %s, not %s" % (name, self.row(name), states))

    def running(self, *args, name=None, image="busybox", command=("sleep", "1000")):
        """A detached container that runs; its name."""
        name = name or self.world.name()
        self.ok("run", "-d", "--name", name, *args, image, *command)
        return name

    def shell(self, script, *options, image="busybox", **more):
        """Runs a shell script in a container in the foreground; its output."""
        return self.ok("run", "--rm", *options, image, "sh", "-c", script, **more)


class World:
    """One test's directory, names, programs, and everything that may be left over."""

    def __init__(self, tag):
        self.id = uuid.uuid4().hex[:10]
        self.base = tempfile.mkdtemp(prefix=PREFIX[len("/var/tmp/"):] + tag + "-", dir="/var/tmp")
        self.write("owner", "%d %s" % (os.getpid(), starttime(os.getpid())))
        self.write("id", self.id)
        self.said, self.background, self.counter = [], [], 0
        self.leaks_expected = False
        self.more_environment = {}
        self.store, self.run_dir = self.path("store"), self.path("run")
        if SKINK is None:
            pytest.fail("no skink in %s: build first" % BUILD)
        self.skink = Skink(self, SKINK, ["--root", self.store, "--run", self.run_dir])
        if SKINK_OCI:
            self.oci_root = self.path("oci")
            self.oci = Program(self, SKINK_OCI, ["--root", self.oci_root])
        self.mounts_before = self.host_mounts()

    def path(self, name):
        return os.path.join(self.base, name)

    def write(self, name, data, mode=0o644):
        path = self.path(name)
        with open(path, "wb") as file:
            file.write(data if isinstance(data, bytes) else data.encode())
        os.chmod(path, mode)
        return path

    def name(self, hint="c"):
        self.counter += 1
        return "%s-%s-%d" % (hint, self.id, self.counter)

    def environment(self, more=None):
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SKINK_TEST_ID": self.id,
               "SKINK_TEST_SESSION": os.environ.get("SKINK_TEST_SESSION", ""), "HOME": "/root", "LANG": "C",
               "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
        for key, value in {**self.more_environment, **(more or {})}.items():
            env[key] = value
        return env

    # What exists of ours on the host.

    def ids(self):
        found = set()
        for directory, subdirs, files in os.walk(self.base):
            subdirs[:] = [name for name in subdirs if name not in ("rootfs", "layers", "images", "marks", "seccomp-cache")]
            found.update(name for name in subdirs + files if re.fullmatch(r"[0-9a-f]{64}", name))
        # As run and create tell them: what a program inside printed of the host may name containers of other tests.
        for result in self.said:
            found.update(re.findall(r"^[0-9a-f]{64}$", result.out, re.M))
        return found

    def host_mounts(self):
        return [line for line in read_text("/proc/self/mountinfo").splitlines() if self.base in line]

    def cgroups(self, ids=None):
        ids = self.ids() if ids is None else ids
        found = []
        for hierarchy in os.listdir("/sys/fs/cgroup"):
            for parent in ("skink", hierarchy + "/skink"):
                top = os.path.join("/sys/fs/cgroup", parent)
                found += [os.path.join(top, name) for name in listdir(top) if any(name.startswith(one) for one in ids)]
        # skink-oci: named by the test
        for directory, subdirs, _ in os.walk("/sys/fs/cgroup"):
            found += [os.path.join(directory, name) for name in subdirs if self.id in name]
        return sorted(set(found))

    def processes(self):
        """Ours by environment, by command line or by cgroup; never this process or its parents."""
        found, ids = {}, self.ids()
        own = {os.getpid(), os.getppid()}
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) in own:
                continue
            environ = read("/proc/%s/environ" % entry, b"")
            cmdline = read("/proc/%s/cmdline" % entry, b"")
            groups = re.findall(r"[0-9a-f]{64}", read_text("/proc/%s/cgroup" % entry, ""))
            if cmdline.startswith((b"skink supervise", b"skink-guard", b"skink-init")) and self.holds(entry):
                cmdline += b" (holds files of the test)"
                environ += self.id.encode()
            if (self.id.encode() in environ or self.base.encode() in cmdline or self.id.encode() in cmdline
                    or ids.intersection(groups)):
                if alive(int(entry)):
                    found[int(entry)] = cmdline.replace(b"\0", b" ").decode("utf-8", "replace").strip() or \
                        read_text("/proc/%s/comm" % entry, "?").strip()
        return found

    def holds(self, pid):
        """Keepers have an empty environment: they are known by what they have open."""
        top = "/proc/%s/fd" % pid
        for fd in listdir(top):
            try:
                if os.readlink(os.path.join(top, fd)).startswith(self.base + "/"):
                    return True
            except OSError:
                pass
        return False

    def state_left(self):
        """Directories of containers in store and run."""
        left = []
        for top in (os.path.join(self.store, "containers"), self.run_dir):
            for directory, subdirs, files in os.walk(top):
                left += [os.path.join(directory, name) for name in subdirs + files
                         if re.search(r"(^|[^0-9a-f])[0-9a-f]{64}($|[^0-9a-f])", name)]
        if SKINK_OCI and os.path.isdir(self.oci_root):
            left += [os.path.join(self.oci_root, name) for name in os.listdir(self.oci_root)
                     if not name.startswith((".", "seccomp", "cache"))]
        return left

    def leaks(self, patience=8.0):
        """LEAK: what is there although every container was removed. Supervisors get a moment to end."""
        end = time.monotonic() + patience * SLOWER
        while True:
            found = (["process %d: %s" % item for item in sorted(self.processes().items())]
                     + ["mount: " + line for line in self.host_mounts()
                        if line not in self.mounts_before and " nsfs " not in line and "skink-test-keep" not in line
                        # Layers stay mounted until their image goes.
                        and line.split()[4] != self.run_dir + "/layers"]
                     + ["cgroup: " + path for path in self.cgroups()]
                     + ["state: " + path for path in self.state_left()])
            if not found or time.monotonic() > end:
                return found
            time.sleep(0.1)

    def remove_containers(self):
        for process in self.background:
            if process.poll() is None:
                kill_quietly(process.pid)
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()
        problems = []
        if os.path.isdir(self.store):
            listed = self.skink("ps", "-a", "-q", "--no-trunc", timeout=60)
            names = listed.out.split()
            if names:
                removed = self.skink("rm", "-f", *names, timeout=120)
                if removed.status != 0:
                    problems.append("rm -f: %r" % removed)
            elif listed.status != 0:
                problems.append("ps -aq: %r" % listed)
        if SKINK_OCI and os.path.isdir(self.oci_root):
            for name in os.listdir(self.oci_root):
                if not name.startswith("."):
                    self.oci("delete", "--force", name)
        return problems

    def remove_by_hand(self):
        for _ in range(20):
            pids = self.processes()
            if not pids:
                break
            for pid in pids:
                kill_quietly(pid)
            time.sleep(0.05)
        for line in reversed(self.host_mounts()):
            subprocess.run(["umount", "-l", line.split()[4].encode().decode("unicode_escape")],
                           stderr=subprocess.DEVNULL)
        for path in sorted(self.cgroups(), reverse=True):
            for directory, _, _ in os.walk(path, topdown=False):
                try:
                    os.rmdir(directory)
                except OSError:
                    pass
        if not self.host_mounts():
            shutil.rmtree(self.base, ignore_errors=True)
            if os.path.exists(self.base):
                subprocess.run(["rm", "-rf", "--one-file-system", self.base])

    def end(self):
        try:
            problems = self.remove_containers()
            if not self.leaks_expected:
                problems += self.leaks()
        finally:
            self.remove_by_hand()
        if problems:
            pytest.fail("LEAK: left behind:\n" + "\n".join(problems[:30]), pytrace=False)


class Canary:
    """HOST: a tree of the host that no image and no container may read or change."""

    def __init__(self, world):
        self.world, self.top = world, world.path("canary")
        self.token = "canary-" + uuid.uuid4().hex
        os.makedirs(self.top + "/d")
        os.makedirs(self.top + "/empty")
        world.write("canary/secret", self.token, 0o600)
        world.write("canary/d/ptmx", "host file\n", 0o640)
        world.write("canary/d/null", "host file\n", 0o640)
        world.write("canary/file", "host file\n", 0o604)
        os.symlink("file", self.top + "/link")
        self.before = self.snapshot()

    def snapshot(self):
        rows = {}
        for directory, subdirs, files in os.walk(self.top):
            for name in [""] + subdirs + files:
                path = os.path.normpath(os.path.join(directory, name))
                info = os.lstat(path)
                content = os.readlink(path) if stat.S_ISLNK(info.st_mode) else \
                    hashlib.sha256(read(path)).hexdigest() if stat.S_ISREG(info.st_mode) else ""
                rows[path] = (info.st_ino, oct(info.st_mode), info.st_uid, info.st_gid, info.st_size,
                              info.st_mtime_ns, info.st_nlink, content)
        for program in (SKINK, SKINK_OCI):
            if program:
                rows[program] = hashlib.sha256(read(program)).hexdigest()
        return rows

    def check(self):
        after = self.snapshot()
        assert after == self.before, "HOST: changed: %s" % [
            (path, self.before.get(path), after.get(path)) for path in set(after) | set(self.before)
            if after.get(path) != self.before.get(path)]
        token = self.token.encode()
        for result in self.world.said:
            assert token not in result.raw_out + result.raw_err, "HOST: the secret was told: %r" % result
        for top in (self.world.store, self.world.run_dir):
            for directory, _, files in os.walk(top):
                for name in files:
                    path = os.path.join(directory, name)
                    if stat.S_ISREG(os.lstat(path).st_mode) and token in read(path, b""):
                        raise AssertionError("HOST: the secret is in " + path)


# Inputs.

def rootfs_extra(tar):
    """The programs of tests/support inside an image."""
    for name in ("probe", "watch", "swapper"):
        tar.file("bin/" + name, read(support(name)), 0o755)


def add_null(tar):
    tar.dir("dev")
    tar.device("dev/null", major=1, minor=3, mode=0o666)


def has_erofs():
    """Whether this kernel has the file system in which layers are stored; its module may have to be loaded first."""
    if "\terofs\n" not in read_text("/proc/filesystems") and shutil.which("modprobe"):
        subprocess.run(["modprobe", "-q", "erofs"], stderr=subprocess.DEVNULL)
    return "\terofs\n" in read_text("/proc/filesystems")


_layers = {}


def base_layer(pack=None):
    """The busybox layer with the probes, made once a process."""
    if pack not in _layers:
        _layers[pack] = Layer(mkimg.busybox_tar(rootfs_extra), pack)
    return _layers[pack]


def busybox_image(names="busybox", extra=None, run=None, **more):
    layers = [base_layer()]
    if extra is not None:
        tar = Tar()
        extra(tar)
        layers.append(Layer(tar))
    config = {"Env": ["PATH=/bin:/usr/bin"], "Cmd": ["sh"]}
    config.update(run or {})
    return Image(layers, config, names, **more)


DEFAULT_CAPS = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_SETGID", "CAP_SETUID",
                "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE"]


def bundle_config(args, **process):
    config = {
        "ociVersion": "1.0.2",
        "process": {"terminal": False, "user": {"uid": 0, "gid": 0}, "args": list(args),
                    "env": ["PATH=/bin:/usr/bin"], "cwd": "/",
                    "capabilities": {kind: list(DEFAULT_CAPS) for kind in ("bounding", "effective", "permitted")},
                    "noNewPrivileges": True},
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "bundle",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"]},
        ],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
                  "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/sys/firmware"],
                  "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]},
    }
    config["process"].update(process)
    return config


def write_rootfs(top):
    """A busybox root file system in a directory."""
    for name in ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr/bin", "var/tmp"):
        os.makedirs(os.path.join(top, name), exist_ok=True)
    for name in ("tmp", "var/tmp"):
        os.chmod(os.path.join(top, name), 0o1777)
    shutil.copy(mkimg.BUSYBOX, os.path.join(top, "bin/busybox"))
    for applet in ("sh", "true", "false", "sleep", "cat", "echo", "ls", "id", "mount", "ps", "kill", "env", "pwd", "grep",
                   "touch", "stat", "readlink", "hostname", "wc", "ulimit", "dd", "head", "mkdir", "test", "tr", "ln"):
        os.symlink("busybox", os.path.join(top, "bin", applet))
    for name in ("probe", "watch"):
        shutil.copy(support(name), os.path.join(top, "bin", name))
    with open(os.path.join(top, "etc/passwd"), "w") as file:
        file.write("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
    with open(os.path.join(top, "etc/group"), "w") as file:
        file.write("root:x:0:\nuser:x:1000:\n")


class Bundle:
    def __init__(self, world, args=("true",), **process):
        self.dir = world.path(world.name("bundle"))
        self.rootfs = os.path.join(self.dir, "rootfs")
        os.makedirs(self.rootfs)
        write_rootfs(self.rootfs)
        self.config = bundle_config(args, **process)
        self.save()

    def save(self, text=None):
        with open(os.path.join(self.dir, "config.json"), "w") as file:
            file.write(json.dumps(self.config) if text is None else text)
        return self


# Fixtures.

@pytest.fixture
def world(request):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if not os.path.exists(mkimg.BUSYBOX):
        pytest.fail("busybox-static is missing: tools/deps test")
    one = World(re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:24])
    yield one
    one.end()


@pytest.fixture
def bare(world):
    """skink with an empty store."""
    return world.skink


@pytest.fixture
def sk(world):
    """skink whose store has the image "busybox"."""
    world.skink.load(busybox_image())
    return world.skink


@pytest.fixture
def oci(world):
    if SKINK_OCI is None:
        pytest.fail("no skink-oci in %s: build first" % BUILD)
    return world.oci


@pytest.fixture
def bundle(world):
    return lambda args=("true",), **process: Bundle(world, args, **process)


@pytest.fixture
def subreaper():
    """Orphans become children of this process, which reaps them only when the test says so."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    pids = []
    yield pids
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    for pid in pids:
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass


@pytest.fixture
def canary(world):
    one = Canary(world)
    yield one
    one.check()


def cgroup_dir(pid, controller):
    """The process's directory in the hierarchy of a controller (v1) or in the unified one when it has it there."""
    mounts = {}
    for line in read_text("/proc/self/mountinfo").splitlines():
        left, right = line.split(" - ")
        kind, _, options = right.split()[:3]
        if not left.split()[4].startswith("/sys/fs/cgroup"):
            continue
        if kind == "cgroup":
            for option in options.split(","):
                mounts[option] = left.split()[4]
        elif kind == "cgroup2":
            mounts[""] = left.split()[4]
    places = {}
    for line in read_text("/proc/%d/cgroup" % pid).splitlines():
        _, controllers, path = line.split(":", 2)
        for one in controllers.split(","):
            places[one] = path
    if controller in mounts and controller in places:
        return mounts[controller] + places[controller], 1
    if "" in mounts and controller in read_text(mounts[""] + places[""] + "/cgroup.controllers", "").split():
        return mounts[""] + places[""], 2
    pytest.skip("no %s controller on this host" % controller)


def unified_top():
    """Where cgroup v2 is mounted."""
    for path in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
        if os.path.exists(path + "/cgroup.controllers"):
            return path
    return pytest.skip("cgroup v1 is all there is")


def group_lines(pid):
    """/proc/PID/cgroup, of the hierarchies that are mounted."""
    lines = read_text("/proc/%d/cgroup" % pid).splitlines()
    return lines if " - cgroup2 " in read_text("/proc/self/mountinfo") else [line for line in lines if not line.startswith("0::")]


def v2_alone():
    """Whether this host has cgroup v2 and nothing else, as most have."""
    return os.path.exists("/sys/fs/cgroup/cgroup.controllers")


def cgroup_value(pid, controller, v1_file, v2_file):
    directory, version = cgroup_dir(pid, controller)
    return read_text(os.path.join(directory, v1_file if version == 1 else v2_file)).strip()


def needs(program):
    if shutil.which(program) is None:
        pytest.skip("%s is not installed" % program)


# The whole run.

def empty_groups():
    """Cgroups of containers in which nobody is, by path and inode."""
    found = set()
    for hierarchy in os.listdir("/sys/fs/cgroup"):
        for parent in ("skink", hierarchy + "/skink"):
            top = os.path.join("/sys/fs/cgroup", parent)
            for name in listdir(top):
                path = os.path.join(top, name)
                try:
                    if os.path.isdir(path) and read_text(path + "/cgroup.procs", "?") == "":
                        found.add((path, os.stat(path).st_ino))
                except OSError:
                    pass
    return found


def left_over(before, patience=6.0):
    """What no single test could be blamed for: groups whose id nobody recorded, processes, mounts."""
    end = time.monotonic() + patience * SLOWER
    lasting, session = None, os.environ["SKINK_TEST_SESSION"].encode()
    while True:
        now = empty_groups() - before
        lasting = now if lasting is None else lasting & now
        found = ["cgroup: " + path for path, _ in sorted(lasting)]
        for entry in os.listdir("/proc"):
            environ = read("/proc/%s/environ" % entry, b"") if entry.isdigit() else b""
            # Only what a test started has both: not the runner itself.
            if b"SKINK_TEST_ID=" in environ and b"SKINK_TEST_SESSION=" + session in environ:
                found.append("process %s: %s" % (entry, read_text("/proc/%s/cmdline" % entry, "").replace("\0", " ")))
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.2)


def owner_lives(base):
    """Whether the test process that made the directory still runs (fault F45)."""
    words = read_text(os.path.join(base, "owner"), "").split()
    if len(words) != 2:
        return time.time() - os.stat(base).st_mtime < 600
    return starttime(int(words[0])) == words[1]


def starttime(pid):
    text = read_text("/proc/%d/stat" % pid, "")
    return text.rsplit(")", 1)[1].split()[19] if text else ""


def older_stranger():
    """A process of nobody's, with a start time (it counts in ticks of 10 ms) that nothing started from now on shares."""
    process = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL, env={"PATH": "/bin:/usr/bin"}, start_new_session=True)
    born = int(starttime(process.pid))
    wait_for(lambda: int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")) > born)
    return process


def sweep():
    """Removes what a crashed run left: only below our prefix, only when its owner is dead."""
    for name in os.listdir("/var/tmp"):
        base = os.path.join("/var/tmp", name)
        if not base.startswith(PREFIX) or not os.path.isdir(base) or owner_lives(base):
            continue
        world = World.__new__(World)
        world.base, world.id, world.said = base, read_text(os.path.join(base, "id"), base), []
        world.remove_by_hand()

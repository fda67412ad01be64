# SPDX-License-Identifier: Apache-2.0
"""NOTIFY_SOCKET: a service manager has started skink-oci, and the program in the container says that it is ready."""

import array
import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from skinktest import read_text, wait_for

# A program of the container's that says something on its NOTIFY_SOCKET, as sd_notify(3) does: its namespaces and ids are
# those of the process it enters, the interpreter is the host's.
SAY = """
import os, socket, sys
pid, uid, texts = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
env = dict(word.split("=", 1) for word in open("/proc/%s/environ" % pid).read().split("\\0") if "=" in word)
import encodings.idna
os.chroot("/proc/%s/root" % pid)
os.chdir("/")
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.settimeout(20)
s.connect(env["NOTIFY_SOCKET"])
for text in texts:
    s.send(text.encode())
"""


class Manager:
    """What systemd is to a service of Type=notify."""

    def __init__(self, world, address=None):
        self.address = address or world.path("manager.sock")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + self.address[1:] if self.address.startswith("@") else self.address)
        self.socket.settimeout(30)
        self.environment = {"NOTIFY_SOCKET": self.address}

    def next(self):
        """One message and the descriptors that came with it."""
        data, control, _, _ = self.socket.recvmsg(4096, 256)
        fds = array.array("i")
        for _, _, value in control:
            fds.frombytes(value)
        return data.decode(), list(fds)

    def silent(self):
        self.socket.setblocking(False)
        try:
            return not self.socket.recv(4096)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(30)

    def take_ready(self, ready="READY=1\n"):
        """The three messages of runc; lets go of the barrier and returns the main process."""
        assert self.next() == (ready, [])
        main, fds = self.next()
        assert main.startswith("MAINPID=") and main.endswith("\n") and not fds
        text, fds = self.next()
        assert text == "BARRIER=1" and len(fds) == 1
        return int(main[8:-1]), fds[0]


@pytest.fixture
def manager(world):
    one = Manager(world)
    yield one
    one.socket.close()


def say(pid, *texts, uid=0):
    # Until it is executed, the process has skink-init's environment.
    wait_for(lambda: "NOTIFY_SOCKET=" in read_text("/proc/%d/environ" % pid, ""))
    subprocess.run([sys.executable, "-c", SAY, str(pid), str(uid), *texts], check=True, timeout=60)


def state(oci, name):
    return json.loads(oci.ok("state", name))


def served(oci, name):
    """The socket is there: start has come as far as to run the program."""
    return wait_for(lambda: os.path.exists(os.path.join(oci.world.oci_root, name, "notify/notify.sock")))


def ended(process):
    return process.wait(timeout=30)


def test_start_waits_until_the_program_is_ready(oci, world, bundle, manager):
    b, name = bundle(["sleep", "1000"]), world.name()
    oci.ok("create", "--bundle", b.dir, name, env=manager.environment)
    pid = state(oci, name)["pid"]
    starting = oci.start("start", name, env=manager.environment)
    served(oci, name)
    wait_for(lambda: state(oci, name)["status"] == "running")
    assert starting.poll() is None and manager.silent()
    say(pid, "READY=1")
    main, barrier = manager.take_ready()
    assert main == pid
    assert starting.poll() is None, "the manager has not let go of the barrier"
    os.close(barrier)
    assert ended(starting) == 0
    assert starting.stdout.read() == starting.stderr.read() == b""
    assert manager.silent()


def test_what_the_container_gets(oci, world, bundle, manager):
    """runc's: a directory, mounted read-only, and the variable, which replaces one of the configuration's."""
    b, name = bundle(["sh", "-c", "echo $NOTIFY_SOCKET; ls -ld /run/notify; touch /run/notify/x; grep /run/notify /proc/self/mountinfo"]), world.name()
    b.config["process"]["env"] += ["NOTIFY_SOCKET=/somewhere", "LAST=1"]
    b.save()
    result = oci("run", "--bundle", b.dir, name, env=manager.environment)
    lines = result.out.splitlines()
    assert lines[0] == "/run/notify/notify.sock"
    assert lines[1].startswith("drwxr-xr-x")
    words = lines[2].split()
    assert words[4] == "/run/notify" and set(words[5].split(",")) >= {"ro", "nosuid", "nodev", "noexec"}
    assert "Read-only file system" in result.err


def test_without_a_manager_there_is_nothing(oci, world, bundle):
    b = bundle(["sh", "-c", "echo [$NOTIFY_SOCKET]; ls /run"])
    for env in ({}, {"NOTIFY_SOCKET": ""}):
        assert oci.ok("run", "--bundle", b.dir, world.name(), env=env) == "[]"


def test_create_does_not_wait_and_exec_is_not_told(oci, world, bundle, manager):
    b, name = bundle(["sleep", "1000"]), world.name()
    oci.ok("create", "--bundle", b.dir, name, env=manager.environment)
    assert manager.silent() and not os.listdir(os.path.join(world.oci_root, name, "notify"))
    oci.ok("start", name)
    assert oci.ok("exec", name, "sh", "-c", "echo [$NOTIFY_SOCKET]", env=manager.environment) == "[]"


def test_start_ends_when_the_program_does(oci, world, bundle, manager):
    """Nobody says READY: as long as the program runs start waits, and no longer. It keeps nobody from the container."""
    b, name = bundle(["sleep", "1000"]), world.name()
    oci.ok("create", "--bundle", b.dir, name, env=manager.environment)
    starting = oci.start("start", name, env=manager.environment)
    served(oci, name)
    wait_for(lambda: state(oci, name)["status"] == "running")
    oci.ok("pause", name)
    oci.ok("resume", name)
    oci.ok("update", "--pids-limit", "50", name)
    assert starting.poll() is None
    oci.ok("kill", name, "KILL")
    assert ended(starting) == 0 and manager.silent()
    oci.ok("delete", name)


def test_delete_ends_a_start_that_waits(oci, world, bundle, manager):
    b, name = bundle(["sleep", "1000"]), world.name()
    oci.ok("create", "--bundle", b.dir, name, env=manager.environment)
    starting = oci.start("start", name, env=manager.environment)
    wait_for(lambda: state(oci, name)["status"] == "running")
    oci.ok("delete", "--force", name)
    assert ended(starting) == 0


def test_only_ready_goes_on(oci, world, bundle, manager):
    """What else a container says (MAINPID above all) is not the manager's to hear from it."""
    b, name = bundle(["sleep", "1000"]), world.name()
    oci.ok("create", "--bundle", b.dir, name, env=manager.environment)
    pid = state(oci, name)["pid"]
    starting = oci.start("start", name, env=manager.environment)
    served(oci, name)
    say(pid, "MAINPID=1", "FDSTORE=1\nNOTREADY=1", "", "x" * 4000, "STATUS=nearly\nREADY=1\nMAINPID=1")
    main, barrier = manager.take_ready()
    assert main == pid
    os.close(barrier)
    assert ended(starting) == 0 and manager.silent()


def test_run_in_the_foreground_is_the_main_process(oci, world, bundle, manager):
    """As with runc the manager goes on watching the command, which stays. It hands signals on all the time."""
    b, name = bundle(["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 1 & wait; done"]), world.name()
    running = oci.start("run", "--bundle", b.dir, name, env=manager.environment)
    wait_for(lambda: oci("state", name).status == 0 and state(oci, name)["status"] == "running")
    pid = state(oci, name)["pid"]
    say(pid, "STATUS=one", "STATUS=two", "READY=1")
    main, barrier = manager.take_ready()
    assert main == running.pid
    # What comes later is taken and dropped: the program must not be stopped by a full socket.
    say(pid, *["WATCHDOG=1"] * 1000)
    assert manager.silent()
    # Also before the manager has let go of the barrier.
    os.kill(running.pid, signal.SIGTERM)
    assert ended(running) == 7
    os.close(barrier)


def test_run_detached_waits(oci, world, bundle, manager):
    b, name = bundle(["sleep", "1000"]), world.name()
    running = oci.start("run", "--detach", "--bundle", b.dir, name, env=manager.environment)
    wait_for(lambda: oci("state", name).status == 0 and state(oci, name)["status"] == "running")
    pid = state(oci, name)["pid"]
    assert running.poll() is None
    say(pid, "READY=1")
    main, barrier = manager.take_ready()
    assert main == pid
    os.close(barrier)
    assert ended(running) == 0


def test_a_user_of_a_user_namespace_can_say_it(oci, world, bundle, manager):
    b, name = bundle(["sleep", "1000"], user={"uid": 1000, "gid": 1000}), world.name()
    b.config["linux"]["namespaces"].append({"type": "user"})
    for kind in ("uidMappings", "gidMappings"):
        b.config["linux"][kind] = [{"containerID": 0, "hostID": 70000, "size": 65536}]
    b.config["mounts"].append({"destination": "/run", "type": "tmpfs", "source": "tmpfs"})
    b.save()
    os.chmod(b.dir, 0o755), os.chmod(world.base, 0o755)
    oci.ok("create", "--bundle", b.dir, name, env=manager.environment)
    pid = state(oci, name)["pid"]
    starting = oci.start("start", name, env=manager.environment)
    served(oci, name)
    wait_for(lambda: state(oci, name)["status"] == "running")
    say(pid, "READY=1", uid=71000)
    _, barrier = manager.take_ready()
    os.close(barrier)
    assert ended(starting) == 0


def test_an_abstract_address(oci, world, bundle):
    manager = Manager(world, "@skink-test-" + world.id)
    b, name = bundle(["sleep", "1000"]), world.name()
    oci.ok("create", "--bundle", b.dir, name, env=manager.environment)
    starting = oci.start("start", name, env=manager.environment)
    served(oci, name)
    wait_for(lambda: state(oci, name)["status"] == "running")
    say(state(oci, name)["pid"], "READY=1")
    _, barrier = manager.take_ready()
    os.close(barrier)
    assert ended(starting) == 0
    manager.socket.close()


def test_a_state_directory_with_a_long_path(world, bundle, oci, manager):
    """Longer than an address of a socket may be."""
    world.oci_root = world.path("x" * 200)
    oci.options = ["--root", world.oci_root]
    b, name = bundle(["sleep", "1000"]), world.name()
    oci.ok("create", "--bundle", b.dir, name, env=manager.environment)
    starting = oci.start("start", name, env=manager.environment)
    served(oci, name)
    wait_for(lambda: state(oci, name)["status"] == "running")
    say(state(oci, name)["pid"], "READY=1")
    os.close(manager.take_ready()[1])
    assert ended(starting) == 0


def test_a_manager_that_is_not_there(oci, world, bundle):
    """start says so while nothing has happened; run goes on and warns."""
    env = {"NOTIFY_SOCKET": world.path("nobody.sock")}
    b, name = bundle(["sleep", "1000"]), world.name()
    oci.ok("create", "--bundle", b.dir, name, env=env)
    oci.fails("start", name, env=env, match=["NOTIFY_SOCKET", "nobody.sock", "No such file"])
    assert state(oci, name)["status"] == "created"
    oci.ok("start", name)
    result = oci("run", "--bundle", bundle(["true"]).dir, world.name(), env=env)
    assert result.status == 0 and "warning: NOTIFY_SOCKET" in result.err


def test_a_container_made_without_a_manager(oci, world, bundle, manager):
    """It cannot tell anybody, so start does not wait for that."""
    b, name = bundle(["sleep", "1000"]), world.name()
    oci.ok("create", "--bundle", b.dir, name)
    result = oci("start", name, env=manager.environment)
    assert result.status == 0 and "made without it" in result.err
    assert state(oci, name)["status"] == "running" and manager.silent()


def test_the_manager_goes_away(oci, world, bundle, manager):
    """A message that cannot be handed on is a warning: the program runs."""
    b, name = bundle(["sleep", "1000"]), world.name()
    oci.ok("create", "--bundle", b.dir, name, env=manager.environment)
    starting = oci.start("start", name, env=manager.environment)
    served(oci, name)
    wait_for(lambda: state(oci, name)["status"] == "running")
    manager.socket.close()
    say(state(oci, name)["pid"], "READY=1")
    assert ended(starting) == 0
    assert b"warning: NOTIFY_SOCKET: send" in starting.stderr.read()
    assert read_text("/proc/%d/comm" % state(oci, name)["pid"]).strip() == "sleep"

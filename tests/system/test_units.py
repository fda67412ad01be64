# SPDX-License-Identifier: Apache-2.0
"""The units for systemd: what they say is valid, and what they run does what they say."""

import os
import re
import signal
import socket
import subprocess

import pytest
from fake_systemd import Systemd
from skinktest import BUILD, SKINK, TOP, needs, read_text

pytestmark = pytest.mark.vm

UNITS = ("skink-heal.service", "skink-shutdown.service", "skink@.service")


def test_systemd_finds_no_fault_with_the_units(world):
    needs("systemd-analyze")
    paths = []
    for name in UNITS:
        # Not installed here: the program that was built stands for it.
        text = read_text(os.path.join(TOP, "units", name + ".in")).replace("@bindir@/skink", SKINK)
        assert SKINK in text
        paths.append(world.write(name.replace("@", "@web"), text))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no"] + paths, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_LOG_LEVEL": "warning"}, timeout=120)
    assert done.returncode == 0 and done.stdout.decode().strip() == "", done.stdout.decode()


@pytest.mark.vm_more
@pytest.mark.not_vm("the manual pages are not in there")
def test_units_run_verbs_and_name_manual_pages_that_exist(world):
    for name in UNITS:
        text = read_text(os.path.join(BUILD, "units", name))
        for verb in re.findall(r"^Exec\w+=\S*/skink (\S+)", text, re.M):
            assert world.skink("help", verb).status == 0, verb
        for page in re.findall(r"man:(\S+)\(1\)", text):
            assert os.path.exists(os.path.join(BUILD, "docs", page + ".1")), page


@pytest.fixture
def manager(world):
    """A service manager's notification socket."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(world.path("notify"))
    server.settimeout(40)
    yield server
    server.close()


def states(manager):
    return dict(line.split("=", 1) for line in manager.recv(4096).decode().splitlines())


@pytest.fixture
def fake(world):
    one = Systemd(world.path("bus"))
    yield one
    one.end()
    assert one.problems == []


@pytest.mark.not_vm("that machine would have to go down")
@pytest.mark.parametrize("state, comes_back", [("running", False), ("degraded", False), ("stopping", True)])
def test_a_unit_that_is_stopped_with_the_machine_comes_back_with_it(sk, fake, state, comes_back):
    """skink@NAME that was started and is not enabled: what is wanted at the machine's end is wanted at its next start."""
    stop = re.search(r"^ExecStop=@bindir@/skink (.*) %i$", read_text(os.path.join(TOP, "units", "skink@.service.in")), re.M).group(1).split()
    name = sk.running("--restart", "unless-stopped", "--stop-timeout", "1")
    fake.state = state
    result = sk(*stop, name, env={"DBUS_SYSTEM_BUS_ADDRESS": fake.address})
    assert result.status == 0 and result.err == "" and sk.state(name) == "exited"
    assert sk.ok("heal").startswith(name) == comes_back
    assert sk.state(name) == ("running" if comes_back else "exited")


@pytest.mark.vm_more
def test_a_unit_that_is_stopped_may_take_as_long_as_its_container(sk, world, manager):
    name = sk.running("--stop-timeout", "1")
    assert sk("stop", "--for-unit", name, env={"NOTIFY_SOCKET": world.path("notify")}).status == 0
    assert int(states(manager)["EXTEND_TIMEOUT_USEC"]) > 3600 * 10 ** 6


@pytest.mark.without_systemd("it says whether the machine goes down")
def test_a_unit_that_is_stopped_without_a_systemd_is_stopped_for_good(sk, world):
    name = sk.running("--restart", "unless-stopped", "--stop-timeout", "1")
    result = sk("stop", "--for-unit", name, env={"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=" + world.path("nobody")})
    assert result.status == 0 and result.err.count("\n") == 1 and "--for-unit: whether the machine goes down cannot be told, so it is a stop for good" in result.err
    assert sk.ok("heal") == "" and sk.state(name) == "exited"


def test_start_notify_tells_when_it_runs_and_how_often_it_came_back(sk, world, manager):
    name = world.name()
    sk.ok("create", "--restart", "always", "--name", name, "busybox", "sh", "-c", "echo hello; sleep 1000")
    front = sk.start("start", "--notify", name, env={"NOTIFY_SOCKET": world.path("notify")})
    told = states(manager)
    pid = sk.pid(name)
    assert told["READY"] == "1" and told["STATUS"] == "busybox as process %d" % pid
    os.kill(pid, signal.SIGKILL)
    assert states(manager)["STATUS"].endswith(", relaunched once")
    sk.ok("stop", "-t", "1", name)
    assert front.wait(40) == 0, "stopped as it was told: no failure"
    assert front.stdout.read() == b"hello\nhello\n"


@pytest.mark.vm_more
def test_start_notify_of_what_runs_attaches_and_a_killed_front_disturbs_nobody(sk, world, manager):
    name = sk.running("--restart", "always")
    pid = sk.pid(name)
    for _ in range(2):
        front = sk.start("start", "--notify", name, env={"NOTIFY_SOCKET": world.path("notify")})
        assert states(manager)["READY"] == "1" and sk.pid(name) == pid
        front.kill()
        front.wait()
    assert sk.pid(name) == pid


@pytest.mark.vm_more
def test_start_notify_ends_with_the_status_of_a_program_that_fails(sk, world, manager):
    name = world.name()
    sk.ok("create", "--restart", "no", "--name", name, "busybox", "sh", "-c", "sleep 0.3; exit 7")
    assert sk("start", "--notify", name, env={"NOTIFY_SOCKET": world.path("notify")}).status == 7
    assert states(manager)["READY"] == "1"


def test_a_launch_that_fails_never_says_ready(sk, world, manager):
    name = world.name()
    sk.ok("create", "--name", name, "busybox", "/no/such/program")
    assert sk("start", "--notify", name, env={"NOTIFY_SOCKET": world.path("notify")}).status == 127
    manager.settimeout(0.2)
    with pytest.raises(socket.timeout):
        manager.recv(4096)


@pytest.mark.vm_more
def test_an_abstract_socket_and_addresses_that_are_none(sk, world):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind("\0skink-" + world.id)
        server.settimeout(40)
        name = world.name()
        sk.ok("create", "--restart", "no", "--name", name, "busybox", "sleep", "0.3")
        assert sk("start", "--notify", name, env={"NOTIFY_SOCKET": "@skink-" + world.id}).status == 0
        assert server.recv(4096).startswith(b"READY=1\n")
    result = sk("start", "--notify", name, env={"NOTIFY_SOCKET": "relative"})
    assert result.status == 0 and "NOTIFY_SOCKET" in result.err

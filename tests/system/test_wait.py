# SPDX-License-Identifier: Apache-2.0
"""`skink wait`: how a container ended, or that nobody can say; never a status that was not seen."""

import fcntl
import os
import signal
import socket
import time

import pytest
from skinktest import kill_quietly, read_text, starttime, wait_for
from test_false_ends import status


def sleeper(sk, *options):
    return sk.running("--restart", "no", *options, command=["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.02; done"])


def sockets_of(process):
    found = []
    for fd in os.listdir("/proc/%d/fd" % process.pid):
        try:
            found += [fd] if "socket:" in os.readlink("/proc/%d/fd/%s" % (process.pid, fd)) else []
        except OSError:
            pass
    return found


def asleep(process):
    return (read_text("/proc/%d/stat" % process.pid, "") or ") ?").rsplit(")", 1)[1].split()[0] == "S"


def connected(sk, name):
    """A `wait` that has connected and asked, and does nothing any more."""
    client = sk.start("wait", name)
    wait_for(lambda: sockets_of(client) and asleep(client), step=0.005)
    client.send_signal(signal.SIGSTOP)
    return client


def said(client):
    client.send_signal(signal.SIGCONT)
    out, err = client.communicate(timeout=60)
    return client.returncode, out.decode(), err.decode()


def test_of_one_that_was_never_started(sk):
    name = sk.ok("create", "busybox", "true")
    sk.fails("wait", name, status=1, match="never started.*skink start")


def test_of_one_that_could_not_be_launched(sk):
    name = sk.ok("create", "busybox", "/no/such/program")
    sk.fails("start", name)
    assert sk.ok("wait", name) == "127"


@pytest.mark.vm
@pytest.mark.vm_more
@pytest.mark.parametrize("options", [[], ["--rm"]], ids=lambda options: "".join(options) or "kept")
def test_who_asks_at_the_very_end(sk, world, options):
    """The end is on its way before the question: of a container that goes with it, nobody else knows."""
    name = sleeper(sk, *options)
    now = status(world, sk.inspect(name)["id"])
    os.kill(now["supervisor"][0], signal.SIGSTOP)
    os.kill(now["init"][0], signal.SIGTERM)
    wait_for(lambda: starttime(now["init"][0]) != str(now["init"][1]), step=0.005)
    client = connected(sk, name)
    os.kill(now["supervisor"][0], signal.SIGCONT)
    wait_for(lambda: starttime(now["supervisor"][0]) != str(now["supervisor"][1]), step=0.005)
    assert said(client) == (0, "7\n", "")


@pytest.mark.parametrize("verb", ["wait", "run"])
def test_a_supervisor_that_is_killed_in_its_last_steps(sk, world, verb):
    """With --rm: who has asked is told before the run's files go, and is not back before the container is gone."""
    if verb == "wait":
        name = sleeper(sk, "--rm")
        client = sk.start("wait", name)
        sleeps = lambda: read_text("/proc/%d/stat" % client.pid).rsplit(")", 1)[1].split()[0] == "S"
        wait_for(lambda: sockets_of(client) and sleeps(), step=0.005)
    else:
        name = world.name()
        client = sk.start("run", "--rm", "--name", name, "busybox", "sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done")
        assert client.stdout.readline() == b"ready\n"
    now = status(world, sk.inspect(name)["id"])
    container = os.path.join(world.store, "containers", sk.inspect(name)["id"])
    children = lambda: read_text("/proc/%d/task/%d/children" % (now["guard"][0], now["guard"][0])).split()
    names = os.open(os.path.join(world.store, "container-names"), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(names, fcntl.LOCK_EX)  # no removal comes further than to this
        os.kill(now["init"][0], signal.SIGTERM)
        wait_for(lambda: not os.path.exists(container), step=0.005)
        os.kill(now["supervisor"][0], signal.SIGKILL)
        wait_for(lambda: children() not in ([], [str(now["supervisor"][0])]), step=0.005, message="nobody comes to finish it")
        assert client.poll() is None
    finally:
        os.close(names)
    out, err = client.communicate(timeout=60)
    assert name not in os.listdir(os.path.join(world.store, "container-names"))
    assert (client.returncode, out, err) == ((0, b"7\n", b"") if verb == "wait" else (7, b"", b""))


def test_of_one_that_was_removed_meanwhile(sk, world):
    name = sleeper(sk)
    now = status(world, sk.inspect(name)["id"])
    client = connected(sk, name)
    kill_quietly(now["supervisor"][0])
    sk.ok("rm", "-f", name)
    code, out, err = said(client)
    # A successor may have come before the removal: then it is known.
    told = (code, out, err) == (0, "137\n", "")
    assert told or ((code, out) == (1, "") and "removed" in err and "before it could be asked how it ended" in err), (code, out, err)


def test_of_one_whose_end_nobody_saw(sk, world):
    name = sleeper(sk)
    now = status(world, sk.inspect(name)["id"])
    for which in ("guard", "supervisor"):
        os.kill(now[which][0], signal.SIGSTOP)
    for which in ("init", "guard", "supervisor"):
        kill_quietly(now[which][0])
    wait_for(lambda: starttime(now["init"][0]) != str(now["init"][1]), step=0.005)
    for _ in ("heard of its new supervisor", "read from its record"):
        sk.fails("wait", name, status=1, match="nobody saw how it ended")


def test_a_supervisor_that_is_killed_in_its_very_last_steps_leaves_no_guard(sk, world):
    """A client that has connected and says nothing holds it up when all of a --rm container is gone."""
    name = sleeper(sk, "--rm")
    ident = sk.inspect(name)["id"]
    now = status(world, ident)
    place = os.open(os.path.join(world.run_dir, "containers", ident), os.O_RDONLY | os.O_DIRECTORY)
    silent = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        silent.connect("/proc/self/fd/%d/control.sock" % place)
        time.sleep(1.2)  # a guard gives up a supervisor that never lived for a second
        os.kill(now["init"][0], signal.SIGTERM)
        wait_for(lambda: not any(ident in entry for entry in os.listdir(os.path.join(world.store, "containers"))), step=0.002)
        kill_quietly(now["supervisor"][0])
        wait_for(lambda: starttime(now["guard"][0]) != str(now["guard"][1]), message="its guard goes on for nobody")
    finally:
        silent.close()
        os.close(place)


def test_of_one_for_which_very_many_wait(sk, world):
    """They are told so, and whoever is answered at once is still heard."""
    name = sleeper(sk)
    place = os.open(os.path.join(world.run_dir, "containers", sk.inspect(name)["id"]), os.O_RDONLY | os.O_DIRECTORY)
    others = []
    try:
        for _ in range(512):
            others.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            others[-1].connect("/proc/self/fd/%d/control.sock" % place)
            others[-1].send(b'{"op":"wait"}')
        sk.fails("wait", name, status=1, match=[name, "512 commands wait"])
        sk.fails("attach", name, status=125, match="512 commands wait")
        sk.fails("exec", name, "true", status=125, match="512 commands wait")
        sk.ok("stop", name)
        assert all(b'"done"' in one.recv(4096) for one in others)
    finally:
        for one in others:
            one.close()
        os.close(place)


def test_short_runs(sk):
    """Whenever it is asked: the status, or that the container is not there any more."""
    for i in range(12):
        name = sk.ok("run", "-d", "--rm", "busybox", "sh", "-c", "sleep 0.0%d; exit 7" % i)
        answer = sk("wait", name)
        gone = answer.status == 1 and not answer.out and ("no such container" in answer.err or "was removed" in answer.err)
        assert gone or (answer.status, answer.out.strip()) == (0, "7"), answer

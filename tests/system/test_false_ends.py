# SPDX-License-Identifier: Apache-2.0
"""Whose keepers are killed has no ends but its own: none is made up, counted or lost."""

import json
import os
import resource
import signal

import pytest
from skinktest import alive, kill_quietly, read_text, starttime, wait_for

BACK_OFF = ["--restart", "always", "--restart-delay", "1s", "--restart-factor", "1", "--restart-jitter", "0"]


def status_file(world, ident):
    return os.path.join(world.run_dir, "containers", ident, "status.json")


def status(world, ident):
    return json.loads(wait_for(lambda: read_text(status_file(world, ident), ""), step=0.005))


def ends(sk, name):
    return [(run["exit"]["status"], run["exit"]["error"]) for run in sk.inspect(name)["history"]]


def restarts_reach(sk, name, count):
    wait_for(lambda: sk.row(name)["restarts"] >= count, step=0.1, message=sk.row(name))


def test_a_group_that_a_killed_supervisor_has_killed_in(sk, world):
    """What is left of a run without a pid namespace is killed by its group, and some kernels kill newcomers in that."""
    ident = sk.ok("run", "-d", *BACK_OFF, "--pid", "host", "busybox", "sh", "-c", "sleep 1000 & exit 4")
    killed = 0
    while killed < 2:
        now = wait_for(lambda: (lambda s: s["step"] == "waiting" and s["restarts"] > killed + 1 and s)(status(world, ident)), step=0.01)
        kill_quietly(now["supervisor"][0])
        killed = now["restarts"] - 1
    restarts_reach(sk, ident, killed + 2)
    assert set(ends(sk, ident)) == {(4, "")}, ends(sk, ident)


@pytest.mark.vm
@pytest.mark.vm_more
def test_a_group_that_somebody_has_killed_in(sk, world):
    ident = sk.ok("run", "-d", *BACK_OFF, "busybox", "sh", "-c", "exit 4")
    places = read_text(os.path.join(os.path.dirname(status_file(world, ident)), "cgroup.json")).split("\n")[1:]
    file = next((top + path + "/cgroup.kill" for path, controllers, top in (line.split("\t") for line in places) if not controllers), "")
    if not os.path.exists(file):
        pytest.skip("no cgroup.kill on this host")
    wait_for(lambda: status(world, ident)["step"] == "waiting", step=0.01)
    with open(file, "w") as kill:
        kill.write("1")
    restarts_reach(sk, ident, 3)
    assert set(ends(sk, ident)) == {(4, "")}, ends(sk, ident)


@pytest.mark.parametrize("run", [1, 2])
def test_a_guard_that_dies_in_a_launch(bare, bundle, world, run):
    """The half-made process dies with it, and is made again: no run has failed, and who waits for the first is told so."""
    b = bundle(["sh", "-c", "exit 7"])
    script = "echo x >>{0}/tries; [ $(wc -l <{0}/tries) -ne {1} ] || while [ ! -e {0}/go ]; do sleep 0.02; done".format(world.base, run)
    b.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]}
    b.save()
    name = world.name()
    client = bare.start("run", "-d", "--name", name, "--restart", "always", "--restart-budget", "4/1h", "--bundle", b.dir)
    tries = world.path("tries")
    wait_for(lambda: len(read_text(tries, "").split()) == run, step=0.01)
    ident = bare.inspect(name)["id"]
    now = status(world, ident)
    assert now["step"] == "launching" and now["incarnation"] == run
    os.kill(now["guard"][0], signal.SIGKILL)
    wait_for(lambda: not alive(now["guard"][0]))
    world.write("go", "")
    out, err = client.communicate(timeout=90)
    assert client.returncode == 0, err
    bare.wait_state(name, "exited")
    assert len(read_text(tries).split()) == 5, "the launch that was cut off, and four that were not"
    assert ends(bare, name) == [(7, "")] * 4
    assert bare.row(name)["restarts"] == 3


class Exec:
    """A client that is stopped, and the process that it has in the container."""

    def __init__(self, sk, world, *options):
        self.name = sk.running("--restart", "no", *options)
        self.id = sk.inspect(self.name)["id"]
        self.client = sk.start("exec", self.name, "sh", "-c", "trap 'exit 33' TERM; echo ready; while :; do sleep 0.02; done")
        assert self.client.stdout.readline() == b"ready\n"
        self.client.send_signal(signal.SIGSTOP)
        self.before = status(world, self.id)
        self.pid = self.before["execs"][0][0]
        self.born = starttime(self.pid)

    def end(self):
        os.kill(self.pid, signal.SIGTERM)
        wait_for(lambda: starttime(self.pid) != self.born, step=0.01, message="nobody reaps it")

    def told(self):
        self.client.send_signal(signal.SIGCONT)
        out, err = self.client.communicate(timeout=90)
        return self.client.returncode, out, err


def exec_ends(sk, name):
    lines = sk.ok("events", "--since", "1h", "--until", "0s", "--format", "json", "--filter", "container=" + name).splitlines()
    return [line for line in lines if "exec_die" in line]


@pytest.mark.vm
def test_an_exec_that_ends_after_its_guard(sk, world):
    """The next supervisor has heard how before the client comes back to it."""
    exec_ = Exec(sk, world)
    os.kill(exec_.before["guard"][0], signal.SIGKILL)
    wait_for(lambda: status(world, exec_.id)["guard"] != exec_.before["guard"], step=0.01)
    exec_.end()
    told = wait_for(lambda: exec_ends(sk, exec_.name))
    code, out, err = exec_.told()
    if json.loads(told[0])["attributes"].get("exit_code") == 33:
        assert (code, err) == (33, b""), (told, code, err)
    else:  # before Linux 6.15 nobody can know
        assert code == 125 and b"nobody saw how" in err, (told, code, err)


def reaped(process):
    wait_for(lambda: starttime(process[0]) != str(process[1]), step=0.005)


def can_open_nothing(pid):
    most = next(fd for fd in range(1000) if not os.path.lexists("/proc/%d/fd/%d" % (pid, fd)))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))


class Foreground:
    """A command in the foreground of a container, which ends with 5 in its first run and goes on in the next."""

    def __init__(self, sk, world, *verb):
        self.name = world.name()
        script = "[ -e /data/again ] || exit 5; while :; do echo ready; sleep 0.05; done"
        os.mkdir(world.path("data"))
        made = ["--name", self.name, "-v", world.path("data") + ":/data", "busybox", "sh", "-c", script]
        if verb[0] != "run":
            assert sk("run", *made).status == 5
        world.write("data/again", "")
        if verb[0] == "attach":
            sk.ok("start", self.name)
        self.client = sk.start(*verb, *(made if verb[0] == "run" else [self.name]))
        assert self.client.stdout.readline() == b"ready\n"
        self.now = status(world, sk.inspect(self.name)["id"])

    def told(self):
        err = self.client.communicate(timeout=90)[1].decode()
        assert err.startswith("skink: ") and err.count("\n") == 1, err
        return self.client.returncode, err


@pytest.mark.parametrize("verb", ["run", "run --rm", "start -a", "attach"])
def test_a_foreground_whose_end_nobody_saw(sk, world, verb):
    front = Foreground(sk, world, *verb.split())
    front.client.send_signal(signal.SIGSTOP)
    for which in ("guard", "supervisor"):
        os.kill(front.now[which][0], signal.SIGSTOP)
    for which in ("init", "guard", "supervisor"):
        kill_quietly(front.now[which][0])
    reaped(front.now["init"])
    front.client.send_signal(signal.SIGCONT)
    code, err = front.told()
    assert code == 125 and ("nobody saw how" in err or "--rm" in verb and "was removed" in err), (code, err)


@pytest.mark.parametrize("verb", ["run", "start -a"])
def test_a_foreground_that_cannot_reach_the_next_supervisor(sk, world, verb):
    """The container runs on, and how it ended before is not its end."""
    front = Foreground(sk, world, *verb.split())
    can_open_nothing(front.client.pid)
    kill_quietly(front.now["supervisor"][0])
    code, err = front.told()
    assert code == 125 and "nobody can be asked how it ends" in err and "open files" in err, (code, err)
    assert alive(front.now["init"][0])


def test_an_exec_whose_end_nobody_saw(sk, world):
    exec_ = Exec(sk, world)
    for which in ("guard", "supervisor"):
        os.kill(exec_.before[which][0], signal.SIGSTOP)
    os.kill(exec_.pid, signal.SIGTERM)
    for which in ("guard", "supervisor"):
        kill_quietly(exec_.before[which][0])
    wait_for(lambda: starttime(exec_.pid) != exec_.born, step=0.01, message="nobody reaps it")
    sk.ok("heal")
    code, out, err = exec_.told()
    assert code == 125 and err.startswith(b"skink:") and b"nobody saw how" in err and err.count(b"\n") == 1, (code, err)


@pytest.mark.parametrize("supervisor", ["stopped", "killed"])
def test_an_exec_that_ends_shortly_before_its_container(sk, world, supervisor):
    """The supervisor hears of both at once, or its successor finds both over: neither end hides the other."""
    exec_ = Exec(sk, world)
    keeper, init = exec_.before["supervisor"][0], exec_.before["init"]
    os.kill(keeper, signal.SIGSTOP)
    exec_.end()
    os.kill(init[0], signal.SIGKILL)
    reaped(init)
    os.kill(keeper, signal.SIGCONT if supervisor == "stopped" else signal.SIGKILL)
    sk.wait_state(exec_.name, "exited")
    assert exec_.told() == (33, b"", b"")


@pytest.mark.parametrize("options", [[], ["--pid", "host"]], ids=lambda options: "".join(options) or "own")
def test_an_exec_that_ends_with_its_container(sk, world, options):
    """Without a pid namespace it is the supervisor that ends it, last, and still hears how."""
    exec_ = Exec(sk, world, *options)
    os.kill(exec_.before["init"][0], signal.SIGKILL)
    sk.wait_state(exec_.name, "exited")
    assert exec_.told() == (137, b"", b"")
    assert len([line for line in exec_ends(sk, exec_.name) if "137" in line]) == 1


def test_an_exec_that_cannot_reach_the_next_supervisor(sk, world):
    """It runs on, and is not said to have ended."""
    exec_ = Exec(sk, world)
    can_open_nothing(exec_.client.pid)
    kill_quietly(exec_.before["supervisor"][0])
    code, out, err = exec_.told()
    assert code == 125 and b"nobody can be asked" in err and b"open files" in err and err.count(b"\n") == 1, (code, err)
    assert starttime(exec_.pid) == exec_.born


def test_who_asks_while_the_next_supervisor_comes(sk, world):
    """The run ends with its supervisor: the answer is how it ended, not that nobody knows."""
    for _ in range(3):
        name = sk.running("--restart", "no", command=["sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.02; done"])
        wait_for(lambda: sk.ok("logs", name) == "ready")
        now = status(world, sk.inspect(name)["id"])
        os.kill(now["supervisor"][0], signal.SIGSTOP)
        os.kill(now["init"][0], signal.SIGTERM)
        wait_for(lambda: not alive(now["init"][0]), step=0.001)
        os.kill(now["supervisor"][0], signal.SIGKILL)
        wait_for(lambda: not alive(now["supervisor"][0]), step=0)
        row = sk.row(name)
        assert row["state"] == "exited" and row["exit"]["known"] and row["exit"]["status"] == 3, row

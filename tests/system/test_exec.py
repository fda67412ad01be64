# SPDX-License-Identifier: Apache-2.0
"""exec: one more process in a running container, made by the same rules."""

import json
import os
import signal
import time

import pytest
from skinktest import alive, kill_quietly, read_text, status_of, wait_for


def test_output_status_and_input(sk):
    name = sk.running()
    result = sk("exec", name, "sh", "-c", "echo out; echo err >&2; exit 9")
    assert (result.status, result.out, result.err) == (9, "out\n", "err\n")
    assert sk.ok("exec", "-i", name, "cat", input="in\n") == "in"
    assert sk.ok("exec", name, "cat", input="in\n") == ""
    assert sk.ok("exec", "-i", name, "wc", "-c", input="x" * 300000) == "300000"


@pytest.mark.parametrize("command,status", [(["/no/such"], 127), (["nosuch"], 127), (["/etc"], 126), (["/etc/passwd"], 126),
                                            (["sh", "-c", "kill -9 $$"], 137), (["sh", "-c", "kill -TERM $$"], 143)])
def test_exit_statuses(sk, command, status):
    assert sk("exec", sk.running(), *command).status == status


def test_it_has_the_namespaces_root_and_limits_of_the_container(sk):
    name = sk.running("-m", "64m", "--ulimit", "nofile=123:123")
    out = sk.ok("exec", name, "sh", "-c", "ulimit -n; touch /x 2>/dev/null || echo ro; readlink /proc/self/ns/pid; readlink /proc/1/ns/pid; "
                "cat /proc/self/cgroup; echo --; cat /proc/1/cgroup")
    lines = out.splitlines()
    assert lines[:2] == ["123", "ro"] and lines[2] == lines[3]
    own, _, first = "\n".join(lines[4:]).partition("--")
    assert own.strip() == first.strip()


def test_user_workdir_and_environment(sk):
    name = sk.running("-e", "FROM=run", "-w", "/etc")
    out = sk.ok("exec", "-u", "user", "-w", "/tmp", "-e", "MORE=exec", name, "sh", "-c", "id -u; id -g; pwd; echo $FROM $MORE $HOME")
    assert out.split() == ["1000", "1000", "/tmp", "run", "exec", "/home/user"]
    assert sk.ok("exec", name, "pwd") == "/etc"
    sk.fails("exec", "-u", "stranger", name, "true", match="stranger")


def test_capabilities_and_seccomp_are_the_containers(sk):
    name = sk.running("--cap-drop", "ALL", "--cap-add", "CHOWN")
    out = sk.ok("exec", name, "grep", "-E", "Cap|NoNewPrivs|Seccomp:", "/proc/self/status")
    fields = dict(line.split(":\t") for line in out.splitlines())
    own = status_of(sk.pid(name))
    for field in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"):
        assert fields[field] == own[field], field


def test_detached_exec(sk):
    name = sk.running()
    sk.ok("exec", "-d", name, "sh", "-c", "echo done >/tmp/mark; sleep 100")
    wait_for(lambda: sk("exec", name, "cat", "/tmp/mark").out == "done\n")


def test_exec_in_a_stopped_container(sk):
    name = sk.running("--restart", "no", command=["true"])
    sk.wait_state(name, "exited")
    sk.fails("exec", name, "true", match=[name, "not running"])


def test_a_killed_client_does_not_keep_the_container(sk):
    name = sk.running("--restart", "no")
    client = sk.start("exec", name, "sleep", "100")
    wait_for(lambda: "sleep 100" in sk.ok("exec", name, "ps"))
    client.send_signal(signal.SIGSTOP)
    sk.ok("stop", "-t", "1", name)
    assert sk.state(name) == "exited"
    client.send_signal(signal.SIGCONT)
    assert client.wait(timeout=60) != 0


def test_exec_processes_end_with_the_container(sk):
    name = sk.running("--restart", "no")
    client = sk.start("exec", name, "sleep", "100")
    wait_for(lambda: "sleep 100" in sk.ok("exec", name, "ps"))
    os.kill(sk.pid(name), signal.SIGKILL)
    assert client.wait(timeout=60) == 137


def test_signals_to_the_client_reach_the_process(sk):
    name = sk.running()
    client = sk.start("exec", name, "sh", "-c", "trap 'exit 21' TERM; echo ready; while :; do sleep 0.05; done")
    assert client.stdout.readline() == b"ready\n"
    client.send_signal(signal.SIGTERM)
    assert client.wait(timeout=60) == 21


def test_many_at_once(sk):
    name = sk.running()
    clients = [sk.start("exec", name, "sh", "-c", "echo %d; sleep 0.2; exit %d" % (n, n)) for n in range(20)]
    for n, client in enumerate(clients):
        out, err = client.communicate(timeout=90)
        assert (client.returncode, out) == (n, b"%d\n" % n), err


def test_exec_after_a_relaunch(sk):
    name = sk.running("--restart", "always")
    pid = sk.pid(name)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: sk.pid(name) not in (0, pid))
    assert sk.ok("exec", name, "echo", "again") == "again"


def test_privileged_exec(sk):
    name = sk.running()
    out = sk.ok("exec", "--privileged", name, "grep", "CapEff", "/proc/self/status")
    assert int(out.split()[1], 16) == int(status_of(os.getpid())["CapBnd"], 16)


def test_background_processes_of_an_exec_do_not_hold_the_client(sk):
    name = sk.running()
    begin = time.monotonic()
    assert sk.ok("exec", name, "sh", "-c", "sleep 300 >/dev/null 2>&1 & echo done") == "done"
    assert time.monotonic() - begin < 200


def test_it_waits_for_the_relaunch_that_is_under_way(sk):
    """The first failure is relaunched at once: whoever comes in between finds the next run."""
    name = sk.running("--restart", "always")
    for _ in range(5):
        pid = sk.pid(name)
        os.kill(pid, signal.SIGKILL)
        # Until then an exec may come in and be killed with the rest.
        wait_for(lambda: not alive(pid))
        assert sk.ok("exec", name, "echo", "there") == "there"
        wait_for(lambda: sk.pid(name) not in (0, pid))
        sk.ok("restart", "-t", "0", name)


def test_it_does_not_wait_for_a_try_that_is_far_away(sk):
    name = sk.running("--restart", "always", "--restart-delay", "1h", "--restart-max-delay", "1h", command=["false"])
    wait_for(lambda: sk.state(name) == "restarting")
    sk.fails("exec", name, "true", match=[name, "next try"])


@pytest.mark.parametrize("options", [["--restart-now-on", "3"], ["--restart-delay", "20ms", "--restart-factor", "1"]], ids=["at-once", "soon"])
def test_it_waits_for_the_next_run_when_one_ends_under_it(sk, options):
    """In a crash loop it comes into one of the runs, and may end with that; it is not refused for having come into none."""
    name = sk.running("--restart", "always", *options, command=["sh", "-c", "sleep 0.03; exit 3"])
    for _ in range(15):
        result = sk("exec", name, "true")
        assert result.status in (0, 137), result


class HeldUp:
    """A container in which somebody stops every newcomer, and an exec that stands still on its way into it."""

    def __init__(self, sk, world):
        self.sk = sk
        self.name = sk.running("--restart", "always", command=["sh", "-c", "while :; do kill -STOP -1; done"])
        self.file = os.path.join(world.run_dir, "containers", sk.inspect(self.name)["id"], "status.json")
        self.pid = sk.pid(self.name)

    def execs(self):
        return json.loads(wait_for(lambda: read_text(self.file, ""))).get("execs", [])

    def half_made(self):
        return [one[0] for one in self.execs() if one[3] & 2]

    def start(self):
        """Some come through before they are stopped: those are ended, and the next is tried."""
        for _ in range(200):
            client = self.sk.start("exec", self.name, "sleep", "1234")
            pid = wait_for(self.execs)[0][0]
            wait_for(lambda: not alive(pid) or status_of(pid)["State"][0] in "tT")
            # Stopped it comes no further: what the file says now holds.
            if self.half_made() == [pid]:
                return client, pid
            kill_quietly(pid)
            client.wait(timeout=60)
            wait_for(lambda: not self.execs())
        pytest.fail("none was caught on its way")


@pytest.mark.parametrize("which", ["supervisor", pytest.param("guard", marks=pytest.mark.full)])
def test_one_that_is_half_made_ends_with_its_keeper_and_the_client_is_told(sk, world, which):
    held = HeldUp(sk, world)
    client, pid = held.start()
    kill_quietly(json.loads(read_text(held.file))[which][0])
    out, err = client.communicate(timeout=90)
    assert client.returncode == 125 and out == b"", (client.returncode, out)
    assert which.encode() + b" was killed while it started the process" in err and b"try again" in err, err
    wait_for(lambda: not alive(pid) and held.execs() == [])
    assert sk.pid(held.name) == held.pid


def test_at_the_limit_of_processes_it_names_that(sk):
    name = sk.running("--pids-limit", "1")
    sk.fails("exec", name, "true", status=125, match=[r"control group \S*%s" % sk.inspect(name)["id"], r"may have 1 process", "--pids-limit"])
    sk.ok("update", "--pids-limit", "20", name)
    assert sk.ok("exec", name, "echo", "in") == "in"

# SPDX-License-Identifier: Apache-2.0
"""run --standby: the next run is made ahead and waits; a relaunch is one message."""

import ctypes
import json
import os
import signal
import time

import pytest
from skinktest import ALL, alive, cgroup_dir, kill_quietly, listdir, read_text, wait_for

OPTIONS = ["--standby", "--restart", "always"]


def waits_for_a_word(pid):
    """Whether it reads from a connection that it has accepted at standby.sock."""
    call = read_text("/proc/%d/syscall" % pid).split()
    if call[0] != {"x86_64": "0", "aarch64": "63"}[os.uname().machine]:
        return False
    inode = os.readlink("/proc/%d/fd/%d" % (pid, int(call[1], 16)))[len("socket:["):-1]
    return any(line.split()[6] == inode and line.endswith("/standby.sock") for line in read_text("/proc/net/unix").splitlines())


def standby(sk, name):
    """The pid of the standby, which is there soon, and waits: what is half made when its maker is killed is not used."""
    pid = wait_for(lambda: sk.inspect(name)["standby_pid"])
    wait_for(lambda: not alive(pid) or waits_for_a_word(pid))
    return pid


def relaunched(sk, name, pid):
    return wait_for(lambda: sk.state(name) == "running" and sk.pid(name) not in (0, pid) and sk.pid(name))


def facts(sk, name):
    """What a program can see of itself that must not depend on how it came to run."""
    script = ("grep -vE '^(Pid|Tgid|Ngid|PPid|NSpid|NStgid|NSpgid|NSsid|FDSize|Vm|Rss|Hug|Threads|voluntary|nonvoluntary|SigQ|Name|State)' /proc/1/status;"
              "cat /proc/1/limits /proc/1/oom_score_adj /proc/1/cgroup; cut -d' ' -f3- /proc/1/mountinfo | sed 's/^[0-9:]* //; s/upper[^,]*//; s/workdir=[^,]*//; s/lowerdir=[0-9:]*,/lowerdir=,/';"
              "tr '\\0' '\\n' < /proc/1/environ; ls -l /proc/1/fd | wc -l; hostname; cat /proc/sys/kernel/ns_last_pid > /dev/null; ulimit -n; id; pwd")
    return sk.ok("exec", name, "sh", "-c", script)


def test_the_standby_becomes_the_next_run(sk):
    name = sk.running(*OPTIONS, "-m", "64m", "--pids-limit", "20", "--ulimit", "nofile=99", "-e", "A=1", "--tmpfs", "/data")
    first, seen = sk.pid(name), facts(sk, name)
    for _ in range(3):
        waits = standby(sk, name)
        assert alive(waits) and waits != sk.pid(name)
        kill_quietly(sk.pid(name))
        assert relaunched(sk, name, first) == waits
        first = waits
        assert facts(sk, name) == seen
    assert sk.row(name)["restarts"] == 3 and sk.inspect(name)["exit"]["signal"] == 9
    assert sk.inspect(name)["id"] in cgroup_dir(first, "memory")[0]
    sk.ok("stop", "-t", "0", name)
    assert not alive(first) and sk.inspect(name)["standby_pid"] == 0


def test_a_status_that_the_kernel_does_not_show(sk, world):
    """To root without CAP_SYS_PTRACE /proc/PID/stat of another user's process tells 0, whatever it was."""
    name = world.name()
    sk.ok("run", "-d", "--name", name, "--standby", "--restart", "on-failure:2", "-u", "1000:1000", "busybox", "sh", "-c", "sleep 0.5; exit 7",
          before=["setpriv", "--bounding-set", "-sys_ptrace"])
    wait_for(lambda: sk.state(name) == "exited")
    row = sk.row(name)
    assert (row["exit"]["status"], row["restarts"]) == (7, 2), row


def test_nothing_of_a_run_is_in_the_next(sk):
    name = sk.running(*OPTIONS, "--writable", command=["sh", "-c", "ls /mine /tmp/mine 2>/dev/null; touch /mine /tmp/mine; echo run; exec sleep 1000"])
    for _ in range(2):
        waits, pid = standby(sk, name), sk.pid(name)
        wait_for(lambda: sk("exec", name, "test", "-e", "/tmp/mine").status == 0)
        kill_quietly(pid)
        assert relaunched(sk, name, pid) == waits
    wait_for(lambda: sk.ok("logs", name).split() == ["run"] * 3)
    ident = sk.inspect(name)["id"]
    # Of the run and of the one to come.
    standby(sk, name)
    assert len([one for one in listdir(os.path.join(sk.world.store, "containers", ident)) if one.startswith("upper.")]) <= 2


def test_processes_that_are_left_end_all_the_same(sk):
    name = sk.running(*OPTIONS, command=["sh", "-c", "sleep 1000 & exec sleep 1001"])
    waits, pid = standby(sk, name), sk.pid(name)
    sk.ok("exec", "-d", name, "sleep", "1002")
    kill_quietly(pid)
    assert relaunched(sk, name, pid) == waits

    def commands():
        words = sk.ok("top", "-o", "pid,comm", name).split()[2:]
        return {int(pid): comm for pid, comm in zip(words[::2], words[1::2])}

    # Its own two, once it has got so far, and none of the run before.
    wait_for(lambda: list(commands().values()).count("sleep") == 2)
    assert waits in commands()


@pytest.mark.parametrize("which", ["supervisor_pid", "guard_pid", "standby_pid"])
def test_what_is_killed_is_made_anew(sk, which):
    name = sk.running(*OPTIONS)
    waits, pid = standby(sk, name), sk.pid(name)
    victim = sk.inspect(name)[which]
    kill_quietly(victim)
    wait_for(lambda: (lambda facts: facts["supervisor_pid"] and facts["guard_pid"] and facts["standby_pid"]
                      and facts[which] != victim
                      and (which == "supervisor_pid" or facts["standby_pid"] != waits))(sk.inspect(name)))
    assert sk.pid(name) == pid
    # A successor takes over the one that is there; under a new guard it would be nobody's child.
    assert alive(waits) == (which == "supervisor_pid")
    now = standby(sk, name)
    kill_quietly(pid)
    assert relaunched(sk, name, pid) == now
    assert sk.inspect(name)["exit"]["status"] == 137


def test_all_keepers_killed_at_once(sk):
    name = sk.running(*OPTIONS)
    facts = sk.inspect(name)
    waits = standby(sk, name)
    for pid in (facts["guard_pid"], facts["supervisor_pid"]):
        os.kill(pid, signal.SIGSTOP)
    for pid in (facts["guard_pid"], facts["supervisor_pid"]):
        kill_quietly(pid)
    sk("heal")
    wait_for(lambda: sk.inspect(name)["standby_pid"] not in (0, waits))
    assert sk.pid(name) == facts["pid"] and not alive(waits)
    sk.ok("rm", "-f", name)


def test_a_limit_that_is_changed_holds_for_the_standby(sk):
    name = sk.running(*OPTIONS, "-m", "64m")
    waits, pid = standby(sk, name), sk.pid(name)
    sk.ok("update", "-m", "80m", name)
    kill_quietly(pid)
    assert relaunched(sk, name, pid) == waits
    directory, version = cgroup_dir(waits, "memory")
    assert read_text(directory + ("/memory.limit_in_bytes" if version == 1 else "/memory.max")).strip() == str(80 << 20)


def test_paused_and_thawed(sk):
    name = sk.running(*OPTIONS)
    pid = sk.pid(name)
    sk.ok("pause", name)
    sk.ok("unpause", name)
    waits = standby(sk, name)
    kill_quietly(pid)
    assert relaunched(sk, name, pid) == waits


@pytest.mark.parametrize("options,match", [
    (["--restart", "no"], "nothing is ever relaunched"), (["--rm"], "nothing is ever relaunched"), (["-t", "--restart", "always"], "terminal"),
    (["--pid", "host", "--restart", "always"], "pid namespace")])
def test_what_can_have_none(sk, options, match):
    sk.fails("run", "-d", "--standby", *options, "busybox", "true", status=125, match=["--standby", match])


def test_killed_together_it_is_one_end(sk):
    name = sk.running(*OPTIONS, "--restart-delay", "1ms", "--restart-max-delay", "1ms", "--restart-reset", "1ms")
    for number in range(6):
        waits, pid = standby(sk, name), sk.pid(name)
        # Stopped meanwhile, as it would otherwise use the one before we have killed it.
        supervisor = sk.inspect(name)["supervisor_pid"]
        os.kill(supervisor, signal.SIGSTOP)
        for victim in (pid, waits):
            kill_quietly(victim)
        os.kill(supervisor, signal.SIGCONT)
        now = relaunched(sk, name, pid)
        assert now != waits and sk.row(name)["restarts"] == number + 1
    assert len(sk.history(name, 6)) == 6


def test_each_run_counts_however_short(sk, world):
    """What has run has an end of its own, even when it is over before we have looked."""
    os.makedirs(world.path("out"))
    name = sk.running(*OPTIONS, "--restart-delay", "1ms", "--restart-max-delay", "1ms", "-v", world.path("out") + ":/out",
                      "--restart-never-on", "9", command=["sh", "-c", "echo run >> /out/runs; [ $(wc -l < /out/runs) -gt 8 ] && exit 9; [ $(($(wc -l < /out/runs) % 2)) = 1 ] && sleep 0.3; exit 1"])
    sk.wait_state(name, "exited")
    facts = sk.inspect(name)
    assert len(read_text(world.path("out") + "/runs").split()) == 9 == len(sk.history(name, 9)) and facts["exit"]["status"] == 9
    assert facts["restarts"] == 8


@pytest.mark.parametrize("both", [False, True])
def test_keepers_killed_while_it_waits_for_the_next_try(sk, both):
    name = sk.running("--standby", "--restart", "on-failure", "--restart-delay", "1500ms", "--restart-jitter", "0", "--restart-reset", "1h")
    for _ in range(2):
        standby(sk, name)
        pid = sk.pid(name)
        kill_quietly(pid)
        wait_for(lambda: sk.state(name) == "restarting" or sk.pid(name) not in (0, pid))
    facts = sk.inspect(name)
    assert facts["state"] == "restarting"
    for which in ("guard_pid", "supervisor_pid") if both else ("supervisor_pid",):
        kill_quietly(facts[which])
    relaunched(sk, name, pid)
    facts = sk.inspect(name)
    assert facts["exit"]["status"] == 137 and facts["exit"]["error"] == "" and facts["restarts"] == 2


def test_a_file_of_the_host_that_was_replaced(sk, world):
    world.write("conf", "one\n")
    name = sk.running(*OPTIONS, "-v", world.path("conf") + ":/conf", command=["sh", "-c", "cat /conf; exec sleep 1000"])
    waits, pid = standby(sk, name), sk.pid(name)
    world.write("conf.new", "two\n")
    os.rename(world.path("conf.new"), world.path("conf"))
    kill_quietly(pid)
    assert relaunched(sk, name, pid) != waits
    wait_for(lambda: sk.ok("logs", name).split() == ["one", "two"])


def test_a_policy_that_relaunches_nothing_has_none(sk):
    name = sk.running(*OPTIONS)
    waits = standby(sk, name)
    sk.ok("update", "--restart", "no", name)
    assert sk.inspect(name)["standby_pid"] == 0
    wait_for(lambda: not alive(waits))
    sk.ok("update", "--restart", "always", name)
    standby(sk, name)


def test_paused_and_killed(sk):
    name = sk.running(*OPTIONS)
    waits, pid = standby(sk, name), sk.pid(name)
    sk.ok("pause", name)
    kill_quietly(pid)
    sk("unpause", name)
    assert relaunched(sk, name, pid) == waits and sk.ok("exec", name, "echo", "goes") == "goes"


def test_a_limit_without_room(sk):
    name = sk.running(*OPTIONS, "-m", "1900k")
    pid = sk.pid(name)
    kill_quietly(pid)
    relaunched(sk, name, pid)
    assert sk.inspect(name)["standby_pid"] == 0 and not sk.inspect(name)["exit"]["oom"]


def command_name(pid):
    return read_text("/proc/%d/comm" % pid, "").strip()


def test_one_that_went_on_is_the_run_although_the_supervisor_was_killed_just_then(sk):
    """It writes down that the standby runs only after it has said so: its successor finds out, and tells and counts what happened once."""
    name = sk.running(*OPTIONS, "--restart-now-on", "137", "--restart-delay", "1ms", command=["sleep", "1000"])
    rounds, went_on = 60 if ALL else 12, 0
    for number in range(rounds):
        waits, pid = standby(sk, name), sk.pid(name)
        supervisor = sk.inspect(name)["supervisor_pid"]
        kill_quietly(pid)
        # Every other round just when it has gone on; else anywhere on the way.
        deadline = time.monotonic() + (5 if number % 2 else number % 6 * 0.0004 + 0.0002)
        while command_name(waits) == "skink-init" and time.monotonic() < deadline:
            pass
        kill_quietly(supervisor)
        ran = command_name(waits) == "sleep"
        now = relaunched(sk, name, pid)
        assert not ran or now == waits, number
        went_on += ran
        wait_for(lambda: sk.inspect(name)["supervisor_pid"] not in (0, supervisor))
    assert went_on
    told = [(event["run"], event["action"]) for event in map(json.loads, sk.ok(
        "events", "--no-follow", "--format", "json", "--filter", "container=" + name).splitlines()) if event["action"] in ("die", "start")]
    numbers = sorted({run for run, _ in told}, key=lambda run: int(run.split(".")[1]))
    assert told == [(run, action) for run in numbers for action in ("start", "die")][:-1], told
    assert sk.row(name)["restarts"] == len(numbers) - 1 == rounds


def test_its_supervisor_takes_short_turns_and_it_does_not(sk):
    """sched_setattr(2): from Linux 6.12 on a slice is each process's own."""
    def slice_ns(pid):
        attributes = (ctypes.c_uint32 * 14)()
        number = {"x86_64": 315, "aarch64": 275}[os.uname().machine]
        assert ctypes.CDLL(None, use_errno=True).syscall(number, pid, attributes, 56, 0) == 0
        return attributes[6] | attributes[7] << 32

    if slice_ns(os.getpid()) == 0:
        pytest.skip("this kernel has one slice for all processes: Linux 6.12")
    name = sk.world.name()
    # Of who has more than others by the operator's choice nothing is changed.
    sk.ok("run", "-d", "--name", name, *OPTIONS, "busybox", "sleep", "1000", before=["sh", "-c", 'renice -n 0 -p $$ >/dev/null; exec "$@"', "sh"])
    assert slice_ns(sk.inspect(name)["supervisor_pid"]) == 100000
    assert slice_ns(sk.pid(name)) == slice_ns(standby(sk, name)) != 100000

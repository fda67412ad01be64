# SPDX-License-Identifier: Apache-2.0
"""Restart policies beyond docker's, `skink update`, and what `skink why` tells of it all."""

import json
import os

import pytest
from skinktest import cgroup_dir, cgroup_value, kill_quietly, read_text, wait_for


def counted(world, script):
    """A program that knows how often it was run: RUN is 1 at first."""
    return ["sh", "-c", "echo x >>/count/runs; RUN=$(wc -l </count/runs); " + script]


def running_counted(sk, world, script, *options):
    os.makedirs(world.path("count"))
    world.write("count/runs", "")
    return sk.running("-v", world.path("count") + ":/count", *options, command=counted(world, script))


def runs(world):
    return len(read_text(world.path("count/runs")).splitlines())


def test_a_status_that_is_never_relaunched(sk, world):
    name = running_counted(sk, world, "[ $RUN = 3 ] && exit 78; exit 1", "--restart", "always", "--restart-delay", "1ms", "--restart-never-on", "64-78")
    sk.wait_state(name, "exited")
    assert runs(world) == 3 and sk.ok("wait", name) == "78"
    last = sk.history(name, 3)[-1]
    assert last["outcome"] == "not relaunched: status 78 is final for it" and last["exit"]["status"] == 78
    assert "status 78 is final" in sk.ok("why", name)


def test_a_status_that_is_relaunched_at_once(sk, world):
    """Without a delay, and without counting as a failure in a row; also where it is a success."""
    name = running_counted(sk, world, "[ $RUN -lt 8 ] && exit 75; exec sleep 1000", "--restart", "on-failure:1", "--restart-delay", "1h", "--restart-max-delay", "2h",
                           "--restart-now-on", "75,100-110")
    wait_for(lambda: runs(world) == 8)
    sk.wait_state(name, "running")
    assert [run["outcome"] for run in sk.history(name, 7)] == ["relaunched at once"] * 7


def test_a_budget(sk, world):
    name = running_counted(sk, world, "exit 1", "--restart", "always", "--restart-delay", "1ms", "--restart-budget", "4/1h")
    sk.wait_state(name, "exited")
    assert runs(world) == 4
    assert sk.history(name, 4)[-1]["outcome"] == "given up: it has ended 4 times within 1h"
    assert "given up: it has ended 4 times within 1h" in sk.ok("why", name)
    # A new order to start is a new budget.
    sk.ok("start", name)
    wait_for(lambda: runs(world) == 8)
    sk.wait_state(name, "exited")


def test_the_history_is_bounded_and_outlives_the_supervisor(sk, world):
    name = running_counted(sk, world, "[ $RUN -lt 30 ] && exit $RUN; exec sleep 1000", "--restart", "always", "--restart-delay", "1ms", "--restart-max-delay", "1ms")
    wait_for(lambda: runs(world) == 30)
    sk.wait_state(name, "running")
    told = lambda: [run["exit"]["status"] for run in sk.inspect(name)["history"]]
    wait_for(lambda: told() == list(range(10, 30)))
    supervisor = sk.inspect(name)["supervisor_pid"]
    kill_quietly(supervisor)
    wait_for(lambda: sk.inspect(name)["supervisor_pid"] not in (0, supervisor))
    sk("kill", "-s", "KILL", name)
    sk.wait_state(name, "exited")
    wait_for(lambda: told() == list(range(11, 30)) + [137])
    assert sk.history(name)[-1]["outcome"] == "stopped, as it was told"


def test_who_sees_a_count_sees_that_run_in_the_history(sk, world):
    """However fast it is relaunched: the files in the order in which skink reads them."""
    name = sk.running("--restart", "always", "--restart-now-on", "9", command=["sh", "-c", "exit 9"])
    ident = sk.inspect(name)["id"]
    status = os.path.join(world.run_dir, "containers", ident, "status.json")
    record = os.path.join(world.store, "containers", ident, "exit.json")
    seen = set()
    while len(seen) < 100:
        restarts = json.loads(read_text(status)).get("restarts", 0)
        known = json.loads(read_text(record, "{}") or "{}").get("history", [])
        seen.add(restarts)
        assert restarts == 0 or known[-1][0] >= restarts, (restarts, known[-1:])
    sk.ok("rm", "-f", name)


@pytest.mark.parametrize("option,match", [(["--restart-now-on", "x"], "exit statuses"), (["--restart-never-on", "300"], "exit statuses"),
                                          (["--restart-never-on", "5-3"], "exit statuses"), (["--restart-budget", "5"], "5/1m"),
                                          (["--restart-budget", "0/1m"], "5/1m"), (["--restart-budget", "5/x"], "5/1m"), (["--restart-jitter", "2"], "0 to 1")])
def test_wrong_values(sk, option, match):
    sk.fails("run", *option, "busybox", "true", status=125, match=match)


# update

def test_limits_change_while_it_runs_and_are_kept(sk):
    name = sk.running("-m", "64m", "--restart", "always", "--restart-delay", "1ms")
    assert sk.ok("update", "-m", "128m", "--pids-limit", "100", "--cpus", "1.5", name) == name

    def check():
        pid = sk.pid(name)
        assert cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(128 << 20)
        assert cgroup_value(pid, "pids", "pids.max", "pids.max") == "100"
        assert cgroup_value(pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "150000"
    check()
    first = sk.pid(name)
    kill_quietly(first)
    wait_for(lambda: sk.pid(name) not in (0, first))
    check()
    sk.ok("restart", "-t", "0", name)
    check()
    assert sk.inspect(name)["spec"]["linux"]["resources"]["memory"]["limit"] == 128 << 20
    # What is not named stays; 0 takes a limit off.
    sk.ok("update", "--memory", "0", name)
    assert cgroup_value(sk.pid(name), "memory", "memory.limit_in_bytes", "memory.max") in ("max", "9223372036854771712")
    assert cgroup_value(sk.pid(name), "pids", "pids.max", "pids.max") == "100"


def test_what_the_kernel_refuses_changes_nothing(sk):
    name = sk.running("--cpuset-cpus", "0", "--pids-limit", "77", "--restart", "no")
    sk.fails("update", "--pids-limit", "50", "--cpuset-cpus", "4095", name, status=1, match="cpuset")
    assert cgroup_value(sk.pid(name), "pids", "pids.max", "pids.max") == "77"
    resources = sk.inspect(name)["spec"]["linux"]["resources"]
    assert resources["pids"]["limit"] == 77 and resources["cpu"]["cpus"] == "0"
    sk.fails("update", "--memory", "64m", "--memory-swap", "32m", name, status=1, match="cannot be less")


def test_what_was_no_limit_is_none_again(sk):
    name = sk.running("--restart", "no")
    sk.fails("update", "-m", "64m", "--cpus", "0.5", "--cpuset-cpus", "4095", name, status=1, match="cpuset")
    assert cgroup_value(sk.pid(name), "memory", "memory.limit_in_bytes", "memory.max") in ("max", "9223372036854771712")
    assert cgroup_value(sk.pid(name), "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] in ("-1", "max")
    assert "memory" not in sk.inspect(name)["spec"]["linux"]["resources"]


def test_what_a_bundle_says_of_limits_stays(sk, bundle):
    b = bundle(["sleep", "1000"])
    b.config["linux"]["resources"] = {"memory": {"limit": -1}, "cpu": {"quota": -1, "period": 50000, "shares": 700}, "pids": {"limit": 77}}
    name = sk.world.name()
    sk.ok("run", "-d", "--name", name, "--restart", "no", "--pids-limit", "66", "--bundle", b.save().dir)
    assert cgroup_value(sk.pid(name), "pids", "pids.max", "pids.max") == "66"
    sk.ok("update", "--cpu-shares", "512", "--memory-reservation", "10m", name)
    resources = sk.inspect(name)["spec"]["linux"]["resources"]
    assert resources["cpu"] == {"shares": 512, "quota": -1, "period": 50000} and resources["memory"] == {"limit": -1, "reservation": 10 << 20}, resources
    sk.ok("exec", name, "sh", "-c", "echo x >/dev/null")


def test_a_container_that_is_stopped_has_them_when_it_starts(sk):
    name = sk.running("--restart", "no")
    sk.ok("stop", "-t", "0", name)
    sk.ok("update", "--pids-limit", "55", "--restart", "on-failure:3", "--stop-timeout", "1", name)
    assert sk.inspect(name)["restart"]["policy"] == "on-failure:3"
    sk.ok("start", name)
    assert cgroup_value(sk.pid(name), "pids", "pids.max", "pids.max") == "55"


def test_another_policy_holds_from_the_next_end(sk, world):
    name = running_counted(sk, world, "exec sleep 1000", "--restart", "no")
    sk.ok("update", "--restart", "always", "--restart-delay", "1ms", name)
    restart = sk.inspect(name)["restart"]
    assert restart["policy"] == "always" and restart["delay_ns"] == 1_000_000 and restart["factor"] == 2
    sk.ok("update", "--restart-budget", "9/1m", name)
    assert sk.inspect(name)["restart"]["policy"] == "always", "what is not named stays"
    kill_quietly(sk.pid(name))
    wait_for(lambda: runs(world) == 2)
    sk.wait_state(name, "running")
    sk.ok("update", "--restart", "no", name)
    kill_quietly(sk.pid(name))
    sk.wait_state(name, "exited")
    assert runs(world) == 2


def test_no_ends_a_wait_for_the_next_try(sk, world):
    name = running_counted(sk, world, "exit 3", "--restart", "always", "--restart-delay", "1h", "--restart-max-delay", "1h")
    wait_for(lambda: runs(world) == 2)
    sk.wait_state(name, "restarting")
    assert "next try in" in sk.row(name)["status"]
    why = sk.ok("why", name)
    assert "Restarting (3), next try in" in why and "exit status 3" in why and "relaunched after" in why and "skink stop " + name in why
    sk.ok("update", "--restart", "no", name)
    sk.wait_state(name, "exited")
    assert sk.ok("wait", name) == "3"


def test_rm_takes_no_policy(sk):
    name = sk.running("--rm")
    sk.fails("update", "--restart", "always", name, status=1, match="--rm")
    sk.fails("update", "--restart", "sometimes", name, match="always or unless-stopped")
    sk.fails("update", "--restart", "no", "nobody", status=1, match="no such container")


# why

def test_why_it_was_never_started(sk):
    name = sk.ok("create", "busybox", "true")
    assert "nobody has started it" in sk.ok("why", name)


def test_why_memory(sk):
    name = sk.running("-m", "24m", "--restart", "no", command=["sh", "-c", "exec tail /dev/zero"])
    sk.wait_state(name, "exited")
    told = sk.ok("why", name)
    assert "out of memory: the limit of %d bytes of control group " % (24 << 20) in told and sk.inspect(name)["id"] in told, told
    assert "skink update -m SIZE" in told


def test_why_memory_is_not_a_limit_that_an_earlier_run_has_hit(sk, world):
    """The second one is killed by a limit that is not among those of its group, as the host's OOM killer would do it."""
    os.mkdir(world.path("data"))
    name = sk.running("-m", "24m", "--restart", "always", "-v", world.path("data") + ":/data", command=[
        "sh", "-c", "if [ ! -e /data/first ]; then touch /data/first; exec tail /dev/zero; fi; while [ ! -e /data/go ]; do sleep 0.05; done; exec tail /dev/zero"])
    wait_for(lambda: sk.inspect(name)["restarts"] == 1 and sk.state(name) == "running")
    assert "the limit of %d bytes" % (24 << 20) in sk.history(name)[0]["exit"]["cause"]
    before = sk.inspect(name)["supervisor_pid"]
    kill_quietly(before)
    wait_for(lambda: sk.inspect(name)["supervisor_pid"] not in (0, before))
    directory, version = cgroup_dir(sk.pid(name), "memory")
    if version != 1:
        pytest.skip("cgroup v2 suffers no process beside a group that has a limit")
    os.mkdir(directory + "/inner")
    for file, text in (("memory.limit_in_bytes", str(8 << 20)), ("cgroup.procs", str(sk.pid(name)))):
        with open(directory + "/inner/" + file, "w") as control:
            control.write(text)
    world.write("data/go", "")
    cause = wait_for(lambda: len(sk.inspect(name)["history"]) > 1 and sk.inspect(name)["history"])[1]["exit"]["cause"]
    assert cause == "out of memory: the host's, as no limit of its control groups was hit"


def test_why_a_signal(sk, world):
    name = sk.running("--restart", "no")
    kill_quietly(sk.pid(name))
    sk.wait_state(name, "exited")
    told = sk.ok("why", name)
    assert "signal 9 (SIGKILL) ended it; not sent by skink" in told, told
    sk.ok("start", name)
    # Ignored by a process 1 without a handler: it is not what ends it.
    sk.ok("kill", "-s", "USR1", name)
    kill_quietly(sk.pid(name))
    sk.wait_state(name, "exited")
    assert "SIGUSR1" not in sk.ok("why", name)
    sk.ok("start", name)
    sk.ok("kill", name)
    assert "SIGKILL was sent by skink (kill, or stop when its time was over)" in sk.ok("why", name)


def test_why_a_program_that_is_not_there_and_its_output(sk):
    name = sk.running("--restart", "no", command=["sh", "-c", "echo the last words; printf 'esc\\033[31m\\n' >&2; exec nosuchprogram"])
    sk.wait_state(name, "exited")
    told = sk.ok("why", name)
    assert "exit status 127" in told and "program is not there" in told and "  the last words" in told and "skink run --rm -it --entrypoint sh busybox" in told
    assert "\x1b" not in told and "esc\\x1b[31m" in told
    document = json.loads(sk.ok("why", "--format", "json", name))
    assert document["exit"]["status"] == 127 and "the last words" in document["output"] and document["next"]
    assert len(sk.ok("why", name, name).split("Container:")) == 3
    sk.fails("why", "nobody", status=1, match="no such container")


def test_updates_at_once_lose_nothing(sk):
    name = sk.running("--restart", "no")
    for memory in range(64, 72):
        both = [sk.start("update", "-m", "%dm" % memory, name), sk.start("update", "--restart", "always", name)]
        assert [one.wait(timeout=60) for one in both] == [0, 0]
        assert sk.inspect(name)["restart"]["policy"] == "always"
        sk.ok("update", "--restart", "no", name)
    sk.fails("update", name, match=["nothing to change", "--help"])


def test_why_a_first_launch_failed(sk):
    name = sk.ok("create", "busybox", "/none")
    sk("start", name)
    page = sk.ok("why", name)
    assert page.count("Because:") == 1 and "/none" in page


@pytest.mark.parametrize("how,outcome,action", [
    (["stop"], "stopped, while it waited for its relaunch", "stop"),
    (["update", "--restart", "no"], "not relaunched: its policy has become no", "give_up")], ids=lambda how: how[0] if isinstance(how, list) else "")
def test_a_relaunch_that_never_was(sk, how, outcome, action):
    """Ended in back-off: neither the history nor the count nor the events tell of another run."""
    name = sk.running("--restart", "always", "--restart-delay", "60s", command=["sh", "-c", "exit 3"])
    wait_for(lambda: sk.state(name) == "restarting")
    assert sk.history(name)[-1]["outcome"].startswith("relaunched after ")
    for _ in range(2):  # a supervisor that was killed meanwhile does not take it back twice, or not at all
        before = sk.inspect(name)["supervisor_pid"]
        kill_quietly(before)
        wait_for(lambda: sk.inspect(name)["supervisor_pid"] not in (0, before))
    sk.ok(*how, name)
    sk.wait_state(name, "exited")
    now = sk.inspect(name)
    assert [run["outcome"] for run in now["history"]] == ["relaunched at once", outcome]
    assert now["restarts"] == 1 and now["exit"]["status"] == 3
    assert "Then:" in sk.ok("why", name) and outcome in sk.ok("why", name) and "relaunched after" not in sk.ok("why", name)
    told = [json.loads(line) for line in sk.ok("events", "--since", "1h", "--no-follow", "--format", "json", "--filter", "container=" + name).splitlines()]
    ends = [event for event in told if event["action"] in ("stop", "give_up")]
    assert [event["action"] for event in ends] == [action]
    if action == "give_up":
        assert ends[0]["attributes"] == {"policy": "no", "restarts": 1, "reason": "policy", "outcome": outcome}

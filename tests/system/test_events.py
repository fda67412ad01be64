# SPDX-License-Identifier: Apache-2.0
"""events: what happened to containers and images, in order, whoever it was that did it."""

import json
import os
import random
import re
import select
import signal
import subprocess
import time

import pytest
from skinktest import alive, busybox_image, kill_quietly, read_text, wait_for


def events(sk, *options):
    text = sk.ok("events", "--no-follow", "--format", "json", *options)
    return [json.loads(line) for line in text.splitlines()]


def actions(sk, *options):
    return [event["action"] for event in events(sk, *options)]


def log(world):
    return os.path.join(world.run_dir, "events")


class Follower:
    def __init__(self, sk, *options):
        self.process = sk.start("events", "--format", "json", *options)
        self.text = b""

    def until(self, wanted):
        """Reads until an event satisfies `wanted`; all events so far."""
        def look():
            if select.select([self.process.stdout], [], [], 0)[0]:
                self.text += os.read(self.process.stdout.fileno(), 65536)
            found = [json.loads(line) for line in self.text.decode().split("\n")[:-1]]
            return found if any(wanted(event) for event in found) else None
        return wait_for(look)


def is_action(name, action):
    return lambda event: event["name"] == name and event["action"] == action


def test_a_whole_life_in_order(sk, world):
    name = world.name()
    sk.ok("create", "--name", name, "--restart", "no", "busybox", "sleep", "1000")
    sk.ok("start", name)
    pid = sk.pid(name)
    sk.ok("pause", name)
    sk.ok("unpause", name)
    assert sk("exec", name, "sh", "-c", "exit 3").status == 3
    sk.ok("stop", "-t", "0", name)
    sk.ok("rm", name)
    found = events(sk, "--filter", "container=" + name)
    assert [event["action"] for event in found] == [
        "create", "start", "pause", "unpause", "exec_create", "exec_start", "exec_die", "kill", "die", "stop", "destroy"]
    by = {event["action"]: event for event in found}
    assert all(event["type"] == "container" and event["image"] == "busybox" for event in found)
    assert len({event["id"] for event in found}) == 1
    assert by["start"]["attributes"]["pid"] == pid
    assert by["exec_die"]["attributes"]["exit_code"] == 3
    assert by["exec_create"]["attributes"]["command"] == "sh -c exit 3"
    assert by["kill"]["attributes"] == {"signal": 9, "signal_name": "SIGKILL"}
    died = by["die"]["attributes"]
    assert (died["exit_code"], died["signal"], died["known"]) == (137, 9, True)
    for event in found:
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$", event["time"])
        assert abs(event["time_ns"] / 1e9 - time.time()) < 3600


def test_relaunches_are_told_with_number_and_delay_and_then_why_no_more(sk, world):
    name = world.name()
    sk("run", "-d", "--name", name, "--restart", "on-failure:2", "--restart-delay", "50ms", "--restart-jitter", "0", "busybox", "sh", "-c", "exit 7")
    sk.wait_state(name, "exited")
    found = events(sk, "--filter", "container=" + name)
    assert [event["action"] for event in found] == [
        "create", "start", "die", "restart", "start", "die", "waiting", "restart", "start", "die", "give_up"]
    restarts = [event["attributes"] for event in found if event["action"] == "restart"]
    assert [one["number"] for one in restarts] == [1, 2]
    assert [one["delay_ns"] for one in restarts] == [0, 50_000_000]
    assert all(event["attributes"]["exit_code"] == 7 for event in found if event["action"] == "die")
    given_up = found[-1]["attributes"]
    assert given_up == {"policy": "on-failure:2", "restarts": 2, "reason": "retries", "outcome": "given up after 2 relaunches in a row"}
    runs = [event["run"] for event in found if event["action"] == "start"]
    assert runs == ["1.1", "1.2", "1.3"]


def test_success_ends_on_failure(sk):
    name = sk.running("--restart", "on-failure", command=["true"])
    sk.wait_state(name, "exited")
    assert events(sk, "--filter", "event=give_up")[0]["attributes"]["reason"] == "success"


def test_a_launch_that_fails(sk, world):
    name = world.name()
    sk.fails("run", "-d", "--name", name, "busybox", "/no/such/program", status=127)
    found = events(sk, "--filter", "container=" + name)
    assert [event["action"] for event in found] == ["create", "fail", "destroy"], "run leaves nothing of it"
    assert found[1]["attributes"]["exit_code"] == 127 and "/no/such/program" in found[1]["attributes"]["error"]


def test_out_of_memory(sk, world):
    name = world.name()
    result = sk("run", "--name", name, "--restart", "no", "-m", "16m", "busybox", "sh", "-c",
                "head -c 100m /dev/zero | tail -c 90m >/dev/null; exit 5")
    assert result.status != 125, result
    found = {event["action"]: event for event in events(sk, "--filter", "container=" + name)}
    assert "oom" in found and found["die"]["attributes"].get("oom", False) is (found["die"]["attributes"]["exit_code"] == 137)


def test_out_of_memory_while_it_goes_on(sk, world):
    """A worker is killed: that is told at once and once, by whichever supervisor, and the end, later, has another reason."""
    script = "trap 'exit 0' TERM; tail /dev/zero; echo worker $?; tail /dev/zero; echo worker $?; while :; do sleep 0.05; done"
    ends = {}
    for how in (["stop"], ["kill"]):
        name = sk.running("--restart", "no", "-m", "8m", "--memory-swap", "8m", command=["sh", "-c", script])
        wait_for(lambda: sk.ok("logs", name).count("worker 137") == 2)
        told = lambda: [event["action"] for event in events(sk, "--filter", "container=" + name)]
        wait_for(lambda: "oom" in told())
        before = sk.inspect(name)["supervisor_pid"]
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: sk.inspect(name)["supervisor_pid"] not in (0, before))
        assert sk.state(name) == "running" and "die" not in told()
        sk.ok(*how, name)
        assert told().count("oom") == 1
        ends[how[0]] = sk.inspect(name)["exit"]
        assert "memory" not in sk.row(name)["status"] and "memory" not in sk.ok("why", name).split("output:")[0], sk.ok("why", name)
    assert (ends["stop"]["status"], ends["stop"]["oom"]) == (0, False)
    assert (ends["kill"]["status"], ends["kill"]["oom"]) == (137, False)


def test_a_program_at_its_limit_does_not_keep_its_supervisor_busy(sk):
    """File cache fills the limit all the time, which is no want of memory."""
    name = sk.running("-m", "8m", "--tmpfs", "/data:size=4m", command=["sh", "-c", "while :; do cat /bin/* >/dev/null; head -c 3000000 /dev/zero >/data/x; done"])
    time.sleep(2)
    ticks = lambda: sum(int(field) for field in read_text("/proc/%d/stat" % sk.inspect(name)["supervisor_pid"]).rsplit(")", 1)[1].split()[11:13])
    before = ticks()
    time.sleep(4)
    assert ticks() - before <= 10, "%d ticks of 10 ms in 4 s" % (ticks() - before)


def test_signals_and_the_removal_of_a_running_one(sk):
    name = sk.running("--restart", "no", command=["sh", "-c", "trap : USR1; while :; do sleep 0.1; done"])
    sk.ok("kill", "-s", "USR1", name)
    sk.ok("rm", "-f", name)
    found = events(sk, "--filter", "container=" + name)
    assert [event["action"] for event in found] == ["create", "start", "kill", "kill", "die", "stop", "destroy"]
    assert [event["attributes"]["signal"] for event in found if event["action"] == "kill"] == [signal.SIGUSR1, signal.SIGKILL]


@pytest.mark.parametrize("how", ["by itself", "rm -f"])
def test_one_of_rm_is_destroyed_once(sk, world, how):
    name = world.name()
    if how == "rm -f":
        sk.ok("run", "-d", "--rm", "--name", name, "busybox", "sleep", "1000")
        sk.ok("rm", "-f", name)
    else:
        sk.ok("run", "--rm", "--name", name, "busybox", "true")
    assert actions(sk, "--filter", "container=" + name).count("destroy") == 1


def test_images(sk):
    sk.ok("tag", "busybox", "other:1")
    sk.ok("rmi", "other:1")
    sk.ok("rmi", "busybox")
    found = events(sk, "--filter", "type=image")
    assert [(event["action"], event["name"]) for event in found] == [
        ("load", "busybox:latest"), ("tag", "other:1"), ("untag", "other:1"), ("untag", "busybox:latest"), ("delete", "")]
    assert len({event["id"] for event in found}) == 1 and found[0]["id"].startswith("sha256:")
    assert actions(sk, "--filter", "image=other") == ["tag", "untag"]
    assert len(actions(sk, "--filter", "image=" + found[0]["id"][:19])) == 5


def test_following_sees_what_other_commands_do(sk, world):
    before = sk.running()
    follower = Follower(sk)
    # It has begun when it tells of a container that was made for that.
    for _ in range(100):
        sk.ok("run", "--rm", "busybox", "true")
        if select.select([follower.process.stdout], [], [], 0.2)[0]:
            break
    name = world.name()
    sk.ok("run", "-d", "--name", name, "busybox", "sleep", "1000")
    sk.ok("rm", "-f", name)
    found = follower.until(is_action(name, "destroy"))
    assert [event["action"] for event in found if event["name"] == name] == ["create", "start", "kill", "die", "stop", "destroy"]
    assert not [event for event in found if event["name"] == before], "what was before is not told without --since"
    assert follower.process.poll() is None


def test_following_ends_with_until_and_with_its_reader(sk):
    until = str(time.time() + 1.5)
    result = sk("events", "--since", "0", "--until", until, "--format", "{{.Action}}")
    assert result.status == 0 and result.out.split()[0] == "load"
    piped = subprocess.run(["sh", "-c", '"$@" | head -n 1', "sh"] + sk.command("events", "--since", "0"), timeout=60,
                           env=sk.world.environment(), capture_output=True, text=True)
    assert " image load " in piped.stdout and piped.stderr == ""


def test_since_until_and_filters(sk, world):
    first = sk.running("--label", "tier=front", "--label", "app=web")
    middle = events(sk)[-1]["time"]
    second = sk.running("--label", "tier=back", "--label", "app=web")
    names = lambda *options: {event["name"] for event in events(sk, "--filter", "type=container", *options)}  # noqa: E731
    assert names("--until", middle) == {first}
    assert names("--since", middle, "--filter", "event=create") == {second}
    assert names("--filter", "label=app=web") == {first, second}
    assert names("--filter", "label=app=web", "--filter", "label=tier=front") == {first}
    assert names("--filter", "label=none") == set()
    assert names("--filter", "container=" + first, "--filter", "container=" + second) == {first, second}
    assert names("--filter", "container=" + sk.row(first)["id"][:12]) == {first}
    assert names("--filter", "image=busybox:latest") == {first, second}
    assert names("--filter", "image=busy") == set()
    assert actions(sk, "--filter", "container=" + first, "--filter", "event=start", "--filter", "event=die") == ["start"]
    sk.fails("events", "--filter", "colour=red", status=1, match="colour")
    sk.fails("events", "--filter", "type=network", status=1, match="network")
    sk.fails("events", "--filter", "web", status=1, match="KEY=VALUE")
    sk.fails("events", "--since", "yesterday", status=1, match="yesterday")
    sk.fails("events", "--format", "{{.nonsense}}", "--no-follow", status=1, match="nonsense")


def test_docker_names_in_templates_and_lines_for_people(sk, world):
    name = world.name()
    sk("run", "--name", name, "--restart", "no", "busybox", "sh", "-c", "exit 4")
    line = sk.ok("events", "--no-follow", "--filter", "container=" + name, "--filter", "event=die", "--format",
                 "{{.Type}} {{.Action}} {{.Actor.Attributes.exitCode}} {{.Actor.Attributes.name}} {{.From}}")
    assert line == "container die 4 %s busybox" % name
    text = sk.ok("events", "--no-follow", "--filter", "container=" + name, "--filter", "event=die")
    assert re.match(r"\S+Z container die [0-9a-f]{64} \(exit_code=4, .*image=busybox, name=%s\)$" % name, text), text


def test_bytes_of_others_do_not_steer_the_terminal(sk):
    sk.running("--label", "x=\x1b[2J", command=["sleep", "1000"])
    sk("exec", sk.ps()[0]["name"], "echo", "\x1b[2J\nevil")
    for options in ([], ["--format", "json"], ["--format", "{{.Actor.Attributes.x}} {{json .}}"]):
        assert "\x1b" not in sk("events", "--no-follow", "--filter", "type=container", *options).out


def test_a_torn_record_hides_no_other(sk, world):
    first, second = sk.running(), None
    with open(log(world), "ab") as file:
        file.write(b'\n{"t":1,"type":"container","action":"st')  # cut short, no newline
    second = sk.running()
    with open(log(world), "ab") as file:
        file.write(b"\n\x00\xff garbage \n[]\n{}\n" + b"x" * 100000 + b'\n{"t":5}\n')
    third = sk.running()
    assert [event["name"] for event in events(sk, "--filter", "event=start")] == [first, second, third]


def test_the_file_is_put_aside_while_somebody_follows(sk, world):
    """Two generations, of which nothing is lost to a follower."""
    follower = Follower(sk, "--since", "0", "--filter", "type=container")
    before = sk.running()
    follower.until(is_action(before, "start"))
    filler = json.dumps({"t": time.time_ns(), "type": "filler", "action": "fill", "id": "x" * 900}) + "\n"
    seen = {before}
    for _ in range(3):
        with open(log(world), "ab") as file:
            file.write(filler.encode() * (1_100_000 // len(filler)))
        name = sk.running()
        seen.add(name)
        follower.until(is_action(name, "start"))
        assert os.path.getsize(log(world)) < 300_000, "it was not put aside"
        assert os.path.getsize(log(world) + ".old") > 1_000_000
    sk.ok("rm", "-f", before)
    found = follower.until(is_action(before, "destroy"))
    starts = [event["name"] for event in found if event["action"] == "start"]
    assert len(starts) == len(set(starts)) and set(starts) == seen
    assert sorted(name for name in os.listdir(world.run_dir) if name.startswith("events")) == ["events", "events.old"]


def test_events_of_removed_containers_are_on_record(sk, world):
    name = sk.running()
    ident = sk.row(name)["id"]
    sk.ok("rm", "-f", name)
    assert actions(sk, "--filter", "container=" + ident)[-1] == "destroy"


def test_what_cannot_be_written_changes_nothing(sk, world):
    """The log is a directory: no event can be told, and everything goes on."""
    for path in (log(world), log(world) + ".old"):
        if os.path.exists(path):
            os.unlink(path)
    os.mkdir(log(world))
    name = sk.running()
    sk.ok("stop", "-t", "0", name)
    sk.ok("rm", name)
    assert events(sk) == []
    os.rmdir(log(world))
    assert sk.ok("run", "--rm", "busybox", "echo", "fine") == "fine"
    assert "start" in actions(sk)


def test_a_full_run_directory_does_not_matter(world):
    place = world.path("small")
    os.makedirs(place)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0755", "skink-test-keep", place], check=True)
    try:
        world.run_dir = place + "/r"
        sk = world.skink
        sk.options[:] = ["--root", world.store, "--run", world.run_dir]
        sk.load(busybox_image())
        name = sk.running()
        fill = os.open(place + "/fill", os.O_CREAT | os.O_WRONLY)
        try:
            while os.write(fill, b"x" * 4096):
                pass
        except OSError:
            pass
        for _ in range(40):  # the last page of the log is full by then
            assert sk("exec", name, "true").status == 0
        os.truncate(place + "/fill", 0)
        sk.ok("exec", name, "sh", "-c", "exit 0")
        found = actions(sk, "--filter", "container=" + name)
        assert found[:2] == ["create", "start"] and found[-1] == "exec_die"
        sk.ok("rm", "-f", name)
        os.close(fill)
    finally:
        world.remove_containers()
        subprocess.run(["umount", "-l", place], check=True)


def test_killed_keepers_are_told_and_nothing_is_lost_or_doubled(sk, world):
    name = sk.running("--restart", "no")
    row = sk.row(name)
    kill_quietly(row["supervisor_pid"])
    wait_for(lambda: sk.row(name)["supervisor_pid"] not in (0, row["supervisor_pid"]))
    wait_for(lambda: "supervisor_replaced" in actions(sk))
    kill_quietly(row["guard_pid"])
    wait_for(lambda: sk.row(name)["guard_pid"] not in (0, row["guard_pid"]))
    wait_for(lambda: "guard_replaced" in actions(sk))
    sk.ok("stop", "-t", "0", name)
    found = actions(sk, "--filter", "container=" + name)
    assert [one for one in found if not one.endswith("_replaced")] == ["create", "start", "kill", "die", "stop"]
    assert found.count("guard_replaced") == 1
    replaced = [event["attributes"] for event in events(sk, "--filter", "event=supervisor_replaced")]
    assert replaced[0]["before"] == row["supervisor_pid"] and replaced[0]["pid"] != row["supervisor_pid"]


def test_each_run_is_told_once_whoever_is_killed_meanwhile(sk):
    """Guards and supervisors are killed at any point of short runs; a launch can fail of that, and then says so."""
    name = sk.running("--restart", "always", "--restart-delay", "5ms", "--restart-max-delay", "20ms",
                      command=["sh", "-c", "exit 3"])
    chance = random.Random(5)
    for turn in range(40):
        time.sleep(chance.random() * 0.06)
        pid = sk.row(name)["guard_pid" if turn % 3 == 0 else "supervisor_pid"]
        if pid:
            kill_quietly(pid)
    sk.ok("stop", "-t", "0", name)
    told = {}
    for event in events(sk, "--filter", "container=" + name):
        if event["action"] in ("start", "die", "fail"):
            told.setdefault(event["run"], []).append(event["action"])
    assert set(told) == {"1.%d" % (run + 1) for run in range(len(told))}, "a run was left out"
    assert all(one in (["start", "die"], ["fail"], ["fail", "start", "die"]) for one in told.values()), told


def test_what_a_successor_tells_again_is_shown_once(sk, world):
    name = sk.running("--restart", "no", command=["false"])
    sk.wait_state(name, "exited")
    lines = read_text(log(world)).splitlines()
    died = [line for line in lines if '"action":"die"' in line]
    with open(log(world), "a") as file:
        file.write("\n" + died[0] + "\n")
    assert actions(sk, "--filter", "container=" + name).count("die") == 1


def test_an_end_that_nobody_saw(sk, world):
    name = sk.running("--restart", "no")
    row = sk.row(name)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in (row["guard_pid"], row["supervisor_pid"], row["pid"]):
            kill_quietly(pid, number)
    for pid in (row["guard_pid"], row["supervisor_pid"], row["pid"]):
        wait_for(lambda: not alive(pid))
    sk.ok("rm", "-f", name)
    found = events(sk, "--filter", "container=" + name)
    died = [event for event in found if event["action"] == "die"]
    assert len(died) == 1 and died[0]["attributes"]["known"] is False and "exit_code" not in died[0]["attributes"]
    assert found[-1]["action"] == "destroy"


def test_labels_that_do_not_fit_are_left_out_the_longest_first(sk):
    name = sk.running("--label", "short=1", "--label", "long=" + "x" * 10000, "--label", "also=2")
    event = events(sk, "--filter", "container=" + name, "--filter", "event=start")[0]
    assert event["labels"] == {"short": "1", "also": "2"}


def test_each_failed_start_is_told_and_what_there_is_not_has_no_value(sk, world):
    name = sk.ok("create", "busybox", "/none")
    for _ in range(2):
        assert sk("start", name).status != 0
    assert actions(sk, "--filter", "event=fail") == ["fail", "fail"]
    lines = sk.ok("events", "--no-follow", "--format", "{{.action}} {{.attributes.exit_code}} {{.Actor.Attributes.nothing}}").splitlines()
    assert "create <no value> <no value>" in lines and "fail 127 <no value>" in lines


def test_an_update_of_what_does_not_run_is_told(sk):
    name = sk.ok("create", "busybox", "true")
    sk.ok("update", "-m", "64m", name)
    assert actions(sk, "--filter", "event=update") == ["update"]


def test_a_limit_on_the_size_of_files_ends_no_command_halfway(sk, world):
    """Once the log is beyond it the kernel sends SIGXFSZ for each event."""
    name = sk.ok("create", "busybox", "true")
    with open(log(world), "ab") as out:
        out.write(b"\n" * 65536)
    command = " ".join(sk.command("rm", name))
    assert subprocess.run(["sh", "-c", "ulimit -f 64; exec " + command], stdout=subprocess.DEVNULL).returncode == 0
    assert sk.ps("-a") == []
    started = sk.command("run", "--rm", "busybox", "grep", "SigIgn", "/proc/self/status")
    assert subprocess.run(started, stdout=subprocess.PIPE, text=True).stdout.split()[1].strip("0") == ""

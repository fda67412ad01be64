# SPDX-License-Identifier: Apache-2.0
"""skink heal: what should run comes back, after a boot (played by another boot id) and after a massacre."""

import fcntl
import json
import os
import re
import shutil
import signal
import stat
import subprocess

import mkimg
import pytest
from skinktest import alive, busybox_image, kill_quietly, listdir, read_text, starttime, wait_for

pytestmark = pytest.mark.vm

OTHER_BOOT = "00000000-1111-2222-3333-444444444444"


def keepers(sk, name):
    row = sk.row(name)
    return row["supervisor_pid"], row["guard_pid"]


def container_dir(world, ident):
    return os.path.join(world.store, "containers", ident)


def kill_together(*pids):
    """Stopped first: none of them sees another one die."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            kill_quietly(pid, number)
    for pid in pids:
        wait_for(lambda: not alive(pid))


def pull_the_plug(sk, world, *names):
    """Everything of these containers is dead at once and RUN is empty, as after a power cut. Records stay."""
    for name in names:
        row = sk.row(name)
        kill_together(*[pid for pid in (row["guard_pid"], row["supervisor_pid"], row["pid"]) if pid])
        ident = row["id"]
        shutil.rmtree(os.path.join(world.run_dir, "containers", ident), ignore_errors=True)
        for group in world.cgroups([ident]):
            wait_for(lambda: not read_text(group + "/cgroup.procs", ""))
            os.rmdir(group)
        forget_boot(world, ident)


def forget_boot(world, ident):
    """What a record says of this boot, it says of another."""
    boot = read_text("/proc/sys/kernel/random/boot_id").strip()
    for directory in (container_dir(world, ident), os.path.join(world.run_dir, "containers", ident)):
        for name in ("desired", "status.json", "exit.json"):
            path = os.path.join(directory, name)
            if os.path.exists(path):
                text = read_text(path)
                with open(path, "w") as file:
                    file.write(text.replace(boot, OTHER_BOOT))


def heal(sk, status=0):
    result = sk("heal", "--format", "json")
    assert result.status == status, result
    return {entry["name"]: entry["action"] for entry in json.loads(result.out)}


@pytest.mark.parametrize("policy,comes_back", [("always", True), ("unless-stopped", True), ("on-failure", False), ("no", False)])
def test_f09_what_ran_at_a_power_cut_comes_back_by_policy(sk, world, policy, comes_back):
    name = sk.running("--restart", policy)
    pull_the_plug(sk, world, name)
    assert sk.state(name) == "unknown"
    done = sk.ok("heal")
    assert done.startswith(name + " ") and len(done.splitlines()) == 1
    if comes_back:
        assert sk.state(name) == "running" and alive(sk.pid(name))
        assert sk.ok("exec", name, "echo", "back") == "back"
    else:
        row = sk.row(name)
        assert row["state"] == "exited" and row["exit"]["known"] is False and row["pid"] == 0
        assert world.cgroups([row["id"]]) == []
    assert sk.ok("heal") == "", "a second time there is nothing to do"


def deaths(sk, name):
    lines = sk.ok("events", "--no-follow", "--format", "json", "--filter", "container=" + name, "--filter", "event=die").splitlines()
    return [json.loads(line)["attributes"]["known"] for line in lines]


@pytest.mark.vm_more
@pytest.mark.parametrize("verb", ["heal", "start", "stop"])
def test_f09_a_run_that_a_power_cut_ended_is_on_record(sk, world, verb):
    """Whether it is brought back or not; and so are the runs before it."""
    name = sk.running("--restart", "always")
    for count in (1, 2):
        pull_the_plug(sk, world, name)
        if verb == "heal":
            assert heal(sk) == {name: "started"}
        else:
            sk.ok(verb, name)
        runs = sk.inspect(name)["history"]
        assert [run["exit"]["known"] for run in runs] == [False] * count and runs[-1]["started"] is None, runs
        assert "left to skink heal" in runs[-1]["outcome"] and deaths(sk, name) == [False] * count
        page = sk.ok("why", name)
        assert "Last end:    not known when" in page and "the machine went down under it" in page, page
        if verb == "stop":
            assert sk.state(name) == "exited" and sk.row(name)["status"] == "Exited (unknown)"
            assert sk.ok("heal") == ""
            sk.ok("start", name)
        assert sk.state(name) == "running"
    assert "  not known when: status ?; left to skink heal" in sk.ok("why", name)


@pytest.mark.vm_more
def test_f09_a_power_cut_after_a_start_that_failed_and_one_that_did_not(sk, world):
    """What is on record of the first is not taken for the end of the second."""
    name = world.name()
    sk.ok("create", "--name", name, "--restart", "no", "-v", world.path("data") + ":/data", "busybox", "sleep", "1000")
    sk.fails("start", name, match="/data")
    os.makedirs(world.path("data"))
    sk.ok("start", name)
    pull_the_plug(sk, world, name)
    assert sk.state(name) == "unknown" and heal(sk) == {name: "recorded"} and sk.state(name) == "exited"


@pytest.mark.vm_more
@pytest.mark.parametrize("policy,comes_back", [("always", True), ("unless-stopped", False), ("on-failure", False)])
def test_f09_what_the_user_stopped_before_the_boot(sk, world, policy, comes_back):
    name = sk.running("--restart", policy)
    sk.ok("stop", "-t", "1", name)
    assert sk.ok("heal") == "", "within the boot it stays stopped whatever the policy"
    forget_boot(world, sk.row(name)["id"])
    sk.ok("heal")
    assert sk.state(name) == ("running" if comes_back else "exited")


def test_a_boot_of_the_container_that_we_are_in_is_one(sk):
    """It has the boot id of its host; its process 1 is another one."""
    machine = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", '"$@"; exit $?', "sh"]
    script = ("S='%s'; $S run -d --name web --restart always busybox sleep 1000 && $S stop -t 0 web && $S heal && $S ps -a --format '{{.name}} {{.state}}'"
              % " ".join(sk.command()))
    assert subprocess.run(machine + ["sh", "-c", script], stdout=subprocess.PIPE, check=True, timeout=60,
                          env=sk.world.environment()).stdout.decode().splitlines()[-1] == "web exited"
    assert "web was started" in sk.ok("heal", before=machine)


@pytest.mark.vm_more
def test_a_start_that_fails_does_not_undo_that_it_has_given_up(sk, world):
    os.makedirs(world.path("data"))
    name = sk.running("--restart", "always", "--restart-never-on", "7", "-v", world.path("data") + ":/data", command=["sh", "-c", "exit 7"])
    sk.wait_state(name, "exited")
    os.rmdir(world.path("data"))
    sk.fails("start", name)
    os.makedirs(world.path("data"))
    assert heal(sk) == {} and sk.state(name) == "exited"


@pytest.mark.vm_more
def test_what_gave_up_in_another_boot_of_the_container_that_we_are_in_is_tried_again(sk):
    machine = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", '"$@"; exit $?', "sh"]
    name = sk.running("--restart", "always", "--restart-never-on", "7", command=["sh", "-c", "exit 7"])
    sk.wait_state(name, "exited")
    assert heal(sk) == {}
    assert name + " was started" in sk.ok("heal", before=machine)


@pytest.mark.vm_more
@pytest.mark.parametrize("policy", ["always", "unless-stopped", "on-failure"])
def test_what_is_stopped_for_a_reboot_comes_back_by_policy(sk, world, policy):
    names = [sk.running("--restart", policy) for _ in range(3)]
    said = sk.ok("stop", "--all", "--for-reboot", "-t", "1")
    assert sorted(said.split()) == sorted(names)
    assert [sk.state(name) for name in names] == ["exited"] * 3
    for name in names:
        forget_boot(world, sk.row(name)["id"])
    assert heal(sk) == ({} if policy == "on-failure" else {name: "started" for name in names})


@pytest.mark.vm_more
@pytest.mark.parametrize("policy", ["always", "unless-stopped"])
@pytest.mark.parametrize("words,status", [(["--restart-budget", "2/1h"], 1), (["--restart-never-on", "75"], 75)])
def test_what_its_policy_has_given_up_stays_down_until_the_next_boot(sk, world, policy, words, status):
    name = sk.running("--restart", policy, *words, command=["sh", "-c", "exit %d" % status])
    sk.wait_state(name, "exited")
    runs = sk.inspect(name)["history"]
    for _ in range(2):
        assert heal(sk) == {} and sk.inspect(name)["history"] == runs
    forget_boot(world, sk.row(name)["id"])
    assert heal(sk) == {name: "started"}
    wait_for(lambda: len(sk.inspect(name)["history"]) > len(runs))


@pytest.mark.vm_more
def test_a_program_that_had_ended_by_itself_is_not_run_again(sk, world):
    name = sk.running("--restart", "on-failure", command=["true"])
    sk.wait_state(name, "exited")
    never = world.name()
    sk.ok("create", "--restart", "always", "--name", never, "busybox", "true")
    assert heal(sk) == {}
    assert sk.row(name)["exit"]["status"] == 0 and sk.row(name)["exit"]["known"] is not False
    assert sk.state(never) == "created"


@pytest.mark.vm
def test_both_keepers_are_brought_back_without_disturbing_the_program(sk):
    name = sk.running("--restart", "no", command=["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"])
    pid, born = sk.pid(name), starttime(sk.pid(name))
    guard, supervisor = keepers(sk, name)
    kill_together(guard, supervisor)
    assert heal(sk) == {name: "adopted"}
    assert starttime(pid) == born
    now = keepers(sk, name)
    assert all(alive(one) for one in now) and not set(now) & {guard, supervisor}
    assert sk.pid(name) == pid
    sk.ok("stop", "-t", "1", name)
    lines = sk.ok("logs", name).split()
    assert lines == [str(n) for n in range(1, len(lines) + 1)], "lines were lost or doubled"


def test_f09_numbers_of_another_boot_are_never_trusted(sk, world):
    """RUN survived (it is a plain directory): its numbers now belong to strangers."""
    name = sk.running("--restart", "no")
    ident = sk.row(name)["id"]
    stranger = subprocess.Popen(["sleep", "1000"])
    world.background.append(stranger)
    kill_together(*keepers(sk, name), sk.pid(name))
    run_dir = os.path.join(world.run_dir, "containers", ident)
    status = json.loads(read_text(run_dir + "/status.json"))
    for field in ("init", "guard", "supervisor"):
        status[field] = [stranger.pid, int(starttime(stranger.pid))]
    with open(run_dir + "/status.json", "w") as file:
        json.dump(status, file)
    forget_boot(world, ident)
    orphan = os.path.join(world.run_dir, "containers", "f" * 64)
    shutil.copytree(run_dir, orphan, ignore=shutil.ignore_patterns("*.fifo", "*.sock"))
    assert heal(sk) == {name: "recorded"}
    assert alive(stranger.pid), "a stranger was killed"
    assert listdir(os.path.join(world.run_dir, "containers")) == []


@pytest.mark.vm_more
def test_leavings_of_rm_and_of_killed_creates_are_removed(sk, world):
    name, ident = world.name(), None
    sk.ok("run", "-d", "--rm", "--name", name, "busybox", "sleep", "100")
    ident = sk.row(name)["id"]
    pull_the_plug(sk, world, name)
    os.symlink("A" * 43, os.path.join(world.store, "container-names", "nobody"))
    assert heal(sk) == {name: "removed"}
    assert not os.path.exists(container_dir(world, ident))
    assert listdir(os.path.join(world.store, "container-names")) == []


@pytest.mark.vm_more
def test_a_passing_container_whose_files_a_power_cut_emptied_is_removed(sk, world):
    process = sk.start("run", "--rm", "busybox", "sleep", "100")
    row = wait_for(lambda: (lambda rows: rows and rows[0]["state"] == "running" and rows[0])(sk.ps()))
    name, ident = row["name"], row["id"]
    process.kill()
    process.wait()
    pull_the_plug(sk, world, name)
    for file in ("container.json", "config.json", "desired"):
        open(os.path.join(container_dir(world, ident), file), "w").close()
    assert list(heal(sk).values()) == ["removed"]
    assert sk.ps() == [] and listdir(os.path.join(world.store, "container-names")) == []


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.vm_more
@pytest.mark.parametrize("file", ["container.json", "config.json"])
def test_one_that_nobody_was_told_of_goes_when_a_power_cut_emptied_a_file(sk, world, file):
    """The records are put on disk while the container is launched; until then its directory has the sticky bit."""
    name = sk.running("--restart", "always")
    ident = sk.row(name)["id"]
    directory = container_dir(world, ident)
    assert mode(directory) == 0o700, "run has ended, so it is on disk"
    pull_the_plug(sk, world, name)
    os.chmod(directory, 0o1700)
    open(os.path.join(directory, file), "w").close()
    assert list(heal(sk).values()) == ["removed"]
    assert sk.ps() == [] and listdir(os.path.join(world.store, "container-names")) == []


@pytest.mark.vm_more
def test_one_that_is_whole_stays_and_is_put_on_disk(sk, world):
    created, name = world.name(), sk.running("--restart", "always")
    sk.ok("create", "--restart", "always", "--name", created, "busybox", "sleep", "1000")
    directories = [container_dir(world, sk.row(one)["id"]) for one in (created, name)]
    assert [mode(one) for one in directories] == [0o700] * 2
    pull_the_plug(sk, world, name)
    for one in directories:
        os.chmod(one, 0o1700)
    assert heal(sk)[name] == "started"
    assert [mode(one) for one in directories] == [0o700] * 2 and sk.state(created) == "created"


@pytest.mark.vm_more
def test_one_that_cannot_come_back_does_not_keep_the_others(sk, world):
    os.makedirs(world.path("data"))
    good, bad, damaged = sk.running("--restart", "always"), sk.running("--restart", "always", "-v", world.path("data") + ":/data"), \
        sk.running("--restart", "always")
    pull_the_plug(sk, world, good, bad, damaged)
    os.rmdir(world.path("data"))
    ident = next(row["id"] for row in sk.ps() if row["name"] == damaged)
    record = os.path.join(container_dir(world, ident), "container.json")
    text = read_text(record)
    with open(record, "w") as file:
        file.write(text[:40])
    result = sk("heal")
    assert result.status == 1 and result.out.split()[0] == good, result
    lines = result.err.splitlines()
    assert len(lines) == 2 and all(line.startswith("skink: heal: ") for line in lines), result
    assert any(bad in line and "/data" in line for line in lines) and any(ident[:12] in line for line in lines), result
    assert sk.state(good) == "running"
    # What was in the way is gone: it comes back by itself, and what is damaged the next time.
    os.makedirs(world.path("data"))
    sk.wait_state(bad, "running")
    with open(record, "w") as file:
        file.write(text)
    assert heal(sk) == {damaged: "started"}


@pytest.mark.vm_more
def test_a_volume_that_comes_late_after_a_boot(sk, world):
    """What ran before is left to its policy, as later launches are; what somebody starts is not tried again."""
    os.makedirs(world.path("data"))
    name = sk.running("--restart", "always", "--restart-max-delay", "1s", "--stop-timeout", "1", "-v", world.path("data") + ":/data")
    sk.ok("stop", "--for-reboot", name)
    os.rmdir(world.path("data"))
    sk.fails("start", name, match="/data")
    assert "Then:        not tried again: whoever started it was told" in sk.ok("why", name)
    result = sk("heal")
    assert result.status == 1 and "/data" in result.err and "its restart policy tries it again and again" in result.err, result
    wait_for(lambda: sk.state(name) == "restarting" and sk.row(name)["restarts"] > 2)
    page = sk.ok("why", name)
    assert "it could not be launched" in page and "Then:        relaunched after" in page, page
    supervisor = sk.inspect(name)["supervisor_pid"]
    kill_quietly(supervisor)
    wait_for(lambda: sk.inspect(name)["supervisor_pid"] not in (0, supervisor))
    os.makedirs(world.path("data"))
    sk.wait_state(name, "running")
    assert sk.inspect(name)["history"][-1]["exit"]["error"]


def test_what_a_killed_load_left_is_cleared_away(sk, world):
    with open(mkimg.oci_archive(world.path("other.tar"), busybox_image("other:1")), "rb") as file:
        archive = file.read()
    load = sk.start("load", "-", stdin=subprocess.PIPE)
    load.stdin.write(archive[:len(archive) // 2])
    load.stdin.flush()
    wait_for(lambda: listdir(world.store + "/tmp"))
    load.kill()
    load.communicate()
    assert sk("doctor").status == 1 and listdir(world.store + "/tmp")

    sk.ok("heal")
    assert listdir(world.store + "/tmp") == [] and sk.ok("doctor")


@pytest.mark.vm_more
def test_heals_at_once_do_it_once(sk, world):
    names = [sk.running("--restart", "always") for _ in range(4)]
    pull_the_plug(sk, world, *names)
    many = [sk.start("heal") for _ in range(5)]
    said = [process.communicate(timeout=60) for process in many]
    assert [process.returncode for process in many] == [0] * 5, said
    for name in names:
        assert sk.state(name) == "running" and sk.row(name)["restarts"] == 0
        assert alive(sk.row(name)["guard_pid"])


def test_a_start_that_was_killed_is_cleared_away(sk, world):
    """The guard is dead before the first program ran: nobody was told that it runs."""
    name = world.name()
    sk.ok("create", "--restart", "no", "--name", name, "busybox", "sleep", "100")
    ident = sk.row(name)["id"]
    run_dir = os.path.join(world.run_dir, "containers", ident)
    os.mkdir(run_dir, 0o700)
    boot = read_text("/proc/sys/kernel/random/boot_id").strip()
    with open(run_dir + "/status.json", "w") as file:
        json.dump({"format": 1, "boot": boot, "step": "launching", "incarnation": 1, "order": 1, "wish_before": ""}, file)
    with open(container_dir(world, ident) + "/desired", "w") as file:
        file.write("running 1\n")
    assert heal(sk) == {name: "cleaned"}
    assert not os.path.exists(run_dir) and sk.state(name) == "created"
    assert heal(sk) == {}


@pytest.mark.vm_more
def test_templates_and_quiet(sk, world):
    name = sk.running("--restart", "always")
    pull_the_plug(sk, world, name)
    assert sk.ok("heal", "--format", "{{.Name}}: {{.Action}}") == name + ": started"
    pull_the_plug(sk, world, name)
    assert sk.ok("heal", "-q") == ""
    assert sk.state(name) == "running"


@pytest.mark.vm_more
def test_a_command_that_does_not_let_go_is_named(sk, world):
    """The others are looked at all the same."""
    held, other = sk.running("--restart", "always"), sk.running("--restart", "always")
    pid = sk.pid(other)
    directory = os.open(container_dir(world, sk.inspect(held)["id"]), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        result = sk("heal")
    finally:
        os.close(directory)
    said = re.search(r"%s.*(process (\d+)|another command) has been at work on it for 5 s" % held, result.out + result.err)
    assert result.status == 1 and said and said[2] in (str(os.getpid()), None), result
    assert other not in result.err and sk.pid(other) == pid

# SPDX-License-Identifier: Apache-2.0
"""Where guard, supervisor and container live: in a scope of systemd's on hosts that it runs; and what SIGTERM to the
supervisor means, by which a host that goes down asks for the end."""

import os
import shutil
import signal
import subprocess
import time

import pytest
from skinktest import alive, kill_quietly, read_text, wait_for

systemd = pytest.mark.vm_only  # as process 1, with cgroup v2


def group_of(pid):
    lines = (read_text("/proc/%d/cgroup" % pid) or "").splitlines()
    return next((line[3:] for line in lines if line.startswith("0::")), "")


def scope_of(sk, name):
    return "/skink.slice/skink-%s.scope" % sk.inspect(name)["id"]


def keepers(sk, name):
    text = read_text("/sys/fs/cgroup" + scope_of(sk, name) + "/supervisor/cgroup.procs") or ""
    return [int(pid) for pid in text.split()]


def unit_is(sk, name, what):
    unit = os.path.basename(scope_of(sk, name))
    return subprocess.run(["systemctl", "is-active", unit], capture_output=True).stdout.decode().strip() == what


def supervisor_of(sk, name):
    """By the tree of processes: the container's parent is the guard, whose other child is the supervisor."""
    guard = int(read_text("/proc/%d/stat" % sk.pid(name)).rsplit(")", 1)[1].split()[1])
    children = [int(pid) for pid in read_text("/proc/%d/task/%d/children" % (guard, guard)).split()]
    return next(pid for pid in children if "supervise-internal" in read_text("/proc/%d/cmdline" % pid))


@systemd
def test_a_container_and_its_keepers_are_one_scope(sk):
    name = sk.running("-m", "64m", "--restart", "always")
    assert group_of(sk.pid(name)) == scope_of(sk, name) + "/container"
    assert [read_text("/proc/%d/comm" % pid).strip() for pid in keepers(sk, name)] == ["skink-guard", "skink-supervise"]
    assert read_text("/sys/fs/cgroup" + group_of(sk.pid(name)) + "/memory.max").strip() == "67108864"
    shown = subprocess.run(["systemctl", "status", "--no-pager", os.path.basename(scope_of(sk, name))], capture_output=True).stdout.decode()
    assert "skink container %s (busybox" % name in shown and "sleep 1000" in shown
    sk.ok("rm", "-f", name)
    wait_for(lambda: not os.path.exists("/sys/fs/cgroup" + scope_of_id(shown)), message="the scope stays")


def scope_of_id(status):
    return next(word for word in status.split() if word.startswith("/skink.slice/skink-"))


@systemd
def test_no_default_of_systemds_cuts_short_what_the_container_may(sk):
    """DefaultTasksMax is 15 % of what the machine can have, and DefaultTimeoutStopSec what an administrator likes."""
    name = sk.running("--pids-limit", "10000", "--stop-timeout", "10")
    files = {below: cgroup_file(scope_of(sk, name) + below, "pids.max") for below in ("", "/supervisor", "/container")}
    assert files == {"": "max", "/supervisor": "max", "/container": "10000"}
    said = subprocess.run(["systemctl", "show", os.path.basename(scope_of(sk, name)), "-pTasksMax", "-pTimeoutStopUSec"], capture_output=True, check=True)
    assert sorted(said.stdout.decode().split("\n")[:2]) == ["TasksMax=infinity", "TimeoutStopUSec=1min 30s"]


@systemd
def test_a_scope_stops_before_what_its_container_may_need(sk):
    """With the network and the file systems behind it the program may take as long as the container has."""
    name = sk.running("--stop-timeout", "600")
    said = subprocess.run(["systemctl", "show", os.path.basename(scope_of(sk, name)), "-pAfter", "-pTimeoutStopUSec"], capture_output=True, check=True)
    shown = dict(line.split("=", 1) for line in said.stdout.decode().splitlines())
    # It would wait for those that are not reached yet, at boot.
    reached = {one for one in ("local-fs.target", "remote-fs.target", "network.target")
               if subprocess.run(["systemctl", "is-active", "-q", one], check=False).returncode == 0}
    assert "local-fs.target" in reached and reached <= set(shown["After"].split()), shown
    assert shown["TimeoutStopUSec"] == "11min 20s"


@systemd
def test_f28_a_damaged_run_directory_is_not_the_end_of_a_container(sk, world):
    """F28: nor of what it has written, and of its record."""
    name = sk.running("--writable", "--rm")
    facts = sk.inspect(name)
    run_dir = os.path.join(world.run_dir, "containers", facts["id"])
    os.unlink(run_dir + "/status.json")
    kill_quietly(facts["supervisor_pid"])
    wait_for(lambda: "run directory is damaged" in (read_text(run_dir + "/supervisor.log", "") or ""))
    assert alive(facts["pid"]) and group_of(facts["pid"]).endswith("/container")
    assert [entry for entry in os.listdir(world.path("store/containers/" + facts["id"])) if entry.startswith("upper.")]
    sk.ok("rm", "-f", name)
    wait_for(lambda: not alive(facts["pid"]))


@systemd
def test_keepers_that_come_back_are_in_the_scope_again(sk):
    name = sk.running("--restart", "always")
    pid, before = sk.pid(name), keepers(sk, name)
    for keeper in before:
        kill_quietly(keeper)
    sk.ok("ps")
    wait_for(lambda: len(keepers(sk, name)) == 2 and not set(keepers(sk, name)) & set(before))
    assert sk.pid(name) == pid and group_of(pid) == scope_of(sk, name) + "/container"


@systemd
def test_everything_killed_at_once_gets_a_new_scope(sk):
    name = sk.running("--restart", "always")
    pid = sk.pid(name)
    for victim in keepers(sk, name) + [pid]:
        kill_quietly(victim)
    new = wait_for(lambda: sk.state(name) == "running" and sk.pid(name) not in (0, pid) and sk.pid(name))
    assert group_of(new) == scope_of(sk, name) + "/container"
    assert len(keepers(sk, name)) == 2


@systemd
def test_f37_a_container_survives_the_session_that_started_it(sk, world):
    unit = "skink-test-%s" % world.name()
    command = sk.command("run", "-d", "--name", "survivor", "busybox", "sleep", "1000")
    subprocess.run(["systemd-run", "--quiet", "--wait", "--collect", "--unit", unit, "--property=KillMode=control-group",
                    *sum([["--setenv", "%s=%s" % pair] for pair in world.environment().items()], []), *command],
                   check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert sk.state("survivor") == "running"
    assert group_of(sk.pid("survivor")).startswith("/skink.slice/")
    assert len(keepers(sk, "survivor")) == 2


@systemd
def test_f37_the_callers_group_is_killed(sk, world):
    """A shell in a group of its own that starts a container and is killed with all of its group."""
    group = "/sys/fs/cgroup/skink-test-%s" % world.id
    os.mkdir(group)
    try:
        command = sk.command("run", "-d", "--name", "survivor", "busybox", "sleep", "1000")
        with subprocess.Popen(["sh", "-c", "echo $$ >%s/cgroup.procs; \"$@\" && echo started && exec sleep 1000" % group, "sh", *command],
                              env=world.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as shell:
            assert any(b"started" in line for line in iter(shell.stdout.readline, b"")), "it could not start"
            with open(group + "/cgroup.kill", "w") as file:
                file.write("1")
        pid = sk.pid("survivor")
        assert shell.wait() == -signal.SIGKILL and sk.state("survivor") == "running" and alive(pid)
        assert all(alive(keeper) for keeper in keepers(sk, "survivor")) and len(keepers(sk, "survivor")) == 2
        assert sk.ok("exec", "survivor", "echo", "fine") == "fine"
    finally:
        wait_for(lambda: not read_text(group + "/cgroup.procs"))
        os.rmdir(group)


@systemd
def test_a_scope_that_is_stopped_is_a_container_that_is_stopped(sk):
    name = sk.running("--restart", "always", command=["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done"])
    unit = os.path.basename(scope_of(sk, name))
    subprocess.run(["systemctl", "stop", unit], check=True)
    assert sk.state(name) == "exited" and sk.row(name)["exit"]["status"] == 7
    time.sleep(1)
    assert sk.state(name) == "exited", "the policy must not bring back what was stopped"
    sk.ok("start", name)
    assert group_of(sk.pid(name)).startswith("/skink.slice/")


# What hears a signal says so; the second is a worker of the first.
TELLS = ("trap 'echo init TERM' TERM; trap 'echo init USR1; exit 7' USR1; "
         "(trap 'echo worker TERM' TERM; trap 'echo worker USR1' USR1; while :; do sleep 0.1; done) & "
         "echo ready; while :; do sleep 0.1; done")


@systemd
def test_a_scope_that_is_stopped_sends_the_stop_signal_alone(sk):
    name = sk.running("--restart", "always", "--stop-signal", "USR1", command=["sh", "-c", TELLS])
    wait_for(lambda: "ready" in sk.ok("logs", name))
    subprocess.run(["systemctl", "stop", os.path.basename(scope_of(sk, name))], check=True)
    assert sk.state(name) == "exited" and sk.row(name)["exit"]["status"] == 7
    assert sk.ok("logs", name).split("\n")[1:] == ["init USR1"], "no other signal, and none to the worker"


def test_a_supervisor_that_is_not_there_when_its_scope_is_stopped(sk):
    """Every process of the scope is told once, by SIGURG; the guard keeps it for the next supervisor."""
    name = sk.running("--restart", "always", "--stop-signal", "USR1", command=["sh", "-c", TELLS])
    wait_for(lambda: "ready" in sk.ok("logs", name))
    os.kill(sk.row(name)["guard_pid"], signal.SIGURG)
    kill_quietly(sk.row(name)["supervisor_pid"])
    wait_for(lambda: sk.state(name) == "exited")
    assert sk.row(name)["exit"]["status"] == 7 and sk.ok("logs", name).split("\n")[1:] == ["init USR1"]


@pytest.mark.vm_more
@systemd
def test_stop_and_start_in_a_row(sk):
    name = sk.running()
    for _ in range(5):
        sk.ok("restart", "-t", "0", name)
        assert group_of(sk.pid(name)) == scope_of(sk, name) + "/container"


@pytest.mark.vm_more
@systemd
def test_without_the_bus_a_container_is_where_it_is_without_systemd(sk):
    shutil.which("unshare") or pytest.fail("unshare")
    hidden = ["unshare", "--mount", "sh", "-c",
              "mount -t tmpfs none /run/dbus && mount --bind /dev/null /run/systemd/private && exec \"$@\"", "sh"]
    sk.ok("run", "-d", "--name", "plain", "busybox", "sleep", "1000", before=hidden)
    assert group_of(sk.pid("plain")) == "/skink/" + sk.inspect("plain")["id"]
    assert not unit_is(sk, "plain", "active")
    sk.ok("rm", "-f", "plain")


@pytest.mark.vm
def test_a_supervisor_that_is_terminated_stops_its_container(sk):
    """As at the end of a host; what is wanted stays wanted, so that it is brought back when the host is."""
    name = sk.running("--restart", "always", command=["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done"])
    pid = sk.pid(name)
    keeper = supervisor_of(sk, name)
    os.kill(keeper, signal.SIGTERM)
    wait_for(lambda: sk.state(name) == "exited")
    assert sk.row(name)["exit"]["status"] == 7
    wait_for(lambda: not alive(pid) and not alive(keeper))
    time.sleep(1)
    assert sk.state(name) == "exited"


def test_a_supervisor_that_is_terminated_kills_what_does_not_stop(sk):
    name = sk.running("--restart", "always", "--stop-timeout", "1", command=["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"])
    os.kill(supervisor_of(sk, name), signal.SIGTERM)
    wait_for(lambda: sk.state(name) == "exited")
    assert sk.row(name)["exit"]["status"] == 137


def cgroup_file(path, file):
    return (read_text("/sys/fs/cgroup" + path + "/" + file) or "").strip()


@systemd
def test_a91_keepers_have_memory_that_is_not_taken_back(sk):
    """A91: a group's memory.min counts as far as those of the groups above it allow; and theirs is the last to be killed for."""
    first, second = sk.running("--restart", "always"), sk.running("--restart", "always")
    for name in (first, second):
        assert [int(cgroup_file(scope_of(sk, name) + below, "memory.min")) for below in ("", "/supervisor", "/container")] == [2 << 20, 2 << 20, 0]
        supervisor = sk.inspect(name)["supervisor_pid"]
        assert read_text("/proc/%d/oom_score_adj" % supervisor).strip() == "-999"
        assert read_text("/proc/%d/oom_score_adj" % sk.pid(name)).strip() == "0"
        assert sk.ok("exec", name, "cat", "/proc/self/oom_score_adj") == "0"
        # It is enough for what they have of their own.
        keepers = cgroup_file(scope_of(sk, name) + "/supervisor", "memory.stat")
        anonymous = next(int(line.split()[1]) for line in keepers.splitlines() if line.startswith("anon "))
        assert 0 < anonymous < 2 << 20
    assert int(cgroup_file("/skink.slice", "memory.min")) >= 2 * (2 << 20)


@systemd
@pytest.mark.vm_more
def test_a91_short_of_memory_above_the_container_only_its_program_dies(sk, world):
    """A91: a limit of the slice, which counts the keepers too, is hit by a container without one of its own."""
    other = sk.running("--restart", "always")
    name = sk.running("--restart", "no", command=["sh", "-c", "until [ -e /tmp/go ]; do sleep 0.1; done; exec tail /dev/zero"])
    kept = {one: (sk.inspect(one)["supervisor_pid"], sk.inspect(one)["guard_pid"]) for one in (name, other)}
    slice_max = "/sys/fs/cgroup/skink.slice/memory.max"
    sk.ok("exec", name, "touch", "/tmp/go")
    with open(slice_max, "w") as file:
        file.write(str(48 << 20))
    try:
        sk.wait_state(name, "exited")
        assert all(alive(pid) for pid in kept[other])
        assert sk.inspect(name)["exit"]["status"] == 137 and sk.inspect(name)["exit"]["oom"]
        assert (sk.inspect(other)["supervisor_pid"], sk.inspect(other)["guard_pid"]) == kept[other]
        assert sk.state(other) == "running" and sk.row(other)["restarts"] == 0
    finally:
        with open(slice_max, "w") as file:
            file.write("max")

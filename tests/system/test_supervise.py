# SPDX-License-Identifier: Apache-2.0
"""Supervision: what fails comes back, and what supervises comes back too."""

import os
import signal
import time

import pytest
from skinktest import alive, group_lines, kill_quietly, listdir, read_text, sanitized, starttime, status_of, support, wait_for

pytestmark = pytest.mark.vm


def relaunched(sk, name, old):
    return wait_for(lambda: sk.pid(name) not in (0, old) and sk.state(name) == "running" and sk.pid(name),
                    message="%s was not relaunched: %s" % (name, sk.row(name)))


def test_a_killed_container_comes_back(sk):
    name = sk.running("--restart", "always")
    pid = sk.pid(name)
    os.kill(pid, signal.SIGKILL)
    relaunched(sk, name, pid)
    assert sk.row(name)["restarts"] == 1
    assert "relaunched once\n" in sk.ok("why", name)
    assert sk.ok("exec", name, "echo", "back") == "back"


@pytest.mark.vm_more
def test_detached_containers_are_relaunched_by_default(sk):
    name = sk.running()
    pid = sk.pid(name)
    os.kill(pid, signal.SIGKILL)
    relaunched(sk, name, pid)


@pytest.mark.vm_more
def test_a_clean_end_is_not_relaunched_by_on_failure(sk):
    name = sk.running(command=["true"])
    sk.wait_state(name, "exited")
    assert sk.row(name)["restarts"] == 0


@pytest.mark.vm_more
def test_always_relaunches_a_clean_end(sk):
    name = sk.running("--restart", "always", command=["sh", "-c", "echo run; sleep 0.2"])
    wait_for(lambda: sk.ok("logs", name).split().count("run") >= 3)


@pytest.mark.vm_more
def test_on_failure_with_a_limit_gives_up(sk):
    name = sk.running("--restart", "on-failure:2", command=["sh", "-c", "echo run; exit 5"])
    assert sk.ok("wait", name) == "5"
    sk.wait_state(name, "exited")
    assert sk.ok("logs", name).split() == ["run"] * 3
    assert sk.row(name)["restarts"] == 2


@pytest.mark.vm_more
def test_policy_no(sk):
    name = sk.running("--restart", "no", command=["sh", "-c", "exit 5"])
    sk.wait_state(name, "exited")
    assert sk.row(name)["restarts"] == 0
    assert sk.row(name)["exit"]["status"] == 5


@pytest.mark.vm_more
def test_back_off_grows_and_is_shown(sk):
    name = sk.running("--restart", "always", command=["sh", "-c", "echo run; exit 1"])
    wait_for(lambda: sk.row(name)["restarts"] >= 4, 60)
    row = wait_for(lambda: (lambda r: r["state"] == "restarting" and r)(sk.row(name)), 60, 0.02)
    assert row["next_try"] and "estarting" in row["status"], row


@pytest.mark.vm_more
def test_stop_ends_the_back_off(sk):
    name = sk.running("--restart", "always", command=["sh", "-c", "exit 1"])
    wait_for(lambda: sk.row(name)["restarts"] >= 3, 60)
    sk.ok("stop", name)
    assert sk.state(name) == "exited"
    before = sk.row(name)["restarts"]
    time.sleep(2)
    assert sk.row(name)["restarts"] == before


@pytest.mark.vm_more
@pytest.mark.parametrize("policy", ["always", "unless-stopped", "on-failure"])
def test_a_stopped_container_stays_stopped(sk, policy):
    name = sk.running("--restart", policy)
    sk.ok("stop", "-t", "1", name)
    time.sleep(1.5)
    assert sk.state(name) == "exited"
    sk.ok("start", name)
    sk.wait_state(name, "running")
    pid = sk.pid(name)
    os.kill(pid, signal.SIGKILL)
    relaunched(sk, name, pid)


def supervisors(sk, name):
    row = sk.row(name)
    return row["supervisor_pid"], row["guard_pid"]


@pytest.mark.parametrize("which", ["supervisor", "guard"])
def test_a_killed_keeper_comes_back_and_the_container_lives_on(sk, which):
    """F03: it is the container's program that counts; commands go on working on it, and its end is noticed."""
    name = sk.running("--restart", "always")
    pid = sk.pid(name)
    supervisor, guard = supervisors(sk, name)
    assert alive(supervisor) and alive(guard) and supervisor != guard
    os.kill(supervisor if which == "supervisor" else guard, signal.SIGKILL)
    old = supervisor if which == "supervisor" else guard

    def back():
        new = supervisors(sk, name)[0 if which == "supervisor" else 1]
        return new not in (0, old) and alive(new)
    wait_for(back, message="the %s did not come back: %s" % (which, sk.row(name)))
    assert sk.pid(name) == pid and alive(pid), "the container was disturbed"
    assert sk.ok("exec", name, "echo", "works") == "works"
    os.kill(pid, signal.SIGKILL)
    relaunched(sk, name, pid)
    sk.ok("rm", "-f", name)


@pytest.mark.vm_more
def test_keepers_killed_in_turn_many_times(sk):
    name = sk.running("--restart", "always", command=["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"])
    pid = sk.pid(name)
    for round_number in range(6):
        old = supervisors(sk, name)
        os.kill(old[round_number % 2], signal.SIGKILL)
        wait_for(lambda: all(alive(one) for one in supervisors(sk, name) if one) and
                 supervisors(sk, name)[round_number % 2] not in (0, old[round_number % 2]))
    assert sk.pid(name) == pid
    sk.ok("stop", "-t", "1", name)
    lines = sk.ok("logs", name).split()
    assert lines == [str(n) for n in range(1, len(lines) + 1)], "lines were lost or doubled"


def test_both_keepers_killed_at_once(sk):
    """The container runs on; the next command restores supervision."""
    name = sk.running("--restart", "always")
    pid = sk.pid(name)
    for one in supervisors(sk, name):
        kill_quietly(one)
    time.sleep(0.5)
    wait_for(lambda: (lambda s: s[0] and alive(s[0]))(supervisors(sk, name)), message="supervision was not restored")
    assert sk.pid(name) == pid and alive(pid)
    assert sk.ok("exec", name, "echo", "works") == "works"
    os.kill(pid, signal.SIGKILL)
    relaunched(sk, name, pid)


def test_everything_killed_at_once_is_never_invented(sk):
    """With keepers and container dead together nobody saw the exit status."""
    name = sk.running("--restart", "no")
    pid = sk.pid(name)
    for one in supervisors(sk, name) + (pid,):
        kill_quietly(one)
    wait_for(lambda: not alive(pid))
    row = wait_for(lambda: (lambda r: r["state"] in ("unknown", "exited") and r)(sk.row(name)))
    if row["state"] == "exited" and row["exit"]["known"]:
        assert row["exit"]["status"] == 137
    sk.ok("rm", "-f", name)


def test_the_containers_processes_end_with_their_first(sk):
    name = sk.running("--restart", "no", command=["sh", "-c", "sleep 1234 & sleep 1235 & wait"])
    pid = sk.pid(name)

    def pids():
        return [p for p in os.listdir("/proc") if p.isdigit() and
                os.path.exists("/proc/%s/ns/pid" % p) and ns(p) == own]

    def ns(p):
        try:
            return os.readlink("/proc/%s/ns/pid" % p)
        except OSError:
            return None
    own = ns(str(pid))
    wait_for(lambda: len(pids()) >= 3)
    # By number and start time: the kernel gives the name of a dead namespace to a new one.
    members = [(int(p), starttime(int(p))) for p in pids()]
    os.kill(pid, signal.SIGKILL)
    sk.wait_state(name, "exited")
    assert [p for p, begin in members if alive(p) and starttime(p) == begin] == []


def test_keepers_are_not_in_the_containers_cgroup_or_session(sk):
    name = sk.running()
    ident = sk.inspect(name)["id"]
    for keeper in supervisors(sk, name):
        groups = read_text("/proc/%d/cgroup" % keeper)
        assert "/skink/" + ident + "\n" not in groups
        assert os.getsid(keeper) != os.getsid(0)


def own_groups(pid):
    """(controllers, path) of every hierarchy, its mount point found by mountinfo."""
    mounts = {}
    for line in read_text("/proc/self/mountinfo").splitlines():
        words = line.split()
        kind, options = words[words.index("-") + 1], words[-1].split(",")
        if kind == "cgroup2":
            mounts[""] = words[4]
        elif kind == "cgroup":
            mounts.update({option: words[4] for option in options})
    for line in group_lines(pid):
        _, controllers, path = line.split(":", 2)
        yield mounts.get(controllers) or mounts.get(controllers.split(",")[0]), path


@pytest.mark.vm
def test_f37_keepers_leave_the_groups_of_their_caller(sk, world):
    """The session's groups are killed, on every hierarchy; what was started from it lives on and is still kept."""
    name, groups = world.name(), []
    for mount, _ in own_groups(os.getpid()):
        groups.append(os.path.join(mount, "session-" + world.id))
        os.mkdir(groups[-1])
        for file in ("cpuset.cpus", "cpuset.mems"):  # v1 wants them before anybody may join
            parent = read_text(os.path.join(mount, file), "").strip()
            if parent and os.path.exists(os.path.join(groups[-1], file)):
                with open(os.path.join(groups[-1], file), "w") as control:
                    control.write(parent)
    join = "; ".join("echo $$ > %s/cgroup.procs" % group for group in groups)
    sk.ok("run", "-d", "--restart", "always", "--name", name, "busybox", "sleep", "1000",
          before=["sh", "-ec", join + '; exec "$@"', "sh"])
    left = [pid for group in groups for pid in read_text(group + "/cgroup.procs").split()]
    assert left == [], "these are still in the session: %s" % [read_text("/proc/%s/comm" % pid) for pid in left]
    for group in groups:
        os.rmdir(group)
    pid = sk.pid(name)
    os.kill(pid, signal.SIGKILL)
    relaunched(sk, name, pid)


@pytest.mark.vm_more
def test_keepers_have_names_that_people_can_read(sk):
    name = sk.running()
    supervisor, guard = supervisors(sk, name)
    assert read_text("/proc/%d/comm" % supervisor) == "skink-supervise\n"
    assert read_text("/proc/%d/comm" % guard) == "skink-guard\n"
    assert read_text("/proc/%d/cmdline" % supervisor) == "skink\0supervise-internal\0%d\0%s\0" % (guard, name)
    assert read_text("/proc/%d/cmdline" % guard) == "skink-guard\0%s\0" % name
    # Those who take over are called the same.
    os.kill(guard, signal.SIGKILL)
    new = wait_for(lambda: (lambda now: now not in (0, guard) and alive(now) and now)(supervisors(sk, name)[1]))
    assert read_text("/proc/%d/cmdline" % new) == "skink-guard\0%s\0" % name


@pytest.mark.vm_more
def test_keepers_hold_no_descriptor_of_the_caller(sk, world):
    marker = open(world.write("marker", "x"))
    os.set_inheritable(marker.fileno(), True)
    name = world.name()
    sk.ok("run", "-d", "--name", name, "busybox", "sleep", "100", close_fds=False)
    pids = supervisors(sk, name) + (sk.pid(name),)
    for pid in pids:
        targets = [os.readlink("/proc/%d/fd/%s" % (pid, fd)) for fd in os.listdir("/proc/%d/fd" % pid)]
        assert not any("marker" in target for target in targets), targets
    marker.close()


@pytest.mark.vm_more
def test_a_caller_that_waits_for_the_end_of_its_pipe_is_not_kept_waiting(sk, world):
    """`id=$(skink run -d ...)`: no keeper may hold the pipe."""
    import subprocess
    done = subprocess.run(sk.command("run", "-d", "--name", world.name(), "busybox", "sleep", "100"), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=world.environment(), timeout=60)
    assert done.returncode == 0 and len(done.stdout.strip()) == 64


def test_the_session_of_the_caller_may_end(sk, world):
    name = world.name()
    sk.ok("run", "-d", "--name", name, "busybox", "sleep", "100", before=["setsid", "--wait"])
    for keeper in supervisors(sk, name):
        os.kill(keeper, signal.SIGHUP)
    time.sleep(0.3)
    assert sk.state(name) == "running" and sk.ok("exec", name, "echo", "x") == "x"


@pytest.mark.vm_more
def test_restart_makes_a_new_incarnation(sk):
    name = sk.running("--writable")
    sk.ok("exec", name, "touch", "/mark")
    pid = sk.pid(name)
    assert sk.ok("restart", "-t", "1", name) == name
    assert sk.pid(name) not in (0, pid)
    assert sk("exec", name, "test", "-e", "/mark").status == 1


@pytest.mark.vm_more
def test_a_launch_that_fails_later_is_told(sk, world):
    """The bind source vanishes: the next incarnation cannot be made, and ps says why."""
    os.makedirs(world.path("gone"))
    name = sk.running("--restart", "always", "-v", world.path("gone") + ":/x")
    pid = sk.pid(name)
    os.rename(world.path("gone"), world.path("away"))
    os.kill(pid, signal.SIGKILL)
    row = wait_for(lambda: (lambda r: r.get("exit") and r["exit"].get("error") and r)(sk.row(name)))
    assert "gone" in row["exit"]["error"]
    os.rename(world.path("away"), world.path("gone"))
    relaunched(sk, name, pid)


@pytest.mark.vm_more
def test_a_restarting_container_can_be_removed(sk):
    name = sk.running("--restart", "always", command=["false"])
    wait_for(lambda: sk.row(name)["restarts"] >= 3)
    sk.ok("rm", "-f", name)
    assert sk.row(name) is None


@pytest.mark.vm_more
def test_each_run_has_a_root_of_its_own(sk, world):
    """Whether or not it is a clone of the one before: what a run mounts and writes is not in the next, what stands at a
    path of the host is looked at again, and an image that was taken away is gone."""
    source = world.path("source")
    world.write("source", "a file\n")
    script = "cat /new/place /new/place/in 2>/dev/null; ls /tmp; mount | wc -l; touch /tmp/mine; mount -t tmpfs mine /mnt; exec sleep 1000"
    name = sk.running("--restart", "always", "--restart-delay", "20ms", "--restart-max-delay", "20ms", "--cap-add", "SYS_ADMIN", "-v", source + ":/new/place", command=["sh", "-c", script])
    wait_for(lambda: len(sk.ok("logs", name).splitlines()) == 2)
    mounts = sk.ok("logs", name).splitlines()[1]
    for said, change in (("a file", lambda: None), ("a file", lambda: None),
                         ("in a directory", lambda: (os.unlink(source), os.mkdir(source), world.write("source/in", "in a directory\n")))):
        change()
        before, pid = len(sk.ok("logs", name).splitlines()), sk.pid(name)
        kill_quietly(pid)
        wait_for(lambda: len(sk.ok("logs", name).splitlines()) == before + 2)
        assert sk.ok("logs", name).splitlines()[before:] == [said, mounts]
    os.rename(world.store + "/images", world.store + "/away")
    try:
        kill_quietly(sk.pid(name))
        wait_for(lambda: "image" in (sk.inspect(name)["exit"] or {}).get("error", ""))
    finally:
        os.rename(world.store + "/away", world.store + "/images")
    wait_for(lambda: sk.state(name) == "running")


def test_unknown_policies_are_refused(sk):
    for policy in ("sometimes", "on-failure:x", "on-failure:-1", "always:3"):
        sk.fails("run", "-d", "--restart", policy, "busybox", "true", status=125, match="restart")


@pytest.mark.vm_more
def test_rm_and_restart_exclude_each_other(sk):
    sk.fails("run", "-d", "--rm", "--restart", "always", "busybox", "true", status=125, match="rm")


@pytest.mark.vm_more
@pytest.mark.parametrize("options", [[], ["--standby"]])
def test_the_mounts_of_a_run_are_held_until_the_next_is_there_and_no_longer(sk, options):
    def held():
        top, links = "/proc/%d/fd" % sk.inspect(name)["supervisor_pid"], []
        for fd in listdir(top):
            try:
                links.append(os.readlink(os.path.join(top, fd)))
            except OSError:  # closed since
                pass
        return [link for link in links if link.startswith("mnt:")]
    name = sk.running(*options, "--restart", "always", "--restart-delay", "1h", "--restart-max-delay", "1h")
    pid = sk.pid(name)
    kill_quietly(pid)
    pid = relaunched(sk, name, pid)
    wait_for(lambda: held() == [os.readlink("/proc/%d/ns/mnt" % pid)])
    # The second failure in a row waits for its next try: nothing of the run is there meanwhile.
    kill_quietly(pid)
    wait_for(lambda: sk.state(name) == "restarting")
    wait_for(lambda: held() == [])


@pytest.mark.parametrize("options, mode", [([], "2"), (["--security-opt", "seccomp=unconfined"], "0")])
@pytest.mark.vm_more
def test_a_supervisor_has_a_filter_of_its_own_where_the_container_has_one(sk, options, mode):
    """However often it was replaced there is one; the guard that the command started has none, as the launch needs all."""
    name = sk.running("--restart", "always", *options)
    filters = set()
    for which in (None, 0, 1, 1, 0):
        if which is not None:
            before = supervisors(sk, name)
            os.kill(before[which], signal.SIGKILL)
            wait_for(lambda: supervisors(sk, name)[which] not in (0, before[which]) and all(alive(pid) for pid in supervisors(sk, name)))
        status = status_of(supervisors(sk, name)[0])
        assert status["Seccomp"] == mode and status["NoNewPrivs"] == "0"
        filters.add(status.get("Seccomp_filters"))
    assert len(filters) == 1, "filters are added with every supervisor: %s" % filters
    assert sk.ok("exec", name, "echo", "works") == "works"


@pytest.mark.vm_more
@pytest.mark.parametrize("options, reads_log", [([], False), (["--cap-add", "SYSLOG"], True), (["--security-opt", "seccomp=unconfined"], False),
                                                (["--privileged"], True)])
def test_what_a_container_may_call_does_not_depend_on_that_filter(sk, options, reads_log):
    """syslog(2) is on the list; also in a run that a supervisor has made that was started by another one's guard."""
    options = [*options, "--restart", "always"]
    if not sk("run", "--rm", *options[:-2], "busybox", "true").status == 0:
        pytest.skip("%s is not for this host" % options[:-2])
    name = sk.running(*options)
    status = sk("exec", name, "dmesg", "-s", "10").status
    os.kill(supervisors(sk, name)[1], signal.SIGKILL)
    pid = sk.pid(name)
    os.kill(pid, signal.SIGKILL)
    relaunched(sk, name, pid)
    assert sk("exec", name, "dmesg", "-s", "10").status == status
    if os.geteuid() == 0 and read_text("/proc/sys/kernel/dmesg_restrict").strip() == "1":
        assert (status == 0) == reads_log


def test_keepers_take_little_memory(sk):
    """P8 of tools/bench (150) with slack: pages of their own, of both together, once the start is over."""
    if sanitized():
        pytest.skip("sanitizers have memory of their own")
    names = [sk.running("--restart", "always") for _ in range(3)]
    os.sync()

    def dirty(pid):
        return sum(int(line.split()[1]) for line in read_text("/proc/%d/smaps_rollup" % pid, "").splitlines()
                   if line.startswith("Private_Dirty:"))
    for name in names:
        wait_for(lambda: sum(map(dirty, supervisors(sk, name))) <= 170)


@pytest.mark.vm_more
def test_who_sees_the_end_sees_the_run_too(sk, world):
    """Under a supervisor that is slow to write down what has happened."""
    name = world.name()
    sk.start("run", "--name", name, "--restart", "no", "busybox", "sh", "-c", "exit 3", before=[support("dawdle"), "1", "others"])
    wait_for(lambda: sk("inspect", name).status == 0)
    facts = wait_for(lambda: (lambda facts: facts["state"] == "exited" and facts)(sk.inspect(name)), step=0)
    assert [run["exit"]["status"] for run in facts["history"]] == [3]

# SPDX-License-Identifier: Apache-2.0
"""Limits: set by options, read back from the files of the cgroup."""

import os

import pytest
from skinktest import cgroup_dir, cgroup_value, group_lines, read_text, wait_for

pytestmark = pytest.mark.vm


def test_memory_limit(sk):
    pid = sk.pid(sk.running("-m", "64m"))
    assert cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(64 << 20)


@pytest.mark.vm_more
def test_memory_swap(sk):
    pid = sk.pid(sk.running("--memory", "64m", "--memory-swap", "100m"))
    directory, version = cgroup_dir(pid, "memory")
    file = os.path.join(directory, "memory.memsw.limit_in_bytes" if version == 1 else "memory.swap.max")
    if os.path.exists(file):
        assert read_text(file).strip() == str((100 if version == 1 else 36) << 20)


def test_cpus(sk):
    pid = sk.pid(sk.running("--cpus", "0.5"))
    directory, version = cgroup_dir(pid, "cpu")
    if version == 1:
        quota = int(read_text(directory + "/cpu.cfs_quota_us"))
        assert quota * 2 == int(read_text(directory + "/cpu.cfs_period_us"))
    else:
        quota, period = map(int, read_text(directory + "/cpu.max").split())
        assert quota * 2 == period


@pytest.mark.vm_more
def test_cpu_shares(sk):
    pid = sk.pid(sk.running("--cpu-shares", "512"))
    assert cgroup_value(pid, "cpu", "cpu.shares", "cpu.weight") in ("512", "20", "59")


@pytest.mark.vm_more
def test_cpuset(sk):
    pid = sk.pid(sk.running("--cpuset-cpus", "0"))
    assert cgroup_value(pid, "cpuset", "cpuset.cpus", "cpuset.cpus") == "0"
    assert "Cpus_allowed_list:\t0\n" in read_text("/proc/%d/status" % pid)
    sk.fails("run", "--rm", "--cpuset-cpus", "4096", "busybox", "true", status=125, match="cpuset")


def test_pids_limit(sk):
    pid = sk.pid(sk.running("--pids-limit", "12"))
    assert cgroup_value(pid, "pids", "pids.max", "pids.max") == "12"
    out = sk.ok("run", "--rm", "--pids-limit", "12", "busybox", "probe", "forks", "50")
    assert "EAGAIN" in out


def test_limits_are_back_after_a_relaunch(sk):
    name = sk.running("-m", "48m", "--pids-limit", "20", "--restart", "always")
    pid = sk.pid(name)
    os.kill(pid, 9)
    new = wait_for(lambda: sk.pid(name) not in (0, pid) and sk.pid(name))
    assert cgroup_value(new, "memory", "memory.limit_in_bytes", "memory.max") == str(48 << 20)
    assert cgroup_value(new, "pids", "pids.max", "pids.max") == "20"


def test_the_cgroup_is_named_by_the_id_on_every_hierarchy(sk):
    name = sk.running()
    ident, pid = sk.inspect(name)["id"], sk.pid(name)
    paths = {line.split(":", 2)[2] for line in group_lines(pid)
             if "cpu" in line or "memory" in line or "pids" in line or line.startswith("0::")}
    places = ("/skink/" + ident, "/skink.slice/skink-%s.scope/container" % ident)
    assert all(path.startswith(places) for path in paths), paths


@pytest.mark.vm_more
def test_the_container_sees_itself_at_the_root_of_its_cgroup(sk):
    out = sk.ok("run", "--rm", "busybox", "cat", "/proc/self/cgroup")
    assert all(line.split(":", 2)[2].split("/")[1] in ("", "exec", "init", "payload") for line in out.splitlines()), out


def test_out_of_memory_is_told(sk, world):
    name = world.name()
    result = sk("run", "--name", name, "-m", "20m", "--memory-swap", "20m", "busybox", "probe", "memory", str(200 << 20))
    assert result.status == 137, result
    assert "memory" in sk.ok("ps", "-a", "--filter", "name=" + name).lower()


@pytest.mark.vm_more
def test_a_memory_limit_too_small_to_start_with_is_named(sk):
    error = sk.fails("run", "--rm", "-m", "4k", "busybox", "true", status=125)
    assert "memory limit may be too small" in str(error), error


@pytest.mark.vm_more
def test_nonsense_is_refused(sk):
    for option, value in (("-m", "lots"), ("-m", "-5"), ("-m", "0"), ("-m", "1k"), ("--cpus", "none"), ("--cpus", "-1"),
                          ("--pids-limit", "x"), ("--cpu-shares", "x"), ("--cpuset-cpus", "a-b"), ("--shm-size", "?"),
                          ("--memory", "99999999999999999999")):
        if (option, value) == ("-m", "0"):
            assert sk("run", "--rm", option, value, "busybox", "true").status in (0, 125)
            continue
        sk.fails("run", "--rm", option, value, "busybox", "true", status=125)

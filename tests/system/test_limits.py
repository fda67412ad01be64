# SPDX-License-Identifier: Apache-2.0
"""Limits: set by options, read back from the files of the cgroup."""

import ctypes
import json
import os
import re
import struct
import threading

import pytest
from skinktest import cgroup_dir, cgroup_value, check_sane_text, group_lines, kill_quietly, read_text, support, unified_top, v2_alone, wait_for

pytestmark = pytest.mark.vm


def test_memory_limit(sk):
    pid = sk.pid(sk.running("-m", "64m"))
    assert cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(64 << 20)


@pytest.mark.skipif("pids" in (read_text("/sys/fs/cgroup/cgroup.controllers", "") or ""), reason="here a v2 hierarchy has the controller")
def test_without_the_controller_an_image_says_how_it_runs(sk):
    """A group of v2 alone has none of those that v1 hierarchies hold."""
    only_v2 = ["unshare", "-m", "--propagation", "private", "sh", "-c", 'mount -t cgroup2 none /sys/fs/cgroup && exec "$@"', "x"]
    sk.fails("run", "--rm", "busybox", "true", match=r"pids.*--pids-limit -1", before=only_v2)
    assert sk.ok("run", "--rm", "--pids-limit", "-1", "busybox", "echo", "ran", before=only_v2) == "ran"


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
    # On v1 it may be that of memory and swap together, which is twice as much, that is in the way first.
    assert "OOM-killed (memory limit too low?)" in str(error), error
    assert re.search(r"may use (4096|8192) bytes and has hit that limit", str(error)), error


def test_an_init_that_falls_to_a_limit_is_told_with_it(oci, world, bundle):
    """While it is set up, between create and start, and in its execve; a program that ran has a status of its own."""
    told = {}
    for kib in (4, 16, 32, 48, 64, 1024, 8192):
        b, name = bundle(["sh", "-c", "echo ran"]), world.name()
        b.config["linux"]["cgroupsPath"] = "/skink-test-%s" % name
        b.config["linux"]["resources"] = {"memory": {"limit": kib << 10, "swap": kib << 10}}
        b.save()
        result = oci("run", "--bundle", b.dir, name)
        if result.status == 0:
            assert result.out == "ran\n"
        else:
            assert result.out == "" and result.status in (1, 137), result
        if result.status == 1:
            check_sane_text(result)
            numbers = re.search(r"OOM-killed \(memory limit too low\?\): oom_kill (\d+), control group \S*/skink-test-%s may use %d bytes "
                                r"and has hit that limit (\d+) times \(memory\.\S+\)" % (name, kib << 10), result.err)
            # Where no process could be made at all, none was killed.
            unmade = "Cannot allocate memory" in result.err and "/skink-test-%s may use %d bytes" % (name, kib << 10) in result.err
            assert unmade or (numbers and int(numbers[1]) >= 1 and int(numbers[2]) >= 1), result
        told[kib] = result.status
        assert world.leaks() == []
    assert told[4] == 1 and told[8192] == 0, told


@pytest.mark.parametrize("buried", [False, True], ids=["zombie", "buried"])
@pytest.mark.vm_more
def test_a_start_whose_init_falls_to_a_limit(oci, world, bundle, subreaper, buried):
    """Of one that its parent has buried at once nothing says how far it had come, but that it fell is known."""
    b, name = bundle(["sh", "-c", "echo ran"]), world.name()
    b.config["linux"]["cgroupsPath"] = "/skink-test-%s" % name
    b.config["linux"]["resources"] = {"memory": {"limit": 64 << 20}}
    b.config["process"]["env"] += ["LARGE%d=%s" % (i, "x" * 100000) for i in range(10)]
    b.save()
    oci.ok("create", "--bundle", b.dir, name)
    pid = json.loads(oci.ok("state", name))["pid"]
    subreaper.append(pid)
    directory, version = cgroup_dir(pid, "memory")
    used = int(read_text(os.path.join(directory, "memory.usage_in_bytes" if version == 1 else "memory.current")))
    with open(os.path.join(directory, "memory.limit_in_bytes" if version == 1 else "memory.max"), "w") as file:
        file.write("%d" % (used + (256 << 10)))
    swap = os.path.join(directory, "memory.swap.max")
    if os.path.exists(swap):
        with open(swap, "w") as file:
            file.write("0")
    slow = [support("dawdle"), "20", "first"] if buried else []
    if buried:
        threading.Thread(target=os.waitpid, args=(pid, 0)).start()
    oci.fails("start", name, before=slow, match=[r"killed before it executed its program(, or as soon as it did)?: .*OOM-killed", "skink-test-%s may use" % name])
    assert json.loads(oci.ok("state", name))["status"] == "stopped"


@pytest.mark.vm_more
def test_nonsense_is_refused(sk):
    for option, value in (("-m", "lots"), ("-m", "-5"), ("-m", "0"), ("-m", "1k"), ("--cpus", "none"), ("--cpus", "-1"),
                          ("--pids-limit", "x"), ("--cpu-shares", "x"), ("--cpuset-cpus", "a-b"), ("--shm-size", "?"),
                          ("--memory", "99999999999999999999")):
        if (option, value) == ("-m", "0"):
            assert sk("run", "--rm", option, value, "busybox", "true").status in (0, 125)
            continue
        sk.fails("run", "--rm", option, value, "busybox", "true", status=125)


V2_VIEW = [] if v2_alone() else ["unshare", "--mount", "--propagation", "private", "sh", "-c",
                                 'umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"', "sh"]


def device_programs(pid):
    """How many the kernel has on the process's group of v2: bpf(2), BPF_PROG_QUERY of BPF_CGROUP_DEVICE."""
    place = next(line[3:] for line in read_text("/proc/%d/cgroup" % pid).splitlines() if line.startswith("0::"))
    group = os.open(unified_top() + place, os.O_RDONLY)
    try:
        numbers = (ctypes.c_uint32 * 16)()
        query = ctypes.create_string_buffer(struct.pack("<IIIIQI", group, 6, 0, 0, ctypes.addressof(numbers), 16), 64)
        bpf = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
        assert ctypes.CDLL(None, use_errno=True).syscall(bpf, 16, query, 64) == 0, os.strerror(ctypes.get_errno())
        return struct.unpack_from("<IIIIQI", query)[5]
    finally:
        os.close(group)


def test_a_relaunch_leaves_one_device_program(sk):
    """A new one replaces the one before: each is asked at every opening, and there is room for 64."""
    unified_top()  # or skips
    name = sk.world.name()
    sk.ok("run", "-d", "--name", name, "--restart", "always", "--pids-limit", "-1", "busybox", "sleep", "1000", before=V2_VIEW)
    pid = sk.pid(name)
    assert device_programs(pid) == 1
    kill_quietly(pid)
    wait_for(lambda: sk.state(name) == "running" and sk.pid(name) not in (0, pid))
    assert device_programs(sk.pid(name)) == 1
    sk.ok("rm", "-f", name)

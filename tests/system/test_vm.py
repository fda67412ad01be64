# SPDX-License-Identifier: Apache-2.0
"""tools/vm and the machine behind it: a command's output and status and nothing else, disks that outlive a power failure,
and nothing left behind whatever ends."""

import os
import subprocess
import sys

import pytest
from skinktest import BUILD, TOP, listdir, read_text, sanitized, wait_for

sys.path.insert(0, os.path.join(TOP, "tests", "vm"))
import machine  # noqa: E402

pytestmark = [pytest.mark.not_vm("makes virtual machines"), pytest.mark.timeout(900),
              pytest.mark.skipif(sanitized(), reason="the machine has not the libraries of the sanitizers")]
VM = os.path.join(TOP, "tools", "vm")


def children_of(pid):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and read_text("/proc/%s/stat" % entry, "x) S 0").rsplit(")", 1)[1].split()[1] == str(pid):
            found.append(int(entry))
    return found


@pytest.mark.full
def test_a_commands_output_and_status_come_back_and_nothing_else(world):
    """Both programs are there, systemd runs, and control groups are those of v2 alone, with every controller."""
    script = ("skink --version; skink-oci --version | head -n 1; cat; cat /proc/1/comm /sys/fs/cgroup/cgroup.controllers; "
              "systemctl is-system-running --wait; stat -f -c %T /tmp; logger -t word of-the-test; journalctl -t word -o cat;"
              "modprobe -a overlay erofs loop dummy veth fuse; echo to-err >&2; echo result >/out/file; exit 7")
    done = subprocess.run([VM, "--build", BUILD, "--out", world.path("out"), "sh", "-c", script], input=b"from-in\n",
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.stderr == b"to-err\n", done
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("skink version") and lines[1].startswith("skink-oci version"), done
    assert lines[2:] == ["from-in", "systemd", "cpuset cpu io memory hugetlb pids rdma misc", "running", "ext2/ext3",
                         "of-the-test"], done
    assert done.returncode == 7
    assert read_text(world.path("out/file")) == "result\n"


@pytest.mark.full
def test_a_machine_that_ends_by_itself_is_no_success(world):
    """A panic ends qemu with status 0."""
    done = subprocess.run([VM, "--build", BUILD, "sh", "-c", "echo before; sleep 3; echo c >/proc/sysrq-trigger; sleep 1000"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.stdout == b"before\n"
    assert done.returncode == 125
    assert b"tools/vm: the virtual machine ended" in done.stderr and b"sysrq" in done.stderr


@pytest.mark.full
def test_a_disk_outlives_reboots_and_power_failures(world):
    with machine.Machine(disk=world.path("disk"), build=BUILD) as one:
        first = one.boot_id
        assert one.shell("echo kept >/root/kept; sync; echo lost >/root/lost").status == 0
        one.pull_the_plug()
        one.boot()
        second = one.boot_id
        assert one.run(["cat", "/root/kept"]).out == "kept\n"
        assert one.run(["ls", "/root/lost"]).status == 2
        one.reboot()
        assert len({first, second, one.boot_id}) == 3
        assert one.run(["cat", "/root/kept"]).out == "kept\n"


def host_mounts(world):
    """Those of other tests that run at the same time left out."""
    return [line for line in read_text("/proc/self/mountinfo").splitlines() if "/skink-test-" not in line or world.base in line]


def open_files(pid):
    found = []
    for fd in listdir("/proc/%d/fd" % pid):
        try:
            found.append(os.readlink("/proc/%d/fd/%s" % (pid, fd)))
        except OSError:
            pass
    return found


@pytest.mark.parametrize("number", [9, 15])
def test_nothing_is_left_when_it_is_killed(world, number):
    os.mkdir(world.path("tmp"))
    mounts = host_mounts(world)
    started = subprocess.Popen([VM, "--build", BUILD, "sleep", "1000"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, env=dict(os.environ, TMPDIR=world.path("tmp")))
    qemu = wait_for(lambda: [pid for pid in children_of(started.pid) if read_text("/proc/%d/comm" % pid, "").startswith("qemu")],
                    120)[0]
    # qemu itself has a file under its name for an instant: the disk's changes, in TMPDIR.
    wait_for(lambda: any(world.path("tmp") in one for one in open_files(qemu)), 60)
    wait_for(lambda: os.listdir(world.path("tmp")) == [], 60)
    started.send_signal(number)
    started.wait()
    wait_for(lambda: not read_text("/proc/%d/cmdline" % qemu, ""))
    assert os.listdir(world.path("tmp")) == []
    assert host_mounts(world) == mounts

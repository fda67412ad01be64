# SPDX-License-Identifier: Apache-2.0
"""Limits and policies of config.json for what this machine may not have, but the virtual one has: hierarchies of cgroup v1
that are free to be mounted, disks with a scheduler of one's choice, the rdma controller, two NUMA nodes."""

import os
import re
import subprocess

import pytest
from skinktest import cgroup_dir, read_text

from test_oci import state
from test_spec_process import SLEEP, started

pytestmark = [pytest.mark.vm_only, pytest.mark.vm_more, pytest.mark.timeout(300)]


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


# network: net_cls and net_prio are on no hierarchy of v2, so one of v1 can be had beside it.

@pytest.fixture
def hybrid(world):
    """What to put before a command so that it sees that hierarchy too, and where the test sees it."""
    top = world.path("net")
    os.makedirs(top)
    subprocess.run(["mount", "-t", "cgroup", "-o", "net_cls,net_prio", "none", top], check=True)
    script = ('mount --rbind /sys/fs/cgroup "$0"; mount -t tmpfs none /sys/fs/cgroup; cd /sys/fs/cgroup; mkdir unified net_cls,net_prio; '
              'mount --move "$0" unified; mount --bind "$1" net_cls,net_prio; shift; exec "$@"')
    os.makedirs(world.path("v2"))
    yield top, ["unshare", "-m", "--propagation", "private", "sh", "-ec", script, world.path("v2"), top]
    subprocess.run(["umount", top], check=True)


def test_network(oci, bundle, world, hybrid):
    top, before = hybrid
    b, name = bundle(SLEEP), world.name()
    path = b.config["linux"]["cgroupsPath"] = "/skink-test-" + world.id
    b.config["linux"]["resources"] = {"network": {"classID": 0x100001, "priorities": [{"name": "lo", "priority": 5}]}}
    oci.ok("create", "--bundle", b.save().dir, name, before=before)
    pid = state(oci, name)["pid"]
    assert any(re.match(r"\d+:net_cls,net_prio:%s$" % path, line) for line in read_text("/proc/%d/cgroup" % pid).splitlines())
    assert read_text(top + path + "/net_cls.classid").strip() == str(0x100001)
    assert "lo 5" in read_text(top + path + "/net_prio.ifpriomap").splitlines()
    oci.ok("update", "-r", "-", name, before=before, input='{"network":{"classID":7,"priorities":[{"name":"lo","priority":0}]}}')
    assert read_text(top + path + "/net_cls.classid").strip() == "7"
    assert "lo 0" in read_text(top + path + "/net_prio.ifpriomap").splitlines()
    oci.ok("delete", "--force", name, before=before)
    assert not os.path.exists(top + path)
    b.config["linux"]["resources"]["network"] = {"priorities": [{"name": "nosuch0", "priority": 5}]}
    oci.fails("create", "--bundle", b.save().dir, name, before=before, match=[r"linux\.resources\.network\.priorities\[0\]", "nosuch0"])


# blockIO: weights of devices, for the two schedulers that have any.

@pytest.fixture(scope="module")
def disks():
    """Two disks of nothing, as "MAJOR:MINOR"."""
    subprocess.run(["modprobe", "null_blk", "nr_devices=2", "gb=1"], check=True)
    return [read_text("/sys/block/nullb%d/dev" % number).strip() for number in range(2)]


def weights(device, weight):
    major, minor = (int(number) for number in device.split(":"))
    return {"blockIO": {"weight": 50, "weightDevice": [{"major": major, "minor": minor, "weight": weight}]}}


def io_file(oci, world, b, file):
    directory, version = cgroup_dir(started(oci, world, b), "io")
    assert version == 2
    return read_text(os.path.join(directory, file)).splitlines()


def test_weights_of_devices_with_io_cost(oci, bundle, world, disks):
    """From 1 to 10000 there."""
    if "bfq" in read_text("/proc/modules"):
        pytest.skip("where BFQ is there, weights are its")
    write("/sys/fs/cgroup/io.cost.qos", disks[1] + " enable=1")
    try:
        b = bundle(SLEEP)
        b.config["linux"]["resources"] = weights(disks[1], 505)
        assert io_file(oci, world, b, "io.weight") == ["default 405", "%s 5000" % disks[1]]
    finally:
        write("/sys/fs/cgroup/io.cost.qos", disks[1] + " enable=0")


def test_weights_of_devices_with_bfq(oci, bundle, world, disks):
    subprocess.run(["modprobe", "bfq"], check=True)
    write("/sys/block/nullb0/queue/scheduler", "bfq")
    b = bundle(SLEEP)
    b.config["linux"]["resources"] = weights(disks[0], 333)
    assert io_file(oci, world, b, "io.bfq.weight") == ["default 50", "%s 333" % disks[0]]
    name = world.name()
    b.config["linux"]["resources"] = weights("4000:1", 333)
    oci.fails("create", "--bundle", b.save().dir, name, match=[r"linux\.resources\.blockIO\.weightDevice\[0\]", "io.bfq.weight"])


# rdma: the controller is there, a device with its handles is not.

def test_rdma_is_for_the_kernel_to_refuse(oci, bundle, world):
    b = bundle()
    b.config["linux"]["resources"] = {"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 9}}}
    oci.fails("create", "--bundle", b.save().dir, world.name(),
              match=[r"linux\.resources\.rdma\[.mlx5_1.\]", 'write "mlx5_1 hca_handle=3 hca_object=9" to .*/rdma.max', "No such device"])
    assert world.leaks(3) == []


# Memory of two nodes

def pages(pid):
    """How many pages of its own memory are on each node; those of a mapped file are where somebody has read it first."""
    found = {}
    for line in read_text("/proc/%d/numa_maps" % pid).splitlines():
        if "anon=" in line and "file=" not in line:
            for node, count in re.findall(r"N(\d+)=(\d+)", line):
                found[int(node)] = found.get(int(node), 0) + int(count)
    return found


@pytest.mark.parametrize("policy, shown", [
    ({"mode": "MPOL_BIND", "nodes": "1"}, "bind:1"), ({"mode": "MPOL_INTERLEAVE", "nodes": "0-1"}, "interleave:0-1"),
    ({"mode": "MPOL_INTERLEAVE", "nodes": "0,1", "flags": ["MPOL_F_STATIC_NODES"]}, "interleave=static:0-1"),
    ({"mode": "MPOL_PREFERRED", "nodes": "1"}, "prefer:1"), ({"mode": "MPOL_PREFERRED_MANY", "nodes": "0-1"}, "prefer (many):0-1")])
def test_memory_policy_of_several_nodes(oci, bundle, world, policy, shown):
    assert os.path.isdir("/sys/devices/system/node/node1")
    b = bundle(SLEEP)
    b.config["linux"]["memoryPolicy"] = policy
    pid = started(oci, world, b)
    assert read_text("/proc/%d/numa_maps" % pid).splitlines()[0].split(" ", 1)[1].startswith(shown)
    on = pages(pid)
    if shown == "bind:1":
        assert on.get(1, 0) > 0 and on.get(0, 0) == 0, on
    elif shown == "prefer:1":
        assert on.get(1, 0) > on.get(0, 0), on


def test_memory_nodes_of_a_group(oci, bundle, world):
    b = bundle(SLEEP)
    b.config["linux"]["resources"] = {"cpu": {"mems": "1"}}
    pid = started(oci, world, b)
    assert read_text(os.path.join(cgroup_dir(pid, "cpuset")[0], "cpuset.mems.effective")).strip() == "1"
    assert re.search(r"^Mems_allowed_list:\s*1$", read_text("/proc/%d/status" % pid), re.M)

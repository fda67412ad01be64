# SPDX-License-Identifier: Apache-2.0
"""skink-oci update: by options and by documents, of containers in every state."""

import json
import os

import pytest
from skinktest import cgroup_dir, cgroup_value, read_text, wait_for

from test_oci_verbs import SLEEP, create, running, state, status


LIMITS = [  # option, value, controller, v1 file, v1 value, v2 file, v2 value
    (["--memory", "67108864"], "memory", "memory.limit_in_bytes", "67108864", "memory.max", "67108864"),
    (["--memory=64m"], "memory", "memory.limit_in_bytes", "67108864", "memory.max", "67108864"),
    (["--memory-reservation", "33554432"], "memory", "memory.soft_limit_in_bytes", "33554432", "memory.low", "33554432"),
    (["--cpu-quota", "25000"], "cpu", "cpu.cfs_quota_us", "25000", "cpu.max", "25000 100000"),
    (["--cpu-period", "50000"], "cpu", "cpu.cfs_period_us", "50000", "cpu.max", "max 50000"),
    (["--cpu-share", "512"], "cpu", "cpu.shares", "512", "cpu.weight", "59"),
    (["--cpu-idle", "1"], "cpu", "cpu.idle", "1", "cpu.idle", "1"),
    (["--cpu-quota", "20000", "--cpu-burst", "10000"], "cpu", "cpu.cfs_burst_us", "10000", "cpu.max.burst", "10000"),
    (["--cpuset-cpus", "0"], "cpuset", "cpuset.cpus", "0", "cpuset.cpus", "0"),
    (["--cpuset-mems", "0"], "cpuset", "cpuset.mems", "0", "cpuset.mems", "0"),
    (["--pids-limit", "44"], "pids", "pids.max", "44", "pids.max", "44"),
    (["--pids-limit", "-1"], "pids", "pids.max", "max", "pids.max", "max"),
]


@pytest.mark.parametrize("row", LIMITS, ids=lambda row: " ".join(row[0]))
def test_update_by_options(oci, bundle, world, row):
    options, controller, v1_file, v1_value, v2_file, v2_value = row
    name = running(oci, world, bundle(SLEEP))
    pid = state(oci, name)["pid"]
    directory, version = cgroup_dir(pid, controller)
    if not os.path.exists(os.path.join(directory, v1_file if version == 1 else v2_file)):
        pytest.skip("this kernel has no such limit")
    assert oci.ok("update", *options, name) == ""
    assert cgroup_value(pid, controller, v1_file, v2_file) == (v1_value if version == 1 else v2_value)


def test_update_of_swap_and_weight(oci, bundle, world):
    name = running(oci, world, bundle(SLEEP))
    pid = state(oci, name)["pid"]
    directory, version = cgroup_dir(pid, "memory")
    if os.path.exists(directory + ("/memory.memsw.limit_in_bytes" if version == 1 else "/memory.swap.max")):
        oci.ok("update", "--memory", "64m", "--memory-swap", "96m", name)
        assert cgroup_value(pid, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max") == \
            str((96 if version == 1 else 32) << 20)
    oci.fails("update", "--blkio-weight", "5", name, status=1, match="10 to 1000")
    oci.fails("update", "--memory", "64m", "--memory-swap", "32m", name, status=1, match="swap")


@pytest.mark.parametrize("form", [["--resources", "-"], ["--resources=-"], ["-r", "-"], ["-r-"], ["-resources", "-"],
                                  ["--resources", "FILE"], ["--resources=FILE"], ["-r", "FILE"]], ids=" ".join)
def test_update_by_a_document(oci, bundle, world, form):
    """Absent members stay; engines send null and empty ones too."""
    b = bundle(SLEEP)
    b.config["linux"]["resources"] = {"memory": {"limit": 128 << 20}, "pids": {"limit": 99}, "cpu": {"shares": 512}}
    b.save()
    name = running(oci, world, b)
    pid = state(oci, name)["pid"]
    text = json.dumps({"pids": {"limit": 77}, "cpu": {}, "memory": None, "blockIO": {"weight": 0}, "devices": None, "future": 1})
    path = world.write("resources", text)
    oci.ok("update", *[word.replace("FILE", path) for word in form], name, input=text if "-" in form[-1][-1] else None)
    assert cgroup_value(pid, "pids", "pids.max", "pids.max") == "77"
    assert cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(128 << 20)
    assert cgroup_value(pid, "cpu", "cpu.shares", "cpu.weight") in ("512", "59")


@pytest.mark.parametrize("text", [
    "null", " null\n", "{}", '{"memory":null,"cpu":null,"pids":null,"blockIO":null,"hugepageLimits":null,"network":null,"rdma":null,"unified":null,"devices":null}',
    '{"memory":{"limit":null,"swap":null},"cpu":{"shares":null,"cpus":null,"mems":null},"pids":{"limit":null},"blockIO":{"weight":null,"weightDevice":null}}'])
def test_update_by_a_document_of_nothing(oci, bundle, world, text):
    b = bundle(SLEEP)
    b.config["linux"]["resources"] = {"memory": {"limit": 128 << 20}, "pids": {"limit": 99}}
    b.save()
    name = create(oci, world, b)
    pid = state(oci, name)["pid"]
    oci.ok("update", "--resources", "-", name, input=text)
    assert cgroup_value(pid, "pids", "pids.max", "pids.max") == "99"
    assert cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(128 << 20)


def test_update_an_option_wins_over_the_document(oci, bundle, world):
    name = create(oci, world, bundle(SLEEP))
    oci.ok("update", "--resources", "-", "--pids-limit", "55", name, input='{"pids":{"limit":66}}')
    assert cgroup_value(state(oci, name)["pid"], "pids", "pids.max", "pids.max") == "55"


def test_update_of_created_paused_and_stopped(oci, bundle, world):
    name = create(oci, world, bundle(SLEEP))
    pid = state(oci, name)["pid"]
    oci.ok("update", "--pids-limit", "61", name)
    oci.ok("start", name)
    oci.ok("pause", name)
    oci.ok("update", "--pids-limit", "62", "--memory", "64m", name)
    assert status(oci, name) == "paused"
    assert cgroup_value(pid, "pids", "pids.max", "pids.max") == "62"
    oci.ok("kill", name, "9")
    wait_for(lambda: status(oci, name) == "stopped")
    oci.fails("update", "--pids-limit", "63", name, status=1, match="container not running")
    oci.fails("update", "--pids-limit", "63", "unknown-" + world.id, status=1, match="container does not exist")


@pytest.mark.vm
def test_update_checks_what_is_in_use_when_it_is_told_to(oci, bundle, world):
    name = running(oci, world, bundle(SLEEP))
    pid = state(oci, name)["pid"]
    directory, version = cgroup_dir(pid, "memory")
    usage = directory + ("/memory.usage_in_bytes" if version == 1 else "/memory.current")
    before = cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max")
    wait_for(lambda: int(read_text(usage)) > 100000)
    oci.fails("update", "-r", "-", name, input='{"memory":{"limit":4096,"checkBeforeUpdate":true}}', status=1,
              match="checkBeforeUpdate")
    assert cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max") == before


WRONG = [('{"memory":{"limit":"lots"}}', "memory.limit"), ('{"pids":{"limit":5},"pids":{"limit":9}}', "twice"), ("{", "byte"), ("[]", "object"), ('{"cpu":{"cpus":"x"}}', "cpus"),
         ('{"unified":{"../x":"1"}}', r"\.\./x"), ('{"unified":{"cgroup.procs":"1"}}', "cgroup.procs"),
         ('{"hugepageLimits":[{"pageSize":"../2MB","limit":1}]}', "pageSize"),
         ('{"rdma":{"a/b":{"hcaHandles":1}}}', "rdma"), ('{"network":{"priorities":[{"name":"a/b","priority":1}]}}', "name"),
         ('{"unified":{"%s":"1"}}' % ("m." + "x" * 300), "unified")]


@pytest.mark.parametrize("row", WRONG, ids=lambda row: row[0][:40])
def test_a81_update_refuses_documents(oci, bundle, world, canary, row):
    name = create(oci, world, bundle(SLEEP))
    oci.fails("update", "-r", "-", name, input=row[0], status=1, match=row[1])
    path = world.write("document", row[0])
    oci.fails("update", "-r", path, name, status=1, match=row[1])


def test_update_of_what_is_not_there(oci, bundle, world):
    name = create(oci, world, bundle(SLEEP))
    oci.fails("update", "--resources", world.path("none"), name, status=1, match="none")
    oci.fails("update", "--l3-cache-schema", "L3:0=f", name, status=1, match="l3-cache-schema")
    oci.fails("update", "--cpu-share", "many", name, status=1, match="cpu-share")
    result = oci("update", "--kernel-memory", "1000000", name)
    assert result.status == 0 and "kernel-memory" in result.err and result.err.count("\n") == 1


def test_a46_update_opens_no_device(oci, bundle, world):
    """A device that is denied stays denied at every moment of many updates."""
    out = world.path("out")
    os.mkdir(out)
    b = bundle(["sh", "-c", "busybox mknod /dev/sneak b 7 0 || exit 3; echo >/out/ready; "
                "while :; do if dd if=/dev/sneak of=/dev/null bs=1 count=0 2>/out/error; then echo open >>/out/opened; fi; done"])
    b.config["mounts"].append({"destination": "/out", "type": "bind", "source": out, "options": ["bind", "rw"]})
    b.config["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    b.save()
    name = running(oci, world, b)
    wait_for(lambda: os.path.exists(out + "/ready"))
    document = json.dumps({"devices": [{"allow": True, "access": "rwm"}], "pids": {"limit": 500}})
    for _ in range(25):
        oci.ok("update", "--resources", "-", name, input=document)
    wait_for(lambda: "not permitted" in read_text(out + "/error", ""), message="the loop tries nothing")
    assert not os.path.exists(out + "/opened")
    assert status(oci, name) == "running"

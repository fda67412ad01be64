# SPDX-License-Identifier: Apache-2.0
"""config.json: numbers beyond what Linux takes are refused with their JSON path while nothing has been made yet, not when
the kernel is asked, which cuts some of them without a word."""

import json

import pytest
from skinktest import read_text

U64 = 2**64 - 1
I64 = 2**63 - 1
WEIGHTS = [9, 1001, 65535]
DEADLINE = {"policy": "SCHED_DEADLINE", "runtime": 200000, "deadline": 300000, "period": 400000}

# A member, with what has to stand beside it, and values that it cannot have.
OUTSIDE = [
    ("linux.resources.cpu.period", {}, [1, 999, 1000001, U64]),
    ("linux.resources.cpu.quota", {}, [1, 999, I64]), ("linux.resources.cpu.burst", {"quota": 5000}, [5001, U64]),
    ("linux.resources.cpu.realtimeRuntime", {}, [1000001, I64]), ("linux.resources.cpu.realtimeRuntime", {"realtimePeriod": 5000}, [5001]),
    ("linux.resources.cpu.realtimePeriod", {}, [U64]), ("linux.resources.cpu.idle", {}, [2, -1]),
    ("linux.resources.cpu.cpus", {}, ["8192", "0-8192", "4294967296"]), ("linux.resources.cpu.mems", {}, ["1024", "0-9999"]),
    ("linux.resources.pids.limit", {}, [4194305, I64]),
    ("linux.resources.blockIO.weight", {}, WEIGHTS), ("linux.resources.blockIO.leafWeight", {}, WEIGHTS),
    ("linux.resources.blockIO.weightDevice.0.weight", {"major": 8, "minor": 0}, WEIGHTS),
    ("linux.resources.blockIO.weightDevice.0.major", {"minor": 0, "weight": 10}, [-1, 4096, 2**32]),
    ("linux.resources.blockIO.throttleReadBpsDevice.0.minor", {"major": 8, "rate": 1}, [-1, 2**20]),
    ("linux.resources.memory.swappiness", {}, [101, U64]), ("linux.resources.memory.limit", {}, [-2, -I64]),
    ("linux.resources.memory.swap", {"limit": 2000000}, [1999999]), ("linux.resources.network.classID", {}, [2**32]),
    ("linux.resources.devices.0.major", {"allow": True}, [-2, 2**32]), ("linux.resources.devices.0.minor", {"allow": True}, [-2, 2**32]),
    ("linux.resources.rdma.mlx5_1.hcaHandles", {}, [-1, 2**32]),
    ("linux.devices.0.major", {"path": "/dev/x", "type": "c", "minor": 0}, [4096]), ("linux.devices.0.minor", {"path": "/dev/x", "type": "c", "major": 1}, [2**20]),
    ("process.rlimits.0.soft", {"type": "RLIMIT_CORE", "hard": 5}, [6]), ("process.oomScoreAdj", {}, [1001, -1001, 2**31]),
    ("process.rlimits.0.hard", {"type": "RLIMIT_NOFILE", "soft": 1}, ["above nr_open"]),
    ("process.scheduler.runtime", DEADLINE, [1023]), ("process.scheduler.period", DEADLINE, [4194304001]),
    ("process.scheduler.deadline", {"policy": "SCHED_DEADLINE", "runtime": 2000}, [99999]),
    ("process.scheduler.priority", {"policy": "SCHED_FIFO"}, [0, 100]), ("process.scheduler.nice", {"policy": "SCHED_OTHER"}, [20, -21]),
    ("process.ioPriority.priority", {"class": "IOPRIO_CLASS_BE"}, [8, -1]), ("process.user.uid", {}, [2**32 - 1, 2**32, -1]),
    ("process.user.additionalGids.0", {}, [2**32 - 1]), ("process.user.umask", {}, [512]),
    ("linux.timeOffsets.boottime.secs", {}, [4611686019, -4611686019, I64]),
    ("linux.memoryPolicy.nodes", {"mode": "MPOL_BIND"}, ["1024"]), ("linux.personality.domain", {}, ["LINUX64"]),
    ("linux.intelRdt.schemata.0", {}, ["L3:0=f\nL3:1=f"]),
    ("ociVersion", {}, ["1", "1.0", "1.0.x", "v1.0.0", "2.0.0", "0.9.9", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.0+", "1.0.0 ", "1.0.0-01", "-1.0.0"])]
POINTS = [(path, beside, value) for path, beside, values in OUTSIDE for value in values]


def place(config, path, beside, value):
    """Puts the value and what is beside it where the path says; a number is the first of a list."""
    steps, inner = path.split("."), config
    for step, after in zip(steps[:-1], steps[1:]):
        fresh = [] if after == "0" else {}
        if isinstance(inner, list):
            inner.append(fresh)
            inner = inner[-1]
        else:
            inner = inner.setdefault(step, fresh)
    if isinstance(inner, list):
        inner.append(value)
    else:
        inner.update(beside)
        inner[steps[-1]] = value


def shown(path):
    """As an error names it."""
    words = [word if word != "0" else None for word in path.split(".")]
    text = ""
    for word in words:
        text += "[0]" if word is None else "." + word if text else word
    return text.replace(".mlx5_1.", '["mlx5_1"].').replace(".boottime.", '["boottime"].')


def refused(oci, b, world, path, beside, value):
    if value == "above nr_open":
        value = int(read_text("/proc/sys/fs/nr_open")) + 1
    base = json.loads(json.dumps(b.config))
    if "timeOffsets" in path:
        base["linux"]["namespaces"].append({"type": "time"})
    if path.startswith("process.rlimits"):
        base["process"]["rlimits"] = []
    place(base, path, beside, value)
    b.save(json.dumps(base))
    name = world.name()
    result = oci("--debug", "create", "--bundle", b.dir, name)
    what = "%s = %r: %r" % (path, value, result)
    assert result.status == 1 and (shown(path) in result.err or shown(path).replace('["', ".").replace('"]', "") in result.err), what
    assert "control groups" not in result.err and "is valid" not in result.err, what


def test_numbers_beyond_those_of_linux(oci, bundle, world):
    """One value of each member; all of them in the next test."""
    b = bundle(["true"])
    for index, (path, beside, values) in enumerate(OUTSIDE):
        refused(oci, b, world, path, beside, values[index % len(values)])
    assert world.leaks(3) == []


@pytest.mark.full
def test_all_numbers_beyond_those_of_linux(oci, bundle, world):
    b = bundle(["true"])
    for path, beside, value in POINTS:
        refused(oci, b, world, path, beside, value)
    assert world.leaks(3) == []


@pytest.mark.full
@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.3.0+build.5", "1.99.7-rc.1+x"])
def test_versions_that_are_taken(oci, bundle, world, version):
    b = bundle(["echo", "ran"])
    b.config["ociVersion"] = version
    assert oci.ok("run", "--bundle", b.save().dir, world.name()) == "ran"

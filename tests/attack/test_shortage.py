# SPDX-License-Identifier: Apache-2.0
"""Want of memory and of processes: ulimit -v on the program (F18), a container that has used up its pids.max (F38)."""

import subprocess

import pytest
from skinktest import ALL, SKINK, cgroup_value, wait_for

STEP = (8 if ALL else 64) << 10


def limits(program):
    """From the least address space in which the kernel can execute the program at all, to where there is enough."""
    def starts(size):
        return subprocess.run(["prlimit", "--as=%d" % size, program, "--version"], capture_output=True).returncode == 0
    least = next(size for size in range(1 << 20, 64 << 20, 64 << 10) if starts(size))
    return range(least, least + (1 << 20), STEP)


@pytest.mark.parametrize("verb", [["run", "--rm", "busybox", "true"], ["ps", "-a"], ["images"]], ids=lambda verb: verb[0])
def test_f18_no_address_space(sk, verb):
    """An error with its reason, never a signal; what was begun is cleared away by the next command."""
    sk.ok("run", "--rm", "busybox", "true")
    seen = set()
    for size in limits(SKINK):
        result = sk(*verb, before=["prlimit", "--as=%d" % size])
        assert result.status in (0, 1, 125), "%d: %r" % (size, result)
        if result.status:
            assert result.err.splitlines()[-1].startswith("skink: ") and "memory" in result.err, "%d: %r" % (size, result)
        seen.add(result.status)
    assert 0 in seen
    wait_for(lambda: sk.ok("ps", "-a", "-q") == "")
    sk.ok("heal")


def test_f38_no_process_left(sk):
    """Whatever needs no process inside works on; what needs one says which limit it is."""
    name = sk.running("--pids-limit", "3", command=["sh", "-c", "sleep 1000 & sleep 1000 & wait"])
    wait_for(lambda: cgroup_value(sk.pid(name), "pids", "pids.current", "pids.current") == "3")
    sk.fails("exec", name, "true", status=125, match=r"pids\.max\).*raise that")
    assert sk.state(name) == "running"
    assert len(sk.ok("top", name).splitlines()) == 4
    for verb in ("pause", "unpause", "kill"):
        sk.ok(verb, name)
    wait_for(lambda: sk.state(name) == "exited")
    sk.ok("rm", name)

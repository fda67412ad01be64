# SPDX-License-Identifier: Apache-2.0
"""run --bundle: an OCI bundle under the same supervision."""

import os
import shutil
import subprocess

import pytest
from skinktest import SKINK_OCI, sanitized, wait_for


def test_a_bundle_runs(bare, bundle):
    b = bundle(["sh", "-c", "echo from a bundle; hostname; exit 6"])
    result = bare("run", "--rm", "--bundle", b.dir)
    assert (result.status, result.out) == (6, "from a bundle\nbundle\n"), result


def test_a_bundle_is_supervised(bare, bundle, world):
    name = world.name()
    bare.ok("run", "-d", "--name", name, "--restart", "always", "--bundle", bundle(["sleep", "1000"]).dir)
    pid = bare.pid(name)
    os.kill(pid, 9)
    wait_for(lambda: bare.pid(name) not in (0, pid))
    assert bare.ok("exec", name, "echo", "x") == "x"
    bare.ok("stop", "-t", "1", name)


def test_a_bundle_that_is_wrong(bare, bundle, world):
    bare.fails("run", "--rm", "--bundle", world.path("none"), status=125, match="none")
    b = bundle()
    b.save("{ this is no json")
    bare.fails("run", "--rm", "--bundle", b.dir, status=125, match="config.json")
    b.config["process"]["args"] = "not a list"
    b.save()
    bare.fails("run", "--rm", "--bundle", b.dir, status=125, match="process.args")
    ids = [{"containerID": 0, "hostID": 100000, "size": 10}]
    for member, value in (("uidMappings", ids), ("gidMappings", ids), ("timeOffsets", {"monotonic": {"secs": 1}})):
        b = bundle()
        b.config["linux"][member] = value
        b.save()
        bare.fails("run", "--rm", "--bundle", b.dir, status=125, match="linux.%s.*namespace" % ("timeOffsets" if "time" in member else "uidMappings"))
    b = bundle(["/no/such"])
    bare.fails("run", "--rm", "--bundle", b.dir, status=127, match="/no/such")


def test_in_a_chroot_whose_root_is_no_mount(world, bundle):
    """An installer or a build root: neither can "/" be made private there nor pivoted away from."""
    if sanitized():
        pytest.skip("with sanitizers the program needs the libraries of the host")
    b = bundle(["sh", "-c", "echo inside; cat /proc/self/mountinfo"])
    root = world.path("jail")
    for name in ("proc", "sys", "dev", "state", "bundle"):
        os.makedirs(os.path.join(root, name))
    shutil.copy(SKINK_OCI, os.path.join(root, "skink-oci"))
    b.config["root"]["path"] = "/bundle/rootfs"
    b.config["linux"]["cgroupsPath"] = "/" + world.name()
    b.save()
    shutil.copytree(b.dir, os.path.join(root, "bundle"), symlinks=True, dirs_exist_ok=True)
    script = """set -e
        for name in proc sys dev; do mount --rbind /$name "$1/$name"; done
        exec chroot "$1" /skink-oci --root /state run --bundle /bundle jailed"""
    done = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", root],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"inside\n")
    points = [line.split()[4] for line in done.stdout.decode().splitlines()[1:]]
    assert points[0] == "/" and not any("jail" in point for point in points), points


@pytest.mark.full
@pytest.mark.timeout(400)
def test_the_end_of_a_machine_does_not_wait_for_a_hook_that_hangs(bare, bundle, world):
    """Two minutes in which nothing moves are enough; any other stop waits as long as a launch takes."""
    b, name = bundle(["sleep", "1000"]), world.name()
    b.config["hooks"] = {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"]}]}
    launch = bare.start("run", "-d", "--name", name, "--bundle", b.save().dir, stderr=subprocess.DEVNULL)
    wait_for(lambda: (bare.row(name) or {}).get("supervisor_pid"))
    result = bare("stop", "--all", "--for-reboot", "-t", "0", timeout=300)
    assert result.status == 1 and "its supervisor has done nothing for" in result.err, result
    bare.ok("rm", "-f", name, timeout=100)
    launch.wait(timeout=60)

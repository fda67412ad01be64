# SPDX-License-Identifier: Apache-2.0
"""skink in a container that has control groups of its own: as a machine for building, or Docker in Docker."""

import os
import shutil

import pytest
from skinktest import SKINK, SKINK_OCI, Bundle, busybox_image, mkimg, sanitized, v2_alone

pytestmark = [pytest.mark.vm, pytest.mark.skipif(sanitized(), reason="a container has not the libraries of the sanitizers")]
EVERY = ["CAP_" + name for name in (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_ADMIN NET_RAW IPC_LOCK SYS_CHROOT "
    "SYS_PTRACE SYS_ADMIN SYS_RESOURCE MKNOD AUDIT_WRITE SETFCAP").split()]


# On v2 a group with processes gives no controllers to groups below it.
MAKE_ROOM = "mkdir /sys/fs/cgroup/init; for p in $(cat /sys/fs/cgroup/cgroup.procs); do echo $p >/sys/fs/cgroup/init/cgroup.procs || true; done; "

START = "set -e; S='skink --root /store --run /run/skink'; "
LIFE = ("$S load /image.tar; $S run --rm busybox echo ran; $S run -d --name web --restart always busybox sleep 1000; $S exec web echo inside; "
        "$S ps --format '{{.Names}} {{.State}}'; kill -9 $($S inspect --format '{{.State.Pid}}' web); "
        "while [ \"$($S inspect --format '{{.RestartCount}}' web)\" != 1 ]; do sleep 0.1; done; $S exec web echo again; $S stop -t 1 web; $S rm web; "
        "$S ps -a -q; ls /run/skink/containers /store/containers")


def lived(result):
    assert result.status == 0, result
    assert [line for line in result.out.split("\n") if line in ("ran", "inside", "web running", "again")] == ["ran", "inside", "web running", "again"], result


@pytest.fixture
def outer(oci, world):
    """Runs a script in a container with all that the host's root has but the host."""
    def run(script, room=True, timeout=120):
        b = Bundle(world, ["sh", "-c", START + (MAKE_ROOM if room and v2_alone() else "") + script])
        b.config["process"]["capabilities"] = {kind: EVERY for kind in ("bounding", "effective", "permitted")}
        b.config["process"]["noNewPrivileges"] = False
        b.config["linux"]["maskedPaths"] = b.config["linux"]["readonlyPaths"] = []
        b.config["mounts"] += [{"destination": path, "type": "tmpfs", "source": "tmpfs", "options": ["mode=0700"]} for path in ("/store", "/run")]
        b.config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev"]})
        b.config["mounts"].append({"destination": "/image.tar", "type": "bind", "source": world.path("image.tar"), "options": ["bind", "ro"]})
        mkimg.oci_archive(world.path("image.tar"), busybox_image())
        for program in (SKINK, SKINK_OCI):
            shutil.copy(program, os.path.join(b.rootfs, "bin", os.path.basename(program)))
        for path in ("store", "image.tar"):
            open(os.path.join(b.rootfs, path), "w").close() if path.endswith(".tar") else os.mkdir(os.path.join(b.rootfs, path))
        return oci("run", "--bundle", b.save().dir, world.name(), timeout=timeout)
    return run


def test_the_life_of_a_container_in_a_container(outer, world):
    lived(outer(LIFE))
    assert world.leaks() == []


@pytest.mark.vm_more
def test_the_oci_runtime_in_a_container(outer, world):
    result = outer("mkdir /tmp/b /tmp/b/rootfs; cd /tmp/b; cp -a /bin rootfs/; skink-oci spec; sed -i -e 's/\"terminal\": true/\"terminal\": false/' config.json; "
                   "echo 'echo $((6 * 7))' | skink-oci run one; skink-oci list -q; ls -d /sys/fs/cgroup/*/skink* /sys/fs/cgroup/skink* || true")
    assert result.status == 0 and result.out.split() == ["42"], result
    assert world.leaks() == []


def test_limits_in_a_container(outer, world):
    script = "$S load -q /image.tar; $S run --rm -m 64m busybox true && echo done"
    if v2_alone():
        result = outer(script, room=False)
        assert result.status == 125 and "processes of its own" in result.err and "move them into a sub-group" in result.err, result
        told = outer("$S doctor || echo status $?", room=False)
        assert "there are processes in this group itself" in told.out and told.out.endswith("status 1\n"), told
        assert "there are processes in this group itself" not in outer("$S doctor || true").out
    result = outer(script)
    assert result.status == 0 and result.out.endswith("done\n"), result
    assert world.leaks() == []

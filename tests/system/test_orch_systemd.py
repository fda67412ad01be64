# SPDX-License-Identifier: Apache-2.0
"""podman, containerd and docker with skink-oci on a machine that systemd runs, with systemd's driver for control groups, as
docs/orchestrators.md has it: each container is a scope in the slice that the engine names, and gone with it."""

import json
import os

import pytest
from cell import Guest, checked, kept
from skinktest import SKINK, read_text, wait_for
from test_nested import LIFE, MAKE_ROOM, START, lived
from test_orch_containerd import Containerd, container_config
from test_orch_docker import Docker
from test_orch_podman import IMAGE, Podman
from test_systemd import TOP, shown, systemctl

# Their packages are in the machine of --vm and --all alone.
pytestmark = [pytest.mark.vm_only, pytest.mark.vm_more, pytest.mark.timeout(900)]
MIB = 1 << 20


class GuestPodman(Podman):
    place = Guest


class GuestContainerd(Containerd):
    place = Guest


class GuestDocker(Docker):
    place = Guest


@pytest.fixture(scope="module")
def podman_engine():
    yield from kept(GuestPodman, "podman")


@pytest.fixture(scope="module")
def containerd_engine():
    yield from kept(GuestContainerd, "containerd")


@pytest.fixture(scope="module")
def docker_engine():
    yield from kept(GuestDocker, "docker")


@pytest.fixture
def podman(podman_engine):
    yield from checked(podman_engine, lambda: podman_engine.remove("-a"), r"libpod-[0-9a-f]{64}\.scope$")
    assert scopes("libpod-*") == []


@pytest.fixture
def containerd(containerd_engine):
    yield from checked(containerd_engine, containerd_engine.remove_all, r"\.scope$")


@pytest.fixture
def docker(docker_engine):
    yield from checked(docker_engine, docker_engine.remove_all, r"\.scope$")
    assert scopes("docker-*") == []


def scopes(pattern):
    """Loaded scopes, whatever became of them."""
    return [line.split()[0] for line in systemctl("list-units", "--all", "--plain", "--no-legend", "--type=scope", pattern).splitlines()]


def group_of(pid):
    return read_text("/proc/%d/cgroup" % pid).split("0::", 1)[1].strip()


def is_limited(cell, unit, pid, memory, quota):
    """By systemd's word and by the kernel's."""
    assert "/%s/%s" % (cell.parent, unit) in group_of(pid)
    assert shown(unit, "MemoryMax", "CPUQuotaPerSecUSec", "Slice") == {
        "MemoryMax": str(memory), "CPUQuotaPerSecUSec": quota, "Slice": cell.parent}
    assert read_text(TOP + "/%s/%s/memory.max" % (cell.parent, unit)).strip() == str(memory)


def lives_in(engine):
    """skink in a container of the engine, to which that gave all that the host's root has."""
    archive, key = engine.world.path("oci.tar"), engine.world.name()
    lived(engine("run", "--rm", "--name", key, "--privileged", "--tmpfs", "/store:mode=0700", "--tmpfs", "/run:mode=0700",
                 "-v", SKINK + ":/bin/skink:ro", "-v", archive + ":/image.tar:ro", IMAGE, "sh", "-c", START + MAKE_ROOM + LIFE, timeout=600))


def test_skink_in_a_container_of_podman(podman):
    lives_in(podman)


def test_skink_in_a_container_of_docker(docker):
    lives_in(docker)


def test_podman(podman):
    result = podman("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (result.status, result.out, result.err) == (7, "out\n", "err\n")
    assert podman.ok("info", "--format", "{{.Host.CgroupManager}} {{.Host.CgroupsVersion}} {{.Host.OCIRuntime.Name}}") == "systemd v2 skink-oci"
    name = podman.running("--memory", "64m", "--cpus", "0.5", "--pids-limit", "50")
    state = podman.inspect(name)["State"]
    unit = "libpod-%s.scope" % podman.inspect(name)["Id"]
    is_limited(podman.cell, unit, state["Pid"], 64 * MIB, "500ms")
    podman.ok("update", "--memory", "96m", "--cpus", "0.75", name)
    systemctl("daemon-reload")
    is_limited(podman.cell, unit, state["Pid"], 96 * MIB, "750ms")
    assert podman.ok("exec", name, "sh", "-c", "echo in; head -c1 /dev/urandom >/dev/null && echo device").split() == ["in", "device"]
    assert podman.fails("exec", name, "sh", "-c", "exit 9").status == 9
    podman.ok("pause", name)
    podman.fails("exec", name, "true")
    podman.ok("unpause", name)
    assert int(json.loads(podman.ok("stats", "--no-stream", "--format", "json", name))[0]["pids"]) == 1
    podman.remove(name)
    wait_for(lambda: scopes(unit) == [])


def test_a_pod_of_podman(podman):
    pod, name = podman.world.name("pod"), podman.world.name()
    podman.ok("pod", "create", "--name", pod, "--hostname", "podhost", "--cgroup-parent", podman.cell.parent)
    podman.ok("run", "-d", "--pod", pod, "--name", name, IMAGE, "sh", "-c", "nc -ll -p 8080 -e echo served")
    wait_for(lambda: podman("run", "--rm", "--pod", pod, IMAGE, "sh", "-c",
                            "hostname; nc 127.0.0.1 8080 </dev/null").out.split() == ["podhost", "served"])
    podman.ok("exec", name, "sh", "-c", "head -c1 /dev/zero >/dev/null")
    assert "/libpod-%s.scope" % podman.inspect(name)["Id"] in group_of(podman.inspect(name)["State"]["Pid"])
    podman.ok("pod", "stop", "-t", "1", pod)
    podman.ok("pod", "rm", pod)
    wait_for(lambda: scopes("libpod-*") == [])


def test_ctr(containerd):
    name = containerd.world.name()
    unit = "skinktest-%s.scope" % name
    systemd = ["--runc-systemd-cgroup", "--cgroup", "%s:skinktest:%s" % (containerd.cell.parent, name)]
    containerd.ok(*containerd.run("-d", *systemd, "--memory-limit", str(64 * MIB), "--cpus", "0.5", "localhost/busybox:latest", name, "sleep", "1000"))
    pid = int(containerd.ok("tasks", "ls").splitlines()[1].split()[1])
    is_limited(containerd.cell, unit, pid, 64 * MIB, "500ms")
    assert containerd.ok("tasks", "exec", "--exec-id", "e1", name, "echo", "in") == "in"
    assert "/" + unit in group_of(pid)
    containerd.ok("tasks", "pause", name)
    containerd.ok("tasks", "resume", name)
    assert "memory" in containerd.ok("tasks", "metrics", name)
    containerd.remove(name)
    wait_for(lambda: scopes(unit) == [])


def test_a_pod_of_kubernetes(containerd):
    """By the interface that kubelet uses, with SystemdCgroup = true. The pod has the host's network."""
    cri, name = containerd.cri, containerd.world.name("pod")
    config = {1: {1: name, 2: name, 3: "default", 4: 0}, 3: containerd.world.base, 8: {1: containerd.cell.parent, 2: {1: {1: 2, 2: 1}}}}
    sandbox = cri.run_pod(config, "skink")
    box = cri.create(sandbox, container_config("main", ["sleep", "1000"], {1: {1: 100000, 2: 50000, 3: 512, 4: 64 * MIB}, 2: {3: {1: 2, 2: 1}}}), config)
    cri.start(box)
    unit = "cri-containerd-%s.scope" % box
    pid = int(read_text(TOP + "/%s/%s/cgroup.procs" % (containerd.cell.parent, unit)).split()[0])
    is_limited(containerd.cell, unit, pid, 64 * MIB, "500ms")
    assert cri.exec(box, "echo", "in")[:2] == (0, "in\n")
    cri("UpdateContainerResources", {1: box, 2: {1: 100000, 2: 25000, 4: 96 * MIB}})
    is_limited(containerd.cell, unit, pid, 96 * MIB, "250ms")
    cri.stop(box, 0)
    assert cri.state(box)[:2] == ("exited", 137)
    cri.remove(box)
    cri.stop_pod(sandbox)
    wait_for(lambda: scopes("cri-containerd-*") == [])


def test_docker(docker):
    assert docker.ok("info", "--format", "{{.CgroupDriver}} {{.CgroupVersion}} {{.DefaultRuntime}}") == "systemd 2 skink"
    result = docker("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (result.status, result.out, result.err) == (7, "out\n", "err\n")
    name = docker.running("--memory", "64m", "--cpus", "0.5", "--pids-limit", "50")
    pid, unit = docker.inspect(name)["State"]["Pid"], "docker-%s.scope" % docker.inspect(name)["Id"]
    is_limited(docker.cell, unit, pid, 64 * MIB, "500ms")
    docker.ok("update", "--memory", "96m", "--memory-swap", "96m", "--cpus", "0.75", name)
    is_limited(docker.cell, unit, pid, 96 * MIB, "750ms")
    assert docker.ok("exec", name, "echo", "in") == "in"
    docker.ok("pause", name)
    docker.ok("unpause", name)
    docker.ok("rm", "-f", name)
    wait_for(lambda: scopes(unit) == [])
    assert not os.path.exists(TOP + "/%s/%s" % (docker.cell.parent, unit))

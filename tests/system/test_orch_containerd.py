# SPDX-License-Identifier: Apache-2.0
"""containerd with skink-oci: by ctr, and by the interface that Kubernetes uses, configured as docs/orchestrators.md says."""

import json
import os
import re

import pytest
import transfers
from cell import Cell, Terminal, cannot, checked, kept
from cri import Cri, CriError, fields
from skinktest import read_text, wait_for

IMAGE = "localhost/busybox:latest"
SOCKET = "/run/containerd/containerd.sock"
# What is no matter of the runtime: an image for the sandbox and Debian's place of the network plugins. A score below
# one's own needs CAP_SYS_RESOURCE, which not every machine gives.
HERE = """
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:latest"
  restrict_oom_score_adj = true
  disable_apparmor = true

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
"""
NETWORK = """{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "pods0", "isGateway": true,
"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.99.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}"""


class Containerd:
    place = Cell

    def __init__(self, world):
        self.world, self.cell = world, self.place(world, ["containerd", "ctr", "containerd-shim-runc-v2", "curl"])
        self.cell.write("/etc/containerd/config.toml", self.cell.documented("containerd 1.x", "toml") + HERE)
        self.cell.write("/etc/cni/net.d/10-pods.conflist", NETWORK)
        # A name in a path of cgroups, so that these are known for ours.
        self.namespace = self.cell.parent
        self.process = self.start()
        for namespace in (self.namespace, "k8s.io"):
            self.cell.ok("ctr", "-n", namespace, "images", "import", self.cell.images["docker"])
        self.cri = Cri(self.cell, SOCKET)

    def start(self):
        process = self.cell.daemon("containerd", log="containerd.log")
        wait_for(lambda: process.poll() is not None or self.cell("ctr", "version").status == 0, message="containerd does not answer")
        if process.poll() is not None:
            cannot("containerd does not run here: " + read_text(self.world.path("containerd.log"))[-300:])
        return process

    def __call__(self, *args, **more):
        return self.cell("ctr", "-n", self.namespace, *args, **more)

    def ok(self, *args, **more):
        return self.cell.ok("ctr", "-n", self.namespace, *args, **more)

    def fails(self, *args, **more):
        return self.cell.fails("ctr", "-n", self.namespace, *args, **more)

    def run(self, *args):
        return ["run", "--runc-binary", "/usr/local/bin/skink-oci"] + list(args)

    def running(self, *args, command=("sleep", "1000")):
        name = self.world.name()
        self.ok(*self.run("-d", *args, IMAGE, name, *command))
        return name

    def status(self, name):
        found = re.search(r"^%s\s+\d+\s+(\S+)" % re.escape(name), self.ok("tasks", "ls"), re.M)
        return found and found.group(1)

    def remove(self, name):
        self("tasks", "kill", "-s", "KILL", name)
        wait_for(lambda: self.status(name) in ("STOPPED", None))
        self("tasks", "rm", name)
        wait_for(lambda: self("containers", "rm", name).status == 0 or name not in self.ok("containers", "ls", "-q").split())

    def remove_all(self):
        for line in self.ok("containers", "ls", "-q").split():
            self.remove(line)


@pytest.fixture(scope="session")
def containerd_engine():
    yield from kept(Containerd, "containerd")


@pytest.fixture
def containerd(containerd_engine):
    yield from checked(containerd_engine, containerd_engine.remove_all, r".")


def test_run_with_output_and_status(containerd):
    name = containerd.world.name()
    assert containerd.ok(*containerd.run("--rm", IMAGE, name, "echo", "hello")) == "hello"
    result = containerd(*containerd.run("--rm", "--memory-limit", "67108864", "--cpus", "0.5", IMAGE, name, "sh", "-c",
                                        "echo err >&2; exit 7"))
    assert result.status == 7 and result.err == "err\n"
    assert containerd.ok("containers", "ls", "-q") == ""


def test_what_cannot_be_run(containerd):
    name = containerd.world.name()
    containerd.fails(*containerd.run("--rm", IMAGE, name, "/no/such"), match="OCI runtime create failed: .*/no/such.*no such file")
    containerd.fails(*containerd.run("--rm", IMAGE, name, "/etc"), match="OCI runtime create failed: .*permission denied")
    name = containerd.running()
    containerd.fails("tasks", "exec", "--exec-id", "x", name, "nosuch", match="OCI runtime exec failed: .*executable file not found")
    containerd.ok("tasks", "exec", "--exec-id", "x", name, "true")
    containerd.remove(name)


def test_life_of_a_task(containerd):
    name = containerd.running(command=("sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.1; done"))
    assert containerd.status(name) == "RUNNING"
    assert containerd.ok("tasks", "exec", "--exec-id", "e1", name, "echo", "in").strip() == "in"
    assert containerd("tasks", "exec", "--exec-id", "e2", name, "sh", "-c", "exit 9").status == 9
    assert containerd.ok("tasks", "exec", "--exec-id", "e3", "--user", "1000", "--cwd", "/tmp", name, "sh", "-c", "id -u; pwd").split() == [
        "1000", "/tmp"]
    assert len(containerd.ok("tasks", "ps", name).split("\n")) >= 2
    containerd.ok("tasks", "pause", name)
    assert containerd.status(name) == "PAUSED"
    containerd.ok("tasks", "resume", name)
    assert containerd.status(name) == "RUNNING"
    assert re.search(r"memory|pids", containerd.ok("tasks", "metrics", name))
    containerd.ok("tasks", "kill", "-s", "TERM", name)
    wait_for(lambda: containerd.status(name) == "STOPPED")
    containerd.fails("tasks", "kill", name, match="already finished|not found")
    containerd("tasks", "rm", name)
    containerd.ok("containers", "rm", name)


def test_terminal(containerd):
    name = containerd.world.name()
    terminal = Terminal(containerd.cell, ["ctr", "-n", containerd.namespace] + containerd.run("--rm", "-t", IMAGE, name, "sh"), 91, 33)
    terminal.expect(rb"/ # ")
    wait_for(lambda: (terminal.type("stty size; tty\n"), terminal.read(0.3), re.search(rb"33 91\r+\n/dev/", terminal.text))[2])
    inner = Terminal(containerd.cell, ["ctr", "-n", containerd.namespace, "tasks", "exec", "--exec-id", "t", "-t", name, "sh"])
    inner.expect(rb"/ # ")
    inner.type("tty; exit 6\n")
    inner.expect(rb"/dev/pts/")
    assert inner.end() == 6
    terminal.type("exit 3\n")
    assert terminal.end() == 3


def test_a_dead_shim_takes_its_container_along(containerd):
    name = containerd.running()
    pid = int(re.search(r"^%s\s+(\d+)" % name, containerd.ok("tasks", "ls"), re.M).group(1))
    shim = int(containerd.cell.ok("sh", "-c", "grep PPid /proc/%d/status | cut -f2" % pid))
    containerd.cell.ok("kill", "-9", str(shim))
    wait_for(lambda: not containerd.cell("test", "-e", "/proc/%d/ns" % pid).status == 0 or
             containerd.cell("sh", "-c", "grep -q '^State:.[ZX]' /proc/%d/status" % pid).status == 0)
    wait_for(lambda: containerd.status(name) in (None, "STOPPED", "UNKNOWN"))
    containerd("tasks", "rm", "-f", name)
    containerd.ok("containers", "rm", name)


# Kubernetes' way.

def pod_config(containerd, **options):
    name = containerd.world.name("pod")
    linux = {1: containerd.cell.group_parent, 2: {1: options.get("namespaces", {1: 0, 2: 1})}}
    on_host = options.get("namespaces", {}).get(1) == 2
    return {1: {1: name, 2: name, 3: "default", 4: 0}, 2: "" if on_host else "podhost", 3: containerd.world.base, 8: linux}


def container_config(name, command, linux=None, **more):
    config = {1: {1: name, 2: 0}, 2: {1: IMAGE}, 3: list(command), 11: name + ".log", 15: linux or {}}
    config.update({int(key[1:]): value for key, value in more.items()})
    return config


@pytest.fixture
def pod(containerd):
    """A pod with a network of its own under the runtime class "skink"; (its id, its configuration)."""
    config = pod_config(containerd)
    one = containerd.cri.run_pod(config, "skink")
    yield one, config
    containerd.cri.stop_pod(one)


def test_a_pod_of_the_runtime_class(containerd, pod):
    cri, (sandbox, pod_conf) = containerd.cri, pod
    status = fields(cri("PodSandboxStatus", {1: sandbox})[1][0])
    assert status[9] == [b"skink"] and fields(status[5][0])[1][0].startswith(b"10.99.")
    linux = {1: {1: 100000, 2: 50000, 3: 512, 4: 64 << 20}, 2: {1: {2: ["ALL"]}, 5: {1: 1000}, 7: 1, 11: 1, 12: {1: 100}, 15: {}}}
    share = containerd.world.path(containerd.world.name("share"))
    os.mkdir(share)
    box = cri.create(sandbox, container_config("main", ["sh", "-c", "hostname; id -u; id -g; cat /share/*; sleep 1000"], linux,
                                               _6=[{1: "KEY", 2: "value"}], _7=[{1: "/share", 2: share, 3: 1}]), pod_conf)
    assert cri.state(box)[0] == "created"
    containerd.world.write(os.path.basename(share) + "/f", "shared\n")
    cri.start(box)
    wait_for(lambda: [line.split()[3] for line in read_text(containerd.world.path("main.log")).splitlines()] == [
        "podhost", "1000", "100", "shared"])
    status, out, _ = cri.exec(box, "sh", "-c", "echo $KEY; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; touch /x || exit 4")
    assert status == 4 and out.split() == ["value", "CapEff:", "0000000000000000", "NoNewPrivs:", "1", "Seccomp:", "2"]
    assert "10.99." in cri.exec(box, "ip", "addr")[1]
    assert group(containerd, box, "memory", "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    cri("UpdateContainerResources", {1: box, 2: {1: 100000, 2: 25000, 4: 96 << 20}})
    assert group(containerd, box, "memory", "memory.limit_in_bytes", "memory.max") == str(96 << 20)
    stats = fields(cri("ContainerStats", {1: box})[1][0])
    assert fields(fields(stats[2][0])[2][0])[1][0] > 0
    cri.stop(box, 0)
    assert cri.state(box)[:2] == ("exited", 137)
    cri.remove(box)


def group(containerd, box, controller, *files):
    for top in ("/sys/fs/cgroup/" + controller, "/sys/fs/cgroup"):
        for file in files:
            text = read_text("%s/%s/%s/%s" % (top, containerd.cell.parent, box, file), "")
            if text:
                return text.strip()
    return None


def test_containers_that_share_or_end(containerd, pod):
    cri, (sandbox, pod_conf) = containerd.cri, pod
    server = cri.create(sandbox, container_config("server", ["nc", "-ll", "-p", "8080", "-e", "echo", "served"]), pod_conf)
    cri.start(server)
    client = cri.create(sandbox, container_config("client", ["sh", "-c", "until nc 127.0.0.1 8080 </dev/null; do sleep 0.2; done; exit 3"]),
                        pod_conf)
    cri.start(client)
    wait_for(lambda: cri.state(client)[:2] == ("exited", 3))
    assert "served" in read_text(containerd.world.path("client.log"))
    missing = cri.create(sandbox, container_config("missing", ["/no/such"]), pod_conf)
    with pytest.raises(CriError, match="/no/such.*no such file"):
        cri.start(missing)
    greedy = cri.create(sandbox, container_config("greedy", ["sh", "-c", "a=x; while :; do a=$a$a; done"], {1: {4: 16 << 20, 10: 16 << 20}}),
                        pod_conf)
    cri.start(greedy)
    wait_for(lambda: cri.state(greedy)[0] == "exited")
    assert cri.state(greedy)[1:] == (137, "OOMKilled")
    for box in (server, client, missing, greedy):
        cri.stop(box, 0)
        cri.remove(box)


@pytest.mark.full
@pytest.mark.parametrize("namespaces", [{1: 2, 2: 1}, {1: 0, 2: 0}, {1: 2, 2: 2, 3: 2}])
def test_pods_with_namespaces_of_the_host_or_shared(containerd, namespaces):
    cri, config = containerd.cri, pod_config(containerd, namespaces=namespaces)
    sandbox = cri.run_pod(config, "skink")
    box = cri.create(sandbox, container_config("shared", ["sh", "-c", "trap 'exit 4' TERM; while :; do sleep 0.1; done"],
                                               {2: {3: namespaces}}), config)
    cri.start(box)
    assert cri.exec(box, "echo", "in")[:2] == (0, "in\n")
    cri.stop(box)
    assert cri.state(box)[:2] == ("exited", 4)
    cri.remove(box)
    cri.stop_pod(sandbox)


def test_an_image_of_skink_and_back(containerd):
    path, diff_ids, files = transfers.send(containerd.world)
    containerd.ok("images", "import", path)
    configs = [line.split()[0] for line in containerd.ok("content", "ls").splitlines()[1:]
               if "containerd.io/gc.ref.snapshot" in line]
    assert diff_ids in [json.loads(containerd.ok("content", "get", one))["rootfs"]["diff_ids"] for one in configs]
    name = containerd.world.name()
    assert containerd.ok(*containerd.run("--rm", transfers.NAME, name, *transfers.LIST)) == files
    back = containerd.world.path("back.tar")
    containerd.ok("images", "export", back, transfers.NAME)
    assert transfers.receive(containerd.world, back, diff_ids) == files
    containerd.ok("images", "rm", transfers.NAME)

# SPDX-License-Identifier: Apache-2.0
"""dockerd with skink-oci as its runtime, configured as docs/orchestrators.md says, started by hand in a cell of its own."""

import json
import os
import re

import pytest
import transfers
from cell import Cell, Terminal, cannot, checked, kept
from skinktest import read_text, status_of, wait_for

IMAGE = "localhost/busybox"


class Docker:
    place = Cell

    def __init__(self, world):
        self.world, self.cell = world, self.place(world, ["dockerd", "docker", "containerd"])
        config = json.loads(self.cell.documented("docker", "json"))
        # What is no matter of the runtime: our name in the path of cgroups, no filter rules, and a network only where it is looked at.
        config.update({"cgroup-parent": self.cell.group_parent, "iptables": False, "bridge": "none", "storage-driver": "overlay2",
                       "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1024, "Hard": 1024}}, "shutdown-timeout": 3})
        self.cell.write("/etc/docker/daemon.json", json.dumps(config))
        self.process = None
        self.start()
        self.ok("load", "-q", "-i", self.cell.images["docker"])

    def start(self):
        self.process = self.cell.daemon("dockerd", "--pidfile", "/run/docker.pid", log="dockerd.log",
                                        env={"DOCKER_BUILDKIT_RUNC_COMMAND": "/usr/local/bin/skink-oci"})
        wait_for(lambda: self.process.poll() is not None or self("version").status == 0, message="dockerd does not answer")
        if self.process.poll() is not None:
            cannot("dockerd does not run here: " + read_text(self.world.path("dockerd.log"))[-300:])

    def stop(self):
        self.cell.ok("sh", "-c", "kill $(cat /run/docker.pid)")
        self.process.wait(timeout=60)

    def __call__(self, *args, **more):
        return self.cell("/usr/bin/docker", *args, **more)

    def ok(self, *args, **more):
        return self.cell.ok("/usr/bin/docker", *args, **more)

    def fails(self, *args, **more):
        return self.cell.fails("/usr/bin/docker", *args, **more)

    def inspect(self, name):
        return json.loads(self.ok("inspect", name))[0]

    def running(self, *args, command=("sleep", "1000")):
        name = self.world.name()
        self.ok("run", "-d", "--name", name, *args, IMAGE, *command)
        return name

    def group(self, name, controller, *files):
        identity = self.inspect(name)["Id"]
        for top in ("/sys/fs/cgroup/" + controller, "/sys/fs/cgroup"):
            for file in files:
                text = read_text("%s/%s/%s/%s" % (top, self.cell.parent, identity, file), "")
                if text:
                    return text.split()[0]
        return None

    def remove_all(self):
        names = self.ok("ps", "-aq").split()
        if names:
            self.ok("rm", "-f", *names)


@pytest.fixture(scope="session")
def docker_engine():
    yield from kept(Docker, "docker")


@pytest.fixture
def docker(docker_engine):
    yield from checked(docker_engine, docker_engine.remove_all, r"^[0-9a-f]{64}$")


def test_run_with_output_and_status(docker):
    result = docker("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (result.status, result.out, result.err) == (7, "out\n", "err\n")
    assert docker.ok("run", "--rm", "-i", IMAGE, "cat", input="from stdin") == "from stdin"
    info = json.loads(docker.ok("info", "--format", "{{json .}}"))
    assert info["DefaultRuntime"] == "skink" and info["Runtimes"]["skink"]["path"] == "/usr/local/bin/skink-oci"
    assert docker.ok("run", "--rm", "--runtime", "skink", IMAGE, "echo", "by name") == "by name"


def test_statuses_of_what_cannot_be_run(docker):
    docker.fails("run", "--rm", IMAGE, "/no/such", status=127, match="no such file")
    docker.fails("run", "--rm", IMAGE, "nosuch", status=127, match="executable file not found")
    docker.fails("run", "--rm", IMAGE, "/etc", status=126, match="permission denied")
    name = docker.running()
    # The client's own code, which 20.10 does not take from the words.
    assert docker.fails("exec", name, "nosuch", match="executable file not found").status in (126, 127)
    docker.fails("exec", name, "/etc", status=126, match="permission denied")
    docker.ok("rm", "-f", name)


def test_life_of_a_container(docker):
    name = docker.running(command=("sh", "-c", "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.1; done"))
    wait_for(lambda: docker.ok("logs", name) == "up")
    assert docker.inspect(name)["HostConfig"]["Runtime"] == "skink"
    assert docker.ok("exec", name, "echo", "in") == "in"
    assert docker("exec", name, "sh", "-c", "exit 9").status == 9
    assert docker.ok("exec", "-i", name, "cat", input="to exec") == "to exec"
    assert docker.ok("exec", "-u", "1000:100", "-w", "/tmp", "-e", "A=b", name, "sh", "-c", "id -u; id -g; pwd; echo $A").split() == [
        "1000", "100", "/tmp", "b"]
    docker.ok("exec", "-d", name, "touch", "/tmp/detached")
    wait_for(lambda: docker("exec", name, "test", "-e", "/tmp/detached").status == 0)
    assert re.search(r"sleep|trap", docker.ok("top", name))
    docker.ok("pause", name)
    assert docker.inspect(name)["State"]["Status"] == "paused"
    docker.fails("exec", name, "true", match="paused")
    docker.ok("unpause", name)
    docker.ok("stop", "-t", "20", name)
    assert docker.inspect(name)["State"]["ExitCode"] == 5 and docker.ok("logs", name).split() == ["up", "bye"]
    docker.ok("start", name)
    docker.ok("kill", "-s", "KILL", name)
    assert docker.ok("wait", name) == "137"
    docker.ok("rm", name)


def test_limits_stats_and_update(docker):
    name = docker.running("--memory", "64m", "--cpus", "0.5", "--pids-limit", "50")
    assert docker.group(name, "memory", "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert docker.group(name, "cpu", "cpu.cfs_quota_us", "cpu.max") == "50000"
    assert docker.group(name, "pids", "pids.max") == "50"
    row = json.loads(docker.ok("stats", "--no-stream", "--format", "{{json .}}", name))
    assert row["PIDs"] == "1" and "64MiB" in row["MemUsage"] and not row["MemUsage"].startswith("0B"), row
    docker.ok("update", "--memory", "96m", "--memory-swap", "192m", "--cpus", "0.75", "--pids-limit", "60", name)
    assert docker.group(name, "memory", "memory.limit_in_bytes", "memory.max") == str(96 << 20)
    assert docker.group(name, "cpu", "cpu.cfs_quota_us", "cpu.max") == "75000"
    assert docker.group(name, "pids", "pids.max") == "60"
    docker.ok("rm", "-f", name)
    greedy = docker.world.name()
    docker("run", "--name", greedy, "--memory", "16m", "--memory-swap", "16m", IMAGE, "sh", "-c", "a=x; while :; do a=$a$a; done")
    assert docker.inspect(greedy)["State"]["ExitCode"] == 137 and docker.inspect(greedy)["State"]["OOMKilled"]
    docker.ok("rm", greedy)


def test_terminal_of_run_and_exec(docker):
    name = docker.world.name()
    terminal = Terminal(docker.cell, ["/usr/bin/docker", "run", "--name", name, "-it", IMAGE, "sh"], 91, 33)
    terminal.expect(rb"/ # ")
    wait_for(lambda: (terminal.type("stty size; tty\n"), terminal.read(0.3), re.search(rb"33 91\r+\n/dev/", terminal.text))[2])
    inner = Terminal(docker.cell, ["/usr/bin/docker", "exec", "-it", name, "sh"])
    inner.expect(rb"/ # ")
    inner.type("tty; exit 6\n")
    inner.expect(rb"/dev/pts/")
    assert inner.end() == 6
    terminal.type("exit 3\n")
    assert terminal.end() == 3
    docker.ok("rm", name)


def test_restart_policies(docker):
    name = docker.running("--restart", "on-failure:2", command=("sh", "-c", "echo x; exit 1"))
    wait_for(lambda: docker.inspect(name)["State"]["Status"] == "exited")
    assert docker.inspect(name)["RestartCount"] == 2 and docker.ok("logs", name).split() == ["x"] * 3
    always = docker.running("--restart", "always")
    pid = docker.inspect(always)["State"]["Pid"]
    docker.cell.ok("kill", "-9", str(pid))
    wait_for(lambda: docker.inspect(always)["State"]["Pid"] not in (0, pid))
    docker.ok("rm", "-f", name, always)


def test_security_and_mounts(docker):
    share = docker.world.path("share")
    os.mkdir(share)
    out = docker.ok("run", "--rm", "--read-only", "-v", share + ":/share", "-v", share + ":/ro:ro", "--hostname", "named", "--tmpfs", "/tmp",
                    "--cap-drop", "all", "--security-opt", "no-new-privileges", "--user", "1000:100", "--group-add", "8",
                    "--ulimit", "nofile=333:444", IMAGE, "sh", "-c", """touch /x 2>/dev/null && echo writable
                    touch /ro/x 2>/dev/null && echo writable; touch /tmp/x && hostname; ulimit -n; id -G
                    grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status""")
    assert out.split() == ["named", "333", "100", "8", "CapEff:", "0000000000000000", "NoNewPrivs:", "1", "Seccomp:", "2"]


@pytest.mark.full
def test_network_of_a_container(docker):
    """The network is put into the namespace by a prestart hook, which is told the process on its standard input."""
    docker.ok("network", "create", "--subnet", "10.98.0.0/16", "pods")
    name = docker.running("--network", "pods", "-p", "127.0.0.1:8099:8080", "--sysctl", "net.ipv4.ip_unprivileged_port_start=99",
                          command=("nc", "-ll", "-p", "8080", "-e", "echo", "served"))
    address = docker.inspect(name)["NetworkSettings"]["Networks"]["pods"]["IPAddress"]
    assert address.startswith("10.98.") and address in docker.ok("exec", name, "ip", "addr")
    wait_for(lambda: docker.cell("busybox", "nc", "127.0.0.1", "8099").out == "served\n")
    assert docker.ok("exec", name, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start") == "99"
    docker.ok("rm", "-f", name)
    docker.ok("network", "rm", "pods")


def test_health_check(docker):
    name = docker.running("--health-cmd", "test -e /tmp/well", "--health-interval", "500ms", "--health-retries", "1")
    wait_for(lambda: docker.inspect(name)["State"]["Health"]["Status"] == "unhealthy")
    docker.ok("exec", name, "touch", "/tmp/well")
    wait_for(lambda: docker.inspect(name)["State"]["Health"]["Status"] == "healthy")
    docker.ok("rm", "-f", name)


@pytest.mark.full
@pytest.mark.parametrize("options", [["--pid", "host"], ["--init"], ["--ipc", "host"], ["--uts", "host"], ["--network", "host"],
                                     ["--cgroupns", "host"], ["--privileged"], ["--cap-add", "all"]])
def test_stop_with(docker, options):
    if options[-1] in ("--privileged", "all") and bin(int(status_of(os.getpid())["CapBnd"], 16)).count("1") < 41:
        pytest.skip("docker gives every capability that it knows, and this machine keeps some back")
    name = docker.running(*options, command=("sh", "-c", "trap 'exit 4' TERM; while :; do sleep 0.1; done"))
    assert docker.ok("exec", name, "echo", "in") == "in"
    docker.ok("stop", "-t", "20", name)
    assert docker.inspect(name)["State"]["ExitCode"] == 4
    docker.ok("rm", name)


@pytest.mark.full
def test_a_daemon_that_is_started_again(docker):
    name = docker.running("--restart", "always")
    docker.stop()
    docker.start()
    wait_for(lambda: docker.inspect(name)["State"]["Status"] == "running")
    assert docker.ok("exec", name, "echo", "back") == "back"
    docker.ok("rm", "-f", name)


@pytest.mark.full
def test_containers_that_share_namespaces(docker):
    first = docker.running("--ipc", "shareable")
    out = docker.ok("run", "--rm", "--pid", "container:" + first, "--network", "container:" + first, "--ipc", "container:" + first,
                    IMAGE, "sh", "-c", "ps; hostname")
    assert "sleep 1000" in out and docker.inspect(first)["Id"][:12] in out
    docker.ok("rm", "-f", first)


@pytest.mark.full
def test_build(docker):
    directory = docker.world.path("build")
    os.mkdir(directory)
    docker.world.write("build/Dockerfile", "FROM localhost/busybox\nRUN echo built > /made && id -u >> /made\nCMD cat /made\n")
    docker.ok("build", "-q", "--network", "none", "-t", "localhost/made", directory, env={"DOCKER_BUILDKIT": "0"})
    assert docker.ok("run", "--rm", "localhost/made").split() == ["built", "0"]
    # BuildKit is told the runtime by the environment of dockerd.
    docker.world.write("build/Dockerfile", "FROM localhost/busybox\nRUN id -u > /made && exit 7\n")
    docker.fails("build", "--network", "none", "--progress", "plain", directory, env={"DOCKER_BUILDKIT": "1"}, match="exit code: 7")
    docker.world.write("build/Dockerfile", "FROM localhost/busybox\nRUN grep -c . /proc/1/cmdline && id -u > /made\nCMD cat /made\n")
    docker.ok("build", "-q", "--network", "none", "-t", "localhost/kit", directory, env={"DOCKER_BUILDKIT": "1"})
    assert docker.ok("run", "--rm", "localhost/kit") == "0"


def test_an_image_of_skink_and_back(docker):
    path, diff_ids, files = transfers.send(docker.world)
    docker.ok("load", "-q", "-i", path)
    assert docker.inspect(transfers.NAME)["RootFS"]["Layers"] == diff_ids
    assert docker.ok("run", "--rm", transfers.NAME, *transfers.LIST) == files
    back = docker.world.path("back.tar")
    docker.ok("save", "-o", back, transfers.NAME)
    assert transfers.receive(docker.world, back, diff_ids) == files
    docker.ok("rmi", transfers.NAME)

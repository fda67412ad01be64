# SPDX-License-Identifier: Apache-2.0
"""podman with skink-oci as its runtime, configured as docs/orchestrators.md says, in a cell of its own."""

import json
import os
import re
import signal

import pytest
import transfers
from cell import Cell, Terminal, checked, kept
from skinktest import needs, read_text, v2_alone, wait_for

IMAGE = "localhost/busybox"
# What this machine needs, whichever the runtime: podman raises limits that only CAP_SYS_RESOURCE can raise.
HERE = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
netns = "none"
[engine]
events_logger = "file"
infra_image = "localhost/pause:latest"
"""


class Podman:
    place = Cell
    before = []

    def __init__(self, world):
        self.world, self.cell = world, self.place(world, ["podman", "conmon"])
        self.cell.write("/etc/containers/containers.conf", self.cell.documented("podman and buildah", "toml"))
        self.cell.write("/etc/containers/containers.conf.d/here.conf", HERE)
        self.cell.write("/etc/containers/policy.json", '{"default": [{"type": "insecureAcceptAnything"}]}')
        self.cell.write("/etc/containers/storage.conf", '[storage]\ndriver = "overlay"\ngraphroot = "/var/lib/containers/storage"\n'
                                                        'runroot = "/run/containers/storage"\n')
        self.cell.write("/etc/subuid", "containers:200000:600000\n")
        self.cell.write("/etc/subgid", "containers:200000:600000\n")
        self.ok("load", "-q", "-i", self.cell.images["docker"])

    def arguments(self, args):
        """Every container gets a cgroup parent with our name."""
        args = list(args)
        if args[0] in ("run", "create") and "disabled" not in args and "--pod" not in args:
            args[1:1] = ["--cgroup-parent", self.cell.group_parent]
        return self.before + ["podman"] + args

    def __call__(self, *args, **more):
        return self.cell(*self.arguments(args), **more)

    def ok(self, *args, **more):
        return self.cell.ok(*self.arguments(args), **more)

    def fails(self, *args, **more):
        return self.cell.fails(*self.arguments(args), **more)

    def inspect(self, name):
        return json.loads(self.ok("inspect", name))[0]

    def running(self, *args, command=("sleep", "1000")):
        name = self.world.name()
        self.ok("run", "-d", "--name", name, *args, IMAGE, *command)
        return name

    def remove(self, *names):
        """podman's own clean-up after a container can still have its /dev/shm mounted: then rm says busy, with runc too."""
        wait_for(lambda: self("rm", "-f", "-t", "0", *names).status == 0)

    def group(self, name, controller, file):
        """What a control file of the container's cgroup says, on v1 or v2."""
        path = "/%s/libpod-%s" % (self.cell.parent, self.inspect(name)["Id"])
        for top in ("/sys/fs/cgroup/" + controller, "/sys/fs/cgroup"):
            text = read_text(top + path + "/" + file, "")
            if text:
                return text.strip()
        return None


class Rootless(Podman):
    """The same for a user with nothing but a range of subordinate ids."""

    before = ["setpriv", "--reuid", "4711", "--regid", "4711", "--clear-groups", "env", "HOME=/run/plain", "USER=plain",
              "XDG_RUNTIME_DIR=/run/plain/run", "TMPDIR=/run/plain"]

    def __init__(self, podman):
        self.world, self.cell = podman.world, podman.cell
        os.chmod(self.world.base, 0o711)
        self.cell.ok("sh", "-c", """mkdir -p /run/plain/run && chown -R 4711:4711 /run/plain && chmod 700 /run/plain/run
            echo plain:x:4711:4711::/run/plain:/bin/sh >> /etc/passwd; echo plain:x:4711: >> /etc/group
            echo plain:900000:65536 >> /etc/subuid; echo plain:900000:65536 >> /etc/subgid""")
        self.ok("load", "-q", "-i", self.cell.images["docker"])

    def arguments(self, args):
        return self.before + ["podman"] + list(args)


@pytest.fixture(scope="session")
def podman_engine():
    yield from kept(Podman, "podman")


@pytest.fixture
def podman(podman_engine):
    yield from checked(podman_engine, lambda: podman_engine.remove("-a"), r"libpod-[0-9a-f]{64}$")


def needs_pods():
    if v2_alone():
        pytest.skip("without systemd podman 4.3 denies every device to a pod on cgroup v2, with runc and crun too")


def test_run_with_output_and_status(podman):
    result = podman("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (result.status, result.out, result.err) == (7, "out\n", "err\n")
    assert podman.ok("run", "--rm", "-i", IMAGE, "cat", input="from stdin") == "from stdin"


def test_the_configuration_of_the_documentation_is_in_force(podman):
    name = podman.running()
    assert podman.inspect(name)["OCIRuntime"] == "skink-oci"
    assert "skink-oci" in podman.ok("info", "--format", "{{.Host.OCIRuntime.Path}}")
    assert "--runtime /usr/local/bin/skink-oci run --rm" in read_text(os.path.join(os.path.dirname(__file__), "../../docs/orchestrators.md"))
    assert podman.cell.ok("podman", "--runtime", "/usr/local/bin/skink-oci", "run", "--rm", "--cgroup-parent", "/" + podman.cell.parent,
                          IMAGE, "echo", "by path") == "by path"
    podman.remove(name)


def test_statuses_of_what_cannot_be_run(podman):
    podman.fails("run", "--rm", IMAGE, "/no/such", status=127, match="no such file")
    podman.fails("run", "--rm", IMAGE, "nosuch", status=127, match="executable file not found")
    podman.fails("run", "--rm", IMAGE, "/etc", status=126, match="permission denied")
    podman.fails("run", "--rm", IMAGE, "/etc/passwd", status=126, match="permission denied")
    podman.fails("run", "--rm", "-w", "/no/such/../etc/passwd", IMAGE, "true")
    name = podman.running()
    podman.fails("exec", name, "/no/such", status=127, match="no such file")
    podman.fails("exec", name, "/etc", status=126, match="permission denied")
    podman.fails("exec", "-it", name, "nosuch", status=127, match="not found")
    podman.remove(name)


def test_life_of_a_detached_container(podman):
    name = podman.running(command=("sh", "-c", "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.1; done"))
    wait_for(lambda: podman.ok("logs", name) == "up")
    assert podman.ok("exec", name, "sh", "-c", "echo $0 $PPID") == "sh 0"
    assert podman.fails("exec", name, "sh", "-c", "exit 9").status == 9
    assert podman.ok("exec", "-i", name, "cat", input="to exec") == "to exec"
    assert podman.ok("exec", "-u", "1000:100", "-w", "/tmp", "-e", "A=b", name, "sh", "-c", "id -u; id -g; pwd; echo $A").split() == [
        "1000", "100", "/tmp", "b"]
    podman.ok("exec", "-d", name, "touch", "/tmp/detached")
    wait_for(lambda: podman("exec", name, "test", "-e", "/tmp/detached").status == 0)
    assert "sleep" in podman.ok("top", name, "args") or "sh" in podman.ok("top", name, "args")
    podman.ok("pause", name)
    assert podman.inspect(name)["State"]["Status"] == "paused"
    podman.fails("exec", name, "true")
    podman.ok("unpause", name)
    podman.ok("stop", "-t", "20", name)
    state = podman.inspect(name)["State"]
    assert state["Status"] == "exited" and state["ExitCode"] == 5 and podman.ok("logs", name).split() == ["up", "bye"]
    podman.ok("start", name)
    podman.ok("kill", "-s", "KILL", name)
    assert podman.ok("wait", name) == "137"
    podman.ok("rm", name)


def test_terminal_of_run_and_exec(podman):
    name = podman.world.name()
    terminal = Terminal(podman.cell, podman.arguments(["run", "--name", name, "-it", IMAGE, "sh"]), columns=91, lines=33)
    terminal.expect(rb"/ # ")
    terminal.type("stty size; tty\n")
    terminal.expect(rb"33 91\r\n/dev/(console|pts/0)")
    inner = Terminal(podman.cell, ["podman", "exec", "-it", name, "sh"], columns=77, lines=22)
    inner.expect(rb"/ # ")
    inner.type("stty size; tty\n")
    inner.expect(rb"22 77\r\n/dev/pts/")
    inner.resize(100, 30)
    inner.process.send_signal(signal.SIGWINCH)
    wait_for(lambda: (inner.type("stty size\n"), inner.read(0.3), re.search(rb"30 100", inner.text))[2])
    inner.type("exit 6\n")
    assert inner.end() == 6
    terminal.type("exit 3\n")
    assert terminal.end() == 3
    podman.ok("rm", "-f", name)


def test_limits(podman):
    name = podman.running("--memory", "64m", "--cpus", "0.5", "--pids-limit", "50", "--cpu-shares", "512", "--memory-reservation", "32m")
    assert podman.group(name, "memory", "memory.limit_in_bytes") or podman.group(name, "", "memory.max") == "67108864"
    assert podman.group(name, "memory", "memory.limit_in_bytes") in (None, "67108864")
    assert (podman.group(name, "cpu", "cpu.cfs_quota_us") or podman.group(name, "", "cpu.max").split()[0]) == "50000"
    assert podman.group(name, "pids", "pids.max") == "50"
    podman.ok("update", "--memory", "96m", "--cpus", "0.75", name)
    assert (podman.group(name, "memory", "memory.limit_in_bytes") or podman.group(name, "", "memory.max")) == "100663296"
    assert (podman.group(name, "cpu", "cpu.cfs_quota_us") or podman.group(name, "", "cpu.max").split()[0]) == "75000"
    row = json.loads(podman.ok("stats", "--no-stream", "--format", "json", name))[0]
    assert int(row["pids"]) == 1 and not row["mem_usage"].startswith(("0B", "--")), row
    podman.remove(name)


def test_no_limit_of_processes(podman):
    """Podman writes 0 for -1, in a document of before runtime-spec 1.3."""
    name = podman.running("--pids-limit", "-1")
    assert podman.group(name, "pids", "pids.max") == "max"
    podman.remove(name)


def test_read_only_and_mounts(podman):
    share = podman.world.path("share")
    os.mkdir(share)
    script = """touch /x 2>/dev/null && echo writable
        echo in > /tmp/t && cat /tmp/t; echo shared > /share/file; touch /ro/y 2>/dev/null && echo writable
        cat /etc/hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ulimit -n; id -u; grep -c . /etc/passwd"""
    out = podman.ok("run", "--rm", "--read-only", "-v", share + ":/share", "-v", share + ":/ro:ro,rprivate", "--hostname", "named",
                    "--sysctl", "net.ipv4.ip_unprivileged_port_start=99", "--ulimit", "nofile=333:444", "--ulimit", "nproc=999:999", "--user", "1000",
                    "--tmpfs", "/var/tmp:size=1m", IMAGE, "sh", "-c", "chmod 0 / 2>/dev/null; " + script)
    assert out.split("\n")[0] == "in" and "writable" not in out and "99\n333\n1000" in out, out


def test_user_namespaces(podman):
    maps = podman.ok("run", "--rm", "--userns=auto:size=4096", IMAGE, "sh", "-c", "cat /proc/self/uid_map; touch /tmp/a; stat -c %u /tmp/a /etc")
    inside, outside, count = maps.split()[:3]
    assert inside == "0" and int(outside) >= 200000 and count == "4096" and maps.split()[3:] == ["0", "0"]
    name = podman.running("--uidmap", "0:300000:65536", "--gidmap", "0:310000:65536")
    pid = podman.inspect(name)["State"]["Pid"]
    assert podman.cell.ok("cat", "/proc/%d/uid_map" % pid).split() == ["0", "300000", "65536"]
    assert podman.ok("exec", name, "cat", "/proc/self/gid_map").split() == ["0", "310000", "65536"]
    assert podman.ok("exec", name, "sh", "-c", "id -u; mount -t tmpfs t /tmp 2>/dev/null || echo refused").split() == ["0", "refused"]
    podman.remove(name)


def test_health_check(podman):
    name = podman.running("--health-cmd", "test -e /tmp/well", "--health-retries", "1", "--health-interval", "disable")
    podman.fails("healthcheck", "run", name, status=1)
    podman.ok("exec", name, "touch", "/tmp/well")
    podman.ok("healthcheck", "run", name)
    assert podman.inspect(name)["State"]["Health"]["Status"] == "healthy"
    podman.remove(name)


def test_pod(podman):
    needs_pods()
    pod = podman.world.name("pod")
    podman.ok("pod", "create", "--name", pod, "--hostname", "podhost", "--cgroup-parent", "/" + podman.cell.parent)
    name = podman.world.name()
    podman.cell.ok("podman", "run", "-d", "--pod", pod, "--name", name, IMAGE, "sh", "-c", "nc -ll -p 8080 -e echo served")
    wait_for(lambda: podman.cell("podman", "run", "--rm", "--pod", pod, IMAGE, "sh", "-c",
                                 "hostname; nc 127.0.0.1 8080 </dev/null").out.split() == ["podhost", "served"])
    podman.ok("pod", "pause", pod)
    podman.ok("pod", "unpause", pod)
    podman.ok("pod", "stop", "-t", "1", pod)
    podman.ok("pod", "rm", pod)


KUBE = """
apiVersion: v1
kind: Pod
metadata:
  name: %(pod)s
  annotations: {org.example/key: value}
spec:
  restartPolicy: Never
  hostNetwork: true
  initContainers:
  - {name: first, image: localhost/busybox, command: [sh, -c, "echo made > /shared/file"], volumeMounts: [{name: shared, mountPath: /shared}]}
  containers:
  - name: main
    image: localhost/busybox
    command: [sh, -c, "cat /shared/file; id -u; sleep 1000"]
    securityContext: {runAsUser: 1000, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}, allowPrivilegeEscalation: false}
    resources: {limits: {memory: 64Mi, cpu: 500m}}
    livenessProbe: {exec: {command: [test, -e, /shared/file]}, initialDelaySeconds: 1}
    volumeMounts: [{name: shared, mountPath: /shared}]
  volumes: [{name: shared, emptyDir: {}}]
"""


def test_play_kube(podman):
    needs_pods()
    pod = podman.world.name("kube")
    file = podman.world.write("kube.yaml", KUBE % {"pod": pod})
    podman.ok("play", "kube", file)
    name = pod + "-main"
    wait_for(lambda: podman.ok("logs", name).split() == ["made", "1000"])
    status = podman.ok("exec", name, "cat", "/proc/1/status")
    assert "CapEff:\t0000000000000000" in status and "NoNewPrivs:\t1" in status
    identity = podman.ok("pod", "inspect", "--format", "{{.ID}}", pod)
    podman.ok("play", "kube", "--down", file)
    podman.fails("inspect", name)
    # Its groups are below a parent that podman names by itself, and not all of them go with the pod.
    for hierarchy in os.listdir("/sys/fs/cgroup"):
        for path in ("libpod_parent/%s/conmon" % identity, "libpod_parent/" + identity, "libpod_parent"):
            try:
                os.rmdir(os.path.join("/sys/fs/cgroup", hierarchy, path))
            except OSError:
                pass


def test_a_plain_user(podman):
    needs("newuidmap")
    plain = Rootless(podman)
    try:
        assert plain.ok("run", "--rm", IMAGE, "sh", "-c", "id -u; head -1 /proc/self/uid_map").split() == ["0", "0", "4711", "1"]
        assert plain.ok("run", "--rm", "--userns=keep-id", IMAGE, "sh", "-c", "id -u; id -g").split() == ["4711"] * 2
        assert plain.ok("run", "--rm", "--userns=nomap", IMAGE, "sh", "-c", "cat /proc/self/uid_map").split() == ["0", "1", "65536"]
        name = plain.running("--read-only", "--hostname", "named")
        assert plain.ok("exec", name, "sh", "-c", "hostname; echo x > /dev/null; ls /dev/zero").split() == ["named", "/dev/zero"]
        assert plain.ok("exec", "-u", "1000", name, "id", "-u") == "1000"
        assert plain.ok("stop", "-t", "0", name) == name and plain.inspect(name)["State"]["ExitCode"] == 137
        plain.fails("run", "--rm", IMAGE, "/no/such", status=127, match="no such file")
    finally:
        plain("rm", "-f", "-a", "-t", "0")
        plain("system", "migrate")


def test_other_ways_to_start(podman):
    assert podman.ok("run", "--rm", "--init", "--init-path", "/usr/bin/tini-static", IMAGE, "sh", "-c", "echo $$") != "1"
    out = podman.cell("sh", "-c", 'exec "$@" 3<&0', "sh", *podman.arguments(["run", "--rm", "--preserve-fds", "1", IMAGE, "cat", "/proc/self/fd/3"]),
                      input="inherited")
    assert out.out == "inherited", out
    box = podman.world.name()
    podman.ok("create", "--name", box, "--restart", "on-failure:2", IMAGE, "sh", "-c", "echo x; exit 1")
    podman.ok("start", box)
    wait_for(lambda: podman.inspect(box)["State"]["Status"] == "exited" and podman.inspect(box)["RestartCount"] == 2)
    podman.ok("rm", box)
    podman.fails("container", "checkpoint", podman.running(), match="checkpoint|support")


@pytest.mark.parametrize("options", [["--pid", "host"], ["--init"], ["--ipc", "host"], ["--uts", "host"], ["--privileged"],
                                     ["--cgroups", "disabled"], ["--network", "host"], ["--cap-add", "all"]])
@pytest.mark.full
def test_stop_with(podman, options):
    if options == ["--init"]:
        options = ["--init", "--init-path", "/usr/bin/tini-static"]
    name = podman.running(*options, command=("sh", "-c", "trap 'exit 4' TERM; while :; do sleep 0.1; done"))
    assert podman.ok("exec", name, "echo", "in") == "in"
    podman.ok("stop", "-t", "20", name)
    assert podman.inspect(name)["State"]["ExitCode"] == 4
    podman.ok("rm", name)


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_an_image_of_skink_and_back(podman, kind):
    path, diff_ids, files = transfers.send(podman.world)
    podman.ok("load", "-q", "-i", path)
    assert podman.inspect(transfers.NAME)["RootFS"]["Layers"] == diff_ids
    assert podman.ok("run", "--rm", transfers.NAME, *transfers.LIST) == files
    back = podman.world.path("back.tar")
    podman.ok("save", "-q", "--format", kind, "-o", back, transfers.NAME)
    assert transfers.receive(podman.world, back, diff_ids) == files
    podman.ok("rmi", transfers.NAME)

# SPDX-License-Identifier: Apache-2.0
"""The programs that are compared, as the command lines they want."""
import json
import re
import shutil
import subprocess
import tempfile
import time


class CommandFailed(Exception):
    """A command that had to work did not; the text is what it said."""


def run(argv, timeout=60, check=True):
    """Standard output of a command. Output goes through files, not pipes: what it leaves behind may keep them open."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise CommandFailed(f"{argv[0]}: not done after {timeout} s") from None
        out.seek(0)
        err.seek(0)
        if check and done.returncode != 0:
            last = (err.read().decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise CommandFailed(f"{argv[0].rpartition('/')[2]}: {last}")
        return out.read().decode(errors="replace")


class OciRuntime:
    """skink-oci, crun and runc take the same words."""

    def __init__(self, name, path, work, by_systemd=False):
        self.name = name
        self.path = path
        self.prefix = f"{work.tag}-{name}"
        self.base = [path, "--root", work.run_path(name), *(["--systemd-cgroup"] if by_systemd else [])]

    def id(self, suffix="0"):
        return f"{self.prefix}-{suffix}"

    def run(self, bundle, suffix="0", detach=False):
        return [*self.base, "run", *(["--detach"] if detach else []), "--bundle", bundle, self.id(suffix)]

    def create(self, bundle, suffix="0"):
        return [*self.base, "create", "--bundle", bundle, self.id(suffix)]

    def start(self, suffix="0"):
        return [*self.base, "start", self.id(suffix)]

    def delete(self, suffix="0"):
        return [*self.base, "delete", "--force", self.id(suffix)]

    def exec(self, *args, suffix="0"):
        return [*self.base, "exec", self.id(suffix), *args]

    def state(self, suffix="0"):
        return [*self.base, "state", self.id(suffix)]

    def list(self):
        return [*self.base, "list"]

    def version(self):
        return _version(self.path)


class Skink:
    name = "skink"

    def __init__(self, path, work):
        self.path = path
        self.prefix = f"{work.tag}-skink"
        self.image = "bench:latest"
        self.run_dir = work.run_path("skink")
        self.base = [path, "--root", work.path("skink-store"), "--run", self.run_dir]
        run([*self.base, "load", str(work.image)])
        images = json.loads(run([*self.base, "images", "--format", "json"]))
        self.image = images[0]["name"] if isinstance(images, list) else images["name"]

    def id(self, suffix="0"):
        return f"{self.prefix}-{suffix}"

    def first_run(self, archive, top, run_dir):
        """The commands that a new user gives for an image in a file, with a store of their own below `top`."""
        return [[self.path, "--root", f"{top}/store", "--run", run_dir, "run", "--rm", archive, "/bin/true"]]

    def forget(self, top, run_dir):
        """What first_run has stored."""
        return [[self.path, "--root", f"{top}/store", "--run", run_dir, "rmi", "-f", "bench:latest"]]

    def run_once(self, *args):
        return [*self.base, "run", "--rm", self.image, *args]

    def keep_running(self, *args, suffix="0", options=()):
        return [*self.base, "run", "-d", "--name", self.id(suffix), *options, self.image, *args]

    def delete(self, suffix="0"):
        return [*self.base, "rm", "-f", self.id(suffix)]

    def signal(self, name, suffix="0"):
        return [*self.base, "kill", "-s", name, self.id(suffix)]

    def ps(self):
        return [*self.base, "ps"]

    def inspect(self, suffix="0"):
        facts = json.loads(run([*self.base, "inspect", "--format", "json", self.id(suffix)]))
        return facts[0] if isinstance(facts, list) else facts

    def pid(self, suffix="0"):
        return int(self.inspect(suffix)["pid"])

    def keepers(self, suffix="0"):
        """The pids of what keeps one container alive."""
        facts = self.inspect(suffix)
        return [int(facts[key]) for key in ("guard_pid", "supervisor_pid") if facts.get(key)]

    def version(self):
        return _version(self.path)


class Podman:
    name = "podman"

    def __init__(self, path, work):
        self.path = path
        self.prefix = f"{work.tag}-podman"
        self.base = [path, "--root", work.path("podman-store"), "--runroot", work.run_path("podman"),
                     "--tmpdir", work.path("podman-tmp"), "--cgroup-manager", "cgroupfs", "--events-backend", "none"]
        # Without --ulimit podman asks for more than a root without CAP_SYS_RESOURCE may.
        self.options = ["--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024",
                        "--cgroup-parent", "/" + self.prefix]
        run([*self.base, "load", "-q", "-i", str(work.image)])
        self.image = run([*self.base, "images", "-q"]).split()[0]

    def id(self, suffix="0"):
        return f"{self.prefix}-{suffix}"

    def first_run(self, archive, top, run_dir):
        base = [self.path, "--root", f"{top}/store", "--runroot", run_dir, "--tmpdir", f"{top}/tmp", *self.base[7:]]
        return [[*base, "load", "-q", "-i", archive], [*base, "run", "--rm", *self.options, "localhost/bench:latest", "/bin/true"]]

    def forget(self, top, run_dir):
        base = [self.path, "--root", f"{top}/store", "--runroot", run_dir, "--tmpdir", f"{top}/tmp", *self.base[7:]]
        return [[*base, "rmi", "-f", "localhost/bench:latest"]]

    def run_once(self, *args):
        return [*self.base, "run", "--rm", *self.options, self.image, *args]

    def keep_running(self, *args, suffix="0", options=()):
        return [*self.base, "run", "-d", *self.options, "--name", self.id(suffix), *options, self.image, *args]

    def delete(self, suffix="0"):
        return [*self.base, "rm", "-f", "-t", "0", self.id(suffix)]

    def pid(self, suffix="0"):
        return int(run([*self.base, "inspect", "-f", "{{.State.Pid}}", self.id(suffix)]))

    def keepers(self, suffix="0"):
        file = run([*self.base, "inspect", "-f", "{{.ConmonPidFile}}", self.id(suffix)]).strip()
        with open(file, encoding="ascii") as text:
            return [int(text.read())]

    def version(self):
        return _version(self.path)


class Umoci:
    """Unpacks images and runs nothing: for P6 alone, up to the tree in a directory."""

    name = "umoci"

    def __init__(self, path, _work):
        self.path = path

    def first_run(self, archive, top, _run_dir):
        return [["mkdir", "-p", f"{top}/layout"], ["tar", "-x", "-C", f"{top}/layout", "-f", archive],
                [self.path, "unpack", "--image", f"{top}/layout:bench:latest", f"{top}/bundle"]]

    def forget(self, top, _run_dir):
        return [["rm", "-rf", top]]

    def stop(self):
        pass

    def version(self):
        return _version(self.path)


class Containerd:
    """A daemon of our own, which stands ready before the clock starts, and ctr: for P6 alone."""

    name = "containerd"

    def __init__(self, path, work):
        self.path = path
        self.ctr = [find("ctr"), "--address", work.run_path("containerd.sock")]
        self.group = f"{work.tag}-containerd"
        config = work.path("containerd.toml")
        with open(config, "w", encoding="ascii") as file:
            file.write(f'version = 2\nroot = "{work.path("containerd")}"\nstate = "{work.run_path("containerd")}"\n'
                       'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
                       f'[grpc]\n  address = "{self.ctr[2]}"\n')
        self.daemon = subprocess.Popen([path, "--config", config], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
        self._await()

    def _await(self):
        for _ in range(100):
            try:
                run([*self.ctr, "version"])
                return
            except CommandFailed as why:
                last = why
                time.sleep(0.1)
        self.stop()
        raise last

    def first_run(self, archive, _top, run_dir):
        name = "bench-" + run_dir.rpartition("/")[2]
        return [[*self.ctr, "image", "import", archive],
                [*self.ctr, "run", "--rm", "--cgroup", f"/{self.group}", "bench:latest", name, "/bin/true"]]

    def forget(self, _top, _run_dir):
        return [[*self.ctr, "image", "rm", "--sync", "bench:latest"]]

    def stop(self):
        self.daemon.terminate()
        self.daemon.wait()

    def version(self):
        return _version(self.path)


def find(name):
    return shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")


def _version(path):
    text = run([path, "--version"], check=False).splitlines()
    found = re.search(r"\d+(\.\d+)+\S*", text[0]) if text else None
    return found.group(0) if found else "unknown"

# SPDX-License-Identifier: Apache-2.0
"""A cell: mount, network and process namespaces of one's own, in which an orchestrator runs as if it owned the host.

/etc, /var/lib, /usr/local and /opt are overlays, /run and /dev/shm are fresh, so that configuration goes to the places
that the documentation names and nothing of it reaches the host. Cgroups are the host's: every engine is told a parent
that carries the test's id. The cell ends with its process 1, and everything in it.

A cell has no systemd, even where its host has one. Guest is the virtual machine itself, for engines that work with its systemd.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

import pytest
import skinktest
import terminal
from skinktest import Result, kill_quietly, mkimg, read_text, wait_for

# The program under test; another runtime in its place shows what an engine or this host is to blame for.
RUNTIME = os.environ.get("SKINK_TEST_YARDSTICK") or skinktest.SKINK_OCI
ORCHESTRATORS = os.path.join(skinktest.TOP, "docs", "orchestrators.md")


def documented(heading, kind):
    """The one code block of a language below a heading of docs/orchestrators.md: what a reader would copy."""
    section = re.split(r"^## ", read_text(ORCHESTRATORS), flags=re.M)
    found = [one for one in section if one.startswith(heading + "\n")]
    assert len(found) == 1, "docs/orchestrators.md has %d sections %r" % (len(found), heading)
    blocks = re.findall(r"^```%s\n(.*?)^```$" % kind, found[0], flags=re.M | re.S)
    assert len(blocks) == 1, "%d blocks of %s in %r" % (len(blocks), kind, heading)
    return blocks[0]


def without_systemd(block):
    """What the page says to change on a host that systemd does not run."""
    return block.replace("SystemdCgroup = true", "SystemdCgroup = false").replace("systemd", "cgroupfs")


def cannot(reason):
    """What other machines may be unable to do the virtual one has to do."""
    if skinktest.IN_VM:
        pytest.fail(reason)
    pytest.skip(reason)


def need_programs(programs):
    for program in programs:
        if shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            pytest.skip("%s is not installed" % program)


class Cell:
    def __init__(self, world, programs):
        need_programs(programs)
        self.world = world
        self.parent = "skink-test-" + world.id
        self.group_parent = "/" + self.parent
        os.mkdir(world.path("cell"))
        ready = world.path("cell/ready")
        self.log = open(world.path("cell/log"), "wb")
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private",
             sys.executable, os.path.join(skinktest.HERE, "cell_init.py"), world.path("cell"), RUNTIME],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT, env=self.environment())
        world.background.append(self.process)
        wait_for(lambda: os.path.exists(ready) or self.process.poll() is not None, message="cell does not get ready")
        if self.process.poll() is not None:
            cannot("no cell on this host: " + read_text(world.path("cell/log")).strip()[-200:])
        self.init = int(read_text("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid)).split()[0])
        self.images = self.make_image()

    def documented(self, heading, kind):
        """For an engine in here."""
        return without_systemd(documented(heading, kind))

    def environment(self, more=None):
        env = self.world.environment(more)
        env["PATH"] = "/usr/local/sbin:/usr/local/bin:" + env["PATH"]
        env["TMPDIR"] = self.world.base
        return env

    def make_image(self):
        """One busybox image in both formats; "pause" is what a pod's sandbox runs."""
        layer = mkimg.Layer(mkimg.busybox_tar())
        run = {"Env": ["PATH=/bin:/usr/bin"], "Cmd": ["sh"]}
        images = [mkimg.Image([layer], run, "localhost/busybox:latest"),
                  mkimg.Image([layer], dict(run, Cmd=["sleep", "100000"]), "localhost/pause:latest")]
        return {"oci": mkimg.oci_archive(self.world.path("oci.tar"), *images),
                "docker": mkimg.docker_archive(self.world.path("docker.tar"), *images)}

    def command(self, *args):
        return ["nsenter", "--mount", "--net", "--ipc", "--pid", "--target", str(self.init), "--"] + [str(arg) for arg in args]

    def __call__(self, *args, input=None, env=None, timeout=90):
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(self.command(*args), stdout=out, stderr=err, env=self.environment(env),
                                       stdin=subprocess.DEVNULL if input is None else subprocess.PIPE)
            try:
                process.communicate(input.encode() if isinstance(input, str) else input, timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                process.returncode = "hangs"
            out.seek(0), err.seek(0)
            result = Result(args, process.returncode, out.read(), err.read())
        self.world.said.append(result)
        assert result.status != "hangs", "TIME: did not end in %d s: %r" % (timeout, result)
        return result

    def ok(self, *args, **more):
        result = self(*args, **more)
        assert result.status == 0, "should succeed: %r" % result
        return result.out.strip()

    def fails(self, *args, status=None, match=None, **more):
        result = self(*args, **more)
        assert result.status != 0, "should fail: %r" % result
        assert status is None or result.status == status, "status %s wanted: %r" % (status, result)
        assert match is None or re.search(match, result.out + result.err, re.I), "should say %r: %r" % (match, result)
        return result

    def daemon(self, *args, log, env=None):
        """Starts a daemon in the cell, with which it ends; its output is in a file of the world."""
        with open(self.world.path(log), "ab") as out:
            process = subprocess.Popen(self.command(*args), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                       env=self.environment(env))
        self.world.background.append(process)
        return process

    def write(self, path, text):
        self.ok("sh", "-c", 'mkdir -p "$(dirname "$1")" && cat > "$1"', "sh", path, input=text)

    def groups(self, pattern):
        """Cgroups below our parent that a runtime made, which an engine names by `pattern`."""
        return sorted(os.path.join(directory, name) for directory, subdirs, _ in os.walk("/sys/fs/cgroup") for name in subdirs
                      if self.parent in directory and re.search(pattern, name))

    def end(self):
        kill_quietly(self.init)
        self.process.wait(timeout=30)
        self.log.close()
        # The parent is the engines' own, which leave it behind.
        for directory, _, _ in os.walk("/sys/fs/cgroup", topdown=False):
            if self.parent in directory:
                try:
                    os.rmdir(directory)
                except OSError:
                    pass
        self.world.end()


class Guest(Cell):
    """The virtual machine as it is, its systemd included; for what is marked vm_only. What is written is put back at the end."""

    def __init__(self, world, programs):
        need_programs(programs)
        self.world, self.before = world, {}
        # A slice right below the root one, whose name says whose it is.
        self.parent = self.group_parent = "skinktest%s.slice" % world.id
        self.images = self.make_image()

    def documented(self, heading, kind):
        return documented(heading, kind)

    def command(self, *args):
        return [str(arg) for arg in args]

    def write(self, path, text):
        self.before.setdefault(path, read_text(path) if os.path.exists(path) else None)
        super().write(path, text)

    def end(self):
        self.world.remove_containers()
        subprocess.run(["systemctl", "stop", self.parent], stderr=subprocess.DEVNULL)
        for path, text in self.before.items():
            if text is None:
                os.unlink(path)
            else:
                super().write(path, text)
        self.world.end()


class Terminal(terminal.Terminal):
    """A command of a cell on a terminal."""

    def __init__(self, cell, command, columns=80, lines=24):
        super().__init__(cell.world, cell.command(*command), columns, lines)


def checked(engine, remove, pattern):
    """What a test gets: an engine that runs already, and a look at the end. What the runtime left in cgroups is a leak."""
    yield engine
    remove()
    wait_for(lambda: not engine.cell.groups(pattern), 10, message="cgroups left: %s" % engine.cell.groups(pattern))


def kept(make, tag):
    """An engine for all tests of a worker: daemons take seconds to start."""
    world = skinktest.World(tag)
    engine = None
    try:
        engine = make(world)
        yield engine
    finally:
        if engine is not None:
            engine.cell.end()
        else:
            world.leaks_expected = True
            world.end()

# SPDX-License-Identifier: Apache-2.0
"""buildah with skink-oci as its runtime: single commands and builds with RUN, in a cell of its own."""

import os

import pytest
import transfers
from cell import Cell, Terminal, checked, kept

# Limits that this machine allows, and our name in the path of cgroups.
HERE = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\nnetns = "host"\n'
RUNTIME = ["--isolation", "oci", "--runtime", "/usr/local/bin/skink-oci"]


class Buildah:
    def __init__(self, world):
        self.world, self.cell = world, Cell(world, ["buildah"])
        self.cell.write("/etc/containers/containers.conf", self.cell.documented("podman and buildah", "toml"))
        self.cell.write("/etc/containers/containers.conf.d/here.conf", HERE)
        self.cell.write("/etc/containers/policy.json", '{"default": [{"type": "insecureAcceptAnything"}]}')
        self.cell.write("/etc/containers/storage.conf", '[storage]\ndriver = "overlay"\ngraphroot = "/var/lib/containers/storage"\n'
                                                        'runroot = "/run/containers/storage"\n')
        self.ok("pull", "-q", "docker-archive:" + self.cell.images["docker"] + ":localhost/busybox:latest")

    def __call__(self, *args, **more):
        return self.cell("buildah", *args, **more)

    def ok(self, *args, **more):
        return self.cell.ok("buildah", *args, **more)

    def fails(self, *args, **more):
        return self.cell.fails("buildah", *args, **more)

    def working(self, *options):
        return self.ok("from", "--cgroup-parent", "/" + self.cell.parent, *options, "localhost/busybox")


@pytest.fixture(scope="session")
def buildah_engine():
    yield from kept(Buildah, "buildah")


@pytest.fixture
def buildah(buildah_engine):
    yield from checked(buildah_engine, lambda: buildah_engine.ok("rm", "--all"), r"buildah")


def test_run(buildah):
    box = buildah.working("--memory", "64m")
    result = buildah("run", *RUNTIME, box, "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (result.status, result.out) == (3, "out\n") and result.err.startswith("err\n")
    buildah.ok("run", *RUNTIME, box, "--", "sh", "-c", "echo made > /made")
    by_environment = {"BUILDAH_RUNTIME": "/usr/local/bin/skink-oci", "BUILDAH_ISOLATION": "oci"}
    assert buildah.ok("run", "--user", "1000", "--cap-drop", "CAP_CHOWN", box, "--", "sh", "-c", "cat /made; id -u",
                      env=by_environment).split() == ["made", "1000"]
    assert "67108864" in buildah.ok("run", *RUNTIME, box, "--", "sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || "
                                    "cat /sys/fs/cgroup/memory.max")
    buildah.fails("run", *RUNTIME, box, "--", "/no/such", match="no such file")
    buildah.ok("rm", box)


def test_run_on_a_terminal(buildah):
    box = buildah.working()
    terminal = Terminal(buildah.cell, ["buildah", "run", "-t"] + RUNTIME + [box, "--", "sh", "-c", "tty; stty size; exit 6"], 91, 33)
    assert terminal.end() == 6 and b"/dev/pts/" in terminal.text or b"/dev/console" in terminal.text, terminal.text
    buildah.ok("rm", box)


CONTAINERFILE = """FROM localhost/busybox AS first
RUN mkdir /app && echo one > /app/file
RUN --mount=type=tmpfs,target=/scratch touch /scratch/x && echo two >> /app/file
FROM localhost/busybox
COPY --from=first /app /app
USER 1000
RUN id -u > /tmp/user && grep -c CapEff /proc/self/status
CMD ["cat", "/app/file", "/tmp/user"]
"""


def test_bud(buildah):
    directory = buildah.world.path("context")
    os.mkdir(directory)
    buildah.world.write("context/Containerfile", CONTAINERFILE)
    buildah.ok("bud", *RUNTIME, "--cgroup-parent", "/" + buildah.cell.parent, "--memory", "64m", "-t", "localhost/made", directory)
    box = buildah.ok("from", "--cgroup-parent", "/" + buildah.cell.parent, "localhost/made")
    assert buildah.ok("run", *RUNTIME, box, "--", "cat", "/app/file", "/tmp/user").split() == ["one", "two", "1000"]
    buildah.world.write("context/Containerfile", "FROM localhost/busybox\nRUN exit 7\n")
    buildah.fails("bud", *RUNTIME, directory, match="exit status 7")
    buildah.ok("rm", box)


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_layers_with_whiteouts_for_skink(buildah, kind):
    """Several layers: files that go, and a directory that goes and comes again."""
    steps = ["mkdir -p /x/a/b /x/c && echo 1 > /x/a/one && echo 2 > /x/a/b/two && echo 3 > /x/c/three && ln -s a /x/link",
             "rm -r /x/a && mkdir -m 0750 /x/a && echo 4 > /x/a/four", "rm /x/c/three && echo 5 > /x/five"]
    base = "localhost/busybox"
    for number, step in enumerate(steps):
        box = buildah.ok("from", "--cgroup-parent", "/" + buildah.cell.parent, base)
        buildah.ok("run", *RUNTIME, box, "--", "sh", "-c", step)
        base = "localhost/step-%d" % number
        buildah.ok("commit", "-q", box, base)
    files = buildah.ok("run", *RUNTIME, box, "--", *transfers.LIST)
    archive = buildah.world.path("made.tar")
    buildah.ok("push", "-q", base, "%s:%s:localhost/made:1" % (kind, archive))
    assert "four" in files and "three" not in files and transfers.receive(buildah.world, archive) == files

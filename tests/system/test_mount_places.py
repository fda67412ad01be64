# SPDX-License-Identifier: Apache-2.0
"""skink-oci: where mounts come from and where they go: links on the way, sources inside the container, their order."""

import os

import pytest


def bind(source, to, *options, **more):
    return dict({"destination": to, "type": "bind", "source": source, "options": ["bind"] + list(options)}, **more)


@pytest.fixture
def run(oci, bundle, world):
    """Runs a container of these mounts, in a root where links and directories have been made; gives its output's lines."""
    def start(args, mounts, links=(), directories=(), change=None):
        b = bundle(list(args))
        b.config["root"]["readonly"] = False
        for path in directories:
            os.makedirs(b.rootfs + path)
        for path, target in links:
            if os.path.lexists(b.rootfs + path):
                os.remove(b.rootfs + path)
            os.symlink(target, b.rootfs + path)
        b.config["mounts"] += mounts
        if change:
            change(b)
        b.save()
        start.bundle = b
        return oci.ok("run", "--bundle", b.dir, world.name()).splitlines()
    return start


@pytest.mark.parametrize("links, real", [
    ([("/etc/hosts", "/srv/hosts")], "/srv/hosts"),
    ([("/jump", "/srv/foo/bar"), ("/etc/hosts", "/jump/baz/hosts")], "/srv/foo/bar/baz/hosts"),
    ([("/etc/hosts", "not/there/hosts")], "/etc/not/there/hosts"),
    ([("/etc/hosts", "../../../../over/the/top")], "/over/the/top"),
    ([("/a", "b"), ("/b", "/c/"), ("/etc/hosts", "../a/hosts")], "/c/hosts")])
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_target_behind_links_that_lead_nowhere_is_made(run, world, links, real, kind):
    os.makedirs(world.path("dir"))
    source = world.write("dir/f", "text\n") if kind == "file" else os.path.dirname(world.write("dir/f", "text\n"))
    shown = real if kind == "file" else real + "/f"
    out = run(["sh", "-c", "cat %s /etc/hosts%s; grep -c ' %s ' /proc/self/mounts" % (shown, "" if kind == "file" else "/f", real)],
              [bind(source, "/etc/hosts")], links)
    assert out == ["text", "text", "1"]
    assert os.path.lexists(run.bundle.rootfs + real), "made in the root, not outside"


def test_links_that_lead_round_and_round_are_an_error(oci, bundle, world):
    b = bundle()
    b.config["root"]["readonly"] = False
    os.symlink("two", b.rootfs + "/one")
    os.symlink("one", b.rootfs + "/two")
    # Each of these is followed and leads to a longer path.
    os.symlink("grow/x", b.rootfs + "/grow")
    for target in ("/one/f", "/grow"):
        b.config["mounts"] = b.config["mounts"][:6] + [bind(world.write("plain", ""), target)]
        b.save()
        oci.fails("run", "--bundle", b.dir, world.name(), match=[r"mounts\[6\]", target, "symbolic links"])
    assert world.leaks(3) == []


@pytest.mark.parametrize("place", ["proc", "sys"])
@pytest.mark.parametrize("what", ["link", "dangling", "file"])
def test_proc_and_sys_are_mounted_on_ordinary_directories_only(oci, bundle, world, place, what):
    b = bundle()
    b.config["root"]["readonly"] = False
    b.config["mounts"] = [m for m in b.config["mounts"] if m["destination"] in ("/proc", "/sys")]
    path = b.rootfs + "/" + place
    os.rmdir(path)
    if what == "file":
        open(path, "w").close()
    else:
        os.symlink("/bin" if what == "link" else "/not/there", path)
    b.save()
    oci.fails("run", "--bundle", b.dir, world.name(), match=["on /" + place, "must be mounted on ordinary directory"])
    assert not os.path.lexists(b.rootfs + "/not")

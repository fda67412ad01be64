# SPDX-License-Identifier: Apache-2.0
"""skink-oci: where mounts come from and where they go: links on the way, sources inside the container, their order."""

import os
import subprocess

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


def test_a_link_of_procfs_is_no_target(oci, bundle, world):
    b = bundle()
    os.symlink("x", world.path("link"))
    b.config["mounts"].append(bind(world.path("link"), "/proc/self", "src-nofollow", "dest-nofollow"))
    b.save()
    oci.fails("run", "--bundle", b.dir, world.name(), match=[r"mounts\[6\]", "/proc/self", "symbolic links"])


def test_a_dev_that_is_a_link_to_nowhere_is_an_error(oci, bundle, world):
    b = bundle()
    b.config["mounts"] = [m for m in b.config["mounts"] if not m["destination"].startswith("/dev")]
    os.rmdir(b.rootfs + "/dev")
    os.symlink("/made/for/it", b.rootfs + "/dev")
    b.save()
    oci.fails("run", "--bundle", b.dir, world.name(), match=["linux.devices", "No such file"])
    assert not os.path.exists(b.rootfs + "/made")


def test_nodes_bound_from_the_host_are_for_nothing_else(run, world):
    os.chmod(world.base, 0o755)

    def change(b):
        b.config["linux"]["namespaces"].append({"type": "user"})
        b.config["linux"]["uidMappings"] = b.config["linux"]["gidMappings"] = MAP
        subprocess.run(["chown", "-R", "100000:100000", b.rootfs], check=True)
    flags, optional = run(["sh", "-c", "grep ' /dev/null ' /proc/self/mountinfo"], [], change=change)[0].split()[5:7]
    assert {"nosuid", "noexec"} <= set(flags.split(",")) and optional == "-"


# Sources.

MAP = [{"containerID": 0, "hostID": 100000, "size": 65536}]


@pytest.mark.parametrize("userns", [False, True])
@pytest.mark.parametrize("mapped", [False, True])
def test_a_source_below_the_root_is_what_the_container_has_there_by_then(run, world, userns, mapped):
    """As with runc: the tree of mounts that earlier entries have made; and a destination can be said the same way."""
    os.chmod(world.base, 0o755)
    for name in ("a/x", "b/y", "c/z"):
        os.makedirs(world.path("src/" + name))
        world.write("src/%s/file" % name, name + "\n")
    os.symlink("b", world.path("src/sym-b"))
    os.chmod(world.path("src"), 0o700)  # the container's own ids have no way to it

    def change(b):
        more = {"uidMappings": MAP, "gidMappings": MAP} if mapped else {}
        words = ["rprivate"] + (["idmap"] if mapped else [])
        b.config["mounts"] += [dict(bind(b.rootfs + "/mnt" + source, b.rootfs + to, *words, **more), options=["rbind"] + words) for source, to in
                               (("/x", "/mnt/x/y/z/x"), ("/x/y", "/mnt/x/y/z"), ("", "/final"))]
        if userns:
            subprocess.run(["chown", "-R", "100000:100000", b.rootfs], check=True)
            b.config["linux"]["namespaces"].append({"type": "user"})
            b.config["linux"]["uidMappings"] = b.config["linux"]["gidMappings"] = MAP
    places = (("a", "/mnt"), ("sym-b", "/mnt/x"), ("c", "/mnt/x/y"), ("a", "/mnt/x/y/z"))
    out = run(["sh", "-c", "cat /final/x/y/z/z/x/y/z/x/file; stat -c %u /final"], [bind(world.path("src/" + name), to) for name, to in places], directories=["/final"], change=change)
    # Who owns it: root of the host, by way of the mapping, as the container's namespace calls that.
    assert out == ["a/x", {(False, False): "0", (False, True): "100000", (True, False): "65534", (True, True): "0"}[userns, mapped]]
    assert os.listdir(run.bundle.rootfs + "/final") == []


def test_a_file_below_the_root_and_one_that_is_not_there(run, oci, bundle, world):
    def change(b):
        with open(b.rootfs + "/etc/real", "w") as file:
            file.write("text\n")
        b.config["mounts"].append(bind(b.rootfs + "/etc/./real", "/etc/copy", "ro"))
    assert run(["sh", "-c", "cat /etc/copy; echo x >/etc/copy || echo kept"], [], change=change) == ["text", "kept"]
    b = bundle()
    b.config["root"]["readonly"] = False
    b.config["mounts"].append(bind(b.rootfs + "/not/there", "/m"))
    b.save()
    oci.fails("run", "--bundle", b.dir, world.name(), match=[r"mounts\[6\]", "/not/there inside the root on /m", "open the source", "No such file"])
    assert world.leaks(3) == []


@pytest.mark.parametrize("link", ["absolute", "relative"])
def test_a_link_below_the_root_leads_nowhere_outside(oci, bundle, world, link):
    """The root file system is the image's: a source inside is not to be led to the host's files by it."""
    os.makedirs(world.path("host"))
    world.write("host/secret", "of the host")
    b = bundle(["sh", "-c", "cat /m/secret; true"])
    b.config["root"]["readonly"] = False
    os.symlink(world.path("host") if link == "absolute" else "../" * 20 + world.path("host"), b.rootfs + "/link")
    b.config["mounts"].append(bind(b.rootfs + "/link", "/m"))
    b.save()
    result = oci("run", "--bundle", b.dir, world.name())
    assert result.status == 1 and "inside the root" in result.err and "of the host" not in result.out, result
    # The same path is the container's own when it has it.
    os.makedirs(b.rootfs + world.path("host"))
    with open(b.rootfs + world.path("host") + "/secret", "w") as file:
        file.write("its own")
    assert oci.ok("run", "--bundle", b.dir, world.name()) == "its own"


# The order of the list is the order of /proc/self/mountinfo: the kernel sorts by number, and a number is got when a mount
# is made or cloned.

def test_mounts_are_listed_in_their_order(run, world):
    os.makedirs(world.path("dir"))
    world.write("file", "")
    mounts = [bind(world.path("dir"), "/one"), bind(world.path("file"), "/two"), {"destination": "/three", "type": "tmpfs", "source": "t"},
              bind(world.path("file"), "/four", "ro"), bind(world.path("dir"), "/five", "rshared"), bind(world.path("dir"), "/six", "unbindable"),
              {"destination": "/seven", "type": "tmpfs", "source": "t"}, bind("/dev/null", "/eight"), bind("/proc/self/ns/net", "/nine")]

    def change(b):
        mounts.append(bind(b.rootfs + "/four", "/ten"))
        mounts.append(bind(world.path("dir"), "/eleven"))
        b.config["mounts"] += mounts[-2:]
    out = run(["sh", "-c", "cut -d ' ' -f 5 /proc/self/mountinfo"], list(mounts), change=change)
    wanted = [m["destination"] for m in run.bundle.config["mounts"]]
    assert [place for place in out if place in wanted] == wanted


def test_hooks_and_the_program_have_nothing_of_the_visit_to_the_hosts_mounts(oci, bundle, world):
    """To clone a source late, the child goes back to the runtime's mount namespace for a moment."""
    os.makedirs(world.path("dir"))
    out = world.path("hook")
    b = bundle(["sh", "-c", "ls -l /proc/self/fd; readlink /proc/self/ns/mnt; ls -d %s; ls /m; grep -c ' /m ' /proc/self/mountinfo" % world.path("dir")])
    b.config["root"]["readonly"] = False
    b.config["mounts"].append(bind(world.path("dir"), "/m"))
    b.config["hooks"] = {"createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "(ls -l /proc/self/fd; readlink /proc/self/ns/mnt; pwd) >" + out]}]}
    b.save()
    inside = oci("run", "--bundle", b.dir, world.name()).out
    with open(out, encoding="utf-8") as file:
        hook = file.read()
    for text in (inside, hook):
        # 0, 1, 2, and the directory that ls reads itself.
        assert "mnt:" not in text.split("mnt:[", 1)[0] and text.count(" -> ") <= 4, text
        assert os.readlink("/proc/self/ns/mnt") not in text
    assert hook.splitlines()[-1] == b.rootfs and inside.splitlines()[-1] == "1" and world.path("dir") not in inside


def test_after_the_visit_masks_still_come_from_the_host(run, world):
    """A /dev of a volume has something else as null; what masks was looked up where the child was before."""
    os.makedirs(world.path("dev"))
    world.write("dev/null", "not the null device")

    def change(b):
        b.config["mounts"] = [m for m in b.config["mounts"] if not m["destination"].startswith("/dev")] + [bind(world.path("dev"), "/dev")]
        b.config["linux"]["maskedPaths"] = ["/etc/passwd"]
    assert run(["sh", "-c", "cat /dev/null; echo; stat -c %t:%T /etc/passwd"], [], change=change) == ["not the null device", "1:3"]


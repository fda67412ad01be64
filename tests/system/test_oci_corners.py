# SPDX-License-Identifier: Apache-2.0
"""Small things that users of runc rely on, each once missed by somebody who tried skink-oci in its place."""

import json
import os
import stat

import pytest

SLEEP = ["sleep", "1000"]


def bind(source, destination):
    return {"destination": destination, "type": "bind", "source": source, "options": ["bind", "rprivate"]}


@pytest.mark.parametrize("action", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_TRAP"])
def test_a_filter_that_refuses_everything_ends_the_container(oci, bundle, world, action):
    """Also the call by which a process ends."""
    b, name = bundle(["true"]), world.name()
    b.config["linux"]["seccomp"] = {"defaultAction": action}
    result = oci("run", "--bundle", b.save().dir, name, timeout=20)
    assert result.status != 0
    oci.ok("delete", "--force", name)
    name = world.name()
    oci.ok("create", "--bundle", b.dir, name, timeout=20)
    oci("start", name, timeout=20)
    oci.ok("delete", "--force", name)
    assert world.leaks(3) == []


@pytest.mark.parametrize("source,destination", [("/dev/urandom", "/dev/random"), ("/dev/null", "/dev/tty"), ("FILE", "/dev/full")])
def test_a_bind_over_a_default_device_stays(oci, bundle, world, source, destination):
    source = world.write("file", "text") if source == "FILE" else source
    b = bundle(["stat", "-c", "%F %t:%T", destination])
    b.config["mounts"].append(bind(source, destination))
    found = os.stat(source)
    kind = "character special file" if stat.S_ISCHR(found.st_mode) else "regular file"
    assert oci.ok("run", "--bundle", b.save().dir, world.name()) == "%s %x:%x" % (kind, os.major(found.st_rdev), os.minor(found.st_rdev))


@pytest.mark.parametrize("there", [True, False])
def test_a_file_on_a_path_that_ends_with_a_slash(oci, bundle, world, there):
    b = bundle(["cat", "/etc/target"])
    if there:
        with open(os.path.join(b.rootfs, "etc/target"), "w") as file:
            file.write("image")
    b.config["mounts"].append(bind(world.write("file", "text"), "/etc/target/"))
    assert oci.ok("run", "--bundle", b.save().dir, world.name()) == "text"


def test_the_whole_root_as_a_read_only_path(oci, bundle, world):
    b = bundle(["sh", "-c", "touch /new; touch /tmp/new && echo kept"])
    b.config["root"]["readonly"] = False
    b.config["linux"]["readonlyPaths"] = ["/", "/proc/sys"]
    result = oci("run", "--bundle", b.save().dir, world.name())
    assert result.out == "kept\n" and "Read-only file system" in result.err, result
    assert not os.path.exists(os.path.join(b.rootfs, "new"))


def test_an_id_that_is_taken_is_told_first(oci, bundle, world):
    b, name = bundle(SLEEP), world.name()
    oci.ok("create", "--bundle", b.dir, name)
    for verb in ("create", "run"):
        said = oci.fails(verb, "--bundle", b.dir, name, status=1, match="container with given ID already exists").err
        assert "cgroup" not in said


def test_times_can_be_read_by_everybody(oci, bundle, world):
    """One directory that is none of a container's must not make a client refuse the whole list."""
    oci.ok("create", "--bundle", bundle(SLEEP).dir, world.name())
    os.mkdir(os.path.join(world.oci_root, "stray"), 0o700)
    for entry in json.loads(oci.ok("list", "--format", "json")):
        assert entry["created"].endswith("Z") and entry["created"][:4].isdigit(), entry
    os.rmdir(os.path.join(world.oci_root, "stray"))


@pytest.mark.parametrize("number", [1, 2])
def test_a_log_that_is_a_standard_stream(oci, bundle, world, number):
    result = oci("--log", {1: "/dev/stdout", 2: "/dev/stderr"}[number], "--debug", "run", "--bundle", bundle(["echo", "ran"]).dir, world.name())
    assert result.status == 0 and "ran\n" in result.out and "level=debug" in {1: result.out, 2: result.err}[number]

# SPDX-License-Identifier: Apache-2.0
"""process.capabilities that cannot be granted: a warning and no failure (config.md "Linux Process")."""

import json
import re

from skinktest import read_text

KINDS = ("bounding", "effective", "permitted", "inheritable")


def sets_of(text):
    return {key: int(value, 16) for key, value in re.findall(r"^Cap(\w+):\s*([0-9a-f]+)$", text, re.M)}


def test_an_unknown_capability_is_a_warning(oci, bundle, world):
    b = bundle(["cat", "/proc/self/status"])
    b.config["process"]["capabilities"] = {kind: ["CAP_KILL", "CAP_TEST"] for kind in KINDS}
    b.save()
    result = oci("run", "--bundle", b.dir, world.name())
    assert result.status == 0 and "warning" in result.err and "ignoring unknown or unavailable capabilities: [CAP_TEST]" in result.err
    assert sets_of(result.out)["Bnd"] == sets_of(result.out)["Eff"] == 1 << 5
    # exec says it as run does.
    b.config["process"]["args"] = ["sleep", "1000"]
    name = world.name()
    oci("run", "-d", "--bundle", b.save().dir, name)
    process = dict(b.config["process"], args=["cat", "/proc/self/status"])
    result = oci("exec", "--process", world.write("process.json", json.dumps(process)), name)
    assert "ignoring unknown or unavailable capabilities: [CAP_TEST]" in result.err and sets_of(result.out)["Eff"] == 1 << 5


def test_what_the_runtime_has_not_is_a_warning(oci, bundle, world):
    """CAP_SYS_RESOURCE is taken from the runtime; the same container gets it where the runtime has it."""
    b = bundle(["cat", "/proc/self/status"])
    b.config["process"]["capabilities"] = {kind: ["CAP_KILL", "CAP_SYS_RESOURCE"] for kind in KINDS}
    b.save()
    result = oci("run", "--bundle", b.dir, world.name(), before=["setpriv", "--bounding-set", "-sys_resource", "--"])
    assert result.status == 0 and "cannot grant CAP_SYS_RESOURCE" in result.err
    assert sets_of(result.out)["Bnd"] == 1 << 5
    mine = sets_of(read_text("/proc/self/status"))["Prm"] >> 24 & 1
    again = oci("run", "--bundle", b.dir, world.name())
    assert again.status == 0 and sets_of(again.out)["Bnd"] >> 24 & 1 == mine


def test_an_ambient_capability_that_cannot_be_raised_is_a_warning(oci, bundle, world):
    """What is permitted and inheritable is raised all the same; exec says it as run does."""
    b = bundle(["sleep", "1000"])
    for kind in KINDS:
        b.config["process"]["capabilities"][kind] = ["CAP_KILL", "CAP_CHOWN"]
    b.config["process"]["capabilities"].update(inheritable=["CAP_KILL"], ambient=["CAP_KILL", "CAP_CHOWN"])
    b.save()
    name, log = world.name(), world.path("log")
    result = oci("run", "--detach", "--bundle", b.dir, name)
    words = "can't raise ambient capability CAP_CHOWN: "
    assert result.status == 0 and result.err.count(words) == 1 and "CAP_KILL" not in result.err
    assert result.err.startswith("skink-oci: warning: ") and len(result.err.splitlines()) == 1
    again = oci("exec", name, "cat", "/proc/self/status")
    assert again.status == 0 and words in again.err and sets_of(again.out)["Amb"] == 1 << 5
    before = len(read_text(log, ""))
    oci.options += ["--log", log]
    logged = oci("exec", name, "true")
    assert before == 0 and logged.err == "" and words in read_text(log) and "level=warning" in read_text(log)


def test_an_engine_is_not_told_of_ambient_capabilities(oci, bundle, world):
    """Its create and exec have the container's standard error, and buildah asks for all of them each time."""
    b = bundle(["sleep", "1000"])
    b.config["process"]["capabilities"].update(inheritable=[], ambient=["CAP_CHOWN"])
    b.save()
    name = world.name()
    assert oci("create", "--bundle", b.dir, name).err == ""
    oci.ok("start", name)
    assert oci("exec", "--detach", name, "true").err == ""

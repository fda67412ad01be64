# SPDX-License-Identifier: Apache-2.0
"""process.capabilities that cannot be granted: a warning and no failure (config.md "Linux Process")."""

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
    assert result.status == 0 and "warning" in result.err and '"CAP_TEST" is not a capability' in result.err
    assert sets_of(result.out)["Bnd"] == sets_of(result.out)["Eff"] == 1 << 5


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

# SPDX-License-Identifier: Apache-2.0
"""run --bundle: an OCI bundle under the same supervision."""

import os

from skinktest import wait_for


def test_a_bundle_runs(bare, bundle):
    b = bundle(["sh", "-c", "echo from a bundle; hostname; exit 6"])
    result = bare("run", "--rm", "--bundle", b.dir)
    assert (result.status, result.out) == (6, "from a bundle\nbundle\n"), result


def test_a_bundle_is_supervised(bare, bundle, world):
    name = world.name()
    bare.ok("run", "-d", "--name", name, "--restart", "always", "--bundle", bundle(["sleep", "1000"]).dir)
    pid = bare.pid(name)
    os.kill(pid, 9)
    wait_for(lambda: bare.pid(name) not in (0, pid))
    assert bare.ok("exec", name, "echo", "x") == "x"
    bare.ok("stop", "-t", "1", name)


def test_a_bundle_that_is_wrong(bare, bundle, world):
    bare.fails("run", "--rm", "--bundle", world.path("none"), status=125, match="none")
    b = bundle()
    b.save("{ this is no json")
    bare.fails("run", "--rm", "--bundle", b.dir, status=125, match="config.json")
    b.config["process"]["args"] = "not a list"
    b.save()
    bare.fails("run", "--rm", "--bundle", b.dir, status=125, match="process.args")
    b = bundle(["/no/such"])
    bare.fails("run", "--rm", "--bundle", b.dir, status=127, match="/no/such")

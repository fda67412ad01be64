# SPDX-License-Identifier: Apache-2.0
"""Control groups that somebody removes between two runs of their container."""

import os

import pytest
from skinktest import wait_for
from test_doctor import hierarchies


def waiting_groups(sk):
    """A container between two runs, and its groups on all hierarchies."""
    name = sk.running("--restart", "always", "--restart-delay", "1s", "--restart-factor", "1", "--pids-limit", "50", command=["false"])
    ident = sk.inspect(name)["id"]
    paths = [os.path.join(top, "skink", ident) for top in hierarchies() if os.path.isdir(os.path.join(top, "skink", ident))]
    if not paths:
        pytest.skip("it is systemd's scope")
    wait_for(lambda: sk.row(name)["state"] == "restarting" and sk.row(name)["restarts"] == 2, step=0.01)
    return name, paths


def goes_on(sk, name):
    wait_for(lambda: sk.row(name)["restarts"] > 3)
    assert all(run["exit"]["status"] == 1 and not run["exit"].get("error") for run in sk.history(name)), sk.history(name)


def test_all_of_them(sk):
    name, paths = waiting_groups(sk)
    for path in paths:
        os.rmdir(path)
    goes_on(sk, name)
    assert all(os.path.isdir(path) for path in paths)


@pytest.mark.parametrize("controller", ["pids", "devices", "memory", "unified"])
def test_one_of_them(sk, controller):
    """Whichever hierarchy it is: the limits are set again on it, or there is no run."""
    name, paths = waiting_groups(sk)
    lost = [path for path in paths if controller in path.split("/skink/")[0]]
    if not lost or len(paths) == 1:
        pytest.skip("no hierarchy of its own for it on this host")
    os.rmdir(lost[0])
    goes_on(sk, name)
    assert os.path.isdir(lost[0])
    if controller == "pids":
        with open(lost[0] + "/pids.max") as file:
            assert file.read() == "50\n"

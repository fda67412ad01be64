# SPDX-License-Identifier: Apache-2.0
"""skink-oci: process.selinuxLabel and linux.mountLabel. On a host without SELinux a mount namespace pretends that it is
enabled: what the kernel is told is seen by strace, and that it refuses is the kernel's own answer."""

import os
import re

import pytest
from skinktest import read_text

from test_oci import state
from test_spec_process import SLEEP

PROCESS = "system_u:system_r:container_t:s0:c124,c675"
FILES = "system_u:object_r:container_file_t:s0:c124,c675"

pytestmark = pytest.mark.skipif(os.path.exists("/sys/fs/selinux/enforce"), reason="this host has SELinux: nothing is to be pretended")

PRETEND = """
mkdir -p "$0"; mount --rbind /sys/fs/cgroup "$0"; mount -t tmpfs none /sys/fs; mkdir /sys/fs/cgroup /sys/fs/selinux
mount --move "$0" /sys/fs/cgroup; echo 1 >/sys/fs/selinux/enforce; exec "$@"
"""


@pytest.fixture
def watched(oci, world):
    """Runs a command where SELinux seems to be enabled: its result, and the calls of its processes."""
    def run(calls, *args):
        log = world.path("strace")
        before = ["unshare", "-m", "--propagation", "private", "sh", "-ec", PRETEND, world.path("groups"),
                  "strace", "-f", "-qq", "-y", "-s", "200", "-e", "trace=" + calls, "-o", log]
        return oci(*args, before=before), read_text(log)
    return run


def written_to_exec(log):
    return re.findall(r'write\(\d+<[^>]*/attr/exec>, "([^"]*)"', log)


def test_the_label_is_put_on_at_execve(oci, bundle, world, watched):
    result, log = watched("write", "run", "--bundle", bundle(["true"], selinuxLabel=PROCESS).dir, world.name())
    assert result.status == 1 and 'process.selinuxLabel: put "%s" on: Invalid argument' % PROCESS in result.err, result
    assert written_to_exec(log) == [PROCESS]
    assert world.leaks(3) == []


def test_the_label_of_an_exec(oci, bundle, world, watched):
    """Its own, by option or by document; without one that of the container."""
    name = world.name()
    oci.ok("create", "--bundle", bundle(SLEEP).dir, name)
    oci.ok("start", name)
    path = world.write("process", '{"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "selinuxLabel": "%s"}' % PROCESS)
    for words in (["--process-label", PROCESS, name, "true"], ["--process", path, name]):
        result, log = watched("write", "exec", *words)
        assert result.status == 255 and "process.selinuxLabel" in result.err, result
        assert written_to_exec(log) == [PROCESS]
    assert watched("write", "exec", name, "true")[0].status == 0
    config = os.path.join(world.oci_root, name, "config.json")
    text = read_text(config)
    with open(config, "w") as file:
        file.write(text.replace('"process": {', '"process": {"selinuxLabel": "%s", ' % PROCESS, 1))
    result, log = watched("write", "exec", name, "true")
    assert result.status == 255 and written_to_exec(log) == [PROCESS]
    assert state(oci, name)["status"] == "running"


@pytest.mark.parametrize("word", ["context", "fscontext", "defcontext", "rootcontext"])
def test_the_label_of_mounts(oci, bundle, world, watched, word):
    """Of each file system that is made for the container, but not of proc and sysfs, which the policy labels."""
    b = bundle(["true"])
    b.config["linux"]["mountLabel"] = FILES
    b.config["annotations"] = {"run.oci.mount_context_type": word} if word != "context" else {}
    b.config["mounts"] = [{"destination": "/proc", "type": "proc", "source": "proc"},
                          {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}]
    result, log = watched("fsconfig", "run", "--bundle", b.save().dir, world.name())
    assert result.status == 1 and 'mounts[1]: tmpfs on /dev: option "%s": Invalid argument' % word in result.err, result
    assert re.findall(r'FSCONFIG_SET_STRING, "(\w*context)", "([^"]*)"', log) == [(word, FILES)]
    b.config["mounts"][1]["options"].append(word + "=own:label")
    result, log = watched("fsconfig", "run", "--bundle", b.save().dir, world.name())
    assert re.findall(r'FSCONFIG_SET_STRING, "(\w*context)", "([^"]*)"', log) == [(word, "own:label")]
    assert world.leaks(3) == []

# SPDX-License-Identifier: Apache-2.0
"""skink-oci: process.selinuxLabel and linux.mountLabel. On a host without SELinux a mount namespace pretends that it is
enabled: what the kernel is told is seen by strace, and that it refuses is the kernel's own answer. The tests of `on` want
a kernel that has it, with the policy of tests/support/selinux_policy.py: one of them starts a virtual machine with that."""

import os
import re
import sys

import pytest
from skinktest import BUILD, TOP, needs, read_text, sanitized

import selinux_policy
from test_oci import state
from test_spec_process import SLEEP, started

PROCESS = "system_u:system_r:container_t:s0:c124,c675"
FILES = "system_u:object_r:container_file_t:s0:c124,c675"

HAS_SELINUX = os.path.exists("/sys/fs/selinux/enforce")
off = pytest.mark.skipif(HAS_SELINUX, reason="this host has SELinux: nothing is to be pretended")


def on(test):
    return pytest.mark.vm_only(pytest.mark.skipif(not HAS_SELINUX, reason="this machine was started without SELinux")(test))

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


@off
def test_the_label_is_put_on_at_execve(oci, bundle, world, watched):
    result, log = watched("write", "run", "--bundle", bundle(["true"], selinuxLabel=PROCESS).dir, world.name())
    assert result.status == 1 and 'process.selinuxLabel: put "%s" on: Invalid argument' % PROCESS in result.err, result
    assert written_to_exec(log) == [PROCESS]
    assert world.leaks(3) == []


@off
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


@off
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


# With SELinux

LSM = "lsm=landlock,lockdown,yama,integrity,selinux,bpf"


def label_of(pid):
    return read_text("/proc/%d/attr/current" % pid).rstrip("\0\n ")


@on
def test_a_process_has_its_label(oci, bundle, world):
    b, name = bundle(SLEEP, selinuxLabel=PROCESS), world.name()
    oci.ok("run", "--detach", "--bundle", b.dir, name)
    assert label_of(state(oci, name)["pid"]) == PROCESS
    other = PROCESS.replace("c124", "c5")
    for words, label in (([], PROCESS), (["--process-label", other], other)):
        assert oci.ok("exec", *words, name, "cat", "/proc/self/attr/current").rstrip("\0") == label
    oci.fails("run", "--bundle", bundle(selinuxLabel=PROCESS.replace("container_t", "nosuch_t")).dir, world.name(),
              match="process.selinuxLabel: put .* on: Invalid argument")


@on
def test_file_systems_have_their_label(oci, bundle, world):
    b = bundle(SLEEP)
    b.config["linux"]["mountLabel"] = FILES
    pid = started(oci, world, b)
    options = {line.split()[4]: line.split(" - ")[1] for line in read_text("/proc/%d/mountinfo" % pid).splitlines()}
    assert 'context="%s"' % FILES in options["/dev"] and 'context="%s"' % FILES in options["/dev/pts"], options
    assert "context=" not in options["/proc"] and "context=" not in options["/sys"], options
    top = "/proc/%d/root" % pid
    for path in ("/dev", "/dev/null", "/dev/pts/ptmx", "/tmp"):
        assert os.getxattr(top + path, "security.selinux", follow_symlinks=False).rstrip(b"\0").decode() == FILES, path
    b.config["linux"]["mountLabel"] = FILES.replace("container_file_t", "nosuch_t")
    oci.fails("run", "--bundle", b.save().dir, world.name(), match=r"mounts\[\d+\]: .*context.*Invalid argument")


@pytest.mark.not_vm("makes a virtual machine")
@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sanitized(), reason="the machine has not the libraries of the sanitizers")
def test_labels_in_a_machine_with_selinux(world):
    needs("checkpolicy")
    sys.path.insert(0, os.path.join(TOP, "tests", "vm"))
    import machine
    with machine.Machine(build=BUILD, kernel_args=LSM) as one:
        loaded = one.run(["sh", "-c", "cat >/tmp/policy && cat /tmp/policy >/sys/fs/selinux/load"], input=selinux_policy.compiled(world.base))
        assert loaded.status == 0, loaded
        env = {"SKINK_BUILD": "/skink/build", "SKINK_TEST_VM": "1", "SKINK_TEST_SLOWER": "8", "PYTHONDONTWRITEBYTECODE": "1"}
        done = one.run(["python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "their_label or its_label", "tests/system/test_selinux.py"],
                       env=env, cwd="/skink", timeout=1500)
        assert done.status == 0 and "2 passed" in done.out, done

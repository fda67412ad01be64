# SPDX-License-Identifier: Apache-2.0
"""What runc's own tests found in skink-oci: descriptors that the caller left open, variables, modes, masks."""

import json
import os
import subprocess

from skinktest import alive, support, wait_for


def test_descriptors_of_the_caller_are_closed_at_create(oci, bundle, world):
    name, (read_end, write_end) = world.name(), os.pipe()
    b = bundle(["sleep", "1000"])
    os.set_inheritable(write_end, True)
    command = oci.command("create", "--bundle", b.dir, name)
    subprocess.run(command, check=True, pass_fds=[write_end], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    os.close(write_end)
    pid = json.loads(oci.ok("state", name))["pid"]
    links = [os.readlink("/proc/%d/fd/%s" % (pid, fd)) for fd in os.listdir("/proc/%d/fd" % pid)]
    assert [link for link in links if link.startswith("pipe:") or "memfd:" in link] == []
    os.set_blocking(read_end, False)
    wait_for(lambda: os.read(read_end, 1) == b"")
    os.close(read_end)
    oci.ok("delete", "--force", name)


def test_the_last_home_counts(oci, bundle, world):
    b = bundle(["sh", "-c", "echo $HOME"], env=["PATH=/bin", "HOME=/override", "HOME="])
    assert oci.ok("run", "--bundle", b.dir, world.name()) == "/root"


def test_a_tmpfs_without_mode_takes_that_of_its_directory(oci, bundle, world):
    b = bundle(["stat", "-c", "%a", "/there", "/made", "/told"])
    os.mkdir(os.path.join(b.rootfs, "there"))
    os.chmod(os.path.join(b.rootfs, "there"), 0o3710)
    b.config["root"]["readonly"] = False
    b.config["mounts"] += [{"destination": "/there", "type": "tmpfs", "source": "tmpfs"},
                           {"destination": "/made", "type": "tmpfs", "source": "tmpfs"},
                           {"destination": "/told", "type": "tmpfs", "source": "tmpfs", "options": ["mode=0444"]}]
    b.save()
    assert oci.ok("run", "--bundle", b.dir, world.name()).split() == ["3710", "1777", "444"]


def test_a_path_that_is_masked_twice_is_covered_once(oci, bundle, world):
    b = bundle(["grep", "-c", " /masked ", "/proc/self/mountinfo"])
    os.mkdir(os.path.join(b.rootfs, "masked"))
    b.config["linux"]["maskedPaths"] = ["/masked", "/masked"]
    b.save()
    assert oci.ok("run", "--bundle", b.dir, world.name()) == "1"


def test_a_group_that_is_in_use_is_refused_and_left_alone(oci, bundle, world):
    b = bundle(["sleep", "1000"])
    b.config["linux"]["cgroupsPath"] = "/skink-test-%s-shared" % world.id
    b.save()
    name = world.name()
    oci.ok("run", "--detach", "--bundle", b.dir, name)
    for _ in range(2):
        oci.fails("create", "--bundle", b.dir, world.name(), status=1, match="container's cgroup is not empty")
    assert json.loads(oci.ok("state", name))["status"] == "running"


def test_a_create_that_is_killed_does_not_take_over_a_group_in_use(oci, bundle, world):
    """Killed anywhere, and what it left is deleted: the processes that were in the group live on."""
    b = bundle(["sleep", "1000"])
    b.config["linux"]["cgroupsPath"] = "/skink-test-%s-shared" % world.id
    b.save()
    name = world.name()
    oci.ok("run", "--detach", "--bundle", b.dir, name)
    pid = json.loads(oci.ok("state", name))["pid"]
    for number in range(20, 400):
        second = world.name()
        result = oci("create", "--bundle", b.dir, second, before=[support("killat"), str(number), "one"])
        if "killed" not in result.err:
            assert number > 40, result  # it ended by itself before that call
            break
        oci("delete", "--force", second)
        assert alive(pid), "call %d" % number
    oci.ok("delete", "--force", name)


def test_a_read_only_tmpfs_takes_what_is_to_be_in_it_first(oci, bundle, world):
    b = bundle(["sh", "-c", "touch /dev/x || touch /t/x || ls /dev/null /t/below; grep -E ' (/dev|/t|/t/below) ' /proc/self/mountinfo"])
    b.config["mounts"] = [dict(m, options=m["options"] + ["ro"]) if m["destination"] == "/dev" else m for m in b.config["mounts"]]
    b.config["mounts"] += [{"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "nosuid"]},
                           {"destination": "/t/below", "type": "tmpfs", "source": "tmpfs", "options": ["nodev"]}]
    os.mkdir(os.path.join(b.rootfs, "t"))
    b.save()
    out = oci.ok("run", "--bundle", b.dir, world.name())
    assert "/dev/null" in out and "/t/below" in out
    options = {line.split()[4]: line.split()[5].split(",") for line in out.splitlines() if " / " in line}
    assert "ro" in options["/dev"] and "ro" in options["/t"] and "rw" in options["/t/below"], options

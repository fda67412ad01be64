# SPDX-License-Identifier: Apache-2.0
"""A56 and A57 through skink-oci: strings that break frames, names that look like options."""

import os

import pytest
from skinktest import ALL, Bundle

# A56

def deep(count):
    return "/".join(["d" * 200] * count)


LONG = {
    "one argument": lambda c: c["process"]["args"].append("x" * 131000),
    "one argument too long": lambda c: c["process"]["args"].append("x" * (1 << 18)),
    "many arguments": lambda c: c["process"]["args"].extend(["x" * 15] * 60000),
    "more arguments than the kernel takes": lambda c: c["process"]["args"].extend(["x" * 1000] * 9000),
    "a variable of 65535": lambda c: c["process"]["env"].append("A=" + "x" * 65533),
    "a variable of 65536": lambda c: c["process"]["env"].append("A=" + "x" * 65534),
    "a variable of 65537": lambda c: c["process"]["env"].append("A=" + "x" * 65535),
    "many variables": lambda c: c["process"]["env"].extend("A%d=x" % number for number in range(30000)),
    "a long mount target": lambda c: c["mounts"].append({"destination": "/tmp/" + deep(400), "type": "tmpfs", "source": "x"}),
    "a long source": lambda c: c["mounts"].append({"destination": "/tmp/x", "type": "bind", "source": "/" + deep(400), "options": ["bind"]}),
    "long mount data": lambda c: c["mounts"].append({"destination": "/tmp/x", "type": "tmpfs", "source": "x", "options": ["size=" + "1" * 70000]}),
    "many mounts": lambda c: c["mounts"].extend({"destination": "/tmp", "type": "tmpfs", "source": "x"} for _ in range(10000 if ALL else 3000)),
    "many masks": lambda c: c["linux"]["maskedPaths"].extend("/proc/none%d" % number for number in range(30000)),
    "a long mask": lambda c: c["linux"]["maskedPaths"].append("/proc/" + deep(400)),
    "a long host name": lambda c: c.update(hostname="x" * 70000),
    "a long working directory": lambda c: c["process"].update(cwd="/" + deep(400)),
    "many groups": lambda c: c["process"]["user"].update(additionalGids=list(range(70000))),
    "a NUL in an argument": lambda c: c["process"]["args"].append("a\0b"),
    "a NUL in a variable": lambda c: c["process"]["env"].append("A=b\0PATH=/evil"),
    "a NUL in a target": lambda c: c["mounts"].append({"destination": "/tmp/a\0/../..", "type": "tmpfs", "source": "x"}),
    "a NUL in a source": lambda c: c["mounts"].append({"destination": "/tmp/x", "type": "bind", "source": "/etc\0x", "options": ["bind"]}),
    "a NUL in an option": lambda c: c["mounts"].append({"destination": "/tmp/x", "type": "tmpfs", "source": "x", "options": ["size=1m\0dev"]}),
    "a NUL in the directory": lambda c: c["process"].update(cwd="/\0x"),
    "a NUL in the host name": lambda c: c.update(hostname="a\0b"),
    "a long sysctl": lambda c: c["linux"].update(sysctl={"net." + "x" * 70000: "1"}),
    "a long annotation": lambda c: c.update(annotations={"a": "x" * (1 << 20)}),
}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("what", LONG)
def test_a56_lengths_that_break_a_frame(oci, world, canary, what):
    """What the program gets is what the document says, or there is no container and the reason is told in a line."""
    b, name = Bundle(world, ["sh", "-c", "echo $#; hostname; pwd", "sh"]), world.name()
    LONG[what](b.config)
    b.save()
    result = oci("run", "--bundle", b.dir, name, timeout=120)
    if result.status == 0:
        assert "NUL" not in what and result.out.split() == [str(len(b.config["process"]["args"]) - 4), b.config["hostname"], b.config["process"]["cwd"]], result
    else:
        assert result.status in (1, 126, 127) and result.err.count("\n") == 1 and result.out == "" and "\0" not in result.err, result
    oci.ok("delete", "--force", name)
    assert world.leaks(5) == []


# A57

NAMES = ["a,upperdir=x:y\\z", "a:b", "a\\,b", "a b\tc\nd", "a\"b'c", "a=b,exec,suid,dev", "\\040x", "é,x"]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a57_paths_that_look_like_options(oci, world, canary, name):
    """Bundle, root file system, source and state directory: a name is a name and never an option."""
    top = world.path(name)
    os.makedirs(top)
    b = Bundle(world, ["sh", "-c", "cat /m/f; grep ' /m ' /proc/self/mountinfo"])
    os.rename(b.dir, top + "/" + name)
    b.dir, b.rootfs = top + "/" + name, top + "/" + name + "/rootfs"
    os.rename(b.rootfs, b.dir + "/" + name)
    b.config["root"]["path"] = name
    os.makedirs(top + "/src")
    with open(top + "/src/f", "w") as file:
        file.write("right\n")
    b.config["mounts"].append({"destination": "/m", "type": "bind", "source": top + "/src", "options": ["bind", "ro", "nosuid", "nodev", "noexec"]})
    b.save()
    oci.options[:] = ["--root", top + "/state"]
    world.oci_root = top + "/state"
    lines = oci.ok("run", "--bundle", b.dir, world.name()).splitlines()
    assert lines[0] == "right" and {"ro", "nosuid", "nodev", "noexec"} <= set(lines[1].split()[5].split(",")), lines


@pytest.mark.parametrize("option", ["size=1m,mode=777,uid=5", "mode=700,size=1m", "ro,rw", "rprivate,shared", "bind,suid", "size=1m\\,x", "propagation=shared", "upperdir=/x"])
def test_a57_an_option_that_carries_others(oci, world, option):
    b = Bundle(world, ["sh", "-c", "grep ' /m ' /proc/self/mountinfo"])
    os.makedirs(b.rootfs + "/m")
    b.config["mounts"].append({"destination": "/m", "type": "tmpfs", "source": "x", "options": ["nosuid", option]})
    b.save()
    oci.fails("run", "--bundle", b.dir, world.name(), status=1, match="mounts")

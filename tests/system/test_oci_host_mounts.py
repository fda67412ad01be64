# SPDX-License-Identifier: Apache-2.0
"""A container without a mount namespace of its own: it inherits the runtime's (config-linux.md "Namespaces")."""

import os
import subprocess

from skinktest import read_text, wait_for


def without_mount_namespace(bundle, args):
    b = bundle(args)
    b.config["linux"]["namespaces"] = [ns for ns in b.config["linux"]["namespaces"] if ns["type"] != "mount"]
    b.config["linux"].pop("maskedPaths", None)
    b.config["linux"].pop("readonlyPaths", None)
    b.save()
    return b


def mounts_below(path):
    return [line for line in read_text("/proc/self/mountinfo").splitlines() if line.split()[4].startswith(path)]


def test_the_mount_namespace_is_the_runtimes(oci, bundle, world):
    b = without_mount_namespace(bundle, ["sh", "-c", "readlink /proc/self/ns/mnt; ls -d /bin; ls -d /work 2>&1; sleep 1000"])
    out, name = open(world.path("out"), "wb"), world.name()
    assert oci("create", "--bundle", b.dir, name, stdout=out).status == 0
    oci.ok("start", name)
    wait_for(lambda: "/work" in read_text(world.path("out")))
    lines = read_text(world.path("out")).splitlines()
    assert lines[:2] == [os.readlink("/proc/self/ns/mnt"), "/bin"] and "No such file" in lines[2]
    assert [line for line in mounts_below(b.rootfs + "/proc") if " - proc " in line]
    # Another process of the container is in the same root.
    said = oci.ok("exec", name, "sh", "-c", "readlink /proc/self/ns/mnt; ls -d /bin /work || true").splitlines()
    assert said == [os.readlink("/proc/self/ns/mnt"), "/bin"]
    oci.ok("delete", "--force", name)
    assert mounts_below(b.rootfs) == [] and world.leaks(3) == []


def test_nothing_stays_mounted_after_a_failed_create(oci, bundle, world):
    b = without_mount_namespace(bundle, ["/no/such"])
    oci.fails("create", "--bundle", b.dir, world.name(), status=1, match="no such file")
    assert mounts_below(b.rootfs) == [] and world.leaks(3) == []


def test_delete_leaves_the_mounts_of_others(oci, bundle, world):
    b = without_mount_namespace(bundle, ["sleep", "1000"])
    subprocess.run(["mount", "--bind", b.rootfs, b.rootfs], check=True)
    try:
        before = len(mounts_below(b.rootfs))
        name = world.name()
        oci.ok("create", "--bundle", b.dir, name)
        assert len(mounts_below(b.rootfs)) > before
        oci.ok("delete", "--force", name)
        assert len(mounts_below(b.rootfs)) == before
    finally:
        subprocess.run(["umount", "-l", b.rootfs], check=True)

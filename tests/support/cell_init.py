# SPDX-License-Identifier: Apache-2.0
"""Process 1 of a cell (see cell.py): lays out its file systems, says that it is ready, and reaps orphans."""

import os
import shutil
import signal
import subprocess
import sys

OVERLAID = ("etc", "var/lib", "usr/local", "opt", "root")
# An overlay cannot lie on an overlay: stores get a tmpfs each.
STORES = ("/var/lib/containers", "/var/lib/containerd", "/var/lib/docker", "/var/lib/cni")
# The host's own configuration is not to be seen.
HIDDEN = ("/etc/containers/containers.conf", "/etc/containers/containers.conf.d", "/etc/containers/storage.conf", "/etc/cni/net.d",
          "/etc/docker", "/etc/containerd")
INSTALLED = "/usr/local/bin/skink-oci"


def mount(*args):
    subprocess.run(["mount"] + list(args), check=True)


def tmpfs(path, mode):
    mount("-t", "tmpfs", "-o", "mode=" + mode, "tmpfs", path)


def overlay(upper, name):
    for kind in ("up", "work"):
        os.makedirs(os.path.join(upper, kind, name))
    shutil.copystat("/" + name, os.path.join(upper, "up", name))
    mount("-t", "overlay", "-o", "lowerdir=/%s,upperdir=%s/up/%s,workdir=%s/work/%s" % (name, upper, name, upper, name),
          "overlay", "/" + name)


def cgroup_view(place):
    """The hierarchies of v1 alone: crun and podman refuse a host that has one of v2 mounted beside them, and podman takes
    any directory that lies beside them for one more. A host of v2 alone stays as it is."""
    with open("/proc/self/mountinfo") as mounts:
        found = [(line.split()[4], line.split(" - ")[1].split()[0]) for line in mounts]
    hierarchies = [path for path, kind in found if kind == "cgroup" and os.path.dirname(path) == "/sys/fs/cgroup"]
    if not hierarchies:
        return
    os.mkdir(place)
    tmpfs(place, "755")
    for path in hierarchies:
        target = os.path.join(place, os.path.basename(path))
        os.mkdir(target)
        mount("--bind", path, target)
    for name in os.listdir("/sys/fs/cgroup"):
        path = os.path.join("/sys/fs/cgroup", name)
        if os.path.islink(path):
            os.symlink(os.readlink(path), os.path.join(place, name))
    subprocess.run(["umount", "-l", "--recursive", "/sys/fs/cgroup"], check=True)
    mount("--move", place, "/sys/fs/cgroup")


def prepare(top, oci):
    cgroup_view(os.path.join(top, "cgroup"))
    upper = os.path.join(top, "upper")
    os.mkdir(upper)
    tmpfs(upper, "755")
    for name in OVERLAID:
        overlay(upper, name)
    for path in STORES:
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path)
        tmpfs(path, "755")
    tmpfs("/run", "755")
    tmpfs("/dev/shm", "1777")
    os.makedirs("/run/lock")
    subprocess.run(("rm", "-rf") + HIDDEN, check=True)
    shutil.copy(oci, INSTALLED)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with open(os.path.join(top, "ready"), "w"):
        pass


def main():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    prepare(sys.argv[1], sys.argv[2])
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        signal.sigtimedwait([signal.SIGCHLD], 5.0)


main()

# SPDX-License-Identifier: Apache-2.0
"""Makes the disk of the virtual machine, its kernel and its first programs; once for each content of what goes in.

Everything is in one directory, named by a hash over the package list, the files of guest/, this file and the versions of
the programs that make it. It is made in a mount and a process namespace of its own, on a tmpfs: whatever ends the work,
no mount, process or half-made tree remains. A lock keeps two makers apart; the finished directory appears by a rename.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import lzma
import os
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
GUEST = os.path.join(HERE, "guest")
SUITE = os.environ.get("SKINK_VM_SUITE") or "bookworm"
PACKAGES = ("systemd systemd-sysv dbus linux-image-cloud-amd64 busybox-static iproute2 procps kmod util-linux mount "
            "libpam-systemd dbus-user-session apparmor python3 python3-pytest python3-pytest-xdist python3-pytest-timeout").split()
# Drivers of the disks and of the agent's port, in the order in which they need each other.
MODULES = ("virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk virtio_console").split()
# What nobody needs in a machine that lives for a minute.
MASKED = ("apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer "
          "systemd-tmpfiles-clean.timer getty.target getty@.service serial-getty@.service console-getty.service "
          "systemd-networkd.service systemd-resolved.service systemd-timesyncd.service systemd-firstboot.service "
          "systemd-ask-password-console.path systemd-ask-password-wall.path systemd-update-utmp.service "
          "systemd-update-utmp-runlevel.service systemd-hwdb-update.service ldconfig.service systemd-machine-id-commit.service "
          "systemd-boot-system-token.service systemd-pcrphase.service systemd-pcrphase-sysinit.service "
          "systemd-udevd.service systemd-udev-trigger.service systemd-udev-settle.service systemd-udevd-kernel.socket "
          "systemd-udevd-control.socket modprobe@dm_mod.service modprobe@efi_pstore.service modprobe@drm.service "
          "modprobe@configfs.service sys-kernel-config.mount sys-kernel-tracing.mount sys-kernel-debug.mount "
          "apparmor.service proc-sys-fs-binfmt_misc.automount systemd-binfmt.service systemd-network-generator.service").split()
DAEMONS = ("docker", "containerd", "podman", "buildah", "netavark")
DISK_SIZE = "4G"
# Images of older packages or scripts go when they have not been used for so long.
KEEP_SECONDS = 7 * 86400


class ImageError(Exception):
    pass


def cache_top():
    return os.environ.get("SKINK_VM_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "/var/cache", "skink-vm")


def version_of(program):
    try:
        said = subprocess.run([program, "-V" if program == "mke2fs" else "--version"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise ImageError("%s is not installed; tools/deps vm installs what the virtual machine needs" % program)
    return said.stdout.split(b"\n")[0]


def key(extra=()):
    """A hash of all that decides what the image is; `extra`: more packages."""
    content = hashlib.sha256(" ".join(sorted(extra)).encode())
    names = [os.path.join(GUEST, name) for name in sorted(os.listdir(GUEST)) if not name.startswith("__")]
    for path in names + [os.path.abspath(__file__)]:
        with open(path, "rb") as file:
            content.update(os.path.basename(path).encode() + b"\0" + hashlib.sha256(file.read()).digest())
    for program in ("mmdebstrap", "mke2fs", "busybox"):
        content.update(version_of(program))
    content.update((os.environ.get("SKINK_VM_MIRROR") or "").encode() + b"\0" + SUITE.encode())
    return content.hexdigest()[:24]


@contextlib.contextmanager
def locked(top):
    os.makedirs(top, mode=0o755, exist_ok=True)
    with open(os.path.join(top, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def prune(top, keep):
    """With the lock held: half-made directories of dead makers, and images that nobody uses any more."""
    for name in os.listdir(top):
        path = os.path.join(top, name)
        if name.startswith("making-"):
            shutil.rmtree(path, ignore_errors=True)
        elif name != keep and os.path.exists(os.path.join(path, "used")):
            if time.time() - os.stat(os.path.join(path, "used")).st_mtime > KEEP_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def find(extra=()):
    """The directory of the image when there is one: disk, vmlinuz, initrd, packages."""
    path = os.path.join(cache_top(), key(extra))
    return path if os.path.exists(os.path.join(path, "used")) else None


def ensure(say=lambda text: None, extra=()):
    """The directory of the image; makes it when there is none."""
    path = find(extra)
    if path is None:
        if os.geteuid() != 0:
            raise ImageError("making the image needs root")
        with locked(cache_top()):
            path = find(extra) or make(say, extra)
    os.utime(os.path.join(path, "used"))
    return path


def make(say, extra):
    top, name = cache_top(), key(extra)
    prune(top, name)
    begin = time.monotonic()
    say("making the image of the virtual machine (Debian %s; once, about a minute)" % SUITE)
    work, log = os.path.join(top, "making-" + name), os.path.join(top, "log")
    os.makedirs(work + "/scratch")
    os.makedirs(top + "/debs", exist_ok=True)
    with open(log, "wb") as out:
        status = subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable,
                                 os.path.abspath(__file__), work, *extra], stdin=subprocess.DEVNULL, stdout=out,
                                stderr=subprocess.STDOUT, env=dict(os.environ, LC_ALL="C", INITRD="No"),
                                preexec_fn=die_with_parent).returncode
    if status != 0:
        shutil.rmtree(work, ignore_errors=True)
        with open(log, errors="replace") as file:
            raise ImageError("the image cannot be made, see %s: %s" % (log, "".join(file.readlines()[-12:])))
    os.rmdir(work + "/scratch")
    os.rename(work, os.path.join(top, name))
    say("made it in %.0f s: %s" % (time.monotonic() - begin, os.path.join(top, name)))
    return os.path.join(top, name)


def die_with_parent():
    ctypes.CDLL(None).prctl(1, 9)


# Below: in the namespaces, by main().

def run(*command, **more):
    subprocess.run(command, check=True, **more)


def debootstrap(tree, debs, extra):
    mirror = os.environ.get("SKINK_VM_MIRROR")
    run("mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", "--include=" + ",".join([*PACKAGES, *extra]),
        "--aptopt=APT::Install-Recommends \"false\"", "--aptopt=APT::Sandbox::User \"root\"",
        "--aptopt=Acquire::Retries \"3\"", "--aptopt=Acquire::Languages \"none\"",
        # Documentation is nobody's reading here.
        "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        # Packages fetched once are fetched no more.
        "--skip=essential/unlink", "--skip=download/empty",
        "--setup-hook=mkdir -p \"$1/var/cache/apt/archives\" && cp -a " + debs + "/. \"$1/var/cache/apt/archives/\"",
        "--customize-hook=cp -u \"$1\"/var/cache/apt/archives/*.deb " + debs + "/ || true",
        SUITE, tree, *([mirror] if mirror else []))


def write(tree, path, text, mode=0o644):
    full = os.path.join(tree, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "w") as file:
        file.write(text)
    os.chmod(full, mode)


def configure(tree):
    write(tree, "etc/hostname", "skink-vm\n")
    write(tree, "etc/hosts", "127.0.0.1 localhost skink-vm\n::1 localhost ip6-localhost\n")
    write(tree, "etc/fstab", "")
    write(tree, "etc/machine-id", "5b1f0c0ffee04f0c9d3a5b1f0c0ffee0\n")
    write(tree, "etc/systemd/journald.conf.d/skink-vm.conf", "[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\nAudit=no\n")
    write(tree, "etc/systemd/system.conf.d/skink-vm.conf",
          "[Manager]\nDefaultTimeoutStartSec=300s\nDefaultTimeoutStopSec=60s\nStatusUnitFormat=name\n")
    for unit in MASKED:
        link(tree, "etc/systemd/system/" + unit, "/dev/null")
    # Daemons of extra packages start when somebody asks for them.
    for directory, _, names in os.walk(tree + "/etc/systemd/system"):
        for name in names:
            if directory.endswith(".wants") and name.startswith(DAEMONS):
                os.unlink(os.path.join(directory, name))
    os.makedirs(tree + "/usr/local/lib/skink-vm")
    shutil.copy(os.path.join(GUEST, "agent.py"), tree + "/usr/local/lib/skink-vm/agent.py")
    shutil.copy(os.path.join(GUEST, "skink-vm-agent.service"), tree + "/etc/systemd/system/")
    link(tree, "etc/systemd/system/multi-user.target.wants/skink-vm-agent.service", "../skink-vm-agent.service")
    link(tree, "etc/systemd/system/default.target", "/lib/systemd/system/multi-user.target")
    os.makedirs(tree + "/skink")
    for program in ("skink", "skink-oci"):
        link(tree, "usr/local/bin/" + program, "/skink/bin/" + program)


def link(tree, path, target):
    full = os.path.join(tree, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    if os.path.lexists(full):
        os.unlink(full)
    os.symlink(target, full)


def drop_old_packages(debs, listed):
    """Those that this image has not, when they are old: other images share the directory."""
    wanted = tuple("_".join(line.split("\t")).replace(":amd64", "").replace(":", "%3a") + "_" for line in listed.splitlines())
    for name in os.listdir(debs):
        path = os.path.join(debs, name)
        if not name.startswith(wanted) and time.time() - os.stat(path).st_mtime > KEEP_SECONDS:
            os.unlink(path)


def take_kernel(tree, work):
    """The kernel out of the tree, and an initramfs with busybox and the drivers."""
    kernel = [name for name in os.listdir(tree + "/boot") if name.startswith("vmlinuz-")][0]
    version = kernel[len("vmlinuz-"):]
    shutil.copy(os.path.join(tree, "boot", kernel), work + "/vmlinuz")
    top = "/mnt/initrd"
    for name in ("bin", "dev", "proc", "root", "modules"):
        os.makedirs(os.path.join(top, name))
    shutil.copy(tree + "/bin/busybox", top + "/bin/busybox")
    shutil.copy(os.path.join(GUEST, "init"), top + "/init")
    os.chmod(top + "/init", 0o755)
    found = {name: os.path.join(directory, name) for directory, _, names in
             os.walk(os.path.join(tree, "lib/modules", version, "kernel")) for name in names}
    # Newer kernels have them packed, or built in.
    needed = [module for module in MODULES if any(module + end in found for end in (".ko", ".ko.xz"))]
    for module in needed:
        packed = found.get(module + ".ko.xz")
        with (lzma.open(packed) if packed else open(found[module + ".ko"], "rb")) as file:
            content = file.read()
        with open("%s/modules/%s.ko" % (top, module), "wb") as file:
            file.write(content)
    write(top, "modules/order", "".join(module + ".ko\n" for module in needed))
    with open(work + "/initrd", "wb") as out:
        run("sh", "-c", "find . | busybox cpio -o -H newc", cwd=top, stdout=out)
    for name in os.listdir(tree + "/boot"):
        if name.startswith(("initrd", "System.map", "vmlinuz")):
            os.unlink(os.path.join(tree, "boot", name))


def main(work, *extra):
    # Mount propagation is private already: unshare sees to it.
    run("mount", "-t", "tmpfs", "-o", "mode=755,size=4g", "scratch", "/mnt")
    tree, debs = "/mnt/tree", os.path.join(os.path.dirname(work), "debs")
    debootstrap(tree, debs, extra)
    listed = subprocess.run(["chroot", tree, "dpkg-query", "-W"], check=True, stdout=subprocess.PIPE).stdout
    configure(tree)
    take_kernel(tree, work)
    shutil.rmtree(tree + "/var/lib/apt/lists", ignore_errors=True)
    for name in os.listdir(tree + "/var/cache/apt"):
        subprocess.run(["rm", "-rf", os.path.join(tree, "var/cache/apt", name)])
    run("mke2fs", "-q", "-t", "ext4", "-d", tree, "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", "-J", "size=16",
        work + "/disk", DISK_SIZE)
    with open(work + "/packages", "wb") as file:
        file.write(listed)
    drop_old_packages(debs, listed.decode())
    open(work + "/used", "w").close()


if __name__ == "__main__":
    main(*sys.argv[1:])

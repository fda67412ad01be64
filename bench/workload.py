# SPDX-License-Identifier: Apache-2.0
"""What is measured on: a directory of the bench's own with a root file system, bundles and an image of it."""
import copy
import gzip
import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile

CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
PLAIN = ["nosuid", "noexec", "nodev"]

# The configuration that `runc spec` writes, without a terminal: the bundle every runtime is used to.
CONFIG = {
    "ociVersion": "1.0.2",
    "process": {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": ["/bin/true"],
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": {name: CAPABILITIES for name in ("bounding", "effective", "permitted")},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    },
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "bench",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": PLAIN + ["mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": PLAIN},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": PLAIN + ["ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": PLAIN + ["relatime", "ro"]},
    ],
    "linux": {
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "namespaces": [{"type": name} for name in ("pid", "network", "ipc", "uts", "mount")],
        "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                        "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    },
}


def in_memory():
    """A directory that is a tmpfs: /run, or /dev/shm on a machine that keeps /run on its disk."""
    for place in ("/run", "/dev/shm"):
        kind = subprocess.run(["stat", "-f", "-c", "%T", place], stdout=subprocess.PIPE, check=False).stdout
        if kind.strip() == b"tmpfs":
            return place
    return "/run"


class Workload:
    """Files below `top`; `tag` begins every name that the bench gives to a container, so that nobody else's is met."""

    def __init__(self, top, programs):
        self.top = pathlib.Path(top)
        # What lives in /run by default lies in memory for all of them, as /run does wherever there is systemd.
        self.run = pathlib.Path(tempfile.mkdtemp(prefix="skink-bench-", dir=in_memory()))
        self.tag = f"skink-bench-{os.getpid()}"
        self.rootfs = self.top / "rootfs"
        self.image = self.top / "image.tar"
        self.errors = self.top / "stderr"
        self._make_rootfs(programs)
        self._make_image()

    def path(self, name):
        return str(self.top / name)

    def run_path(self, name):
        return str(self.run / name)

    def bundle(self, name, args, memory=None):
        """The directory of a bundle that runs `args`, made when it is not there."""
        directory = self.top / "bundles" / name
        if not directory.exists():
            directory.mkdir(parents=True)
            config = copy.deepcopy(CONFIG)
            config["process"]["args"] = args
            config["root"]["path"] = str(self.rootfs)
            if memory is not None:
                config["linux"]["resources"]["memory"] = {"limit": memory}
            (directory / "config.json").write_text(json.dumps(config))
        return str(directory)

    def remove(self):
        """The files, and the cgroups with our tag that somebody left empty."""
        for directory in (self.top, self.run):
            shutil.rmtree(directory, ignore_errors=True)
        groups = pathlib.Path("/sys/fs/cgroup")
        for directory in [*groups.glob(f"{self.tag}*"), *groups.glob(f"*/{self.tag}*")]:
            if directory.stat().st_dev != groups.stat().st_dev:
                _remove_empty_tree(directory)
                continue
            # podman and crun make plain directories on the tmpfs for a controller or a version that is not there.
            shutil.rmtree(directory, ignore_errors=True)
            if directory.parent.name != "unified":
                _remove_empty_tree(directory.parent)

    def _make_rootfs(self, programs):
        for name in ("bin", "proc", "sys", "dev", "tmp", "run", "etc", "stamps"):
            (self.rootfs / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", self.rootfs / "bin" / "busybox")
        shutil.copy(programs / "bench-stamp", self.rootfs / "bin" / "stamp")
        for name in ("true", "sh"):
            (self.rootfs / "bin" / name).symlink_to("busybox")

    def _base_layer(self):
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            tar.add(self.rootfs, arcname=".", filter=_as_root)
        return layer.getvalue()

    def _make_image(self):
        """An oci-archive of the same root file system: one layer, not compressed."""
        _write_archive(self.image, [self._base_layer()], packed=False)

    def big_image(self):
        """One layer of this host's own files: at most 170 MB and 8,700 entries, gzip."""
        return self._image_of("big", lambda: [_layer_of(_host_files(170 << 20, 8700))])

    def layered_image(self):
        """20 layers of 400 of them each."""
        files = list(_host_files(170 << 20, 8000))
        return self._image_of("layered", lambda: [_layer_of(files[at::20]) for at in range(20)])

    def tiny_image(self):
        """100,000 files of some bytes."""
        return self._image_of("tiny", lambda: [_tiny_layer(100_000)])

    def _image_of(self, name, layers):
        path = self.top / f"{name}.tar"
        if not path.exists():
            _write_archive(path, [self._base_layer(), *layers()], packed=True)
        return str(path)


def _write_archive(path, layers, packed):
    """An oci-archive of these tars."""
    config = json.dumps({
        "architecture": _architecture(), "os": "linux", "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer) for layer in layers]}}).encode()
    kind = "application/vnd.oci.image."
    blobs = [gzip.compress(layer, 6, mtime=0) if packed else layer for layer in layers]
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": kind + "manifest.v1+json",
        "config": _descriptor(kind + "config.v1+json", config),
        "layers": [_descriptor(kind + "layer.v1.tar" + ("+gzip" if packed else ""), blob) for blob in blobs]}).encode()
    entry = _descriptor(kind + "manifest.v1+json", manifest)
    entry["annotations"] = {"org.opencontainers.image.ref.name": "bench:latest"}
    index = {"schemaVersion": 2, "mediaType": kind + "index.v1+json", "manifests": [entry]}
    with tarfile.open(path, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(tar, "index.json", json.dumps(index).encode())
        for blob in (manifest, config, *blobs):
            _add(tar, "blobs/sha256/" + _digest(blob).partition(":")[2], blob)


def _host_files(most_bytes, most_files):
    """Regular files of /usr, in an order of their own that is the same each time."""
    taken = 0
    for directory, names, files in os.walk("/usr"):
        names.sort()
        for name in sorted(files):
            path = os.path.join(directory, name)
            if os.path.islink(path) or not os.path.isfile(path) or os.path.getsize(path) > 4 << 20:
                continue
            size = os.path.getsize(path)
            if taken + size > most_bytes or most_files == 0:
                continue
            taken, most_files = taken + size, most_files - 1
            yield path


def _layer_of(paths):
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in paths:
            tar.add(path, arcname="data" + path, recursive=False, filter=_as_root)
    return layer.getvalue()


def _tiny_layer(count):
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(count):
            _add(tar, f"data/{number // 1000}/{number}", b"%d\n" % number)
    return layer.getvalue()


def _remove_empty_tree(directory):
    for child in directory.iterdir():
        if child.is_dir():
            _remove_empty_tree(child)
    try:
        directory.rmdir()
    except OSError:
        pass  # somebody lives in it: not ours to end


def _architecture():
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def _as_root(entry):
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _descriptor(kind, data):
    return {"mediaType": kind, "digest": _digest(data), "size": len(data)}


def _add(tar, name, data):
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes OCI layout tars and docker-archives with the standard library alone, right ones and, for tests, wrong ones."""

import copy
import gzip
import hashlib
import json
import os
import platform
import subprocess
import sys
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from mktar import Tar  # noqa: E402

OCI = "application/vnd.oci.image."
MANIFEST, INDEX, CONFIG = OCI + "manifest.v1+json", OCI + "index.v1+json", OCI + "config.v1+json"
LAYER = OCI + "layer.v1.tar"
BUSYBOX = "/bin/busybox"
HOST_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def dump(document):
    return document if isinstance(document, bytes) else json.dumps(document).encode()


def compress(data, how):
    if how == "gzip":
        return gzip.compress(data, 6, mtime=0)
    if how == "zstd":
        return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout
    return data


class Layer:
    """An uncompressed tar and how it is packed; any of the derived facts can be given wrongly."""

    def __init__(self, tar, pack=None, media_type=None, diff_id=None, digest=None, size=None, blob=None):
        self.tar = tar.bytes() if isinstance(tar, Tar) else tar
        self.blob = compress(self.tar, pack) if blob is None else blob
        self.diff_id = sha256(self.tar) if diff_id is None else diff_id
        self.media_type = media_type or LAYER + ("+" + pack if pack else "")
        self.digest = sha256(self.blob) if digest is None else digest
        self.size = len(self.blob) if size is None else size

    def descriptor(self):
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


def layer_of_pieces(pieces):
    """A layer whose tar comes piece by piece and is never whole in memory, packed as it comes."""
    packer, blob, digest = zlib.compressobj(6, wbits=zlib.MAX_WBITS | 16), [], hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
        blob.append(packer.compress(piece))
    return Layer(b"", blob=b"".join(blob) + packer.flush(), diff_id="sha256:" + digest.hexdigest(), media_type=LAYER + "+gzip")


class Image:
    """Layers and a configuration. `run` is the "config" member: Cmd, Env, User, ..."""

    def __init__(self, layers, run=None, names=(), arch=None, os_name="linux", variant=None, diff_ids=None, extra=None,
                 pack=None):
        self.layers = [one if isinstance(one, Layer) else Layer(one, pack) for one in layers]
        self.names = [names] if isinstance(names, str) else list(names)
        self.arch, self.os_name, self.variant = arch or HOST_ARCH, os_name, variant
        self.config = {
            "created": "2026-01-01T00:00:00Z",
            "architecture": self.arch,
            "os": os_name,
            "config": run or {},
            "rootfs": {"type": "layers",
                       "diff_ids": [one.diff_id for one in self.layers] if diff_ids is None else diff_ids},
            "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "mkimg"} for _ in self.layers],
        }
        if variant:
            self.config["variant"] = variant
        self.config.update(extra or {})

    def platform(self):
        record = {"architecture": self.arch, "os": self.os_name}
        if self.variant:
            record["variant"] = self.variant
        return record


class Layout:
    """An OCI layout, member by member, so that a test can change any of them before it is written."""

    def __init__(self):
        self.blobs = {}
        self.index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
        self.extra = []  # functions that add members of their own to the tar

    def blob(self, data, media_type, digest=None, size=None):
        data = dump(data)
        digest = sha256(data) if digest is None else digest
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data) if size is None else size}

    def add_image(self, image, manifest_extra=None, config=None):
        """Stores blobs of one image; returns the manifest's descriptor."""
        for layer in image.layers:
            self.blobs[layer.digest] = layer.blob
        config_descriptor = self.blob(image.config if config is None else config, CONFIG)
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config_descriptor,
                    "layers": [layer.descriptor() for layer in image.layers]}
        manifest.update(manifest_extra or {})
        return self.blob(manifest, MANIFEST)

    def name(self, descriptor, names=()):
        """Lists a manifest or nested index in index.json, once for each name."""
        for name in list(names) or [None]:
            entry = copy.deepcopy(descriptor)
            if name is not None:
                entry["annotations"] = {"org.opencontainers.image.ref.name": name}
            self.index["manifests"].append(entry)
        return self

    def add_platforms(self, images, names=()):
        """One nested index with an image of every platform."""
        entries = []
        for image in images:
            descriptor = self.add_image(image)
            descriptor["platform"] = image.platform()
            entries.append(descriptor)
        nested = self.blob({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}, INDEX)
        return self.name(nested, names)

    def tar(self):
        tar = Tar()
        tar.file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        tar.dir("blobs").dir("blobs/sha256")
        for digest, data in self.blobs.items():
            tar.file("blobs/" + digest.replace(":", "/", 1), data)
        tar.file("index.json", dump(self.index))
        for add in self.extra:
            add(tar)
        return tar

    def write(self, path):
        with open(path, "wb") as out:
            out.write(self.tar().bytes())
        return str(path)


def oci_archive(path, *images):
    layout = Layout()
    for image in images:
        layout.name(layout.add_image(image), image.names)
    return layout.write(path)


def docker_archive(path, *images, entries=None):
    """What `docker save` writes. `entries` replaces manifest.json."""
    tar, manifest, seen = Tar(), [], set()
    for image in images:
        config = dump(image.config)
        config_name = hashlib.sha256(config).hexdigest() + ".json"
        tar.file(config_name, config)
        names = []
        for layer in image.layers:
            name = layer.diff_id.split(":")[-1] + "/layer.tar"
            if name not in seen:
                tar.file(name, layer.blob)
            seen.add(name)
            names.append(name)
        manifest.append({"Config": config_name, "RepoTags": image.names or None, "Layers": names})
    tar.file("manifest.json", dump(manifest if entries is None else entries))
    with open(path, "wb") as out:
        out.write(tar.bytes())
    return str(path)


def busybox_tar(extra=None):
    """The root of a small system: Debian's static busybox and the files that programs expect."""
    with open(BUSYBOX, "rb") as program:
        data = program.read()
    tar = Tar()
    for name, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("run", 0o755), ("var", 0o755),
                       ("var/tmp", 0o1777), ("home", 0o755), ("home/user", 0o755), ("usr", 0o755), ("usr/bin", 0o755)):
        owner = 1000 if name == "home/user" else 0
        tar.dir(name, mode, uid=owner, gid=owner)
    tar.file("bin/busybox", data, 0o755)
    for applet in subprocess.run([BUSYBOX, "--list"], stdout=subprocess.PIPE, check=True).stdout.decode().split():
        if applet != "busybox":
            tar.symlink("bin/" + applet, "busybox")
    tar.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:User:/home/user:/bin/sh\n"
                           "nobody:x:65534:65534:nobody:/:/bin/false\n")
    tar.file("etc/group", "root:x:0:\nusers:x:100:user\nuser:x:1000:\nmail:x:8:user\nnogroup:x:65534:\n")
    if extra:
        extra(tar)
    return tar


def add_tree(tar, top):
    """Puts a directory of the host into a layer, owned by root, with the modes it has."""
    for directory, subdirs, files in os.walk(top):
        subdirs.sort()
        relative = os.path.relpath(directory, top)
        for name in subdirs:
            tar.dir(os.path.normpath(os.path.join(relative, name)), 0o755)
        for name in sorted(files):
            path = os.path.join(directory, name)
            with open(path, "rb") as source:
                mode = 0o755 if os.stat(path).st_mode & 0o100 else 0o644
                tar.file(os.path.normpath(os.path.join(relative, name)), source.read(), mode)


def main():
    """mkimg.py OUT.tar NAME [--docker] [--gzip|--zstd] [--tree DIR] -- CMD...: a busybox image for trying things."""
    import argparse
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out")
    parser.add_argument("name")
    parser.add_argument("--docker", action="store_true")
    parser.add_argument("--pack", choices=["gzip", "zstd"])
    parser.add_argument("--tree")
    parser.add_argument("cmd", nargs="*", default=["/bin/sh"])
    args = parser.parse_args()
    layers = [Layer(busybox_tar(), args.pack)]
    if args.tree:
        tree = Tar()
        add_tree(tree, args.tree)
        layers.append(Layer(tree, args.pack))
    image = Image(layers, {"Cmd": args.cmd, "Env": ["PATH=/bin:/usr/bin"]}, args.name)
    (docker_archive if args.docker else oci_archive)(args.out, image)


if __name__ == "__main__":
    main()

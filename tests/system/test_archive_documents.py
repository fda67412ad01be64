# SPDX-License-Identifier: Apache-2.0
"""Archives as other programs make them: what lies beside an image in them, and how much of them a load reads."""

import fcntl
import hashlib
import json
import os
import random
import re
import signal
import tarfile

import mkimg
import pytest
from mkimg import CONFIG, INDEX, MANIFEST, HOST_ARCH
from skinktest import SLOWER, Image, Layer, Layout, Tar, base_layer, busybox_image, children, listdir, needs, read, wait_for

IN_TOTO, COSIGN = "application/vnd.in-toto+json", "application/vnd.dev.cosign.simplesigning.v1+json"


def statement(layout, media_type, platform):
    """A manifest that carries a JSON document as its layer, with the configuration of an image for `platform`."""
    document = layout.blob({"predicate": platform}, media_type)
    config = layout.blob({"os": platform[0], "architecture": platform[1], "config": {},
                          "rootfs": {"type": "layers", "diff_ids": [document["digest"]]}}, CONFIG)
    return layout.blob({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [document]}, MANIFEST)


def attested(images, name):
    """What `docker buildx build --output type=oci` writes: behind each image's manifest one that tells how it was made."""
    layout, entries = Layout(), []
    for image in images:
        entries.append(dict(layout.add_image(image), platform=image.platform()))
        told = statement(layout, IN_TOTO, ("unknown", "unknown"))
        told["platform"] = {"os": "unknown", "architecture": "unknown"}
        told["annotations"] = {"vnd.docker.reference.digest": entries[-1]["digest"],
                               "vnd.docker.reference.type": "attestation-manifest"}
        entries.append(told)
    nested = layout.blob({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}, INDEX)
    return layout.name(nested, [name])


def names(sk):
    return sorted(row["name"] for row in json.loads(sk.ok("images", "--format", "json")))


def test_attestations_of_buildkit_are_passed_over(bare, world):
    images = [busybox_image(run={"Cmd": ["echo", arch]}, arch=arch) for arch in (HOST_ARCH, "s390x")]
    path = attested(images, "web:1").write(world.path("web.tar"))
    for words in ([], ["--all-platforms"]):
        result = bare("load", *words, path)
        assert result.status == 0 and result.err == "", result
        assert bare.ok("run", "--rm", "web:1") == HOST_ARCH
    assert names(bare) == ["web:1", "web:1-linux-s390x"]
    bare.fails("load", "--platform", "linux/riscv64", path, match="an attestation, linux/s390x")
    bare.fails("load", "--platform", "unknown/unknown", path, match="an artifact with layers that are no tars")


def test_f43_an_archive_with_attestations_repairs_an_image(bare, world):
    image = Image([base_layer(), Tar().file("own", "own" * 2000)], {"Cmd": ["head", "-c", "3", "own"], "Env": ["PATH=/bin"]})
    path = attested([image], "web:1").write(world.path("web.tar"))
    bare.ok("load", path)
    layer = world.path("store/layers/sha256/%s.erofs" % image.layers[1].diff_id[7:])
    os.chmod(layer, 0o600)
    with open(layer, "r+b") as file:
        file.seek(5000)
        file.write(b"XXXX")
    assert bare("image", "verify").status == 1
    bare.ok("image", "verify", "--repair", path)
    assert bare.ok("image", "verify") == "web:1: ok"
    assert bare.ok("run", "--rm", "web:1") == "own"


@pytest.mark.parametrize("words", [[], ["--all-platforms"]])
def test_a_signature_beside_its_image_is_passed_over(bare, world, words):
    layout = Layout()
    layout.name(layout.add_image(busybox_image()), ["web:1"])
    layout.name(statement(layout, COSIGN, ("linux", HOST_ARCH)), ["web:sha256-0123.sig"])
    layout.name(statement(layout, COSIGN, ("", "")), ["web:sha256-4567.sig"])
    bare.ok("load", *words, layout.write(world.path("web.tar")))
    assert names(bare) == ["web:1"]


def test_a_signature_alone_is_no_image(bare, world):
    layout = Layout()
    layout.name(statement(layout, COSIGN, ("linux", HOST_ARCH)), ["web:sha256-0123.sig"])
    bare.fails("load", layout.write(world.path("sig.tar")), match=["manifest sha256:", "layer 1", "simplesigning.*is not a tar"])


def test_an_image_whose_layers_lie_elsewhere_is_left_out_of_all_platforms(bare, world):
    windows = busybox_image(os_name="windows")
    windows.layers.insert(0, Layer(Tar().file("x", "y"), media_type="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"))
    windows.config["rootfs"]["diff_ids"].insert(0, windows.layers[0].diff_id)
    path = Layout().add_platforms([windows, busybox_image()], ["web:1"]).write(world.path("web.tar"))
    result = bare("load", "--all-platforms", path)
    assert result.status == 0, result
    for word in ("windows/" + HOST_ARCH, "left out", "layer 1", "foreign"):
        assert word in result.err, result
    assert names(bare) == ["web:1"]


# ---- no layers ----

def empty(kind, world, how):
    """An archive of an image without layers, where "layers" and "diff_ids" are there or not as `how` makes them."""
    image = Image([], {"Labels": {"a": "b"}}, "none:1")
    how(image.config["rootfs"], "diff_ids")
    path = world.path("none.tar")
    if kind == "docker":
        mkimg.docker_archive(path, image)
        entry = {"Config": mkimg.sha256(mkimg.dump(image.config))[7:] + ".json", "RepoTags": ["none:1"], "Layers": []}
        how(entry, "Layers")
        return mkimg.docker_archive(path, image, entries=[entry])
    layout = Layout()
    manifest = json.loads(layout.blobs[layout.add_image(image)["digest"]])
    how(manifest, "layers")
    return layout.name(layout.blob(manifest, MANIFEST), ["none:1"]).write(path)


def to_null(document, key):
    document[key] = None


def to_nothing(document, key):
    del document[key]


@pytest.mark.parametrize("how", [to_null, to_nothing])
@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_no_layers_as_go_writes_them(bare, world, kind, how):
    bare.ok("load", empty(kind, world, how))
    assert names(bare) == ["none:1"]
    assert bare.ok("images", "-q", "--filter", "label=a=b") != ""
    bare.ok("image", "verify")


def test_no_layers_here_and_some_there(bare, world):
    layout = Layout()
    image = busybox_image()
    to_null(image.config["rootfs"], "diff_ids")
    layout.name(layout.add_image(image), ["x"])
    bare.fails("load", layout.write(world.path("x.tar")), match="lists 0 layers and the manifest 1")


# ---- what is read ----

def bytes_read(sk, *words):
    """How many bytes a command that succeeds reads, with its processes."""
    process = sk.start(*words)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    told = read("/proc/%d/io" % process.pid).decode()
    out, err = process.communicate()
    assert process.returncode == 0, err
    return int(next(line.split()[1] for line in told.splitlines() if line.startswith("rchar")))


MIB = 1 << 20


@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_a69_a_configuration_with_many_names_is_read_once(bare, world, kind, fits):
    """Otherwise one of 4 MiB that a thousand manifests name takes a minute."""
    large = Image([base_layer()], arch=None if fits else "s390x", extra={"comment": "x" * (3 * MIB)})
    path, count = world.path("many.tar"), 100
    if kind == "oci":
        layout = Layout()
        layout.name(layout.add_image(busybox_image()), ["own:1"])
        for i in range(count):
            layout.name(layout.add_image(large, manifest_extra={"annotations": {"number": str(i)}}), ["n:%d" % i])
        layout.write(path)
    else:
        own = busybox_image("own:1")
        mkimg.docker_archive(path, own, large)
        entries = [{"Config": mkimg.sha256(mkimg.dump(one.config))[7:] + ".json", "RepoTags": [name],
                    "Layers": [one.layers[0].diff_id[7:] + "/layer.tar"]}
                   for one, name in [(own, "own:1")] + [(large, "n:%d" % i) for i in range(count)]]
        mkimg.docker_archive(path, own, large, entries=entries)
    assert bytes_read(bare, "load", "-q", path) < 100 * MIB
    assert len(names(bare)) == (count + 1 if fits else 1)


def test_a69_a_packed_layer_with_many_names_is_hashed_once(bare, world):
    noise = b"".join(hashlib.sha512(b"%d" % i).digest() for i in range(4 * MIB // 64))
    layer = Layer(Tar().file("noise", noise), "gzip")
    images = [Image([base_layer("gzip"), layer], {"Labels": {"number": str(i)}}, "n:%d" % i) for i in range(60)]
    assert bytes_read(bare, "load", "-q", mkimg.docker_archive(world.path("many.tar"), *images)) < 100 * MIB
    assert len(names(bare)) == 60


# ---- docker-archives of others ----

def of_go(tar, image, config):
    """go-containerregistry: kaniko, ko, crane. No member twice, whatever is named."""
    for layer in {layer.digest: layer for layer in image.layers}.values():
        tar.file(layer.digest[7:] + ".tar.gz", layer.blob)
    tar.file(mkimg.sha256(config), config)
    return {"Config": mkimg.sha256(config), "Layers": [layer.digest[7:] + ".tar.gz" for layer in image.layers]}


def of_jib(tar, image, config):
    for layer in {layer.digest: layer for layer in image.layers}.values():
        tar.file(layer.digest[7:] + ".tar.gz", layer.blob)
    tar.file("config.json", config)
    return {"Config": "config.json", "Layers": [layer.digest[7:] + ".tar.gz" for layer in image.layers]}


def of_bazel(tar, image, config):
    """Named by what they unpack to, beside a checksum and what else old docker wanted."""
    for number, layer in enumerate(image.layers):
        tar.file("%03d/%s.tar.gz" % (number, layer.diff_id[7:]), layer.blob).file("%03d/VERSION" % number, "1.0")
    tar.file(mkimg.sha256(config)[7:] + ".json", config).file("repositories", "{}")
    return {"Config": mkimg.sha256(config)[7:] + ".json", "Parent": "",
            "Layers": ["%03d/%s.tar.gz" % (number, layer.diff_id[7:]) for number, layer in enumerate(image.layers)]}


def of_nix(tar, image, config):
    """dockerTools: everything is of the first second of 1970, a layer that comes again is a link to the first one."""
    paths, first = [], {}
    for number, layer in enumerate(image.layers):
        top = "%064x" % (number + 1)
        tar.dir("./" + top, mtime=1).file(top + "/VERSION", "1.0", mtime=1).file(top + "/json", "{}", mtime=1)
        if layer.diff_id in first:
            tar.symlink(top + "/layer.tar", "../%s/layer.tar" % first[layer.diff_id], mtime=1)
        else:
            tar.file("./" + top + "/layer.tar", layer.tar, mtime=1)
        first.setdefault(layer.diff_id, top)
        paths.append(top + "/layer.tar")
    tar.file(mkimg.sha256(config)[7:] + ".json", config, mtime=1)
    return {"Config": mkimg.sha256(config)[7:] + ".json", "Layers": paths}


def of_shape(shape, path, image):
    tar, config = Tar(), mkimg.dump(image.config)
    entry = dict(shape(tar, image, config), RepoTags=image.names)
    with open(path, "wb") as out:
        out.write(tar.file("manifest.json", json.dumps([entry])).bytes())
    return path


@pytest.mark.parametrize("shape", [of_go, of_jib, of_bazel, of_nix])
def test_docker_archives_as_others_shape_them(bare, world, shape):
    twice = Layer(Tar().file("twice", "1"), "gzip")
    image = Image([base_layer("gzip"), twice, Layer(Tar().file("between", "1"), "gzip"), twice], {"Env": ["PATH=/bin"]}, "one:1")
    path = of_shape(shape, world.path("x.tar"), image)
    assert bare.ok("load", path) == "Loaded image: one:1"
    assert bare.shell("cat /twice /between", image="one:1") == "11"
    assert bare.ok("image", "verify") == "one:1: ok"
    digest = bare.ok("images", "--format", "{{.Digest}}")
    told = json.loads(bare.ok("load", "--format", "json", path))
    assert (told["layers_written"], told["mended"]) == (0, 0)
    # What was made of the archive is made again.
    os.unlink(world.path("store/images/sha256/%s/manifest" % mkimg.sha256(mkimg.dump(image.config))[7:]))
    bare.ok("image", "verify", "--repair", path)
    assert bare.ok("images", "--format", "{{.Digest}}") == digest
    assert bare.ok("image", "verify") == "one:1: ok"


def test_a_packed_layer_without_a_digest_is_hashed_by_its_job(bare, world):
    """On the way, and not by the command before any layer is begun."""
    needs("strace")
    image = Image([Layer(Tar().file("noise", random.Random(1).randbytes(16 * MIB)), "gzip")], {}, "large")
    path, log = of_shape(of_go, world.path("go.tar"), image), world.path("strace")
    bare.ok("load", "-q", path, before=["strace", "-qq", "-o", log, "-e", "trace=read,pread64"])
    assert sum(map(int, re.findall(r"= (\d+)\n", read(log).decode()))) < 4 * MIB
    assert bare.ok("image", "verify") == "large:latest: ok"


# ---- many layers, other loads, other platforms ----

@pytest.mark.full
def test_more_layers_than_files_may_be_open(bare, world):
    images = [Image([base_layer()] + [Tar().file("f%d-%d" % (one, i), "x") for i in range(150)],
                    {"Cmd": ["sh", "-c", "ulimit -n; ls / | grep -c ^f"], "Env": ["PATH=/bin"]}, "many:%d" % one) for one in (1, 2)]
    limit = ["prlimit", "--nofile=256:4096"]
    bare.ok("load", "-q", mkimg.oci_archive(world.path("two.tar"), *images), before=limit)
    of_stored = bare.ok("run", "--rm", "many:1", before=limit)
    assert of_stored.splitlines()[1] == "150"
    bare.ok("rmi", "many:1", "many:2")
    # The limit is for the load alone.
    path = mkimg.oci_archive(world.path("one.tar"), images[0])
    assert bare.ok("run", "--rm", path, before=limit) == of_stored


def test_a_load_says_for_whom_it_waits(bare, world):
    image = busybox_image("one")
    path = mkimg.oci_archive(world.path("one.tar"), image)
    bare.ok("images")
    with open(world.path("store/locks/%s.write" % image.layers[0].diff_id[7:]), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        load = bare.start("load", path)
        said = load.stderr.readline().decode()
        assert "waiting for another load (process %d)" % os.getpid() in said and image.layers[0].diff_id in said, said
    out, err = load.communicate(timeout=60)
    assert (load.returncode, out, err) == (0, b"Loaded image: one:latest\n", b"")


def test_who_waits_for_a_small_layer_does_not_wait_for_the_next_one(bare, world):
    """The job of a large layer, which was begun while the small one was written, has a copy of its lock."""
    noise = [random.Random(seed).randbytes(24 * MIB) for seed in (1, 2)]
    small, large = [Layer(Tar().file("noise-%d" % i, data)) for i, data in enumerate(noise)]
    both = mkimg.oci_archive(world.path("both.tar"), Image([small, large], {}, "both"))
    one = mkimg.oci_archive(world.path("one.tar"), Image([small], {}, "one"))
    bare.ok("images")

    def job_of(layer, parent):
        """The child that writes it, stopped."""
        for child in children(parent):
            fds = "/proc/%d/fd/" % child
            if any("layer-" + layer.diff_id[7:] in os.readlink(fds + fd) for fd in listdir(fds) if os.path.islink(fds + fd)):
                os.kill(child, signal.SIGSTOP)
                return child
        return None

    first = bare.start("load", "-q", both)
    jobs = [wait_for(lambda one=layer: job_of(one, first.pid), step=0.002) for layer in (small, large)]
    second = bare.start("load", one)
    assert b"waiting for another load" in second.stderr.readline()
    os.kill(jobs[0], signal.SIGCONT)
    try:
        assert second.communicate(timeout=30 * SLOWER)[0] == b"Loaded image: one:latest\n"
        assert first.poll() is None
    finally:
        os.kill(jobs[1], signal.SIGCONT)
    assert first.wait(60 * SLOWER) == 0


def test_an_image_of_another_platform_is_run_with_a_warning_or_not_at_all(bare, world):
    far = mkimg.oci_archive(world.path("far.tar"), busybox_image("far", arch="s390x"))
    bare.ok("load", "--platform", "linux/s390x", far)
    result = bare("run", "--rm", "far", "echo", "runs")
    # The programs are the host's whatever the label says.
    assert (result.status, result.out) == (0, "runs\n"), result
    assert "linux/s390x" in result.err and "linux/" + HOST_ARCH in result.err and "binfmt_misc" in result.err, result
    other = mkimg.oci_archive(world.path("other.tar"), busybox_image("other", os_name="windows"))
    bare.ok("load", "--platform", "windows/" + HOST_ARCH, other)
    for verb in ("run", "create"):
        bare.fails(verb, "other", "true", status=125, match=["windows/" + HOST_ARCH, "linux/" + HOST_ARCH])
    bare.load(busybox_image("own"))
    assert bare("run", "--rm", "own", "true").err == ""


def test_what_is_saved_is_in_use(bare, world):
    bare.load(busybox_image("one"))
    saving = bare.start("save", "one")
    first = saving.stdout.read(1)
    bare.fails("rmi", "one", match="in use.*being saved")
    assert "one" in bare.ok("images")
    bare.ok("image", "prune", "-a")
    rest, err = saving.communicate()
    assert saving.returncode == 0 and len(first + rest) > 100000, err
    bare.ok("rmi", "one")


def test_pull_of_what_has_no_name_gives_none(bare, world):
    """Not that of the directory which skink has given to skopeo."""
    layout = Layout()
    layout.name(layout.add_image(busybox_image()), ["latest"])
    with tarfile.open(layout.write(world.path("x.tar"))) as archive:
        archive.extractall(world.path("layout"))
    world.write("skopeo", '#!/bin/sh\nfor last; do :; done\ncp -r %s/. "${last#oci:}"\n' % world.path("layout"), 0o755)
    env = {"PATH": world.base + ":" + os.environ["PATH"]}
    assert bare.ok("pull", "dir:/somewhere", env=env).startswith("sha256:")
    assert not any(names(bare)), names(bare)

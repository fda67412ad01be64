# SPDX-License-Identifier: Apache-2.0
"""A64 to A68, A77, A78: documents, digests, sizes, and names that people will see."""

import json
import os
import resource
import subprocess

import mkimg
import pytest
from mktar import Tar
from skinktest import Image, Layer, Layout, base_layer, busybox_image, sanitized, wait_for


def refused(world, path, match=None, **more):
    """SANE, and the store as it was."""
    before = world.skink.ok("images", "--format", "json")
    result = world.skink.fails("load", path, match=match, **more)
    assert world.skink.ok("images", "--format", "json") == before
    left = [name for top, _, files in os.walk(world.store) for name in files if os.path.getsize(os.path.join(top, name)) > 1 << 20]
    assert not left or before not in ("", "[]"), "a failed load left %s" % left
    return result


def small_layer():
    return Layer(Tar().file("a", "a").file("b", "b" * 2000))


@pytest.mark.parametrize("level", ["manifest", "config", "layer"])
@pytest.mark.parametrize("how", ["flip", "truncate", "append", "empty", "absent"])
def test_a64_content_that_is_not_its_digest(world, level, how):
    layout, image = Layout(), Image([small_layer()], {"Cmd": ["x"]})
    descriptor = layout.add_image(image)
    layout.name(descriptor, ["lies"])
    manifest = json.loads(layout.blobs[descriptor["digest"]])
    victim = {"manifest": descriptor["digest"], "config": manifest["config"]["digest"],
              "layer": manifest["layers"][0]["digest"]}[level]
    data = bytearray(layout.blobs[victim])
    if how == "flip":
        data[len(data) // 2] ^= 1
    elif how == "truncate":
        del data[-1:]
    elif how == "append":
        data += b" "
    elif how == "empty":
        data.clear()
    layout.blobs[victim] = bytes(data)
    if how == "absent":
        del layout.blobs[victim]
    refused(world, layout.write(world.path("lies.tar")), match=victim[7:19])


@pytest.mark.parametrize("level", ["index", "config", "layer"])
@pytest.mark.parametrize("size", [-1, 0, 1, 1 << 40, (1 << 63) - 1, 1 << 63, 1 << 64, "10", 1.5, None, -(1 << 63)])
def test_a64_sizes_that_lie(world, level, size):
    layout, image = Layout(), Image([small_layer()], {"Cmd": ["x"]})
    if level == "layer":
        image.layers[0].size = size
    extra = {}
    if level == "config":
        extra = {"config": dict(layout.blob(image.config, mkimg.CONFIG), size=size)}
    descriptor = layout.add_image(image, extra)
    if level == "index":
        descriptor["size"] = size
    layout.name(descriptor, ["lies"])
    refused(world, layout.write(world.path("lies.tar")))


@pytest.mark.parametrize("case", ["swapped", "missing", "extra", "repeated", "wrong", "none", "not-a-list", "of-victim"])
def test_a65_diff_ids_that_do_not_fit(world, case):
    victim = busybox_image("victim", extra=lambda tar: tar.file("mine", "victim's"))
    world.skink.load(victim)
    layers = [base_layer(), Layer(Tar().file("a", "poison")), Layer(Tar().file("mine", "poison"))]
    right = [layer.diff_id for layer in layers]
    wrong = {"swapped": [right[0], right[2], right[1]], "missing": right[:2], "extra": right + [right[0]], "repeated": [right[0]] * 3,
             "wrong": right[:2] + ["sha256:" + "0" * 64], "none": [], "not-a-list": "x",
             "of-victim": right[:2] + [victim.layers[1].diff_id]}[case]
    path = mkimg.oci_archive(world.path("poison.tar"), Image(layers, {"Cmd": ["sh"]}, "poison", diff_ids=wrong))
    refused(world, path)
    assert world.skink.ok("run", "--rm", "victim", "cat", "/mine") == "victim's"


def polyglot(kind):
    """Documents that can be read as two things, or say two things."""
    layout, image = Layout(), Image([small_layer()], {"Cmd": ["x"]})
    manifest = {"schemaVersion": 2, "mediaType": mkimg.MANIFEST, "config": layout.blob(image.config, mkimg.CONFIG),
                "layers": [image.layers[0].descriptor()]}
    layout.blobs[image.layers[0].digest] = image.layers[0].blob
    declared = mkimg.MANIFEST
    if kind == "manifest-with-manifests":
        manifest["manifests"] = []
    elif kind == "manifest-with-fslayers":
        manifest["fsLayers"] = []
    elif kind == "differing-type":
        manifest["mediaType"] = mkimg.INDEX
    elif kind == "docker-type-in-oci":
        manifest["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json"
    elif kind == "declared-as-index":
        declared = mkimg.INDEX
        manifest.pop("mediaType")
    elif kind == "config-type":
        manifest["config"]["mediaType"] = mkimg.MANIFEST
    elif kind == "layer-type":
        manifest["layers"][0]["mediaType"] = mkimg.CONFIG
    elif kind == "unknown-layer-type":
        manifest["layers"][0]["mediaType"] = "application/x-surprise"
    elif kind == "schema-1":
        manifest["schemaVersion"] = 1
    elif kind == "index-with-layers":
        nested = {"schemaVersion": 2, "mediaType": mkimg.INDEX, "manifests": [layout.blob(manifest, mkimg.MANIFEST)], "layers": [], "config": {}}
        return layout.name(layout.blob(nested, mkimg.INDEX), ["p"])
    elif kind == "top-index-with-layers":
        layout.index["layers"] = []
        layout.index["config"] = {}
    return layout.name(layout.blob(manifest, declared), ["p"])


@pytest.mark.parametrize("kind", ["manifest-with-manifests", "manifest-with-fslayers", "differing-type", "docker-type-in-oci",
                                  "declared-as-index", "layer-type", "unknown-layer-type", "index-with-layers",
                                  "top-index-with-layers", "config-type", "schema-1"])
def test_a66_documents_that_can_be_read_in_two_ways(world, kind):
    refused(world, polyglot(kind).write(world.path("p.tar")))


def test_a66_an_index_that_contains_itself(world):
    """Nesting is bounded: no digest can be its own, but a chain can be long."""
    layout = Layout()
    entry = layout.add_image(Image([small_layer()], {"Cmd": ["x"]}))
    for _ in range(200):
        entry = layout.blob({"schemaVersion": 2, "mediaType": mkimg.INDEX, "manifests": [entry]}, mkimg.INDEX)
    refused(world, layout.name(entry, ["deep"]).write(world.path("deep.tar")))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a69_indexes_that_are_wide_and_deep(world, depth):
    """A thousand entries each, which all lead to one: a billion ways, of which each document is read once."""
    layout = Layout()
    entry = layout.add_image(Image([small_layer()], {"Cmd": ["x"]}))
    for _ in range(depth):
        entry = layout.blob({"schemaVersion": 2, "mediaType": mkimg.INDEX, "manifests": [entry] * 1000}, mkimg.INDEX)
    result = world.skink("load", layout.name(entry, ["wide"]).write(world.path("wide.tar")), timeout=10)
    assert result.status in (0, 1), result


def test_a69_tags_that_name_themselves_and_each_other(world):
    """In a docker-archive: two images, each with the name of the other and their own ids as names."""
    images = [Image([small_layer()], {"Cmd": [name]}, [name, "a", "b"]) for name in ("a", "b")]
    ids = [mkimg.sha256(mkimg.dump(image.config)) for image in images]
    for image in images:
        image.names += [one[7:19] for one in ids] + [one.replace(":", "/") for one in ids]
    result = world.skink("load", mkimg.docker_archive(world.path("ids.tar"), *images), timeout=10)
    assert result.status in (0, 1), result
    if result.status == 0:
        assert len(set(world.skink.ok("images", "-q").split())) == 2


GOOD = "0123456789abcdef" * 4


@pytest.mark.parametrize("digest", ["sha256:../../x", "sha256:" + GOOD.upper(), "SHA256:" + GOOD, "sha256:" + GOOD[:-1], "sha256:" + GOOD + "0",
                                    "sha512:" + GOOD * 2, "sha512:" + GOOD, "a+b:" + GOOD, GOOD, "", ":", "sha256:", "sha256:" + "g" * 64,
                                    "sha256:" + GOOD[:-3] + "/..", "md5:" + GOOD[:32], 5, None, "sha256:" + GOOD[:-1] + "\0",
                                    "../../../../etc/passwd", " sha256:" + GOOD])
@pytest.mark.parametrize("level", ["index", "config", "layer", "diff_id"])
def test_a67_digest_strings(world, canary, level, digest):
    layout, image = Layout(), Image([small_layer()], {"Cmd": ["x"]})
    if level == "diff_id":
        image.config["rootfs"]["diff_ids"] = [digest]
    extra = {}
    if level == "layer":
        extra = {"layers": [dict(image.layers[0].descriptor(), digest=digest)]}
    if level == "config":
        extra = {"config": dict(layout.blob(image.config, mkimg.CONFIG), digest=digest)}
    descriptor = layout.add_image(image, extra)
    if level == "index":
        descriptor["digest"] = digest
    layout.name(descriptor, ["d"])
    refused(world, layout.write(world.path("d.tar")))


def deep(open_text, close_text, count):
    return (open_text * count + close_text * count).encode()


JSON = {
    "nested-arrays": lambda: deep("[", "]", 100000),
    "nested-objects": lambda: deep('{"a":', "}", 100000).replace(b":}", b":1}", 1),
    "nested-in-place": lambda: b'{"schemaVersion":2,"manifests":[],"annotations":' + deep("[", "]", 100) + b"}",
    "duplicate-keys": lambda: b'{"schemaVersion":2,"manifests":[],"manifests":[]}',
    "nan": lambda: b'{"schemaVersion":NaN,"manifests":[]}',
    "infinity": lambda: b'{"schemaVersion":1e999,"manifests":[]}',
    "lone-surrogate": lambda: b'{"schemaVersion":2,"manifests":[],"x":"\\ud800"}',
    "bad-utf8": lambda: b'{"schemaVersion":2,"manifests":[],"x":"\xff\xfe"}',
    "nul": lambda: b'{"schemaVersion":2,"manifests":[]}\0',
    "trailing": lambda: b'{"schemaVersion":2,"manifests":[]} {}',
    "case": lambda: b'{"SchemaVersion":2,"Manifests":[]}',
    "comment": lambda: b'{"schemaVersion":2,/* x */"manifests":[]}',
    "empty": lambda: b"", "null": lambda: b"null", "string": lambda: b'"x"', "array": lambda: b"[]", "number": lambda: b"5",
    "wrong-types": lambda: b'{"schemaVersion":"2","manifests":{}}',
    "manifests-of-numbers": lambda: b'{"schemaVersion":2,"manifests":[1,2]}',
    "five-megabytes": lambda: b'{"schemaVersion":2,"manifests":[],"x":"' + b"y" * (5 << 20) + b'"}',
    "many-manifests": lambda: b'{"schemaVersion":2,"manifests":[' + b",".join([b"{}"] * 200000) + b"]}",
    "bom": lambda: b'\xef\xbb\xbf{"schemaVersion":2,"manifests":[]}',
    "truncated": lambda: b'{"schemaVersion":2,"manifests":[',
}


def limited():
    """100 MiB of memory; a sanitizer needs terabytes of address space."""
    if not sanitized():
        resource.setrlimit(resource.RLIMIT_AS, (100 << 20, 100 << 20))


@pytest.mark.parametrize("name", JSON)
def test_a68_hostile_json_as_index(world, name):
    layout = Layout()
    layout.index = JSON[name]()
    refused(world, layout.write(world.path("j.tar")), preexec_fn=limited, timeout=20)


@pytest.mark.parametrize("name", ["nested-arrays", "duplicate-keys", "bad-utf8", "trailing", "five-megabytes", "null", "nan"])
@pytest.mark.parametrize("level", ["manifest", "config"])
def test_a68_hostile_json_below_the_index(world, name, level):
    layout, image = Layout(), Image([small_layer()], {"Cmd": ["x"]})
    data = JSON[name]()
    if level == "config":
        data = data if name != "five-megabytes" else data * 4
        entry = layout.add_image(image, config=data)
    else:
        entry = layout.blob(data, mkimg.MANIFEST)
    layout.name(entry, ["j"])
    refused(world, layout.write(world.path("j.tar")), preexec_fn=limited, timeout=20)


def test_a68_a_huge_document_is_not_read_whole(world):
    """A sparse 5 GB index.json: refused by its size, before any memory is spent."""
    from mktar import header
    path = world.path("huge.tar")
    with open(path, "wb") as out:
        out.write(Tar().file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}').bytes(end=False))
        out.write(header("index.json", size=5 << 30))
        out.truncate(out.tell() + (5 << 30))
        out.seek(0, 2)
        out.write(b"\0" * 1024)
    refused(world, path, preexec_fn=limited, timeout=30)


@pytest.mark.parametrize("name", ["duplicate-keys", "nan", "nested-arrays", "trailing", "empty"])
def test_a68_the_other_documents_of_archives(world, name):
    data = JSON[name]()
    refused(world, mkimg.docker_archive(world.path("d.tar"), entries=data))
    tar = Tar().file("oci-layout", data).file("index.json", b'{"schemaVersion":2,"manifests":[]}')
    refused(world, world.write("o.tar", tar.bytes()))


CONFIGS = {
    "env-without-equals": ({"Env": ["NOEQUALS"]}, None),
    "env-empty-name": ({"Env": ["=x"]}, None),
    "env-nul": ({"Env": ["A=\0B"]}, None),
    "env-newline": ({"Env": ["A=x\ny"]}, "run"),
    "env-2-megabytes": ({"Env": ["A=" + "x" * (2 << 20)]}, None),
    "env-100000-items": ({"Env": ["A%d=x" % n for n in range(100000)]}, None),
    "env-duplicate-path": ({"Env": ["PATH=/bin", "PATH=/nowhere"]}, None),
    "env-type": ({"Env": "PATH=/bin"}, None),
    "env-numbers": ({"Env": [5]}, None),
    "entrypoint-empty": ({"Entrypoint": [], "Cmd": ["true"]}, "run"),
    "entrypoint-empty-string": ({"Entrypoint": [""]}, None),
    "entrypoint-dash": ({"Entrypoint": ["-x"]}, None),
    "entrypoint-directory": ({"Entrypoint": ["/etc"]}, None),
    "entrypoint-string": ({"Entrypoint": "true"}, None),
    "cmd-nul": ({"Cmd": ["true", "a\0b"]}, None),
    "cmd-huge": ({"Cmd": ["true", "x" * (4 << 20)]}, None),
    "workdir-relative": ({"WorkingDir": "a/b", "Cmd": ["true"]}, None),
    "workdir-file": ({"WorkingDir": "/etc/passwd", "Cmd": ["true"]}, None),
    "workdir-below-file": ({"WorkingDir": "/etc/passwd/x", "Cmd": ["true"]}, None),
    "workdir-nul": ({"WorkingDir": "/a\0b", "Cmd": ["true"]}, None),
    "workdir-dots": ({"WorkingDir": "/../../../../..", "Cmd": ["pwd"]}, None),
    "workdir-fd": ({"WorkingDir": "/proc/self/fd/7", "Cmd": ["pwd"]}, None),
    "stop-signal-999": ({"StopSignal": "999", "Cmd": ["true"]}, None),
    "stop-signal-newline": ({"StopSignal": "KILL\n", "Cmd": ["true"]}, None),
    "stop-signal-words": ({"StopSignal": "please", "Cmd": ["true"]}, None),
    "ports-negative": ({"ExposedPorts": {"-5/tcp": {}}, "Cmd": ["true"]}, None),
    "volumes-list": ({"Volumes": ["/x"], "Cmd": ["true"]}, None),
    "labels-numbers": ({"Labels": {"a": 5}, "Cmd": ["true"]}, None),
    "user-type": ({"User": 5, "Cmd": ["true"]}, None),
    "user-newline": ({"User": "root\n", "Cmd": ["true"]}, None),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a77_values_of_the_configuration(world, canary, name):
    run, wanted = CONFIGS[name]
    path = mkimg.oci_archive(world.path("c.tar"), Image([base_layer()], dict({"Env": ["PATH=/bin"]}, **run), "odd"))
    result = world.skink("load", path)
    if result.status:
        world.skink.fails("load", path)
        assert wanted is None
        return
    done = world.skink("run", "--rm", "odd")
    if done.status:
        assert done.status in (1, 125, 126, 127), done
        assert len(done.err.strip().splitlines()) <= 2 and all(ord(c) >= 32 or c == "\n" for c in done.err), done
    if wanted == "run":
        assert done.status in (0, 125) and done.status >= 0, done
    assert world.skink.ps() == []


NASTY = ["\x1b[2J\x1b]0;title\x07", "\u202etxt.exe", "bell\x07", "line\nfeed", "tab\tcarriage\r", "\x9b31m", "del\x7f"]


def has_control(data):
    text = data.decode("utf-8", "replace")
    return [c for c in text if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 or c in "\u202a\u202b\u202d\u202e\u2066\u2067\u2068"]


@pytest.mark.parametrize("nasty", NASTY)
def test_a78_names_are_shown_escaped(world, nasty):
    """Labels, authors, entry names, commands and tags come from strangers."""
    sk = world.skink
    image = busybox_image(["plain:1"], run={"Labels": {"x" + nasty: nasty}, "Cmd": ["sh", "-c", "sleep 1000 # " + nasty],
                                            "User": "root"}, extra=lambda tar: tar.file("d/" + nasty.replace("/", "") + "f", "x"))
    image.config["author"] = nasty
    image.config["history"] = [{"created_by": nasty}] * 2
    path = mkimg.oci_archive(world.path("n.tar"), image)
    result = sk("load", path)
    assert not has_control(result.raw_out) and not has_control(result.raw_err), result
    if result.status == 0:
        name = world.name()
        sk("run", "-d", "--name", name, "--label", "mine=" + nasty, "plain:1")
        for args in (["images"], ["ps", "-a", "--no-trunc"], ["inspect", name], ["inspect", "plain:1"], ["images", "--format", "json"],
                     ["ps", "-a", "--format", "json"], ["ps", "-a", "--format", "{{.Labels}} {{.Command}}"]):
            shown = sk(*args)
            assert not has_control(shown.raw_out + shown.raw_err), (args, shown)
        sk("rm", "-f", name)
    bad = mkimg.oci_archive(world.path("tag.tar"), busybox_image(["a" + nasty + ":1"]))
    for args in (["load", bad], ["run", "--rm", "no" + nasty], ["rm", nasty], ["run", "--name", nasty, "plain:1"], ["ps", "--filter", nasty],
                 ["ps", "--format", "{{." + nasty + "}}"], ["load", world.path(nasty.replace("/", ""))]):
        shown = sk(*args)
        assert shown.status != 0 or args[0] in ("load", "rm")
        assert not has_control(shown.raw_out + shown.raw_err), (args, shown)
        assert len(shown.err.strip().split("\n")) <= 2
    broken = mkimg.oci_archive(world.path("b.tar"), Image([base_layer(), Layer(Tar().link("l" + nasty, "missing" + nasty))], {}, "broken"))
    shown = sk("load", broken)
    assert not has_control(shown.raw_err), shown


def test_a78_the_containers_own_output_is_not_changed(sk):
    assert sk("run", "--rm", "busybox", "printf", "\\033[1mbold").raw_out == b"\x1b[1mbold"

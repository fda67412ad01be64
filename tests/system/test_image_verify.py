# SPDX-License-Identifier: Apache-2.0
"""F43: what was changed on the disk after it was stored is found, named and repaired; fs-verity refuses it at the start."""

import json
import os
import shutil
import subprocess

import mkimg
import pytest
from mktar import Tar
from skinktest import ALL, Image, base_layer, busybox_image, needs, read, support


@pytest.fixture(autouse=True, params=["files"] + ["directories"] * ALL)
def form(request, world):
    """How layers are stored."""
    world.more_environment = {"SKINK_LAYERS": request.param}
    return request.param


def archive(world, names="one:1", text="own"):
    image = Image([base_layer(), Tar().dir("d", 0o750).file("d/own", text * 3000).symlink("d/link", "own")],
                  {"Env": ["PATH=/bin"], "Cmd": ["sleep", "1000"]}, names)
    return mkimg.oci_archive(world.path("archive.tar"), image), image


def verify(sk, *words, status=0):
    result = sk("image", "verify", "--format", "json", *words)
    assert result.status == status, result
    return json.loads(result.out)


def flip(path, at=None):
    """One bit of a file, as a disk would: times and the rest stay as they were."""
    info = os.stat(path)
    at = info.st_size // 2 if at is None else at
    mode = info.st_mode & 0o7777
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 4]))
    os.chmod(path, mode)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def pieces(world, image):
    """{what: (path, kind, layer)} of everything that is stored of an image."""
    layer = image.layers[1].diff_id
    identity = mkimg.sha256(mkimg.dump(image.config))[7:]
    top = "layers/sha256/" + layer[7:]
    if os.path.isdir(world.path("store/" + top)):
        scaffold = "scaffolds/sha256/" + identity
        files = {"contents": top + "/fs/d/own", "implied": top + "/implied", "recipe": top + "/recipe", "seal": top + "/seal",
                 "scaffold": scaffold + "/layer.json"}
    else:
        marks = "marks/" + layer[7:]
        files = {"contents": top + ".erofs", "recipe": marks + "/recipe", "seal": marks + "/seal",
                 "scaffold": "scaffolds/sha256/" + identity + ".erofs"}
    made = "images/sha256/" + identity + "/"
    files.update({"config": made + "config", "manifest": made + "manifest", "record": made + "image.json"})
    kinds = {"contents": "layer", "implied": "layer"}
    of_layer = ("contents", "implied", "recipe", "seal")
    return {what: (path, kinds.get(what, what), layer if what in of_layer else None) for what, path in files.items()}


def sample(places, *daily):
    return [(what, place) for what, place in places.items() if ALL or what in daily]


def named(place):
    """How a fault names it: of a layer or scaffold that is a directory, the directory is."""
    parts = place.split("/")
    is_directory = parts[0] in ("layers", "scaffolds") and len(parts) > 3 and parts[3] not in ("recipe", "seal")
    return "/".join(parts[:3]) if is_directory else place


def test_what_is_whole_is_told_so(bare, world):
    path, image = archive(world, ["one:1", "one:2"])
    bare.ok("load", path)
    bare.load(busybox_image("two"))
    assert sorted(bare.ok("image", "verify").splitlines()) == ["one:1: ok", "two:latest: ok"]
    assert bare.ok("image", "verify", "-q", "--all") == ""
    told = verify(bare, "one:2", "one:1")
    assert len(told) == 1 and told[0]["faults"] == [] and told[0]["names"] == ["one:1", "one:2"]
    bare.fails("image", "verify", "none", status=125, match="none")
    bare.fails("image", "verify", "--all", "one:1", status=125)


def test_f43_each_changed_byte_is_found_named_and_repaired(bare, world, form):
    path, image = archive(world)
    bare.ok("load", path)
    bare.load(busybox_image("two"))
    name = bare.running(image="one:1")
    whole = {what: read(world.path("store/" + place)) for what, (place, _, _) in pieces(world, image).items()
             if what != "record"}
    for what, (place, kind, layer) in sample(pieces(world, image), "contents", "recipe", "scaffold", "config"):
        flip(world.path("store/" + place), 3 if what in ("seal", "record") else None)
        told = [one for one in verify(bare, status=1) if one["faults"]]
        assert len(told) == 1, (what, told)
        # A configuration that is no JSON any more leaves more than one thing in doubt, but is the first.
        fault = told[0]["faults"][0]
        assert (fault["kind"], fault["layer"], fault["path"]) == (kind, layer, named(place)), (what, told)
        assert fault["expected"] and fault["found"] != fault["expected"]
        assert told[0]["names"] == ["one:1"] and told[0]["containers"] == [name]
        result = bare("image", "verify", "one:1")
        assert result.status == 1 and named(place) in result.err and "used by container " + name in result.err, result
        trees = form == "directories"
        if trees:  # which would be drawn from under it
            bare.fails("image", "verify", "--repair", path, status=125, match="runs on what is damaged; stop it first")
            bare.ok("stop", "-t", "0", name)
        said = bare.ok("image", "verify", "--repair", path)
        if trees:
            bare.ok("start", name)
        assert "one:1: repaired" in said and name in said and "two:latest: ok" in said, (what, said)
        assert all(one["faults"] == [] for one in verify(bare))
        assert bare.ok("run", "--rm", "one:1", "head", "-c", "6", "/d/own") == "ownown", what
    for what, (place, _, _) in pieces(world, image).items():
        assert what == "record" or read(world.path("store/" + place)) == whole[what], what
    bare.ok("restart", "-t", "0", name)
    assert bare.ok("exec", name, "head", "-c", "3", "/d/link") == "own"
    assert os.listdir(world.store + "/tmp") == []


def test_f43_a_repair_of_what_is_missing(bare, world):
    path, image = archive(world)
    bare.ok("load", path)
    for what, (place, _, _) in sample(pieces(world, image), "contents", "seal", "record"):
        os.unlink(world.path("store/" + place))
        told = verify(bare, status=1 if what != "seal" else 0)[0]
        assert (named(place) in [fault["path"] for fault in told["faults"]]) == (what != "seal"), (what, told)
        if what == "seal":  # as of a layer that was stored before there were any
            bare.ok("rmi", "one:1")
            bare.ok("load", path)
        bare.ok("image", "verify", "--repair", path)
        assert verify(bare)[0]["faults"] == []
        assert bare.ok("run", "--rm", "one:1", "head", "-c", "3", "/d/own") == "own", what


def test_f43_a_damaged_configuration_frees_no_layer(bare, world):
    """Nobody knows what such an image needs: it is repaired, or removed by force without its layers."""
    path, image = archive(world)
    bare.ok("load", path)
    bare.load(busybox_image("two", lambda tar: tar.file("more", "of it")))
    place = world.path("store/" + pieces(world, image)["config"][0])
    base = world.path("store/layers/sha256/%s" % image.layers[0].diff_id[7:])
    there = [name for name in (base, base + ".erofs") if os.path.exists(name)]
    for damage in (b"", read(place).replace(image.layers[0].diff_id[7:].encode(), b"0" * 64)):
        with open(place, "wb") as file:
            file.write(damage)
        bare.fails("rmi", "two", match="its configuration is damaged")
        bare.fails("image", "prune", "--force", match="image sha256:")
        assert there and all(os.path.exists(name) for name in there)
    bare.ok("image", "verify", "--repair", path)
    assert bare.ok("run", "--rm", "one:1", "head", "-c", "3", "/d/own") == "own"
    with open(place, "wb"):
        pass
    bare.fails("rmi", "one:1", match="--force removes it and leaves its layers")
    bare.ok("rmi", "--force", "one:1")
    assert bare.ok("images", "--format", "{{.Repository}}") == "two" and all(os.path.exists(name) for name in there)
    bare.ok("load", path)
    assert bare.ok("run", "--rm", "one:1", "head", "-c", "3", "/d/own") == "own"


def test_f43_a_load_mends_what_a_glance_shows(bare, world, form):
    """What is damaged is not taken over for another image, and the archive that has it is at hand."""
    path, image = archive(world)
    bare.ok("load", path)
    other = mkimg.oci_archive(world.path("other.tar"), Image(image.layers, {"Cmd": ["sleep", "1"], "Env": ["PATH=/bin"]}, "other:1"))
    places = {what: world.path("store/" + place) for what, (place, _, _) in pieces(world, image).items()}
    if form == "directories":  # which may be in use: that is told
        os.truncate(os.path.dirname(places["recipe"]) + "/layer.json", 1)
        bare.fails("load", other, match=[image.layers[1].diff_id, "image verify --repair"])
        return
    name = bare.running(image="one:1")
    damages = {"front": ("contents", lambda place: flip(place, 1024)), "short": ("contents", lambda place: os.truncate(place, 4096)),
               "gone": ("contents", os.unlink), "seal": ("seal", lambda place: os.truncate(place, 3)), "recipe": ("recipe", os.unlink)}
    for what, (piece, damage) in damages.items():
        os.chmod(places[piece], 0o600)
        damage(places[piece])
        told = json.loads(bare.ok("load", "--format", "json", other))
        assert told["mended"] == (what != "gone") and told["layers_written"] == 1, (what, told)
        assert told["mended"] == 0 or image.layers[1].diff_id in told["notes"][0]
        assert all(one["faults"] == [] for one in verify(bare)), what
        assert bare.ok("run", "--rm", "one:1", "head", "-c", "3", "/d/own") == "own"
        bare.ok("rmi", "other:1")
    for what in ("config", "manifest", "record", "scaffold"):
        os.chmod(places[what], 0o600)
        os.truncate(places[what], 100)
        told = json.loads(bare.ok("load", "--format", "json", path))
        assert told["mended"] == 1 and image.names[0] in told["images"][0]["names"], (what, told)
        assert verify(bare)[0]["faults"] == [], what
    assert json.loads(bare.ok("load", "--format", "json", path))["mended"] == 0
    tree = world.write("tree.tar", image.layers[1].tar)
    os.truncate(places["contents"], 4096)
    assert image.layers[1].diff_id in bare("import", tree, "tree:1").err
    assert all(one["faults"] == [] for one in verify(bare))
    bare.ok("restart", "-t", "0", name)
    assert bare.ok("exec", name, "head", "-c", "3", "/d/link") == "own"
    assert os.listdir(world.store + "/tmp") == []


def test_f43_an_image_that_is_saved_is_not_mended_meanwhile(bare, world):
    """A save lasts as long as its reader likes: who would mend it says so, and nobody waits."""
    path, image = archive(world)
    bare.ok("load", path)
    saving = bare.start("save", "one:1")
    first = saving.stdout.read(1)
    flip(world.path("store/" + pieces(world, image)["manifest"][0]))
    bare.fails("load", path, match=["damaged", "being saved"], timeout=30)
    bare.fails("image", "verify", "--repair", path, match=["being saved"], timeout=30)
    bare.ok("tag", "one:1", "two:1", timeout=30)
    out, _ = saving.communicate()
    assert len(first + out) > 100000
    assert "written anew" in bare("load", path).err
    assert bare.ok("image", "verify", "one:1").endswith("ok")


def test_f43_names_that_cannot_be_read(bare, world):
    """They are told, the others are looked at too, and a repair finds them where they lead from."""
    path, image = archive(world, ["one:1", "one:2"])
    bare.ok("load", path)
    bare.load(busybox_image("two"))
    names = world.path("store/" + os.path.dirname(pieces(world, image)["config"][0])) + "/names"
    shutil.rmtree(names)
    world.write(names, "no directory")
    told = {one["names"][0]: one["faults"] for one in verify(bare, status=1)}
    assert told["two:latest"] == [] and [fault["path"] for fault in told["one:1"]] == [names[len(world.store) + 1:]]
    assert "two" in bare.ok("images") and bare.ok("run", "--rm", "one:2", "head", "-c", "3", "/d/own") == "own"
    assert "one:1: repaired" in bare.ok("image", "verify", "--repair", path)
    assert verify(bare, "one:2")[0]["names"] == ["one:1", "one:2"] and len(os.listdir(names)) == 2


def test_f43_a_repair_keeps_the_manifest(bare, world):
    """Of two archives with one configuration only that with the manifest that was stored can give it back."""
    path, image = archive(world)
    bare.ok("load", path)
    manifest = world.path("store/" + pieces(world, image)["manifest"][0])
    config = world.path("store/" + pieces(world, image)["config"][0])
    good = read(manifest)
    docker = mkimg.docker_archive(world.path("docker.tar"), image)
    flip(manifest)
    bare.fails("image", "verify", "--repair", docker, status=125, match=["another manifest", mkimg.sha256(good)])
    assert "repaired" in bare.ok("image", "verify", "--repair", path) and read(manifest) == good
    flip(config)
    assert "repaired" in bare.ok("image", "verify", "--repair", docker) and read(manifest) == good
    assert bare.ok("run", "--rm", "one@" + mkimg.sha256(good), "head", "-c", "3", "/d/own") == "own"


def test_f43_a_repair_where_names_cannot_be_exchanged(bare, world, form):
    path, image = archive(world)
    bare.ok("load", path)
    lacking = [support("lacking"), "renameat2:4=2:EINVAL", "--"]
    for what, (place, _, _) in sample(pieces(world, image), "contents", "config", "scaffold"):
        flip(world.path("store/" + place), 3 if what in ("seal", "record") else None)
        assert "one:1: repaired" in bare.ok("image", "verify", "--repair", path, before=lacking), what
        assert verify(bare)[0]["faults"] == [] and os.listdir(world.store + "/tmp") == []
        assert bare.ok("run", "--rm", "one:1", "head", "-c", "3", "/d/own") == "own", what


def test_f43_a_repair_that_fails_leaves_whole_layers(bare, world):
    """What came before the failure is stored for good: after a power cut it counts as any other layer."""
    path, image = archive(world)
    bare.ok("load", path)
    places = {what: world.path("store/" + place) for what, (place, _, _) in pieces(world, image).items()}
    flip(places["contents"])
    flip(places["config"])
    # Its turn comes after the layers.
    images = world.path("store/images/sha256")
    os.rename(world.path("store/names"), world.path("names-away"))
    bare.fails("image", "verify", "--repair", path, os.path.basename(os.path.dirname(places["config"])), status=125)
    os.rename(world.path("names-away"), world.path("store/names"))
    assert [top for top, _, files in os.walk(world.store) if "unsynced" in files] == []
    told = verify(bare, status=1)[0]["faults"]
    assert [fault["kind"] for fault in told] == ["config"] and os.listdir(images)
    assert "one:1: repaired" in bare.ok("image", "verify", "--repair", path)


def test_f43_a_record_that_says_something_else(bare, world):
    """It is no document of the archive's, so it has a seal of its own."""
    path, image = archive(world)
    bare.ok("load", path)
    place = pieces(world, image)["record"][0]
    record = json.loads(read(world.path("store/" + place)))
    for change in ({"size": record["size"] + 1}, {"lowers": record["lowers"][1:]}, {"loaded": "2020-01-01T00:00:00Z"}):
        world.write("store/" + place, json.dumps({**record, **change}))
        fault = verify(bare, status=1)[0]["faults"][0]
        assert (fault["kind"], fault["path"], fault["expected"]) == ("record", place, record["seal"])
    assert "one:1: repaired" in bare.ok("image", "verify", "--repair", path)
    assert json.loads(read(world.path("store/" + place)))["lowers"] == record["lowers"]


def test_f43_another_archive_repairs_nothing(bare, world):
    path, image = archive(world)
    bare.ok("load", path)
    other = mkimg.oci_archive(world.path("other.tar"), busybox_image("one:1"))
    place = pieces(world, image)["contents"][0]
    flip(world.path("store/" + place))
    damaged = read(world.path("store/" + place))
    bare.fails("image", "verify", "--repair", other, status=125, match=[image.layers[1].diff_id, "other.tar"])
    bare.fails("image", "verify", "--repair", world.path("none"), status=125, match="none")
    # One that lies about what it has.
    lie = Image([base_layer(), mkimg.Layer(Tar().file("x", "y"), diff_id=image.layers[1].diff_id)], {}, "lie")
    bare.fails("image", "verify", "--repair", mkimg.oci_archive(world.path("lie.tar"), lie), status=125, match="unpacked, it is")
    assert read(world.path("store/" + place)) == damaged
    # Another image that has the layer will do.
    third = mkimg.docker_archive(world.path("third.tar"), Image(image.layers, {"Cmd": ["x"]}, "third:1"))
    assert "one:1: repaired" in bare.ok("image", "verify", "--repair", third)
    assert verify(bare)[0]["faults"] == []


def test_layers_of_before_there_were_seals(bare, world, form):
    path, image = archive(world)
    bare.ok("load", path)
    places = pieces(world, image)
    for layer in image.layers:
        base = "layers/sha256/" + layer.diff_id[7:] if form == "directories" else "marks/" + layer.diff_id[7:]
        os.unlink(world.path("store/%s/seal" % base))
    told = verify(bare)[0]
    assert told["faults"] == [] and len(told["notes"]) == 2
    if form == "files":
        flip(world.path("store/" + places["contents"][0]), 4096 + 2000)
        assert verify(bare, status=1)[0]["faults"][0]["expected"] == image.layers[1].diff_id


def mount_verity(world):
    """A file system with fs-verity on a loop device, mounted for this test."""
    needs("mkfs.ext4")
    disk, at = world.path("disk"), world.path("ext4")
    os.makedirs(at)
    with open(disk, "wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-O", "verity", "-b", "4096", disk], check=True)
    subprocess.run(["mount", "-o", "loop", disk, at], check=True)
    return at


@pytest.mark.vm
@pytest.mark.vm_only
def test_f43_fs_verity_is_switched_on_and_checked_at_every_start(bare, world, form):
    at = mount_verity(world)
    try:
        bare.options[1] = at + "/store"
        world.store = at + "/store"
        os.symlink(at + "/store", world.path("store"))
        path, image = archive(world)
        bare.ok("load", path)
        places = pieces(world, image)
        marks = at + "/store/marks/" + image.layers[1].diff_id[7:]
        assert read(marks + "/verity").startswith(b"sha256:") and len(read(marks + "/verity")) == 71
        file = at + "/store/" + places["contents"][0]
        with pytest.raises(PermissionError):
            os.chmod(file, 0o600)
            open(file, "r+b").close()
        os.chmod(file, 0o400)
        assert bare.ok("run", "--rm", "one:1", "head", "-c", "3", "/d/own") == "own"
        assert verify(bare)[0]["faults"] == []
        # The same bytes in a file without fs-verity, and others in one with it.
        for change in (lambda data: data, lambda data: data.replace(b"ownown", b"OWNown", 1)):
            data = change(read(file))
            os.rename(file, file + ".away")
            with open(file, "wb") as out:
                out.write(data)
            os.chmod(file, 0o400)
            bare.fails("run", "--rm", "one:1", "true", status=125,
                       match=["layer " + image.layers[1].diff_id, "lost its fs-verity", "--repair"])
            faults = verify(bare, status=1)[0]["faults"]
            assert "fs-verity" in faults[0]["expected"] and "none" in faults[0]["found"]
            os.rename(file + ".away", file)
        # The mark of another file.
        good = read(marks + "/verity")
        world.write("ext4/store/marks/%s/verity" % image.layers[1].diff_id[7:], "sha256:" + "a" * 64)
        bare.fails("run", "--rm", "one:1", "true", status=125, match=[good.decode(), "aaaa"])
        assert "one:1: repaired" in bare.ok("image", "verify", "--repair", path)
        assert bare.ok("run", "--rm", "one:1", "head", "-c", "3", "/d/own") == "own"
        # The scaffold too.
        scaffold = at + "/store/" + places["scaffold"][0]
        data = read(scaffold)
        os.unlink(scaffold)
        with open(scaffold, "wb") as out:
            out.write(data)
        bare.fails("run", "--rm", "one:1", "true", status=125, match=["scaffold", "fs-verity"])
        assert "one:1: repaired" in bare.ok("image", "verify", "--repair", path)
        bare.ok("rmi", "one:1")
    finally:
        bare("image", "prune", "-a")
        subprocess.run(["umount", at], check=True)

# SPDX-License-Identifier: Apache-2.0
"""skink image: listing with filters, names, history, removal, prune and df. What a container needs is never removed."""

import json
import os
import subprocess

import mkimg
import pytest
from mktar import Tar
from skinktest import ALL, Image, Layer, Layout, base_layer, busybox_image, listdir, needs, read, wait_for


def made(name, text, created="2026-01-01T00:00:00Z", labels=None):
    """A small image of the common layer and one of its own."""
    return Image([base_layer(), Tar().file("own", text * 3000)], {"Env": ["PATH=/bin"], "Cmd": ["sleep", "1000"],
                                                                  "Labels": labels or {}}, name, extra={"created": created})


def names(sk, *options):
    return sorted(row["name"] for row in json.loads(sk.ok("images", "--format", "json", *options)))


def dangle(sk, name, text="other"):
    """Loads another image of a name: the one that had it has none now."""
    sk.load(made(name, text))


def layers(world):
    return sorted(listdir(world.store + "/layers/sha256"))


def stored(world):
    """Every file of images and layers, by its path below the store."""
    found = []
    for part in ("layers", "marks", "images", "scaffolds", "names", "tmp"):
        for top, _, files in os.walk(os.path.join(world.store, part)):
            found += [os.path.relpath(os.path.join(top, name), world.store) for name in files]
    return sorted(found)


def test_long_and_short_names_of_the_verbs(bare, world):
    bare.load(made("one:1", "1"))
    for long, short in ((["image", "ls"], ["images"]), (["image", "list", "-q"], ["images", "-q"]),
                        (["image", "history", "one:1"], ["history", "one:1"]), (["system", "df"], ["df"]),
                        (["image", "inspect", "one:1"], ["inspect", "one:1"])):
        assert bare.ok(*long) == bare.ok(*short)
    assert "prune" in bare.ok("image", "--help") and "Usage: skink image prune" in bare.ok("image", "prune", "--help")
    assert bare.ok("help", "image", "exists") == bare.ok("image", "exists", "--help")
    bare.fails("image", match="a verb is missing")
    bare.fails("image", "fly", match='no verb "fly"')
    assert bare("image", "exists", "one:1").status == 0
    assert bare("image", "exists", "two") .status == 1
    bare.fails("image", "exists", status=125)
    bare.ok("image", "rm", "one:1")
    assert names(bare) == []


def test_filters_of_images(bare, world):
    bare.load(made("team/web:1", "1", "2026-01-01T00:00:00Z", {"tier": "front"}),
              made("team/web:2", "2", "2026-02-01T00:00:00Z", {"tier": "back", "x": ""}),
              made("db:1", "3", "2026-03-01T00:00:00Z"))
    for wanted, filters in ((["team/web:1", "team/web:2"], ["reference=team/*"]), (["db:1"], ["reference=d*:1"]),
                            (["db:1", "team/web:1"], ["reference=team/web:1", "reference=db"]),
                            (["team/web:1", "team/web:2"], ["label=tier"]), (["team/web:2"], ["label=tier=back", "label=x"]),
                            (["team/web:1"], ["before=team/web:2"]), (["db:1"], ["since=team/web:2"]),
                            (["team/web:2"], ["since=team/web:1", "before=db:1"]), ([], ["dangling=true"]),
                            (["db:1", "team/web:1", "team/web:2"], ["dangling=false"]), (["team/web:1"], ["until=2026-01-15"])):
        assert names(bare, *[word for one in filters for word in ("--filter", one)]) == wanted, filters
    dangle(bare, "db:1")
    assert names(bare, "--filter", "dangling=true") == [""]
    assert len(bare.ok("images", "-q", "-f", "dangling=true").split()) == 1
    assert "sha256:" in bare.ok("images", "--digests").splitlines()[1]
    bare.fails("images", "--filter", "before=none", match="none")
    bare.fails("images", "--filter", "colour=red", match=["colour", "dangling"])


def test_an_image_by_digest_and_by_the_beginning_of_its_id(bare, world):
    # Ids are digests: of some eighty, two begin with the same two digits.
    bare.load(*[Image([base_layer()], {"Labels": {"n": str(n)}}, "many:%d" % n) for n in range(80)])
    images = {row["name"]: row for row in json.loads(bare.ok("images", "--format", "json"))}
    one = images["many:7"]
    for name in (one["id"], one["id"][7:], one["digest"], "many@" + one["digest"], "many:7@" + one["digest"], one["id"][:40]):
        assert bare.inspect(name)["id"] == one["id"], name
    bare.fails("inspect", "few@" + one["digest"], match="few")
    starts = [row["id"][7:9] for row in images.values()]
    twice = next(start for start in starts if starts.count(start) > 1)
    bare.fails("image", "inspect", twice, match=["2 image ids|3 image ids|4 image ids", "more digits"])
    bare.fails("image", "rm", twice, match="more digits")
    assert bare("image", "exists", twice).status == 125


def test_history_tells_steps_and_sizes(bare, world):
    image = made("one:1", "1")
    image.config["history"] = [{"created": "2026-01-01T00:00:00Z", "created_by": "ADD base"},
                               {"created": "2026-01-02T00:00:00Z", "created_by": "ENV PATH=\x1b[2J" + "x" * 60, "empty_layer": True},
                               {"created": "2026-01-03T00:00:00Z", "created_by": "COPY own /own", "comment": "by hand"}]
    bare.load(image)
    rows = json.loads(bare.ok("history", "--format", "json", "one:1"))
    assert [row["created_by"][:8] for row in rows] == ["COPY own", "ENV PATH", "ADD base"]
    assert [row["size"] for row in rows][:2] == [3000, 0] and rows[2]["size"] > 100000
    assert rows[0]["id"] == bare.inspect("one:1")["id"] and rows[1]["id"] is None
    assert [row["layer"] for row in rows] == [image.layers[1].diff_id, None, image.layers[0].diff_id]
    text = bare.ok("image", "history", "one:1")
    assert "<missing>" in text and "by hand" in text and "x" * 60 not in text and "\x1b" not in text
    assert "x" * 60 in bare.ok("history", "--no-trunc", "one:1")
    # One that tells nothing has its layers nevertheless.
    image.config["history"] = []
    image.names = ["two"]
    bare.load(image)
    assert len(bare.ok("history", "-q", "two").splitlines()) == 2
    bare.fails("history", "none", match="none")


@pytest.mark.parametrize("state", ["running", "stopped", "created"])
def test_what_a_container_needs_is_never_removed(bare, world, state):
    bare.load(made("one:1", "1"))
    bare.ok("tag", "one:1", "one:2")
    name = world.name()
    bare.ok("create" if state == "created" else "run", *(["-d"] * (state != "created")), "--name", name, "one:1")
    if state == "stopped":
        bare.ok("stop", "-t", "0", name)
    before = [path for path in stored(world) if "names" not in path]
    identity = bare.inspect("one:1")["id"]
    for word in (identity, identity[7:15]):
        bare.fails("rmi", "--force", word, match=["in use by container " + name, "skink rm"])
    bare.ok("rmi", "one:2")
    bare.fails("rmi", "--force", "one:1", match="in use by container " + name)
    assert "Removed 0 images, 0 layers" in bare.ok("image", "prune", "--all", "--force")
    # Also when its name has gone to another image.
    dangle(bare, "one:1")
    bare.ok("image", "prune")
    bare.ok("image", "prune", "-a")
    assert names(bare) == [""]
    assert [path for path in stored(world) if "names" not in path] == [path for path in before if "names" not in path]
    bare.ok(*(["restart", "-t", "0"] if state == "running" else ["start"]), name)
    assert bare.ok("exec", name, "head", "-c", "2", "/own") == "11"
    bare.ok("rm", "-f", name)
    assert "Removed 1 image, 2 layers" in bare.ok("image", "prune")
    assert stored(world) == []


def test_a_passing_container_that_a_power_cut_left_empty_keeps_none(bare, world):
    bare.load(made("one:1", "1"))
    identity = bare.ok("create", "--rm", "--name", world.name(), "one:1")
    os.truncate(os.path.join(world.store, "containers", identity, "container.json"), 0)
    bare.ok("rmi", "one:1")
    bare.ok("heal")
    assert identity not in os.listdir(os.path.join(world.store, "containers")) and stored(world) == []


def test_the_beginning_of_time_is_a_time(bare):
    bare.load(made("one:1", "1"))
    assert "Removed 0 images" in bare.ok("image", "prune", "--all", "--filter", "until=0")
    assert names(bare) == ["one:1"]


def test_a_container_whose_record_is_damaged_keeps_every_image(bare, world):
    bare.load(made("one:1", "1"))
    name = world.name()
    identity = bare.ok("create", "--name", name, "one:1")
    record = os.path.join(world.store, "containers", identity, "container.json")
    assert os.path.exists(record), os.listdir(os.path.dirname(record))
    os.truncate(record, 10)
    bare.fails("rmi", "one:1", match=[identity[:12], "nobody knows which image it needs"])
    bare.fails("image", "prune", "--all", match="nobody knows")
    bare.ok("rm", "-f", identity)
    bare.ok("rmi", "one:1")


def test_prune_takes_what_nothing_needs(bare, world):
    bare.load(made("keep:1", "1", labels={"keep": ""}), made("go:1", "2"))
    dangle(bare, "go:1")
    digest = base_layer().diff_id
    with open(world.path("store/names/lost@1"), "w") as file:
        file.write("sha256:" + "a" * 64)
    os.makedirs(world.path("store/marks/" + "b" * 64))
    os.makedirs(world.path("store/tmp/0123456789abcdef.999999999"))
    world.write("store/tmp/0123456789abcdef.999999999/left", "x" * 100000)
    said = json.loads(bare.ok("image", "prune", "--format", "json"))
    assert [image["name"] for image in said["images"]] == [""] and said["layers"] == 2 and said["leftovers"] == 2
    assert said["bytes"] > 100000
    assert names(bare) == ["go:1", "keep:1"] and len(layers(world)) == 3
    text = bare.ok("image", "prune", "--all", "--filter", "label!=keep")
    assert "Untagged: go:1" in text and "Deleted: sha256:" in text and "Total reclaimed space: " in text
    assert names(bare) == ["keep:1"] and len(layers(world)) == 2
    assert any(name.startswith(digest[7:]) for name in layers(world))
    bare.fails("image", "prune", "--filter", "reference=x", match="label!=")
    assert bare.ok("run", "--rm", "keep:1", "head", "-c", "1", "own") == "1"
    bare.ok("image", "prune", "-af")
    assert stored(world) == [] and world.host_mounts() == []


def test_prune_removes_nothing_while_an_image_is_damaged(bare, world):
    bare.load(made("one:1", "1"), made("two:1", "2"), made("three:1", "3"))
    dangle(bare, "one:1")
    identity = bare.inspect("two:1")["id"]
    place = world.path("store/images/sha256/%s/config" % identity[7:])
    good = read(place)
    # No JSON, another date, nothing: one bit is enough.
    for bad in (b"{", good.replace(b"2026", b"2027", 1), None):
        os.unlink(place) if bad is None else world.write(place, bad)
        before = stored(world)
        bare.fails("image", "prune", "--all", match=[identity, "image verify --repair"])
        assert stored(world) == before
        for words in (["run", "--rm", "two:1"], ["inspect", "two:1"], ["history", "two:1"], ["save", "-o", world.path("x"), "two:1"],
                      ["df"], ["tag", "two:1", "four"]):
            bare.fails(*words, match=[identity, "configuration is (damaged|gone)", "image verify --repair"])
        # The others are told nevertheless.
        listed = bare("images", "--format", "{{.Repository}}")
        assert listed.status == 1 and identity in listed.err and sorted(listed.out.split()) == ["<none>", "one", "three"]
        assert [row["total"] for row in json.loads(bare("df", "--format", "json").out)["totals"]] == [3, 0, 0]
        world.write(place, good)
    os.truncate(world.path("store/images/sha256/%s/image.json" % identity[7:]), 10)
    bare.fails("image", "prune", "--all", match=[identity, "record is damaged", "image verify --repair"])


def test_layers_that_are_kept_for_the_next_image(bare, world):
    bare.load(made("one:1", "1"))
    before = layers(world)
    bare.ok("rmi", "--no-prune", "one:1")
    assert layers(world) == before
    told = json.loads(bare.ok("df", "--format", "json"))["totals"][2]
    assert told["type"] == "Leftovers" and told["total"] == 2 and told["bytes"] > 0
    path = mkimg.oci_archive(world.path("x.tar"), made("one:1", "1"))
    assert json.loads(bare.ok("load", "--format", "json", path))["layers_reused"] == 2
    bare.ok("rmi", "one:1")
    assert layers(world) == []


def du(*paths):
    return sum(int(line.split()[0]) for line in subprocess.run(["du", "-s", "--block-size=1", *paths], check=True,
                                                                capture_output=True, text=True).stdout.splitlines())


def test_df_of_a_tree_deeper_than_files_may_be_open(sk):
    """What a container does must not keep others' sizes from the administrator."""
    deep = "i=0; while [ $i -lt 300 ]; do mkdir d && cd d && i=$((i+1)); done; echo deep; exec sleep 1000"
    name = sk.running("--writable", command=["sh", "-c", deep])
    wait_for(lambda: "deep" in sk.ok("logs", name))
    told = json.loads(sk.ok("df", "--format", "json", before=["prlimit", "--nofile=128:128"]))
    assert [row["total"] for row in told["totals"]][:2] == [1, 1]


def test_an_image_that_is_removed_while_it_is_looked_at(bare, world):
    """Listed and then not found, as after another's rmi."""
    needs("strace")
    bare.load(made("one:1", "1"))
    place = "images/sha256/" + bare.inspect("one:1")["id"][7:]
    gone = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", place, "-e", "inject=openat2:error=ENOENT"]
    assert json.loads(bare.ok("df", "--format", "json", before=gone))["totals"][0]["total"] == 0
    # As it has gone, its layers are left over.
    told = bare("doctor", before=gone).out
    assert "needs this layer" in told and "cannot be looked at" not in told, told


def test_df_counts_shared_layers_once(bare, world):
    bare.load(made("one:1", "1"), made("two:1", "2"))
    name = bare.running(image="one:1")
    told = json.loads(bare.ok("df", "--format", "json"))
    totals = {row["type"]: row for row in told["totals"]}
    parts = [world.path("store/" + part) for part in ("layers/sha256", "marks", "images/sha256", "scaffolds/sha256")]
    # The directories that hold them are nobody's.
    entries = [os.path.join(part, name) for part in parts for name in os.listdir(part)]
    assert totals["Images"]["bytes"] == du(*entries)
    assert (totals["Images"]["total"], totals["Images"]["active"]) == (2, 1)
    images = {image["name"]: image for image in told["images"]}
    one, two = images["one:1"], images["two:1"]
    assert one["shared"] == two["shared"] > 100000 > one["unique"] > 3000
    assert one["shared"] + one["unique"] + two["unique"] == totals["Images"]["bytes"]
    assert totals["Images"]["reclaimable"] == two["unique"]
    assert one["containers"] == [name] and two["containers"] == []
    assert totals["Containers"]["active"] == 1 and totals["Containers"]["bytes"] > 0
    text = bare.ok("df", "-v")
    assert "UNIQUE" in text and name in text
    assert bare.ok("df", "--format", "{{.Type}} {{.Active}}").splitlines()[0] == "Images 1"
    bare.ok("rm", "-f", name)
    bare.ok("rmi", "two:1")
    assert json.loads(bare.ok("df", "--format", "json"))["totals"][0]["reclaimable"] == one["shared"] + one["unique"]


def test_f07_removals_race_with_loads_and_runs(bare, world):
    """No image that is listed and cannot run, no container without its image, and in the end no byte too much."""
    path = mkimg.oci_archive(world.path("x.tar"), made("one:1", "1"), made("two:1", "2"))
    rounds = 60 if ALL else 5
    loops = {"load": ["load", "-q", path], "remove": ["rmi", "-f", "one:1"], "prune": ["image", "prune", "-a"],
             "create": ["create", "one:1"], "run": ["run", "--rm", "one:1", "head", "-c", "1", "own"], "save": ["save", "-o", world.path("saved.tar"), "one:1"],
             "df": ["df"]}
    script = 'i=0; while [ $i -lt %d ]; do "$@" || true; i=$((i+1)); done' % rounds
    running = [subprocess.Popen(["sh", "-c", script, "sh"] + bare.command(*words), env=world.environment(),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for words in loops.values()]
    said = [one.communicate(timeout=240) for one in running]
    gone, used = ("no image", "no such"), ("in use",)
    allowed = {"load": ("again and again",), "remove": gone + used, "prune": (), "create": gone, "run": gone, "save": gone, "df": ()}
    for (verb, _), (_, err) in zip(loops.items(), said):
        for line in err.splitlines():
            assert any(word in line for word in allowed[verb]), (verb, line)
    containers = bare.ok("ps", "-aq", "--no-trunc").split()
    assert len(containers) == len(said[3][0].split())
    for one in containers:
        bare.ok("start", one)
    bare.ok("load", path)
    assert bare.ok("run", "--rm", "one:1", "head", "-c", "1", "own") == "1"
    if containers:
        bare.ok("rm", "-f", *containers)
    bare.ok("image", "prune", "-a")
    assert stored(world) == []
    wait_for(lambda: world.host_mounts() == [])

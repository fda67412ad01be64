# SPDX-License-Identifier: Apache-2.0
"""How images come in and go out: directories, platforms, import, save, pull, and what a load says meanwhile."""

import hashlib
import json
import os
import random
import signal
import subprocess
import tarfile

import mkimg
import pytest
from mktar import Tar, header
from skinktest import ALL, Image, Layer, Layout, base_layer, busybox_image, children, needs, read, support, wait_for
from terminal import Terminal


@pytest.fixture(autouse=True, params=["files"] + ["directories"] * ALL)
def form(request, world):
    """How layers are stored."""
    world.more_environment = {"SKINK_LAYERS": request.param}


def unpack(world, archive, name="layout"):
    os.makedirs(world.path(name))
    subprocess.run(["tar", "-xf", archive, "-C", world.path(name)], check=True)
    return world.path(name)


def platforms(*wanted):
    """An archive with one image for each "arch/variant", which says so when it runs."""
    images = []
    for one in wanted:
        arch, _, variant = one.partition("/")
        images.append(busybox_image(run={"Cmd": ["echo", one]}, arch=arch, variant=variant or None))
    return Layout().add_platforms(images, ["multi:1"])


def names(sk):
    return sorted(row["name"] for row in json.loads(sk.ok("images", "--format", "json")))


# ---- load ----

def test_a_directory_with_a_layout_is_loaded(bare, world):
    layout = unpack(world, mkimg.oci_archive(world.path("x.tar"), busybox_image("one", run={"Cmd": ["echo", "it runs"]})))
    bare.ok("load", layout)
    assert bare.ok("run", "--rm", "one") == "it runs"
    os.unlink(layout + "/index.json")
    bare.fails("load", layout, match=["layout", "index.json"])


def test_a_pipe_is_loaded_packed_or_not(bare, world):
    path = mkimg.oci_archive(world.path("x.tar"), busybox_image("one"))
    for program in (["cat"], ["gzip", "-1c"], ["zstd", "-qc"]):
        with open(path, "rb") as archive, subprocess.Popen(program, stdin=archive, stdout=subprocess.PIPE) as pipe:
            assert "one" in bare.ok("load", "-", stdin=pipe.stdout)
        bare.ok("rmi", "one")


def test_of_several_platforms_the_one_that_fits_best(bare, world):
    path = platforms("arm/v5", "arm/v7", "arm/v6", "s390x").write(world.path("m.tar"))
    for asked, best in (("linux/arm/v7", "arm/v7"), ("linux/arm", "arm/v7"), ("linux/arm/v6", "arm/v6"),
                        ("linux/arm64", "arm/v7"), ("linux/s390x", "s390x")):
        bare.ok("load", "-q", "--platform", asked, path)
        # The programs are the host's whatever the label says.
        assert bare.ok("run", "--rm", "multi:1") == best, asked
    bare.fails("load", "--platform", "linux/arm/v4", path,
               match=["linux/arm/v4", "linux/arm/v5, linux/arm/v7, linux/arm/v6, linux/s390x"])
    bare.fails("load", "--platform", "arm", path, match="linux/amd64")


def test_all_platforms_are_loaded_under_names_that_tell_them_apart(bare, world):
    path = platforms("s390x", "arm/v7", mkimg.HOST_ARCH).write(world.path("m.tar"))
    bare.ok("load", "--all-platforms", path)
    assert names(bare) == ["multi:1", "multi:1-linux-arm-v7", "multi:1-linux-s390x"]
    assert bare.ok("run", "--rm", "multi:1") == mkimg.HOST_ARCH
    assert bare.ok("run", "--rm", "multi:1-linux-arm-v7") == "arm/v7"


def test_all_platforms_of_a_copy_that_lacks_some(bare, world):
    layout = platforms("s390x", mkimg.HOST_ARCH)
    far = next(digest for digest, data in layout.blobs.items() if b'"s390x"' not in data and b"layers" in data)
    del layout.blobs[far]
    result = bare("load", "--all-platforms", layout.write(world.path("m.tar")))
    assert result.status == 0 and "not in the archive" in result.err, result
    assert len(names(bare)) == 1


def test_what_was_loaded_is_told_to_programs(bare, world):
    path = mkimg.oci_archive(world.path("x.tar"), busybox_image(["one:1", "one:2"]))
    result = bare("load", "--format", "json", path, world.path("missing.tar"))
    good, bad = [json.loads(line) for line in result.out.splitlines()]
    assert result.status == 1 and good["error"] is None and "missing.tar" in bad["error"]
    assert good["images"][0]["names"] == ["one:1", "one:2"] and good["layers_written"] == 1
    assert bad["images"] == []


def test_a_terminal_shows_each_layer_and_a_pipe_nothing_of_it(bare, world):
    path = mkimg.oci_archive(world.path("x.tar"), busybox_image("one"))
    layer = hashlib.sha256(base_layer().blob).hexdigest()[:10]
    terminal = Terminal(world, bare.command("load", path))
    try:
        terminal.expect(b"Loaded image: one")
        assert terminal.end() == 0
        assert layer.encode() in terminal.text and b"stored" in terminal.text, terminal.text
    finally:
        terminal.close()
    result = bare("load", path)
    assert (result.out, result.err) == ("Loaded image: one:latest\n", ""), result


def test_a_terminal_shows_how_fast_and_how_long(bare, world):
    """Of a layer that takes a while."""
    path = mkimg.oci_archive(world.path("x.tar"), Image([Layer(Tar().file("noise", random.Random(1).randbytes(48 << 20)))], {}, "one"))
    terminal = Terminal(world, bare.command("load", path), columns=120)
    try:
        # Its job is stopped on the way: then there is something to tell however fast the disk is.
        terminal.expect(rb"  [1-9][\d.]*[kM]?B of 50\.3MB")
        jobs = children(terminal.process.pid)
        for job in jobs:
            os.kill(job, signal.SIGSTOP)
        try:
            terminal.expect(rb"\[#*\.+\]  [\d.]+[kM]?B of 50\.3MB  [\d.]+[kM]?B/s  \d+ s left\r\n")
        finally:
            for job in jobs:
                os.kill(job, signal.SIGCONT)
        terminal.expect(b"Loaded image: one")
        assert terminal.end() == 0
    finally:
        terminal.close()


def zstd(data, *options):
    return subprocess.run(["zstd", "-qc", *options], input=data, stdout=subprocess.PIPE, check=True).stdout


def test_a70_a_large_window_of_zstd_takes_no_memory(bare, world):
    """The window is page cache: with 64 MiB for each process of the load, layers and archives of 128 MiB windows come in."""
    noise = os.urandom(1 << 20)
    tar = Tar().file("far", noise + bytes(121 << 20) + noise).bytes()
    layer = Layer(tar, blob=zstd(tar, "-1", "--long=27"), media_type=mkimg.LAYER + "+zstd")
    path = mkimg.oci_archive(world.path("x.tar"), Image([base_layer(), layer], {"Env": ["PATH=/bin"]}, "far"))
    little = ("prlimit", "--data=%d" % (64 << 20))
    bare.ok("load", path, before=little)
    assert bare.ok("run", "--rm", "far", "md5sum", "/far").split()[0] == hashlib.md5(noise + bytes(121 << 20) + noise).hexdigest()
    assert bare.ok("image", "verify") == "far:latest: ok"
    bare.ok("rmi", "far")
    world.write("packed", zstd(read(path), "-1", "--long=27"))
    with open(world.path("packed"), "rb") as packed:
        bare.ok("load", "-", stdin=packed, before=little)
    bare.ok("import", "-", "bare:1", input=layer.blob, before=little)
    wide = Layer(tar, blob=zstd(tar, "-1", "--long=28"), media_type=mkimg.LAYER + "+zstd")
    refused = mkimg.oci_archive(world.path("wide.tar"), Image([wide], {}, "wide"))
    bare.fails("load", refused, match=[wide.digest, "window of more than 128 MiB", "--long=27"])


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a70_a_large_window_on_a_full_disk(bare, world):
    tar = Tar().file("far", os.urandom(1 << 20) * 60).bytes()
    layer = Layer(tar, blob=zstd(tar, "-1", "--long=27"), media_type=mkimg.LAYER + "+zstd")
    path = mkimg.oci_archive(world.path("x.tar"), Image([layer], {}, "far"))
    os.makedirs(world.path("small"))
    # The layer has its room there, and the window has not.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "small", world.path("small")], check=True)
    try:
        bare.options[1] = world.path("small/store")
        bare.fails("load", path, match=["window", "No space left"])
        assert os.listdir(world.path("small/store/tmp")) == []
    finally:
        subprocess.run(["umount", world.path("small")], check=True)


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count,name", [(100_000, "%d"), (100_000, "usr/share/a-directory-%d/and/a-long-name-in-it"), (900_000, "d/%d")])
def test_many_entries_within_the_memory_that_a_tar_of_them_gives(bare, world, count, name):
    """The importer has 64 MiB and 128 bytes an entry, beside its program; more is refused by the kernel."""
    def pieces():
        for start in range(0, count, 1000):
            tar = Tar()
            for number in range(start, start + 1000):
                tar.file(name % number) if "/and" not in name else tar.dir(name % (number // 40) + "/%d" % number)
            yield tar.bytes(end=start + 1000 == count)
    image = Image([base_layer(), mkimg.layer_of_pieces(pieces())], {"Env": ["PATH=/bin"]}, "many")
    # As directories, 900,000 of them are a minute of a machine that has nothing else to do.
    bare.ok("load", mkimg.oci_archive(world.path("x.tar"), image), timeout=900)
    assert int(bare.shell("find / -xdev | wc -l", image="many", timeout=300)) > count
    assert bare.ok("image", "verify", timeout=300) == "many:latest: ok"


# ---- save ----

def varied_layers():
    """Layers whose tars are not what any archiver of ours would make again."""
    odd = (Tar().dir("d").file("d/empty", "").file("d/small", "s" * 700).file("d/large", os.urandom(300000))
           .file("d/holes", b"\0" * 100000).symlink("d/link", "small").link("d/hard", "d/small").file("d/small", "again")
           .file("d/.wh.gone", "").file("n" * 90 + "/" + "m" * 90, "deep").add("x", b"x", pax={"SCHILY.xattr.user.a": "1"}))
    return [base_layer("gzip"), Layer(odd.bytes() + b"\0" * 5120 + b"what trails", "gzip"), Layer(Tar(), "gzip")]


def saved_layers(path):
    with tarfile.open(path) as archive:
        manifest = json.load(archive.extractfile("manifest.json"))
        return [[archive.extractfile(name).read() for name in image["Layers"]] for image in manifest]


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_a73_many_whiteouts_in_many_layers_take_the_memory_of_one(bare, world):
    """Each has 20,000 directories with long names and a whiteout in every one of them."""
    def layer(number):
        yield Tar().dir("a" * 250).dir("a" * 250 + "/" + "b" * 240).symlink("s", "a" * 250 + "/" + "b" * 240).bytes(end=False)
        for at in range(0, 20_000, 1000):
            tar = Tar()
            for one in range(at, at + 1000):
                tar.dir("s/%d" % one).file("s/%d/.wh.%d" % (one, number))
            yield tar.bytes(end=at == 19_000)

    layers = [mkimg.layer_of_pieces(layer(number)) for number in range(10)]
    path = mkimg.oci_archive(world.path("x.tar"), Image([base_layer()] + layers, {"Env": ["PATH=/bin"]}, "many"))
    bare.ok("load", path, timeout=900, before=["prlimit", "--data=%d" % (80 << 20)])
    assert bare.shell("ls /s | wc -l", image="many") == "20000"


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_a_layer_of_more_than_4_gib(bare, world):
    """A file of more than 2 GiB of nothing and one beyond 4 GiB, whose sizes and places take more than 32 bits."""
    def pieces():
        # Nothing alone would be a bomb.
        yield Tar().file("noise", random.Random(1).randbytes(12 << 20)).bytes(end=False)
        for name, size in (("nothing", (2 << 30) + 5), ("more", (2 << 30) + 4096 * 3 + 1)):
            yield header(name, size=size, mode=0o644)
            for at in range(0, size, 1 << 20):
                yield bytes(min(1 << 20, size - at))
            yield bytes(-size % 512)
        yield Tar().file("end", "behind it\n").bytes()

    layer = mkimg.layer_of_pieces(pieces())
    assert len(layer.blob) < 30 << 20
    path = mkimg.oci_archive(world.path("x.tar"), Image([base_layer(), layer], {"Env": ["PATH=/bin"]}, "large"))
    bare.ok("load", path, timeout=900)
    assert bare.shell("cat /end; stat -c %s /nothing /more; tail -c 3 /more | od -An -tx1", image="large").split() == [
        "behind", "it", str((2 << 30) + 5), str((2 << 30) + 4096 * 3 + 1), "00", "00", "00"]
    assert bare.ok("image", "verify", timeout=900) == "large:latest: ok"


def test_saved_layers_are_the_bytes_that_came(bare, world):
    layers = varied_layers()
    bare.load(Image(layers, {"Cmd": ["cat", "/d/small"], "Env": ["PATH=/bin"]}, "one:1"))
    path = world.path("saved.tar")
    bare.ok("save", "-o", path, "one:1")
    assert saved_layers(path) == [[layer.tar for layer in layers]]
    image = bare.inspect("one:1")
    bare.ok("rmi", "one:1")
    assert bare.ok("load", path) == "Loaded image: one:1"
    assert bare.inspect("one:1")["id"] == image["id"]
    assert bare.ok("run", "--rm", "one:1") == "again"
    with open(world.path("again.tar"), "wb") as again:
        bare.ok("save", "one:1", stdout=again)
    assert read(world.path("again.tar")) == read(path)


def test_several_images_share_what_is_saved_of_them(bare, world):
    bare.load(busybox_image(["one:1", "one:2"]), busybox_image("two", extra=lambda tar: tar.file("x", "x")),
              Image([base_layer(), Tar().file("y", "y")], {}, "three"))
    out = world.path("saved.tar")
    with open(out, "wb") as file:
        bare.ok("save", "one:2", "two", "three", "one:1", stdout=file)
    with tarfile.open(out) as archive:
        members = archive.getnames()
        index = json.load(archive.extractfile("index.json"))
    assert len(members) == len(set(members)) and len(saved_layers(out)) == 3
    assert saved_layers(out)[0][0] == saved_layers(out)[2][0]
    annotations = [entry["annotations"] for entry in index["manifests"]]
    assert [one["org.opencontainers.image.ref.name"] for one in annotations] == ["one:2", "one:1", "two:latest",
                                                                                 "three:latest"]
    assert annotations[0]["io.containerd.image.name"] == "docker.io/library/one:2"
    bare.ok("rmi", "-f", "one:1", "one:2", "two", "three")
    bare.ok("load", out)
    assert names(bare) == ["one:1", "one:2", "three:latest", "two:latest"]


def test_a_save_appears_whole_or_not_at_all(bare, world):
    bare.load(busybox_image("one"))
    path = world.write("saved.tar", b"of before")
    bare.fails("save", "-o", path, "one", "nothing", match="nothing")
    bare.fails("save", "-o", world.path("none/saved.tar"), "one", match="none/saved.tar")
    bare.fails("save", "-o", "/dev/full", "one", match="No space left")
    process = bare.start("save", "-o", path, "one")
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode in (0, -signal.SIGINT)
    assert process.returncode == 0 or read(path) == b"of before"
    assert sorted(name for name in os.listdir(world.base) if "saved" in name) == ["saved.tar"]
    terminal = Terminal(world, bare.command("save", "one"))
    try:
        terminal.expect(b"terminal")
        assert terminal.end() == 1
    finally:
        terminal.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_save_leaves_nothing_where_files_need_names(bare, world, number):
    """As on file systems without O_TMPFILE."""
    bare.load(busybox_image("one", extra=lambda tar: tar.file("x", os.urandom(8 << 20))))
    path = world.write("saved.tar", b"of before")
    lacking = [support("lacking"), "openat:2&0x410000=0x410000:EOPNOTSUPP", "--"]

    def temporary():
        return [name for name in os.listdir(world.base) if name.startswith(".saved.tar.")]
    process = bare.start("save", "-o", path, "one", before=lacking)
    while process.poll() is None and not temporary():
        pass
    seen = temporary()
    process.send_signal(number)
    process.communicate()
    assert process.returncode in (0, -number) and (seen or process.returncode == 0)
    assert temporary() == [] and (process.returncode == 0 or read(path) == b"of before")
    bare.ok("save", "-o", path, "one", before=lacking)
    assert temporary() == [] and len(saved_layers(path)[0]) == 2


def test_a_layer_without_a_recipe_says_what_to_do(bare, world):
    bare.load(busybox_image("one"))
    found = [os.path.join(top, name) for top, _, files in os.walk(world.store) for name in files if name == "recipe"]
    assert len(found) == 1
    os.unlink(found[0])
    bare.fails("save", "-o", world.path("x.tar"), "one", match=["layer 1", "older skink", "load it again"])
    assert not os.path.exists(world.path("x.tar"))


def test_a_damaged_recipe_or_layer_is_noticed(bare, world):
    bare.load(busybox_image("one"))
    files = [os.path.join(top, name) for top, _, files in os.walk(world.store) for name in files]
    recipe = next(path for path in files if path.endswith("/recipe"))
    good = read(recipe)
    for bad in (good[:-9], good[:8] + b"\1" + good[9:], b"", good[:40] + bytes([good[40] ^ 1]) + good[41:]):
        os.chmod(recipe, 0o600)
        world.write(os.path.relpath(recipe, world.base), bad)
        bare.fails("save", "-o", world.path("x.tar"), "one", match="layer 1")
        assert not os.path.exists(world.path("x.tar"))


def test_what_skopeo_takes_of_a_saved_archive(bare, world):
    needs("skopeo")
    bare.load(Image(varied_layers(), {"Cmd": ["sh"]}, "one:1"))
    path = world.path("saved.tar")
    bare.ok("save", "-o", path, "one:1")
    for source in ("oci-archive:%s:one:1" % path, "docker-archive:%s:one:1" % path):
        told = subprocess.run(["skopeo", "inspect", "--config", source], check=True, capture_output=True).stdout
        assert json.loads(told)["rootfs"]["diff_ids"] == bare.inspect("one:1")["layers"], source


# ---- import ----

@pytest.mark.parametrize("pack", [None, "gzip", "zstd"])
def test_a_root_file_system_becomes_an_image(bare, world, pack):
    tar = mkimg.busybox_tar()
    path = world.write("root.tar", mkimg.compress(tar.bytes(), pack))
    said = bare.ok("import", path, "made:1", "--change", "CMD echo $A; pwd", "--change", "ENV PATH=/bin A=\"b c\"",
                   "--change", "WORKDIR /srv", "--change", "USER user", "--change", "LABEL team=blue",
                   "--change", "EXPOSE 80 53/udp", "--message", "by hand")
    image = bare.inspect("made:1")
    assert image["id"] == said and image["layers"] == [mkimg.sha256(tar.bytes())]
    assert image["labels"] == {"team": "blue"} and sorted(image["exposed_ports"]) == ["53/udp", "80/tcp"]
    assert bare.ok("run", "--rm", "made:1").split("\n") == ["b c", "/srv"]


def test_an_import_with_a_healthcheck_and_a_trigger(bare, world):
    path = world.write("root.tar", mkimg.busybox_tar().bytes())

    def config(*changes):
        bare.ok("import", path, "made", *[word for one in changes for word in ("--change", one)])
        bare.ok("save", "-o", world.path("x.tar"), "made")
        with tarfile.open(world.path("x.tar")) as archive:
            manifest = json.load(archive.extractfile("manifest.json"))
            return json.load(archive.extractfile(manifest[0]["Config"]))["config"]
    told = config("HEALTHCHECK --interval=300ms --timeout=1m30s --start-period=2s --retries=2 CMD test -e /tmp/well", "CMD sleep 1000",
                  "ENV PATH=/bin", "ONBUILD RUN make", "onbuild COPY . /src")
    assert told["Healthcheck"] == {"Test": ["CMD-SHELL", "test -e /tmp/well"], "Interval": 300000000, "Timeout": 90000000000,
                                   "StartPeriod": 2000000000, "Retries": 2}
    assert told["OnBuild"] == ["RUN make", "COPY . /src"]
    name = bare.running("--restart", "no", image="made", command=())
    bare.ok("exec", name, "touch", "/tmp/well")
    wait_for(lambda: bare.inspect(name)["health"] == "healthy")
    bare.ok("rm", "-f", name)
    assert config('HEALTHCHECK CMD ["test", "-e", "/x"]')["Healthcheck"] == {"Test": ["CMD", "test", "-e", "/x"]}
    assert config("HEALTHCHECK NONE")["Healthcheck"] == {"Test": ["NONE"]}


def test_an_import_from_a_pipe_and_out_again(bare, world):
    tar = mkimg.busybox_tar(lambda tar: tar.file("x", os.urandom(100000))).bytes()
    bare.ok("import", "-", "made", "--platform", "linux/arm/v7", input=tar)
    assert bare.inspect("made")["platform"] == "linux/arm/v7"
    bare.ok("save", "-o", world.path("x.tar"), "made")
    assert saved_layers(world.path("x.tar")) == [[tar]]
    bare.ok("import", "-", input=tar)
    assert len(names(bare)) == 2


def test_imports_that_make_no_image(bare, world):
    path = world.write("root.tar", Tar().file("a", "x").bytes())
    bare.fails("import", world.write("cut.tar", Tar().file("a", "x" * 2000).bytes()[:1500]), "made", match="cut.tar")
    bare.fails("import", world.path("missing"), "made", match="missing")
    bare.fails("import", world.base, "made", match="tar -C")
    bare.fails("import", path, "made", "--change", "ADD x", match=["ADD", "ONBUILD", "WORKDIR"])
    for wrong in ("HEALTHCHECK", "HEALTHCHECK true", "HEALTHCHECK --interval=x CMD true", "HEALTHCHECK NONE x", "ONBUILD FROM x",
                  "HEALTHCHECK --colour=red CMD true", "HEALTHCHECK --retries=-1 CMD true", "ONBUILD onbuild RUN x"):
        bare.fails("import", path, "made", "--change", wrong, match=wrong.split()[0])
    bare.fails("import", path, "made", "--change", "EXPOSE many", match="EXPOSE")
    bare.fails("import", path, "made", "--change", "STOPSIGNAL NONE", match="signal")
    bare.fails("import", path, "made@sha256:" + "a" * 64, match="digest")
    assert names(bare) == []
    assert os.listdir(world.store + "/layers/sha256") == [] and os.listdir(world.store + "/tmp") == []


# ---- pull ----

def with_skopeo(world, script):
    """The environment in which `skopeo` is this shell script."""
    os.makedirs(world.path("bin"), exist_ok=True)
    world.write("bin/skopeo", "#!/bin/sh\n" + script)
    os.chmod(world.path("bin/skopeo"), 0o755)
    return {"PATH": world.path("bin") + ":" + os.environ["PATH"]}


def test_pull_hands_the_transfer_to_skopeo(bare, world):
    layout = unpack(world, mkimg.oci_archive(world.path("x.tar"), busybox_image(run={"Cmd": ["echo", "pulled"]})))
    env = with_skopeo(world, 'echo "$@" >%s/said\nfor last; do :; done\ncp -r %s/. "${last#oci:}"\necho noise\n'
                      % (world.base, layout))
    assert bare.ok("pull", "docker://registry.invalid:5000/team/web:2", env=env) == "registry.invalid:5000/team/web:2"
    said = read(world.path("said")).decode()
    assert "copy" in said and " -- docker://registry.invalid:5000/team/web:2 oci:" in said
    assert "--override-os linux --override-arch " + mkimg.HOST_ARCH in said
    assert bare.ok("run", "--rm", "registry.invalid:5000/team/web:2") == "pulled"
    assert os.listdir(world.store + "/tmp") == []


def test_a_digest_is_the_name_of_what_was_pulled_by_it(bare, world):
    layout = unpack(world, mkimg.oci_archive(world.path("x.tar"), busybox_image(run={"Cmd": ["echo", "pulled"]})))
    env = with_skopeo(world, 'for last; do :; done\ncp -r %s/. "${last#oci:}"\n' % layout)
    name = "team/web@sha256:" + "ab" * 32
    assert bare.ok("pull", name, env=env) == name
    assert names(bare) == [name]
    assert bare.ok("run", "--rm", name) == "pulled"
    row = bare.ok("images").splitlines()[1].split()
    assert row[:2] == ["team/web", "<none>"]
    bare.ok("rmi", name)
    assert names(bare) == []


def test_pull_of_a_platform(bare, world):
    layout = unpack(world, mkimg.oci_archive(world.path("x.tar"), busybox_image(arch="arm", variant="v7")))
    env = with_skopeo(world, 'echo "$@" >%s/said\nfor last; do :; done\ncp -r %s/. "${last#oci:}"\n' % (world.base, layout))
    bare.ok("pull", "--platform", "linux/arm/v7", "web", env=env)
    assert "--override-arch arm --override-variant v7" in read(world.path("said")).decode()
    assert bare.inspect("web")["platform"] == "linux/arm/v7"


def test_pulls_that_fail_leave_nothing(bare, world):
    bare.fails("pull", "web", env={"PATH": world.path("nothing")}, match="apt install skopeo")
    bare.fails("pull", "-x", match="-x")
    bare.fails("pull", "UPPER CASE", match="UPPER")
    result = bare("pull", "web", env=with_skopeo(world, 'echo "unauthorized: no" >&2\nexit 3\n'))
    assert result.status == 1 and "unauthorized: no" in result.err and "skopeo failed with status 3" in result.err
    result = bare("pull", "web", env=with_skopeo(world, "exit 0\n"))
    assert result.status == 1 and "index.json" in result.err
    assert names(bare) == [] and os.listdir(world.store + "/tmp") == []


def test_pull_with_the_real_skopeo(bare, world):
    needs("skopeo")
    layout = unpack(world, mkimg.oci_archive(world.path("x.tar"), busybox_image("web:3", run={"Cmd": ["echo", "pulled"]})))
    env = with_skopeo(world, 'exec /usr/bin/skopeo --insecure-policy --tmpdir %s "$@"\n' % world.base)
    assert bare.ok("pull", "-q", "oci:%s:web:3" % layout, env=env).startswith("sha256:")
    assert bare.ok("run", "--rm", "web:3") == "pulled"
    bare.ok("rmi", "web:3")
    # These keep their digest; of what docker saves there is none.
    image = busybox_image("web:3", run={"Cmd": ["echo", "pulled"]})
    saved = mkimg.docker_archive(world.path("docker.tar"), image)
    for kind, place in (("dir", "dir:" + world.path("dir")), ("oci", "oci-archive:%s:web:3" % world.path("oci.tar"))):
        subprocess.run(["skopeo", "--insecure-policy", "--tmpdir", world.base, "copy", "-q", "oci:%s:web:3" % layout, place], check=True)
        bare.ok("pull", "-q", place, env=env)
        assert os.path.exists(world.path("dir/manifest.json"))
        bare.ok("rmi", "-f", bare.ok("images", "-q", "--no-trunc").split()[0])
    bare.ok("pull", "-q", "docker-archive:" + saved, env=env)
    assert bare.ok("run", "--rm", bare.ok("images", "-q").split()[0]) == "pulled"


def test_pull_from_the_storage_of_podman_and_buildah(bare, world):
    needs("skopeo")
    place = "[vfs@%s+%s]" % (world.path("storage"), world.path("storage-run"))
    image = Image([Layer(mkimg.busybox_tar())], {"Env": ["PATH=/bin"], "Cmd": ["echo", "pulled"]}, "web:3")
    saved = mkimg.docker_archive(world.path("docker.tar"), image)
    target = "containers-storage:%slocalhost/web:3" % place
    subprocess.run(["skopeo", "--insecure-policy", "--tmpdir", world.base, "copy", "-q", "docker-archive:" + saved, target], check=True)
    env = with_skopeo(world, 'exec /usr/bin/skopeo --insecure-policy --tmpdir %s "$@"\n' % world.base)
    bare.ok("pull", "-q", target, env=env)
    assert bare.ok("run", "--rm", bare.ok("images", "-q").split()[0]) == "pulled"

# SPDX-License-Identifier: Apache-2.0
"""Images: load, images, tag, rmi, inspect, and what layers mean."""

import bz2
import json
import lzma
import os
import socket
import subprocess

import pytest
import mkimg
from mktar import Tar
from skinktest import ALL, SLOWER, Image, Layer, Layout, base_layer, busybox_image, needs, read


@pytest.fixture(autouse=True, params=["files"] + ["directories"] * ALL)
def form(request, world):
    """How layers are stored."""
    world.more_environment = {"SKINK_LAYERS": request.param}


def load_layers(sk, world, *tars, run=None, names="made"):
    path = world.path("made.tar")
    layers = [base_layer()] + [one if isinstance(one, Layer) else Layer(one) for one in tars]
    mkimg.oci_archive(path, Image(layers, dict({"Env": ["PATH=/bin"]}, **(run or {})), names))
    sk.ok("load", path)
    return "made"


@pytest.mark.parametrize("pack", [None, "gzip", "zstd"])
@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_archives_of_both_kinds_with_every_compression(bare, world, kind, pack):
    if kind == "docker" and pack == "zstd":
        pytest.skip("docker save writes no zstd layers")
    image = Image([base_layer(pack)], {"Cmd": ["sh", "-c", "echo it runs"], "Env": ["PATH=/bin"]}, ["made:1"])
    path = world.path("image.tar")
    (mkimg.oci_archive if kind == "oci" else mkimg.docker_archive)(path, image)
    bare.ok("load", path)
    assert "made" in bare.ok("images")
    assert bare.ok("run", "--rm", "made:1") == "it runs"


def test_run_takes_a_file_and_loads_it_only_once(bare, world):
    path = world.path("image.tar")
    mkimg.oci_archive(path, Image([base_layer("gzip")], {"Cmd": ["echo", "from a file"], "Env": ["PATH=/bin"]}, "made"))
    assert bare.ok("run", "--rm", path) == "from a file"
    before = sorted((top, tuple(sorted(files))) for top, _, files in os.walk(world.store + "/layers"))
    assert bare.ok("run", "--rm", path) == "from a file"
    assert bare.ok("run", "--rm", path, "echo", "other words") == "other words"
    assert before == sorted((top, tuple(sorted(files))) for top, _, files in os.walk(world.store + "/layers"))
    assert len(bare.ok("images", "-q").split()) == 1


def test_load_takes_several_files(bare, world):
    paths = []
    for name in ("one", "two"):
        paths.append(mkimg.oci_archive(world.path(name + ".tar"), busybox_image(name, run={"Cmd": ["echo", name]})))
    bare.ok("load", *paths)
    for name in ("one", "two"):
        assert bare.ok("run", "--rm", name) == name


def test_load_from_standard_input(bare, world):
    path = mkimg.oci_archive(world.path("one.tar"), busybox_image("one"))
    for args in (["load"], ["load", "-"]):
        with open(path, "rb") as archive:
            result = bare(*args, stdin=archive)
        if result.status == 0:
            break
    assert result.status == 0, result
    assert "one" in bare.ok("images")


def test_load_from_a_socket(bare, world):
    """As a service that passes an archive on has it: it cannot be opened anew."""
    image = busybox_image("one")
    data = read(mkimg.oci_archive(world.path("image.tar"), image))
    for words in (["load", "-"], ["import", "-", "bare:1"], ["image", "verify", "--repair", "-"]):
        if words[0] == "image":
            os.truncate(world.path("store/images/sha256/%s/manifest" % mkimg.sha256(mkimg.dump(image.config))[7:]), 10)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            process = bare.start(*words, stdin=theirs)
            theirs.close()
            ours.sendall(data)
            ours.shutdown(socket.SHUT_WR)
            _, err = process.communicate(timeout=60 * SLOWER)
            assert process.returncode == 0, (words, err)
    assert bare.ok("run", "--rm", "one", "echo", "it runs") == "it runs"


def test_several_names_of_one_image(bare, world):
    bare.load(busybox_image(["a:1", "b:2"]))
    text = bare.ok("images")
    assert "a" in text and "b" in text
    assert bare.ok("run", "--rm", "a:1", "echo", "x") == bare.ok("run", "--rm", "b:2", "echo", "x") == "x"
    bare.ok("rmi", "a:1")
    bare.fails("run", "--rm", "a:1", "true", status=125, match="a:1")
    assert bare.ok("run", "--rm", "b:2", "echo", "x") == "x"


def test_docker_archive_with_several_images_and_tags(bare, world):
    one = busybox_image(["one:1", "one:latest"], run={"Cmd": ["echo", "1"]})
    two = busybox_image(["two:2"], run={"Cmd": ["echo", "2"]})
    bare.ok("load", mkimg.docker_archive(world.path("x.tar"), one, two))
    assert [bare.ok("run", "--rm", name) for name in ("one:1", "one", "two:2")] == ["1", "1", "2"]


def test_the_hosts_platform_is_chosen(bare, world):
    images = [busybox_image(run={"Cmd": ["echo", arch]}, arch=arch) for arch in ("s390x", mkimg.HOST_ARCH, "riscv64")]
    layout = Layout().add_platforms(images, ["multi"])
    bare.ok("load", layout.write(world.path("multi.tar")))
    assert bare.ok("run", "--rm", "multi") == mkimg.HOST_ARCH


def test_another_platform_is_named_in_the_error(bare, world):
    path = mkimg.oci_archive(world.path("far.tar"), busybox_image("far", arch="s390x"))
    layout = Layout().add_platforms([busybox_image(arch="s390x")], ["far"])
    bare.fails("load", layout.write(world.path("multi.tar")), match="s390x|linux/" + mkimg.HOST_ARCH)
    bare.fails("run", "--rm", path, status=125, match="s390x|platform")


def test_platform_option_chooses_another_one(bare, world):
    images = [busybox_image(run={"Cmd": ["echo", arch]}, arch=arch) for arch in ("s390x", mkimg.HOST_ARCH)]
    path = Layout().add_platforms(images, ["multi"]).write(world.path("multi.tar"))
    # The programs are the host's whatever the label says.
    assert bare.ok("run", "--rm", "--platform", "linux/s390x", path) == "s390x"


def test_whiteouts_remove_what_is_below(bare, world):
    low = Tar().dir("etc").file("etc/gone", "x").file("etc/stays", "y").dir("d").file("d/a", "a").dir("d/sub").file(
        "d/sub/b", "b")
    high = Tar().file("etc/.wh.gone").dir("d").file("d/.wh..wh..opq").file("d/new", "new")
    load_layers(bare, world, low, high)
    result = bare("run", "--rm", "made", "sh", "-c", "cat /etc/stays; echo; ls /d; test -e /etc/gone || echo gone")
    assert result.out.split() == ["y", "new", "gone"], result


def test_a_whiteout_of_a_directory_and_its_rebirth(bare, world):
    low = Tar().dir("d").file("d/old", "old")
    middle = Tar().file(".wh.d")
    high = Tar().dir("d").file("d/new", "new")
    load_layers(bare, world, low, middle, high)
    assert bare.shell("ls /d", image="made") == "new"


def test_a_whiteout_after_its_siblings_in_one_layer(bare, world):
    """Order within a layer has no meaning: entries of the same layer survive an opaque mark."""
    low = Tar().dir("d").file("d/old", "old")
    high = Tar().dir("d").file("d/new", "new").file("d/.wh..wh..opq")
    load_layers(bare, world, low, high)
    assert bare.shell("ls /d", image="made") == "new"


def test_hard_links_and_symlinks_within_a_layer(bare, world):
    tar = (Tar().dir("d").file("d/file", "text").link("d/hard", "d/file").link("d/absolute", "/d/file")
           .symlink("d/soft", "file"))
    load_layers(bare, world, tar)
    out = bare.shell("cat /d/hard /d/absolute /d/soft; echo; stat -c %h /d/file", image="made")
    assert out.split() == ["texttexttext", "3"]


def test_parents_that_no_entry_names(bare, world):
    load_layers(bare, world, Tar().file("a/b/c/deep", "deep"))
    assert bare.shell("cat /a/b/c/deep; echo; stat -c '%a %u' /a/b", image="made").split() == ["deep", "755", "0"]


def test_an_implied_parent_keeps_the_mode_it_has_below(bare, world):
    low = Tar().dir("secret", 0o700, uid=1000, gid=1000, mtime=1000000)
    load_layers(bare, world, low, Tar().file("secret/file", "x"))
    assert bare.shell("stat -c '%a %u %g' /secret", image="made") == "700 1000 1000"


def test_an_implied_parent_over_a_link_hides_it(bare, world):
    """As for docker and podman, whose layers overlayfs puts one on the other: docs/decisions/erofs.md."""
    low = Tar().dir("real").file("real/old", "x").symlink("alias", "real")
    load_layers(bare, world, low, Tar().file("alias/new", "y"))
    assert bare.shell("ls /real /alias; test -L /alias || echo no link", image="made").split() == [
        "/alias:", "new", "/real:", "old", "no", "link"]


def test_absolute_symlink_as_parent(bare, world):
    """/var/run -> /run with files below it is what real images have."""
    low = Tar().dir("real", 0o755).symlink("alias", "/real")
    load_layers(bare, world, low, Tar().file("real/x", "1"), Tar().dir("srv").symlink("srv/l", "/real").file("srv/f", "2"))
    assert bare.shell("cat /alias/x /srv/l/x /srv/f", image="made") == "112"


def test_modes_owners_times_and_xattrs(bare, world):
    tar = (Tar().file("owned", "x", 0o4751, uid=1000, gid=8, mtime=1234567890)
           .add("capable", read(mkimg.BUSYBOX), mode=0o755,
                pax={"SCHILY.xattr.security.capability":
                     b"\x01\x00\x00\x02\x00\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
                     "SCHILY.xattr.user.note": "kept"}))
    load_layers(bare, world, tar)
    assert bare.shell("stat -c '%a %u %g %Y' /owned", image="made") == "4751 1000 8 1234567890"


def test_long_names_and_names_in_other_scripts(bare, world):
    long_name = "/".join(["directory-with-a-long-name-%02d" % i for i in range(8)]) + "/file"
    load_layers(bare, world, Tar().file(long_name, "long").file("umlaut-äöü", "u").file("x" * 250, "x"))
    assert bare.shell("cat /%s; cat /umlaut-*; cat /%s" % (long_name, "x" * 250), image="made") == "longux"


def test_an_empty_layer_and_an_image_without_layers(bare, world):
    load_layers(bare, world, Tar())
    assert bare.shell("echo fine", image="made") == "fine"
    bare.load(Image([], {"Cmd": ["/none"]}, "nothing"))
    bare.fails("run", "--rm", "nothing", status=127)


def test_layers_are_shared_between_images(bare, world):
    bare.load(busybox_image("one"))
    before = sum(len(files) for _, _, files in os.walk(world.store + "/layers"))
    bare.load(busybox_image("two", extra=lambda tar: tar.file("only-two", "2")))
    assert bare.shell("cat /only-two", image="two") == "2"
    bare.ok("rmi", "one")
    assert bare.shell("cat /only-two", image="two") == "2"
    assert before > 0


def test_images_lists_name_tag_id_and_size(bare, world):
    bare.load(busybox_image(["localhost/team/app:1.0"]))
    text = bare.ok("images")
    assert "localhost/team/app" in text and "1.0" in text
    document = bare.ok("images", "--format", "json")
    row = json.loads(document)[0] if document.startswith("[") else json.loads(document.splitlines()[0])
    assert list(row)[0].lower() == "name"
    assert "localhost/team/app" in row[list(row)[0]]
    assert len(bare.ok("images", "-q").split()) == 1


def test_tag_gives_a_second_name_and_moves_names(bare, world):
    bare.load(busybox_image("one", run={"Cmd": ["echo", "one"]}))
    bare.load(busybox_image("two", run={"Cmd": ["echo", "two"]}))
    bare.ok("tag", "one", "mine:5")
    assert bare.ok("run", "--rm", "mine:5") == "one"
    bare.ok("tag", "two", "mine:5")
    assert bare.ok("run", "--rm", "mine:5") == "two"
    bare.fails("tag", "none", "other", match="none")
    bare.fails("tag", "one", "UPPER CASE")


def test_an_image_can_be_named_by_id_and_prefix(bare, world):
    bare.load(busybox_image("one"))
    name = bare.ok("images", "-q").split()[0]
    assert bare.ok("run", "--rm", name, "echo", "x") == "x"
    assert bare.ok("run", "--rm", name.replace("sha256:", "")[:8], "echo", "x") == "x"


def test_rmi_removes_layers_that_nobody_needs(bare, world):
    bare.load(busybox_image("one", extra=lambda tar: tar.file("x", "x" * 100000)))
    bare.ok("rmi", "one")
    assert bare.ok("images", "-q") == ""
    left = [os.path.join(top, name) for top, _, files in os.walk(world.store) for name in files
            if os.path.getsize(os.path.join(top, name)) > 50000]
    assert left == []


def test_rmi_keeps_an_image_that_a_container_uses(sk, world):
    name = sk.running()
    sk.fails("rmi", "busybox", match="use|container")
    assert sk.ok("exec", name, "echo", "still") == "still"
    sk.ok("rm", "-f", name)
    sk.ok("rmi", "busybox")


def test_rmi_of_an_unknown_image(bare):
    bare.fails("rmi", "nothing", status=1, match="nothing")


def test_inspect_of_an_image_tells_its_configuration(bare, world):
    bare.load(busybox_image("one", run={"Cmd": ["echo", "hi"], "Env": ["A=1", "PATH=/bin"], "User": "user",
                                        "Labels": {"team": "blue"}, "WorkingDir": "/home/user"}))
    text = bare.ok("inspect", "one")
    assert all(word in text for word in ("blue", "A=1", "/home/user", "sha256:"))
    json.loads(bare.ok("inspect", "--format", "json", "one"))


def test_an_archive_that_is_no_image(bare, world):
    bare.fails("load", world.write("x.tar", Tar().file("hello", "x").bytes()), match="x.tar")
    bare.fails("load", world.write("y.tar", b"this is text\n" * 100), match="y.tar: not a tar archive: it does not begin with a header of one")
    for pack in (lzma, bz2):
        packed = world.write("p.tar", pack.compress(Tar().file("hello", "x").bytes()))
        bare.fails("load", packed, match="p.tar: not a tar archive, but something packed with (xz|bzip2); skink unpacks gzip and zstd")
    bare.fails("load", world.write("z.tar", b""), match="z.tar")
    bare.fails("load", world.path("missing.tar"), match=["missing.tar", "no such file"])
    bare.fails("load", world.base, match="directory|regular|skink-test")
    bare.fails("run", "--rm", world.path("missing.tar"), status=125, match="missing.tar")
    assert bare.ok("images", "-q") == ""


def test_a_truncated_archive_names_where(bare, world):
    path = mkimg.oci_archive(world.path("whole.tar"), busybox_image("one"))
    data = read(path)
    for part in (700, len(data) // 3, len(data) // 2, len(data) - 20000):
        cut = world.write("cut.tar", data[:part])
        bare.fails("load", cut, match="cut.tar|truncated|blob|offset|end")
        assert bare.ok("images", "-q") == ""


def test_image_sources_of_env_user_workdir_labels_are_honoured(bare, world):
    bare.load(busybox_image("one", run={"Env": ["PATH=/bin", "GREETING=hello"], "User": "user", "WorkingDir": "/home/user",
                                        "Entrypoint": ["sh", "-c"], "Cmd": ["id -u; pwd; echo $GREETING $HOME"]}))
    assert bare.ok("run", "--rm", "one").split() == ["1000", "/home/user", "hello", "/home/user"]


def test_a_working_directory_that_the_image_lacks_is_made(bare, world):
    bare.load(busybox_image("one", run={"WorkingDir": "/srv/not/there", "Cmd": ["pwd"]}))
    assert bare.ok("run", "--rm", "one") == "/srv/not/there"


# Archives that other tools made.

def layout_dir(world):
    archive = mkimg.oci_archive(world.path("base.tar"), Image([base_layer("gzip")], {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
                                                               "base"))
    os.makedirs(world.path("layout"))
    subprocess.run(["tar", "-xf", archive, "-C", world.path("layout")], check=True)
    return world.path("layout")


def test_an_image_that_umoci_made(bare, world):
    needs("umoci")
    layout = layout_dir(world)
    subprocess.run(["umoci", "unpack", "--image", layout + ":base", world.path("u")], check=True, capture_output=True)
    with open(world.path("u/rootfs/etc/made-by"), "w") as file:
        file.write("umoci\n")
    os.unlink(world.path("u/rootfs/etc/group"))
    subprocess.run(["umoci", "repack", "--image", layout + ":new", world.path("u")], check=True, capture_output=True)
    subprocess.run(["umoci", "config", "--image", layout + ":new", "--config.cmd", "cat", "--config.cmd", "/etc/made-by",
                    "--config.user", "user"], check=True, capture_output=True)
    subprocess.run(["tar", "-cf", world.path("umoci.tar"), "-C", layout, "."], check=True)
    bare.ok("load", world.path("umoci.tar"))
    assert bare.ok("run", "--rm", "new") == "umoci"
    assert bare("run", "--rm", "new", "test", "-e", "/etc/group").status == 1


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_an_image_that_skopeo_copied(bare, world, kind):
    needs("skopeo")
    target = "%s:%s:%s" % (kind, world.path("skopeo.tar"), "copied:7" if kind == "oci-archive" else "localhost/copied:7")
    subprocess.run(["skopeo", "--insecure-policy", "--tmpdir", world.base, "copy", "oci:%s:base" % layout_dir(world), target],
                   check=True, capture_output=True)
    assert bare.ok("run", "--rm", world.path("skopeo.tar"), "echo", "copied") == "copied"


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_an_image_that_buildah_made(bare, world, kind):
    needs("buildah")
    buildah = ["buildah", "--root", world.path("b"), "--runroot", world.path("br"), "--storage-driver", "vfs"]
    env = dict(os.environ, TMPDIR=world.base, BUILDAH_ISOLATION="chroot")

    def step(*args):
        done = subprocess.run(buildah + list(args), env=env, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    container = step("from", "scratch")
    tree = world.path("tree")
    os.makedirs(tree + "/bin")
    subprocess.run(["cp", mkimg.BUSYBOX, tree + "/bin/busybox"], check=True)
    os.symlink("busybox", tree + "/bin/sh")
    step("add", container, tree, "/")
    step("config", "--cmd", "/bin/sh -c 'echo by buildah'", "--env", "PATH=/bin", "--workingdir", "/work", container)
    step("commit", "--rm", container, "%s:%s:%s" % (kind, world.path("buildah.tar"), "localhost/made:3"))
    assert bare.ok("run", "--rm", world.path("buildah.tar")) == "by buildah"

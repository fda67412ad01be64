# SPDX-License-Identifier: Apache-2.0
"""Images on their way between skink and other engines: what one saves the other loads, with the same layers and files."""

import json
import os

import mkimg
from mktar import Tar
from skinktest import SKINK, Image, Layer, Skink

NAME = "localhost/round:1"
# Every file below /x, with type, mode and contents.
LIST = ("sh", "-c", "cd /x && find . -exec stat -c '%n %F %a' {} + | sort; find . -type f -exec grep -H . {} + | sort")


def image():
    """Four layers: programs, files, a whiteout, an opaque directory."""
    low = (Tar().dir("x").dir("x/old", 0o750).file("x/old/a", "low a").file("x/old/b", "low b").dir("x/gone")
           .file("x/gone/c", "low c").file("x/kept", "low", 0o640).symlink("x/link", "kept"))
    # With an entry for each directory: docker and podman forget the mode of those without.
    fewer = Tar().dir("x/old", 0o750).file("x/old/.wh.a")
    opaque = Tar().dir("x/gone").file("x/gone/.wh..wh..opq").file("x/gone/new", "high")
    return Image([Layer(mkimg.busybox_tar()), low, fewer, opaque], {"Env": ["PATH=/bin"], "Cmd": ["sh"]}, NAME)


class Other(Skink):
    """skink with a store of its own beside the world's."""

    def __init__(self, world, name):
        super().__init__(world, SKINK, ["--root", world.path(name), "--run", world.path(name + "-run")])


def send(world):
    """An archive that skink saved of what it loaded; the diffIDs of its layers."""
    made = image()
    skink = Other(world, "sender-" + world.name())
    skink.load(made)
    path = world.path("sent-%d.tar" % world.counter)
    skink.ok("save", "-o", path, NAME)
    return path, [layer.diff_id for layer in made.layers], skink.shell(LIST[2], image=NAME)


def receive(world, archive, diff_ids=None):
    """What skink makes of an archive that another engine wrote: the list of its files."""
    skink = Other(world, "receiver-" + world.name())
    name = json.loads(skink.ok("load", "--format", "json", archive))["images"][0]["name"]
    if diff_ids is not None:
        assert skink.inspect(name)["layers"] == diff_ids
    files = skink.shell(LIST[2], image=name)
    skink.ok("rmi", "-f", name)
    os.unlink(archive)
    return files

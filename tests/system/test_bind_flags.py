# SPDX-License-Identifier: Apache-2.0
"""skink-oci: which flags a bind mount has: those of its source without a word, else those of its words; in a user namespace
nothing is taken off that the source has."""

import os
import subprocess

import pytest

NONE = set()
IDS = [{"containerID": 0, "hostID": 100000, "size": 65536}]
FLAGS = {"ro", "nosuid", "nodev", "noexec", "nosymfollow", "noatime", "relatime", "nodiratime"}


@pytest.fixture
def source(world):
    """A mount of the host whose flags can be set: source(words)."""
    place = world.path("source")
    os.makedirs(place)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "skink-test-keep", place], check=True)

    def with_flags(words):
        subprocess.run(["mount", "-o", "remount,bind,diratime,strictatime", place], check=True)
        if words:
            subprocess.run(["mount", "-o", "remount,bind," + words, place], check=True)
        return place
    yield with_flags
    subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def container(oci, bundle, world):
    """run(source, words, userns): the flags that a container's bind has; or the error, when `match` is given."""
    os.chmod(world.base, 0o755)

    def run(place, words, userns=False, match=None):
        b = bundle(["grep", " /m ", "/proc/self/mounts"])
        b.config["root"]["readonly"] = False
        b.config["mounts"].append({"destination": "/m", "type": "bind", "source": place, "options": words.split(",")})
        if userns:
            subprocess.run(["chown", "-R", "100000:100000", b.rootfs], check=True)
            b.config["linux"]["namespaces"].append({"type": "user"})
            b.config["linux"]["uidMappings"] = b.config["linux"]["gidMappings"] = IDS
        b.save()
        if match:
            return oci.fails("run", "--bundle", b.dir, world.name(), match=match)
        return set(oci.ok("run", "--bundle", b.dir, world.name()).split()[3].split(",")) & FLAGS
    return run


@pytest.mark.parametrize("userns", [False, True])
def test_without_a_word_all_of_the_source_is_kept(container, source, userns):
    place = source("ro,noexec,nosymfollow,nodiratime,noatime")
    for words in ("bind", "rbind,rprivate"):
        assert container(place, words, userns) == {"ro", "noexec", "nosymfollow", "nodiratime", "noatime"}


@pytest.mark.parametrize("have, words, want", [
    ("ro,noexec,nosymfollow,nodiratime", "bind,dev", {"nodiratime", "relatime"}),
    ("ro", "bind,nosuid,nodev,rprivate", {"nosuid", "nodev"}),
    ("ro", "bind,rw,nosuid,nodev", {"nosuid", "nodev"}),
    ("nosuid,nodev,noexec,noatime", "bind,dev,suid,exec,atime", {"noatime"}),
    ("nosuid,nodev,noexec,noatime", "rbind,ro", {"ro", "noatime"}),
    ("nodev,nosymfollow", "bind,ro,symfollow", {"ro"}),
    ("nodev,nosuid,noatime", "bind,ro,exec", {"ro", "noatime"})])
def test_with_words_the_flags_are_those_of_the_words(container, source, have, words, want):
    assert container(source(have), words) - {"relatime"} == want - {"relatime"}


def test_src_flags_keeps_what_no_word_names(container, source):
    assert container(source("nosuid,noexec,nosymfollow,noatime"), "bind,src-flags,ro,exec") == {"ro", "nosuid", "nosymfollow", "noatime"}


@pytest.mark.parametrize("have, words, want", [
    ("noatime", "bind,norelatime", {"noatime"}), ("noatime", "bind,atime", {"noatime"}), ("noatime", "bind,relatime", {"relatime"}),
    ("noatime", "bind,nodiratime", {"nodiratime", "relatime"}), ("nodiratime", "bind,strictatime", NONE), ("nodiratime", "bind,diratime", {"nodiratime", "relatime"}),
    ("noatime", "bind,nodiratime,strictatime", {"nodiratime"}), ("noatime", "bind,nodiratime,norelatime", {"nodiratime", "relatime"}),
    ("", "bind,relatime,norelatime", NONE), ("noatime", "bind,strictatime,atime", NONE), ("", "bind,noatime,atime", NONE)])
def test_access_times_change_only_when_others_are_named(container, source, have, words, want):
    assert container(source(have), words) == want


@pytest.mark.parametrize("have, words, want", [
    ("ro,noexec,nosymfollow,nodiratime", "bind,dev", {"ro", "noexec", "nodiratime", "relatime"}),
    ("ro,relatime", "bind,nosuid,nodev,rprivate", {"ro", "nosuid", "nodev", "relatime"}),
    ("nodev,nosuid,noexec,noatime", "bind,ro", {"ro", "nodev", "nosuid", "noexec", "noatime"}),
    ("nodev,nosymfollow", "bind,ro,symfollow", {"ro", "nodev"}), ("nodev,nosymfollow", "bind,rw", {"nodev"}),
    ("nodev,nosuid,noatime", "bind,ro,exec", {"ro", "nodev", "nosuid", "noatime"}),
    ("noatime,nodiratime", "bind,noatime,nodiratime", {"noatime", "nodiratime"}),
    ("noatime,nodiratime", "bind,norelatime", {"noatime", "nodiratime"}), ("strictatime", "bind,nostrictatime", NONE), ("relatime", "bind,atime", {"relatime"})])
def test_in_a_user_namespace_what_the_source_has_is_kept(container, source, have, words, want):
    assert container(source(have), words, userns=True) == want


@pytest.mark.parametrize("have, words", [
    ("ro", "bind,rw,nosuid"), ("nodev", "bind,dev"), ("nosuid", "bind,suid"), ("noexec", "bind,exec"),
    ("nodiratime", "bind,strictatime"), ("relatime", "bind,strictatime"), ("noatime", "bind,strictatime"), ("nodiratime", "bind,noatime"),
    ("relatime", "bind,nodiratime"), ("strictatime", "bind,relatime"), ("strictatime", "bind,noatime"), ("noatime", "bind,relatime")])
def test_in_a_user_namespace_what_would_take_it_off_is_an_error(container, source, world, have, words):
    container(source(have), words, userns=True, match=[r"mounts\[6\]", "user namespace", "not permitted"])
    assert world.leaks(3) == []


def test_a_read_only_file_system_is_no_read_only_mount(container, world):
    """Engines write "rw" into every volume that is not to be read-only."""
    place = world.path("whole")
    os.makedirs(place)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,mode=755", "skink-test-keep", place], check=True)
    subprocess.run(["mount", "-o", "remount,bind,rw", place], check=True)
    try:
        assert "ro" in container(place, "bind,rw,rprivate", userns=True)
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_flags_of_what_is_mounted_below_stay(container, oci, bundle, world, source):
    place = source("")
    os.makedirs(place + "/sub")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid,noexec", "skink-test-keep", place + "/sub"], check=True)
    try:
        b = bundle(["grep", " /m/sub ", "/proc/self/mounts"])
        b.config["root"]["readonly"] = False
        b.config["mounts"].append({"destination": "/m", "type": "bind", "source": place, "options": ["rbind", "ro"]})
        b.save()
        assert {"nosuid", "noexec", "rw"} <= set(oci.ok("run", "--bundle", b.dir, world.name()).split()[3].split(","))
    finally:
        subprocess.run(["umount", "-l", place + "/sub"], check=True)

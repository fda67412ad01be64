# SPDX-License-Identifier: Apache-2.0
"""A23, A36, F27, F28 and F29 through skink-oci: a state directory and control groups that somebody has had a hand in."""

import json
import os
import subprocess

import pytest
from skinktest import Bundle, alive, cgroup_dir, kill_quietly, older_stranger, read_text, starttime, wait_for

SLEEP = ["sleep", "1000"]
USER = 1000


def running(oci, world, bundle=None):
    name = world.name()
    oci.ok("create", "--bundle", (bundle or Bundle(world, SLEEP)).dir, name)
    oci.ok("start", name)
    return name


def pid_of(oci, name):
    return json.loads(oci.ok("state", name))["pid"]


def status_of(oci, name):
    return json.loads(oci.ok("state", name))["status"]


class Record:
    """A container's state.json, to be forged."""

    def __init__(self, world, name):
        self.path = os.path.join(world.oci_root, name, "state.json")
        self.good = read_text(self.path)

    def write(self, **members):
        with open(self.path, "w") as file:
            json.dump(json.loads(self.good) | members, file)

    def restore(self):
        with open(self.path, "w") as file:
            file.write(self.good)


# A23: a number that is somebody else's

@pytest.fixture
def stranger():
    process = older_stranger()
    yield process
    assert process.poll() is None, "a stranger was killed"
    process.kill()
    process.wait()


SIGNALS = (["kill", "NAME", "9"], ["kill", "NAME", "15"])


@pytest.mark.parametrize("groups", [True, False])
@pytest.mark.parametrize("forged", ["pid", "pid of this boot", "start time", "boot", "negative", "huge"])
def test_a23_an_identity_that_was_forged(oci, world, canary, stranger, forged, groups):
    """Number, start time and boot are one: where one is another's, there is nobody to signal."""
    more = [] if groups else ["--cgroup-manager", "disabled"]
    name = world.name()
    oci.ok(*more, "create", "--bundle", Bundle(world, SLEEP).dir, name)
    oci.ok(*more, "start", name)
    pid = pid_of(oci, name)
    record = Record(world, name)
    record.write(**{"pid": {"pid": stranger.pid}, "pid of this boot": {"pid": stranger.pid, "startTime": 1}, "start time": {"startTime": 12},
                    "boot": {"bootId": "00000000-0000-0000-0000-000000000000", "pid": stranger.pid, "startTime": int(starttime(stranger.pid))},
                    "negative": {"pid": -1}, "huge": {"pid": 1 << 40}}[forged])
    for command in SIGNALS:
        oci.fails(*more, *[name if word == "NAME" else word for word in command], status=1, timeout=20)
    assert status_of(oci, name) == "stopped" and pid_of(oci, name) == 0
    oci.fails("start", name, status=1)
    assert alive(pid) and stranger.poll() is None
    if not groups:
        record.restore()
    oci.ok(*more, "delete", "--force", name)
    assert not alive(pid) and world.leaks(3) == []


def test_a23_a_number_that_was_given_anew(oci, world):
    name = running(oci, world)
    pid = pid_of(oci, name)
    kill_quietly(pid)
    wait_for(lambda: not os.path.exists("/proc/%d" % pid))
    stranger = None
    for _ in range(50):
        try:
            with open("/proc/sys/kernel/ns_last_pid", "w") as last:
                last.write(str(pid - 1))
        except OSError:
            pytest.skip("ns_last_pid cannot be written")
        process = subprocess.Popen(SLEEP, stdin=subprocess.DEVNULL, env={"PATH": "/bin:/usr/bin"})
        if process.pid == pid:
            stranger = process
            break
        process.kill()
        process.wait()
    if stranger is None:
        pytest.skip("the number was taken by somebody else")
    try:
        assert status_of(oci, name) == "stopped"
        for command in (["kill", name, "9"], ["kill", "--all", name, "9"], ["delete", name]):
            oci(*command)
        assert stranger.poll() is None, "a stranger was killed"
        assert world.leaks(3) == []
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("place", ["not a hierarchy", "climbing", "root of the hierarchy", "relative"])
def test_a23_groups_that_are_not_the_containers(oci, world, canary, stranger, place):
    """delete ends what is in the recorded groups: a record that names other places is not obeyed."""
    name = running(oci, world)
    record = Record(world, name)
    with open(canary.top + "/d/cgroup.procs", "w") as file:
        file.write("%d\n" % stranger.pid)
    canary.before = canary.snapshot()
    # The layout, then a line for each place: path, controllers, mount point.
    layout, *places = json.loads(record.good)["cgroup"].split("\n")
    changed = [layout]
    for one in places:
        path, controllers, mount = one.split("\t")
        changed.append("\t".join({"not a hierarchy": ("/d", controllers, canary.top), "climbing": (path + "/../..", controllers, mount),
                                  "root of the hierarchy": ("/", controllers, mount), "relative": (path, controllers, "x")}[place]))
    record.write(cgroup="\n".join(changed))
    for command in (["kill", "--all", name, "9"], ["state", name], ["delete", name]):
        oci(*command, timeout=30)
    assert os.path.exists(canary.top + "/d/cgroup.procs") and stranger.poll() is None
    if os.path.exists(record.path):
        record.restore()
        oci.ok("delete", "--force", name)
    world.leaks_expected = True  # what is not known any more cannot be removed


def shared(world, args=SLEEP, pids="own"):
    """A bundle in a place that others are given too."""
    b = Bundle(world, args)
    b.config["linux"]["cgroupsPath"] = "/shared-" + world.id
    if pids == "host":
        b.config["linux"]["namespaces"] = [one for one in b.config["linux"]["namespaces"] if one["type"] != "pid"]
    return b.save()


def end_init(oci, name):
    pid = pid_of(oci, name)
    kill_quietly(pid)
    wait_for(lambda: status_of(oci, name) == "stopped")
    return pid


@pytest.mark.parametrize("pids", ["own", "host"])
@pytest.mark.parametrize("known", ["record", "torn record", "the other's record is torn"])
def test_a23_groups_that_another_container_has_now(oci, world, known, pids):
    """Two containers are given one place: the second may take it when the first is dead, and then it is the second's."""
    first = running(oci, world, shared(world, pids=pids))
    end_init(oci, first)
    second = running(oci, world, shared(world, pids=pids))
    pid, record = pid_of(oci, second), Record(world, second)
    if known == "torn record":
        with open(Record(world, first).path, "w") as file:
            file.write("{")
    elif known == "the other's record is torn":
        with open(record.path, "w") as file:
            file.write("{")
    for command in (["kill", "--all", first, "9"], ["kill", first, "9"], ["delete", first]):
        oci(*command, timeout=20)
    oci.ok("delete", "--force", first)
    record.restore()
    assert alive(pid) and status_of(oci, second) == "running"
    group = cgroup_dir(pid, "pids")[0]
    assert group.endswith("/shared-" + world.id) and os.path.isdir(group)
    oci.ok("delete", "--force", second)
    assert not alive(pid) and world.leaks(3) == []


@pytest.mark.parametrize("verb", [["kill", "--all", "NAME", "9"], ["delete", "NAME"], ["delete", "--force", "NAME"]], ids="-".join)
def test_a23_what_the_younger_one_left(oci, world, verb):
    """Both are dead: what is left can only be the second's, and goes with it."""
    first = running(oci, world, shared(world))
    end_init(oci, first)
    second = running(oci, world, shared(world, ["sh", "-c", "sleep 999 & exec sleep 1000"], "host"))
    group = cgroup_dir(pid_of(oci, second), "pids")[0]
    wait_for(lambda: len(read_text(group + "/cgroup.procs").split()) == 2)
    end_init(oci, second)
    left = int(wait_for(lambda: read_text(group + "/cgroup.procs").split())[0])
    oci.ok(*[second if word == "NAME" else word for word in verb])
    wait_for(lambda: not alive(left))
    for name in (second, first):
        oci.ok("delete", "--force", name)
    assert world.leaks(3) == []


def test_a23_one_id_in_two_places(oci, world):
    """--root tells them apart; the group by the id is one, and who has it now keeps it."""
    name = running(oci, world)
    end_init(oci, name)
    mine, other = world.oci_root, world.path("other")
    oci.ok("--root", other, "create", "--bundle", Bundle(world, SLEEP).dir, name)
    oci.ok("--root", other, "start", name)
    pid = json.loads(oci.ok("--root", other, "state", name))["pid"]
    oci("--root", mine, "kill", "--all", name, "9")
    oci.ok("--root", mine, "delete", "--force", name)
    assert alive(pid) and json.loads(oci.ok("--root", other, "state", name))["status"] == "running"
    oci.ok("--root", other, "delete", "--force", name)
    assert not alive(pid) and world.leaks(3) == []


def test_a23_another_containers_sleep(oci, world):
    first = running(oci, world, shared(world))
    end_init(oci, first)
    second = running(oci, world, shared(world))
    oci.ok("pause", second)
    oci.ok("delete", "--force", first)
    assert status_of(oci, second) == "paused"
    oci.ok("delete", "--force", second)
    assert world.leaks(3) == []


def test_a_group_of_the_administrators_stays_what_it_is(oci, world):
    """Also where its name looks like one of ours."""
    group = "/sys/fs/cgroup/pids/skink-" + world.id
    if not os.path.isdir("/sys/fs/cgroup/pids"):
        pytest.skip("cgroup v1 only")
    os.mkdir(group)
    with open(group + "/pids.max", "w") as file:
        file.write("77")
    b = Bundle(world, SLEEP)
    b.config["linux"]["cgroupsPath"] = "/skink-" + world.id
    name = running(oci, world, b.save())
    assert read_text(group + "/pids.max") == "77\n"
    oci.ok("delete", "--force", name)
    assert world.leaks(3) == []


# A36: a state directory that others can write

def change_owner(path):
    os.chown(path, USER, USER)


def open_to_all(path):
    os.chmod(path, 0o777)


def open_to_group(path):
    os.chmod(path, 0o770)


@pytest.mark.parametrize("change", [change_owner, open_to_all, open_to_group])
@pytest.mark.parametrize("what", ["root", "container", "record", "parent", "grandparent"])
def test_a36_state_that_somebody_else_can_write(oci, world, canary, what, change):
    os.chmod(world.base, 0o755)
    oci.options[:] = ["--root", world.path("p/q/state")]
    world.oci_root = world.path("p/q/state")
    name = running(oci, world)
    pid = pid_of(oci, name)
    path = {"root": world.oci_root, "container": os.path.join(world.oci_root, name), "parent": world.path("p/q"), "grandparent": world.path("p"),
            "record": os.path.join(world.oci_root, name, "state.json")}[what]
    before = os.stat(path)
    change(path)
    other = Bundle(world)
    try:
        for command in (["state", name], ["kill", name, "9"], ["kill", "--all", name, "9"], ["start", name], ["delete", name], ["delete", "--force", name]):
            oci.fails(*command, status=1, match="chown|chmod")
        if what not in ("container", "record"):
            oci.fails("create", "--bundle", other.dir, world.name(), status=1, match="chown|chmod")
        assert alive(pid) and os.path.exists(os.path.join(world.oci_root, name, "state.json"))
    finally:
        os.chown(path, before.st_uid, before.st_gid)
        os.chmod(path, before.st_mode)
    oci.ok("delete", "--force", name)
    assert world.leaks(3) == []


def test_a36_a_state_directory_behind_a_strangers_link(oci, world, canary):
    """Whose link it is, he decides what root works on."""
    name = running(oci, world)
    options = list(oci.options)
    os.chmod(world.base, 0o755)
    link = world.path("link")
    os.symlink(world.oci_root, link)
    oci.options[:] = ["--root", link]
    assert status_of(oci, name) == "running"  # our own: /var/run is one
    os.lchown(link, USER, USER)
    for command in (["state", name], ["kill", name, "9"], ["delete", "--force", name]):
        oci.fails(*command, status=1, match="link")
    oci.options[:] = options
    assert status_of(oci, name) == "running"


def test_a36_directories_that_everybody_can_write_but_not_empty(oci, world):
    """/tmp: others cannot rename what is ours there."""
    os.mkdir(world.path("tmp"))
    os.chmod(world.path("tmp"), 0o1777)
    oci.options[:] = ["--root", world.path("tmp/state")]
    assert oci.ok("run", "--bundle", Bundle(world, ["echo", "ran"]).dir, world.name()) == "ran"


# F27: pieces that are missing or something else

def spoil(path, kind, canary, text):
    if os.path.isdir(path) and not os.path.islink(path):
        os.rmdir(path)
    elif os.path.lexists(path):
        os.unlink(path)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "symlink":
        os.symlink(canary.top + "/secret", path)
    elif kind == "directory":
        os.makedirs(path + "/x")
    elif kind == "socket":
        os.mknod(path, 0o600 | 0o140000)
    elif kind == "device":
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))
    elif kind != "missing":
        content = {"empty": b"", "cut": text[:len(text) // 2], "text": b"no JSON", "deep": b"[" * 100000, "nul": text[:40] + b"\0" + text[40:],
                   "other": text.replace(b'"id":"', b'"id":"x'), "list": b"[]", "types": b'{"id":5}'}[kind]
        with open(path, "wb") as file:
            file.write(content)


KINDS = ["missing", "fifo", "symlink", "directory", "socket", "device", "empty", "cut", "text", "deep", "nul", "other", "list", "types"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("piece", ["state.json", "config.json"])
def test_f26_f27_pieces_of_the_state_that_are_something_else(oci, world, canary, piece, kind):
    other, name = running(oci, world), running(oci, world)
    pid = pid_of(oci, name)
    path = os.path.join(world.oci_root, name, piece)
    with open(path, "rb") as file:
        text = file.read()
    spoil(path, kind, canary, text)
    for command in (["state", name], ["kill", name, "0"], ["start", name]):
        result = oci(*command, timeout=20)
        assert result.status in (0, 1) and result.err.count("\n") == (1 if result.status else 0), result
    assert status_of(oci, other) == "running"
    assert {one["id"]: one["status"] for one in json.loads(oci("list", "--format", "json", timeout=20).out)}[other] == "running"
    oci.ok("delete", "--force", name, timeout=30)
    assert not alive(pid) and not os.path.lexists(os.path.dirname(path))
    oci.ok("delete", "--force", other)
    assert world.leaks(3) == []


@pytest.mark.parametrize("kind", ["file", "symlink", "fifo", "empty directory", "extra files"])
def test_f27_entries_of_the_root_that_are_no_containers(oci, world, canary, kind):
    other, name = running(oci, world), world.name()
    path = os.path.join(world.oci_root, name)
    {"file": lambda: open(path, "w").close(), "symlink": lambda: os.symlink(canary.top, path), "fifo": lambda: os.mkfifo(path),
     "empty directory": lambda: os.mkdir(path, 0o700), "extra files": lambda: os.makedirs(path + "/a/b", 0o700)}[kind]()
    for command in (["state", name], ["start", name], ["kill", name, "9"], ["delete", "--force", name]):
        result = oci(*command, timeout=20)
        assert result.status in (0, 1) and result.err.count("\n") == result.status, result
    oci("list", timeout=20)
    assert status_of(oci, other) == "running"
    if "director" not in kind and kind != "extra files":
        os.unlink(path)
    assert not os.path.lexists(path)


# F28: the root of all states goes

@pytest.mark.parametrize("how", ["removed", "replaced", "mounted over"])
def test_f28_the_state_root_goes_under_a_running_container(oci, world, canary, how):
    """What is not known any more is said not to exist, and nothing is written where it was."""
    name = running(oci, world)
    pid = pid_of(oci, name)
    away = world.path("away")
    if how == "mounted over":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=700", "skink-test-keep", world.oci_root], check=True)
    else:
        os.rename(world.oci_root, away)
        if how == "replaced":
            os.mkdir(world.oci_root, 0o700)
    try:
        for command in (["state", name], ["kill", name, "9"], ["delete", name]):
            oci.fails(*command, status=1, match="does not exist")
        oci.ok("delete", "--force", name)
        assert alive(pid)
        assert not os.path.exists(world.oci_root) or os.listdir(world.oci_root) == []
    finally:
        if how == "mounted over":
            subprocess.run(["umount", world.oci_root], check=True)
        else:
            if os.path.exists(world.oci_root):
                os.rmdir(world.oci_root)
            os.rename(away, world.oci_root)
    assert status_of(oci, name) == "running"
    oci.ok("delete", "--force", name)
    assert not alive(pid) and world.leaks(3) == []


# F29: control groups that somebody moved

def groups_of(pid):
    return sorted({cgroup_dir(pid, one)[0] for one in ("memory", "pids", "cpu", "freezer", "devices", "cpuset") if has_group(pid, one)})


def has_group(pid, controller):
    try:
        cgroup_dir(pid, controller)
        return True
    except pytest.skip.Exception:
        return False


@pytest.mark.parametrize("how", ["moved away", "moved and removed", "moved below", "more processes"])
@pytest.mark.parametrize("shared", [False, True], ids=["own-pids", "host-pids"])
def test_f29_groups_that_somebody_had_a_hand_in(oci, world, shared, how):
    """kill and delete end the container wherever its first process was put, and take nobody else along."""
    b = Bundle(world, SLEEP)
    b.config["linux"]["cgroupsPath"] = "/skink-test-%s" % world.id
    if shared:
        b.config["linux"]["namespaces"] = [one for one in b.config["linux"]["namespaces"] if one["type"] != "pid"]
    b.save()
    name = running(oci, world, b)
    pid = pid_of(oci, name)
    groups = groups_of(pid)
    elsewhere = [os.path.join(os.path.dirname(one), "skink-test-%s-else" % world.id) for one in groups]
    if how.startswith("moved"):
        if how == "moved below":
            elsewhere = [os.path.join(one, "below") for one in groups]
        for one, other in zip(groups, elsewhere):
            os.mkdir(other)
            for setting in ("cpuset.cpus", "cpuset.mems"):
                if os.path.exists(os.path.join(one, setting)) and read_text(os.path.join(other, setting), "x").strip() == "":
                    with open(os.path.join(other, setting), "w") as file:
                        file.write(read_text(os.path.join(one, setting)))
            with open(os.path.join(other, "cgroup.procs"), "w") as file:
                file.write(str(pid))
        if how == "moved and removed":
            for one in groups:
                os.rmdir(one)
    extra = None
    if how == "more processes":
        extra = subprocess.Popen(SLEEP, stdin=subprocess.DEVNULL)
        for one in groups:
            with open(os.path.join(one, "cgroup.procs"), "w") as file:
                file.write(str(extra.pid))
    assert status_of(oci, name) == "running"
    oci.ok("kill", name, "0")
    oci.ok("delete", "--force", name, timeout=60)
    assert not alive(pid)
    if extra:
        assert extra.wait(10) == -9
    if how.startswith("moved") and how != "moved below":
        for one in elsewhere:
            wait_for(lambda: read_text(one + "/cgroup.procs") == "")
            os.rmdir(one)
    assert world.leaks(3) == []

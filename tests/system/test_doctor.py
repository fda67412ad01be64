# SPDX-License-Identifier: Apache-2.0
"""doctor: finds what crashes and others have left, repairs what is skink's, and touches nothing else."""

import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import time

import mkimg
import pytest
from skinktest import SKINK, alive, busybox_image, kill_quietly, listdir, read, read_text, wait_for


OTHER_BOOT = "00000000-1111-2222-3333-444444444444"


def doctor(sk, *options):
    """The problems found; notes tell of the host, which other tests use too."""
    result = sk("doctor", "--format", "json", *options)
    assert result.status in (0, 1), result
    problems = [one for one in json.loads(result.out) if one["level"] == "problem"]
    assert result.status == (1 if any(not one["fixed"] for one in problems) else 0), result
    return problems


def kinds(findings):
    return sorted(finding["kind"] for finding in findings)


def tree(*tops):
    """Everything below, to be compared."""
    rows = {}
    for top in tops:
        for directory, subdirs, files in os.walk(top):
            for name in [""] + subdirs + files:
                path = os.path.normpath(os.path.join(directory, name))
                info = os.lstat(path)
                rows[path] = (info.st_mode, info.st_ino, info.st_size if not os.path.isdir(path) else 0)
    return rows


def finds_and_fixes(sk, world, kind, fixed=True):
    """Found and left alone without --fix, gone with it, and then nothing is left."""
    before = tree(world.store, world.run_dir)
    found = doctor(sk)
    assert kinds(found) == [kind], found
    assert tree(world.store, world.run_dir) == before, "something was changed without --fix"
    assert found[0]["fixable"] is fixed and found[0]["fixed"] is False and found[0]["what"] and found[0]["advice"]
    again = doctor(sk, "--fix")
    assert kinds(again) == [kind] and again[0]["fixed"] is fixed, again
    assert kinds(doctor(sk)) == ([] if fixed else [kind])
    return found[0]


def container_dir(world, ident):
    return os.path.join(world.store, "containers", ident)


def run_dir(world, ident):
    return os.path.join(world.run_dir, "containers", ident)


def kill_together(*pids):
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            kill_quietly(pid, number)
    for pid in pids:
        wait_for(lambda: not alive(pid))


def stopped(sk, world, *options):
    name = world.name()
    sk.ok("create", "--name", name, *options, "busybox", "sleep", "1000")
    return name, sk.row(name)["id"]


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def test_in_health_nothing_is_wrong_whatever_runs(sk, world):
    running = sk.running("--writable")
    failing = sk.running("--restart", "always", command=["false"])
    stopped(sk, world)
    sk.ok("run", "--rm", "busybox", "true")
    sk.ok("pause", running)
    moves = sk.row(failing)["id"]
    before = {path for path in tree(world.store) if moves not in path}
    assert doctor(sk) == []
    assert doctor(sk, "--fix") == []
    assert {path for path in tree(world.store) if moves not in path} == before
    assert sk.state(running) == "paused"
    assert sk.ok("doctor").splitlines()[-1] == "nothing is wrong"


def test_an_empty_store_is_healthy(bare):
    assert doctor(bare) == []


def test_a_create_that_was_killed(sk, world):
    path = container_dir(world, ".new-" + secrets.token_hex(32))
    os.mkdir(path, 0o700)
    write(path + "/config.json", "{")
    assert finds_and_fixes(sk, world, "half-made-container")["where"] == path
    assert not os.path.exists(path)


def test_a_create_that_is_at_work_is_left_alone(sk, world):
    path = container_dir(world, ".new-" + secrets.token_hex(32))
    os.mkdir(path, 0o700)
    lock = os.open(path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert doctor(sk, "--fix") == []
    assert os.path.isdir(path)
    os.close(lock)
    os.rmdir(path)


def test_a_removal_that_was_killed(sk, world):
    name, ident = stopped(sk, world)
    gone = container_dir(world, ".gone-" + ident)
    os.rename(container_dir(world, ident), gone)
    os.unlink(os.path.join(world.store, "container-names", name))
    assert finds_and_fixes(sk, world, "half-removed-container")["where"] == gone
    assert not os.path.exists(gone)


def test_a_name_that_leads_nowhere(sk, world):
    name, ident = stopped(sk, world)
    shutil.rmtree(container_dir(world, ident))
    link = os.path.join(world.store, "container-names", name)
    assert finds_and_fixes(sk, world, "name")["where"] == link
    assert not os.path.lexists(link)


def test_a_container_that_lost_its_name(sk, world):
    name, ident = stopped(sk, world)
    link = os.path.join(world.store, "container-names", name)
    target = os.readlink(link)
    os.unlink(link)
    sk.fails("inspect", name)
    finds_and_fixes(sk, world, "name")
    assert os.readlink(link) == target and sk.inspect(name)["id"] == ident


def test_keepers_that_were_both_killed_are_for_heal(sk, world):
    name = sk.running("--restart", "no")
    row = sk.row(name)
    kill_together(row["guard_pid"], row["supervisor_pid"])
    found = finds_and_fixes(sk, world, "unsupervised", fixed=False)
    assert name in found["where"] and "skink heal" in found["advice"] and "runs on" in found["what"]
    assert alive(row["pid"])
    sk.ok("heal")
    assert doctor(sk) == [] and alive(row["pid"])


def test_a_start_that_was_interrupted(sk, world):
    name, ident = stopped(sk, world)
    os.mkdir(run_dir(world, ident), 0o700)
    boot = read_text("/proc/sys/kernel/random/boot_id").strip()
    running = sk.running()
    status = json.loads(read_text(run_dir(world, sk.row(running)["id"]) + "/status.json"))
    status.update(step="starting", incarnation=0, boot_id=boot, init=[0, 0], guard=[0, 0], supervisor=[0, 0])
    write(run_dir(world, ident) + "/status.json", json.dumps(status))
    finds_and_fixes(sk, world, "half-started")
    assert not os.path.exists(run_dir(world, ident)) and sk.state(name) == "created" and sk.state(running) == "running"


def test_state_of_a_former_boot(sk, world):
    name = sk.running("--restart", "no")
    ident = sk.row(name)["id"]
    orphan = run_dir(world, "f" * 64)
    shutil.copytree(run_dir(world, ident), orphan, ignore=shutil.ignore_patterns("*.fifo", "*.sock"))
    text = read_text(orphan + "/status.json")
    write(orphan + "/status.json", text.replace(read_text("/proc/sys/kernel/random/boot_id").strip(), OTHER_BOOT))
    assert finds_and_fixes(sk, world, "former-boot")["where"] == orphan
    assert not os.path.exists(orphan) and sk.state(name) == "running"


def test_state_of_this_boot_without_a_container_may_be_of_another_store(sk, world):
    name = sk.running("--restart", "no")
    orphan = run_dir(world, "f" * 64)
    shutil.copytree(run_dir(world, sk.row(name)["id"]), orphan, ignore=shutil.ignore_patterns("*.fifo", "*.sock"))
    assert doctor(sk, "--fix") == []
    notes = [one["where"] for one in json.loads(sk.ok("doctor", "--format", "json")) if one["kind"] == "stray-state"]
    assert notes == [orphan] and os.path.isdir(orphan)
    shutil.rmtree(orphan)


@pytest.mark.parametrize("file,fixed", [("container.json", False), ("config.json", False), ("desired", False), ("exit.json", True)])
def test_damaged_records(sk, world, file, fixed):
    name = sk.running("--restart", "no")
    sk.ok("stop", "-t", "0", name)
    path = os.path.join(container_dir(world, sk.row(name)["id"]), file)
    whole = read(path)
    with open(path, "wb") as out:
        out.write(b'\x1b[2J{"format":1,')
    found = finds_and_fixes(sk, world, "damaged-record", fixed)
    assert os.path.dirname(path) in found["where"]
    assert "\x1b" not in sk("doctor").out
    if not fixed:
        with open(path, "wb") as out:
            out.write(whole)
    assert doctor(sk) == []


@pytest.mark.parametrize("file", ["status.json", "cgroup.json"])
def test_damaged_records_of_a_container_that_runs(sk, world, file):
    name = sk.running()
    path = os.path.join(run_dir(world, sk.row(name)["id"]), file)
    whole = read_text(path)
    write(path, "\x1b{")
    assert finds_and_fixes(sk, world, "damaged-record", fixed=False)["where"] == path
    write(path, whole)
    assert doctor(sk) == [] and sk.state(name) == "running"


def test_what_ran_when_the_machine_went_down_is_for_heal(sk, world):
    name = sk.running("--restart", "no")
    row = sk.row(name)
    kill_together(row["guard_pid"], row["supervisor_pid"], row["pid"])
    shutil.rmtree(run_dir(world, row["id"]))
    found = finds_and_fixes(sk, world, "former-boot", fixed=False)
    assert name in found["where"] and "skink heal" in found["advice"]
    sk.ok("heal")
    assert doctor(sk) == []


def test_a_writable_layer_of_a_run_that_is_over(sk, world):
    name, ident = stopped(sk, world, "--writable")
    os.makedirs(container_dir(world, ident) + "/upper.3/upper/d")
    running = sk.running("--writable")
    finds_and_fixes(sk, world, "writable-layer")
    assert not os.path.exists(container_dir(world, ident) + "/upper.3")
    assert sk.ok("exec", running, "touch", "/x") == ""


def test_temporary_files(sk, world):
    name, ident = stopped(sk, world)
    path = os.path.join(container_dir(world, ident), ".desired.0123456789abcdef.tmp")
    write(path, "runn")
    assert finds_and_fixes(sk, world, "temporary-file")["where"] == path


def test_a_load_that_was_killed(sk, world):
    path = os.path.join(world.store, "tmp", secrets.token_hex(16))
    os.makedirs(path + "/layer/fs")
    finds_and_fixes(sk, world, "temporary-directory")
    assert listdir(os.path.join(world.store, "tmp")) == []


def test_a_load_that_is_at_work_is_left_alone(sk, world):
    path = os.path.join(world.store, "tmp", secrets.token_hex(16))
    os.mkdir(path)
    layer = secrets.token_hex(32)
    os.mkdir(os.path.join(world.store, "layers/sha256", layer))
    held = [os.open(path, os.O_RDONLY), os.open(os.path.join(world.store, "locks", layer + ".use"), os.O_RDWR | os.O_CREAT, 0o600)]
    for fd, how in zip(held, (fcntl.LOCK_EX, fcntl.LOCK_SH)):
        fcntl.flock(fd, how)
    assert doctor(sk, "--fix") == []
    assert os.path.isdir(path)
    for fd in held:
        os.close(fd)
    assert kinds(doctor(sk, "--fix")) == ["orphaned-layer", "temporary-directory"]
    assert doctor(sk) == []


@pytest.mark.parametrize("part,kind", [("layers", "orphaned-layer"), ("scaffolds", "orphaned-layer")])
def test_what_no_image_needs(sk, world, part, kind):
    path = os.path.join(world.store, part, "sha256", secrets.token_hex(32))
    os.makedirs(path + "/fs/d")
    kept = sorted(listdir(os.path.dirname(path)))
    finds_and_fixes(sk, world, kind)
    assert not os.path.exists(path) and len(listdir(os.path.dirname(path))) == len(kept) - 1
    assert sk.ok("run", "--rm", "busybox", "echo", "fine") == "fine"


def test_an_image_name_that_leads_nowhere(sk, world):
    path = os.path.join(world.store, "names", "lost@1")
    write(path, "sha256:" + secrets.token_hex(32))
    finds_and_fixes(sk, world, "image-name")
    assert listdir(os.path.dirname(path)) == ["busybox@latest"]


def test_a_damaged_image(sk, world):
    layers = os.path.join(world.store, "layers", "sha256")
    name = listdir(layers)[0]
    os.rename(os.path.join(layers, name), world.path("layer"))
    found = finds_and_fixes(sk, world, "damaged-image", fixed=False)
    assert name.split(".")[0] in found["what"] and "/images/sha256/" in found["where"]
    os.rename(world.path("layer"), os.path.join(layers, name))
    assert doctor(sk) == []


def test_cache_entries_of_another_version(sk, world):
    sk.ok("run", "--rm", "busybox", "true")
    cache = os.path.join(world.store, "seccomp-cache")
    mine = listdir(cache)
    assert len(mine) == 1
    write(os.path.join(cache, "seccomp-" + secrets.token_hex(32)), "old")
    finds_and_fixes(sk, world, "old-cache-entry")
    assert listdir(cache) == mine


@pytest.mark.parametrize("which", ["store", "run", "store/containers", "store/layers", "run/containers"])
def test_directories_that_others_can_open(sk, world, which):
    name = sk.running()
    path = world.path(which)
    os.chmod(path, 0o755)
    found = doctor(sk)
    assert [one["where"] for one in found if one["kind"] == "directory"] == [path]
    assert os.stat(path).st_mode & 0o777 == 0o755
    assert [one["fixed"] for one in doctor(sk, "--fix")] == [True]
    assert os.stat(path).st_mode & 0o777 == 0o700
    assert doctor(sk) == [] and sk.state(name) == "running"


def test_a_directory_of_somebody_else_is_not_touched(world):
    """Given by mistake: it is no store, and is not closed."""
    place = world.path("foreign")
    os.mkdir(place, 0o755)
    write(place + "/letter", "mine")
    # Names that we have too, as /var/lib, /run and / have.
    for name, mode in (("tmp", 0o1777), ("names", 0o755), ("containers", 0o755), ("containers/storage", 0o755)):
        os.mkdir(os.path.join(place, name))
        os.chmod(os.path.join(place, name), mode)
    os.chmod(place, 0o755)
    whole = sorted(listdir(place))
    world.skink.options[:] = ["--root", place, "--run", world.run_dir]
    result = world.skink("doctor", "--fix", "--format", "json")
    assert result.status == 1
    assert os.stat(place).st_mode & 0o777 == 0o755 and sorted(listdir(place)) == whole
    assert [os.stat(os.path.join(place, name)).st_mode & 0o7777 for name in ("tmp", "names", "containers")] == [0o1777, 0o755, 0o755]
    world.skink.options[:] = ["--root", world.store, "--run", place]
    assert world.skink("doctor", "--fix").status == 1
    assert os.stat(place).st_mode & 0o777 == 0o755 and os.stat(place + "/containers").st_mode & 0o777 == 0o755
    world.skink.options[:] = ["--root", place, "--run", world.run_dir]
    os.chmod(place, 0o700)
    os.chown(place, 1000, -1)
    result = world.skink("doctor", "--fix", "--format", "json")
    assert result.status == 1 and "uid 1000" in result.out
    assert os.stat(place).st_uid == 1000 and sorted(listdir(place)) == whole


def test_nothing_is_made_where_there_is_no_store(world):
    world.skink.options[:] = ["--root", world.path("typo"), "--run", world.path("run2")]
    result = world.skink("doctor")
    assert result.status == 0 and "no store of skink is there" in result.out and "--root" in result.out
    assert not os.path.exists(world.path("typo")) and not os.path.exists(world.path("run2"))


def test_foreign_files_in_our_directories_are_told_and_left(sk, world):
    mine = [container_dir(world, "notes"), container_dir(world, ".new-notes"), container_dir(world, ".gone-"),
            os.path.join(world.store, "container-names", "notes"), run_dir(world, "notes")]
    for path in mine:
        write(path, "mine")
    os.mkdir(container_dir(world, "work"))
    write(container_dir(world, "work/x"), "mine")
    found = doctor(sk, "--fix")
    assert kinds(found) == ["foreign"] * 6 and not any(one["fixed"] or one["fixable"] for one in found)
    for path in mine + [container_dir(world, "work/x")]:
        assert read_text(path) == "mine"
        os.unlink(path)
    os.rmdir(container_dir(world, "work"))


def test_foreign_entries_of_the_image_store_are_told_and_left(sk, world):
    mine = [os.path.join(world.store, one) for one in ("images/notes", "images/sha256/.notes", "images/sha256/notes", "tmp/x", "names/notes")]
    for path in mine:
        write(path, "mine")
    links = [os.path.join(world.store, one) for one in ("images/link", "images/sha256/link", "names/etc", "names/nothing")]
    for path, target in zip(links, ("/etc", "/etc", "/etc", "/no/such")):
        os.symlink(target, path)
    found = doctor(sk, "--fix")
    assert kinds(found) == ["foreign"] * 9 and not any(one["fixed"] or one["fixable"] for one in found)
    assert sorted(one["where"] for one in found) == sorted(mine + links)
    for path in mine:
        assert read_text(path) == "mine"
        os.unlink(path)
    for path in links:
        os.unlink(path)


def test_without_proc_it_is_said_what_is_missing(sk, world):
    hidden = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    for verb in (["ps"], ["run", "busybox", "true"], ["images"], ["doctor"]):
        result = sk(*verb, before=hidden)
        assert result.status in (1, 2, 125) and "/proc is not mounted here" in result.err and "mount -t proc" in result.err, result


def mount(place, source):
    os.makedirs(place, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", source, place], check=True)


def mounted(path):
    return any(line.split()[4] == path for line in read_text("/proc/self/mountinfo").splitlines())


def test_a_mount_of_ours_whose_container_does_not_run(sk, world):
    name, ident = stopped(sk, world)
    place = container_dir(world, ident) + "/upper.1"
    mount(place, "skink-upper")
    found = doctor(sk, "--fix")
    assert kinds(found) == ["mount", "writable-layer"] and all(one["fixed"] for one in found), found
    assert not mounted(place) and not os.path.exists(place)
    assert doctor(sk) == []


def test_a_foreign_mount_is_told_and_left(sk, world):
    name, ident = stopped(sk, world)
    inside, beside = container_dir(world, ident) + "/data", world.path("elsewhere")
    mount(inside, "skink-test-keep")
    mount(beside, "skink-upper")
    try:
        write(inside + "/x", "mine")
        found = doctor(sk, "--fix")
        assert kinds(found) == ["foreign-mount"] and found[0]["where"] == inside
        assert mounted(inside) and mounted(beside) and read_text(inside + "/x") == "mine"
        notes = [one["where"] for one in json.loads(sk("doctor", "--format", "json").out) if one["level"] == "note"]
        assert beside in notes
    finally:
        for path in (inside, beside):
            subprocess.run(["umount", path], check=True)
    os.rmdir(inside)


def hierarchies():
    found = [line.split()[4] for line in read_text("/proc/self/mountinfo").splitlines() if " - cgroup" in line]
    return [path for path in found if os.access(path, os.W_OK)]


def make_group(name):
    """A group of that name below /skink on every hierarchy."""
    paths = []
    for top in hierarchies():
        path = os.path.join(top, "skink", name)
        wait_for(lambda: made(path))  # the parent may go with another container's last group
        paths.append(path)
    return paths


def made(path):
    try:
        os.makedirs(path, exist_ok=True)
        return True
    except OSError:
        return False


def drop_groups(paths):
    for path in paths:
        if os.path.isdir(path):
            os.rmdir(path)
        try:
            os.rmdir(os.path.dirname(path))
        except OSError:
            pass


def test_a_group_of_a_container_that_is_gone(sk, world):
    name = sk.running()
    ident = sk.row(name)["id"]
    sk.ok("rm", "-f", name)
    paths = make_group(ident)
    try:
        finds_and_fixes(sk, world, "group")
        assert not any(os.path.exists(path) for path in paths)
    finally:
        drop_groups(paths)


def test_a_group_in_which_somebody_is_stays(sk, world):
    name = sk.running()
    ident = sk.row(name)["id"]
    sk.ok("rm", "-f", name)
    paths = make_group(ident)
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        for path in paths:
            if not path.startswith(tuple(top for top in hierarchies() if "cpuset" in top)):
                write(path + "/cgroup.procs", str(stranger.pid))
        finds_and_fixes(sk, world, "group", fixed=False)
        assert alive(stranger.pid) and all(os.path.isdir(path) for path in paths)
    finally:
        stranger.kill()
        stranger.wait()
        for path in paths:
            wait_for(lambda: not read_text(path + "/cgroup.procs", ""))
        drop_groups(paths)


def test_groups_of_others_are_never_touched(sk, world):
    """An id that this store never had, a name that is no id, and one of skink-oci."""
    strange = secrets.token_hex(32)
    paths = make_group(strange) + make_group("custom-" + world.id)
    oci = [os.path.join(top, "skink-" + world.id) for top in hierarchies()]
    for path in oci:
        os.mkdir(path)
    try:
        assert doctor(sk, "--fix") == []
        notes = [one["where"] for one in json.loads(sk.ok("doctor", "--format", "json")) if one["kind"] == "stray-group"]
        assert any(strange in note for note in notes) and any(note in oci for note in notes)
        assert not any("custom-" in note for note in notes)
        assert all(os.path.isdir(path) for path in paths + oci)
    finally:
        drop_groups(paths)
        for path in oci:
            os.rmdir(path)


def test_a_new_group_that_another_root_may_be_starting_in_stays(sk, world):
    """With the same run directory: its container is told of there, and nobody is in its group yet."""
    other = [SKINK, "--root", world.path("other"), "--run", world.run_dir]
    image = mkimg.oci_archive(world.path("other.tar"), busybox_image())
    subprocess.run(other + ["load", image], check=True, capture_output=True)
    ident = subprocess.run(other + ["create", "busybox"], check=True, capture_output=True).stdout.decode().strip()
    paths = make_group(ident)
    try:
        doctor(sk, "--fix")
        assert all(os.path.isdir(path) for path in paths)
        # Nobody takes a minute for that.
        for path in paths:
            os.utime(path, (time.time() - 61, time.time() - 61))
        doctor(sk, "--fix")
        assert not any(os.path.isdir(path) for path in paths)
    finally:
        drop_groups(paths)
        subprocess.run(other + ["rm", "-f", ident], check=True, capture_output=True)


def test_a_log_of_events_that_cannot_be_written(sk, world):
    path = os.path.join(world.run_dir, "events")
    os.unlink(path)
    os.mkdir(path)
    finds_and_fixes(sk, world, "events", fixed=False)
    os.rmdir(path)
    assert doctor(sk) == []


def test_a_full_disk(world):
    place = world.path("small")
    os.makedirs(place)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0755", "skink-test-keep", place], check=True)
    try:
        sk = world.skink
        sk.options[:] = ["--root", world.store, "--run", place + "/r"]
        assert sk.ps("-a") == [] and doctor(sk) == []
        write(place + "/fill", "x" * (3900 << 10))
        found = doctor(sk)
        assert kinds(found) == ["full-disk"] and found[0]["where"] == place + "/r" and "MiB" in found[0]["what"]
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_clock_that_was_set_back(sk, world):
    name, ident = stopped(sk, world)
    path = container_dir(world, ident) + "/container.json"
    record = json.loads(read_text(path))
    record["created_ns"] += 10 ** 9 * 86400
    write(path, json.dumps(record))
    notes = [one for one in json.loads(sk.ok("doctor", "--format", "json")) if one["kind"] == "clock"]
    assert len(notes) == 1 and name in notes[0]["where"] and "set back" in notes[0]["what"]


def test_limits_and_mistakes(sk, world):
    command = "ulimit -n 200; exec \"$@\""
    result = sk("doctor", "--format", "{{.kind}} {{.where}}", before=["sh", "-c", command, "sh"])
    assert result.status == 1 and "limit open files" in result.out
    sk.fails("doctor", "web", status=125, match="unexpected")
    sk.fails("doctor", "--format", "{{.x", status=125, match="format")
    if os.path.exists("/usr/bin/setpriv"):
        denied = subprocess.run(["setpriv", "--reuid", "1000", "--clear-groups", SKINK, "--root", "/nonexistent/x", "doctor"],
                                capture_output=True, text=True, env=world.environment())
        assert denied.returncode in (125, 126, 127) or "root" in denied.stderr


def test_beside_commands_at_work_nothing_is_found_and_nothing_breaks(sk, world):
    script = "i=0; while [ $i -lt 25 ]; do %s run --rm busybox true || exit 1; i=$((i+1)); done" % " ".join(sk.command())
    workers = [subprocess.Popen(["sh", "-c", script], env=world.environment(), stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE) for _ in range(2)]
    while any(worker.poll() is None for worker in workers):
        assert doctor(sk, "--fix") == []
    for worker in workers:
        assert worker.wait() == 0, worker.stderr.read()
        worker.stderr.close()
    assert doctor(sk) == []

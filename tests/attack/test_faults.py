# SPDX-License-Identifier: Apache-2.0
"""F01, F02, F05, F10, F11, F13, F16, F17, F23, F26 (and F06 in small): commands that are killed, crowded, starved."""

import json
import os
import random
import re
import signal
import stat
import subprocess
import time

import mkimg
import pytest
from mktar import Tar
from skinktest import ALL, Bundle, Image, Layer, Skink, alive, base_layer, busybox_image, kill_quietly, read, read_text, status_of, support, wait_for


class KillAt:
    """Runs commands under the stepper."""

    def __init__(self, program):
        self.program = program

    def __call__(self, n, which, *args, timeout=90):
        result = self.program(*args, before=[support("killat"), str(n), which], timeout=timeout)
        found = re.search(r"killat: seen (\d+), (killed|ended) (-?\d+)", result.err)
        assert found, result
        return int(found.group(1)), found.group(2) == "killed", int(found.group(3))


def points(seen, sample):
    """Every point with --all, else a sample that always has the first and last ones."""
    if ALL:
        return list(range(1, seen + 1))
    chosen = {1, 2, 3, seen - 1, seen}
    step = max(1, seen // sample)
    offset = random.Random(time.time() // 86400).randrange(step)
    chosen.update(range(1 + offset, seen + 1, step))
    return sorted(n for n in chosen if 0 < n <= seen)


def recovers(sk, world, name):
    """The next ps tells the truth, rm -f succeeds, and nothing is left."""
    rows = sk.ps()
    for row in rows:
        if row["state"] == "running":
            assert row["pid"], row
        sk("rm", "-f", row["id"])  # one that was run with --rm may be gone by now
    assert sk.ps() == []
    left = world.leaks(10)
    assert left == [], left
    assert sk.ok("run", "--rm", "--name", name, "busybox", "echo", "again") == "again"


SHAPES = {"foreground": ["--rm"], "detached": ["-d"], "kept": []}


@pytest.mark.timeout(7200 if ALL else 400)
@pytest.mark.parametrize("which", ["all", "one"])
@pytest.mark.parametrize("shape", SHAPES)
def test_f01_run_is_killed_at_every_call(sk, world, canary, which, shape):
    kill_at = KillAt(sk)
    name = world.name()
    command = ["run"] + SHAPES[shape] + ["--name", name, "-m", "64m", "--tmpfs", "/x", "-v", canary.top + ":/c:ro", "busybox"] + (
        ["sleep", "1000"] if shape == "detached" else ["true"])
    seen, _, status = kill_at(0, which, *command)
    assert status == 0 and seen > 20
    for row in sk.ps():
        sk.ok("rm", "-f", row["id"])
    for n in points(seen, 24):
        kill_at(n, which, *command)
        # With --rm nothing that never ran is left in the list, not even until somebody removes it.
        assert which == "one" or shape != "foreground" or not [row for row in sk.ps() if row["state"] == "created"], n
        recovers(sk, world, name)


@pytest.mark.timeout(7200 if ALL else 400)
@pytest.mark.parametrize("which", ["all", "one"])
@pytest.mark.parametrize("verb", ["run", "create"])
def test_f01_skink_oci_is_killed_at_every_call(oci, world, canary, verb, which):
    b = Bundle(world, ["true"])
    b.config["linux"]["cgroupsPath"] = "/skink-test-%s" % world.id
    b.config["linux"]["resources"] = {"memory": {"limit": 64 << 20}}
    b.save()
    kill_at, name = KillAt(oci), world.name()
    command = [verb, "--bundle", b.dir, name]
    seen, _, status = kill_at(0, which, *command)
    assert status == 0
    oci("delete", "--force", name)
    for n in points(seen, 32):
        kill_at(n, which, *command)
        wait_for(lambda: oci("delete", "--force", name).status == 0, 20)
        left = world.leaks(5)
        assert left == [], (n, left)
    assert oci.ok("run", "--bundle", b.dir, name) == ""


@pytest.mark.timeout(7200 if ALL else 400)
@pytest.mark.parametrize("which", ["all", "one"])
@pytest.mark.parametrize("verb", ["start", "kill", "delete", "delete-force", "pause", "resume", "update"])
def test_f01_other_verbs_of_skink_oci_are_killed_at_every_call(oci, world, canary, verb, which):
    """Whatever is left, `delete --force` clears, and the state can be asked for meanwhile."""
    b = Bundle(world, ["sleep", "1000"])
    b.config["linux"]["cgroupsPath"] = "/skink-test-%s" % world.id
    b.config["linux"]["resources"] = {"memory": {"limit": 64 << 20}}
    b.save()
    kill_at, name = KillAt(oci), world.name()
    command = {"kill": ["kill", name, "9"], "delete-force": ["delete", "--force", name], "update": ["update", "--memory", "48m", name]}.get(
        verb, [verb, name])

    def make():
        oci.ok("create", "--bundle", b.dir, name)
        if verb not in ("start", "delete"):
            oci.ok("start", name)
        if verb == "resume":
            oci.ok("pause", name)
    make()
    seen, _, status = kill_at(0, which, *command)
    assert status == 0 and seen > 10
    oci.ok("delete", "--force", name)
    for n in points(seen, 4):
        make()
        kill_at(n, which, *command)
        answer = oci("state", name)
        assert answer.status == 0 or "does not exist" in answer.err, (n, answer)
        oci.ok("delete", "--force", name)
        left = world.leaks(5)
        assert left == [], (n, left)


@pytest.mark.timeout(7200 if ALL else 400)
def test_f02_only_the_front_process_is_killed(oci, world, canary):
    """The process between clone and exec sees the end of its socket and ends: no orphan that waits for ever."""
    b, name = Bundle(world, ["sleep", "1000"]), world.name()
    kill_at = KillAt(oci)
    seen, _, _ = kill_at(0, "one", "create", "--bundle", b.dir, name)
    oci("delete", "--force", name)
    for n in points(seen, 32):
        kill_at(n, "one", "create", "--bundle", b.dir, name)
        wait_for(lambda: oci("delete", "--force", name).status == 0, 20)
        left = world.leaks(8)
        assert left == [], (n, left)


@pytest.mark.timeout(7200 if ALL else 400)
@pytest.mark.parametrize("state", ["running", "exited"])
def test_f05_rm_is_killed_at_every_call(sk, world, canary, state):
    kill_at = KillAt(sk)

    def make():
        options = ["--writable", "-v", canary.top + ":/c"]
        return sk.running(*options, "--restart", "no", command=["sleep", "1000"] if state == "running" else ["true"])
    name = make()
    if state == "exited":
        sk.wait_state(name, "exited")
    seen, _, status = kill_at(0, "one", "rm", "-f", name)
    assert status == 0
    for n in points(seen, 24):
        name = make()
        kill_at(n, "one", "rm", "-f", name)
        for row in sk.ps():
            sk.ok("rm", "-f", row["id"])
        assert sk.ps() == []
        left = world.leaks(10)
        assert left == [], (n, left)
        canary.check()


def test_f05_a_supervisor_that_is_killed_in_its_last_steps(sk, world):
    """Part of the run directory is gone, the container is not: the next supervisor does the rest."""
    name = sk.running("--rm")
    row = sk.row(name)
    os.kill(row["supervisor_pid"], signal.SIGSTOP)
    os.kill(row["pid"], signal.SIGKILL)
    wait_for(lambda: not os.path.exists("/proc/%d" % row["pid"]))
    os.unlink(os.path.join(world.run_dir, "containers", row["id"], "status.json"))
    os.kill(row["supervisor_pid"], signal.SIGKILL)
    wait_for(lambda: sk.row(name) is None)
    assert world.leaks(10) == []


@pytest.fixture
def stuck(world):
    """Makes processes that even SIGKILL does not end, and the function that lets them go: they write to a frozen file system."""
    made = []

    def thaw(place):
        return lambda: subprocess.run(["fsfreeze", "-u", place], stderr=subprocess.DEVNULL)

    def make():
        image, place = world.path("image%d" % len(made)), world.path("skink-test-keep%d" % len(made))
        with open(image, "wb") as file:
            file.truncate(8 << 20)
        os.mkdir(place)
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        if subprocess.run(["mount", "-o", "loop", image, place]).returncode != 0:
            pytest.skip("no loop devices")
        made.append((place, None))
        subprocess.run(["fsfreeze", "-f", place], check=True)
        process = subprocess.Popen(["touch", os.path.join(place, "x")])
        made[-1] = (place, process)
        wait_for(lambda: status_of(process.pid)["State"].startswith("D"))
        return process, thaw(place)
    yield make
    for place, process in made:
        thaw(place)()
        if process:
            process.wait()
        subprocess.run(["umount", place], check=True)


def enter(groups, process):
    for path in groups:
        with open(os.path.join(path, "cgroup.procs"), "w") as procs:
            procs.write(str(process.pid))


@pytest.mark.full
def test_f05_a_group_that_cannot_be_removed_stays_on_record(sk, world, stuck):
    """Somebody in the group of an ended --rm container does not die: it is not forgotten, and the look after that removes all."""
    name = sk.running("--rm")
    row = sk.row(name)
    groups = [path for path in world.cgroups() if row["id"] in path]
    process, let_go = stuck()
    enter(groups, process)
    os.kill(row["pid"], signal.SIGKILL)
    wait_for(lambda: not alive(row["guard_pid"]))
    assert [path for path in groups if os.path.exists(path)]
    assert sk.row(name)["state"] == "exited"
    let_go()
    process.wait()
    wait_for(lambda: sk.row(name) is None)
    assert world.leaks(10) == []


def test_f24_many_that_die_slowly_are_waited_for(oci, world, stuck):
    """Ten seconds without a death are the end of patience, not ten seconds."""
    b, name = Bundle(world, ["sleep", "1000"]), world.name()
    b.config["linux"]["cgroupsPath"] = "/skink-test-%s" % world.id
    b.save()
    oci.ok("create", "--bundle", b.dir, name)
    groups = [path for path in world.cgroups()]
    dying = [stuck(), stuck()]
    for process, _ in dying:
        enter(groups, process)
    delete = oci.start("delete", "--force", name)
    for process, let_go in dying:
        time.sleep(7)
        let_go()
        process.wait()
    out, err = delete.communicate(timeout=60)
    assert delete.returncode == 0, err


@pytest.mark.timeout(7200 if ALL else 400)
def test_f06_load_is_killed(bare, world):
    path = mkimg.oci_archive(world.path("x.tar"), busybox_image("one", extra=lambda tar: tar.file("a", "a").dir("d").file("d/b", "b" * 9000)))
    kill_at = KillAt(bare)
    seen, _, status = kill_at(0, "all", "load", path)
    assert status == 0
    bare.ok("rmi", "one")
    for n in points(seen, 32):
        kill_at(n, "all", "load", path)
        if bare.ok("images", "-q"):
            assert bare.ok("run", "--rm", "one", "cat", "/a") == "a"
            bare.ok("rmi", "one")
        bare.ok("load", path)
        assert bare.ok("run", "--rm", "one", "cat", "/a") == "a"
        bare.ok("rmi", "one")
    left = [os.path.join(top, name) for top, _, files in os.walk(world.store) for name in files if os.path.getsize(os.path.join(top, name)) > 8000]
    assert left == []


@pytest.mark.timeout(3600 if ALL else 400)
def test_f06_load_is_killed_at_any_instant(bare, world):
    """Not between two calls but anywhere, by the clock, with several layers on their way: what was there is whole, a name
    leads to the old image or the new one."""
    def archive(name, content, count):
        layers = [base_layer()] + [Layer(Tar().file("own", content).file("f%d" % n, os.urandom(200_000)), "gzip") for n in range(count)]
        return mkimg.oci_archive(world.path(name + ".tar"), Image(layers, {"Env": ["PATH=/bin"]}, ["web:1"]))
    old, new = archive("old", "old", 1), archive("new", "new", 5)
    bare.ok("load", "-q", old)
    begin = time.monotonic()
    bare.ok("load", "-q", new)
    whole = time.monotonic() - begin
    for _ in range(150 if ALL else 4):
        bare.ok("image", "prune", "-a")
        bare.ok("load", "-q", old)
        load = bare.start("load", "-q", new, start_new_session=True)
        time.sleep(random.uniform(0, whole * 1.1))
        if load.poll() is None:
            os.killpg(load.pid, signal.SIGKILL)
        load.wait()
        assert all(line.endswith(": ok") for line in bare.ok("image", "verify").splitlines())
        assert bare.ok("run", "--rm", "web:1", "cat", "own") in ("old", "new")
        bare.ok("load", "-q", new)
        assert bare.ok("run", "--rm", "web:1", "cat", "own") == "new" and os.listdir(world.store + "/tmp") == []


@pytest.mark.timeout(7200 if ALL else 400)
@pytest.mark.parametrize("verb", ["prune"] + ["rmi", "repair"] * ALL)
def test_f07_removals_and_repairs_are_killed(bare, world, verb):
    """An image that is listed runs, or is told to be damaged; the next command gives back all the room."""
    image = busybox_image("one", extra=lambda tar: tar.file("a", "a" * 5000))
    path = mkimg.oci_archive(world.path("x.tar"), image)
    layer = image.layers[1].diff_id[7:]
    words = {"rmi": ["rmi", "one"], "prune": ["image", "prune", "-a"], "repair": ["image", "verify", "--repair", path]}[verb]
    kill_at = KillAt(bare)

    def prepare():
        bare.ok("load", "-q", path)
        if verb == "repair":
            for place in ("layers/sha256/%s.erofs" % layer, "layers/sha256/%s/fs/a" % layer):
                if os.path.exists(os.path.join(world.store, place)):
                    os.truncate(os.path.join(world.store, place), 4096)
    prepare()
    seen, _, status = kill_at(0, "all", *words)
    assert status == 0
    for n in points(seen, 12):
        prepare()
        kill_at(n, "all", *words)
        if verb == "repair":
            bare.ok("image", "verify", "--repair", path)
        # It may have lost its name and nothing else yet.
        for one in bare.ok("images", "-q").split():
            assert bare.ok("image", "verify").endswith(": ok")
            assert bare.ok("run", "--rm", one, "head", "-c", "1", "/a") == "a"
        bare.ok("image", "prune", "-a")
        left = [name for part in ("layers", "marks", "images", "scaffolds", "names", "tmp")
                for _, _, files in os.walk(os.path.join(world.store, part)) for name in files]
        assert left == [], (n, left)


def test_f10_a_reused_process_number(sk, world):
    """After the end of a container its number is given to a stranger: no signal reaches it."""
    name = sk.running("--restart", "no")
    pid = sk.pid(name)
    row = sk.row(name)
    for one in (row["supervisor_pid"], row["guard_pid"], pid):
        kill_quietly(one)
    wait_for(lambda: not os.path.exists("/proc/%d" % pid))
    stranger = None
    for _ in range(50):
        try:
            with open("/proc/sys/kernel/ns_last_pid", "w") as last:
                last.write(str(pid - 1))
        except OSError:
            pytest.skip("ns_last_pid cannot be written")
        process = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL, env={"PATH": "/bin"})
        if process.pid == pid:
            stranger = process
            break
        process.kill()
        process.wait()
    if stranger is None:
        pytest.skip("the number was taken by somebody else")
    try:
        wait_for(lambda: sk.state(name) != "running", message="a stranger is taken for the container")
        for verb in (["kill", name], ["stop", "-t", "0", name], ["exec", name, "true"], ["pause", name], ["rm", "-f", name]):
            sk(*verb)
        assert stranger.poll() is None, "a stranger was killed"
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("pair", [("create", "create"), ("start", "start"), ("rm", "rm"), ("kill", "rm"), ("exec", "rm"), ("stop", "start"), ("pause", "rm")])
def test_f11_two_commands_on_one_container(sk, world, pair):
    for _ in range(60 if ALL else 6):
        name = world.name()
        if "create" not in pair:
            sk.ok("create", "--name", name, "--restart", "no", "busybox", "sleep", "1000")
            if pair[0] not in ("start",):
                sk.ok("start", name)
        forms = {"create": ["create", "--name", name, "busybox", "true"], "start": ["start", name], "rm": ["rm", "-f", name], "kill": ["kill", name],
                 "exec": ["exec", name, "true"], "stop": ["stop", "-t", "0", name], "pause": ["pause", name]}
        commands = [sk.start(*forms[pair[n % 2]]) for n in range(16 if ALL else 6)]
        results = []
        for one in commands:
            out, err = one.communicate(timeout=120)
            results.append((one.returncode, err.decode()))
            assert one.returncode >= 0, err
        for status, err in results:
            # 137: an exec whose container was removed while it ran.
            assert status in (0, 137) or err.count("\n") == 1, results
        if pair[0] == "create":
            assert [status for status, _ in results].count(0) == 1, results
        if pair == ("start", "start"):
            assert all(status == 0 for status, _ in results), results
            assert alive(sk.pid(name))
        if "rm" in pair:
            assert sk.row(name) is None, results
        else:
            sk.ok("rm", "-f", name)
    assert world.leaks(8) == []


@pytest.mark.parametrize("kib", [4, 8, 16, 24, 32, 48, 64])
def test_f13_no_space_for_state(world, kib):
    """The run directory is tiny: a clean error, and what runs can still be listed, killed and removed."""
    world.skink.load(busybox_image())
    place = world.path("tiny")
    os.makedirs(place)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%dk,mode=0700" % kib, "skink-test-keep", place], check=True)
    world.run_dir = place
    world.skink.options[:] = ["--root", world.store, "--run", world.run_dir]
    sk = world.skink
    try:
        started = []
        for _ in range(12):
            name = world.name()
            result = sk("run", "-d", "--name", name, "busybox", "sleep", "1000")
            if result.status:
                assert result.status == 125 and "space" in result.err and result.err.count("\n") == 1, result
                break
            started.append(name)
        assert {row["name"] for row in sk.ps() if row["state"] == "running"} == set(started)
        for name in started:
            sk.ok("kill", name)
            sk.ok("rm", "-f", name)
        for row in sk.ps():
            sk.ok("rm", "-f", row["id"])
        assert world.leaks(8) == []
    finally:
        world.remove_containers()
        subprocess.run(["umount", "-l", place], check=True)


LIMITED = [["ps"], ["images"], ["info"], ["inspect", "NAME"], ["logs", "NAME"], ["exec", "NAME", "true"], ["run", "--rm", "busybox", "true"],
           ["run", "-d", "busybox", "true"], ["stop", "-t", "0", "OTHER"], ["load", "FILE"], ["rm", "-f", "OTHER"], ["create", "busybox", "true"]]


@pytest.mark.parametrize("args", LIMITED, ids=lambda args: "-".join(args[:2]))
def test_f16_few_descriptors(sk, world, args):
    path = mkimg.oci_archive(world.path("x.tar"), busybox_image("other", extra=lambda tar: tar.file("n", "n")))
    name = sk.running()
    for limit in range(3, 65) if ALL else (3, 5, 6, 8, 10, 12, 17, 25):
        other = sk.running(command=["sleep", "1000"]) if "OTHER" in args else None
        words = [{"NAME": name, "OTHER": other, "FILE": path}.get(word, word) for word in args]
        result = sk(*words, before=["prlimit", "--nofile=%d:%d" % (limit, limit), "--"])
        assert result.status >= 0, result
        if result.status:
            assert len(result.err.strip().splitlines()) <= 2, result
        if result.status and other:
            assert "RLIMIT_NOFILE" in result.err and sk.state(other) == "running", "half done: %r" % result
        assert sk.state(name) == "running"
        for row in sk.ps():
            if row["name"] != name:
                sk.ok("rm", "-f", row["id"])
    assert sk.ok("exec", name, "echo", "fine") == "fine"


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1], [1, 2], [0, 1, 2]], ids=str)
def test_f17_standard_streams_closed_at_the_start(sk, world, closed):
    """No file that skink opens may get the number of a standard stream."""
    def close():
        for fd in closed:
            os.close(fd)

    def files():
        return {os.path.join(top, name): read(os.path.join(top, name), b"") for place in (world.store, world.run_dir)
                for top, _, names in os.walk(place) for name in names if stat.S_ISREG(os.lstat(os.path.join(top, name)).st_mode)}
    name = world.name()
    for args in (["ps"], ["run", "--rm", "busybox", "sh", "-c", "echo MARK; echo MARK >&2"], ["run", "-d", "--name", name, "busybox", "sleep", "1000"],
                 ["exec", name, "echo", "MARK"], ["logs", name], ["images"], ["rm", "nobody-MARK"], ["stop", "-t", "0", name],
                 ["load", mkimg.oci_archive(world.path("x.tar"), busybox_image("x"))]):
        result = sk(*args, preexec_fn=close)
        assert result.status >= 0, result
        for path, content in files().items():
            assert b"nobody-MARK" not in content and b"skink: " not in content, path
    assert sk.state(name) == "exited"


@pytest.mark.parametrize("args", [["ps", "-a"], ["run", "--rm", "busybox", "sleep", "0.05"], ["load", "FILE"], ["exec", "NAME", "sleep", "0.05"],
                                  ["run", "-d", "--rm", "busybox", "sleep", "0.2"], ["stop", "-t", "1", "NAME"], ["logs", "-f", "NAME"]],
                         ids=lambda args: "-".join(args[:2]))
def test_f23_signals_to_the_command_at_random_times(sk, world, args):
    path = mkimg.oci_archive(world.path("x.tar"), busybox_image("other", extra=lambda tar: tar.file("n", "n")))
    name = sk.running("--restart", "always")
    rng = random.Random(7)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGWINCH, signal.SIGCHLD, signal.SIGTSTP, signal.SIGQUIT):
        for _ in range(10 if ALL else 2):
            process = sk.start(*[{"NAME": name, "FILE": path}.get(word, word) for word in args])
            time.sleep(rng.random() * 0.06)
            process.send_signal(number)
            time.sleep(0.02)
            process.send_signal(signal.SIGCONT)
            if args[0] == "logs":
                time.sleep(0.1)
                process.terminate()
            process.communicate(timeout=90)
    if args[0] == "stop":
        sk.ok("start", name)
    wait_for(lambda: sk.state(name) == "running")
    wait_for(lambda: [row["name"] for row in sk.ps() if row["state"] in ("running", "created")] == [name] or
             [sk("rm", "-f", row["id"]) for row in sk.ps() if row["name"] != name] is None)
    sk.ok("load", path)
    assert sk.ok("run", "--rm", "other", "cat", "/n") == "n"


def test_f23_a_pipe_that_ends_early(sk, world):
    for _ in range(8):
        sk.ok("create", "--name", world.name(), "busybox", "true")
    done = subprocess.run(["bash", "-o", "pipefail", "-c", "%s | head -n 1" % " ".join(sk.command("ps", "-a"))], capture_output=True, env=world.environment())
    assert done.stdout.startswith(b"CONTAINER ID") and done.stderr == b""


# F26: damaged state.

def state_files(world, ident):
    """The JSON documents that belong to one container."""
    found = []
    for top in (world.store, world.run_dir):
        for directory, _, files in os.walk(top):
            if ident in directory:
                found += [os.path.join(directory, name) for name in files if name.endswith(".json")]
    return found


def damages(data):
    yield "empty", b""
    for part in range(1, 8):
        yield "truncated-%d" % part, data[:len(data) * part // 8]
    rng = random.Random(5)
    for number in range(12 if not ALL else 200):
        copy = bytearray(data)
        copy[rng.randrange(len(copy))] ^= 1 << rng.randrange(8)
        yield "flipped-%d" % number, bytes(copy)
    yield "deep", b"[" * 100000
    yield "wrong-type", b'{"version":1,"id":[],"name":{},"pid":"x"}'
    yield "array", b"[]"
    yield "null", b"null"
    yield "newer", re.sub(rb'"version": ?\d+', b'"version":9999', data, count=1)
    yield "nul", b"\0" * 4096
    yield "other-id", re.sub(rb'[0-9a-f]{64}', b"f" * 64, data)
    yield "path", re.sub(rb'"(/[^"]*)"', b'"/srv"', data)
    yield "big", b'{"x":"' + b"y" * (64 << 20) + b'"}'


@pytest.mark.timeout(900)
@pytest.mark.parametrize("running", [True, False], ids=["running", "exited"])
def test_f26_damaged_state_files(sk, world, canary, running):
    other = sk.running()
    name = sk.running("--restart", "no", command=["sleep", "1000"] if running else ["true"])
    if not running:
        sk.wait_state(name, "exited")
    ident = sk.inspect(name)["id"]
    # Its supervisor is at its end: what it still has to remove is not for us to damage.
    wait_for(lambda: running or not os.path.exists(os.path.join(world.run_dir, "containers", ident)))
    files = state_files(world, ident)
    assert files
    for path in files:
        good = read(path, b"")
        if not good:
            continue  # gone: its supervisor ended in the meantime
        for kind, bad in damages(good):
            with open(path, "wb") as out:
                out.write(bad)
            listed = sk("ps", "-a", "--format", "json", timeout=60)
            assert listed.status == 0, (kind, path, listed)
            rows = json.loads(listed.out) if listed.out.startswith("[") else [json.loads(line) for line in listed.out.splitlines()]
            assert any(row["name"] == other and row["state"] == "running" for row in rows), (kind, path, rows)
            for verb in (["inspect", ident], ["logs", ident]):
                assert sk(*verb).status >= 0
        with open(path, "wb") as out:
            out.write(good)
    # Damaged for good: rm -f cleans by what else is known.
    for path in files:
        with open(path, "wb") as out:
            out.write(b"{")
    pid = None
    sk.ok("rm", "-f", ident)
    assert {row["name"] for row in sk.ps()} == {other}, pid
    sk.ok("rm", "-f", other)
    assert world.leaks(8) == []


@pytest.mark.parametrize("kind", ["fifo", "symlink", "directory", "removed", "foreign"])
def test_f27_pieces_of_the_state_that_are_something_else(sk, world, canary, kind):
    other = sk.running()
    name = sk.running("--restart", "no", command=["true"])
    sk.wait_state(name, "exited")
    ident = sk.inspect(name)["id"]
    # Its supervisor is at its end: what it still has to remove is not for us to damage.
    wait_for(lambda: not os.path.exists(os.path.join(world.run_dir, "containers", ident)))
    for path in state_files(world, ident):
        os.unlink(path)
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "symlink":
            os.symlink(canary.top + "/secret", path)
        elif kind == "directory":
            os.makedirs(path + "/x")
        elif kind == "foreign":
            world.write(os.path.relpath(path, world.base), "{}")
            os.chown(path, 1000, 1000)
    assert sk("ps", "-a", timeout=30).status == 0
    assert sk.state(other) == "running"
    sk("inspect", ident, timeout=30)
    sk.ok("rm", "-f", ident, timeout=60)
    assert {row["name"] for row in sk.ps()} == {other}

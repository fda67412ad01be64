# SPDX-License-Identifier: Apache-2.0
"""skink-oci exec, and the foreground of run: as orchestrators and people call them."""

import array
import json
import os
import re
import signal
import socket
import subprocess

import pytest
from skinktest import alive, cgroup_dir, read_text, status_of, unified_top, wait_for
from terminal import terminals


def state(oci, name):
    return json.loads(oci.ok("state", name))


@pytest.fixture
def running(oci, bundle, world):
    """Starts a container in the background from a bundle's configuration that `change` may alter; its name."""
    def make(change=None, args=("sleep", "1000"), options=(), **process):
        b = bundle(list(args), **process)
        b.config["linux"]["cgroupsPath"] = "/skink-test-%s" % world.name("g")
        if change:
            change(b.config)
        b.save()
        name = world.name()
        with open(os.devnull, "wb") as sink:
            result = oci("run", "-d", *options, "--bundle", b.dir, name, stdout=sink, stderr=open(world.path("err"), "wb"))
        assert result.status == 0, read_text(world.path("err"))
        return name
    return make


def document(world, **process):
    return world.write(world.name("process"), json.dumps(process) + "\n")


def listener(world):
    server = socket.socket(socket.AF_UNIX)
    server.bind(world.path("sock"))
    server.listen(1)
    return server, world.path("sock")


def take_descriptor(server):
    """As go-runc does: accepted after the runtime has ended; exactly one descriptor."""
    peer, _ = server.accept()
    data, ancillary, _, _ = peer.recvmsg(4096, socket.CMSG_SPACE(4))
    assert 1 <= len(data) <= 4095 and len(ancillary) == 1
    assert peer.recv(1) == b""
    peer.close(), server.close()
    return array.array("i", ancillary[0][2])[0]


# Statuses and texts.

def test_output_and_status(oci, running):
    name = running()
    result = oci("exec", name, "sh", "-c", "cat; echo err >&2; exit 7", input="in\n")
    assert (result.status, result.out, result.err) == (7, "in\n", "err\n")
    assert oci("exec", name, "sh", "-c", "kill -9 $$").status == 137
    assert oci("exec", name, "false").status == 1
    assert oci.ok("exec", name, "echo", "-d", "--", "-x") == "-d -- -x"


def test_its_own_failure_is_255(oci, running, world):
    name = running()
    oci.fails("exec", name, "foo", status=255, match=r'exec: "foo": executable file not found in \$PATH')
    oci.fails("exec", name, "/x", status=255, match='exec: "/x": stat /x: no such file or directory')
    oci.fails("exec", name, "/etc", status=255, match='exec: "/etc": permission denied')
    oci.fails("exec", "unknown", "true", status=255, match="container does not exist")
    oci.fails("exec", name, status=255, match="usage")
    oci.fails("exec", "--no-such", name, "true", status=255, match="no-such")
    oci.fails("exec", "--cwd", "/none", name, "true", status=255, match=["process.cwd", "/none"])


def test_one_record_in_the_log(oci, running, world):
    name, log = running(), world.path("log")
    oci.options += ["--log", log, "--log-format", "json"]
    oci.fails("exec", name, "foo", status=255)
    oci.options[:] = oci.options[:-4]
    records = [json.loads(line) for line in read_text(log).splitlines()]
    assert len(records) == 1 and records[0]["level"] == "error" and "not found in $PATH" in records[0]["msg"]


def test_a_stopped_container(oci, running, world):
    name = running()
    oci.ok("kill", name, "KILL")
    wait_for(lambda: state(oci, name)["status"] == "stopped")
    oci.fails("exec", name, "true", status=255, match=["stopped", "container not running"])


def test_a_created_container(oci, bundle, world):
    name = world.name()
    b = bundle(["sleep", "1000"])
    oci.ok("create", "--bundle", b.dir, name)
    assert oci.ok("exec", name, "hostname") == "bundle"
    assert state(oci, name)["status"] == "created"


def test_a_paused_container(oci, running):
    name = running()
    directory, version = cgroup_dir(state(oci, name)["pid"], "freezer")
    file, frozen, thawed = ("freezer.state", "FROZEN", "THAWED") if version == 1 else ("cgroup.freeze", "1", "0")

    def write(text):
        with open(os.path.join(directory, file), "w") as out:
            out.write(text)
    write(frozen)
    wait_for(lambda: state(oci, name)["status"] == "paused")
    oci.fails("exec", name, "true", status=255, match="cannot exec in a paused container")
    process = oci.start("exec", "--ignore-paused", name, "echo", "thawed")
    group = os.path.join(directory, "cgroup.procs")
    wait_for(lambda: len(read_text(group).split()) == 2)
    assert process.poll() is None
    write(thawed)
    assert process.communicate(timeout=60)[0] == b"thawed\n" and process.returncode == 0


# The process.

def test_options(oci, running):
    name = running()
    script = "id -u; id -g; id -G; pwd; echo $HOME; echo $A; env | grep -c ^A=; grep -E 'CapBnd|NoNew' /proc/self/status"
    out = oci.ok("exec", "-u", "1000:100", "-g", "5", "--additional-gids=6,7", "--cwd", "/tmp", "-e", "A=1", "--env", "A=2",
                 "-c", "CAP_SYS_ADMIN", "--cap", "net_raw", "--no-new-privs=false", name, "sh", "-c", script).splitlines()
    assert out[:7] == ["1000", "100", "100 5 6 7", "/tmp", "/home/user", "2", "1"]
    # Those of the bundle, CAP_NET_RAW (13) and CAP_SYS_ADMIN (21).
    bounding = int(out[8].split()[1] if "CapBnd" in out[8] else out[7].split()[1], 16)
    assert bounding & (1 << 13 | 1 << 21) == 1 << 13 | 1 << 21
    assert any(re.match(r"NoNewPrivs:\s+0", line) for line in out)


def test_defaults_are_the_containers(oci, running):
    def change(config):
        config["process"].update(cwd="/tmp", env=["PATH=/bin", "TOKEN=1"], user={"uid": 1000, "gid": 1000, "umask": 0o077, "additionalGids": [4]})
    name = running(change)
    out = oci.ok("exec", name, "sh", "-c", "id -u; pwd; echo $TOKEN $HOME; umask; id -G; grep NoNew /proc/self/status").splitlines()
    assert out[:5] == ["1000", "/tmp", "1 /home/user", "0077", "1000 4"] and out[5].split()[1] == "1"


@pytest.mark.parametrize("user", ["root", "-1", "4294967295", "4294967296", "1000:", ":1000", "1000:x", "0x10", " 1", "1:2:3"])
def test_users_that_are_no_numbers(oci, running, user):
    oci.fails("exec", "--user=" + user, running(), "true", status=255, match="--user")


@pytest.mark.parametrize("option", [["--env", "NOEQUALS"], ["-g", "x"], ["--preserve-fds", "x"], ["--cwd", "tmp"]])
def test_options_with_wrong_values(oci, running, option):
    oci.fails("exec", *option, running(), "true", status=255)


def test_an_unknown_capability_is_a_warning(oci, running):
    result = oci("exec", "--cap", "CAP_WAT,CAP_SYS_ADMIN", running(), "sh", "-c", "grep CapBnd /proc/self/status")
    assert result.status == 0 and "CAP_WAT" in result.err
    assert int(result.out.split()[1], 16) >> 21 & 1


def test_a_process_document(oci, running, world):
    name = running()
    full = document(world, args=["sh", "-c", "id -u; id -G; pwd; env"], env=["PATH=/bin", "ONLY=this"], cwd="/tmp",
                    user={"uid": 7, "gid": 8, "additionalGids": [9]}, terminal=False)
    out = oci.ok("exec", "--process", full, name).splitlines()
    assert out[:3] == ["7", "8 9", "/tmp"] and "ONLY=this" in out and "HOME=/" in out
    # Everything but args may be left out; --tty is the file's to say; what follows the id is not used.
    least = document(world, args=["sh", "-c", "echo $PATH; pwd; test -t 0 || echo none"])
    assert oci.ok("exec", "--tty", "-p", least, name, "ignored") == "/bin:/usr/bin\n/\nnone"


def test_a_process_document_from_a_pipe(oci, running, world):
    name = running()
    end, other = os.pipe()
    os.write(other, json.dumps({"args": ["echo", "piped"], "cwd": "/"}).encode())
    os.close(other)
    assert oci.ok("exec", "--process", "/dev/fd/%d" % end, name, pass_fds=[end]) == "piped"
    os.close(end)
    os.mkfifo(world.path("fifo"))
    oci.fails("exec", "--process", world.path("fifo"), name, status=255, match="fifo")


@pytest.mark.parametrize("text,words", [("{", "--process"), ("[]", "process"), ("{}", "process.args"), ('{"args": []}', "process.args"),
                                        ('{"args": ["true"], "cwd": "x"}', "process.cwd"), ('{"args": ["true"], "user": {"uid": -1}}', "process.user.uid"),
                                        ('{"args": ["true"], "rlimits": [{"type": "X"}]}', "rlimits"), (None, "none")])
def test_documents_that_are_wrong(oci, running, world, text, words):
    path = world.path("none") if text is None else world.write("wrong", text)
    oci.fails("exec", "--process", path, running(), status=255, match=words)


# Detached, pid file, sockets, descriptors.

def test_detached(oci, running, world):
    name, pid_file = running(), world.path("pid")
    out = open(world.path("out"), "wb")
    assert oci("exec", "-d", "--pid-file", pid_file, name, "sh", "-c", "echo here; exec sleep 1000", stdout=out, stderr=out).status == 0
    assert re.fullmatch(r"\d+", read_text(pid_file))
    pid, init = int(read_text(pid_file)), state(oci, name)["pid"]
    wait_for(lambda: read_text(world.path("out")) == "here\n")
    for kind in ("pid", "mnt", "net", "ipc", "uts", "cgroup"):
        assert os.readlink("/proc/%d/ns/%s" % (pid, kind)) == os.readlink("/proc/%d/ns/%s" % (init, kind))
    assert read_text("/proc/%d/cgroup" % pid) == read_text("/proc/%d/cgroup" % init)
    oci.ok("delete", "--force", name)
    wait_for(lambda: not alive(pid))


def test_relative_pid_file_and_failures_of_it(oci, running, world):
    name = running()
    world.write("empty", "")
    oci.ok("exec", "--pid-file", "empty", name, "true", cwd=world.base)
    assert re.fullmatch(r"\d+", read_text(world.path("empty")))
    oci.fails("exec", "--pid-file", world.path("not"), name, "nothing", status=255)
    assert not os.path.exists(world.path("not"))
    oci.fails("exec", "-d", "--pid-file", world.path("no/dir/pid"), name, "sleep", "1000", status=255, match="--pid-file")
    directory, _ = cgroup_dir(state(oci, name)["pid"], "pids")
    wait_for(lambda: len(read_text(directory + "/cgroup.procs").split()) == 1, message="a process that nobody knows of is left")


def test_console_socket(oci, running, world):
    name = running()
    server, path = listener(world)
    oci.ok("exec", "--detach", "--tty", "--console-socket", path, name, "sh", "-c", "probe terminals; read x; echo got $x; sleep 1000")
    master = take_descriptor(server)
    text = b""

    def seen(wanted):
        nonlocal text
        text += os.read(master, 4096)
        return wanted in text
    wait_for(lambda: seen(b"2: /dev"))
    assert b"no tty" not in text and b"\r\n" in text
    os.write(master, b"hello\n")
    wait_for(lambda: seen(b"got hello"))
    os.close(master)


def test_console_size_of_the_document(oci, running, world):
    server, path = listener(world)
    wanted = document(world, terminal=True, consoleSize={"width": 77, "height": 22}, args=["busybox", "stty", "size"], cwd="/")
    oci.ok("exec", "--process", wanted, "--detach", "--tty", "--console-socket", path, running())
    master = take_descriptor(server)
    assert os.read(master, 100) == b"22 77\r\n"
    os.close(master)


def test_console_size_of_the_container(oci, bundle, world):
    """Where no terminal of the caller has one of its own."""
    b, name = bundle(["sleep", "1000"]), world.name()
    b.config["process"]["consoleSize"] = {"width": 66, "height": 33}
    oci.ok("run", "-d", "--bundle", b.save().dir, name)
    server, path = listener(world)
    oci.ok("exec", "--detach", "--tty", "--console-socket", path, name, "busybox", "stty", "size")
    master = take_descriptor(server)
    assert os.read(master, 100) == b"33 66\r\n"
    os.close(master)


def test_terminals_that_nobody_reads(oci, running, world):
    name = running()
    oci.fails("exec", "-d", "-t", name, "true", status=255, match="--console-socket")
    oci.fails("exec", "-d", "--console-socket", world.path("s"), name, "true", status=255, match="--console-socket")
    oci.fails("exec", "-d", "-t", "--console-socket", world.path("none"), name, "sleep", "1000", status=255, match="--console-socket")
    directory, _ = cgroup_dir(state(oci, name)["pid"], "pids")
    wait_for(lambda: len(read_text(directory + "/cgroup.procs").split()) == 1)


@pytest.mark.parametrize("verb", ["exec", "create", "run"])
def test_pidfd_socket(oci, bundle, running, world, verb):
    server, path = listener(world)
    if verb == "exec":
        oci.ok("exec", "-d", "--pidfd-socket", path, "--pid-file", world.path("pid"), running(), "sleep", "1000")
    else:
        more = ["-d"] if verb == "run" else []
        oci.ok(verb, *more, "--pidfd-socket", path, "--pid-file", world.path("pid"), "--bundle", bundle(["sleep", "1000"]).dir, world.name())
    pidfd = take_descriptor(server)
    assert re.search(r"^Pid:\s+%s$" % read_text(world.path("pid")), read_text("/proc/self/fdinfo/%d" % pidfd), re.M)
    os.close(pidfd)


LIST_FDS = "for f in /proc/self/fd/*; do n=${f##*/}; [ $n -gt 2 ] && echo $n $(readlink $f); done | grep -v '^[0-9]* *$' | grep -v /proc/"


@pytest.mark.parametrize("verb", ["exec", "run"])
def test_preserved_descriptors(oci, bundle, running, world, verb):
    end, other = os.pipe()

    def three_and_five():
        os.dup2(other, 3)
        os.dup2(other, 5)
    words = ["exec", "--preserve-fds=1", running()] if verb == "exec" else \
        ["run", "--preserve-fds", "1", "--bundle", bundle(["sh", "-c", "echo through >&3; " + LIST_FDS]).dir, world.name()]
    command = ["sh", "-c", "echo through >&3; " + LIST_FDS] if verb == "exec" else []
    out = oci.ok(*words, *command, close_fds=False, preexec_fn=three_and_five)
    os.close(other)
    assert os.read(end, 100) == b"through\n"
    os.close(end)
    assert [line.split()[0] for line in out.splitlines()] == ["3"], out


@pytest.mark.parametrize("verb", ["exec", "run"])
def test_preserved_descriptors_that_are_closed(oci, bundle, running, world, verb):
    """The number may be larger than what there is, and have gaps in it; none of the runtime's own takes their place."""
    end, other = os.pipe()

    def only_five():
        os.dup2(other, 5)
        os.closerange(3, 5)
        os.closerange(6, 64)
    words = ["exec", "--preserve-fds=100", running(), "sh", "-c", LIST_FDS] if verb == "exec" else \
        ["run", "--preserve-fds", "100", "--bundle", bundle(["sh", "-c", LIST_FDS]).dir, world.name()]
    out = oci.ok(*words, close_fds=False, preexec_fn=only_five)
    assert [line.split()[0] for line in out.splitlines()] == ["5"], out
    os.close(end)
    os.close(other)


def test_listen_fds(oci, bundle, world):
    """Only those that are for us; the program sees them as its own (sd_listen_fds(3))."""
    end, other = os.pipe()
    script = 'exec 4>&-; echo "$LISTEN_FDS $LISTEN_PID"; echo x >&3'
    b = bundle(["sh", "-c", script])
    for pid, wanted in (("$$", "1 1"), ("1", "")):
        before = ["sh", "-c", "export LISTEN_PID=%s; exec \"$@\"" % pid, "sh"]

        def three():
            os.dup2(other, 3)
        result = oci("run", "--bundle", b.dir, world.name(), env={"LISTEN_FDS": "1"}, before=before, close_fds=False, preexec_fn=three)
        assert result.out.strip() == wanted, result
    os.close(other)
    assert os.read(end, 100) == b"x\n"
    os.close(end)


# The foreground.

@pytest.fixture
def terminal(world):
    yield from terminals(world, world.oci)


def foreground(verb, running, bundle, world, script, tty):
    if verb == "exec":
        return ["exec"] + (["-t"] if tty else []) + [running(), "sh", "-c", script]
    return ["run", "--bundle", bundle(["sh", "-c", script], terminal=tty).dir, world.name()]


@pytest.mark.parametrize("verb", ["exec", "run"])
def test_signals_are_passed_on(oci, running, bundle, world, verb):
    script = "trap 'echo usr1' USR1; trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    process = oci.start(*foreground(verb, running, bundle, world, script, False))
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == b"usr1\n"
    process.send_signal(signal.SIGWINCH)  # no terminal: passed on too, and ignored there
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 9


def test_a_program_that_dies_of_a_signal_passed_on(oci, running):
    process = oci.start("exec", running(), "sh", "-c", "echo ready; exec sleep 1000")
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130


@pytest.mark.parametrize("verb", ["exec", "run"])
def test_a_terminal_in_the_foreground(terminal, running, bundle, world, verb):
    script = ("probe terminals; busybox stty size; trap 'busybox stty size' WINCH; echo ready; "
              "while :; do read -t 1 x && break; done; echo got $x; exit 5")
    t = terminal(*foreground(verb, running, bundle, world, script, True), columns=81, lines=25)
    t.expect(b"ready")
    assert b"25 81" in t.text and b"no tty" not in t.text
    t.resize(99, 33)
    t.process.send_signal(signal.SIGWINCH)
    t.expect(b"33 99")
    t.type("hello\r")
    t.expect(b"got hello")
    assert t.end() == 5
    import termios
    assert termios.tcgetattr(t.slave) == t.before
    assert b"\r\n" in t.text and b"\r\r\n" not in t.text


def test_control_keys_reach_the_program(terminal, running):
    t = terminal("exec", "-t", running(), "sh", "-c", "trap 'echo int; exit 4' INT; echo ready; while :; do sleep 0.1; done")
    t.expect(b"ready")
    t.type("\x03")
    assert t.end() == 4 and b"int" in t.text


def test_a_terminal_whose_output_goes_into_a_pipe(oci, running):
    """Line ends stay as they are; all of it arrives though the program ends at once."""
    name = running()
    assert oci("exec", "-t", name, "sh", "-c", "test -t 1 && echo tty; echo two").out == "tty\ntwo\n"
    out = oci("exec", "-t", name, "sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done").out
    assert out.splitlines() == ["line %d" % n for n in range(20000)]


def test_a_terminal_that_is_filled_from_both_sides(oci, running):
    """Neither side waits for the other for ever."""
    name = running()
    data = "".join("line %d\n" % n for n in range(20000))
    process = oci.start("exec", "-t", name, "sh", "-c", "busybox stty -echo; echo ready; head -n 20000", stdin=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    out, _ = process.communicate(data.encode(), timeout=120)
    assert out.decode() == data and process.returncode == 0


def test_output_that_nobody_reads(oci, running):
    """The program goes on, and its status is told."""
    process = oci.start("exec", "-t", running(), "sh", "-c", "i=0; while [ $i -lt 5000 ]; do echo $i; i=$((i+1)); done; exit 3")
    process.stdout.close()
    assert process.wait(60) == 3


def test_other_commands_while_a_program_runs(oci, running):
    name = running()
    process = oci.start("exec", name, "sleep", "1000")
    directory, _ = cgroup_dir(state(oci, name)["pid"], "pids")
    # In the group it is before it is the program.
    wait_for(lambda: [read_text("/proc/%s/comm" % pid, "") for pid in read_text(directory + "/cgroup.procs").split()] == ["sleep\n"] * 2)
    assert state(oci, name)["status"] == "running" and oci.ok("exec", name, "echo", "x") == "x"
    oci.ok("kill", name, "KILL")
    assert process.wait(60) == 137


# Namespaces and control groups.

IDS = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def with_user_namespace(config):
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = IDS


@pytest.fixture
def reachable(world):
    os.chmod(world.base, 0o755)


def test_a_user_namespace(oci, running, world, reachable):
    name = running(with_user_namespace)
    script = "id -u; id -g; cat /proc/self/uid_map; touch /tmp/x; stat -c %u /tmp/x; grep -E 'CapEff|Groups' /proc/self/status"
    out = oci.ok("exec", name, "sh", "-c", script).split("\n")
    init = status_of(state(oci, name)["pid"])
    assert out[:2] == ["0", "0"] and out[2].split() == ["0", "100000", "65536"] and out[3] == "0"
    assert sorted(line.split()[1:] for line in out[4:]) == sorted([[], [init["CapEff"]]])
    assert oci.ok("exec", "-u", "1000:1000", name, "id", "-u") == "1000"
    # The terminal belongs to the user inside.
    assert oci.ok("exec", "-t", "-u", "1000:1000", name, "sh", "-c", "stat -c %u $(busybox tty)") == "1000"
    assert oci.fails("exec", "-u", "70000", name, "true", status=255, match="process.user.uid")


def test_a_user_namespace_that_was_joined(oci, running, world, reachable):
    """As in a pod: the second container gets the first one's namespaces by path."""
    pid = state(oci, running(with_user_namespace))["pid"]

    def join(config):
        for space in config["linux"]["namespaces"]:
            if space["type"] in ("network", "ipc", "uts"):
                space["path"] = "/proc/%d/ns/%s" % (pid, {"network": "net"}.get(space["type"], space["type"]))
        config["linux"]["namespaces"].append({"type": "user", "path": "/proc/%d/ns/user" % pid})
        config.pop("hostname")
    second = running(join)
    assert os.readlink("/proc/%d/ns/user" % state(oci, second)["pid"]) == os.readlink("/proc/%d/ns/user" % pid)
    assert oci.ok("exec", second, "sh", "-c", "id -u; cat /proc/self/uid_map").split() == ["0", "0", "100000", "65536"]
    assert status_of(state(oci, second)["pid"])["Uid"].split() == ["100000"] * 4


def test_a_shared_process_namespace(oci, running):
    def share(config):
        config["linux"]["namespaces"] = [one for one in config["linux"]["namespaces"] if one["type"] != "pid"]
    name = running(share)
    assert oci.ok("exec", name, "readlink", "/proc/self/ns/pid") == os.readlink("/proc/self/ns/pid")
    process = oci.start("exec", name, "sleep", "1000")
    directory, _ = cgroup_dir(state(oci, name)["pid"], "pids")

    def both_run():
        pids = read_text(directory + "/cgroup.procs").split()
        return len(pids) == 2 and all(read_text("/proc/%s/comm" % pid, "").strip() == "sleep" for pid in pids)
    wait_for(both_run)
    oci.ok("delete", "--force", name)
    assert process.wait(60) == 137


def test_a_process_namespace_that_was_joined(oci, running):
    first = running()
    pid = state(oci, first)["pid"]

    def join(config):
        for space in config["linux"]["namespaces"]:
            if space["type"] == "pid":
                space["path"] = "/proc/%d/ns/pid" % pid
    second = running(join)
    assert oci.ok("exec", second, "readlink", "/proc/self/ns/pid") == os.readlink("/proc/%d/ns/pid" % pid)


def test_a_time_namespace(oci, running):
    def offset(config):
        config["linux"]["namespaces"].append({"type": "time"})
        config["linux"]["timeOffsets"] = {"boottime": {"secs": 7000000, "nanosecs": 0}}
    name = running(offset)
    assert oci.ok("exec", name, "readlink", "/proc/self/ns/time") == os.readlink("/proc/%d/ns/time" % state(oci, name)["pid"])
    assert float(oci.ok("exec", name, "cat", "/proc/uptime").split()[0]) > 7000000


V2 = ["unshare", "-m", "--propagation", "private", "sh", "-c",
      "umount -R /sys/fs/cgroup 2>/dev/null; mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"", "sh"]


@pytest.fixture
def paused_v2(oci, bundle, world):
    """A paused container of a host with nothing but cgroup v2, and its group."""
    top = unified_top()
    b, name, group = bundle(["sleep", "1000"]), world.name(), "/skink-test-%s" % world.id
    b.config["linux"]["cgroupsPath"] = group
    b.save()
    with open(os.devnull, "wb") as sink:
        assert oci("run", "-d", "--bundle", b.dir, name, before=V2, stdout=sink, stderr=sink).status == 0
    oci.ok("pause", name, before=V2)
    assert json.loads(oci.ok("state", name, before=V2))["status"] == "paused"
    assert read_text(top + group + "/cgroup.freeze") == "1\n"
    yield name, top + group
    oci("delete", "--force", name, before=V2)


def waiting(oci, group, *words):
    """An exec that is in the group and waits; as with runc it is as frozen as all the others there."""
    process = oci.start("exec", "--ignore-paused", *words, before=V2)
    wait_for(lambda: len(read_text(group + "/cgroup.procs").split()) == 2)
    assert process.poll() is None
    return process


def test_a_paused_container_of_cgroup_v2(oci, paused_v2):
    name, group = paused_v2
    oci.fails("exec", name, "true", before=V2, status=255, match="cannot exec in a paused container")
    process = waiting(oci, group, name, "sh", "-c", "cat /proc/self/cgroup; exit 7")
    # Nothing of it holds anybody up.
    assert json.loads(oci.ok("state", name, before=V2))["status"] == "paused"
    oci.ok("resume", name, before=V2)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 7 and out.endswith(b"0::/\n") and err == b""


def test_a_detached_exec_in_a_paused_container_of_cgroup_v2(oci, world, paused_v2):
    name, group = paused_v2
    pid_file = world.path("pid")
    process = waiting(oci, group, "--detach", "--pid-file", pid_file, name, "sleep", "1000")
    assert not os.path.exists(pid_file)
    oci.ok("resume", name, before=V2)
    assert process.wait(timeout=60) == 0
    assert read_text("/proc/%s/comm" % read_text(pid_file)) == "sleep\n"


def test_an_exec_that_waits_ends_with_the_container(oci, paused_v2):
    name, group = paused_v2
    process = waiting(oci, group, name, "true")
    assert oci("delete", "--force", name, before=V2).status == 0
    out, err = process.communicate(timeout=60)
    assert process.returncode == 255 and out == b"" and len(err.splitlines()) == 1


def test_an_exec_that_waits_can_be_killed(oci, world, paused_v2):
    """What it has begun does not run when the container goes on."""
    name, group = paused_v2
    process = waiting(oci, group, name, "touch", "/tmp/ran")
    children = [int(pid) for pid in read_text(group + "/cgroup.procs").split()]
    # The program itself, not the shell before it.
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    oci.ok("resume", name, before=V2)
    wait_for(lambda: len(read_text(group + "/cgroup.procs").split()) == 1)
    assert sum(alive(pid) for pid in children) == 1
    oci.fails("exec", name, "cat", "/tmp/ran", before=V2)


def test_init_in_a_group_below_its_own(oci, bundle, world):
    """cgroup v2: what systemd and nested engines do. Nobody may join a group that gives controllers to groups below."""
    top = unified_top()
    controllers = [one for one in read_text(top + "/cgroup.controllers").split() if one not in ("cpu", "cpuset", "pids", "perf_event")]
    if not controllers:
        pytest.skip("no domain controller in the unified hierarchy")
    b, name, group = bundle(["sleep", "1000"]), world.name(), "/skink-test-%s" % world.id
    b.config["linux"]["cgroupsPath"] = group
    b.config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw", "nosuid", "nodev", "noexec"]})
    b.save()
    with open(os.devnull, "wb") as sink:
        assert oci("run", "-d", "--bundle", b.dir, name, before=V2, stdout=sink, stderr=sink).status == 0

    def run(*words):
        return oci.ok("exec", *words, before=V2)
    assert run(name, "sh", "-c", "mkdir /sys/fs/cgroup/foo && echo 1 >/sys/fs/cgroup/foo/cgroup.procs; cat /proc/1/cgroup").endswith("0::/foo")
    # Still open to processes, so that is where one is put.
    assert run(name, "cat", "/proc/self/cgroup").endswith("0::/")
    run(name, "sh", "-c", "echo $$ >/sys/fs/cgroup/foo/cgroup.procs; echo +%s >/sys/fs/cgroup/cgroup.subtree_control" % controllers[0])
    assert run(name, "cat", "/proc/self/cgroup").endswith("0::/foo")
    assert run("--cgroup", "foo", name, "cat", "/proc/self/cgroup").endswith("0::/foo")
    oci.fails("exec", "--cgroup", "/", name, "true", before=V2, status=255, match="busy")
    run(name, "mkdir", "/sys/fs/cgroup/second")
    assert run("--cgroup", "/second", name, "cat", "/proc/self/cgroup").endswith("0::/second")
    oci.fails("exec", "--cgroup", "..", name, "true", before=V2, status=255, match="bad sub cgroup path")
    oci.fails("exec", "--cgroup", "none", name, "true", before=V2, status=255, match="adding pid to cgroup.*no such file")
    assert oci("delete", "--force", name, before=V2).status == 0


def test_groups_of_single_controllers(oci, running, world):
    name = running()
    pid = state(oci, name)["pid"]
    memory, version = cgroup_dir(pid, "memory")
    pids, other = cgroup_dir(pid, "pids")
    if (version, other) != (1, 1):
        pytest.skip("not cgroup v1")
    os.mkdir(memory + "/submem")
    os.mkdir(pids + "/subpid")
    out = oci.ok("exec", "--cgroup", "memory:submem", "--cgroup", "pids:/subpid", name, "sleep", "0")
    process = oci.start("exec", "--cgroup", "memory:submem", "--cgroup", "pids:/subpid", name, "sleep", "1000")
    wait_for(lambda: read_text(memory + "/submem/cgroup.procs").split())
    wait_for(lambda: read_text(pids + "/subpid/cgroup.procs").split())
    assert out == "" and process.poll() is None
    for words, text in ((["whaaat:/"], "unknown controller"), (["nonexistent"], "adding pid to cgroup.*no such file"), ([".."], "bad sub cgroup path"),
                        (["memory:../x"], "bad sub cgroup path"), (["a", "b"], "controller"), ([",memory:x"], "empty")):
        options = [one for word in words for one in ("--cgroup", word)]
        oci.fails("exec", *options, name, "true", status=255, match=text)
    oci.ok("exec", "--cgroup", "/", name, "true")
    oci.ok("delete", "--force", name)
    assert process.wait(60) == 137


def test_f29_a_group_that_was_removed_and_an_init_that_was_moved(oci, running, world):
    """exec follows init to where somebody moved it, and does not run without groups."""
    name = running()
    pid = state(oci, name)["pid"]
    directory, version = cgroup_dir(pid, "memory")
    if version != 1:
        pytest.skip("not cgroup v1")
    elsewhere = os.path.join(os.path.dirname(directory), "skink-test-moved-" + world.id)
    os.mkdir(elsewhere)
    with open(elsewhere + "/cgroup.procs", "w") as procs:
        procs.write(str(pid))
    os.rmdir(directory)
    lines = [line for line in oci.ok("exec", name, "sleep", "0").splitlines()]
    process = oci.start("exec", name, "sleep", "1000")
    wait_for(lambda: [read_text("/proc/%s/comm" % one, "") for one in read_text(elsewhere + "/cgroup.procs").split()] == ["sleep\n"] * 2)
    assert lines == []
    oci.ok("delete", "--force", name)
    assert process.wait(60) == 137
    wait_for(lambda: not read_text(elsewhere + "/cgroup.procs").split())
    os.rmdir(elsewhere)


# CPUs.

def cpus():
    text = re.search(r"Cpus_allowed_list:\s+(\S+)", read_text("/proc/self/status")).group(1)
    found = []
    for piece in text.split(","):
        first, _, last = piece.partition("-")
        found += range(int(first), int(last or first) + 1)
    if len(found) < 2:
        pytest.skip("one CPU")
    return found


ALLOWED = ["grep", "-F", "Cpus_allowed_list:", "/proc/self/status"]


def allowed(out):
    return re.search(r"Cpus_allowed_list:\s+(\S+)", out).group(1)


def test_cpus_of_a_document(oci, running, world):
    first, second = cpus()[:2]
    name = running()

    def run(**affinity):
        return allowed(oci.ok("exec", "--process", document(world, args=ALLOWED, cwd="/", execCPUAffinity=affinity), name))
    assert run(initial=str(first), final=str(second)) == str(second)
    assert run(final=str(first)) == str(first)
    # Nothing changes it after the initial one; what stays is the kernel's.
    assert run(initial=str(second)) == str(second)
    for affinity, path in (({"initial": "4000"}, "execCPUAffinity.initial"), ({"final": "4000"}, "execCPUAffinity.final"), ({"final": "x"}, "execCPUAffinity.final")):
        oci.fails("exec", "--process", document(world, args=["true"], cwd="/", execCPUAffinity=affinity), name, status=255, match=path)


def test_cpus_of_the_configuration(oci, running):
    """They are for exec, not for the container's init (config.md)."""
    first, second = cpus()[:2]
    name = running(lambda config: config["process"].update(execCPUAffinity={"initial": str(first), "final": str(second)}))
    assert allowed(oci.ok("exec", name, *ALLOWED)) == str(second)
    assert allowed(read_text("/proc/%d/status" % state(oci, name)["pid"])) == allowed(read_text("/proc/self/status"))


def test_cpus_are_not_those_of_the_caller(oci, running, bundle, world):
    one = str(cpus()[0])
    name = running()
    everything = allowed(read_text("/proc/self/status"))
    assert allowed(oci.ok("exec", name, *ALLOWED, before=["taskset", "-c", one])) == everything
    assert allowed(oci.ok("run", "--bundle", bundle(ALLOWED).dir, world.name(), before=["taskset", "-c", one])) == everything

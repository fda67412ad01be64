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
from skinktest import alive, cgroup_dir, read_text, wait_for
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

# SPDX-License-Identifier: Apache-2.0
"""skink-oci: TERM, INT, HUP and QUIT end create, run and exec wherever they wait, and what they had made is taken back; what
one that was killed has left is for delete --force."""

import json
import os
import signal
import socket
import stat
import subprocess

import pytest
from skinktest import alive, listdir, read_text, wait_for

SIGNALS = ["TERM", "INT", "HUP", "QUIT"]


def hanging_hook(b, world, kind, inside=False):
    """A hook that tells by a file that it runs, and never ends; the file."""
    mark = world.path("mark-" + kind)
    script = "echo $$ > %s.new && mv %s.new %s; exec sleep 1000" % (mark, mark, mark)
    b.config["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]}
    b.save()
    return mark


def ended_by(process, number):
    process.send_signal(getattr(signal, "SIG" + number))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + getattr(signal, "SIG" + number), (process.returncode, err)
    return (err or b"").decode()


def begin(oci, *args, **more):
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(oci.command(*args), **{**streams, **more})


def nothing_left(oci, world):
    assert oci.ok("list", "-q") == ""
    assert world.leaks(20) == []


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.vm
@pytest.mark.vm_more
def test_a_create_whose_hook_hangs(oci, bundle, world, number):
    b = bundle(["true"])
    mark = hanging_hook(b, world, "createRuntime")
    process = begin(oci, "create", "--bundle", b.dir, world.name())
    hook = int(wait_for(lambda: read_text(mark, "")))
    err = ended_by(process, number)
    assert "ended by signal" in err and number in err and "hooks.createRuntime[0]" in err
    wait_for(lambda: not alive(hook))
    nothing_left(oci, world)


@pytest.mark.parametrize("kind", ["prestart", "createContainer", "poststart"])
@pytest.mark.parametrize("keep", [False, True])
def test_a_run_in_the_foreground_whose_hook_hangs(oci, bundle, world, kind, keep):
    """No signal is held back for a program that does not run yet."""
    b = bundle(["sleep", "1000"])
    mark = hanging_hook(b, world, kind)
    name = world.name()
    process = begin(oci, "run", *(["--keep"] if keep else []), "--bundle", b.dir, name)
    wait_for(lambda: read_text(mark, ""))
    ended_by(process, "TERM")
    if keep and kind == "poststart":
        oci.ok("delete", "--force", name)
    nothing_left(oci, world)


def test_a_start_container_hook_that_hangs(oci, bundle, world):
    b = bundle(["true"])
    b.config["hooks"] = {"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "echo > /tmp/mark; exec sleep 1000"], "env": ["PATH=/bin"]}]}
    b.config["mounts"] = [m for m in b.config["mounts"] if m["destination"] != "/tmp"]
    b.config["root"]["readonly"] = False
    b.save()
    process = begin(oci, "run", "--bundle", b.dir, world.name())
    wait_for(lambda: os.path.exists(b.rootfs + "/tmp/mark"))
    ended_by(process, "INT")
    nothing_left(oci, world)


def test_a_console_socket_that_nobody_answers(oci, bundle, world):
    b = bundle(["true"], terminal=True)
    path = world.path("console")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        full = [socket.socket(socket.AF_UNIX) for _ in range(4)]
        for one in full:
            one.setblocking(False)
            try:
                one.connect(path)
            except BlockingIOError:
                pass
        process = begin(oci, "create", "--console-socket", path, "--bundle", b.dir, world.name())
        # In connect(2), which waits for room in the queue.
        wait_for(lambda: "unix_wait_for_peer" in (read_text("/proc/%d/wchan" % process.pid) or "") or
                 (read_text("/proc/%d/syscall" % process.pid) or "").startswith("42 "))
        err = ended_by(process, "TERM")
        assert "--console-socket" in err
        for one in full:
            one.close()
    nothing_left(oci, world)


def test_a_namespace_that_is_a_fifo(oci, bundle, world):
    b = bundle(["true"])
    fifo = world.path("fifo")
    os.mkfifo(fifo)
    [n for n in b.config["linux"]["namespaces"] if n["type"] == "ipc"][0]["path"] = fifo
    b.save()
    process = begin(oci, "create", "--bundle", b.dir, world.name())
    wait_for(lambda: "wait_for_partner" in (read_text("/proc/%d/wchan" % process.pid) or "") or
             (read_text("/proc/%d/syscall" % process.pid) or "").startswith("257 "))
    assert "ipc" in ended_by(process, "TERM")
    assert stat.S_ISFIFO(os.stat(fifo).st_mode)
    nothing_left(oci, world)


@pytest.mark.vm
@pytest.mark.vm_more
def test_what_a_caller_ignores_stays_ignored(oci, bundle, world):
    """nohup(1)."""
    b = bundle(["true"])
    mark = hanging_hook(b, world, "createRuntime")
    process = begin(oci, "create", "--bundle", b.dir, world.name(), preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_for(lambda: read_text(mark, ""))
    process.send_signal(signal.SIGHUP)
    assert int(read_text("/proc/%d/status" % process.pid).split("SigIgn:")[1].split()[0], 16) & 1
    ended_by(process, "TERM")
    nothing_left(oci, world)


def frozen_target(oci, bundle, world):
    name = world.name()
    oci.ok("run", "--detach", "--bundle", bundle(["sleep", "1000"]).dir, name)
    oci.ok("pause", name)
    return name


@pytest.mark.parametrize("options", [[], ["--detach"]])
def test_an_exec_that_waits_in_a_paused_container(oci, bundle, world, options):
    name = frozen_target(oci, bundle, world)
    pid = json.loads(oci.ok("state", name))["pid"]
    # What is frozen keeps its end of a pipe until it is let go.
    process = begin(oci, "exec", "--ignore-paused", *options, name, "true", stderr=subprocess.DEVNULL)
    children = "/proc/%d/task/%d/children" % (process.pid, process.pid)
    wait_for(lambda: read_text(children, ""))
    ended_by(process, "TERM")
    oci.ok("resume", name)
    wait_for(lambda: [int(p) for p in json.loads(oci.ok("ps", "--format", "json", name))] == [pid])
    oci.ok("delete", "--force", name)


@pytest.mark.vm
@pytest.mark.vm_more
def test_a_signal_for_the_program_reaches_it(oci, bundle, world):
    """Once it runs."""
    b = bundle(["sh", "-c", "trap 'exit 9' TERM; echo > /tmp/mark; while :; do sleep 0.05; done"])
    b.config["mounts"] = [m for m in b.config["mounts"] if m["destination"] != "/tmp"]
    b.config["root"]["readonly"] = False
    b.save()
    process = begin(oci, "run", "--bundle", b.dir, world.name())
    wait_for(lambda: os.path.exists(b.rootfs + "/tmp/mark"))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 9
    nothing_left(oci, world)


@pytest.mark.vm
@pytest.mark.vm_more
def test_what_a_create_that_was_killed_has_left(oci, bundle, world):
    b = bundle(["true"])
    mark = hanging_hook(b, world, "createRuntime")
    name = world.name()
    process = begin(oci, "create", "--bundle", b.dir, name)
    hook = int(wait_for(lambda: read_text(mark, "")))
    process.kill()
    process.communicate(timeout=60)
    assert listdir(world.path("oci")) != []
    oci.ok("delete", "--force", name)
    os.kill(hook, signal.SIGKILL)  # of a killed runtime nobody is left to end it
    nothing_left(oci, world)

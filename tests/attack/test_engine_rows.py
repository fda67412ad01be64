# SPDX-License-Identifier: Apache-2.0
"""Rows of the attack table that skink-oci has tests of elsewhere, for skink, its guards and its supervisors."""

import os
import signal
import time

import pytest
from skinktest import alive, kill_quietly, read, read_text, starttime, wait_for
from test_oci_state import change_owner, open_to_all, open_to_group

# A36: directories that others can write


@pytest.mark.parametrize("change", [change_owner, open_to_all, open_to_group])
@pytest.mark.parametrize("what", ["store", "run"])
def test_a36_directories_that_somebody_else_can_write(sk, world, canary, what, change):
    """Nothing is done with them, and what runs runs on."""
    name = sk.running("--restart", "always")
    pid = sk.pid(name)
    path = {"store": world.store, "run": world.run_dir}[what]
    before = os.stat(path)
    change(path)
    try:
        for command in (["ps"], ["logs", name], ["stop", name], ["start", name], ["exec", name, "true"], ["rm", "-f", name], ["heal"],
                        ["run", "--rm", "busybox", "true"], ["images"]):
            sk.fails(*command, match=r"chown|chmod")
        assert alive(pid)
    finally:
        os.chown(path, before.st_uid, before.st_gid)
        os.chmod(path, before.st_mode)
    assert sk.pid(name) == pid and sk.state(name) == "running"


# A55: the caller's secrets

def keepers(sk, name):
    row = sk.inspect(name)
    return row["guard_pid"], row["supervisor_pid"]


def lines_of(pid):
    return [read("/proc/%d/%s" % (pid, file)) for file in ("environ", "cmdline")]


@pytest.mark.vm
@pytest.mark.vm_more
def test_a55_the_callers_environment_stays_with_the_caller(sk, world):
    """Neither who keeps a container, first ones and successors, nor what runs in it has a word of it."""
    secret = "tok-" + world.id
    name = world.name()
    sk.ok("run", "-d", "--name", name, "--restart", "always", "-v", world.base + ":/out", "busybox", "sh", "-c",
          "while :; do cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline >>/out/seen 2>/dev/null; sleep 0.02; done", env={"SECRET": secret})
    for victim in (None, 0, 1, None):
        if victim is not None:
            before = keepers(sk, name)
            kill_quietly(before[victim])
            wait_for(lambda: 0 not in keepers(sk, name) and keepers(sk, name)[1] != before[1])
        for pid in keepers(sk, name):
            environ, command = lines_of(pid)
            assert environ in (b"", b"GLIBC_TUNABLES=glibc.malloc.tcache_count=0\0"), environ
            assert secret.encode() not in command and world.id.encode() not in environ
        assert "SECRET" not in sk.ok("exec", name, "env", env={"SECRET": secret})
        sk.ok("restart", "-t", "0", name, env={"SECRET": secret})
    wait_for(lambda: read_text(world.path("seen")))
    assert secret not in read_text(world.path("seen"))


# F34: hooks of a bundle that hang, flood and leave something behind

def hook(script):
    return [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]


@pytest.mark.full
def test_f34_a_hook_that_hangs_can_be_ended(bare, bundle, world):
    b = bundle(["sleep", "1000"])
    b.config["hooks"] = {"createRuntime": hook("echo $$ >%s/hook; exec sleep 86397" % world.base)}
    b.save()
    name = world.name()
    client = bare.start("run", "-d", "--name", name, "--restart", "always", "--bundle", b.dir)
    pid = int(wait_for(lambda: read_text(world.path("hook"), "")))
    bare.ok("rm", "-f", name)
    client.communicate(timeout=60)
    assert client.returncode != 0
    wait_for(lambda: not alive(pid), message="the hook lives on")
    assert bare.ps() == []


@pytest.fixture
def hung(bare, bundle, world):
    """(name, hook) of a container whose relaunch hangs in a hook."""
    b = bundle(["sleep", "1000"])
    b.config["hooks"] = {"createRuntime": hook("[ -e {0}/ran ] || {{ touch {0}/ran; exit 0; }}; echo $$ >{0}/hook; exec sleep 86397".format(world.base))}
    b.save()
    name = bare.ok("run", "-d", "--restart", "always", "--bundle", b.dir)
    os.kill(bare.pid(name), signal.SIGKILL)
    return name, int(wait_for(lambda: read_text(world.path("hook"), "")))


@pytest.mark.full
@pytest.mark.parametrize("verb", ["stop", "kill"])
def test_f34_a_relaunch_that_hangs_ends_with_a_stop(bare, hung, verb):
    name, pid = hung
    bare.ok(verb, name)
    assert bare.state(name) == "exited"
    wait_for(lambda: not alive(pid), message="the hook lives on")
    assert bare.inspect(name)["restarts"] == 1


@pytest.mark.full
def test_f34_a_relaunch_that_hangs_does_not_keep_the_lock(bare, hung):
    """update waits for an answer with it, and rm -f is the way out of everything."""
    name, pid = hung
    update = bare.start("update", "--restart", "no", name)
    wait_for(lambda: any(one.split()[1] == "FLOCK" and one.split()[4] == str(update.pid) for one in read_text("/proc/locks").splitlines()))
    bare.ok("rm", "-f", name)
    out, err = update.communicate(timeout=60)
    assert update.returncode == 1 and b"a hook or a mount has held that up" in err and err.count(b"\n") == 1, err
    wait_for(lambda: not alive(pid), message="the hook lives on")


@pytest.mark.parametrize("kind", ["createRuntime", "poststart"])
def test_f34_a_hook_that_floods_us(bare, bundle, world, kind):
    """What it prints is neither kept nor waited for: the supervisor stays as small as it is."""
    b = bundle(["sleep", "1000"])
    b.config["hooks"] = {kind: hook("i=0; while [ $i -lt 64 ]; do head -c 1048576 /dev/zero | tr '\\0' x; i=$((i+1)); done")}
    b.save()
    name = bare.ok("run", "-d", "--restart", "always", "--bundle", b.dir)
    bare.wait_state(name, "running")
    size = int(read_text("/proc/%d/status" % bare.inspect(name)["supervisor_pid"]).split("VmHWM:")[1].split()[0])
    assert size < 32 << 10, "%d KiB" % size


def test_f34_a_hook_that_leaves_something_behind(bare, bundle, world):
    """It holds the pipe of what it printed: nobody waits for that, in no run."""
    b = bundle(["true"])
    b.config["hooks"] = {"poststart": hook("(trap '' HUP; echo $$ >>%s/left; exec sleep 86396) & echo mine" % world.base)}
    b.save()
    name = bare.ok("run", "-d", "--restart", "on-failure:1", "--bundle", b.dir)
    bare.wait_state(name, "exited")
    for line in os.listdir("/proc"):
        if line.isdigit() and b"86396" in read("/proc/%s/cmdline" % line, b""):
            os.kill(int(line), signal.SIGKILL)


# F35: who is attached and does not read, is gone, or stops

@pytest.mark.vm
@pytest.mark.vm_more
def test_f35_an_attached_client_that_does_not_read(sk):
    """The program writes on at its pace, the supervisor keeps nothing for the client, and others are served."""
    name = sk.running("--restart", "no", "--log-opt", "max-size=1m", command=["sh", "-c", "while :; do head -c 65536 /dev/zero | tr '\\0' x; echo; echo x >>/tmp/n; done"])
    peers = [sk.start("attach", name) for _ in range(3)]
    time.sleep(0.5)
    peers[0].send_signal(signal.SIGSTOP)  # nobody reads the pipe of the second; the third is gone
    peers[2].kill()
    peers[2].wait()
    count = lambda: int(sk.ok("exec", name, "sh", "-c", "wc -l </tmp/n"))
    before = count()
    wait_for(lambda: count() > before + 100, message="the program is held up")
    supervisor = sk.inspect(name)["supervisor_pid"]
    size = int(read_text("/proc/%d/status" % supervisor).split("VmHWM:")[1].split()[0])
    assert size < 32 << 10, "%d KiB" % size
    assert sk.state(name) == "running"
    sk.ok("stop", "-t", "0", name)
    for peer in peers[:2]:
        peer.send_signal(signal.SIGCONT)
        peer.kill()
        peer.communicate(timeout=60)


def test_f35_a_terminal_whose_peer_stops(sk, world):
    """A program that fills its terminal while nobody reads is not held up, and the container can be stopped."""
    name = sk.running("-t", "--restart", "no", command=["sh", "-c", "i=0; while :; do i=$((i+1)); echo line $i; done"])
    peer = sk.start("attach", name)
    peer.send_signal(signal.SIGSTOP)
    first = len(sk.ok("logs", "--tail", "1", name))
    wait_for(lambda: int(sk.ok("logs", "--tail", "2", name).split()[1]) > 5000 and first >= 0)
    born = starttime(sk.pid(name))
    assert born
    sk.ok("stop", "-t", "0", name)
    peer.send_signal(signal.SIGCONT)
    peer.kill()
    peer.communicate(timeout=60)

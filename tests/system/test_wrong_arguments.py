# SPDX-License-Identifier: Apache-2.0
"""Every command with wrong arguments: one line that names what is wrong, and nothing left behind."""

import pytest

VERBS = ["run", "create", "start", "attach", "stop", "kill", "restart", "pause", "unpause", "rm", "ps", "logs", "wait", "exec", "inspect",
         "stats", "top", "metrics", "update", "why", "events", "doctor", "heal", "load", "images", "tag", "rmi", "version", "info"]

TABLE = [
    (["fly"], "fly"),
    ([], "verb"),
    (["--root"], "root"),
    (["--no-such-option", "ps"], "no-such-option"),
    (["run"], "image"),
    (["run", ""], ""),
    (["run", "--name"], "name"),
    (["run", "--memory", "busybox"], "memory"),
    (["run", "-e", "=x", "busybox", "true"], "="),
    (["run", "--env-file", "/no/such/file", "busybox", "true"], "/no/such/file"),
    (["run", "--name", "a/b", "busybox", "true"], "a/b"),
    (["run", "--name", "-x", "busybox", "true"], "-x"),
    (["run", "--name", ".", "busybox", "true"], "name"),
    (["run", "--name", "x" * 300, "busybox", "true"], "name"),
    (["run", "--name", "a\nb", "busybox", "true"], "name"),
    (["run", "--network", "wat", "busybox", "true"], "wat"),
    (["run", "--pid", "wat", "busybox", "true"], "wat"),
    (["run", "--ipc", "wat", "busybox", "true"], "wat"),
    (["run", "--uts", "wat", "busybox", "true"], "wat"),
    (["run", "--platform", "wat", "busybox", "true"], "wat"),
    (["run", "--platform", "a/b/c/d", "busybox", "true"], "a/b/c/d"),
    (["run", "--tmpfs", "relative", "busybox", "true"], "relative"),
    (["run", "--tmpfs", "/x:size=lots", "busybox", "true"], "lots"),
    (["run", "--ulimit", "nofile", "busybox", "true"], "nofile"),
    (["run", "--ulimit", "nofile=x", "busybox", "true"], "nofile"),
    (["run", "--sysctl", "nothing", "busybox", "true"], "nothing"),
    (["run", "--add-host", "nothing", "busybox", "true"], "nothing"),
    (["run", "--add-host", "a:nowhere", "busybox", "true"], "nowhere"),
    (["run", "--dns", "nowhere", "busybox", "true"], "nowhere"),
    (["run", "--hostname", "bad name", "busybox", "true"], "bad name"),
    (["run", "--hostname", "x" * 70, "busybox", "true"], "host"),
    (["run", "--device", "relative", "busybox", "true"], "relative"),
    (["run", "--device", "/etc/passwd", "busybox", "true"], "passwd"),
    (["run", "--cap-add", "", "busybox", "true"], "cap"),
    (["run", "--cap-drop", "SYS_NOTHING", "busybox", "true"], "SYS_NOTHING"),
    (["run", "--stop-timeout", "soon", "busybox", "true"], "soon"),
    (["run", "--stop-signal", "0", "busybox", "true"], "signal"),
    (["run", "--restart", "maybe", "busybox", "true"], "maybe"),
    (["run", "--label", "", "busybox", "true"], "label"),
    (["run", "--bundle", "/no/such/dir"], "/no/such/dir"),
    (["run", "--bundle", "/tmp", "busybox", "true"], "bundle"),
    (["run", "--rm=perhaps", "busybox", "true"], "perhaps"),
    (["run", "UPPER", "true"], "UPPER"),
    (["run", "a b", "true"], "a b"),
    (["run", "../../etc/passwd", "true"], "passwd"),
    (["run", "busybox:" + "t" * 200, "true"], "t"),
    (["create"], "image"),
    (["exec"], "container"),
    (["exec", "x"], ""),
    (["tag", "busybox"], ""),
    (["tag", "busybox", "a", "b"], ""),
    (["tag", "busybox", "a:b:c:d"], "a:b:c:d"),
    (["rmi"], "image"),
    (["load"], ""),
    (["logs", "a", "b"], ""),
    (["ps", "extra"], "extra"),
    (["ps", "--format", "{{"], "format"),
    (["stop", "-t", "x", "y"], "x"),
    (["kill", "-s", "", "x"], ""),
    (["wait"], "container"),
    (["inspect"], ""),
    (["stats", "--interval", "1ms"], "1ms"),
    (["stats", "--interval", "soon"], "soon"),
    (["stats", "--format", "{{"], "format"),
    (["stats", "nobody"], "nobody"),
    (["top"], "container"),
    (["top", "nobody"], "nobody"),
    (["top", "nobody", "-o", "pid,shoe"], "shoe"),
    (["top", "nobody", "-o", ""], "column"),
    (["top", "nobody", "--sort", "size"], "size"),
    (["top", "nobody", "--forest"], "forest"),
    (["top", "nobody", "Hp"], "Hp"),
    (["metrics", "nobody"], "nobody"),
    (["metrics", "--output", "/no/such/dir/x.prom"], "/no/such/dir"),
    (["metrics", "--output", "/tmp/"], "/tmp/"),
    (["metrics", "--http", "--output", "x"], "http"),
]


@pytest.mark.parametrize("args,match", TABLE, ids=[" ".join(args)[:40].replace("\n", "?") for args, _ in TABLE])
def test_wrong_arguments(sk, world, args, match):
    import re
    if args[:1] == ["load"]:
        result = sk(*args)  # nothing on standard input
        assert result.status > 0 and len(result.err.strip().splitlines()) == 1
        return
    sk.fails(*args, match=re.escape(match) if match else None,
             status=125 if args[:1] and args[0] in ("run", "create") else None)
    assert sk.ps() == []
    assert world.leaks(2) == []


@pytest.mark.parametrize("verb", VERBS)
def test_an_unknown_option_is_named(sk, verb):
    sk.fails(verb, "--surely-not", match="surely-not")
    sk.fails(verb, "-Z", match="Z")


@pytest.mark.parametrize("verb", ["start", "stop", "kill", "restart", "pause", "unpause", "update", "why", "rm", "wait"])
def test_operands_are_missed(sk, verb):
    sk.fails(verb)


def test_a_store_that_cannot_be(world):
    sk = world.skink
    world.write("file", "x")
    sk.options[:] = ["--root", world.path("file"), "--run", world.path("run")]
    sk.fails("ps", match="file")
    sk.options[:] = ["--root", "/proc/nothing", "--run", world.path("run")]
    sk.fails("ps", match="/proc/nothing")
    sk.options[:] = ["--root", world.store, "--run", world.run_dir]

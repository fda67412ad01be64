# SPDX-License-Identifier: Apache-2.0
"""ps: what is shown and in which forms."""

import json
import re

from skinktest import busybox_image


def test_table(sk):
    name = sk.running("--label", "a=b")
    lines = sk.ok("ps").splitlines()
    assert re.match(r"CONTAINER ID +NAME.* +IMAGE +COMMAND +CREATED +STATUS +RESTARTS", lines[0])
    assert name in lines[1] and "busybox" in lines[1] and "Up " in lines[1]


def test_all_shows_the_others_too(sk, world):
    up, made, ended = sk.running(), world.name(), world.name()
    sk.ok("create", "--name", made, "busybox", "true")
    sk("run", "--name", ended, "busybox", "sh", "-c", "exit 4")
    text = sk.ok("ps")
    assert up in text and made not in text and ended not in text
    text = sk.ok("ps", "-a")
    assert all(name in text for name in (up, made, ended)) and "Exited (4)" in text and "Created" in text


def test_quiet(sk):
    sk.running(), sk.running()
    short = sk.ok("ps", "-q").split()
    assert [len(one) for one in short] == [12, 12]
    whole = sk.ok("ps", "-q", "--no-trunc").split()
    assert [one[:12] for one in whole] == short and all(len(one) == 64 for one in whole)


def test_json_has_the_documented_fields(sk):
    name = sk.running("--restart", "on-failure:3", "--label", "k=v")
    row = sk.ps()[0]
    assert row["name"] == name and row["state"] == "running" and row["pid"] > 1 and row["restarts"] == 0
    assert row["labels"] == {"k": "v"} and row["command"] == ["sleep", "1000"] and row["image"].startswith("busybox")
    for field in ("id", "image_id", "status", "created", "started", "finished", "next_try", "exit", "restart", "problem"):
        assert field in row, field
    assert json.loads(sk.ok("inspect", "--format", "json", name))


def test_the_json_of_no_containers(bare):
    assert bare.ok("ps", "--format", "json") in ("[]", "")
    assert bare.ok("ps", "-q") == ""
    assert bare.ok("ps").count("\n") == 0


def test_templates(sk):
    name = sk.running("--label", "k=v")
    assert sk.ok("ps", "--format", "{{.Names}}|{{.Image}}|{{.State}}").startswith(name + "|busybox")
    assert sk.ok("ps", "--format", "{{.name}}") == name
    assert sk.ok("ps", "--format", "{{json .Names}}") == json.dumps(name)
    assert "\t" in sk.ok("ps", "--format", "{{.ID}}\\t{{.Names}}")
    assert sk.ok("ps", "--format", "table {{.Names}}").splitlines()[1] == name
    sk.fails("ps", "--format", "{{.Nothing}}", match="Nothing")
    sk.fails("ps", "--format", "{{.Names", match="format")


def test_filters(sk, world):
    one, two = sk.running("--label", "x=1", name=world.name("alpha")), sk.running("--label", "x=2", name=world.name("beta"))
    ended = world.name("gamma")
    sk("run", "--name", ended, "busybox", "sh", "-c", "exit 4")

    def names(*filters):
        args = [arg for one in filters for arg in ("--filter", one)]
        return set(sk.ok("ps", "-a", "--format", "{{.Names}}", *args).split())
    assert names("name=alpha") == {one}
    assert names("label=x") == {one, two} and names("label=x=2") == {two}
    assert names("status=exited") == {ended} and names("status=running", "name=beta") == {two}
    assert names("exited=4") == {ended} and names("exited=5") == set()
    assert names("ancestor=busybox") == {one, two, ended}
    sk.fails("ps", "--filter", "nonsense=1", match="nonsense")
    sk.fails("ps", "--filter", "status=flying", match="flying")
    sk.fails("ps", "--filter", "plain", match="plain")


def test_newest_first(sk):
    names = [sk.running() for _ in range(3)]
    assert sk.ok("ps", "--format", "{{.Names}}").split() == names[::-1]


def test_signal_death_and_reason(sk, world):
    name = world.name()
    sk("run", "--init", "--name", name, "busybox", "sh", "-c", "kill -SEGV $$")
    assert "Exited (139)" in sk.ok("ps", "-a")


def test_inspect_shows_specification_and_templates(sk):
    name = sk.running("-e", "SEEN=1")
    document = sk.inspect(name)
    assert document["pid"] == sk.row(name)["pid"] and "SEEN=1" in json.dumps(document)
    assert sk.ok("inspect", "--format", "{{.State.Pid}}", name) == str(document["pid"])
    assert sk.ok("inspect", name)


def test_inspect_of_a_stopped_container_has_pid_0(sk, world):
    name = world.name()
    sk("run", "--name", name, "busybox", "true")
    assert sk.inspect(name)["pid"] == 0


def test_stores_do_not_meet(sk, world):
    name = sk.running()
    other = sk.command("ps", "-aq")
    other[other.index("--root") + 1] = world.path("store2")
    other[other.index("--run") + 1] = world.path("run2")
    import subprocess
    assert subprocess.run(other, capture_output=True, env=world.environment()).stdout == b""
    sk.load(busybox_image("more"))
    assert sk.state(name) == "running"

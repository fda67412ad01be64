# SPDX-License-Identifier: Apache-2.0
"""stats: what containers use, held against the kernel's own files."""

import json
import os
import re
import signal

import pytest
from skinktest import cgroup_value, read_text, unified_top, wait_for
from terminal import Terminal

BURN = ("sh", "-c", "while :; do :; done")
# The shell keeps 20 MiB in a variable.
HOLD = ("sh", "-c", "x=$(head -c 20971520 /dev/zero | tr '\\0' x); echo ready; sleep 1000; echo $x")
HEADING = ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "ANON / FILE / KERNEL", "NET I/O", "BLOCK I/O", "PIDS",
           "PSI CPU / MEM / IO"]
MIB = 1 << 20


def once(sk, *args):
    """`stats --no-stream --format json`: the objects by name."""
    return {one["name"]: one for one in json.loads(sk.ok("stats", "--no-stream", "--format", "json", *args))}


def table(text):
    """The rows as dictionaries."""
    lines = text.strip("\n").split("\n")
    assert re.split(r" {3,}", lines[0]) == HEADING
    return [dict(zip(HEADING, re.split(r" {3,}", line))) for line in lines[1:]]


def stop(process, number=signal.SIGINT):
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.vm
def test_a_busy_container_is_told_from_an_idle_one(sk):
    busy, idle = sk.running(command=BURN), sk.running()
    # On a machine that others use too it has less than a processor, but never next to nothing.
    rows = wait_for(lambda: (lambda rows: rows[busy]["cpu"]["percent"] > 5 and rows)(once(sk)))
    assert rows[idle]["cpu"]["percent"] < rows[busy]["cpu"]["percent"]
    used = rows[busy]["cpu"]["usage_ns"]
    later = once(sk, busy)[busy]["cpu"]
    assert later["usage_ns"] > used and later["user_ns"] > later["kernel_ns"]


@pytest.mark.vm_more
@pytest.mark.vm
def test_memory_is_told_by_kind(sk):
    name = sk.running("-m", "100m", "--tmpfs", "/data", command=HOLD)
    wait_for(lambda: "ready" in sk.ok("logs", name))
    memory = once(sk, name)[name]["memory"]
    assert memory["anon"] >= 20 * MIB and memory["limit"] == 100 * MIB and memory["kernel"] > 0
    assert memory["anon"] <= memory["used"] <= memory["usage"] <= memory["limit"]
    assert abs(memory["percent"] - 100 * memory["used"] / memory["limit"]) < 0.01
    files = memory["file"]
    sk.ok("exec", name, "dd", "if=/dev/zero", "of=/data/x", "bs=1M", "count=10")
    memory = once(sk, name)[name]["memory"]
    assert memory["file"] - files >= 9 * MIB
    usage = int(cgroup_value(sk.pid(name), "memory", "memory.usage_in_bytes", "memory.current"))
    assert abs(memory["usage"] - usage) < 4 * MIB
    row = table(sk.ok("stats", "--no-stream", name))[0]
    assert row["MEM USAGE / LIMIT"].endswith(" / 100 MiB") and row["MEM %"].endswith("%")
    assert row["ANON / FILE / KERNEL"].count(" / ") == 2


def test_without_limits(sk):
    name = sk.running("--pids-limit", "-1")
    one = once(sk, name)[name]
    assert "limit" not in one["memory"] and "limit" not in one["pids"] and one["pids"]["current"] == 1
    row = table(sk.ok("stats", "--no-stream"))[0]
    total = int(re.search(r"MemTotal: +(\d+) kB", read_text("/proc/meminfo")).group(1)) * 1024
    size, unit = re.search(r" / ([\d.]+) (\w+)$", row["MEM USAGE / LIMIT"]).groups()
    assert abs(float(size) * 1024 ** ["bytes", "KiB", "MiB", "GiB", "TiB"].index(unit) - total) < total / 100
    assert row["PIDS"] == "1"


def test_pids_and_their_limit(sk):
    name = sk.running("--pids-limit", "30", command=("sh", "-c", "sleep 1000 & sleep 1000 & wait"))
    wait_for(lambda: once(sk, name)[name]["pids"] == {"current": 3, "limit": 30})
    assert table(sk.ok("stats", "--no-stream", name))[0]["PIDS"] == "3 / 30"


def test_network_of_its_own_and_of_the_host(sk):
    own, host = sk.running(), sk.running("--network", "host")
    rows = once(sk)
    # Loopback, which is all it has, is no traffic with others.
    assert rows[own]["network"] == {"received_bytes": 0, "received_packets": 0, "sent_bytes": 0, "sent_packets": 0}
    assert "network" not in rows[host]
    shown = {row["NAME"]: row["NET I/O"] for row in table(sk.ok("stats", "--no-stream"))}
    assert shown == {own: "0B / 0B", host: "--"}


def test_pressure(sk):
    unified = unified_top()
    if not os.path.exists("/proc/pressure/cpu"):
        pytest.skip("this kernel does not tell of pressure")
    name = sk.running()
    pressure = once(sk, name)[name]["pressure"]
    assert set(pressure) == {"cpu", "memory", "io"} and os.path.isdir(unified)
    for kind in ("some", "full"):
        assert set(pressure["memory"][kind]) == {"avg10", "avg60", "avg300", "total_ns"}
    assert re.fullmatch(r"\d+\.\d\d / \d+\.\d\d / \d+\.\d\d", table(sk.ok("stats", "--no-stream"))[0]["PSI CPU / MEM / IO"])


def test_without_the_unified_hierarchy_there_is_no_pressure(sk):
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        pytest.skip("cgroup v2 is all there is")
    hide = ["unshare", "--mount", "sh", "-c", 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"', "sh"]
    name = sk.running()
    one = json.loads(sk.ok("stats", "--no-stream", "--format", "json", name, before=hide))[0]
    assert "pressure" not in one and one["memory"]["usage"] > 0 and one["cpu"]["usage_ns"] > 0
    assert table(sk.ok("stats", "--no-stream", name, before=hide))[0]["PSI CPU / MEM / IO"] == "--"


def kernel_written(pid):
    """The first of these files that has counts, as BFQ counts apart from the layer that throttles."""
    for v1 in ("blkio.bfq.io_service_bytes_recursive", "blkio.throttle.io_service_bytes_recursive"):
        try:
            text = cgroup_value(pid, "blkio" if os.path.isdir("/sys/fs/cgroup/blkio") else "io", v1, "io.stat")
        except OSError:
            continue
        counts = re.findall(r"(?: Write |wbytes=)(\d+)", text)
        if counts:
            return sum(map(int, counts))
    return 0


def test_block_io_is_the_kernels(sk, world):
    """Whom a write is charged to is between kernel and file system; what is charged has to be shown."""
    os.mkdir(world.path("disk"))
    name = sk.running("-v", world.path("disk") + ":/disk")
    sk.ok("exec", name, "dd", "if=/dev/zero", "of=/disk/x", "bs=1M", "count=4", "conv=fsync")
    before = kernel_written(sk.pid(name))
    one = once(sk, name)[name]["block_io"]
    assert before <= one["written_bytes"] <= kernel_written(sk.pid(name))
    # The other way round a disk that was told to write its cache back counts too.
    assert one["writes"] > 0 or one["written_bytes"] == 0
    assert table(sk.ok("stats", "--no-stream", name))[0]["BLOCK I/O"].count("B") == 2


def test_all_has_those_that_do_not_run_as_well(sk, world):
    up, made, ended = sk.running(), world.name(), world.name()
    sk.ok("create", "--name", made, "busybox", "true")
    sk("run", "--name", ended, "busybox", "true")
    assert set(once(sk)) == {up}
    rows = {row["NAME"]: row for row in table(sk.ok("stats", "--no-stream", "-a"))}
    assert set(rows) == {up, made, ended}
    for name in (made, ended):
        assert all(value == "--" for key, value in rows[name].items() if key not in ("CONTAINER ID", "NAME"))
    assert once(sk, ended) == {ended: {"id": sk.inspect(ended)["id"], "name": ended, "state": "exited"}}


def test_a_record_that_names_other_groups_is_not_followed(sk, world):
    """Attack A36 for a reader: what stands in RUN is checked, not believed."""
    name, other = sk.running(), sk.running(command=BURN)
    ids = [sk.inspect(one)["id"] for one in (name, other)]
    record = os.path.join(world.run_dir, "containers", ids[0], "cgroup.json")
    text = read_text(record)
    for wrong in (text.replace(ids[0], ids[1]), re.sub(r"^/[^\t]*", "/", text, flags=re.M), "nonsense"):
        world.write("wrong", wrong)
        os.replace(world.path("wrong"), record)
        try:
            assert once(sk, name) == {name: {"id": ids[0], "name": name, "state": "running"}}
            sk.fails("top", name, status=1, match=name)
            assert sk("metrics", name).status == 0
        finally:
            world.write("right", text)
            os.replace(world.path("right"), record)
    assert once(sk, name)[name]["pids"]["current"] == 1


def test_of_no_containers(bare):
    assert bare.ok("stats", "--no-stream", "--format", "json") == "[]"
    assert table(bare.ok("stats", "--no-stream")) == []
    assert bare.ok("stats", "--no-stream", "--format", "{{.Name}}") == ""


def test_a_container_that_is_paused(sk):
    name = sk.running()
    sk.ok("pause", name)
    one = once(sk)[name]
    assert one["state"] == "paused" and one["pids"]["current"] == 1


def test_a_container_that_does_not_exist(sk):
    name = sk.running()
    sk.fails("stats", "nobody", status=1, match="nobody")
    sk.fails("stats", name, "nobody", status=1, match="nobody")  # and does not go on for ever
    result = sk.fails("stats", "--no-stream", name, "nobody", status=1, match="nobody")
    assert name in result.out


def test_templates(sk):
    name = sk.running("-m", "64m")
    lines = sk.ok("stats", "--no-stream", "--format", "{{.Name}}|{{.CPUPerc}}|{{.MemUsage}}|{{.NetIO}}|{{.PIDs}}")
    assert re.fullmatch(re.escape(name) + r"\|[\d.]+%\|[\d.]+ \w+ / 64 MiB\|0B / 0B\|1 / \d+", lines)
    assert sk.ok("stats", "--no-stream", "--format", "{{.memory.limit}}") == str(64 * MIB)
    # What a container has not is no mistake in a template.
    other = sk.running()
    assert sk.ok("stats", "--no-stream", "--format", "{{.memory.limit}}", other) == "<no value>"
    sk.fails("stats", "--no-stream", "--format", "{{.nothing}}", match="nothing")
    ident = sk.inspect(name)["id"]
    assert sk.ok("stats", "--no-stream", "--no-trunc", "--format", "{{.ID}}", name) == ident
    assert sk.ok("stats", "--no-stream", "--format", "{{.ID}}", name) == ident[:12]


def test_a_pipe_gets_table_after_table_until_interrupted(sk):
    name = sk.running()
    process = sk.start("stats", "--interval", "100ms")
    for _ in range(3):
        assert re.split(rb" {3,}", process.stdout.readline().rstrip())[1] == b"NAME"
        assert name.encode() in process.stdout.readline()
    status, out, err = stop(process)
    assert status == 130 and err == b"" and b"\x1b" not in out


def test_json_again_and_again(sk):
    name = sk.running()
    process = sk.start("stats", "--interval", "100ms", "--format", "json", name)
    seen = [json.loads(process.stdout.readline()) for _ in range(3)]
    assert [one[0]["name"] for one in seen] == [name] * 3
    assert all("percent" in one[0]["cpu"] for one in seen)
    assert stop(process)[0] == 130


def test_an_ignored_interrupt_stays_ignored(sk):
    """As a shell starts what it runs in the background."""
    sk.running()
    process = sk.start("stats", "--interval", "100ms", before=["sh", "-c", 'trap "" INT; exec "$@"', "sh"])
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    for _ in range(6):
        assert process.stdout.readline()
    assert stop(process, signal.SIGTERM)[0] == -signal.SIGTERM


def test_a_reader_that_goes_away_ends_it_quietly(sk):
    sk.running()
    process = sk.start("stats", "--interval", "1h")
    assert process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    assert process.wait(timeout=60) == 0 and process.stderr.read() == b""


def test_a_container_that_ends_meanwhile(sk):
    stays, goes = sk.running(), sk.running()
    process = sk.start("stats", "--interval", "100ms", "--format", "{{.Name}} {{.PIDs}}", text=True)
    named = sk.start("stats", "--interval", "100ms", "--format", "{{.Name}} {{.PIDs}}", goes, text=True)
    assert {process.stdout.readline().split()[0] for _ in range(2)} == {stays, goes}
    assert named.stdout.readline().startswith(goes + " 1")
    sk.ok("stop", "-t", "0", goes)

    def next_is(stream, line):
        return lambda: stream.readline() == line
    # By its name it stays, without numbers; else it is gone: two lines of the other one in a row.
    wait_for(next_is(named.stdout, goes + " --\n"), step=0)
    wait_for(lambda: [process.stdout.readline().split()[0] for _ in range(2)] == [stays] * 2, step=0)
    # Removed, it leaves nothing to be shown.
    sk.ok("rm", goes)
    named.stdout.read()
    assert named.wait(timeout=60) == 0 and named.stderr.read() == ""
    assert stop(process)[0] == 130


def test_a_terminal_is_drawn_anew(sk, world):
    name = sk.running()
    terminal = Terminal(world, sk.command("stats", "--interval", "100ms"), columns=250)
    wait_for(lambda: terminal.read().count(b"\x1b[H") >= 3, step=0)
    assert terminal.text.startswith(b"\x1b[2J\x1b[HCONTAINER ID") and terminal.text.count(b"\x1b[2J") == 1
    assert name.encode() in terminal.text and b"\x1b[K" in terminal.text and b"\x1b[J" in terminal.text
    os.write(terminal.master, b"\x03")
    assert wait_for(lambda: (terminal.read(), terminal.process.poll())[1] is not None) and terminal.process.returncode == 130


def test_json_and_single_tables_are_not_drawn(sk, world):
    sk.running()
    for args in (("--no-stream",), ("--no-stream", "--format", "json")):
        terminal = Terminal(world, sk.command("stats", *args), columns=250)
        wait_for(lambda: (terminal.read(), terminal.process.poll())[1] is not None)
        assert terminal.process.returncode == 0 and b"\x1b" not in terminal.read()

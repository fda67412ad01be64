# SPDX-License-Identifier: Apache-2.0
"""metrics: OpenMetrics text, read by a strict reader of our own, and what it says held against the kernel."""

import os
import re
import stat
import threading

import pytest
from skinktest import cgroup_value, read, read_text, unified_top, wait_for

NAME = r"[a-zA-Z_][a-zA-Z0-9_]*"
NUMBER = r"(?:0|[1-9]\d*)(?:\.\d*[1-9])?"
STATES = {"created", "running", "paused", "restarting", "exited", "unknown", "corrupt"}
ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


class Family:
    def __init__(self):
        self.said, self.samples = {}, {}


def labels_of(text):
    """Of name="value",...; every backslash begins an escape that the format has."""
    found, rest = {}, text
    while rest:
        match = re.match(r'(%s)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(,(?=.)|$)' % NAME, rest)
        assert match, "labels: %r" % rest
        assert match[1] not in found, "twice: %s" % match[1]
        found[match[1]] = re.sub(r"\\.", lambda escape: ESCAPES[escape[0]], match[2])
        rest = rest[match.end():]
    return found


def take_comment(families, line, current):
    kind, name, *rest = line[2:].split(" ", 2)
    assert kind in ("TYPE", "UNIT", "HELP") and re.fullmatch(NAME, name) and rest and rest[0], line
    if name != current:
        assert name not in families, "in two pieces: %s" % name
        families[name] = Family()
    family = families[name]
    assert kind not in family.said and not family.samples, line
    family.said[kind] = rest[0]
    if kind == "TYPE":
        # The types that node_exporter's textfile collector knows.
        assert rest[0] in ("counter", "gauge"), line
    if kind == "UNIT":
        assert name.endswith("_" + rest[0]), line
    return name


def take_sample(family, name, line):
    match = re.fullmatch(r"(%s)(?:\{(.+)\})? (%s)" % (NAME, NUMBER), line)
    assert match, "no sample: %r" % line
    is_counter = family.said["TYPE"] == "counter"
    assert match[1] == (name + "_total" if is_counter else name), line
    assert is_counter or not name.endswith(("_total", "_created", "_count", "_sum", "_bucket")), line
    key = frozenset(labels_of(match[2] or "").items())
    assert key not in family.samples, "twice: %s" % line
    family.samples[key] = float(match[3])


def parse(raw):
    """Families of an exposition: what OpenMetrics 1.0 demands of the text, and not a byte more."""
    text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
    lines = text.split("\n")
    assert lines[-2:] == ["# EOF", ""] and "# EOF" not in lines[:-2]
    families, current = {}, None
    for line in lines[:-2]:
        assert line and line == line.strip() and "\r" not in line, repr(line)
        if line.startswith("# "):
            current = take_comment(families, line, current)
        else:
            assert current is not None, line
            take_sample(families[current], current, line)
    for name, family in families.items():
        assert {"TYPE", "HELP"} <= set(family.said) and family.samples, name
        assert not name.endswith("_total")
    # What a suffix would make of one family's name is not the name of another.
    assert not {name + "_total" for name in families} & set(families)
    return families


def metrics(sk, *args):
    return parse(sk("metrics", *args).raw_out)


def value(families, family, **labels):
    """The value of the one sample with these labels among its own; None when there is none."""
    found = [number for key, number in families[family].samples.items() if set(labels.items()) <= key] if family in families else []
    assert len(found) <= 1, found
    return found[0] if found else None


def labels_with(families, family, **labels):
    return [dict(key) for key in families[family].samples if set(labels.items()) <= key]


def test_of_no_containers(bare):
    families = metrics(bare)
    assert set(families) == {"skink_build_info", "skink_containers"}
    assert {dict(key)["state"] for key in families["skink_containers"].samples} == STATES


@pytest.mark.vm
@pytest.mark.vm_more
def test_containers_in_every_state(sk, world):
    up, made, ended = sk.running("--restart", "always"), world.name(), world.name()
    paused = sk.running()
    sk.ok("pause", paused)
    sk.ok("create", "--name", made, "busybox", "true")
    sk("run", "--name", ended, "busybox", "sh", "-c", "exit 4")
    os.kill(sk.pid(up), 9)
    wait_for(lambda: sk.row(up)["restarts"] == 1 and sk.state(up) == "running")

    families = metrics(sk)

    state = {up: "running", paused: "paused", made: "created", ended: "exited"}
    for name, one in state.items():
        info, = labels_with(families, "skink_container_info", name=name)
        assert info == {"id": sk.inspect(name)["id"], "name": name, "image": "busybox", "state": one}
        for other in STATES:
            assert value(families, "skink_container_state", name=name, state=other) == (other == one)
        assert value(families, "skink_container_running", name=name) == (one in ("running", "paused"))
        assert (value(families, "skink_container_memory_usage_bytes", name=name) is None) == (one in ("created", "exited"))
        created = value(families, "skink_container_created_timestamp_seconds", name=name)
        assert abs(created - os.stat(world.base).st_mtime) < 3600
    assert value(families, "skink_containers", state="running") == 1 and value(families, "skink_containers", state="unknown") == 0
    assert value(families, "skink_container_restarts", name=up) == 1
    assert value(families, "skink_container_last_exit_code", name=up) == 137
    assert value(families, "skink_container_last_exit_code", name=ended) == 4
    assert value(families, "skink_container_last_exit_code", name=made) is None
    assert value(families, "skink_container_started_timestamp_seconds", name=made) is None


def test_numbers_are_the_kernels(sk):
    name = sk.running("-m", "64m", "--pids-limit", "30", "--cpus", "0.05", command=("sh", "-c", "while :; do :; done"))
    pid = sk.pid(name)
    wait_for(lambda: (value(metrics(sk), "skink_container_cpu_throttled_periods", name=name) or 0) > 2)
    before = int(cgroup_value(pid, "cpuacct", "cpuacct.usage", "cpu.stat")) / 1e9 if os.path.isdir("/sys/fs/cgroup/cpuacct") else \
        int(re.search(r"usage_usec (\d+)", cgroup_value(pid, "cpu", "", "cpu.stat"))[1]) / 1e6
    families = metrics(sk, name)
    assert value(families, "skink_container_cpu_usage_seconds", name=name) >= before > 0
    assert value(families, "skink_container_cpu_throttled_seconds", name=name) > 0
    assert value(families, "skink_container_cpu_periods") >= value(families, "skink_container_cpu_throttled_periods")
    assert value(families, "skink_container_memory_limit_bytes", name=name) == 64 << 20
    assert value(families, "skink_container_pids_limit", name=name) == 30 and value(families, "skink_container_pids", name=name) == 1
    usage = value(families, "skink_container_memory_usage_bytes", name=name)
    assert usage >= value(families, "skink_container_memory_used_bytes") >= value(families, "skink_container_memory_anon_bytes") > 0
    for part in ("file", "kernel"):
        assert value(families, "skink_container_memory_%s_bytes" % part, name=name) is not None


def test_without_limits_there_are_no_series_of_them(sk):
    name = sk.running("--pids-limit", "-1")
    families = metrics(sk)
    assert value(families, "skink_container_pids", name=name) == 1
    assert value(families, "skink_container_pids_limit", name=name) is None
    assert value(families, "skink_container_memory_limit_bytes", name=name) is None


def test_the_oom_killer_is_counted(sk):
    name = sk.running("-m", "30m", "--memory-swap", "30m", "--init")
    sk("exec", name, "probe", "memory", str(200 << 20))
    wait_for(lambda: value(metrics(sk), "skink_container_oom_kills", name=name) == 1)


def test_traffic_by_interface(sk):
    own, host = sk.running(), sk.running("--network", "host")
    sk.ok("exec", own, "sh", "-c", "nc 127.0.0.1 1234 < /dev/null; true")
    families = metrics(sk)
    received = value(families, "skink_container_network_receive_bytes", name=own, interface="lo")
    fields = re.search(r"lo: *(\d+) +(\d+)", read_text("/proc/%d/net/dev" % sk.pid(own)))
    assert received == int(fields[1]) > 0
    assert value(families, "skink_container_network_transmit_packets", name=own, interface="lo") == int(fields[2])
    for way in ("receive", "transmit"):
        for what in ("bytes", "packets", "errors", "drops"):
            assert {key["name"] for key in labels_with(families, "skink_container_network_%s_%s" % (way, what))} == {own}, host


def test_pressure(sk):
    unified_top()
    if not os.path.exists("/proc/pressure/cpu"):
        pytest.skip("this kernel does not tell of pressure")
    name = sk.running()
    families = metrics(sk)
    for resource in ("cpu", "memory", "io"):
        for kind in ("waiting", "stalled"):
            assert value(families, "skink_container_pressure_%s_seconds" % kind, name=name, resource=resource) >= 0


def test_labels_are_escaped(bare, bundle, world):
    """The image of a bundle is its directory, which may be called anything."""
    b = bundle(["sleep", "1000"])
    place = b.dir + '-a "b" \\n c\\\n{d="e",} \u00fc \x1b[2J'
    os.rename(b.dir, place)
    name = world.name("a.b+c")
    bare.ok("run", "-d", "--name", name, "--bundle", place)
    result = bare("metrics")
    info, = labels_with(parse(result.raw_out), "skink_container_info", name=name)
    assert info["image"] == place.replace("\x1b", "\\x1b"), info
    assert b"\x1b" not in result.raw_out
    os.rename(place, b.dir)


def test_those_named_alone(sk):
    one, two = sk.running(), sk.running()
    families = metrics(sk, one, sk.inspect(one)["id"])  # twice the same: each series is there once
    assert [key["name"] for key in labels_with(families, "skink_container_info")] == [one] and "skink_containers" not in families
    result = sk.fails("metrics", two, "nobody", status=1, match="nobody")
    assert [key["name"] for key in labels_with(parse(result.raw_out), "skink_container_info")] == [two]


def test_a_damaged_container_is_told(sk):
    name = sk.running()
    record = os.path.join(sk.world.store, "containers", sk.inspect(name)["id"], "container.json")
    text = read(record)
    with open(record, "wb") as file:
        file.write(text[:40])
    try:
        assert value(metrics(sk), "skink_containers", state="corrupt") == 1
    finally:
        with open(record, "wb") as file:
            file.write(text)


def test_output_replaces_a_file_whole(sk, world):
    name = sk.running()
    os.mkdir(world.path("collected"))
    path = world.path("collected/skink.prom")
    sk.ok("metrics", "--output", path, before=["sh", "-c", 'umask 077; exec "$@"', "sh"])
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o644
    assert labels_with(parse(read(path)), "skink_container_info", name=name)
    over, problems = threading.Event(), []

    def collect():
        while not over.is_set():
            try:
                parse(read(path))
                assert all(one == "skink.prom" or one.endswith(".tmp") for one in os.listdir(world.path("collected")))
            except Exception as problem:  # noqa: BLE001
                problems.append(problem)
    reader = threading.Thread(target=collect)
    reader.start()
    for _ in range(30):
        sk.ok("metrics", "-o", path)
    over.set()
    reader.join()
    assert problems == [] and os.listdir(world.path("collected")) == ["skink.prom"]


def test_output_that_cannot_be(sk, world):
    sk.running()
    os.mkdir(world.path("dir"))
    sk.fails("metrics", "--output", world.path("none/x.prom"), status=1, match="none")
    sk.fails("metrics", "--output", world.path("dir"), status=1, match="dir")
    assert os.listdir(world.path("dir")) == [] and not [one for one in os.listdir(world.base) if one.endswith(".tmp")]
    result = sk("metrics", stdout=open("/dev/full", "wb"))
    assert result.status == 1 and "No space left" in result.err


def test_a_relative_file(sk, world):
    sk.ok("metrics", "--output", "here.prom", cwd=world.base)
    parse(read(world.path("here.prom")))


def test_a_scrape_over_http(sk):
    """What a socket unit with Accept=yes makes of it: the connection is standard input and output."""
    name = sk.running()
    result = sk("metrics", "--http", input="GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n")
    head, _, body = result.raw_out.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert b"Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8" in lines
    assert b"Content-Length: %d" % len(body) in lines
    assert labels_with(parse(body), "skink_container_info", name=name)
    assert sk("metrics", "--http", input="POST / HTTP/1.1\r\n\r\n").out.startswith("HTTP/1.1 405 ")
    assert sk("metrics", "--http", input="").out.startswith("HTTP/1.1 405 ")


def test_a_reader_that_goes_away_is_no_failure(sk):
    sk.running()
    process = sk.start("metrics", before=["sh", "-c", '"$@" | true; exit 0', "sh"])
    assert process.wait(timeout=60) == 0 and process.stderr.read() == b""

# SPDX-License-Identifier: Apache-2.0
"""Probes: what a container is asked, over its own network and by processes in it, and what comes of the answers."""

import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest
from skinktest import SLOWER, alive, busybox_image, kill_quietly, read_text, sanitized, wait_for

# guard/protocol.h: how a process ended, here one that nobody asks for.
RECORD = struct.pack("iiiiqq", 1, 1, 0, 0x736b6e6b, 1, 1)
HTTPD = "mkdir -p /tmp/www; echo fine >/tmp/www/ok; exec httpd -f -p 127.0.0.1:8080 -h /tmp/www"


def health(sk, name):
    return sk.inspect(name)["health"]


def actions(sk, name, action):
    lines = sk.ok("events", "--until", "0s", "--filter", "container=" + name, "--format", "json").splitlines()
    return [one["attributes"] for one in map(json.loads, lines) if one["action"] == action]


def served(sk, name):
    wait_for(lambda: sk("exec", name, "sh", "-c", "cat /proc/net/tcp | grep -q 1F90").status == 0)


def test_http_in_the_containers_own_network(sk):
    """Nobody on the host hears on the port, and no process is started in the container."""
    name = sk.running("--liveness", "http://:8080/ok,interval=100ms", "--restart", "no", command=["sh", "-c", HTTPD])
    wait_for(lambda: health(sk, name) == "healthy")
    assert "(healthy)" in sk.row(name)["status"] and "HTTP 200" in sk.inspect(name)["probe_texts"]
    assert actions(sk, name, "health_status") == [{"health": "healthy"}] and actions(sk, name, "exec_start") == []
    document = sk.inspect(name)["probes"]["liveness"]
    assert document["probe"] == "http://127.0.0.1:8080/ok" and document["interval_ns"] == 100_000_000
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", 8080), 1)


def test_a_bad_status_ends_and_relaunches(sk):
    name = sk.running("--liveness", "http://:8080/ok,interval=50ms,failures=2", "--restart", "always", "--restart-delay", "1ms", "--stop-timeout", "0",
                      command=["sh", "-c", HTTPD])
    wait_for(lambda: health(sk, name) == "healthy")
    first = sk.pid(name)
    sk.ok("exec", name, "rm", "/tmp/www/ok")
    wait_for(lambda: sk.pid(name) not in (0, first))
    wait_for(lambda: health(sk, name) == "healthy")
    exit_ = sk.history(name)[-1]["exit"]
    assert exit_["cause"].startswith("its liveness probe (http://127.0.0.1:8080/ok) failed 2 times in a row") and "HTTP 404" in exit_["cause"], exit_
    assert "its liveness probe" in sk.ok("why", name)


def test_one_that_ends_well_when_a_probe_ends_it_is_a_failure_still(sk):
    name = sk.running("--liveness", "exec:test ! -e /tmp/bad,interval=50ms,failures=1", "--restart", "on-failure", "--restart-delay", "1ms",
                      command=["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"])
    wait_for(lambda: health(sk, name) == "healthy")
    first = sk.pid(name)
    sk.ok("exec", name, "touch", "/tmp/bad")
    wait_for(lambda: sk.pid(name) not in (0, first))
    run = sk.history(name)[-1]
    assert run["exit"]["status"] == 0 and run["outcome"] == "relaunched at once"


def test_with_policy_no_it_is_only_told(sk):
    name = sk.running("--liveness", "tcp://:9,interval=50ms,failures=2", "--restart", "no")
    wait_for(lambda: health(sk, name) == "unhealthy")
    first = sk.pid(name)
    assert "(unhealthy)" in sk.row(name)["status"] and "Connection refused" in sk.inspect(name)["probe_texts"] and first > 0


def test_tcp_and_readiness(sk):
    name = sk.running("--readiness", "tcp://:8080,interval=50ms", "--restart", "no", command=["sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.05; done; " + HTTPD])
    wait_for(lambda: "Connection refused" in sk.inspect(name)["probe_texts"])
    assert sk.inspect(name)["ready"] is False and "(not ready)" in sk.row(name)["status"] and health(sk, name) == ""
    sk.ok("exec", name, "touch", "/tmp/go")
    wait_for(lambda: sk.inspect(name)["ready"] is True)
    assert actions(sk, name, "ready") == [{"ready": True}]


def test_a_startup_probe_comes_first(sk):
    name = sk.running("--startup", "exec:test -e /tmp/up,interval=50ms,failures=1000", "--liveness", "exec:test ! -e /tmp/bad,interval=50ms,failures=1",
                      "--restart", "always", "--stop-timeout", "0", command=["sh", "-c", "touch /tmp/bad; exec sleep 1000"])
    wait_for(lambda: "startup: bad" in sk.inspect(name)["probe_texts"])
    first = sk.pid(name)
    assert health(sk, name) == "starting" and "(health: starting)" in sk.row(name)["status"] and "liveness" not in sk.inspect(name)["probe_texts"]
    sk.ok("exec", name, "sh", "-c", "rm /tmp/bad; touch /tmp/up")
    wait_for(lambda: health(sk, name) == "healthy")
    assert sk.pid(name) == first


def test_a_startup_probe_that_fails_ends_it(sk):
    name = sk.running("--startup", "exec:exit 1,interval=20ms,failures=3", "--restart", "on-failure:1", "--restart-delay", "1ms", "--stop-timeout", "0")
    sk.wait_state(name, "exited")
    history = sk.history(name, 2)
    assert len(history) == 2 and all("startup probe" in run["exit"]["cause"] for run in history), history


def test_a_unix_socket_of_the_container(sk, world):
    os.makedirs(world.path("s"))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(world.path("s/x.sock"))
    listener.listen(16)
    os.symlink("/run/s/x.sock", world.path("s/link"))
    name = sk.running("-v", world.path("s") + ":/run/s", "--liveness", "unix:///run/s/link,interval=50ms", "--restart", "no")
    wait_for(lambda: health(sk, name) == "healthy")
    listener.close()


def test_an_exec_probe_that_hangs_or_talks_too_much(sk):
    name = sk.running("--liveness", "exec:yes | head -c 1000000; echo the end; sleep 1000,interval=50ms,timeout=%dms,failures=1" % (500 * SLOWER),
                      "--restart", "no")
    wait_for(lambda: health(sk, name) == "unhealthy")
    texts = sk.inspect(name)["probe_texts"]
    assert "no answer within" in texts and "the end" in texts and len(texts) < 20000


GRPC = """
import socket, sys
status = int(sys.argv[1])
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("127.0.0.1", 50051)); s.listen(16)
frame = lambda kind, flags, stream, body: len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body
while True:
    c, _ = s.accept()
    data = b""
    while b"/grpc.health.v1.Health/Check" not in data or not data.endswith(b"x-service"):
        data += c.recv(4096)
        if not data: break
    assert data.startswith(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n")
    c.send(frame(4, 0, 0, b"") + frame(4, 1, 0, b""))
    body = b"\\x08" + bytes([status])
    c.send(frame(1, 4, 1, b"\\x88") + frame(0, 0, 1, b"\\0" + len(body).to_bytes(4, "big") + body))
    c.close()
"""


@pytest.mark.parametrize("status,wanted,text", [(1, "healthy", "gRPC SERVING"), (2, "unhealthy", "gRPC NOT_SERVING")])
def test_grpc_health(sk, world, status, wanted, text):
    name = sk.running("--liveness", "grpc://:50051/x-service,interval=100ms,failures=1,grace=1h", "--restart", "no")
    server = subprocess.Popen(["nsenter", "-t", str(sk.pid(name)), "-n", sys.executable, "-c", GRPC, str(status)])
    world.background.append(server)
    wait_for(lambda: text in sk.inspect(name)["probe_texts"])
    if status == 1:
        wait_for(lambda: health(sk, name) == wanted)
    else:
        assert health(sk, name) == "starting", "failures in the grace period do not count"
    server.kill()


def test_docker_options_and_the_images_healthcheck(sk):
    sk.load(busybox_image("checked", run={"Healthcheck": {"Test": ["CMD", "test", "!", "-e", "/tmp/bad"], "Interval": 50_000_000, "Retries": 1}}))
    name = sk.running("--restart", "no", image="checked")
    wait_for(lambda: health(sk, name) == "healthy")
    assert sk.ok("inspect", "-f", "{{.State.Health.Status}}", name) == "healthy"
    sk.ok("exec", name, "touch", "/tmp/bad")
    wait_for(lambda: health(sk, name) == "unhealthy")
    name = sk.running("--restart", "no", "--no-healthcheck", image="checked")
    assert health(sk, name) == "" and sk.inspect(name)["probes"] == {}
    name = sk.running("--restart", "no", "--health-cmd", "exit 5", "--health-interval", "50ms", "--health-retries", "2", "--health-timeout", "3s")
    wait_for(lambda: health(sk, name) == "unhealthy")
    assert "exit status 5" in sk.inspect(name)["probe_texts"]
    assert sk.inspect(name)["probes"]["liveness"] == {"probe": "exec:/bin/sh -c exit 5", "interval_ns": 50_000_000, "timeout_ns": 3_000_000_000,
                                                      "delay_ns": 50_000_000, "grace_ns": 0, "failures": 2, "successes": 1}


def test_probes_go_on_when_the_supervisor_is_killed(sk):
    name = sk.running("--liveness", "exec:test ! -e /tmp/bad,interval=50ms,failures=1", "--readiness", "exec:true,interval=50ms", "--restart", "always",
                      "--restart-delay", "1ms", "--stop-timeout", "0")
    wait_for(lambda: health(sk, name) == "healthy" and sk.inspect(name)["ready"])
    first, supervisor = sk.pid(name), sk.inspect(name)["supervisor_pid"]
    kill_quietly(supervisor)
    wait_for(lambda: sk.inspect(name)["supervisor_pid"] not in (0, supervisor))
    assert health(sk, name) == "healthy" and sk.inspect(name)["ready"] is True and sk.pid(name) == first
    sk.ok("exec", name, "touch", "/tmp/bad")
    wait_for(lambda: sk.pid(name) not in (0, first))


def test_a_paused_container_is_not_asked(sk):
    name = sk.running("--liveness", "exec:sleep 0.1,interval=1ms,timeout=1s,failures=1", "--restart", "always")
    wait_for(lambda: health(sk, name) == "healthy")
    first = sk.pid(name)
    # Longer than its probe may take, which is under way nearly all the time.
    for _ in range(3):
        sk.ok("pause", name)
        time.sleep(1.5)
        sk.ok("unpause", name)
        assert sk("exec", name, "true").status == 0
    assert sk.pid(name) == first and actions(sk, name, "health_status") == [{"health": "healthy"}]


@pytest.mark.parametrize("probe,match", [("x", "expected http"), ("http://", "port is missing"), ("http://:0/", "port"), ("http://host.name:80/", "address"),
                                         ("https://", "port is missing"), ("tcp://:80,interval=0", "cannot be 0"), ("exec:", "command is missing"),
                                         ("unix://relative", "absolute path"), ("tcp://:80,failures=0", "failures")])
def test_wrong_probes(sk, probe, match):
    sk.fails("run", "--liveness", probe, "busybox", "true", status=125, match=match)


@pytest.mark.parametrize("probe,match", [
    ("http://:80/,interval=200ms,timeout=1s,retries=2", ['"retries" is no option of a probe', "docker's retries is failures", ",failures=N", "%2C"]),
    ("https://:80/x,timeout=1s,start-period=2s", ['"start-period" is no option', "is grace"]), ("tcp://:80,intervall=1s", '"intervall" is no option'),
    ("unix:///run/s,interval=1s,fail=2", '"fail" is no option'), ("grpc://:80/a.B,retry=2", '"retry" is no option'),
    ("http://:80/,interval=1s,oops", '"oops" is no option')])
def test_a_misspelt_option_is_refused_and_not_a_part_of_the_path(sk, probe, match):
    sk.fails("run", "--liveness", probe, "busybox", "true", status=125, match=match)


def test_a_comma_of_the_path_is_written_as_2c(sk):
    name = sk.ok("create", "--liveness", "http://:80/x%2Cy=1,interval=2s", "--readiness", "unix:///run/a%2Cb=c,failures=7", "busybox", "true")
    probes = sk.inspect(name)["probes"]
    assert (probes["liveness"]["probe"], probes["liveness"]["interval_ns"]) == ("http://127.0.0.1:80/x%2Cy=1", 2_000_000_000)
    assert (probes["readiness"]["probe"], probes["readiness"]["failures"]) == ("unix:///run/a%2Cb=c", 7)
    name = sk.running("--restart", "no", "--readiness", "unix:///tmp/a%2Cb=c,interval=50ms")
    wait_for(lambda: "/tmp/a,b=c: No such file" in sk.inspect(name)["probe_texts"])
    assert sk.inspect(sk.ok("create", "--liveness", "http://:80/a,b", "busybox", "true"))["probes"]["liveness"]["probe"].endswith("/a,b")


def test_records_of_probes_do_not_grow_for_ever(sk, world):
    """The guard writes 32 bytes for each that ends; most of them are written here, which is quicker."""
    name = sk.running("--liveness", "exec:true,interval=1ms", "--restart", "no")
    path = os.path.join(world.run_dir, "containers", sk.inspect(name)["id"], "exits")
    with open(path, "ab") as exits:
        exits.write(RECORD * 2000)
    wait_for(lambda: os.stat(path).st_size > 72 << 10, 120)
    wait_for(lambda: os.stat(path).st_blocks * 512 < 64 << 10, 120)
    kill_quietly(sk.pid(name), 15)
    sk.ok("stop", "-t", "0", name)
    assert sk.ok("wait", name) == "137"


def test_a_container_that_stops_its_probes_does_not_stop_its_supervisor(sk):
    """What is in the container can keep a process of a probe from ever getting to its program."""
    name = sk.running("--liveness", "exec:true,interval=50ms,timeout=300ms,failures=1000", "--restart", "no",
                      command=["sh", "-c", "while :; do kill -STOP -1; done"])
    time.sleep(1)
    assert sk.inspect(name)["pid"] > 0
    sk.ok("stop", "-t", "0", name, timeout=30)
    sk.wait_state(name, "exited")


def test_nothing_is_left_of_a_probe_that_took_too_long(sk):
    name = sk.running("--liveness", "exec:sleep 600; true,interval=50ms,timeout=200ms,failures=1000", "--restart", "no")
    wait_for(lambda: "no answer within 200ms" in sk.inspect(name)["probe_texts"])
    time.sleep(2)
    assert sk.ok("exec", name, "ps").count("sleep 600") <= 2
    supervisor = sk.inspect(name)["supervisor_pid"]
    kill_quietly(supervisor)
    wait_for(lambda: sk.inspect(name)["supervisor_pid"] not in (0, supervisor))
    time.sleep(1)
    assert sk.ok("exec", name, "ps").count("sleep 600") <= 2
    assert len(actions(sk, name, "exec_die")) == 2, "of our own two alone"


def test_what_a_probe_has_ended_is_a_failure_for_a_successor_too(sk):
    name = sk.running("--liveness", "exec:test ! -e /tmp/bad,interval=50ms,failures=1", "--restart", "on-failure", "--restart-delay", "1ms",
                      command=["sh", "-c", "trap 'sleep 2; exit 0' TERM; while :; do sleep 0.05; done"])
    wait_for(lambda: health(sk, name) == "healthy")
    first, supervisor = sk.pid(name), sk.inspect(name)["supervisor_pid"]
    sk.ok("exec", name, "touch", "/tmp/bad")
    wait_for(lambda: health(sk, name) == "unhealthy")
    kill_quietly(supervisor)
    wait_for(lambda: sk.pid(name) not in (0, first))
    run = sk.history(name)[-1]
    assert run["exit"]["status"] == 0 and "liveness probe" in run["exit"]["cause"] and run["outcome"] == "relaunched at once"


def test_an_end_is_no_failure_of_the_probe_that_met_it(sk):
    names = [sk.running("--liveness", "exec:true,interval=1ms,failures=1", "--restart", "on-failure", command=["sleep", "0.3"]) for _ in range(6)]
    for name in names:
        sk.wait_state(name, "exited")
        history = sk.history(name)
        assert [run["outcome"] for run in history] == ["not relaunched: it has ended well"], history


def test_a_long_probe_does_not_outgrow_the_record(sk):
    name = sk.running("--liveness", "exec:false #" + "x" * 60000 + ",interval=1ms,failures=1", "--restart", "always", "--restart-delay", "1ms",
                      "--restart-max-delay", "1ms", "--restart-budget", "25/1h", "--stop-timeout", "0")
    sk.wait_state(name, "exited")
    assert len(sk.history(name, 20)) == 20 and "given up" in sk.ok("why", name)


def test_a_supervisor_that_waits_for_a_stop_is_idle(sk):
    """Probes that are due are not asked any more, and nobody turns in a circle for them."""
    name = sk.running("--liveness", "exec:true,interval=50ms", "--restart", "no", command=["sh", "-c", "trap 'sleep 4; exit 0' TERM; while :; do sleep 0.05; done"])
    wait_for(lambda: health(sk, name) == "healthy")
    stopping = sk.start("stop", "-t", "20", name)
    supervisor = sk.inspect(name)["supervisor_pid"]
    time.sleep(1)

    def ticks():
        return sum(map(int, read_text("/proc/%d/stat" % supervisor).rsplit(")", 1)[1].split()[11:13]))
    before = ticks()
    time.sleep(2)
    assert ticks() - before < 40, "of some 200"
    assert stopping.wait(60) == 0


HTTPS = """
import http.server, ssl, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/ok" else 503)
        self.end_headers()
        self.wfile.write(b"x" * (1 << 20))
    def log_message(self, *_): pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
if sys.argv[2] == "1.3": context.minimum_version = ssl.TLSVersion.TLSv1_3
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8443), Answer)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


MUTE = 'import socket, time; s = socket.socket(); s.bind(("127.0.0.1", 8080)); s.listen(99); time.sleep(1000)'


def https_server(sk, world, name, version="any"):
    path = world.path("server.pem")
    if not os.path.exists(path):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", path + ".key", "-out", path + ".crt", "-days", "1",
                        "-subj", "/CN=nobody"], check=True, capture_output=True)
        world.write("server.pem", open(path + ".key").read() + open(path + ".crt").read())
    server = subprocess.Popen(["nsenter", "-t", str(sk.pid(name)), "-n", sys.executable, "-c", HTTPS, path, version])
    world.background.append(server)


def test_https_by_a_helper_in_the_containers_network(sk, world):
    """Any certificate will do; what speaks TLS is a child of the supervisor, which stays small."""
    name = sk.running("--liveness", "https://:8443/ok,interval=100ms,failures=1000", "--readiness", "https://:8443/busy,interval=100ms", "--restart", "no")
    wait_for(lambda: "liveness: bad: connect: Connection refused" in sk.inspect(name)["probe_texts"])
    https_server(sk, world, name)
    wait_for(lambda: health(sk, name) == "healthy" and "readiness: bad: HTTP 503" in sk.inspect(name)["probe_texts"])
    assert "liveness: good: HTTP 200 OK" in sk.inspect(name)["probe_texts"] and sk.inspect(name)["ready"] is False
    assert sk.inspect(name)["probes"]["liveness"]["probe"] == "https://127.0.0.1:8443/ok" and actions(sk, name, "exec_start") == []
    fields = read_text("/proc/%d/smaps_rollup" % sk.inspect(name)["supervisor_pid"])
    assert sanitized() or int(re.search(r"Anonymous: +(\d+)", fields).group(1)) < 512


def test_https_that_cannot_be_spoken_tells_why(sk, world):
    """A server of TLS 1.3 alone, one that speaks none, and one that says nothing until the time is over."""
    name = sk.running("--liveness", "https://:8443/ok,interval=100ms,failures=1000", "--readiness", "https://:8080/,interval=100ms,timeout=300ms",
                      "--restart", "no")
    https_server(sk, world, name, "1.3")
    world.background.append(subprocess.Popen(["nsenter", "-t", str(sk.pid(name)), "-n", sys.executable, "-c", MUTE]))
    wait_for(lambda: "another version of TLS than 1.2" in sk.inspect(name)["probe_texts"])
    wait_for(lambda: "readiness: bad: no answer within 300ms" in sk.inspect(name)["probe_texts"])
    keeper = str(sk.inspect(name)["supervisor_pid"])
    texts = lambda: [read_text("/proc/%s/status" % pid, "") for pid in os.listdir("/proc") if pid.isdigit()]
    children = lambda: [text for text in texts() if "\nPPid:\t%s\n" % keeper in text]
    right = lambda text: all(part in text for part in ("Name:\tskink-tls\n", "Uid:\t65534\t65534\t65534\t65534\n", "Seccomp:\t2\n", "CapEff:\t" + "0" * 16))
    wait_for(lambda: any(map(right, children())), step=0.01, message="what speaks TLS is nobody and confined")
    assert len(children()) <= 2, "helpers are ended and reaped"
    plain = sk.running("--liveness", "https://:8080/,interval=100ms", "--restart", "no", command=["sh", "-c", HTTPD])
    wait_for(lambda: "speaks no TLS" in sk.inspect(plain)["probe_texts"])


def test_a_process_that_cannot_start_holds_nobody_up(sk):
    """A container that stops whatever joins it: the supervisor answers others while its probe does not get anywhere."""
    name = sk.running("--liveness", "exec:true,interval=50ms,timeout=5m,failures=1", "--restart", "no", "--readiness", "exec:true,interval=50ms,timeout=1s,failures=1",
                      command=["sh", "-c", "trap '' TERM; while :; do kill -STOP -1 2>/dev/null; done"])
    wait_for(lambda: "readiness: bad: no answer within 1s" in sk.inspect(name)["probe_texts"])
    sk.ok("update", "--restart", "on-failure", name, timeout=20)
    sk.ok("kill", "-s", "USR2", sk.running(), timeout=20)
    sk.ok("stop", "-t", "0", name, timeout=20)


def test_a_launch_that_hangs_is_not_joined_by_others(sk):
    """The process that brings the probe in stands still, for longer than the probe has time: no other is started, and that is told."""
    name = sk.running("--liveness", "exec:true,interval=20ms,timeout=500ms,failures=1000000", "--restart", "no",
                      command=["sh", "-c", "trap '' TERM; while :; do kill -STOP -1 2>/dev/null; done"])
    keeper = str(sk.inspect(name)["supervisor_pid"])
    texts = lambda: [(int(pid), read_text("/proc/%s/status" % pid, "")) for pid in os.listdir("/proc") if pid.isdigit()]
    launchers = lambda: [pid for pid, text in texts() if "Name:\tskink-launch\n" in text and "\nPPid:\t%s\n" % keeper in text]
    held = wait_for(launchers, step=0.01)
    os.kill(held[0], signal.SIGSTOP)
    wait_for(lambda: "the process of the probe before was not even started" in sk.inspect(name)["probe_texts"])
    assert launchers() == held[:1]
    os.kill(held[0], signal.SIGCONT)
    wait_for(lambda: "not even started" not in sk.inspect(name)["probe_texts"])
    sk.ok("stop", "-t", "0", name, timeout=20)


def exits_file(sk, name):
    return "%s/containers/%s/exits" % (sk.world.run_dir, sk.inspect(name)["id"])


def test_records_of_probes_do_not_pile_up_beside_a_long_exec(sk):
    """What the guard would have written in a week; the end of the long one is exact still, to its client and afterwards."""
    name = sk.running("--restart", "no", "--liveness", "exec:test -e /tmp/ask,interval=50ms,failures=1000000")
    long_one = sk.start("exec", name, "sh", "-c", "while [ ! -e /tmp/end ]; do sleep 0.05; done; exit 41")
    wait_for(lambda: sk("exec", name, "sh", "-c", "ps | grep -q '[w]hile'").status == 0)
    with open(exits_file(sk, name), "ab") as exits:
        exits.write(RECORD * 40000)
    wait_for(lambda: os.stat(exits_file(sk, name)).st_blocks * 512 <= 64 << 10)
    before = sk.inspect(name)["supervisor_pid"]
    kill_quietly(before)
    wait_for(lambda: sk.inspect(name)["supervisor_pid"] not in (0, before))
    sk.ok("exec", name, "touch", "/tmp/ask", "/tmp/end")
    assert long_one.wait(60) == 41
    wait_for(lambda: health(sk, name) == "healthy")


def test_records_of_what_a_program_leaves_to_the_guard_do_not_pile_up(sk):
    """Without a pid namespace of its own each process that is nobody's is the guard's, as it is a subreaper."""
    name = sk.running("--restart", "no", "--pid", "host", command=["sh", "-c", "while :; do (true & ); sleep 0.05; done"])
    wait_for(lambda: os.stat(exits_file(sk, name)).st_size > 10 * len(RECORD))
    with open(exits_file(sk, name), "ab") as exits:
        exits.write(RECORD * 40000)
    wait_for(lambda: os.stat(exits_file(sk, name)).st_blocks * 512 <= 64 << 10)
    sk.ok("stop", "-t", "0", name)
    assert sk.inspect(name)["exit"]["status"] == 137


def test_without_a_guard_no_zombies_are_left(sk, world):
    """A guard that was killed when no process could be made: the supervisor goes on alone and reaps what it starts."""
    name = sk.running("--restart", "no", "--liveness", "exec:sleep 0.01,interval=20ms,failures=1000000")
    wait_for(lambda: health(sk, name) == "healthy")
    one = sk.inspect(name)
    with no_forks(world, one["supervisor_pid"]) as group:
        kill_quietly(one["guard_pid"])
        wait_for(lambda: not alive(one["guard_pid"]))
        # With v2 alone what a probe runs is made in the container's group, and goes on: it is the guard that cannot be made.
        if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            wait_for(lambda: "max 0" not in read_text(group + "/pids.events"))
        else:
            wait_for(lambda: "Resource temporarily unavailable" in sk.inspect(name)["probe_texts"])
    wait_for(lambda: "liveness: good" in sk.inspect(name)["probe_texts"])
    for _ in range(5):
        assert sk("exec", name, "sh", "-c", "exit 7").status == 7
    assert sk.inspect(name)["supervisor_pid"] == one["supervisor_pid"] and sk.pid(name) == one["pid"]
    texts = [read_text("/proc/%s/status" % pid, "") for pid in os.listdir("/proc") if pid.isdigit()]
    zombies = [text.split("\n")[0] for text in texts if "\nPPid:\t%d\n" % one["supervisor_pid"] in text and "\nState:\tZ" in text]
    assert len(zombies) <= 1, zombies
    assert sk.ok("ps", "-q") and sk.state(name) == "running"


@contextlib.contextmanager
def no_forks(world, pid):
    """Nothing can be forked by the process meanwhile."""
    top = "/sys/fs/cgroup/pids" if os.path.isdir("/sys/fs/cgroup/pids") else "/sys/fs/cgroup"
    groups = dict(line.split(":", 2)[1:] for line in read_text("/proc/%d/cgroup" % pid).splitlines())
    back = top + groups["pids" if top.endswith("pids") else ""]
    group = top + "/test-" + world.id
    os.mkdir(group)
    try:
        open(group + "/pids.max", "w").write("1")
        open(group + "/cgroup.procs", "w").write(str(pid))
        yield group
    finally:
        open(back + "/cgroup.procs", "w").write(str(pid))
        os.rmdir(group)

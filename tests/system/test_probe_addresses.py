# SPDX-License-Identifier: Apache-2.0
"""Probes: which hosts are taken, IPv6, and HTTP answers that come in several parts."""

import contextlib
import socket
import threading

import pytest
from skinktest import wait_for


@contextlib.contextmanager
def server(address, answer):
    """On the host, whose network the container has; it sends `answer`, in pieces, to whoever has asked."""
    listener = socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client, contextlib.suppress(OSError):
                    client.recv(4096)
                    for piece in answer:
                        client.sendall(piece)
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


def probed(sk, probe):
    return sk.running("--network", "host", "--restart", "no", "--liveness", probe + ",interval=100ms,failures=1")


@pytest.mark.parametrize("host", ["db", "cafe", "1.2.3.4.5", "300.1.1.1", "1.2.3", "[::g]", "[1::2::3]", "a.b.c.d", "fe80", "127.0.0.1x"])
@pytest.mark.parametrize("kind", ["tcp", "http"])
def test_names_and_what_is_no_address_are_refused(sk, host, kind):
    sk.fails("create", "--liveness", "%s://%s:80%s" % (kind, host, "/" * (kind == "http")), "busybox", "true", status=125,
             match="the host .* is not an IP address, and no names are looked up")
    assert sk.ps() == []


@pytest.mark.parametrize("host,shown", [("", "127.0.0.1"), ("localhost", "127.0.0.1"), ("10.0.0.7", "10.0.0.7"), ("[::1]", "[::1]"), ("[fd00::a]", "[fd00::a]")])
def test_addresses_are_taken(sk, host, shown):
    name = sk.ok("create", "--liveness", "tcp://%s:80" % host, "busybox", "true")
    assert sk.inspect(name)["probes"]["liveness"]["probe"] == "tcp://%s:80" % shown


@pytest.mark.parametrize("kind", ["tcp", "http"])
def test_over_ipv6(sk, kind):
    try:
        listening = server("::1", [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
        with listening as port:
            name = probed(sk, "%s://[::1]:%d%s" % (kind, port, "/ok" * (kind == "http")))
            wait_for(lambda: sk.inspect(name)["health"] == "healthy")
        wait_for(lambda: sk.inspect(name)["health"] == "unhealthy")
        assert "[::1]:%d" % port in sk.inspect(name)["probes"]["liveness"]["probe"] and "refused" in sk.ok("why", name)
    except OSError:
        pytest.skip("no IPv6 on this host")


EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


@pytest.mark.parametrize("answer,health", [
    ([EARLY, b"HTTP/1.1 200 OK\r\n\r\n"], "healthy"),
    ([b"HTTP/1.1 100 Continue\r\n\r\n" + EARLY + b"HTTP/1.1 204 No Content\r\n\r\n"], "healthy"),
    ([EARLY, b"HTTP/1.1 500 Broken\r\n\r\n"], "unhealthy"),
    ([EARLY], "unhealthy"),
    ([b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\n\r\n"], "healthy")], ids=["103", "100-103", "103-500", "103-alone", "302"])
def test_the_final_answer_counts(sk, answer, health):
    with server("127.0.0.1", answer) as port:
        name = probed(sk, "http://127.0.0.1:%d/" % port)
        wait_for(lambda: sk.inspect(name)["health"] == health, message=sk.inspect(name)["probe_texts"])

import os
import socket
import threading
import time

import pytest

from cifar_flax.serving.fetch.client import FetchLimits, fetch
from tests.serving.internet import LIMITS, QUICK, URL, answer, encrypted, failure, redirect


def drip(start, every=b"a", pause=0.05):
    """A script that sends `start`, then a little for ever."""

    def script(connection, _):
        connection.sendall(start)
        while True:
            connection.sendall(every)
            time.sleep(pause)

    return script


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "script",
    [
        lambda *_: threading.Event().wait(),
        drip(b"HTTP/1.1 "),
        drip(b"HTTP/1.1 200 OK\r\n", b"X: 1\r\n"),
        drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        drip(b"HTTP/1.1 200 OK\r\n\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"Trailer: 1\r\n"),
    ],
    ids=["silence", "status line", "headers", "continue", "body", "body of known length", "chunks", "trailers"],
)
def test_slow_servers_end_at_the_deadline(internet, trusted, scheme, script):
    context = encrypted(trusted, "pictures.example")[0] if scheme == "https" else None
    internet.add(script, port=443 if context else 80, context=context)
    error = failure(URL.replace("http", scheme), QUICK)
    assert (error.code, error.status) == ("too_slow", 424)


def test_redirects_and_handshakes_share_the_deadline(internet, trusted):
    def late(connection, request):
        time.sleep(0.3)
        redirect("/again")(connection, request)

    internet.add(late)
    internet.add(drip(b"\x16\x03\x03\x40\0"), host="mute.example", address="93.184.215.15", port=443)  # a long record, slowly
    assert failure(limits=QUICK).code == "too_slow"
    assert failure("https://mute.example/", QUICK).code == "too_slow"


def test_a_silent_resolver_ends_at_the_deadline(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait() and [])
    try:
        assert failure(limits=QUICK).code == "too_slow"
    finally:
        release.set()


@pytest.mark.parametrize(
    "script",
    [
        answer(bytes(100_001)),
        lambda connection, _: connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(100_001)),
        answer(b"", Content_Length=10**15),
        drip(b"HTTP/1.1 200 OK\r\n\r\n", bytes(50_000), pause=0),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + bytes(4096) + b"\r\n", pause=0),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 9000 + b"\r\na\r\n", pause=0),
        drip(b"HTTP/1.1 200 OK\r\n", b"X: " + b"x" * 60_000 + b"\r\n", pause=0),
    ],
    ids=["announced", "not announced", "lying", "endless", "endless chunks", "endless chunk sizes", "endless headers"],
)
def test_no_more_is_received_than_the_limit(internet, script):
    internet.add(script)
    error = failure(limits=FetchLimits(seconds=20, bytes=100_000))
    assert (error.code, error.status) == ("too_large", 413)


def test_the_next_address_is_tried_where_one_is_dead(internet):
    internet.add(answer(b"here"))
    internet.names["pictures.example"] = [["2606:2800:21f::1", "93.184.215.14"]]
    assert fetch(URL, LIMITS) == b"here"
    assert internet.connected == [("2606:2800:21f::1", 80), ("93.184.215.14", 80)]


def test_https_proves_the_name_at_the_pinned_address(internet, trusted):
    context, asked = encrypted(trusted, "pictures.example")
    requests = internet.add(answer(b"safe"), port=443, context=context)
    assert fetch("https://pictures.example/", LIMITS) == b"safe"
    assert asked == ["pictures.example"]
    assert "\r\nHost: pictures.example\r\n" in requests[0]
    internet.names["other.example"] = [["93.184.215.14"]]
    assert failure("https://other.example/").code == "bad_certificate"


def test_https_from_whom_this_machine_does_not_trust(internet, authority):
    requests = internet.add(answer(b"safe"), port=443, context=encrypted(authority, "pictures.example")[0])
    assert failure("https://pictures.example/").code == "bad_certificate"
    assert requests == []


def test_sockets_are_closed_whatever_happens(internet):
    internet.add(answer(b"x", "404 Not Found"))
    internet.add(answer(b"x"), host="good.example", address="93.184.215.15")
    internet.add(redirect("/"), host="loop.example", address="93.184.215.16")
    failure()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        failure()
        fetch("http://good.example/", LIMITS)
        failure("http://loop.example/")
    deadline = time.monotonic() + 600
    while len(os.listdir("/proc/self/fd")) > before + 1:  # the servers' side takes a while
        assert time.monotonic() < deadline
        time.sleep(0.01)

import contextlib
import http.client
import json
import socket
import threading
import time

import pytest
from waitress.buffers import TempfileBasedBuffer

from cifar_flax.data.pictures.isolated import IsolatedDecoder
from cifar_flax.serving.web.app import Options, create_app
from cifar_flax.serving.web.responses import HEADERS
from cifar_flax.serving.web.server import Server

MEGABYTES = bytes(15 * 2**20)  # more than sockets keep, less than waitress does


@pytest.fixture(scope="module")
def app(make_network):
    app = create_app(make_network(), IsolatedDecoder(1), Options(upload_bytes=1000))
    app.add_url_rule("/long", view_func=lambda: MEGABYTES)
    return app


@contextlib.contextmanager
def serving(app, **options):
    """Yields the address of a server in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(app, listener, threads=4, upload_bytes=1000, **options)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        server.stop()
        thread.join()
        for channel in list(server.active_channels.values()):
            channel.handle_close()
        server.task_dispatcher.shutdown()
        server.trigger.close()


def is_alive(address, timeout=30):
    connection = http.client.HTTPConnection(*address, timeout=timeout)
    connection.request("GET", "/healthz")
    return connection.getresponse().status == 200


def send(address, data):
    """The answer to these bytes: status, headers, body."""
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(data)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.headers, response.read()


START = b"POST /api/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize("start", [START, START + b"Content-Length: 900\r\n\r\n", b""], ids=["headers", "body", "blank lines"])
def test_clients_that_send_a_byte_now_and_then_are_cut_off(app, start):
    connections, done = 60, threading.Event()
    with serving(app, connections=connections, client_seconds=1) as address, contextlib.ExitStack() as stack:
        drippers = [stack.enter_context(socket.create_connection(address)) for _ in range(connections + 50)]
        for dripper in drippers:
            dripper.sendall(start)

        def drip():
            while not done.wait(0.2):
                for dripper in drippers:
                    with contextlib.suppress(OSError):
                        dripper.sendall(b"a" if start else b"\r\n\r\n")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert is_alive(address)
        finally:
            done.set()
            thread.join()


def test_clients_that_take_a_byte_now_and_then_are_cut_off(app):
    with serving(app, client_seconds=1) as address, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 10_000)
        connection.connect(address)
        connection.sendall(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
        received, end = 0, time.monotonic() + 3
        while time.monotonic() < end:
            time.sleep(0.1)
            received += len(connection.recv(100))
        with contextlib.suppress(ConnectionResetError):
            while data := connection.recv(2**20):
                received += len(data)
        assert received < len(MEGABYTES)


def test_clients_that_ask_often_are_not_cut_off(app):
    with serving(app, client_seconds=3) as address:
        connection = http.client.HTTPConnection(*address)
        for _ in range(8):  # longer than 3 s in all
            connection.request("GET", "/healthz")
            assert connection.getresponse().read()
            used = connection.sock
            time.sleep(0.5)
        connection.request("GET", "/long")
        assert connection.getresponse().read() == MEGABYTES
        assert connection.sock is used


def test_a_body_that_is_too_large_is_received_but_not_kept(app, monkeypatch):
    monkeypatch.setattr(TempfileBasedBuffer, "newfile", lambda self: pytest.fail("kept"))
    with serving(app) as address:
        status, headers, body = send(address, START + b"Content-Length: %d\r\n\r\n" % len(MEGABYTES) + MEGABYTES)
        assert (status, json.loads(body)["error"]["code"]) == (413, "too_large")
        assert dict(headers).items() >= HEADERS.items()


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (START + b"Content-Length: -1\r\n\r\n", 400, "bad_request"),
        (b"\0\xff\r\n\r\n", 400, "bad_request"),
        (START + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 411, "length_required"),
        (START + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n", 411, "length_required"),
        (START + b"Transfer-Encoding: gzip\r\n\r\n", 501, "not_implemented"),
        (START + b"Content-Length: 9999999999\r\n\r\n", 413, "too_large"),
        (START + b"X: %s\r\n\r\n" % (b"x" * 2**18), 431, "request_header_fields_too_large"),
    ],
)
def test_malformed_requests_get_a_code_and_a_sentence(app, request_, status, code):
    with serving(app) as address:
        answered, headers, body = send(address, request_)
        assert (answered, json.loads(body)["error"]["code"]) == (status, code)
        assert json.loads(body)["error"]["message"].endswith(".")
        assert dict(headers).items() >= HEADERS.items()
        assert is_alive(address)

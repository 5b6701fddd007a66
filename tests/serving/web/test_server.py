import contextlib
import errno
import http.client
import json
import logging
import resource
import socket
import subprocess
import sys
import threading
import time

import pytest
from waitress.buffers import TempfileBasedBuffer

from cifar_flax.data.pictures.isolated import IsolatedDecoder
from cifar_flax.serving.web.app import create_app
from cifar_flax.serving.web.heat_map import Explainer
from cifar_flax.serving.web.options import Options
from cifar_flax.serving.web.responses import HEADERS
from cifar_flax.serving.web.server import Server
from tests.conftest import ROOT

MEGABYTES = bytes(15 * 2**20)  # more than sockets keep, less than waitress does


@pytest.fixture(scope="module")
def app(make_network):
    network = make_network()
    app = create_app(network, IsolatedDecoder(1), Explainer(network), Options(upload_bytes=1000))
    app.add_url_rule("/long", view_func=lambda: MEGABYTES)
    return app


@pytest.fixture(autouse=True)
def errors_only(caplog):
    """As launch/serve.py has it: warnings of waitress are one for each request or connection that has to wait."""
    caplog.set_level(logging.ERROR, "waitress")


@contextlib.contextmanager
def serving(app, **options):
    """Yields a server in a thread, and its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(app, listener, threads=4, **{"upload_bytes": 1000} | options)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server, listener.getsockname()
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


START = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize("start", [START, START + b"Content-Length: 900\r\n\r\n", b""], ids=["headers", "body", "blank lines"])
def test_clients_that_send_a_byte_now_and_then_are_cut_off(app, start):
    connections, done = 60, threading.Event()
    with serving(app, connections=connections, client_seconds=1) as (_, address), contextlib.ExitStack() as stack:
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
    with serving(app, client_seconds=1) as (server, address), socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 10_000)
        connection.connect(address)
        connection.sendall(b"GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received, end = len(connection.recv(100)), time.monotonic() + 600
        with contextlib.suppress(ConnectionResetError):
            while server.active_channels and time.monotonic() < end:
                time.sleep(0.1)
                received += len(connection.recv(100))
            while data := connection.recv(2**20):
                received += len(data)
        assert received < len(MEGABYTES)


def test_a_client_that_sends_many_requests_at_once_gets_one_answer(app):
    with serving(app) as (_, address), socket.create_connection(address, timeout=30) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 240)
        received = b""
        while data := connection.recv(2**16):
            received += data
        assert received.count(b"HTTP/1.1 200 OK") == 1
        assert b"\r\nConnection: close\r\n" in received


def test_clients_that_send_many_requests_and_read_nothing_keep_no_others_waiting(app):
    with serving(app) as (_, address), contextlib.ExitStack() as stack:
        for _ in range(12):  # three times the threads
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.connect(address)
            connection.sendall(b"GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
        assert is_alive(address)


@pytest.mark.parametrize("end", [b"", b"\r\n"], ids=["nothing", "a line after the body"])
def test_a_connection_is_kept_after_a_body(app, end):
    body = b"{}" + end
    with serving(app) as (_, address), socket.create_connection(address, timeout=30) as connection:
        for _ in range(2):
            connection.sendall(START + b"Content-Length: 2\r\n\r\n" + body)
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert (response.status, json.loads(response.read())["error"]["code"]) == (400, "missing_url")


def test_connections_that_take_all_places_have_less_time(app):
    with serving(app, connections=20, client_seconds=600) as (_, address), contextlib.ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(address)) for _ in range(20)]
        assert is_alive(address, timeout=300)  # and not 600
        idle[0].settimeout(0)
        assert idle[0].recv(1) == b""


def test_a_server_without_files_left_waits_and_says_nothing(app, caplog):
    with serving(app) as (_, address), contextlib.ExitStack() as stack:
        assert is_alive(address)
        clients = [stack.enter_context(socket.socket()) for _ in range(3)]
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (clients[-1].fileno() + 1, limits[1]))
        try:
            for client in clients:
                client.connect(address)
            time.sleep(1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert is_alive(address)
    assert caplog.text == ""


def test_a_body_without_room_on_disk_ends_its_connection_only(app, monkeypatch, caplog):
    def fail(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TempfileBasedBuffer, "newfile", fail)
    with serving(app, upload_bytes=2 * 2**20) as (_, address), socket.create_connection(address, timeout=30) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(START + b"Content-Length: %d\r\n\r\n" % 2**20 + bytes(2**20))
            assert connection.recv(1) == b""
        assert is_alive(address)
    assert caplog.text == ""


SERVE_WITH_FEW_FILES = """
import resource, socket, sys
from cifar_flax.errors import UserError
from cifar_flax.serving.web.server import Server
from tests.conftest import ROOT

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"here"]

limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
listener = socket.create_server(("127.0.0.1", 0))
try:
    server = Server(app, listener, threads=4, upload_bytes=1000)
except UserError as e:
    sys.exit(str(e))
print(listener.getsockname()[1], flush=True)
server.run()
"""


@pytest.fixture
def serve_with_few_files():
    """Starts a server in a process that may open so many files: there each has a low number, as the limit wants."""
    processes = []

    def start(limit):
        command = [sys.executable, "-c", SERVE_WITH_FEW_FILES, str(limit)]
        processes.append(subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_process_that_may_open_few_files_takes_fewer_connections(serve_with_few_files):
    address = ("127.0.0.1", int(serve_with_few_files(128).stdout.readline()))
    connections = [socket.create_connection(address) for _ in range(60)]
    for connection in connections:
        connection.close()
    assert is_alive(address)


def test_a_process_that_may_open_too_few_files_for_a_server_is_told_so(serve_with_few_files):
    process = serve_with_few_files(24)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "ulimit -n" in stderr.splitlines()[-1]


def test_clients_that_ask_often_are_not_cut_off(app):
    with serving(app, client_seconds=3) as (_, address):
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
    with serving(app) as (_, address):
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
        (START + b"Transfer-Encoding:\r\nContent-Length: 2\r\n\r\n{}", 400, "bad_request"),
        (START.replace(b"/1.1", b"/1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad_request"),
        (START + b"Content-Length: 2, 2\r\n\r\n{}", 400, "bad_request"),
        (START + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400, "bad_request"),
        (START + b"Content-Length: %s\r\n\r\n" % (b"9" * 5000), 400, "bad_request"),
        (START + b"Content-Length: 2000\r\nExpect: 100-continue\r\n\r\n", 413, "too_large"),
        (START + b"Host: localhost\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.0\r\n\r\n", 400, "bad_host"),
        (b"GET /\r\n\r\n", 400, "bad_host"),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 400, "bad_host"),
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "bad_request"),
        (b"GET http://localhost/nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, "not_found"),
        (b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "bad_request"),
        (b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, "not_found"),
        (START + b"a:\r\n" * 20_000 + b"\r\n", 431, "request_header_fields_too_large"),
        (START + b"Content-Length: 9999999999\r\n\r\n", 413, "too_large"),
        (START + b"X: %s\r\n\r\n" % (b"x" * 2**18), 431, "request_header_fields_too_large"),
    ],
)
def test_malformed_requests_get_a_code_and_a_sentence(app, request_, status, code):
    with serving(app) as (_, address):
        answered, headers, body = send(address, request_)
        assert (answered, json.loads(body)["error"]["code"]) == (status, code)
        assert json.loads(body)["error"]["message"].endswith(".")
        assert dict(headers).items() >= HEADERS.items()
        assert is_alive(address)

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import uuid
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import pytest

from benchmarks.photographs import PHOTOGRAPHS
from cifar_flax.run import load_network
from cifar_flax.serving.web.options import Options
from tests.conftest import ROOT
from tests.e2e.conftest import serving
from tests.helpers.picture_folders import png
from tests.serving import crafted


@pytest.fixture(scope="module")
def address(tiny_run):
    with serving(f"--run={tiny_run}") as (_, url):
        yield url


def connect(address, timeout=60):
    return http.client.HTTPConnection(urllib.parse.urlsplit(address).netloc, timeout=timeout)


def form(data):
    mark = uuid.uuid4().hex
    head = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    return head.encode() + data + f"\r\n--{mark}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={mark}"}


def post(address, body, headers):
    connection = connect(address)
    connection.request("POST", "/api/predict", body, headers)
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


def test_an_upload_gets_the_answer_of_the_classifier(address, tiny_run):
    status, answer = post(address, *form(png()))
    assert status == 200
    expected = load_network(tiny_run).predict(png())
    assert [p["class"] for p in answer["predictions"]] == [p.name for p in expected]


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"\0" * 50 * 2**20, {"Content-Type": "application/json"}, 413, "too_large"),
        (form(b"\0" * 50 * 2**20)[0], {"Content-Type": "multipart/form-data; boundary=x"}, 413, "too_large"),
        (*form(b"<html>"), 415, None),
        (*form(png()[:400]), 422, None),
        (b'{"url": "http://\xff"}', {"Content-Type": "application/json"}, 400, "bad_json"),
        (b'{"url": "http://[::1]/"}', {"Content-Type": "application/json"}, 400, None),
        (b"{}", {}, 415, "unsupported_media_type"),
    ],
    ids=["50 MB of JSON", "50 MB upload", "html", "truncated", "not utf-8", "loopback", "no type"],
)
def test_bad_input_gets_a_sentence_and_the_server_lives(address, body, headers, status, code):
    answered, answer = post(address, body, headers)
    assert (answered, answer["error"]["code"]) == (status, code or answer["error"]["code"])
    assert answer["error"]["message"].endswith(".")
    assert post(address, *form(png()))[0] == 200


def test_fifty_clients_at_once_get_answers(address):
    bodies, statuses, failed = [form(png(k)) for k in range(50)], Counter(), []

    def client(body, headers):
        try:
            for _ in range(4):
                statuses[post(address, body, headers)[0]] += 1
        except Exception as e:  # what the thread would swallow
            failed.append(e)

    threads = [threading.Thread(target=client, args=body) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert statuses.keys() <= {200, 503}
    assert statuses[200] > 0


def test_clients_that_dawdle_do_not_keep_others_waiting(address):
    netloc = urllib.parse.urlsplit(address)
    idle = [socket.create_connection((netloc.hostname, netloc.port)) for _ in range(60)]
    for k, dawdler in enumerate(idle):
        dawdler.sendall(b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n" + b"\r\n" * (k % 2))
    assert post(address, *form(png()))[0] == 200
    for dawdler in idle:
        dawdler.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody had to be cut off for it
            dawdler.recv(1)
        dawdler.close()


@contextlib.contextmanager
def slow_server(body):
    """A web server that does not answer yet: its address, an event for its first request, and one that has it answer."""

    def answer(connection):
        with connection, contextlib.suppress(OSError):
            connection.recv(4096)
            asked.set()
            proceed.wait()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def accept():
        with contextlib.suppress(OSError):  # until it is closed
            while True:
                threading.Thread(target=answer, args=listener.accept()[:1], daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    asked, proceed = threading.Event(), threading.Event()
    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/", asked, proceed
    proceed.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def ask_for(address, url):
    return post(address, json.dumps({"url": url}).encode(), {"Content-Type": "application/json"})


PATIENT = """
import functools, runpy, sys
from cifar_flax.serving.web import reading
reading.FetchLimits = functools.partial(reading.FetchLimits, seconds=600)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_slow_servers_do_not_keep_others_waiting(tiny_run):
    command = (sys.executable, "-c", PATIENT, str(ROOT / "launch" / "serve.py"))
    with (
        serving(f"--run={tiny_run}", "--allow_private", command=command) as (_, address),
        slow_server(png()) as (slow, _, proceed),
        ThreadPoolExecutor(120) as clients,
    ):
        waiting = [clients.submit(ask_for, address, slow) for _ in range(120)]  # more than the server has threads
        refused = next(as_completed(waiting)).result()
        assert (refused[0], refused[1]["error"]["code"]) == (503, "busy")
        connection = connect(address)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        assert post(address, *form(png()))[0] == 200
        proceed.set()
        answers, places = Counter(each.result()[0] for each in waiting), Options().fetching
        assert answers.keys() == {200, 503}
        assert places <= answers[200] <= places + Options().fetching_queue_size


@pytest.mark.slow
def test_a_request_that_has_arrived_is_answered_before_the_end(tiny_run):
    with (
        serving(f"--run={tiny_run}", "--allow_private") as (server, address),
        slow_server(png()) as (slow, asked, proceed),
        ThreadPoolExecutor() as clients,
    ):
        waiting = clients.submit(ask_for, address, slow)
        assert asked.wait(30)
        server.send_signal(signal.SIGTERM)
        time.sleep(6)  # waitress itself gives up after 5
        proceed.set()
        assert waiting.result()[0] == 200
        assert server.wait() == 0
        with pytest.raises(ConnectionRefusedError):
            connect(address).connect()


def test_photographs_get_the_same_answers_from_the_page_and_from_predict(address, launch, tiny_run, tmp_path):
    for k, photograph in enumerate(PHOTOGRAPHS):
        (tmp_path / f"{k}.jpg").write_bytes(photograph.read())
    said = launch("predict", *(f"{k}.jpg" for k in range(len(PHOTOGRAPHS))), f"--run={tiny_run}", "--json")
    answers = [post(address, *form(photograph.read())) for photograph in PHOTOGRAPHS]
    assert {status for status, _ in answers} == {200}
    assert [answer["predictions"] for _, answer in answers] == [
        json.loads(line)["predictions"] for line in said.stdout.splitlines()
    ]
    for _, answer in answers:
        probabilities = [p["probability"] for p in answer["predictions"]]
        assert len(probabilities) == 5
        assert probabilities == sorted(probabilities, reverse=True)


def test_half_a_request_leaves_no_trace(address):
    netloc = urllib.parse.urlsplit(address)
    for start in (
        b"",
        b"POST /api/predict HTTP/1.1\r\n",
        b"\0\xff\r\n\r\n",
        b"POST /api/predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ):
        with socket.create_connection((netloc.hostname, netloc.port)) as half:
            half.sendall(start)
    assert post(address, *form(png()))[0] == 200  # and `serving` checks that nothing was written to stderr


def test_a_port_that_is_taken_costs_one_line(launch, tiny_run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = launch("serve", f"--run={tiny_run}", f"--port={port}")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"--host=127.0.0.1 --port={port}: cannot listen there (Address already in use); choose another\n"


def test_a_user_without_a_home_is_served_without_a_word_and_without_a_file(tiny_run, tmp_path):
    """As in the container; `serving` asserts that nothing stands on stderr."""
    home = {"HOME": "/proc/nowhere", "TMPDIR": str(tmp_path), "CIFAR_FLAX_COMPILATION_CACHE": "off"}
    with serving(f"--run={tiny_run.absolute()}", env={**os.environ, **home}) as (_, address):
        assert post(address, *form(png()))[0] == 200
        assert list(tmp_path.iterdir()) == []


def test_a_page_of_another_site_gets_nothing_unless_its_name_is_allowed(address, tiny_run):
    body, headers = form(png())
    assert post(address, body, headers | {"Host": "pictures.example.org"})[1]["error"]["code"] == "bad_host"
    assert post(address, body, headers | {"Origin": "https://evil.example"})[1]["error"]["code"] == "cross_origin"
    with serving(f"--run={tiny_run}", "--allowed_hosts=pictures.example.org,b.example") as (_, named):
        assert post(named, body, headers | {"Host": "pictures.example.org"})[0] == 200


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--run=x", "--port=0", "--allowed_hosts=http://x"], "--allowed_hosts=http://x"),
        (["--run=nowhere", "--port=0"], "nowhere: no such network; expected a run directory"),
        (["--run=x", "--host=no.such.host.invalid"], "--host=no.such.host.invalid"),
        (["--run=x", "--host=127..0.0.1"], "--host=127..0.0.1: is no name and no address of a machine; choose another"),
        (["--run=x", f"--host={'a' * 64}.example"], ": is no name and no address of a machine; choose another"),
        (["--run=x", "--port=65536"], "--port"),
        (["--run=x", "stray"], "stray: unexpected argument"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(launch, args, expected):
    result = launch("serve", *args)
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1
    assert expected in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_can_be_stopped_while_it_loads(tiny_run, number):
    command = [sys.executable, str(ROOT / "launch" / "serve.py"), "--port=0", f"--run={tiny_run}"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while b"/jaxlib/" not in Path(f"/proc/{server.pid}/maps").read_bytes():  # it imports JAX
        time.sleep(0.02)
    server.send_signal(number)
    assert server.communicate(timeout=600) == (b"", b"")
    assert server.returncode == -number


def test_ctrl_c_ends_it_in_the_middle_of_a_request(tiny_run):
    with serving(f"--run={tiny_run}", "--host=localhost") as (server, address):
        netloc = urllib.parse.urlsplit(address)
        with socket.create_connection((netloc.hostname, netloc.port)) as half:
            half.sendall(b"POST /api/predict HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
            server.send_signal(signal.SIGINT)
            assert server.wait(30) == 0


def megabytes(process):
    """Resident memory of a process and its descendants; memory that they share counts once."""
    kilobytes, processes = 0, [process]
    while processes:
        folder = Path(f"/proc/{processes.pop()}")
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it decoded a picture and has ended
            processes += map(int, "".join(task.read_text() for task in folder.glob("task/*/children")).split())
            kilobytes += int(re.findall(r"^Pss:\s+(\d+) kB", (folder / "smaps_rollup").read_text(), re.MULTILINE)[0])
    return kilobytes / 1024


def hungry_png():
    """A small PNG whose 40 texts take 4 MB each."""
    text = zlib.compress(("\U0001f600" + "a" * (2**20 - 10)).encode(), 9)
    texts = [crafted.chunk(b"iTXt", b"k%d\0\1\0\0\0" % k + text) for k in range(40)]
    return crafted.png(16, 16, 8, 0, bytes(17 * 16), *texts)


@pytest.mark.slow
def test_sixty_hostile_uploads_at_once_leave_memory_and_turns_to_others(tiny_run):
    with serving(f"--run={tiny_run}") as (server, address), ThreadPoolExecutor(60) as clients:
        hostile = [clients.submit(post, address, *form(hungry_png())) for _ in range(60)]
        most, good = 0.0, 0
        while good < 5 or not all(each.done() for each in hostile):
            most, good = max(most, megabytes(server.pid)), good + 1
            assert post(address, *form(png()))[0] == 200
            connection = connect(address, timeout=60)
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 200
            connection.close()
        assert {each.result()[0] for each in hostile} <= {200, 503}
    assert most < 1500


@pytest.mark.slow
def test_an_installed_package_has_the_page(tmp_path):
    build = [sys.executable, "setup.py", "--quiet", "build", f"--build-base={tmp_path / 'build'}", "build_py"]
    subprocess.run([*build, f"--build-lib={tmp_path / 'lib'}"], check=True, cwd=ROOT, timeout=600)
    source, built = ROOT / "cifar_flax" / "serving", tmp_path / "lib" / "cifar_flax" / "serving"
    files = {path.relative_to(source) for path in source.rglob("*") if path.suffix not in (".pyc", "")}
    assert {"index.html", "style.css", "page.js", "openapi.yaml"} <= {path.name for path in files}
    assert files == {path.relative_to(built) for path in built.rglob("*") if path.is_file()}

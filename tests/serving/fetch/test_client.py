import contextlib
import gzip
import socket
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar_flax import __version__
from cifar_flax.serving.errors import FetchFailed, FetchRefused
from cifar_flax.serving.fetch.client import FetchLimits, fetch
from tests.serving.internet import LIMITS, URL, answer, failure, redirect


def test_a_file_is_fetched_and_nothing_about_us_is_told(internet, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine pictures.example login me password secret")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://10.0.0.1:3128")
    requests = internet.add(answer(b"\x89PNG\0..", Content_Type="text/html"))
    assert fetch("http://Pictures.Example/a b.png?q=\xe4#part") == b"\x89PNG\0.."
    assert requests == [
        "GET /a%20b.png?q=%C3%A4 HTTP/1.1\r\nHost: pictures.example\r\nAccept-Encoding: identity\r\n"
        f"User-Agent: cifar_flax/{__version__}\r\nAccept: image/*\r\nConnection: close\r\n\r\n"
    ]
    assert internet.connected == [("93.184.215.14", 80)]


@pytest.mark.parametrize(
    "script",
    [
        answer(b"5\r\nhello\r\n3;x=y\r\n!!!\r\n0\r\nTrailer: 1\r\n\r\n", Transfer_Encoding="chunked"),
        lambda connection, _: connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello!!!"),
        answer(b"hello!!!", Connection="close"),
        lambda connection, _: connection.sendall(b"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 200\r\nContent-Length: 8\r\n\r\nhello!!!x"),
    ],
)
def test_each_way_to_say_where_a_file_ends(internet, script):
    internet.add(script)
    assert fetch(URL, LIMITS) == b"hello!!!"


def test_redirects_are_followed_without_cookies_or_referrer(internet):
    internet.add(redirect("//www.example/b"))
    internet.add(redirect("http://last.example/d\xe9?q#part", "308 Permanent Redirect"), "www.example", "93.184.215.15")
    last = internet.add(answer(b"here"), "last.example", "93.184.215.16")
    assert fetch(URL, LIMITS) == b"here"
    assert last[0].startswith("GET /d%C3%A9?q HTTP/1.1\r\nHost: last.example\r\nAccept-Encoding: identity\r\nUser-Agent")
    assert "session" not in last[0]
    assert "Referer" not in last[0]


def test_three_redirects_are_followed_and_no_fourth(internet):
    hops = {"/0": "/1", "/1": "/2", "/2": "/3", "/loop": "/loop"}

    def script(connection, request):
        path = request.split()[1].decode()
        (redirect(hops[path]) if path in hops else answer(b"end"))(connection, request)

    requests = internet.add(script)
    assert fetch("http://pictures.example/0", LIMITS) == b"end"
    hops["/3"] = "/4"
    for path in ("/0", "/loop"):
        requests.clear()
        error = failure(f"http://pictures.example{path}")
        assert (error.code, error.status, len(requests)) == ("too_many_redirects", 424, 4)


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("http://127.0.0.1/", "unknown_host"),
        ("http://[::1]/", "unknown_host"),
        ("http://169.254.169.254/latest/meta-data/", "unknown_host"),
        ("http://0x7f000001/", "unknown_host"),
        ("http://2130706433/", "unknown_host"),
        ("//127.1/", "unknown_host"),
        ("http://[::ffff:127.0.0.1]/", "unknown_host"),
        ("http://intranet.example/", "unknown_host"),
        ("file:///etc/passwd", "scheme_not_allowed"),
        ("ftp://pictures.example/", "scheme_not_allowed"),
        ("http://user:pass@pictures.example/", "credentials_in_address"),
        ("http://pictures.example:6379/", "port_not_allowed"),
        ("http://[", "bad_answer"),
    ],
)
def test_redirects_lead_nowhere_that_an_address_may_not(internet, location, code):
    internet.add(redirect(location))
    internet.names["intranet.example"] = [["10.0.0.1"]]
    for private in ("127.0.0.1", "::1", "169.254.169.254", "10.0.0.1"):
        internet.add(answer(b"secret"), host="unused.example", address=private)
    assert failure().code == code
    assert internet.connected == [("93.184.215.14", 80)]


def test_a_name_is_looked_up_once_and_its_checked_address_is_used(internet):
    """DNS rebinding: a name that is public when it is checked, and private when it is used."""
    internet.add(answer(b"public"))
    internet.add(answer(b"secret"), address="127.0.0.1")
    internet.names["pictures.example"] = [["93.184.215.14"], ["127.0.0.1"]]
    assert fetch(URL, LIMITS) == b"public"
    assert internet.lookups == ["pictures.example"]
    assert failure().code == "unknown_host"  # the second answer, to a second fetch
    assert internet.connected == [("93.184.215.14", 80)]


def test_a_name_that_changes_between_redirects_is_checked_again(internet):
    internet.add(redirect(URL))
    internet.add(answer(b"secret"), address="127.0.0.1")
    internet.names["pictures.example"] = [["93.184.215.14"], ["127.0.0.1"]]
    assert failure().code == "unknown_host"
    assert internet.connected == [("93.184.215.14", 80)]


def test_a_file_of_just_the_limit_is_fetched(internet):
    internet.add(answer(bytes(100_000)))
    assert len(fetch(URL, LIMITS)) == 100_000


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (answer(gzip.compress(bytes(10**7)), Content_Encoding="gzip"), "compressed"),
        (answer(b"short", Content_Length=6), "bad_answer"),
        (answer(b"5\r\nhel", Transfer_Encoding="chunked"), "bad_answer"),
        (answer(b"-5\r\nhello\r\n0\r\n\r\n", Transfer_Encoding="chunked"), "bad_answer"),
        (answer(b"x", "404 Not Found"), "bad_status"),
        (answer(b"x", "500 Oh no"), "bad_status"),
        (answer(b"x", "206 Partial Content"), "bad_status"),
        (answer(b"x", "302 Found"), "bad_status"),
        (answer(**{f"X{k}": k for k in range(200)}), "bad_answer"),
        (answer(X="x" * 70_000), "bad_answer"),
        (lambda *_: None, "bad_answer"),
        (lambda connection, _: connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"), "bad_answer"),
        (lambda connection, _: connection.sendall(b"SSH-2.0-OpenSSH_9.7\r\n"), "bad_answer"),
        (lambda connection, _: connection.sendall(b"\0\xff" * 99), "bad_answer"),
    ],
)
def test_answers_that_are_no_file(internet, script, code):
    internet.add(script)
    error = failure()
    assert (error.code, error.status) == (code, 424)
    assert code != "bad_status" or any(number in str(error) for number in ("404", "500", "206", "302"))


def interim(*statuses):
    lines = "".join(f"HTTP/1.1 {status} x\r\nLink: </a.css>\r\n\r\n" for status in statuses)
    return lambda connection, _: connection.sendall(lines.encode() + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfile")


@pytest.mark.parametrize("statuses", [(103,), (102, 102, 103), (100, 199)])
def test_interim_answers_are_skipped(internet, statuses):
    internet.add(interim(*statuses))
    assert fetch(URL, LIMITS) == b"file"


@pytest.mark.parametrize(("statuses", "code"), [((101,), "bad_status"), ((102,) * 100, "bad_answer")])
def test_a_switch_of_protocols_and_endless_interim_answers_are_no_file(internet, statuses, code):
    internet.add(interim(*statuses))
    assert failure().code == code


def test_nobody_there(internet):
    internet.names["pictures.example"] = [["93.184.215.14"]]
    assert (failure().code, failure().status) == ("no_answer", 424)
    assert (failure("http://nowhere.example/").code, failure("http://nowhere.example/").status) == ("unknown_host", 400)


def test_private_networks_where_they_are_allowed():
    """On the real network of this machine, without its resolver."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve():
            connection = server.accept()[0]
            requests.append(connection.recv(4096).decode())
            answer(b"home")(connection, b"")
            connection.close()

        requests = []
        threading.Thread(target=serve, daemon=True).start()
        assert fetch(f"http://127.0.0.1:{port}/", LIMITS, allow_private=True) == b"home"
        assert f"\r\nHost: 127.0.0.1:{port}\r\n" in requests[0]
        assert failure(f"http://127.0.0.1:{port}/").code == "port_not_allowed"
    assert failure(f"http://127.0.0.1:{port}/", allow_private=True).code == "no_answer"
    for url, code in (("file:///etc/passwd", "scheme_not_allowed"), ("http://a:b@127.0.0.1/", "credentials_in_address")):
        assert failure(url, allow_private=True).code == code


@settings(deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from(
        [b"", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 302 Found\r\nLocation: "]
    ),
    st.sampled_from([b"", b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]),
)
def test_whatever_a_server_sends_ends_as_a_file_or_a_sentence(sent, start, end):
    client_end, server_end = socket.socketpair()
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(server_end):
        patch.setattr(socket, "create_connection", lambda *_: client_end)
        patch.setattr(
            socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", 80))]
        )
        server_end.sendall(start + sent + end)
        server_end.shutdown(socket.SHUT_WR)
        with contextlib.suppress(FetchFailed, FetchRefused):
            assert isinstance(fetch(URL, FetchLimits(redirects=0)), bytes)

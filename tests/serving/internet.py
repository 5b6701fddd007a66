"""An internet of one machine: names and public addresses that lead to servers in this process, and nowhere else."""

import contextlib
import ipaddress
import socket
import ssl
import threading

import pytest
import trustme

from cifar_flax.serving.errors import FetchFailed, FetchRefused
from cifar_flax.serving.fetch import pinned_http
from cifar_flax.serving.fetch.client import FetchLimits, fetch

URL = "http://pictures.example/cat.png"
LIMITS = FetchLimits(bytes=100_000)  # with all the time that a busy machine needs
QUICK = FetchLimits(seconds=0.5)


def failure(url=URL, limits=LIMITS, **options):
    """The error of fetch, whose message must tell nothing about this machine."""
    with pytest.raises((FetchFailed, FetchRefused)) as caught:
        fetch(url, limits, **options)
    message = str(caught.value)
    assert message.endswith(".")
    for detail in ("10.0.0.1", "93.184.", "/home", "Error", "Errno", "<"):
        assert detail not in message
    return caught.value


class Internet:
    """Stands in for the resolver and for the network.

    Attributes:
      names: host -> what it resolves to, one list of addresses a lookup; the last one stays.
      lookups: every name that was asked for.
      connected: every (address, port) that was connected to.
    """

    def __init__(self, monkeypatch):
        self.names, self.lookups, self.connected, self._servers = {}, [], [], {}
        self._getaddrinfo, self._create_connection = socket.getaddrinfo, socket.create_connection
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)
        monkeypatch.setattr(socket, "create_connection", self._connect)

    def add(self, script, host="pictures.example", address="93.184.215.14", port=80, context=None):
        """A server that answers each connection with `script(connection, request)`; its requests are in the list returned."""
        self.names.setdefault(host, [[address]])
        listener, requests = socket.create_server(("127.0.0.1", 0)), []
        self._servers[address, port] = listener
        threading.Thread(target=_serve, args=(listener, script, requests, context), daemon=True).start()
        return requests

    def close(self):
        for listener in self._servers.values():
            listener.close()

    def _look_up(self, host, port, *args, **options):
        with contextlib.suppress(socket.gaierror):
            return self._getaddrinfo(host, port, *args, **{**options, "flags": socket.AI_NUMERICHOST})
        self.lookups.append(host)
        if host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        answers = self.names[host]
        resolved = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET6 if ":" in a else socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in resolved]

    def _connect(self, address, timeout):
        ipaddress.ip_address(address[0])  # never a name, which would be looked up again
        self.connected.append(address)
        if address not in self._servers:
            raise ConnectionRefusedError(111, "Connection refused")
        return self._create_connection(self._servers[address].getsockname(), timeout)


def _serve(listener, script, requests, context):
    with contextlib.suppress(OSError):  # until it is closed
        while True:
            connection = listener.accept()[0]
            threading.Thread(target=_answer, args=(connection, script, requests, context), daemon=True).start()


def _answer(connection, script, requests, context):
    with contextlib.suppress(OSError):  # the other side may hang up
        if context:
            connection = context.wrap_socket(connection, server_side=True)
        request = b""
        while b"\r\n\r\n" not in request and not request.startswith(b"\x16"):  # the first byte of TLS
            request += connection.recv(4096) or b"\r\n\r\n"
        requests.append(request.decode("latin-1"))
        script(connection, request)
    connection.close()


def answer(body=b"", status="200 OK", **headers):
    """A script that sends this, with the Content-Length that is due where none is given."""
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    if "Content_Length" not in headers and "Transfer_Encoding" not in headers:
        lines.append(f"Content-Length: {len(body)}")
    return lambda connection, _: connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)


def redirect(location, status="302 Found"):
    return answer(b"moved", status, Location=location, Set_Cookie="session=1")


@pytest.fixture
def internet(monkeypatch):
    made = Internet(monkeypatch)
    yield made
    made.close()


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture
def trusted(authority, tmp_path, monkeypatch):
    """Makes this machine trust the certificates of `authority`, and returns it."""
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    pinned_http._tls.cache_clear()
    yield authority
    pinned_http._tls.cache_clear()


def encrypted(authority, *names):
    """A TLS context with a certificate for these names, and the list of names that clients ask for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    asked = []
    context.sni_callback = lambda _, name, __: asked.append(name)
    return context, asked

"""HTTP connections to addresses that were checked, with a deadline and a limit on bytes for the whole exchange."""

import functools
import http.client
import io
import socket
import ssl
import time
from typing import Any, Self

from cifar_flax.serving.errors import FetchFailed
from cifar_flax.serving.fetch import addresses
from cifar_flax.serving.fetch.urls import PORTS, Url

MOST_INTERIM = 16  # answers before the one that counts
CONNECT_SECONDS = 3.0  # a server with several addresses, some of them dead, still has time to answer at another


class Deadline:
    """The end of the time for a whole exchange."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until the deadline.

        Raises:
          TimeoutError: it has passed.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class ResponseTooLarge(Exception):
    """The server has sent more bytes than are allowed."""


class _FinalResponse(http.client.HTTPResponse):
    """Skips interim answers, such as 102 and 103, of which http.client skips only 100."""

    _interim = 0

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc] # typeshed leaves it out
        if 100 <= status < 200 and status != http.client.SWITCHING_PROTOCOLS:
            self._interim += 1
            if self._interim > MOST_INTERIM:
                raise http.client.HTTPException
            status = http.client.CONTINUE
        return version, status, reason


class PinnedConnection(http.client.HTTPConnection):
    """A connection to a server all of whose addresses were checked. Its name is resolved just once, before the check.

    http.client knows no proxies, redirects, cookies or passwords. The socket that it is given keeps the limits: every wait ends
    at the deadline, so that a byte a second does not keep a connection open.
    """

    response_class = _FinalResponse

    def __init__(self, url: Url, deadline: Deadline, most_bytes: int, allow_private: bool) -> None:
        """Connects.

        Args:
          url: whose server to connect to.
          deadline: for the whole exchange: name, connection, encryption, headers, body.
          most_bytes: bytes that may be received, headers included.
          allow_private: whether any address is accepted.

        Raises:
          FetchRefused: an address of the server is not public.
          FetchFailed: nothing accepts a connection there.
          ssl.SSLError: the server cannot prove that it is the one that `url` names.
          TimeoutError: the deadline.
        """
        super().__init__(url.host, url.port)
        self.default_port = PORTS[url.scheme]  # the Host header leaves it out
        self._connection = _connect(url, deadline, allow_private)
        try:
            if url.scheme == "https":
                self._connection.settimeout(deadline.left())  # for the whole handshake
                self._connection = _tls().wrap_socket(self._connection, server_hostname=url.host)
        except BaseException:
            self._connection.close()
            raise
        self.sock: Any = _Limited(self._connection, deadline, most_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _connect(url: Url, deadline: Deadline, allow_private: bool) -> socket.socket:
    for address in addresses.resolve(url.host, url.port, deadline.left(), allow_private):
        try:
            return socket.create_connection((address, url.port), min(CONNECT_SECONDS, deadline.left()))
        except OSError:
            deadline.left()
    raise FetchFailed(f"{url.host} does not accept connections.", "no_answer", 424)


@functools.cache
def _tls() -> ssl.SSLContext:
    """Trusts the certificates of this machine. Reading them takes some 20 ms, so it is done once."""
    return ssl.create_default_context()


class _Limited(io.RawIOBase):
    """The part of a socket that http.client uses, with the limits."""

    def __init__(self, connection: socket.socket, deadline: Deadline, most_bytes: int) -> None:
        self._connection, self._deadline, self._allowance = connection, deadline, most_bytes

    def makefile(self, _: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def sendall(self, data: bytes) -> None:
        self._connection.settimeout(self._deadline.left())
        self._connection.sendall(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(self._deadline.left())
        received = self._connection.recv_into(buffer)
        self._allowance -= received
        if self._allowance < 0:
            raise ResponseTooLarge
        return received

    def close(self) -> None:
        """Does nothing: http.client closes its socket after the headers, before the body."""

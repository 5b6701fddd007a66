"""HTTP connections that go to the addresses that were checked, and that end when time or bytes are up."""

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

CONNECT_SECONDS = 3.0  # a server with several addresses, some of them dead, still has time to answer at another


class Deadline:
    """A point in time by which all must be done."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until then.

        Raises:
          TimeoutError: none.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class TooMuch(Exception):
    """The other side has sent more bytes than were allowed."""


class PinnedConnection(http.client.HTTPConnection):
    """A connection to a server all of whose addresses were checked; the name is resolved once, so it cannot change its mind.

    http.client knows no proxies, redirects, cookies or passwords. The limits are kept in the socket it is given: every wait
    is for what is left of the time for all, so that a byte a second does not keep a connection open.
    """

    def __init__(self, url: Url, deadline: Deadline, most_bytes: int, allow_private: bool) -> None:
        """Connects.

        Args:
          url: whose server to connect to.
          deadline: for all of it: name, connection, encryption, headers, body.
          most_bytes: that will be received, headers included.
          allow_private: whether any address will do.

        Raises:
          FetchRefused: an address of the server is not public.
          FetchFailed: nothing accepts a connection there.
          ssl.SSLError: the server cannot prove that it is the one that `url` names.
          TimeoutError: the deadline.
        """
        super().__init__(url.host, url.port)
        self.default_port = PORTS[url.scheme]  # which the Host header leaves out
        self._connection = _connect(url, deadline, allow_private)
        try:
            if url.scheme == "https":
                self._connection.settimeout(deadline.left())  # of the whole handshake
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
    """Trusts whom this machine trusts; reading those certificates takes some 20 ms, so it is done once."""
    return ssl.create_default_context()


class _Limited(io.RawIOBase):
    """A socket as http.client uses it, with the limits."""

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
            raise TooMuch
        return received

    def close(self) -> None:
        """Does nothing: http.client closes its socket once it has the headers, when the body is still to come."""

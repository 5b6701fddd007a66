"""waitress, with deadlines for slow clients and without a copy of bodies that are too large.

waitress alone starts its timeout anew with each byte, so 200 clients who send one now and then would keep all others out, and
a client that sends many requests at once and reads no answer keeps a thread for good. It closes the connection on a body that
is too large, which most clients then report instead of the answer, and when it stops it waits at most 5 seconds for requests.

Of other servers, gunicorn 27 (gthread) gives each slow client a thread for good, and granian 2.8 each that sends its body
slowly; it closes no connection of a slow reader, takes two Host headers, and answers what is malformed without a body.
"""

import contextlib
import json
import math
import os
import re
import resource
import socket
import sys
import time
from typing import Any

from waitress.buffers import BytesIOBasedBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import FixedStreamReceiver
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask
from waitress.utilities import BadRequest, RequestEntityTooLarge

from cifar_flax.errors import UserError
from cifar_flax.serving.web.responses import HEADERS, error_body

LARGEST_HEADERS = 2**15  # bytes; nginx takes as many
FEWEST_CONNECTIONS = 8
# Open files that a connection may need: itself, its body twice, and to have a picture fetched and decoded.
FILES = 6
ACCEPT_PAUSE = 0.2  # seconds
OVERLOAD_TIMEOUT_SECONDS = 1.0


class _DiscardBuffer(BytesIOBasedBuffer):
    def append(self, data: bytes) -> None:
        """Forgets the data."""


class _LengthRequired(BadRequest):
    code, reason = 411, "Length Required"


class _Parser(HTTPRequestParser):
    """Takes one request at a time, with a Host and without chunks.

    It receives but does not keep a body that is too large: its sender then reads the answer.
    """

    expect_continue: bool
    has_more = False  # bytes came after the request
    path = ""  # waitress logs it, even of what it could not parse

    def __init__(self, adj: Any, upload_bytes: int) -> None:
        super().__init__(adj)
        self._upload_bytes = upload_bytes

    def received(self, data: bytes) -> int:
        """Takes bytes of a request. Those of a further one are dropped: the connection ends after the answer to the first."""
        consumed: int = super().received(data)
        if not self.completed or self.empty:
            return consumed
        if data[consumed:].strip():
            self.headers["CONNECTION"], self.has_more = "close", True
        return len(data)

    def parse_header(self, header: bytes) -> None:
        try:
            super().parse_header(header)
        except ValueError as e:  # an address like http://[ or a number of 5,000 digits
            raise ParsingError(str(e)) from None
        self._check_host()
        if self.chunked:  # taken apart in Python, chunk by chunk, by the thread that all connections share
            self._refuse(_LengthRequired(""))
        elif re.search(rb"^transfer-encoding:", header, re.IGNORECASE | re.MULTILINE):  # empty, or in HTTP/1.0: proxies differ
            raise ParsingError("Transfer-Encoding")
        elif self.content_length > self._upload_bytes and self.expect_continue:
            self._refuse(RequestEntityTooLarge(""))
        elif self.content_length > self._upload_bytes:
            self.body_rcv = FixedStreamReceiver(self.content_length, _DiscardBuffer())

    def _check_host(self) -> None:
        """Refuses several Host headers, none in HTTP/1.1, and one that differs from the host in the request line."""
        host = self.headers.get("HOST", "")
        if "," in host or (not host and self.version == "1.1") or self.proxy_netloc.lower() not in ("", host.lower()):
            raise ParsingError("Host")

    def _refuse(self, error: BadRequest) -> None:
        """Answers with the error at once, before the body comes."""
        self.error, self.body_rcv, self.expect_continue = error, None, False


class _ErrorTask(ErrorTask):
    """Answers a request that does not reach the application in JSON."""

    def execute(self) -> None:
        error = self.request.error
        code = "too_large" if error.code == 413 else error.reason.lower().replace(" ", "_")
        body = json.dumps(error_body(code, f"The request cannot be used: {error.reason.lower()}.")).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers = [("Content-Type", "application/json"), *HEADERS.items()]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):
    """A connection.

    Attributes:
      waiting_since: time.monotonic() when the client began to keep us waiting: the end of the last answer, then the first byte
        of the next request. Infinite while the application works on a request.
    """

    error_task_class = _ErrorTask
    close_when_flushed: bool

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.waiting_since, self._idle = time.monotonic(), True
        self._unread, self._discards = False, False

    def parser_class(self, adj: Any) -> _Parser:
        return _Parser(adj, self.server.upload_bytes)

    def received(self, data: bytes) -> Any:
        if self._discards:
            return False
        if self._idle:
            self.waiting_since, self._idle = time.monotonic(), False
        try:
            return super().received(data)
        except OSError:  # there is no room on disk for the body, or no file left for it
            self.handle_close()
            return False

    def service(self) -> None:
        self.waiting_since, request = math.inf, self.requests[0]
        self._unread = request.error is not None or request.has_more
        super().service()
        self.waiting_since, self._idle = time.monotonic(), True

    def handle_write(self) -> None:
        """Sends what there is. After the last answer it waits for the client to hang up where some of its bytes are not read.

        To close the connection at once would have the system withdraw the answer.
        """
        if self.will_close or not (self._unread and self.close_when_flushed):
            super().handle_write()
            return
        self._flush_exception(self._flush_some)
        if self.connected and not self.total_outbufs_len:
            self.close_when_flushed, self._discards = False, True
            with contextlib.suppress(OSError):  # the client has hung up
                self.socket.shutdown(socket.SHUT_WR)


class Server(TcpWSGIServer):
    """Serves an application over HTTP/1.1 to clients who may be slow, numerous or malevolent."""

    channel_class = _Channel

    def __init__(
        self,
        app: Any,
        listener: socket.socket,
        threads: int,
        upload_bytes: int,
        connections: int = 200,
        client_seconds: float = 30.0,
        grace_seconds: float = 25.0,
    ) -> None:
        """Begins to listen.

        Args:
          app: WSGI application, which refuses requests whose Content-Length is above `upload_bytes` without reading them.
          listener: bound socket.
          threads: requests that the application works on at a time.
          upload_bytes: largest body that it gets to see.
          connections: at a time, or fewer where this process may not open as many files; further ones wait to be accepted.
          client_seconds: time for a request to arrive once it has begun, and time for an answer to be taken and the next
            request to begin. While all connections are taken, the half of them that has waited longest has a second.
          grace_seconds: time after `stop` in which requests that have arrived are still answered.

        Raises:
          UserError: this process may open too few files.
        """
        self.connections = min(connections, _connections_with_files())
        super().__init__(
            app,
            _sock=listener,
            bind_socket=False,
            threads=threads,
            connection_limit=self.connections + 2,  # waitress counts the listener and what wakes its loop
            max_request_header_size=LARGEST_HEADERS,
            log_socket_errors=False,  # clients who hang up
            cleanup_interval=1,
            ident="",
        )
        self.upload_bytes, self._client_seconds, self._grace_seconds = upload_bytes, client_seconds, grace_seconds
        self._stopped, self._accepts_from = False, 0.0

    def maintenance(self, now: float) -> None:
        """Closes connections that have taken too long; waitress calls it every `cleanup_interval`."""
        channels = sorted((c for c in self.active_channels.values() if not c.requests), key=lambda c: c.waiting_since)
        in_the_way = len(channels) // 2 if self.in_connection_overflow else 0
        for number, channel in enumerate(channels):
            most = min(OVERLOAD_TIMEOUT_SECONDS, self._client_seconds) if number < in_the_way else self._client_seconds
            if time.monotonic() - channel.waiting_since > most:
                channel.will_close = True
                if channel.total_outbufs_len:  # it would be closed when the client takes more, which may be never
                    channel.handle_close()

    def readable(self) -> bool:
        """Whether to accept connections."""
        return bool(super().readable()) and time.monotonic() >= self._accepts_from

    def accept(self) -> Any:
        """Accepts a connection, or none for a while where no more files can be opened: asked again at once, it would spin."""
        try:
            return super().accept()
        except OSError:
            self._accepts_from = time.monotonic() + ACCEPT_PAUSE
            return None

    def run(self) -> None:
        """Serves until `stop` is called, and then until requests that have arrived are answered."""
        while not self._stopped:
            self._poll()
        self.asyncore.dispatcher.close(self)  # new connections are refused at once
        end = time.monotonic() + self._grace_seconds
        while time.monotonic() < end and any(c.requests or c.total_outbufs_len for c in self.active_channels.values()):
            self._poll(0.1)

    def stop(self) -> None:
        """Ends `run`; signal handlers and other threads may call it."""
        self._stopped = True
        self.pull_trigger()

    def _poll(self, seconds: float = 1.0) -> None:
        """Receives and sends what can be within so many seconds."""
        self.asyncore.loop(timeout=seconds, use_poll=True, map=self._map, count=1)  # select takes no file above number 1023


def _connections_with_files() -> int:
    """Connections for which this process may open enough files."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    connections = (limit - len(os.listdir("/dev/fd"))) // FILES if limit != resource.RLIM_INFINITY else sys.maxsize
    if connections < FEWEST_CONNECTIONS:
        raise UserError(f"this process may open only {limit} files, too few for a server; try  ulimit -n 1024")
    return connections

"""waitress, with deadlines for slow clients and without a copy of bodies that are too large.

waitress alone starts its timeout anew with each byte, so 200 clients who send one now and then would keep all others out. It
closes the connection on a body that is too large, which most clients then report instead of the answer, and when it stops it
waits at most 5 seconds for requests.
"""

import json
import math
import socket
import time
from typing import Any

from waitress.buffers import BytesIOBasedBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.receiver import FixedStreamReceiver
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask
from waitress.utilities import BadRequest

from cifar_flax.serving.web.responses import HEADERS, error_body


class _DiscardBuffer(BytesIOBasedBuffer):
    def append(self, data: bytes) -> None:
        """Forgets the data."""


class _LengthRequired(BadRequest):
    code, reason = 411, "Length Required"


class _Parser(HTTPRequestParser):
    """Refuses chunked bodies, and receives but does not keep a body that is too large: its sender then reads the answer."""

    def __init__(self, adj: Any, upload_bytes: int) -> None:
        super().__init__(adj)
        self._upload_bytes = upload_bytes

    def parse_header(self, header: bytes) -> None:
        super().parse_header(header)
        if self.chunked:  # taken apart in Python, chunk by chunk, by the thread that all connections share
            self.error, self.body_rcv, self.expect_continue = _LengthRequired(""), None, False
        elif self.content_length > self._upload_bytes:
            self.body_rcv = FixedStreamReceiver(self.content_length, _DiscardBuffer())


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

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.waiting_since, self._idle = time.monotonic(), True

    def parser_class(self, adj: Any) -> _Parser:
        return _Parser(adj, self.server.upload_bytes)

    def received(self, data: bytes) -> Any:
        if self._idle:
            self.waiting_since, self._idle = time.monotonic(), False
        return super().received(data)

    def service(self) -> None:
        self.waiting_since = math.inf
        super().service()
        self.waiting_since, self._idle = time.monotonic(), True


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
          connections: at a time; further ones wait to be accepted.
          client_seconds: time for a request to arrive once it has begun, and time for an answer to be taken and the next
            request to begin.
          grace_seconds: time after `stop` in which requests that have arrived are still answered.
        """
        super().__init__(
            app,
            _sock=listener,
            bind_socket=False,
            threads=threads,
            connection_limit=connections,
            cleanup_interval=1,
            ident="",
        )
        self.upload_bytes, self._client_seconds, self._grace_seconds = upload_bytes, client_seconds, grace_seconds
        self._stopped = False

    def maintenance(self, now: float) -> None:
        """Closes connections that have taken too long; waitress calls it every `cleanup_interval`."""
        for channel in self.active_channels.values():
            if not channel.requests and time.monotonic() - channel.waiting_since > self._client_seconds:
                channel.will_close = True

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
        self.asyncore.loop(timeout=seconds, map=self._map, count=1)

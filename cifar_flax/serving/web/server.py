"""waitress, with the limits that it lacks: on how long clients take, and on what is stored of bodies that are too large."""

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


class _Parser(HTTPRequestParser):
    """Reads a request. A body that is too large is received, though not kept, so that its sender gets to read the answer."""

    def __init__(self, adj: Any, most: int) -> None:
        super().__init__(adj)
        self._most = most

    def parse_header(self, header: bytes) -> None:
        super().parse_header(header)
        if self.chunked:  # taken apart in Python, chunk by chunk, by the thread that all connections share
            self.error, self.body_rcv, self.expect_continue = _LengthRequired(""), None, False
        elif self.content_length > self._most:
            self.body_rcv = FixedStreamReceiver(self.content_length, _Nowhere())


class _LengthRequired(BadRequest):
    code = 411
    reason = "Length Required"


class _Nowhere(BytesIOBasedBuffer):
    def append(self, data: bytes) -> None:
        """Forgets it."""


class _ErrorTask(ErrorTask):
    """Says in JSON what is wrong with a request that does not reach the application."""

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
      since: from when on the client has been keeping us waiting, by `time.monotonic`: from the end of the last answer, or the
        first byte after it, but no later byte. Infinite while it is us who takes time.
    """

    error_task_class = _ErrorTask

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.since, self._idle = time.monotonic(), True

    def parser_class(self, adj: Any) -> _Parser:
        return _Parser(adj, self.server.upload_bytes)

    def received(self, data: bytes) -> Any:
        if self._idle:
            self.since, self._idle = time.monotonic(), False
        return super().received(data)

    def service(self) -> None:
        self.since = math.inf
        super().service()
        self.since, self._idle = time.monotonic(), True


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
        seconds: float = 30.0,
        grace: float = 25.0,
    ) -> None:
        """Begins to listen.

        Args:
          app: WSGI application, which refuses requests whose Content-Length is above `upload_bytes` without reading them.
          listener: bound socket.
          threads: requests that the application works on together.
          upload_bytes: largest body that it gets to see.
          connections: at a time; further ones wait to be accepted.
          seconds: in which a request has to arrive once it has begun, and in which an answer has to be taken and the next
            request to begin. waitress' own limit, `channel_timeout`, begins anew with each byte.
          grace: seconds after `stop` in which requests that have arrived are still answered.
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
        self.upload_bytes, self._seconds, self._grace = upload_bytes, seconds, grace
        self._stopped = False

    def maintenance(self, now: float) -> None:
        """Closes connections that have taken too long; waitress calls it every `cleanup_interval`."""
        for channel in self.active_channels.values():
            if not channel.requests and time.monotonic() - channel.since > self._seconds:
                channel.will_close = True

    def run(self) -> None:
        """Serves until `stop` is called, and then until requests that have arrived are answered."""
        while not self._stopped:
            self._turn()
        self.asyncore.dispatcher.close(self)  # whoever comes now is refused, not left waiting
        end = time.monotonic() + self._grace
        while time.monotonic() < end and any(c.requests or c.total_outbufs_len for c in self.active_channels.values()):
            self._turn(0.1)

    def stop(self) -> None:
        """Ends `run`; a signal handler may call it, and other threads."""
        self._stopped = True
        self.pull_trigger()

    def _turn(self, seconds: float = 1.0) -> None:
        """Receives and sends what can be within so many seconds."""
        self.asyncore.loop(timeout=seconds, map=self._map, count=1)

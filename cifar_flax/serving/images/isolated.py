"""Decodes strangers' pictures outside this process, within limits that the operating system enforces."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import weakref
from dataclasses import asdict
from types import TracebackType
from typing import Self

from PIL import Image

from cifar_flax.serving.errors import DecoderUnavailable, UnreadableImage
from cifar_flax.serving.images.decode import LARGE, LIMIT_CODES, SMALL, Limits, too_costly
from cifar_flax.serving.images.worker import TAKEN

MARGIN_SECONDS = 10  # beyond the limit that the decoding process keeps by itself
LONGEST_LINE = 4096  # bytes of the answer's first line
INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL")  # variables; others may hold passwords
SINGLE_THREADED = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


class IsolatedDecoder:
    """Decodes pictures in child processes, each of which decodes one; any number of threads may use it.

    A process that runs `cifar_flax.serving.images.worker` keeps them ready. Should it end, the next picture starts it anew.
    """

    def __init__(self, processes: int) -> None:
        """Starts the worker, without waiting for it.

        Args:
          processes: pictures that are decoded at a time; further ones wait.
        """
        self._processes = processes
        self._lock, self._one_large = threading.Lock(), threading.Lock()
        self._start()

    def decode(self, data: bytes, limits: Limits) -> Image.Image:
        """Decodes a file.

        Args:
          data: the file; see `cifar_flax.serving.images.decode.decode`.
          limits: on the picture and on the process that decodes it.

        Returns:
          The picture: RGB, uint8, upright.

        Raises:
          UnreadableImage: it is no picture, damaged, or beyond a limit.
          DecoderUnavailable: the machine has no process or memory to spare.
        """
        for _ in range(2):  # the worker may have ended since the last picture
            with contextlib.suppress(EOFError, OSError):
                return self._decode(data, limits)
        raise DecoderUnavailable

    def decode_any(self, data: bytes) -> Image.Image:
        """Decodes a small picture at once, and large ones one by one. Raises as `decode` does."""
        try:
            return self.decode(data, SMALL)
        except UnreadableImage as e:
            if e.code not in LIMIT_CODES:
                raise
        with self._one_large:
            return self.decode(data, LARGE)

    def close(self) -> None:
        """Ends the worker; pictures that are being decoded are finished."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _start(self) -> None:
        self._control, theirs = socket.socketpair()
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        with theirs:
            process = subprocess.Popen(  # nosec B603 # this Python, with arguments of our own
                # -P: no modules from the working directory, which may be a folder of strangers' files
                [sys.executable, "-P", "-m", "cifar_flax.serving.images.worker", str(self._processes)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={**environment, **SINGLE_THREADED, "PYTHONPATH": path},
                process_group=0,  # Ctrl-C in the terminal is this process's to handle
            )
        self._finalizer = weakref.finalize(self, _stop, self._control, process)

    def _decode(self, data: bytes, limits: Limits) -> Image.Image:
        """Asks the worker once.

        Raises:
          UnreadableImage: it is no picture, or its process has ended without an answer.
          EOFError: no process takes the picture.
          OSError: the same.
        """
        connection, theirs = socket.socketpair()
        with connection, theirs:
            connection.settimeout(limits.seconds + MARGIN_SECONDS)
            with self._lock:
                try:
                    socket.send_fds(self._control, [b"\0"], [theirs.fileno()])
                except OSError:
                    self.close()
                    self._start()
                    socket.send_fds(self._control, [b"\0"], [theirs.fileno()])
            theirs.close()
            with contextlib.suppress(BrokenPipeError):  # a process that has exceeded a limit reads no further
                connection.sendall(json.dumps(asdict(limits)).encode() + b"\n")
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            return _read_answer(connection, limits)


def _read_answer(connection: socket.socket, limits: Limits) -> Image.Image:
    with connection.makefile("rb") as stream:
        if stream.read(1) != TAKEN:
            raise EOFError
        line = stream.readline(LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise too_costly()
        answer = json.loads(line)
        if "refused" in answer:
            raise UnreadableImage(*answer["refused"])
        width, height = answer["size"]
        pixels = bytearray(3 * min(width * height, limits.decoded_pixels))
        if stream.readinto(pixels) != len(pixels):
            raise too_costly()
    return Image.frombytes("RGB", (width, height), pixels)


def _stop(control: socket.socket, process: subprocess.Popen[bytes]) -> None:
    control.close()
    process.kill()
    process.wait()

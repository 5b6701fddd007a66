"""Decodes pictures outside this process, within limits that the operating system enforces."""

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import cache
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from PIL import Image

from cifar_flax.data.pictures.decode import LARGE, LIMIT_CODES, SMALL, TOO_COSTLY, Limits, too_costly
from cifar_flax.data.pictures.errors import DecoderUnavailable, UnreadableImage
from cifar_flax.data.pictures.worker import TAKEN

MARGIN_SECONDS = 10  # beyond the limit that the decoding process keeps by itself
LONGEST_LINE = 4096  # bytes of the answer's first line
MOST_PROCESSES = 16  # of the decoder that a program shares
BATCH = 256  # files that a process decodes in a row
INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL")  # variables; others may hold passwords
LONGEST_PATH = 512  # bytes of a request for a file that is sent with others
BUFFER = 212_992  # bytes of a socket's buffers, Linux's own default; macOS has 8,192, and requests of a BATCH more
SINGLE_THREADED = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}

Answer = np.ndarray | UnreadableImage


class IsolatedDecoder:
    """Decodes pictures in child processes; any number of threads may use it.

    A process that runs `cifar_flax.data.pictures.worker` keeps them ready. Should it end, the next picture starts it anew.
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
          data: the file; see `cifar_flax.data.pictures.decode.decode`.
          limits: on the picture and on the process that decodes it.

        Returns:
          The picture: RGB, uint8, upright.

        Raises:
          UnreadableImage: it is no picture, damaged, or beyond a limit.
          DecoderUnavailable: the machine has no process or memory to spare.
        """
        (answer,) = self._ask([json.dumps({"bytes": len(data)}).encode() + b"\n" + data], limits)
        if isinstance(answer, UnreadableImage):
            raise answer
        return Image.fromarray(answer)

    def decode_any(self, data: bytes) -> Image.Image:
        """Decodes a small picture at once, and large ones one by one. Raises as `decode` does."""
        try:
            return self.decode(data, SMALL)
        except UnreadableImage as e:
            if e.code not in LIMIT_CODES:
                raise
        with self._one_large:
            return self.decode(data, LARGE)

    def fit_files(self, paths: Sequence[Path], images: np.ndarray) -> dict[int, UnreadableImage]:
        """Reads files, as many at a time as there are processes, and crops and resizes them by `fit_picture`.

        Args:
          paths: the files, [N].
          images: uint8 [N, H, W, C], into which the results are written.

        Returns:
          What cannot be read, by index and in its order; those images are left as they are.

        Raises:
          DecoderUnavailable: the machine has no process or memory to spare.
        """
        return self._fit([_request(path, None) for path in paths], images)

    def fit_parts(self, path: Path, sizes: Sequence[int], images: np.ndarray) -> dict[int, UnreadableImage]:
        """As `fit_files`, with pictures that lie one after another in one file: thousands of files take long to make.

        Args:
          path: the file.
          sizes: bytes of each picture, [N].
          images: as in `fit_files`.

        Returns and raises as `fit_files`.
        """
        starts = itertools.accumulate(sizes, initial=0)
        return self._fit([_request(path, part) for part in zip(starts, sizes, strict=False)], images)

    def _fit(self, requests: list[bytes], images: np.ndarray) -> dict[int, UnreadableImage]:
        # A process answers before it reads on, so that what is sent at once has to fit into the buffers of a socket.
        size = BATCH if max(map(len, requests), default=0) < LONGEST_PATH else 1
        given_up = threading.Event()

        def fit_batch(start: int) -> dict[int, UnreadableImage]:
            rows = range(start, min(start + size, len(requests)))
            return self._fit_batch(rows, requests, images, given_up)

        with ThreadPoolExecutor(self._processes) as threads:
            try:
                batches = threads.map(fit_batch, range(0, len(requests), size))
                return {i: error for refused in batches for i, error in refused.items()}
            finally:
                threads.shutdown(cancel_futures=True)  # after Ctrl-C, nobody needs the others

    def _fit_batch(
        self, rows: range, requests: list[bytes], images: np.ndarray, given_up: threading.Event
    ) -> dict[int, UnreadableImage]:
        """Reads the files of `rows`. The time for a large picture is spent in vain once: that one sets `given_up`."""
        refused: dict[int, UnreadableImage] = {}

        def keep(rows: range, answers: Iterator[Answer]) -> range:
            """Keeps answers, and returns the rows without one, behind a picture at which its process was ended."""
            for i, answer in zip(rows, answers, strict=False):
                if isinstance(answer, UnreadableImage):
                    refused[i] = answer
                else:
                    images[i] = answer
                rows = rows[1:]
            return rows

        while rows:
            rows = keep(rows, self._ask([requests[i] for i in rows], SMALL, images.shape[1:]))
        for i in [i for i, error in refused.items() if error.code in LIMIT_CODES]:
            with self._one_large:
                if given_up.is_set():
                    refused[i] = UnreadableImage("It takes long to read, and was given up after another that does.", TOO_COSTLY)
                    continue
                del refused[i]
                keep(range(i, i + 1), self._ask([requests[i]], LARGE, images.shape[1:]))
                if i in refused and refused[i].code == TOO_COSTLY:
                    given_up.set()
        return dict(sorted(refused.items()))

    def close(self) -> None:
        """Ends the worker; pictures that are being decoded are finished."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _start(self) -> None:
        self._control, worker_end = socket.socketpair()
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        with worker_end:
            process = subprocess.Popen(  # nosec B603 # this Python, with fixed arguments
                # -P: no modules from the working directory, which may be a folder of strangers' files
                [sys.executable, "-P", "-m", "cifar_flax.data.pictures.worker", str(self._processes)],
                stdin=worker_end.fileno(),
                stdout=subprocess.DEVNULL,
                env={**environment, **SINGLE_THREADED, "PYTHONPATH": path},
                process_group=0,  # Ctrl-C in the terminal is this process's to handle
            )
        self._finalizer = weakref.finalize(self, _stop, self._control, process)

    def _ask(self, requests: Sequence[bytes], limits: Limits, image_shape: tuple[int, ...] | None = None) -> Iterator[Answer]:
        """Sends requests to one process and yields their answers: pictures of `image_shape`, or of their own where it is None.

        The answer to a request at which the process exceeds a limit is `too_costly`, and the last.

        Raises:
          DecoderUnavailable: no process takes the requests.
        """
        settings = {"limits": asdict(limits), "image_shape": image_shape}
        for _ in range(2):  # the worker may have ended since the last picture
            try:
                connection = self._connect()
            except OSError:
                continue
            with connection, connection.makefile("rb") as stream:
                connection.settimeout(limits.seconds + MARGIN_SECONDS)
                with contextlib.suppress(OSError):  # a process that was ended reads no further
                    connection.sendall(json.dumps(settings).encode() + b"\n")
                    connection.sendall(b"".join(requests))
                    connection.shutdown(socket.SHUT_WR)
                if not _is_taken(stream):
                    continue
                for _ in requests:
                    answer = _read_answer(stream, limits)
                    yield too_costly() if answer is None else answer
                    if answer is None:
                        break
                return
        raise DecoderUnavailable

    def _connect(self) -> socket.socket:
        """A connection to the next process that is ready.

        Raises:
          OSError: no process or file can be opened.
        """
        connection, worker_end = socket.socketpair()
        try:
            for end in (connection, worker_end):
                for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                    end.setsockopt(socket.SOL_SOCKET, option, BUFFER)
            with worker_end, self._lock:
                try:
                    socket.send_fds(self._control, [b"\0"], [worker_end.fileno()])
                except OSError:
                    self.close()
                    self._start()
                    socket.send_fds(self._control, [b"\0"], [worker_end.fileno()])
        except OSError:
            connection.close()
            raise
        return connection


@cache
def shared_decoder() -> IsolatedDecoder:
    """The decoder of this program, with a process a core."""
    return IsolatedDecoder(min(os.cpu_count() or 1, MOST_PROCESSES))


def _request(path: Path, part: tuple[int, int] | None) -> bytes:
    return json.dumps({"path": os.path.abspath(path), "part": part}).encode() + b"\n"


def _is_taken(stream: BufferedReader) -> bool:
    with contextlib.suppress(OSError):
        return stream.read(1) == TAKEN
    return False


def _read_answer(stream: BufferedReader, limits: Limits) -> Answer | None:
    """The next answer; None from a process that was ended."""
    with contextlib.suppress(OSError):
        line = stream.readline(LONGEST_LINE)
        if not line.endswith(b"\n"):
            return None
        answer = json.loads(line)
        if "refused" in answer:
            return UnreadableImage(*answer["refused"])
        height, width, channels = answer["shape"]
        pixels = bytearray(channels * min(height * width, limits.decoded_pixels))
        if stream.readinto(pixels) == len(pixels):
            return np.frombuffer(pixels, np.uint8).reshape(height, width, channels)
    return None


def _stop(control: socket.socket, process: subprocess.Popen[bytes]) -> None:
    control.close()
    process.kill()
    process.wait()

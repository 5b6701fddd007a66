"""Decodes pictures in processes of their own, which the operating system ends where they exceed a limit.

`cifar_flax.data.pictures.isolated` runs this module with the number of processes to keep ready. It imports Pillow once and
forks them; each answers one connection and ends, so that no picture meets what those of other connections left behind.

Standard input is a Unix socket over which the connections come. The process that takes one first sends `TAKEN`. It then reads a
line of JSON with the settings: "limits", "pictures", how many come at most, and "fit", null or the other arguments of
`fit_picture`. For each picture it reads a line with its "path", or with the number of its "bytes" and those. It answers with a
line of JSON: {"shape": [height, width, channels]}, followed by the pixels, or {"refused": [sentence, code]}. A connection that
ends after `TAKEN` without an answer is that of a process that exceeded a limit.
"""

import contextlib
import gc
import json
import math
import os
import resource
import signal
import socket
import sys
import time
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import AvifImagePlugin, Image

from cifar_flax.data.pictures.decode import Limits, decode
from cifar_flax.data.pictures.errors import UnreadableImage
from cifar_flax.data.pictures.files import MAX_BYTES, read_bytes
from cifar_flax.data.pictures.fit import fit_picture

TAKEN = b"+"
NOTHING_LEFT = 3  # exit status of a process to which no connection comes any more
SENT_PIXELS = 2**19  # at a time


def main(processes: int) -> None:
    """Keeps so many processes ready until the program that started this one is gone."""
    Image.init()
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the stack of each thread would count as memory
    picture = BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    control = socket.socket(fileno=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # libtiff writes there what is wrong with a file
    with contextlib.suppress(OSError):  # Linux
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")  # where memory runs out, the program stays
    gc.freeze()  # so that a child's garbage collection does not copy the memory of all imports
    ready = 0
    while True:
        for _ in range(processes - ready):
            try:
                if os.fork() == 0:
                    _run(control, picture.getvalue())
            except OSError:  # the machine has no process to spare at the moment
                time.sleep(0.1)
            else:
                ready += 1
        if ready:
            _, status = os.wait()
            ready -= 1
            if os.waitstatus_to_exitcode(status) == NOTHING_LEFT:
                return


def _run(control: socket.socket, warm_up: bytes) -> None:
    """Answers one connection and ends this process."""
    status = 1
    try:
        decode(warm_up)  # copies most of the memory that the process will write to, while nobody waits
        taken, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        control.close()
        if taken:
            _answer(socket.socket(fileno=descriptors[0]))
        status = 0 if taken else NOTHING_LEFT
    finally:
        os._exit(status)  # without the clean-up that belongs to the parent


def _answer(connection: socket.socket) -> None:
    connection.sendall(TAKEN)
    stream = connection.makefile("rb")
    settings = json.loads(stream.readline())
    limiter = _Limiter(Limits(**settings["limits"]), settings["pictures"])
    while line := stream.readline():
        limiter.begin()
        request = json.loads(line)
        try:
            data = read_bytes(request["path"]) if "path" in request else stream.read(request["bytes"])
            limiter.limit_decoding()
            picture = decode(data, limiter.limits)
            if settings["fit"] is None:
                _send_picture(connection, picture)
            else:
                image = fit_picture(picture, *settings["fit"])
                connection.sendall(_line(shape=image.shape) + image.tobytes())
        except UnreadableImage as e:
            connection.sendall(_line(refused=[str(e), e.code]))
        limiter.end()


def _send_picture(connection: socket.socket, picture: Image.Image) -> None:
    width, height = picture.size
    connection.sendall(_line(shape=[height, width, 3]))
    rows = max(1, SENT_PIXELS // width)
    for top in range(0, height, rows):
        connection.sendall(picture.crop((0, top, width, min(top + rows, height))).tobytes())


def _line(**answer: Any) -> bytes:
    return json.dumps(answer).encode() + b"\n"


class _Limiter:
    """Has the operating system limit this process: each picture, and for good what all of them can take.

    Attributes:
      limits: of each picture.
    """

    def __init__(self, limits: Limits, pictures: int) -> None:
        self.limits = limits
        seconds = math.ceil(limits.cpu_seconds * pictures) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))  # in case a decoder has been taken over
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        self._statm: int | None = None
        with contextlib.suppress(FileNotFoundError):  # macOS has no such file, and does not enforce a limit on memory
            self._statm = os.open("/proc/self/statm", os.O_RDONLY)
        self._most = self._memory() + MAX_BYTES + limits.memory

    def begin(self) -> None:
        """Starts the clock of a picture, which is about to be read."""
        signal.setitimer(signal.ITIMER_REAL, self.limits.seconds)  # SIGALRM ends the process

    def limit_decoding(self) -> None:
        """Limits the CPU time and memory of what follows, beyond the memory that the file takes."""
        signal.setitimer(signal.ITIMER_PROF, self.limits.cpu_seconds)  # SIGPROF ends the process
        if self._statm is not None:
            most = min(self._memory() + self.limits.memory, self._most)
            resource.setrlimit(resource.RLIMIT_AS, (most, self._most))

    def end(self) -> None:
        """Stops the clocks."""
        for clock in (signal.ITIMER_REAL, signal.ITIMER_PROF):
            signal.setitimer(clock, 0)

    def _memory(self) -> int:
        """Bytes of address space of this process."""
        pages = 0 if self._statm is None else int(os.pread(self._statm, 32, 0).split()[0])
        return pages * resource.getpagesize()


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""Decodes pictures in processes of their own, which the operating system ends where they exceed a limit.

`cifar_flax.data.pictures.isolated` runs this module with the number of processes to keep ready. It imports Pillow once and
forks them; each ends after `PICTURES`, or after one with high limits, so that what pictures leave behind does not last.

Standard input is a Unix socket over which the connections come. The process that takes one first sends `TAKEN`. It then reads a
line of JSON with the settings: "limits", and "image_shape", to which pictures are cropped and resized, or null. For each
picture it reads a line with its "path" and "part", null or where in that file it begins and how long it is; or with the number
of its "bytes", and those. It answers with a line of JSON: {"shape": [height, width, channels]}, followed by the pixels, or
{"refused": [sentence, code]}. A connection that ends after `TAKEN` without an answer is that of a process that exceeded a
limit.
"""

import contextlib
import gc
import json
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

from cifar_flax.data.pictures.decode import LARGE, SMALL, Limits, decode
from cifar_flax.data.pictures.errors import UnreadableImage
from cifar_flax.data.pictures.files import MAX_BYTES, read_bytes
from cifar_flax.data.pictures.fit import fit_picture

TAKEN = b"+"
NOTHING_LEFT = 3  # exit status of a process to which no connection comes any more
SENT_PIXELS = 2**19  # at a time
PICTURES = 256  # that a process decodes, or those of one more connection; to fork takes as long as several small pictures
CPU_SECONDS = 300  # of a process over its life: twice what as many pictures may take within SMALL


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
    """Answers connections and ends this process."""
    status = 1
    try:
        decode(warm_up)  # copies most of the memory that the process will write to, while nobody waits
        limiter = _Limiter()
        while limiter.pictures < PICTURES:
            taken, descriptors, _, _ = socket.recv_fds(control, 1, 1)
            if not taken:
                status = NOTHING_LEFT
                return
            with socket.socket(fileno=descriptors[0]) as connection:
                limits = _answer(connection, limiter)
            if limits.memory > SMALL.memory:
                break
        status = 0
    finally:
        os._exit(status)  # without the clean-up that belongs to the parent


def _answer(connection: socket.socket, limiter: "_Limiter") -> Limits:
    """Answers a connection and returns the limits that it had."""
    connection.sendall(TAKEN)
    with connection.makefile("rb") as stream:
        settings = json.loads(stream.readline())
        limits = Limits(**settings["limits"])
        while line := stream.readline():
            limiter.begin(limits)
            request = json.loads(line)
            try:
                data = read_bytes(request["path"], request["part"]) if "path" in request else stream.read(request["bytes"])
                limiter.limit_decoding(limits)
                picture = decode(data, limits)
                if settings["image_shape"] is None:
                    _send_picture(connection, picture)
                else:
                    image = fit_picture(picture, settings["image_shape"])
                    connection.sendall(_line(shape=image.shape) + image.tobytes())
            except UnreadableImage as e:
                connection.sendall(_line(refused=[str(e), e.code]))
            limiter.end()
    return limits


def _send_picture(connection: socket.socket, picture: Image.Image) -> None:
    width, height = picture.size
    connection.sendall(_line(shape=[height, width, 3]))
    rows = max(1, SENT_PIXELS // width)
    for top in range(0, height, rows):
        connection.sendall(picture.crop((0, top, width, min(top + rows, height))).tobytes())


def _line(**answer: Any) -> bytes:
    return json.dumps(answer).encode() + b"\n"


class _Limiter:
    """Sets the limits of the operating system on this process: on each picture, and for good on all of them.

    Attributes:
      pictures: how many have been decoded or refused.
    """

    def __init__(self) -> None:
        self.pictures = 0
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))  # in case a decoder has been taken over
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        self._statm: int | None = None
        with contextlib.suppress(FileNotFoundError):  # macOS has no such file, and does not enforce a limit on memory
            self._statm = os.open("/proc/self/statm", os.O_RDONLY)
        self._most = self._memory() + MAX_BYTES + LARGE.memory

    def begin(self, limits: Limits) -> None:
        """Starts the clock of a picture, which is about to be read."""
        signal.setitimer(signal.ITIMER_REAL, limits.seconds)  # SIGALRM ends the process

    def limit_decoding(self, limits: Limits) -> None:
        """Limits the CPU time and memory of what follows, beyond the memory that the file takes."""
        signal.setitimer(signal.ITIMER_PROF, limits.cpu_seconds)  # SIGPROF ends the process
        if self._statm is not None:
            most = min(self._memory() + limits.memory, self._most)
            resource.setrlimit(resource.RLIMIT_AS, (most, self._most))

    def end(self) -> None:
        """Stops the clocks, and lets the next file be read."""
        self.pictures += 1
        for clock in (signal.ITIMER_REAL, signal.ITIMER_PROF):
            signal.setitimer(clock, 0)
        if self._statm is not None:
            resource.setrlimit(resource.RLIMIT_AS, (self._most, self._most))

    def _memory(self) -> int:
        """Bytes of address space of this process."""
        pages = 0 if self._statm is None else int(os.pread(self._statm, 32, 0).split()[0])
        return pages * resource.getpagesize()


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""Decodes each picture in a process of its own, which the operating system ends where it exceeds a limit.

`cifar_flax.serving.images.isolated` runs this module with the number of processes to keep ready. It imports Pillow once and
forks them; each answers one connection and ends, so that no picture meets what an earlier one left behind.

Standard input is a Unix socket over which the connections come. The process that takes one first sends `TAKEN`. It then reads
the limits as a line of JSON and the file up to its end, and answers with a line of JSON: {"size": [width, height]}, followed by
the pixels as RGB, or {"refused": [sentence, code, status]}. A connection that ends after `TAKEN` without an answer is that of a
process that exceeded a limit.
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

from PIL import AvifImagePlugin, Image

from cifar_flax.serving.errors import UnreadableImage
from cifar_flax.serving.images.decode import Limits, decode

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
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")  # where memory runs out, the server stays
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
    limits = Limits(**json.loads(stream.readline()))
    signal.setitimer(signal.ITIMER_REAL, limits.seconds)  # SIGALRM ends the process
    data = stream.read()
    _limit_resources(limits)
    try:
        picture = decode(data, limits)
    except UnreadableImage as e:
        connection.sendall(_line(refused=[str(e), e.code, e.status]))
        return
    width, height = picture.size
    connection.sendall(_line(size=[width, height]))
    rows = max(1, SENT_PIXELS // width)
    for top in range(0, height, rows):
        connection.sendall(picture.crop((0, top, width, min(top + rows, height))).tobytes())


def _line(**answer: list[object]) -> bytes:
    return json.dumps(answer).encode() + b"\n"


def _limit_resources(limits: Limits) -> None:
    """Has the operating system limit this process for good."""
    signal.setitimer(signal.ITIMER_PROF, limits.cpu_seconds)  # SIGPROF ends the process
    seconds = math.ceil(limits.cpu_seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))  # in case a decoder has been taken over
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    with contextlib.suppress(FileNotFoundError):  # macOS has no such file, and does not enforce a limit on memory
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + limits.memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main(int(sys.argv[1]))

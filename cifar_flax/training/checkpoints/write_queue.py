"""States that wait to be written by a thread, while training goes on."""

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

UNWRITTEN_BYTES = 1 << 29  # of states that wait on a device until they are written, if more than one does


class _Write(NamedTuple):
    done: Future[None]
    score: float


class WriteQueue:
    """Writes one state after the other. Those that newer ones would displace on disk are left out."""

    def __init__(self, keep_latest: int) -> None:
        """Keeps the latest few, and of those that are waiting or being written the one with the highest score."""
        self._keep_latest = keep_latest
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._unwritten: deque[_Write] = deque()

    def make_room(self, size: int) -> None:
        """Cancels superseded writes and waits until `size` more bytes may be pending; raises what a write raised."""
        best = max(reversed(self._unwritten), key=lambda write: write.score, default=None)  # of equal ones the latest
        for write in list(self._unwritten)[: -self._keep_latest + 1 or None]:
            if write is not best or write.score == -math.inf:
                write.done.cancel()  # which does nothing to one that is being written
        while self._unwritten and (self._unwritten[0].done.done() or (len(self._unwritten) + 1) * size > UNWRITTEN_BYTES):
            self._await_oldest()

    def submit(self, write: Callable[[], None], score: float) -> None:
        """Calls `write` in a thread; `score` selects the best, and is -inf for a state without scores."""
        self._unwritten.append(_Write(self._writer.submit(write), score))

    def wait(self) -> None:
        """Returns once all is written; raises what a write raised."""
        while self._unwritten:
            self._await_oldest()

    def close(self) -> None:
        """Ends the thread after the writes that are submitted."""
        self._writer.shutdown()

    def _await_oldest(self) -> None:
        write = self._unwritten.popleft()
        if not write.done.cancelled():
            write.done.result()

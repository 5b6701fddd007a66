"""Bounded concurrency with a bounded queue, in which no client delays the others."""

import contextlib
import itertools
import threading
from bisect import insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from cifar_flax.serving.errors import Busy


@dataclass(order=True)
class _Turn:
    """The place in the queue of a request; `rank` counts earlier ones of the same client, and rounds that it has had."""

    rank: int
    arrival: int
    decided: threading.Event = field(default_factory=threading.Event, compare=False)
    admitted: bool = field(default=False, compare=False)

    def decide(self, admitted: bool) -> None:
        self.admitted = admitted
        self.decided.set()


class Admission:
    """Lets `places` requests in at the same time.

    When all places are taken, `queue_size` further ones wait, for `queue_timeout` seconds at most. The first of each client
    comes before the second of any, and so on; a round that a request has had counts like a request before it. All others get
    `Busy` at once: where the queue is full, the last in that order.
    """

    def __init__(self, places: int, queue_size: int = 0, queue_timeout: float = 0.0) -> None:
        self._free, self._queue_size, self._queue_timeout = places, queue_size, queue_timeout
        self._lock = threading.Lock()
        self._queue: list[_Turn] = []
        self._requests: Counter[str] = Counter()  # of each client, waiting or not
        self._arrivals = itertools.count()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._queue)

    @contextlib.contextmanager
    def place(self, client: str, round_: int = 0) -> Iterator[None]:
        """A context that has one of the places.

        Args:
          client: who asks, such as an IP address.
          round_: how often this request has had a place before.

        Raises:
          Busy: there is no place, or none in time.
        """
        with self._lock:
            turn = _Turn(round_ + self._requests[client], next(self._arrivals))
            self._requests[client] += 1
            self._enqueue(turn)
        try:
            turn.decided.wait(self._queue_timeout)
            with self._lock:
                if not turn.decided.is_set():
                    self._queue.remove(turn)
            if not turn.admitted:
                raise Busy
            yield
        finally:
            with self._lock:
                self._leave(turn, client)

    def _enqueue(self, turn: _Turn) -> None:
        if self._free:
            self._free -= 1
            turn.decide(admitted=True)
            return
        insort(self._queue, turn)
        if len(self._queue) > self._queue_size:
            self._queue.pop().decide(admitted=False)

    def _leave(self, turn: _Turn, client: str) -> None:
        self._requests[client] -= 1
        if not self._requests[client]:
            del self._requests[client]
        if turn.admitted and self._queue:
            self._queue.pop(0).decide(admitted=True)
        elif turn.admitted:
            self._free += 1

"""Bounded concurrency with a bounded queue, in which no client delays the others."""

import contextlib
import itertools
import threading
from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from cifar_flax.serving.errors import Busy

REMEMBERED = 4096  # clients of whom it is known when they were last let in


@dataclass(order=True)
class _Turn:
    """The place of a request among those of its client."""

    round: int
    arrival: int
    decided: threading.Event = field(default_factory=threading.Event, compare=False)
    admitted: bool = field(default=False, compare=False)

    def decide(self, admitted: bool) -> None:
        self.admitted = admitted
        self.decided.set()


class Admission:
    """Lets `places` requests in at the same time.

    When all places are taken, `queue_size` further ones wait, for `queue_timeout` seconds at most. Clients take turns: the one
    who was let in longest ago comes next, with the first of its requests. Where the queue is full, the last request of the
    client with most of them gets `Busy` at once.
    """

    def __init__(self, places: int, queue_size: int = 0, queue_timeout: float = 0.0) -> None:
        self._free, self._queue_size, self._queue_timeout = places, queue_size, queue_timeout
        self._lock = threading.Lock()
        self._queue: dict[str, list[_Turn]] = {}  # of each client that waits, in the order of its requests
        self._admitted: dict[str, int] = {}  # when a client was last let in, the latest last
        self._arrivals, self._admissions = itertools.count(), itertools.count()

    def __len__(self) -> int:
        """Number of requests that wait."""
        return sum(map(len, self._queue.values()))

    @contextlib.contextmanager
    def place(self, client: str, round_: int = 0) -> Iterator[None]:
        """A context that has one of the places.

        Args:
          client: who asks, such as an IP address.
          round_: of the requests of a client, those of an earlier round come first.

        Raises:
          Busy: there is no place, or none in time.
        """
        with self._lock:
            turn = _Turn(round_, next(self._arrivals))
            self._enqueue(turn, client)
        try:
            turn.decided.wait(self._queue_timeout)
            with self._lock:
                if not turn.decided.is_set():
                    self._remove(turn, client)
            if not turn.admitted:
                raise Busy
            yield
        finally:
            if turn.admitted:
                with self._lock:
                    self._free += 1
                    self._admit_next()

    def _enqueue(self, turn: _Turn, client: str) -> None:
        insort(self._queue.setdefault(client, []), turn)
        if self._free:
            self._admit_next()
        elif len(self) > self._queue_size:
            greediest = max(self._queue, key=lambda name: (len(self._queue[name]), self._queue[name][-1].arrival))
            last = self._queue[greediest][-1]
            self._remove(last, greediest)
            last.decide(admitted=False)

    def _admit_next(self) -> None:
        if not self._queue:
            return
        client = min(self._queue, key=lambda name: (self._admitted.get(name, -1), self._queue[name][0].arrival))
        turn = self._queue[client][0]
        self._remove(turn, client)
        self._admitted.pop(client, None)
        self._admitted[client] = next(self._admissions)
        if len(self._admitted) > REMEMBERED:
            del self._admitted[next(iter(self._admitted))]
        self._free -= 1
        turn.decide(admitted=True)

    def _remove(self, turn: _Turn, client: str) -> None:
        self._queue[client].remove(turn)
        if not self._queue[client]:
            del self._queue[client]

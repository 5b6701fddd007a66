"""Bounded concurrency with a bounded queue."""

import threading
from types import TracebackType

from cifar_flax.serving.errors import Busy


class Admission:
    """Context that `places` threads may be in at the same time.

    When all places are taken, `queue_size` further threads wait, for `queue_timeout` seconds at most. All others get `Busy` at
    once.
    """

    def __init__(self, places: int, queue_size: int = 0, queue_timeout: float = 0.0) -> None:
        self._places = threading.BoundedSemaphore(places)
        self._places_and_queue = threading.BoundedSemaphore(places + queue_size)
        self._queue_timeout = queue_timeout

    def __enter__(self) -> None:
        if not self._places_and_queue.acquire(blocking=False):
            raise Busy
        if not self._places.acquire(timeout=self._queue_timeout):
            self._places_and_queue.release()
            raise Busy

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._places.release()
        self._places_and_queue.release()

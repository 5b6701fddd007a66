"""A door through which only so many go at a time, and before which only so many wait."""

import threading
from types import TracebackType

from cifar_flax.serving.errors import RequestError


class Busy(RequestError):
    """All places stayed taken: status 503."""

    def __init__(self) -> None:
        super().__init__("The server is busy. Please try again in a moment.", "busy", 503)


class Gate:
    """Context that `places` threads may be in together.

    Of those who come when all places are taken, `line` wait, for `patience` seconds at most. Everyone else gets `Busy` at once.
    """

    def __init__(self, places: int, line: int = 0, patience: float = 0.0) -> None:
        self._inside, self._here = threading.BoundedSemaphore(places), threading.BoundedSemaphore(places + line)
        self._patience = patience

    def __enter__(self) -> None:
        if not self._here.acquire(blocking=False):
            raise Busy
        if not self._inside.acquire(timeout=self._patience):
            self._here.release()
            raise Busy

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._inside.release()
        self._here.release()

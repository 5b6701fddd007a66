"""A door through which only so many go at a time."""

import threading
from types import TracebackType

from cifar_flax.serving.refusal import Refusal


class Busy(Refusal):
    """All places stayed taken: status 503."""

    def __init__(self) -> None:
        super().__init__("The server is busy. Please try again in a moment.", "busy", 503)


class Gate:
    """Context that `places` threads may be in together; who has waited `patience` seconds for a place gets `Busy`."""

    def __init__(self, places: int, patience: float) -> None:
        self._places, self._patience = threading.BoundedSemaphore(places), patience

    def __enter__(self) -> None:
        if not self._places.acquire(timeout=self._patience):
            raise Busy

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._places.release()

"""SIGTERM and Ctrl-C, turned into a flag that is looked at between steps."""

import signal
import threading
from types import FrameType, TracebackType


class StopRequested(Exception):
    """Raised by `Interrupt.check` once a signal has come."""


class Interrupt:
    """Context in which the first SIGTERM or SIGINT asks to stop at the next `check`, and a second one stops at once."""

    def __init__(self) -> None:
        self.signal_name = ""
        self._previous: dict[int, object] = {}

    def check(self) -> None:
        """Raises StopRequested if a signal has come."""
        if self.signal_name:
            raise StopRequested(self.signal_name)

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():  # elsewhere, in a notebook's worker say, there are no signals
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signal_name = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous = {}

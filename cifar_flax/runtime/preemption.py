"""SIGTERM, Ctrl-C and the end of the time that was given, turned into a question to be asked between steps."""

import os
import signal
import sys
import threading
import time
from types import FrameType, TracebackType

from cifar_flax.errors import RERUN_HINT, Preempted

SIGNALS = (signal.SIGTERM, signal.SIGINT)
ECHO_SECONDS = 1.0  # in which more of them are the same one: SLURM signals all processes of a job, and each may pass it on
GRACE_SECONDS = 8.0  # from a signal to the next `check`, so that saving ends within 10; schedulers kill after 30 or so


class StopRequested(Exception):
    """Raised by `Interrupt.check` once a signal has come or the time is over; says which."""


class Interrupt:
    """Context in which the first SIGTERM or SIGINT asks to stop at the next `check`, and a second one stops at once.

    Python hears of signals between its own instructions. Where none comes for GRACE_SECONDS, as while XLA compiles a large
    network, a thread says so and ends the process with exit code 75: what was saved before is whole.
    """

    def __init__(self, max_minutes: float | None = None) -> None:
        """Begins to count `max_minutes`, after which `check` asks to stop as well."""
        self._max_minutes = max_minutes
        self._deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self._signal_name, self._signalled_at = "", 0.0
        self._previous: dict[int, object] = {}
        self._answered = threading.Event()
        self._wake: int | None = None
        self._previous_wakeup = -1

    @property
    def requested(self) -> str:
        """What asks to stop, "SIGTERM" say; empty while nothing does."""
        if not self._signal_name and self._deadline is not None and time.monotonic() >= self._deadline:
            return f"--max_minutes={self._max_minutes:g} are over"
        return self._signal_name

    def check(self) -> None:
        """Raises StopRequested if something asks to stop."""
        if self.requested:
            self.stop(self.requested)

    def stop(self, reason: str) -> None:
        """Raises StopRequested: whoever catches it saves, and may take the time for that."""
        self._answered.set()
        raise StopRequested(reason)

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():  # elsewhere, in a notebook's worker say, there are no signals
            woken, self._wake = os.pipe()
            os.set_blocking(self._wake, False)
            self._previous_wakeup = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=(woken,), daemon=True).start()
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()
        self._answered.set()
        if self._wake is not None:
            signal.set_wakeup_fd(self._previous_wakeup)
            os.close(self._wake)  # which ends the thread

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self._signal_name:
            self._signal_name, self._signalled_at = signal.Signals(number).name, now
        elif now - self._signalled_at > ECHO_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous = {}

    def _watch(self, woken: int) -> None:
        """Waits for a signal, of which the interpreter's own C code writes the number here, and then for the answer."""
        with open(woken, "rb", buffering=0) as numbers:
            while number := numbers.read(1):  # to the end, for more signals would have nowhere to be written to
                if number[0] in SIGNALS and not self._answered.wait(GRACE_SECONDS):
                    name = signal.Signals(number[0]).name
                    text = f"{name}: busy for {GRACE_SECONDS:.0f} s more, so it ends; what was saved before is intact; "
                    text += RERUN_HINT
                    print(text, file=sys.stderr, flush=True)
                    os._exit(Preempted.exit_code)

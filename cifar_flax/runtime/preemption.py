"""Requests to stop, by SIGTERM, Ctrl-C or the end of `--max_minutes`, for the training loop to check between steps."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType

from cifar_flax.errors import RERUN_HINT, RERUN_WITHOUT_RESTART, Preempted

SIGNALS = (signal.SIGTERM, signal.SIGINT)
ECHO_SECONDS = 1.0  # in which further signals are the same request: SLURM signals each process of a job, and some pass it on
GRACE_SECONDS = 8.0  # from a signal to the next `check`; a save then ends within 10, and schedulers kill after about 30


class StopRequested(Exception):
    """A signal has come or the time is over; the message says which."""


class Interrupt:
    """Context in which the first SIGTERM or SIGINT requests a stop at the next `check`, and a second one stops at once.

    Python handles signals between its own instructions. If `check` is not called for GRACE_SECONDS, as while XLA compiles a
    large network, a thread ends the process with a line and exit code 75; what was saved before is intact. So it is after
    the end of `max_minutes`.

    Attributes:
      begun_again: whether `--restart` has moved a run aside, so that the same command would move the new one aside.
    """

    def __init__(self, max_minutes: float | None = None) -> None:
        """Starts the clock of `max_minutes`, after which `check` stops too."""
        self._max_minutes = max_minutes
        self._deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self.begun_again = False
        self._signal_name, self._signalled_at = "", 0.0
        self._previous: dict[int, object] = {}
        self._answered, self._over = threading.Event(), threading.Event()
        self._wake: int | None = None
        self._previous_wakeup = -1

    @property
    def requested(self) -> str:
        """Reason for the stop request, such as "SIGTERM"; "" if there is none."""
        if not self._signal_name and self._deadline is not None and time.monotonic() >= self._deadline:
            return f"--max_minutes={self._max_minutes:g} are over"
        return self._signal_name

    def check(self) -> None:
        """Stops if that was requested.

        Raises:
          StopRequested: a signal has come or the time is over.
        """
        if self.requested:
            self.stop(self.requested)

    def stop(self, reason: str) -> None:
        """Raises StopRequested, and grants the time to save.

        Raises:
          StopRequested: always, with `reason`.
        """
        self._answered.set()
        raise StopRequested(reason)

    @contextlib.contextmanager
    def defer_stop(self) -> Iterator[None]:
        """Defers stop requests within the context, however long it takes, as for the last save of a run that has ended."""
        self._answered.set()
        yield
        if not self.requested:
            self._answered.clear()

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():  # other threads, of a notebook for one, get no signals
            woken, self._wake = os.pipe()
            os.set_blocking(self._wake, False)
            self._previous_wakeup = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=(woken,), daemon=True).start()
            if self._deadline is not None:
                threading.Thread(target=self._watch_deadline, args=(self._deadline,), daemon=True).start()
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()
        self._answered.set()
        self._over.set()
        if self.begun_again and error is not None:
            error.add_note(RERUN_WITHOUT_RESTART)  # by which `app.report` replaces RERUN_HINT, after errors of any kind
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
        """Waits for the number of a signal, which the interpreter writes here from C code, and then for `check`."""
        with open(woken, "rb", buffering=0) as numbers:
            while number := numbers.read(1):  # until the pipe closes
                if number[0] in SIGNALS and not self._answered.wait(GRACE_SECONDS):
                    self._leave(signal.Signals(number[0]).name)

    def _watch_deadline(self, deadline: float) -> None:
        """Waits for the end of `max_minutes`, and then for `check`."""
        seconds = max(0.0, deadline - time.monotonic()) + GRACE_SECONDS
        if not self._over.wait(min(seconds, threading.TIMEOUT_MAX)) and not self._answered.is_set():
            self._leave(self.requested)

    def _leave(self, reason: str) -> None:
        hint = RERUN_WITHOUT_RESTART if self.begun_again else RERUN_HINT
        text = f"{reason}: busy for {GRACE_SECONDS:.0f} s more, so it ends; what was saved before is intact; {hint}"
        print(text, file=sys.stderr, flush=True)
        os._exit(Preempted.exit_code)

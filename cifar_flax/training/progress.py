"""The live line in a terminal; plain lines, now and then, anywhere else."""

import sys
import time
from datetime import timedelta

LIVE_SECONDS, PLAIN_SECONDS = 0.2, 15.0


class Progress:
    """Prints how a run is going, as often as there is somebody to look."""

    def __init__(self, silent: bool = False) -> None:
        """Prints nothing at all where `silent`."""
        self._silent = silent
        self._live = sys.stdout.isatty() and not silent
        self._shown = 0.0 if self._live else time.monotonic()
        self._width = 0

    def due(self) -> bool:
        """Whether it is time for another line."""
        return not self._silent and time.monotonic() - self._shown >= (LIVE_SECONDS if self._live else PLAIN_SECONDS)

    def show(self, text: str) -> None:
        """Shows `text` in place of the line before it, or as a line of its own where there is no terminal."""
        self._shown = time.monotonic()
        if self._live:
            print(f"\r{text:<{self._width}}", end="", flush=True)
            self._width = len(text)
        else:
            print(text, flush=True)

    def say(self, text: str) -> None:
        """Prints `text` to stay."""
        if not self._silent:
            self.clear()
            print(text, flush=True)

    def clear(self) -> None:
        """Removes the live line."""
        if self._width:
            print(f"\r{'':<{self._width}}\r", end="", flush=True)
            self._width = 0


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    return str(timedelta(seconds=round(seconds)))

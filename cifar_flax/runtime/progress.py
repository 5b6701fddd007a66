"""Progress of a long command: a live line on a terminal, a plain line now and then anywhere else."""

import shutil
import sys
import time
from datetime import timedelta

from tqdm import tqdm

LIVE_SECONDS, PLAIN_SECONDS = 0.2, 15.0


class ProgressLine:
    """Shows one line of text that changes, and prints lines that stay above it."""

    def __init__(self, silent: bool = False) -> None:
        """Prints nothing at all if `silent`."""
        self._silent = silent
        self._live = sys.stdout.isatty() and not silent
        self._shown = 0.0 if self._live else time.monotonic()
        self._line: tqdm | None = None

    def due(self) -> bool:
        """Whether it is time for another `show`: every fifth of a second on a terminal, every 15 seconds elsewhere."""
        return not self._silent and time.monotonic() - self._shown >= (LIVE_SECONDS if self._live else PLAIN_SECONDS)

    def show(self, text: str) -> None:
        """Shows the text in place of the one before, cut to the width of the terminal; without a terminal, as a plain line."""
        self._shown = time.monotonic()
        if self._live:
            if self._line is None:
                self._line = tqdm(bar_format="{desc}", leave=False, file=sys.stdout, ncols=80, nrows=24)
            self._line.ncols = shutil.get_terminal_size().columns  # tqdm's own way shows nothing where the height is unknown
            self._line.set_description_str(text)
        elif not self._silent:
            print(text, flush=True)

    def print(self, text: str) -> None:
        """Prints a permanent line."""
        if not self._silent:
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()

    def clear(self) -> None:
        """Removes the live line."""
        if self._line is not None:
            self._line.close()
            self._line = None


def format_duration(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    return str(timedelta(seconds=round(seconds)))

"""The clock of a run: seconds of training, those spent waiting for the programs of steps to be compiled, and steps a second."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

FORGETTING_SECONDS = 10  # time constant of the exponential average


class StepTimer:
    """Runs from its construction on, and continues what an earlier process recorded.

    Attributes:
      steps_per_second: an average that forgets, without compilation and validation; 0 until a step has finished.
    """

    def __init__(self, before: Mapping[str, Any], compilation_seconds: Callable[[], float]) -> None:
        """Takes the last record of an earlier process, {} if there is none, and a clock of this process' compilation."""
        self._before, self._compilation_seconds = before, compilation_seconds
        self._start = time.monotonic()
        self._last = 0, 0.0  # the update, and the seconds of training without compilation, from which the next tick counts
        self.steps_per_second = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, those of earlier processes included, compilation and validation too."""
        return float(self._before.get("elapsed", 0.0)) + time.monotonic() - self._start

    @property
    def times(self) -> dict[str, float]:
        """The times of a record: `elapsed`, and the seconds of it in which training waited for the programs of its steps."""
        compilation = float(self._before.get("compilation", 0.0)) + self._compilation_seconds()
        return {"elapsed": self.elapsed, "compilation": compilation}

    def start(self, step: int) -> None:
        """Marks the start of the update after number `step`: what came before is left out of the steps a second."""
        self._last = step, self._now()

    def tick(self, step: int) -> None:
        """Marks the end of update number `step`."""
        before, last = self._last
        self.start(step)
        if (seconds := self._last[1] - last) > 0:
            old = math.exp(-seconds / FORGETTING_SECONDS) if self.steps_per_second else 0.0
            self.steps_per_second = old * self.steps_per_second + (1 - old) * (step - before) / seconds

    def _now(self) -> float:
        return time.monotonic() - self._compilation_seconds()

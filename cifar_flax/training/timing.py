"""A run's own clock: seconds of training, how many of them went into compiling, and steps a second."""

import math
import time
from collections.abc import Mapping
from typing import Any

import jax

PROGRAMS = ("train_step", "eval_step", "jit(train_step)", "jit(eval_step)")  # the names that JAX reports them under
COMPILING = "/jax/core/compile/"  # of its events: tracing, lowering to MLIR, and XLA


class Clock:
    """Runs from when it is made until it is closed, and goes on from what an earlier process recorded.

    JAX tells how long it traced, lowered and compiled each program; of the training and evaluation steps that counts. Up to two
    steps run on while a further program compiles, one a resolution, and their time counts as compilation too.
    """

    def __init__(self, before: Mapping[str, Any]) -> None:
        """Takes the last record of an earlier process, if there is one."""
        self._before = before
        self._start = time.monotonic()
        self._compilation = 0.0
        self._last: tuple[int, float] | None = None
        self.steps_per_second = 0.0  # a mean that forgets within about ten seconds, without compilation and validation
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, those of earlier processes included, compilation and validation too."""
        return float(self._before.get("elapsed", 0.0)) + time.monotonic() - self._start

    @property
    def times(self) -> dict[str, float]:
        """What each record says: `elapsed`, and of that the seconds of compilation."""
        return {"elapsed": self.elapsed, "compilation": float(self._before.get("compilation", 0.0)) + self._compilation}

    def tick(self, step: int) -> None:
        """Takes note that update number `step` has ended."""
        now = time.monotonic()
        if self._last is not None and now > self._last[1]:
            seconds = now - self._last[1]
            speed = (step - self._last[0]) / seconds
            old = math.exp(-seconds / 10) if self.steps_per_second else 0.0
            self.steps_per_second = old * self.steps_per_second + (1 - old) * speed
        self._last = (step, now)

    def pause(self) -> None:
        """Leaves the time until the next tick out of the steps a second."""
        self._last = None

    def close(self) -> None:
        """Listens no longer."""
        jax.monitoring.unregister_event_duration_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **details: str | int) -> None:
        if event.startswith(COMPILING) and details.get("fun_name") in PROGRAMS:
            self._compilation += duration_secs

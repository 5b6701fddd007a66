"""Interleaved timing, so that other work on the machine slows all variants equally."""

import statistics
import time
from collections.abc import Callable, Mapping


def time_steps(step: Callable[[], object], steps: int) -> float:
    """Measures the mean seconds per step over `steps` steps, after one warm-up step that is not counted.

    Args:
      step: makes one step and waits until it is done.
      steps: at least 1.
    """
    step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - start) / steps


def in_turns(variants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measures each variant once per round; returns the `rounds` measurements of each."""
    measured: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, measure in variants.items():
            measured[name].append(measure())
    return measured


def rounds(measured: Mapping[str, list[float]]) -> list[dict[str, list[float]]]:
    """The measurements of each round of `in_turns`, as if there had been no other."""
    return [dict(zip(measured, [[value] for value in values], strict=True)) for values in zip(*measured.values(), strict=True)]


def speeds(seconds: Mapping[str, list[float]], amount: float) -> dict[str, float]:
    """Divides `amount`, images per step say, by the median seconds of each variant."""
    return {name: amount / statistics.median(values) for name, values in seconds.items()}

"""Timing in turns, so that whatever else the machine does falls on all alike."""

import statistics
import time
from collections.abc import Callable, Mapping


def time_steps(step: Callable[[], object], steps: int) -> float:
    """Seconds a step over `steps` of them, after one that brings caches and threads back and is not counted.

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
    """What each variant returns, `rounds` times: one after the other, then all over again."""
    measured: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, measure in variants.items():
            measured[name].append(measure())
    return measured


def speeds(seconds: Mapping[str, list[float]], amount: float) -> dict[str, float]:
    """`amount` over the median of each variant's seconds: images a second, where a step takes that many."""
    return {name: amount / statistics.median(values) for name, values in seconds.items()}

"""How sure an accuracy is, and whether two networks differ on the same images, through SciPy."""

from typing import NamedTuple

import numpy as np
import scipy.stats


class Interval(NamedTuple):
    """Bounds, both in [0, 1]."""

    low: float
    high: float


def accuracy_interval(right: np.ndarray, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of an accuracy.

    Args:
      right: bool [N], N at least 1: which predictions are right.
      confidence: how often such an interval holds the accuracy on all images there could be.

    References:
      Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
    """
    found = scipy.stats.binomtest(int(right.sum()), len(right)).proportion_ci(confidence, method="wilson")
    return Interval(float(found.low), float(found.high))


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """McNemar's exact test that two networks are right equally often: its two-sided p-value, 1 where they never disagree.

    Of the images that only one gets right, each gets half if they are equally good. The training of either is taken as it is:
    whether another seed would give the same, this does not say.

    Args:
      first: bool [N], which predictions are right, and
      second: those of the other network, of the same images.

    References:
      McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12, 1947.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    disagreements = only_first + only_second
    return float(scipy.stats.binomtest(only_first, disagreements).pvalue) if disagreements else 1.0


def welch(first: list[float], second: list[float]) -> float | None:
    """Welch's t-test that two configs have the same mean over seeds: its two-sided p-value; None where one has one seed."""
    if min(len(first), len(second)) < 2:
        return None
    p = float(scipy.stats.ttest_ind(first, second, equal_var=False).pvalue)
    return p if np.isfinite(p) else None

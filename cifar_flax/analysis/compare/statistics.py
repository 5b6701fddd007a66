"""Confidence of an accuracy, and tests whether networks or configs differ, through SciPy."""

import numpy as np
import scipy.stats


def accuracy_interval(correct: np.ndarray) -> tuple[float, float]:
    """Wilson's score interval of an accuracy: its bounds, in [0, 1], with a confidence of 95 %.

    Args:
      correct: bool [N], N at least 1: which predictions are correct.

    References:
      Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
    """
    low, high = scipy.stats.binomtest(int(correct.sum()), len(correct)).proportion_ci(0.95, method="wilson")
    return float(low), float(high)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """McNemar's exact test of the hypothesis that two networks are equally accurate.

    Of the images that only one network classifies correctly, each gets half if they are equally accurate. Both networks are
    taken as they are: the test does not say whether other seeds would give the same.

    Args:
      first: bool [N], which predictions of the first network are correct.
      second: bool [N], which predictions of the second are, on the same images.

    Returns:
      The two-sided p-value; 1 where the networks never disagree.

    References:
      McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12, 1947.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    disagreements = only_first + only_second
    return float(scipy.stats.binomtest(only_first, disagreements).pvalue) if disagreements else 1.0


def welch(first: list[float], second: list[float]) -> float | None:
    """Welch's t-test of the hypothesis that two configs have the same mean over seeds.

    Returns:
      The two-sided p-value; None where either has a single seed, or where the seeds of neither differ from one another, as for
      one training that was run twice: nothing says then how much chance does.

    References:
      Welch, "The generalization of 'Student's' problem when several different population variances are involved", Biometrika
      34, 1947.
    """
    if min(len(first), len(second)) < 2 or max(len(set(first)), len(set(second))) < 2:
        return None
    return float(scipy.stats.ttest_ind(first, second, equal_var=False).pvalue)

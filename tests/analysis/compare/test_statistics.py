import math

import numpy as np
import pytest

from cifar_flax.analysis.compare.statistics import accuracy_interval, mcnemar, welch


@pytest.mark.parametrize(("hits", "n"), [(5630, 10000), (0, 20), (103, 103)])
def test_the_accuracy_interval_is_wilsons(hits, n):
    z, p = 1.959963984540054, hits / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert accuracy_interval(np.arange(n) < hits) == pytest.approx((middle - half, middle + half), abs=1e-12)


@pytest.mark.parametrize(("only_first", "only_second"), [(3, 9), (9, 3), (0, 6), (7, 7), (1, 0)])
def test_mcnemars_test_is_binomial_over_the_disagreements(only_first, only_second):
    first = np.array([True] * (only_first + 5) + [False] * (only_second + 2))
    second = np.array([False] * only_first + [True] * 5 + [True] * only_second + [False] * 2)
    n, k = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    assert mcnemar(first, second) == pytest.approx(min(1, 2 * tail))


def test_the_p_value_of_equal_predictions_is_one():
    correct = np.arange(10) < 4
    assert mcnemar(correct, correct) == 1


def test_welchs_test_has_unequal_variances_and_needs_two_seeds():
    # t and its degrees of freedom by hand, and the p-value from the integral of the density.
    a, b = [0.50, 0.52, 0.51], [0.56, 0.60, 0.55]
    va, vb = np.var(a, ddof=1) / 3, np.var(b, ddof=1) / 3
    t, df = (np.mean(a) - np.mean(b)) / math.sqrt(va + vb), (va + vb) ** 2 / (va**2 / 2 + vb**2 / 2)
    x = np.linspace(abs(t), 4000, 4_000_001)
    density = math.gamma((df + 1) / 2) / (math.sqrt(df * math.pi) * math.gamma(df / 2)) * (1 + x**2 / df) ** (-(df + 1) / 2)
    assert welch(a, b) == pytest.approx(2 * np.trapezoid(density, x), rel=1e-3)
    assert welch([0.5], b) is None
    assert welch([0.7, 0.7, 0.7], [0.6, 0.6]) is None  # whose variance, of rounding errors, would make it certain

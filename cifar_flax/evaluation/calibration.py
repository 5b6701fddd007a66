"""Temperature scaling: the one number to divide logits by, so that a probability is as often right as it says."""

from dataclasses import dataclass

import numpy as np

MAX_TEMPERATURE = 100.0  # temperature of a network that is no better than chance; 1 / MAX_TEMPERATURE is the coldest
TOLERANCE = 1e-5  # of the logarithm of a temperature


@dataclass(frozen=True, slots=True)
class Calibration:
    """A softmax temperature and the images it was fitted to.

    Attributes:
      temperature: divisor of logits, in [1 / MAX_TEMPERATURE, MAX_TEMPERATURE]; below 1 makes a network more confident.
      source: for people, the images that it was fitted to; empty where it was not.
    """

    temperature: float = 1.0
    source: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError where the temperature is none that is fitted, or the source would steer a terminal."""
        if not 1 / MAX_TEMPERATURE <= self.temperature <= MAX_TEMPERATURE:
            raise ValueError(f"temperature {self.temperature:g}; expected {1 / MAX_TEMPERATURE:g} to {MAX_TEMPERATURE:g}")
        if not self.source.isprintable():
            raise ValueError(f"source {self.source!a} holds control characters")


UNCALIBRATED = Calibration()


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature at which the labels are likeliest, in [1 / MAX_TEMPERATURE, MAX_TEMPERATURE].

    It is fitted as if there were one image more, of every class in equal parts: few images that are all classified rightly are
    no reason for a confidence of 100 %.

    Args:
      logits: float32 [N, C] of images that the network was not trained on. Where one is not finite the result is 1.
      labels: int32 [N], in [0, C).

    References:
      Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2.
    """
    from scipy import optimize  # a tenth of a second, for which only those who fit should wait

    if not np.isfinite(logits).all():
        return 1.0
    z = logits - logits.max(1, keepdims=True)
    of_label, mean = z[np.arange(len(z)), labels].sum(dtype=np.float64), z.mean(dtype=np.float64)

    def slope(log_temperature: float) -> float:
        """Derivative of the negative log likelihood by 1 / temperature, in which it is convex."""
        weights = np.exp(z * np.float32(np.exp(-log_temperature)))  # float32: four times as fast, and rounding is averaged
        expected = (np.einsum("nc,nc->n", weights, z) / weights.sum(1)).astype(np.float64)
        return float(expected.sum() - of_label + expected.mean() - mean)

    high = float(np.log(MAX_TEMPERATURE))
    if slope(high) >= 0:
        return MAX_TEMPERATURE if slope(-high) > 0 else 1.0  # 1 where all logits are equal
    if slope(-high) <= 0:
        return 1 / MAX_TEMPERATURE
    fitted = np.exp(optimize.brentq(slope, -high, high, xtol=TOLERANCE))
    return float(np.clip(fitted, 1 / MAX_TEMPERATURE, MAX_TEMPERATURE))  # from which rounding may lead out

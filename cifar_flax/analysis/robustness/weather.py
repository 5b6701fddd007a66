"""Fog and snow over a batch of pictures."""

import numpy as np

from cifar_flax.analysis.robustness.movement import magnify, resample, streak

GREY = np.array([0.299, 0.587, 0.114])  # luma of ITU-R BT.601


def fog(x: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    """Clouds of this density, the finer the rougher, over a picture that loses as much contrast.

    Args:
      x: float64 [N, H, W, 3], in [0, 1].
      level: 0 to 4.
      rng: draws the clouds.
    """
    density, smoothness = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))[level]
    brightest = x.max((1, 2, 3), keepdims=True)
    return (x + density * clouds(rng, x.shape[:3], smoothness)[..., None]) * brightest / (brightest + density)


def clouds(rng: np.random.Generator, shape: tuple[int, int, int], smoothness: float) -> np.ndarray:
    """Fractal noise, float64 [N, H, W], each picture from 0 to 1: white noise whose amplitudes fall with frequency.

    Args:
      rng: draws it.
      shape: (N, H, W).
      smoothness: by what amplitudes shrink each octave, which is how the paper's diamond-square algorithm counts it.
    """
    n, height, width = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf  # the mean
    exponent = np.log2(smoothness) + 1
    spectrum = np.fft.rfft2(rng.normal(size=(n, height, width))) / frequency**exponent
    noise = np.fft.irfft2(spectrum, (height, width))
    noise -= noise.min((1, 2), keepdims=True)
    return noise / noise.max((1, 2), keepdims=True)


def snow(x: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    """Flakes that fall in streaks, before a scene that has turned pale.

    Args:
      x: float64 [N, H, W, 3], in [0, 1].
      level: 0 to 4.
      rng: draws the flakes.
    """
    mean, spread, size, threshold, radius, width, scene = (
        (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
        (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
    )[level]
    n, height, columns, _ = x.shape
    flakes = resample(rng.normal(mean, spread, (n, height, columns, 1)), magnify(height, size), magnify(columns, size))
    falling = rng.uniform(-0.75 * np.pi, -0.25 * np.pi, len(x))  # within 45 degrees of the vertical
    streaks = streak(np.clip(np.where(flakes < threshold, 0, flakes), 0, 1), radius, width, falling)
    pale = np.maximum(x, (x @ GREY)[..., None] * 1.5 + 0.5)
    return scene * x + (1 - scene) * pale + streaks + streaks[:, ::-1, ::-1]

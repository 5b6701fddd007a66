"""Filters over a batch of images in NumPy: resampling, directional blur, fractal noise and colour."""

from collections.abc import Iterator

import numpy as np
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv

LUMA = np.array([0.299, 0.587, 0.114])  # weights of red, green and blue in ITU-R BT.601
CHUNK = 1000  # images of up to 32x32 pixels that are converted to floating point at a time; fewer larger ones


def chunks(images: np.ndarray) -> Iterator[slice]:
    """Yields slices of images [N, H, W, C] that are small enough to be computed with in floating point: 25 MB in float64."""
    height, width = images.shape[1:3]
    size = max(1, min(CHUNK, CHUNK * 32 * 32 // (height * width)))
    for start in range(0, len(images), size):
        yield slice(start, start + size)


def magnification(size: int, factor: float) -> np.ndarray:
    """The matrix [size, size] that magnifies a row of pixels about its centre, bilinearly, with the edges repeated."""
    centre = (size - 1) / 2
    positions = np.clip((np.arange(size) - centre) / factor + centre, 0, size - 1)
    return np.maximum(1 - np.abs(positions[:, None] - np.arange(size)), 0)


def resample(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Applies one matrix to the rows of images and one to their columns.

    Args:
      x: float [N, H, W, C].
      rows: float [H', H], such as `magnification` returns.
      columns: float [W', W].

    Returns:
      float [N, H', W', C].
    """
    return np.tensordot(columns, np.tensordot(rows, x, (1, 1)), (1, 2)).transpose(2, 1, 0, 3)


def directional_blur(x: np.ndarray, radius: int, sigma: float, angles: np.ndarray) -> np.ndarray:
    """Blurs each image along a line of its own, weighted by one half of a Gaussian.

    Args:
      x: float64 [N, H, W, C].
      radius: half the number of pixels on the line.
      sigma: standard deviation of the Gaussian, in pixels.
      angles: float [N], radians clockwise from rightwards: the direction from which a pixel receives light.

    Returns:
      float64 [N, H, W, C].
    """
    weights = np.exp(-0.5 * (np.arange(2 * radius + 1) / sigma) ** 2)
    height, width = x.shape[1:3]
    blurred = np.zeros_like(x)
    for k, weight in enumerate(weights / weights.sum()):
        down, right = np.rint(k * np.sin(angles)).astype(int), np.rint(k * np.cos(angles)).astype(int)
        rows = np.clip(np.arange(height) + down[:, None], 0, height - 1)
        columns = np.clip(np.arange(width) + right[:, None], 0, width - 1)
        blurred += weight * x[np.arange(len(x))[:, None, None], rows[:, :, None], columns[:, None]]
    return blurred


def fractal_noise(rng: np.random.Generator, shape: tuple[int, int, int], decay: float) -> np.ndarray:
    """Noise whose amplitude decreases with frequency, as in clouds.

    Args:
      rng: source of the noise.
      shape: (N, H, W).
      decay: factor by which the amplitude shrinks per octave, the parameter of the diamond-square algorithm.

    Returns:
      float64 [N, H, W]; each image spans [0, 1], or is 0 where it is a single pixel.
    """
    n, height, width = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf  # the mean
    spectrum = np.fft.rfft2(rng.normal(size=(n, height, width))) / frequency ** (np.log2(decay) + 1)
    noise = np.fft.irfft2(spectrum, (height, width))
    noise -= noise.min((1, 2), keepdims=True)
    largest = noise.max((1, 2), keepdims=True)
    return noise / np.where(largest > 0, largest, 1)


def to_grayscale(images: np.ndarray) -> np.ndarray:
    """Replaces all channels by the luma; uint8 [N, H, W, 3] in and out."""
    grey = np.empty_like(images)
    for chunk in chunks(images):
        grey[chunk] = np.rint(images[chunk] @ LUMA)[..., None]
    return grey


def shift_hue(images: np.ndarray, degrees: float) -> np.ndarray:
    """Rotates hues in HSV, so that 120 degrees turn red into green; uint8 [N, H, W, 3] in and out."""
    shifted = np.empty_like(images)
    for chunk in chunks(images):
        hsv = rgb_to_hsv(images[chunk] / 255)
        hsv[..., 0] = (hsv[..., 0] + degrees / 360) % 1
        shifted[chunk] = np.rint(hsv_to_rgb(hsv) * 255)
    return shifted

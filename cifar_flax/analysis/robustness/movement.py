"""Blur by movement: of the camera across the picture, and towards it."""

import numpy as np


def motion_blur(x: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    """The camera moves while the shutter is open, up to 45 degrees off the horizontal; `streak` in five lengths.

    Args:
      x: float64 [N, H, W, C], in [0, 1].
      level: 0 to 4.
      rng: draws the directions.
    """
    radius, width = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))[level]
    return streak(x, radius, width, rng.uniform(-np.pi / 4, np.pi / 4, len(x)))


def streak(x: np.ndarray, radius: int, width: float, angles: np.ndarray) -> np.ndarray:
    """Draws each image out along a line of its own, with the weights of half a bell.

    Args:
      x: float64 [N, H, W, C].
      radius: half the number of pixels that count.
      width: standard deviation of the bell, in pixels.
      angles: [N], radians, from rightwards on clockwise: where each pixel takes its light from.
    """
    weights = np.exp(-0.5 * (np.arange(2 * radius + 1) / width) ** 2)
    height, columns = x.shape[1:3]
    blurred = np.zeros_like(x)
    for k, weight in enumerate(weights / weights.sum()):
        down, right = np.rint(k * np.sin(angles)).astype(int), np.rint(k * np.cos(angles)).astype(int)
        rows = np.clip(np.arange(height) + down[:, None], 0, height - 1)
        places = np.clip(np.arange(columns) + right[:, None], 0, columns - 1)
        blurred += weight * x[np.arange(len(x))[:, None, None], rows[:, :, None], places[:, None]]
    return blurred


def zoom_blur(x: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    """The mean of the picture and of itself zoomed, in steps of a hundredth up to this much.

    Args:
      x: float64 [N, H, W, C], in [0, 1].
      level: 0 to 4.
      rng: not used.
    """
    zooms = np.arange(1, (1.06, 1.11, 1.16, 1.21, 1.26)[level], 0.01)
    height, width = x.shape[1:3]
    zoomed = sum(resample(x, magnify(height, zoom), magnify(width, zoom)) for zoom in zooms)
    return (x + zoomed) / (len(zooms) + 1)


def magnify(size: int, factor: float) -> np.ndarray:
    """The matrix [size, size] that magnifies a row of pixels about its centre, bilinearly, edges repeated."""
    centre = (size - 1) / 2
    places = np.clip((np.arange(size) - centre) / factor + centre, 0, size - 1)
    return np.maximum(1 - np.abs(places[:, None] - np.arange(size)), 0)


def resample(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Images [N, H, W, C] with a matrix applied to their rows and one to their columns: [N, len(rows), len(columns), C]."""
    return np.tensordot(columns, np.tensordot(rows, x, (1, 1)), (1, 2)).transpose(2, 1, 0, 3)

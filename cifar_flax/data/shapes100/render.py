"""shapes100: 100 procedurally drawn classes in 20 superclasses, with fine and coarse labels like CIFAR-100.

Only the shape determines the class: colours, position, size, rotation, mirroring, weight, background, clutter and noise are
drawn at random, from the same distributions for every class.
"""

import numpy as np

from cifar_flax.data.dataset import Dataset
from cifar_flax.data.shapes100.classes import CATALOG
from cifar_flax.data.shapes100.distance_fields import CANVAS, EXTENT, Field
from cifar_flax.errors import UserError

SIZE = 32  # pixels a side
IMAGES_PER_CLASS = {"train": 250, "test": 50}

RADIUS = (8.0, 13.0)  # pixels from the center of a shape to its rim
STRETCH = 0.12  # largest log ratio of width or height to the radius
ROTATION = 30.0  # degrees to either side; CATALOG relies on it
WEIGHT = 0.5  # largest swelling or shrinking of outlines, pixels
OVERHANG = 1.5  # largest part of a shape outside the picture, pixels
CLUTTER = 4  # bars behind a shape
NOISE = (0.01, 0.06)  # standard deviation, where white is 1


def generate(split: str, seed: int = 0) -> Dataset:
    """Draws one split.

    Args:
      split: "train", 250 images per class, or "test", 50.
      seed: of the random numbers; each class of each split has its own stream.

    Returns:
      Dataset with images uint8 [N, 32, 32, 3] in which the classes take turns: row i has label i % 100.

    Raises:
      UserError: there is no such split.
    """
    if split not in IMAGES_PER_CLASS:
        raise UserError(f"shapes100 has no split {split!r}; it has {' and '.join(IMAGES_PER_CLASS)}")
    count, stream = IMAGES_PER_CLASS[split], list(IMAGES_PER_CLASS).index(split)
    shapes = {name: make for members in CATALOG.values() for name, make in members.items()}
    images = np.empty((count, len(shapes), SIZE, SIZE, 3), np.uint8)
    for label, make in enumerate(shapes.values()):
        images[:, label] = _draw(make(), count, np.random.default_rng([seed, stream, label]))
    coarse = np.repeat(np.arange(len(CATALOG), dtype=np.int32), [len(members) for members in CATALOG.values()])
    return Dataset(
        images=images.reshape(-1, SIZE, SIZE, 3),
        labels=np.tile(np.arange(len(shapes), dtype=np.int32), count),
        class_names=tuple(shapes),
        coarse_labels=np.tile(coarse, count),
        coarse_names=tuple(CATALOG),
    )


def _draw(shape: Field, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draws pictures of one shape, uint8 [count, SIZE, SIZE, 3]."""
    light_shape = rng.random((count, 1, 1, 1)) < 0.5
    pictures = _backdrop(~light_shape, rng)
    for _ in range(CLUTTER):
        bars = _bars(count, rng)
        pictures += bars * (_color(rng.random((count, 1, 1, 1)) < 0.5, rng) - pictures)
    pictures += _silhouette(shape, count, rng) * (_color(light_shape, rng) - pictures)
    pictures += _uniform(rng, NOISE, count) * rng.standard_normal(pictures.shape, np.float32)
    return np.rint(255 * np.clip(pictures, 0, 1)).astype(np.uint8)


def _uniform(rng: np.random.Generator, limits: tuple[float, float], count: int) -> np.ndarray:
    """Uniform numbers, float32 [count, 1, 1, 1], which broadcast against pictures."""
    return rng.uniform(*limits, (count, 1, 1, 1)).astype(np.float32)


def _color(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Colours of any hue, float32 [N, 1, 1, 3]; the maximum channel of a light one is at least 0.3 above that of a dark one."""
    count = len(light)
    value = np.where(light, _uniform(rng, (0.75, 1.0), count), _uniform(rng, (0.05, 0.45), count))
    saturation = np.where(light, _uniform(rng, (0.0, 0.55), count), _uniform(rng, (0.2, 1.0), count))
    hue = 6 * _uniform(rng, (0, 1), count) + np.array([0, 4, 2], np.float32)
    return value * (1 - saturation * (1 - np.clip(abs(hue % 6 - 3) - 1, 0, 1)))  # HSV to RGB


def _backdrop(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Smooth blends of two colours, float32 [N, SIZE, SIZE, 3]."""
    knots, pixels = np.linspace(0, 1, 4), np.linspace(0, 1, SIZE)
    tent = np.maximum(0, 1 - 3 * abs(pixels[:, None] - knots)).astype(np.float32)  # linear interpolation from knots to pixels
    blend = tent @ rng.random((len(light), 4, 4), np.float32) @ tent.T
    first, second = _color(light, rng), _color(light, rng)
    return first + blend[..., None] * (second - first)


def _pixels() -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (x, y) of pixel centers, each float32 [1, SIZE, SIZE, 1], from the center of the picture, y up."""
    along = np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2
    return along[None, None, :, None], -along[None, :, None, None]


def _bars(count: int, rng: np.random.Generator) -> np.ndarray:
    """Coverage of each pixel by a randomly placed short bar, float32 [count, SIZE, SIZE, 1]."""
    x, y = _pixels()
    x, y = x - _uniform(rng, (-16, 16), count), y - _uniform(rng, (-16, 16), count)
    angle = _uniform(rng, (0, np.pi), count)
    dx, dy = np.cos(angle), np.sin(angle)
    beyond = np.maximum(abs(x * dx + y * dy) - _uniform(rng, (0, 6), count), 0)
    return np.clip(0.5 + _uniform(rng, (0.5, 2.0), count) - np.hypot(beyond, x * dy - y * dx), 0, 1)


def _silhouette(shape: Field, count: int, rng: np.random.Generator) -> np.ndarray:
    """Coverage of each pixel by a shape in random poses, float32 [count, SIZE, SIZE, 1]."""
    x, y = _pixels()
    radius = _uniform(rng, RADIUS, count)
    reach = SIZE / 2 + OVERHANG - radius
    x, y = x - reach * _uniform(rng, (-1, 1), count), y - reach * _uniform(rng, (-1, 1), count)
    angle = np.deg2rad(_uniform(rng, (-ROTATION, ROTATION), count))
    c, s = np.cos(angle), np.sin(angle)
    width, height = (radius * np.exp(_uniform(rng, (-STRETCH, STRETCH), count)) for _ in range(2))
    mirror = np.where(_uniform(rng, (-1, 1), count) < 0, -1, 1).astype(np.float32)
    outline = _sample(shape, mirror * (c * x + s * y) / width, (c * y - s * x) / height)
    return np.clip(0.5 - outline * np.minimum(width, height) + _uniform(rng, (-WEIGHT, WEIGHT), count), 0, 1)


def _sample(field: Field, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Samples a field at any points by linear interpolation; outside the canvas, its border is repeated."""
    scale = (CANVAS - 1) / (2 * EXTENT)
    column, row = (np.clip((v + EXTENT) * scale, 0, CANVAS - 1.001) for v in (x, y))
    left, low = column.astype(np.int32), row.astype(np.int32)
    right, up = column - left, row - low
    corner = low * CANVAS + left
    flat = field.astype(np.float32).ravel()
    below = flat[corner] + right * (flat[corner + 1] - flat[corner])
    above = flat[corner + CANVAS] + right * (flat[corner + CANVAS + 1] - flat[corner + CANVAS])
    return below + up * (above - below)

"""The operations of RandAugment on 8-bit images, with Pillow's arithmetic.

Each image has its own operation. Computing all fourteen for every image and keeping one would cost several times as much, so
they are settings of one chain: move, mask bits, invert, stretch or equalize levels, blend. Steps of the chain that the image's
operation does not use are set to change nothing.
"""

import enum

import jax
import jax.numpy as jnp


class Operation(enum.IntEnum):
    """The fourteen operations, in torchvision's order; comments give the meaning of the magnitude."""

    IDENTITY = 0
    SHEAR_X = 1  # columns a row
    SHEAR_Y = 2  # rows a column
    TRANSLATE_X = 3  # pixels to the right
    TRANSLATE_Y = 4  # pixels down
    ROTATE = 5  # degrees, anticlockwise
    BRIGHTNESS = 6  # factor - 1, like the next three
    COLOR = 7
    CONTRAST = 8
    SHARPNESS = 9
    POSTERIZE = 10  # bits that are kept
    SOLARIZE = 11  # level from which pixels are inverted
    AUTOCONTRAST = 12  # none, like the next
    EQUALIZE = 13


def apply(image: jax.Array, operation: jax.Array, magnitude: jax.Array) -> jax.Array:
    """Applies one operation to one image.

    Args:
      image: int32 [H, W, C] in [0, 255], C 1 or 3.
      operation: int32 [], an `Operation`.
      magnitude: float32 [].

    Returns:
      int32 [H, W, C] in [0, 255].
    """
    moved = _move(image, operation, magnitude)
    bits = jnp.where(operation == Operation.POSTERIZE, magnitude, 8).astype(jnp.int32)
    masked = moved & (0xFF << (8 - bits))
    threshold = jnp.where(operation == Operation.SOLARIZE, magnitude, 256)
    inverted = jnp.where(masked < threshold, masked, 255 - masked)
    levelled = _level(image, inverted, operation)
    enhancing = (operation >= Operation.BRIGHTNESS) & (operation <= Operation.SHARPNESS)
    start, factor = _start(image, operation), jnp.where(enhancing, 1 + magnitude, 1)
    return jnp.clip(start + factor * (levelled - start), 0, 255).astype(jnp.int32)


def _move(image: jax.Array, operation: jax.Array, magnitude: jax.Array) -> jax.Array:
    """Image.transform with an affine map, nearest pixels and black outside; shears keep the upper left corner.

    Coordinates are multiples of 1/65536 pixel, as in Pillow, so that the same pixels are read.
    """
    height, width, _ = image.shape
    angle = jnp.where(operation == Operation.ROTATE, jnp.deg2rad(magnitude), 0)
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    pixels = jnp.trunc(magnitude)
    # The output pixel at (x, y) comes from (a x + b y + c, d x + e y + f).
    a = e = cosine
    b = jnp.where(operation == Operation.SHEAR_X, magnitude, -sine)
    d = jnp.where(operation == Operation.SHEAR_Y, magnitude, sine)
    c = ((1 - cosine) * width + sine * height) / 2 - jnp.where(operation == Operation.TRANSLATE_X, pixels, 0)
    f = ((1 - cosine) * height - sine * width) / 2 - jnp.where(operation == Operation.TRANSLATE_Y, pixels, 0)
    centred = (a, b, c + (a + b) / 2, d, e, f + (d + e) / 2)  # pixels are sampled at their centres
    a, b, c, d, e, f = (jnp.floor(65536 * v + 0.5).astype(jnp.int32) for v in centred)
    y, x = jnp.arange(height)[:, None], jnp.arange(width)
    columns, rows = (a * x + b * y + c) >> 16, (d * x + e * y + f) >> 16
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return jnp.where(inside[..., None], image[jnp.clip(rows, 0, height - 1), jnp.clip(columns, 0, width - 1)], 0)


def _level(image: jax.Array, levels: jax.Array, operation: jax.Array) -> jax.Array:
    """ImageOps.autocontrast and ImageOps.equalize: maps `levels` by the histogram of each channel of `image`."""
    height, width, channels = image.shape
    channel = jnp.arange(channels)
    histogram = jnp.zeros(channels * 256, jnp.int32).at[256 * channel + image].add(1).reshape(channels, 256)
    up_to = jnp.cumsum(histogram, axis=-1)
    darker = up_to - histogram
    darkest, brightest = (up_to == 0).sum(-1), (up_to < height * width).sum(-1)
    span = brightest - darkest
    step = jnp.floor((jnp.where(up_to < height * width, up_to, 0).max(-1) + 0.5) / 255)  # pixels but the brightest, over 255
    stretching = (operation == Operation.AUTOCONTRAST) & (span > 0)
    equalizing = (operation == Operation.EQUALIZE) & (step > 0)
    # Integers are divided as floats, half a unit off so that rounding cannot matter.
    scale = jnp.where(stretching, 255 / jnp.maximum(span, 1), jnp.where(equalizing, 1 / jnp.maximum(step, 1), 1))
    bias = jnp.where(stretching, 0.5 / 255 - darkest, jnp.where(equalizing, jnp.floor(step / 2) + 0.5, 0))
    x = jnp.where(equalizing, darker[channel, levels], levels)
    return jnp.clip(jnp.floor((x + bias) * scale), 0, 255)


def _start(image: jax.Array, operation: jax.Array) -> jax.Array:
    """ImageEnhance: the image to blend with, which is black, the mean grey, each pixel's grey or the smoothed image."""
    height, width, channels = image.shape
    red, green, blue = (image[..., i : i + 1] for i in (0, channels // 2, channels - 1))  # a grey image is all three
    grey = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
    mean = jnp.floor(grey.sum() / (height * width) + 0.5)
    flat = jnp.where(operation == Operation.COLOR, grey, jnp.where(operation == Operation.CONTRAST, mean, 0))
    return jnp.where(operation == Operation.SHARPNESS, _smooth(image), flat)


def _smooth(image: jax.Array) -> jax.Array:
    """ImageFilter.SMOOTH: the mean of 3x3 pixels with weight 5 for the middle one; the border stays."""
    rows = image[:-2] + image[1:-1] + image[2:]
    total = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * image[1:-1, 1:-1]
    inner = jnp.pad(jnp.floor(total / 13 + 0.5), ((1, 1), (1, 1), (0, 0)), constant_values=-1)
    return jnp.where(inner < 0, image, inner)

"""Cutout and random erasing: overwrite a random rectangle of each image."""

import jax
import jax.numpy as jnp

from cifar_flax.runtime.hashing import counter_bits

GREY = 0.5
AREAS = (0.02, 0.4)  # of an erased rectangle, as a share of the image: Zhong et al., section 4.2
ASPECTS = (0.3, 1 / 0.3)  # its height over its width
_ATTEMPTS = 8  # rectangles drawn, of which the first that fits is used; one in twenty does not fit


def cutout(key: jax.Array, images: jax.Array, size: int) -> jax.Array:
    """Sets a square to grey; its centre is any pixel of the image, so that near an edge a part of the square lies outside.

    The paper fills with 0 after normalisation, the mean colour of the training images. Here images are normalised later, so
    mid-grey takes its place.

    Args:
      key: a PRNG key.
      images: float [N, H, W, C] in [0, 1].
      size: pixels a side.

    References:
      DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017.
    """
    n, height, width, _ = images.shape
    centres = jnp.floor(jax.random.uniform(key, (n, 2)) * jnp.array([height, width])).astype(jnp.int32)
    starts = centres - size // 2
    return jnp.where(box(starts, starts + size, (height, width)), GREY, images)


def random_erasing(key: jax.Array, images: jax.Array, probability: float) -> jax.Array:
    """With `probability`, fills a rectangle of an image with noise, uniform in [0, 1) for each pixel and channel.

    Args:
      key: a PRNG key.
      images: float [N, H, W, C] in [0, 1].
      probability: in [0, 1].

    References:
      Zhong et al., "Random Erasing Data Augmentation", AAAI 2020, algorithm 1 and its RE-R.
    """
    n, height, width, _ = images.shape
    draw_key, noise_key = jax.random.split(key)
    draws = jax.random.uniform(draw_key, (n, 3 + 2 * _ATTEMPTS))
    starts, ends = jax.vmap(lambda draw: _rectangle(draw, height, width))(draws[:, 1:])
    chosen = (draws[:, 0] < probability)[:, None, None, None]
    # Hashed counters: good enough to be noise, and six times as fast as the generator.
    noise = (counter_bits(noise_key, images.shape) >> 8).astype(jnp.float32) / 2**24
    return jnp.where(chosen & box(starts, ends, (height, width)), noise, images)


def box(starts: jax.Array, ends: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Mask of boxes, bool [N, H, W, 1]: pixels from `starts` to before `ends`, both [N, 2] as (row, column)."""

    def within(axis: int) -> jax.Array:
        at = jnp.arange(size[axis])
        return (at >= starts[:, axis, None]) & (at < ends[:, axis, None])

    return within(0)[:, :, None, None] & within(1)[:, None, :, None]


def _rectangle(draw: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Draws some rectangles and takes the first that fits into the image; an empty one if none fits.

    Args:
      draw: float32 [2 + 2 * _ATTEMPTS], uniform in [0, 1).
      height: of the image, in pixels.
      width: of the image, in pixels.

    Returns:
      The first pixel and the one past the last, each int32 [2] as (row, column).
    """
    areas, aspects = (low + (high - low) * u for (low, high), u in zip((AREAS, ASPECTS), jnp.split(draw[2:], 2), strict=True))
    sizes = jnp.round(jnp.sqrt(height * width * jnp.stack([areas * aspects, areas / aspects], -1)))
    room = jnp.array([height, width]) - sizes
    fits = (room >= 0).all(-1)
    first = jnp.argmax(fits)
    start = jnp.floor(draw[:2] * (room[first] + 1)).astype(jnp.int32)
    return start, start + jnp.where(fits[first], sizes[first], 0).astype(jnp.int32)

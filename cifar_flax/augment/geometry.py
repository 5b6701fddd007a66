"""Flips, crops and shifts of a whole batch at once, each image by its own draw."""

import jax
import jax.numpy as jnp


def random_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Mirrors each image left-right with probability 1/2; [N, H, W, C] of any dtype."""
    flip = jax.random.bernoulli(key, 0.5, (len(images), 1, 1, 1))
    return jnp.where(flip, images[:, :, ::-1], images)


def random_crop(key: jax.Array, images: jax.Array, padding: int) -> jax.Array:
    """Pads with zeros and crops back to the old size at an offset drawn evenly from the (2 * padding + 1)^2.

    Args:
      key: a PRNG key.
      images: [N, H, W, C] of any dtype.
      padding: pixels on each side.

    References:
      He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2 (padding 4 on CIFAR).
    """
    _, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    offsets = jax.random.randint(key, (len(images), 2), 0, 2 * padding + 1)

    def crop(image: jax.Array, offset: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (offset[0], offset[1], 0), (height, width, channels))

    return jax.vmap(crop)(padded, offsets)


def random_shift(key: jax.Array, images: jax.Array, fraction: float) -> jax.Array:
    """Shifts each image by up to `fraction` of its height and of its width, drawn evenly, subpixel, edges repeated.

    What Keras' ImageDataGenerator does for `width_shift_range` and `height_shift_range` below 1.

    Args:
      key: a PRNG key.
      images: float [N, H, W, C].
      fraction: in [0, 1).
    """
    n, height, width, _ = images.shape
    limits = jnp.array([fraction * height, fraction * width])
    return shift(images, jax.random.uniform(key, (n, 2), minval=-limits, maxval=limits))


def shift(images: jax.Array, offsets: jax.Array) -> jax.Array:
    """Samples image i at (row + offsets[i, 0], column + offsets[i, 1]), bilinearly, with the edge pixels repeated outside.

    A shift is separable: two small matrix products an image, which is faster than a gather on every backend.

    Args:
      images: float [N, H, W, C].
      offsets: float32 [N, 2], in pixels; a positive one moves the picture up, or left.
    """
    rows, columns = _interpolation(offsets[:, 0], images.shape[1]), _interpolation(offsets[:, 1], images.shape[2])
    exact = jax.lax.Precision.HIGHEST  # no TF32: pixels have 8 bits and so has its mantissa, nearly
    images = jnp.einsum("nij,njwc->niwc", rows.astype(images.dtype), images, precision=exact)
    return jnp.einsum("nij,nhjc->nhic", columns.astype(images.dtype), images, precision=exact)


def _interpolation(offsets: jax.Array, size: int) -> jax.Array:
    """Matrices [N, size, size] whose row i holds the bilinear weights of the pixels around i + offset."""
    positions = jnp.clip(jnp.arange(size) + offsets[:, None], 0, size - 1)
    return jnp.maximum(0, 1 - jnp.abs(positions[:, :, None] - jnp.arange(size)))

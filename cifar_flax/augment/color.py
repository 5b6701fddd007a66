"""Brightness, contrast, saturation and hue of a batch, as torchvision's ColorJitter defines them.

Images are float [N, H, W, C] in [0, 1] and stay so. The four come in a fixed order here, where torchvision shuffles them for
each image. Saturation and hue leave images of one channel unchanged.
"""

import jax
import jax.numpy as jnp


def random_brightness(key: jax.Array, images: jax.Array, strength: float) -> jax.Array:
    """Multiplies each image by a factor from [1 - strength, 1 + strength]."""
    return brightness(images, _factors(key, images, strength))


def random_contrast(key: jax.Array, images: jax.Array, strength: float) -> jax.Array:
    """Scales the difference of each image to its mean grey by a factor from [1 - strength, 1 + strength]."""
    return contrast(images, _factors(key, images, strength))


def random_saturation(key: jax.Array, images: jax.Array, strength: float) -> jax.Array:
    """Scales the difference of each pixel to its grey by a factor from [1 - strength, 1 + strength]."""
    return saturation(images, _factors(key, images, strength))


def random_hue(key: jax.Array, images: jax.Array, turns: float) -> jax.Array:
    """Rotates the hue of each image by up to `turns` of the colour circle either way; 1/2 reaches the opposite colour."""
    return hue(images, jax.random.uniform(key, (len(images),), minval=-turns, maxval=turns))


def brightness(images: jax.Array, factors: jax.Array) -> jax.Array:
    """Blends each image with black; factors [N], 1 changes nothing."""
    return _blend(jnp.zeros_like(images), images, factors)


def contrast(images: jax.Array, factors: jax.Array) -> jax.Array:
    """Blends each image with its mean luma; factors [N], 1 changes nothing."""
    return _blend(luma(images).mean((1, 2, 3), keepdims=True), images, factors)


def saturation(images: jax.Array, factors: jax.Array) -> jax.Array:
    """Blends each pixel with its luma; factors [N], 1 changes nothing."""
    return _blend(luma(images), images, factors)


def hue(images: jax.Array, turns: jax.Array) -> jax.Array:
    """Adds `turns` [N] to the hue in HSV space, where 1 is the full circle."""
    if images.shape[-1] == 1:
        return images
    red, green, blue = images[..., 0], images[..., 1], images[..., 2]
    value = images.max(-1)
    chroma = value - images.min(-1)
    divisor = jnp.where(chroma == 0, 1, chroma)
    sixths = jnp.where(
        value == red,
        (green - blue) / divisor,
        jnp.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    sixths += 6 * turns[:, None, None]
    # A channel's distance below the value depends only on its distance from the hue.
    distance = jnp.array([5.0, 3.0, 1.0]) + sixths[..., None]
    distance -= 6 * jnp.floor(distance / 6)
    return value[..., None] - chroma[..., None] * jnp.clip(jnp.minimum(distance, 4 - distance), 0, 1)


def luma(images: jax.Array) -> jax.Array:
    """Grey value of each pixel, [N, H, W, 1], by the ITU-R 601 weights of red, green and blue."""
    if images.shape[-1] == 1:
        return images
    return 0.299 * images[..., :1] + 0.587 * images[..., 1:2] + 0.114 * images[..., 2:]


def _blend(start: jax.Array, images: jax.Array, factors: jax.Array) -> jax.Array:
    return jnp.clip(start + factors[:, None, None, None] * (images - start), 0, 1)


def _factors(key: jax.Array, images: jax.Array, strength: float) -> jax.Array:
    return jax.random.uniform(key, (len(images),), minval=1 - strength, maxval=1 + strength)

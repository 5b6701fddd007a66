"""Brightness, contrast, saturation and hue of a whole batch at once, as torchvision's ColorJitter defines them.

Images are float [N, H, W, C] in [0, 1] and stay so. Where torchvision shuffles the four for each image, they come in one order
here. Images of one channel have neither saturation nor hue and are left alone by those two.
"""

import jax
import jax.numpy as jnp


def random_brightness(key: jax.Array, images: jax.Array, strength: float) -> jax.Array:
    """Multiplies each image by a factor from [1 - strength, 1 + strength]."""
    return brightness(images, _factors(key, images, strength))


def random_contrast(key: jax.Array, images: jax.Array, strength: float) -> jax.Array:
    """Moves each image away from its mean grey, or towards it, by a factor from [1 - strength, 1 + strength]."""
    return contrast(images, _factors(key, images, strength))


def random_saturation(key: jax.Array, images: jax.Array, strength: float) -> jax.Array:
    """Moves each pixel away from its own grey, or towards it, by a factor from [1 - strength, 1 + strength]."""
    return saturation(images, _factors(key, images, strength))


def random_hue(key: jax.Array, images: jax.Array, turns: float) -> jax.Array:
    """Turns the colour circle of each image by up to `turns` either way; 1/2 reaches the opposite colour."""
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
    """Adds `turns` [N] to the hue in HSV space, of which 1 is the whole circle."""
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
    # How far a channel falls below the value depends on its distance from the hue alone.
    distance = jnp.array([5.0, 3.0, 1.0]) + sixths[..., None]
    distance -= 6 * jnp.floor(distance / 6)
    return value[..., None] - chroma[..., None] * jnp.clip(jnp.minimum(distance, 4 - distance), 0, 1)


def luma(images: jax.Array) -> jax.Array:
    """The grey of each pixel, [N, H, W, 1], by ITU-R 601's weights of red, green and blue."""
    if images.shape[-1] == 1:
        return images
    return 0.299 * images[..., :1] + 0.587 * images[..., 1:2] + 0.114 * images[..., 2:]


def _blend(start: jax.Array, images: jax.Array, factors: jax.Array) -> jax.Array:
    return jnp.clip(start + factors[:, None, None, None] * (images - start), 0, 1)


def _factors(key: jax.Array, images: jax.Array, strength: float) -> jax.Array:
    return jax.random.uniform(key, (len(images),), minval=1 - strength, maxval=1 + strength)

"""RandAugment and TrivialAugment: each image draws its operations from one list."""

import jax
import jax.numpy as jnp
import numpy as np

from cifar_flax.augment.operations import Operation, apply

LEVELS = 31  # strengths of an operation
_SIGNED = np.array([Operation.SHEAR_X <= o <= Operation.SHARPNESS for o in Operation])


def rand_augment(key: jax.Array, images: jax.Array, layers: int, level: int) -> jax.Array:
    """Applies `layers` operations to each image, each drawn uniformly from the fourteen, all at the same level.

    Args:
      key: a PRNG key.
      images: float [N, H, W, C] in [0, 1], C 1 or 3; rounded to 8 bits first.
      layers: operations an image.
      level: in [0, 30], thirtieths of each operation's range in `rand_augment_magnitudes`.

    References:
      Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space", NeurIPS 2020.
    """
    magnitudes = rand_augment_magnitudes(*images.shape[1:3])[:, level : level + 1]
    return _augment(key, images, layers, np.repeat(magnitudes, LEVELS, axis=1))


def trivial_augment(key: jax.Array, images: jax.Array) -> jax.Array:
    """Applies one operation to each image, drawn uniformly from the fourteen, at a level drawn uniformly from all 31.

    Args:
      key: a PRNG key.
      images: float [N, H, W, C] in [0, 1], C 1 or 3; rounded to 8 bits first.

    References:
      Müller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", ICCV 2021: its wide space.
    """
    return _augment(key, images, 1, trivial_augment_magnitudes())


def rand_augment_magnitudes(height: int, width: int) -> np.ndarray:
    """The magnitude of each `Operation` at each level, float32 [14, 31], as in torchvision's RandAugment."""
    return _magnitudes(shear=0.3, translate=(150 / 331 * width, 150 / 331 * height), degrees=30, factor=0.9, bits=4)


def trivial_augment_magnitudes() -> np.ndarray:
    """The magnitude of each `Operation` at each level, float32 [14, 31], as in torchvision's TrivialAugmentWide."""
    return _magnitudes(shear=0.99, translate=(32, 32), degrees=135, factor=0.99, bits=6)


def _magnitudes(shear: float, translate: tuple[float, float], degrees: float, factor: float, bits: int) -> np.ndarray:
    """Magnitudes of each operation from level 0 to 30; posterizing removes up to `bits` bits."""
    share = np.arange(LEVELS) / (LEVELS - 1)
    rows = {
        Operation.SHEAR_X: shear * share,
        Operation.SHEAR_Y: shear * share,
        Operation.TRANSLATE_X: translate[0] * share,
        Operation.TRANSLATE_Y: translate[1] * share,
        Operation.ROTATE: degrees * share,
        **dict.fromkeys((Operation.BRIGHTNESS, Operation.COLOR, Operation.CONTRAST, Operation.SHARPNESS), factor * share),
        Operation.POSTERIZE: 8 - np.round(bits * share),
        Operation.SOLARIZE: 255 * (1 - share),
    }
    return np.stack([rows.get(operation, np.zeros(LEVELS)) for operation in Operation]).astype(np.float32)


def draw(key: jax.Array, n: int, magnitudes: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Draws an operation, a level and, where both directions make sense, a sign, each uniformly.

    Args:
      key: a PRNG key.
      n: number of images.
      magnitudes: float32 [14, 31].

    Returns:
      Operations int32 [n] and magnitudes float32 [n].
    """
    choices = jnp.array([len(Operation), LEVELS, 2])
    operation, level, sign = (jax.random.uniform(key, (n, 3)) * choices).astype(jnp.int32).T
    magnitude = jnp.asarray(magnitudes)[operation, level]
    return operation, jnp.where(jnp.asarray(_SIGNED)[operation] & (sign == 1), -magnitude, magnitude)


def _augment(key: jax.Array, images: jax.Array, layers: int, magnitudes: np.ndarray) -> jax.Array:
    def layer(images: jax.Array, drawn: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return jax.vmap(apply)(images, *drawn), None

    drawn = jax.vmap(lambda key: draw(key, len(images), magnitudes))(jax.random.split(key, layers))
    # A loop, since XLA would fuse two layers and compute the first one again for each pixel that the second one reads.
    images, _ = jax.lax.scan(layer, jnp.round(images * 255).astype(jnp.int32), drawn)
    return images / jnp.float32(255)

"""Mixup and CutMix: each image with another of its batch, and their labels likewise."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from cifar_flax.augment.erase import box

_QUANTILES = 4096  # that stand for a Beta distribution


def mix(
    key: jax.Array, images: jax.Array, labels: jax.Array, *, mixup: float = 0.0, cutmix: float = 0.0
) -> tuple[jax.Array, jax.Array]:
    """Averages each image with its partner, pixel by pixel (mixup) or by pasting a box of it (CutMix), and so the labels.

    The partner of an image is its neighbour in the batch: batches are shuffled afresh every epoch, so that is a random image,
    and where the batch is spread over devices only one image leaves each of them.

    Mixup's weight of the image itself is drawn from Beta(mixup, mixup). CutMix's box has the shape of the image, a share
    1 - lambda of its area with lambda from Beta(cutmix, cutmix), and its centre at any pixel, so that a part of it may lie
    outside; labels are averaged by what lies inside. Each image has its own draws, where both papers' code has one for a
    batch; here that costs nothing.

    Args:
      key: a PRNG key.
      images: float [N, H, W, C].
      labels: float [N, num_classes], each row a distribution.
      mixup: alpha of mixup; 0 is off, 1 draws weights evenly.
      cutmix: alpha of CutMix, likewise. If both are on, one is drawn for the whole batch with probability 1/2.

    Returns:
      Images and labels of the same shapes.

    References:
      Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.
      Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019.
    """
    choice_key, draw_key = jax.random.split(key)
    mixup_draw, *cutmix_draws = jax.random.uniform(draw_key, (4, len(images)))
    if mixup and cutmix:
        weights, kept = _mixup_weights(mixup_draw, mixup), _cutmix_weights(cutmix_draws, images, cutmix)
        own = jnp.where(jax.random.bernoulli(choice_key), weights, kept)
    else:
        own = _mixup_weights(mixup_draw, mixup) if mixup else _cutmix_weights(cutmix_draws, images, cutmix)
    share = own.mean((1, 2, 3))[:, None]
    return (
        own * images + (1 - own) * jnp.roll(images, 1, axis=0),
        share * labels + (1 - share) * jnp.roll(labels, 1, axis=0),
    )


def _mixup_weights(draw: jax.Array, alpha: float) -> jax.Array:
    """The weight of each image itself, [N, 1, 1, 1]."""
    return _beta(draw, alpha)[:, None, None, None]


def _cutmix_weights(draws: Sequence[jax.Array], images: jax.Array, alpha: float) -> jax.Array:
    """The weight of each image's own pixels, [N, H, W, 1]: 0 in the box and 1 around it."""
    _, height, width, _ = images.shape
    share_draw, *centre_draws = draws
    size = jnp.array([height, width])
    sizes = (size * jnp.sqrt(1 - _beta(share_draw, alpha))[:, None]).astype(jnp.int32)
    starts = (size * jnp.stack(centre_draws, -1)).astype(jnp.int32) - sizes // 2
    return 1 - box(starts, starts + sizes, (height, width)).astype(images.dtype)


def _beta(draw: jax.Array, alpha: float) -> jax.Array:
    """Turns even draws from [0, 1) into draws from Beta(alpha, alpha), by its quantiles.

    `jax.random.beta` rejects until it has them, which takes seconds to compile and devices have to agree on.
    """
    quantiles = special.betaincinv(alpha, alpha, (np.arange(_QUANTILES) + 0.5) / _QUANTILES)
    return jnp.asarray(quantiles, jnp.float32)[(draw * _QUANTILES).astype(jnp.int32)]

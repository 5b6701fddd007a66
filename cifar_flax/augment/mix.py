"""Mixup and CutMix: average each image, and its target, with another of its batch."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cifar_flax.augment.erase import box

_QUANTILES = 4096  # of the table that approximates a Beta distribution


def mixup_or_cutmix(
    key: jax.Array,
    images: jax.Array,
    targets: jax.Array,
    *,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    probability: float = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """Averages each image with its partner, pixel by pixel (mixup) or by pasting a box (CutMix), and their targets.

    The partner of an image is its neighbour in the batch. Batches are shuffled every epoch, so the partner is a random image,
    and where a batch is sharded over devices only one image leaves each of them.

    Mixup draws the weight of the image itself from Beta(mixup, mixup). CutMix's box has the aspect ratio of the image and the
    share 1 - lambda of its area, lambda from Beta(cutmix, cutmix). Its centre is any pixel, so a part of it may lie outside;
    targets are weighted by the pixels inside. Each image has its own draws, which costs nothing here; the code of both papers
    draws once a batch.

    Args:
      key: a PRNG key.
      images: float [N, H, W, C].
      targets: float [N, num_classes], each row a distribution.
      mixup: alpha of mixup; 0 is off, 1 draws weights uniformly.
      cutmix: alpha of CutMix; 0 is off. If both are on, a batch takes one of the two, each with probability 1/2.
      probability: share of the images that are mixed; the others stay as they are.

    Returns:
      Images and targets of the same shapes.

    References:
      Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.
      Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019.
    """
    choice_key, draw_key = jax.random.split(key)
    mixup_draw, *cutmix_draws = jax.random.uniform(draw_key, (4, len(images)))
    if mixup and cutmix:
        mixup_weights, cutmix_weights = _mixup_weights(mixup_draw, mixup), _cutmix_weights(cutmix_draws, images, cutmix)
        weights = jnp.where(jax.random.bernoulli(choice_key), mixup_weights, cutmix_weights)
    else:
        weights = _mixup_weights(mixup_draw, mixup) if mixup else _cutmix_weights(cutmix_draws, images, cutmix)
    if probability < 1:
        mixed = jax.random.bernoulli(jax.random.fold_in(choice_key, 1), probability, (len(images), 1, 1, 1))
        weights = jnp.where(mixed, weights, 1)
    share = weights.mean((1, 2, 3))[:, None]
    return (
        weights * images + (1 - weights) * jnp.roll(images, 1, axis=0),
        share * targets + (1 - share) * jnp.roll(targets, 1, axis=0),
    )


def _mixup_weights(draw: jax.Array, alpha: float) -> jax.Array:
    """Weight of each image against its partner, [N, 1, 1, 1]."""
    return _beta(draw, alpha)[:, None, None, None]


def _cutmix_weights(draws: Sequence[jax.Array], images: jax.Array, alpha: float) -> jax.Array:
    """Weight of each pixel against the partner's, [N, H, W, 1]: 0 inside the box and 1 outside."""
    _, height, width, _ = images.shape
    share_draw, *centre_draws = draws
    size = jnp.array([height, width])
    sizes = (size * jnp.sqrt(1 - _beta(share_draw, alpha))[:, None]).astype(jnp.int32)
    starts = (size * jnp.stack(centre_draws, -1)).astype(jnp.int32) - sizes // 2
    return 1 - box(starts, starts + sizes, (height, width)).astype(images.dtype)


def _beta(draw: jax.Array, alpha: float) -> jax.Array:
    """Maps uniform draws from [0, 1) to draws from Beta(alpha, alpha) by its quantiles.

    `jax.random.beta` is a rejection loop, which takes seconds to compile and whose length all devices have to agree on.
    """
    from scipy import special  # a tenth of the imports of a training, which few need

    quantiles = special.betaincinv(alpha, alpha, (np.arange(_QUANTILES) + 0.5) / _QUANTILES)
    return jnp.asarray(quantiles, jnp.float32)[(draw * _QUANTILES).astype(jnp.int32)]

"""Losses of classification, by registered name or import path: `config.loss`."""

from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cifar_flax.config import Config
from cifar_flax.config.registry import LOSSES
from cifar_flax.config.user_code import user_code
from cifar_flax.errors import ConfigError

Loss = Callable[[jax.Array, jax.Array], jax.Array]  # (logits float32 [N, C], targets float32 [N, C]) -> float32 [N]


@LOSSES.register("cross_entropy")
def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross-entropy between softmax(logits) and the targets, in nats."""
    return cast(jax.Array, optax.softmax_cross_entropy(logits, targets))


def balanced_weights(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Weights, float32 [num_classes], with which each class has the same part in the loss; their mean over all images is 1.

    Args:
      labels: int [N].
      num_classes: those that do not occur have the weight 0.

    References:
      King and Zeng, "Logistic Regression in Rare Events Data", 2001; scikit-learn's `class_weight="balanced"`.
    """
    counts = np.bincount(labels, minlength=num_classes)
    weights = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 0).astype(np.float32)


def example_weights(targets: jax.Array, class_weights: np.ndarray) -> jax.Array:
    """Factors of the losses of examples, float32 [N]: the weight of the class, of a mixed example the mean of its weights.

    Args:
      targets: float32 [N, num_classes], without a teacher's predictions, which are no classes of the image.
      class_weights: float32 [num_classes].
    """
    return (targets * class_weights).sum(-1)  # and no product of matrices, which some GPUs round


def create_loss(config: Config) -> Loss:
    """Builds the loss that is minimised, averaged over the batch.

    A loss is a function of logits, float32 [N, num_classes], and targets of the same shape, each row a distribution: one-hot,
    mixed by mixup or CutMix, smoothed by `config.optim.label_smoothing`. It returns the loss of each example, float32 [N],
    which may depend on no other example: gradients are accumulated over microbatches.

    Raises:
      ConfigError: there is no loss of that name. The returned function raises it, too, where the loss has another shape or
        a user's own raised an error.
    """
    loss, smoothing = LOSSES.resolve(config.loss, "config.loss"), config.optim.label_smoothing

    def smoothed(logits: jax.Array, targets: jax.Array) -> jax.Array:
        with user_code("config.loss", config.loss, loss):
            losses = loss(logits, optax.smooth_labels(targets, smoothing) if smoothing else targets)
        if jnp.shape(losses) != logits.shape[:1] or jnp.result_type(losses) != jnp.float32:
            raise ConfigError(
                f"config.loss: {config.loss} returned {jnp.result_type(losses)}{list(jnp.shape(losses))}; expected one loss "
                f"an example, float32{list(logits.shape[:1])}"
            )
        return losses

    return smoothed

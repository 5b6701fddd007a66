"""From the augmentation config to one pure function of (key, batch, epoch), to be called inside the jitted step."""

from collections.abc import Callable

import jax
from flax import struct

from cifar_flax.augment.geometry import random_crop, random_flip, random_shift
from cifar_flax.config import AugmentConfig


@struct.dataclass
class Batch:
    """What an augmentation reads and changes.

    Attributes:
      images: float32 [N, H, W, C], in [0, 1].
      labels: float32 [N, num_classes], each row a distribution.
      indices: int32 [N], each image's row in the training set.
    """

    images: jax.Array
    labels: jax.Array
    indices: jax.Array


Augmentation = Callable[[jax.Array, Batch, jax.Array], Batch]


def create_augmentation(config: AugmentConfig) -> Augmentation:
    """Builds the augmentation (key, batch, epoch int32 []) -> batch that `config` describes."""

    def augment(key: jax.Array, batch: Batch, epoch: jax.Array) -> Batch:
        flip_key, crop_key, shift_key = jax.random.split(key, 3)
        images = batch.images
        if config.shift:
            images = random_shift(shift_key, images, config.shift)
        if config.crop_padding:
            images = random_crop(crop_key, images, config.crop_padding)
        if config.flip:
            images = random_flip(flip_key, images)
        return Batch(images, batch.labels, batch.indices)

    return augment

"""From the augmentation config to one pure function of (key, batch, epoch), to be called inside the jitted step."""

import zlib
from collections.abc import Callable
from functools import partial

import jax
from flax import struct

from cifar_flax.augment.color import random_brightness, random_contrast, random_hue, random_saturation
from cifar_flax.augment.erase import cutout, random_erasing
from cifar_flax.augment.geometry import alternating_flip, random_affine, random_crop, random_flip
from cifar_flax.augment.mix import mix
from cifar_flax.augment.randaugment import rand_augment, trivial_augment
from cifar_flax.config import AugmentConfig
from cifar_flax.config.types import Policy


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
Change = Callable[[jax.Array, jax.Array], jax.Array]


def create_augmentation(config: AugmentConfig) -> Augmentation:
    """Builds the augmentation (key, batch, epoch int32 []) -> batch that `config` describes.

    Nothing is computed that `config` does not ask for, and what one augmentation draws does not depend on which others are on.
    """
    changes = _changes(config)

    def augment(key: jax.Array, batch: Batch, epoch: jax.Array) -> Batch:
        images, labels = batch.images, batch.labels
        if config.alternating_flip:
            images = alternating_flip(images, batch.indices, epoch)
        for name, change in changes.items():
            images = _apart(change, _own_key(key, name), images, epoch)
        if config.mixup or config.cutmix:
            images, labels = mix(_own_key(key, "mix"), images, labels, mixup=config.mixup, cutmix=config.cutmix)
        return Batch(images, labels, batch.indices)

    return augment


def _changes(config: AugmentConfig) -> dict[str, Change]:
    """What is done to the images alone, in the order of the config's fields."""
    affine = partial(
        random_affine,
        rotation=config.rotation,
        height_shift=config.height_shift,
        width_shift=config.width_shift,
        zoom=config.zoom,
        mode=config.fill_mode,
        value=config.fill_value,
    )
    layers, level = config.rand_augment_layers, config.rand_augment_magnitude
    every: dict[str, tuple[object, Change]] = {
        "flip": (config.flip and not config.alternating_flip, random_flip),
        "affine": (config.rotation or config.width_shift or config.height_shift or config.zoom, affine),
        "crop": (config.crop_padding, partial(random_crop, padding=config.crop_padding, mode=config.crop_fill_mode)),
        "rand_augment": (config.policy is Policy.RAND_AUGMENT, partial(rand_augment, layers=layers, level=level)),
        "trivial_augment": (config.policy is Policy.TRIVIAL_AUGMENT, trivial_augment),
        "brightness": (config.brightness, partial(random_brightness, strength=config.brightness)),
        "contrast": (config.contrast, partial(random_contrast, strength=config.contrast)),
        "saturation": (config.saturation, partial(random_saturation, strength=config.saturation)),
        "hue": (config.hue, partial(random_hue, turns=config.hue)),
        "cutout": (config.cutout, partial(cutout, size=config.cutout)),
        "random_erasing": (config.random_erasing, partial(random_erasing, probability=config.random_erasing)),
    }
    return {name: change for name, (wanted, change) in every.items() if wanted}


def _own_key(key: jax.Array, name: str) -> jax.Array:
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def _apart(change: Change, key: jax.Array, images: jax.Array, epoch: jax.Array) -> jax.Array:
    """Makes a change in a computation of its own.

    XLA's CPU backend would fuse changes in a row and make the first anew for each pixel that the second looks at, which takes
    ten times as long where all are on. It pays no heed to `jax.lax.optimization_barrier`, but a branch that might not be taken
    stays apart. Other backends fuse better, and have to wait for a branch.
    """
    if jax.default_backend() != "cpu":
        return change(key, images)
    return jax.lax.cond(epoch >= 0, change, lambda key, images: images, key, images)

"""Builds the augmentation of a training batch from `config.augment`: one pure function, called inside the compiled step."""

import zlib
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from cifar_flax.augment.color import random_brightness, random_contrast, random_hue, random_saturation
from cifar_flax.augment.erase import cutout, random_erasing
from cifar_flax.augment.geometry import alternating_flip, random_affine, random_crop, random_flip
from cifar_flax.augment.mix import mixup_or_cutmix
from cifar_flax.augment.randaugment import rand_augment, trivial_augment
from cifar_flax.config import AugmentConfig
from cifar_flax.config.registry import AUGMENTATIONS
from cifar_flax.config.types import Policy
from cifar_flax.config.user_code import user_code
from cifar_flax.errors import ConfigError
from cifar_flax.runtime.loops import materialized

Augmentation = Callable[[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
ImageTransform = Callable[[jax.Array, jax.Array], jax.Array]

# Names for `config.augment.custom`. A transform takes (key, images float32 [N, H, W, C] in [0, 1]) and returns images of the
# same shape and range.
AUGMENTATIONS.register("flip")(random_flip)
AUGMENTATIONS.register("trivial_augment")(trivial_augment)


def create_augmentation(config: AugmentConfig) -> Augmentation:
    """Builds the augmentation (key, images, targets, indices, epoch) -> (images, targets).

    Nothing is computed that `config` does not ask for. The draws of one transform do not depend on which others are on.

    Args:
      config: the built-in transforms, applied in the order of its fields; then those of `custom`; then mixup or CutMix.

    Returns:
      A function of a PRNG key, images float32 [N, H, W, C] in [0, 1], targets float32 [N, num_classes] (each row a
      distribution), indices int32 [N] (rows in the training set) and the epoch, int32 []. It returns new images and targets
      of the same shapes.

    Raises:
      ConfigError: there is no transform of a name in `custom`. The function raises it, too, where a custom transform
        raises an error, or returns something else than images of the shape and dtype that it was given.
    """
    transforms = _built_in(config) | _custom(config.custom)

    def augment(
        key: jax.Array, images: jax.Array, targets: jax.Array, indices: jax.Array, epoch: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        if config.alternating_flip:
            images = alternating_flip(images, indices, epoch)
        for name, transform in transforms.items():
            images = materialized(transform(_fold_in_name(key, name), images))  # or each is computed for each pixel of the next
        if config.mixup or config.cutmix:
            mix_key = _fold_in_name(key, "mix")
            amounts = {"mixup": config.mixup, "cutmix": config.cutmix, "probability": config.mix_probability}
            images, targets = mixup_or_cutmix(mix_key, images, targets, **amounts)
        return images, targets

    return augment


def _built_in(config: AugmentConfig) -> dict[str, ImageTransform]:
    """The transforms of images alone that the config switches on, in the order of its fields."""
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
    transforms: dict[str, tuple[object, ImageTransform]] = {
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
    return {name: transform for name, (enabled, transform) in transforms.items() if enabled}


def _custom(names: tuple[str, ...]) -> dict[str, ImageTransform]:
    """The transforms that `config.augment.custom` names; a name that stands there twice draws anew the second time."""
    return {
        f"custom {name} {names[:i].count(name)}": _checked(name, AUGMENTATIONS.resolve(name, f"config.augment.custom[{i}]"))
        for i, name in enumerate(names)
    }


def _checked(name: str, transform: ImageTransform) -> ImageTransform:
    def apply(key: jax.Array, images: jax.Array) -> jax.Array:
        with user_code("config.augment.custom", name, transform):
            result = transform(key, images)
        if _signature(result) != _signature(images):
            raise ConfigError(f"config.augment.custom: {name} returned {_signature(result)}, not {_signature(images)}")
        return jnp.asarray(result)

    return apply


def _signature(value: object) -> str:
    """Dtype and shape of an array, `float32[8,32,32,3]`; the type of anything else."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    return type(value).__name__ if shape is None else f"{dtype}[{','.join(map(str, shape))}]"


def _fold_in_name(key: jax.Array, name: str) -> jax.Array:
    return jax.random.fold_in(key, zlib.crc32(name.encode()))

"""Draws the pictures of the documentation: python benchmarks/pictures.py."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

from cifar_flax.augment.policy import create_augmentation
from cifar_flax.config import AugmentConfig, DataConfig, FillMode, Policy
from cifar_flax.data.dataset import Dataset
from cifar_flax.data.loading import load_dataset
from cifar_flax.data.preprocessing import to_unit
from cifar_flax.runtime import app

DOCS = Path(__file__).parent.parent / "docs"
SCALE, GAP = 2, 2
CAPTION = 14  # pixels

AUGMENTATIONS = {
    "none": AugmentConfig(),
    "flip": AugmentConfig(flip=True),
    "rotation=30": AugmentConfig(rotation=30.0),
    "width_shift=.2 height_shift=.2": AugmentConfig(width_shift=0.2, height_shift=0.2),
    "zoom=.3": AugmentConfig(zoom=0.3),
    "rotation=20 width_shift=.2 zoom=.2": AugmentConfig(rotation=20.0, width_shift=0.2, zoom=0.2),
    "width_shift=.6 fill_mode=reflect": AugmentConfig(width_shift=0.6, fill_mode=FillMode.REFLECT),
    "width_shift=.6 fill_mode=wrap": AugmentConfig(width_shift=0.6, fill_mode=FillMode.WRAP),
    "width_shift=.6 fill_mode=constant": AugmentConfig(width_shift=0.6, fill_mode=FillMode.CONSTANT),
    "crop_padding=4": AugmentConfig(crop_padding=4),
    "policy=rand_augment": AugmentConfig(policy=Policy.RAND_AUGMENT),
    "policy=trivial_augment": AugmentConfig(policy=Policy.TRIVIAL_AUGMENT),
    "brightness=.5": AugmentConfig(brightness=0.5),
    "contrast=.7": AugmentConfig(contrast=0.7),
    "saturation=.9": AugmentConfig(saturation=0.9),
    "hue=.5": AugmentConfig(hue=0.5),
    "cutout=16": AugmentConfig(cutout=16),
    "random_erasing=.8": AugmentConfig(random_erasing=0.8),
    "mixup=1": AugmentConfig(mixup=1.0),
    "cutmix=1": AugmentConfig(cutmix=1.0),
}


def one_of_each_class(test: Dataset) -> np.ndarray:
    """The first image of each class, uint8 [C, H, W, 3]."""
    return test.images[np.array([np.argmax(test.labels == label) for label in range(test.num_classes)])]


def framed(images: np.ndarray) -> np.ndarray:
    """Enlarges images [N, H, W, 3] and puts a white line to the right and below."""
    large = images.repeat(SCALE, 1).repeat(SCALE, 2)
    return np.pad(large, ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)


def shapes100(images: np.ndarray) -> Image.Image:
    """One image per class: a column per superclass, its five classes below each other."""
    tiles = framed(images)
    side = tiles.shape[1]
    sheet = tiles.reshape(20, 5, side, side, 3).transpose(1, 2, 0, 3, 4).reshape(5 * side, 20 * side, 3)
    return Image.fromarray(sheet[:-GAP, :-GAP])


def augmentations(images: np.ndarray) -> Image.Image:
    """Each augmentation of the same few images, under its settings, in two columns."""
    n, side = len(images), images.shape[1] * SCALE + GAP
    width, height, rows = n * side + 4 * GAP, side + CAPTION, -(-len(AUGMENTATIONS) // 2)
    sheet = Image.new("RGB", (2 * width - 5 * GAP, rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    batch = (to_unit(jnp.asarray(images)), jnp.eye(n), jnp.arange(n))
    for i, (caption, config) in enumerate(AUGMENTATIONS.items()):
        left, top = i // rows * width, i % rows * height
        after, _ = jax.jit(create_augmentation(config))(jax.random.key(1), *batch, jnp.int32(0))
        strip = np.concatenate(framed(np.round(np.asarray(after) * 255).astype(np.uint8)), axis=1)
        draw.text((left, top + 1), caption, "black")
        sheet.paste(Image.fromarray(strip), (left, top + CAPTION))
    return sheet.quantize(256, dither=Image.Dither.NONE)


def main() -> None:
    """Writes docs/shapes100.png and docs/augmentations.png."""
    firsts = one_of_each_class(load_dataset(DataConfig(name="shapes100"), "test"))
    shapes100(firsts).save(DOCS / "shapes100.png", optimize=True)
    augmentations(firsts[[3, 22, 41, 60, 88]]).save(DOCS / "augmentations.png", optimize=True)


if __name__ == "__main__":
    app.run(main)

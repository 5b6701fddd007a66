"""Draws the pictures of the README: python benchmarks/pictures.py."""

from pathlib import Path

import numpy as np
from PIL import Image

from cifar_flax.config import DataConfig
from cifar_flax.data.catalog import load_dataset

DOCS = Path(__file__).parent.parent / "docs"
SCALE, GAP = 2, 2


def shapes100() -> Image.Image:
    """One test image a class: a column a superclass, five classes below each other."""
    test = load_dataset(DataConfig(name="shapes100"), "test")
    firsts = np.array([np.argmax(test.labels == label) for label in range(test.num_classes)])
    images = test.images[firsts].repeat(SCALE, 1).repeat(SCALE, 2)
    framed = np.pad(images, ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    side = framed.shape[1]
    sheet = framed.reshape(20, 5, side, side, 3).transpose(1, 2, 0, 3, 4).reshape(5 * side, 20 * side, 3)
    return Image.fromarray(sheet[:-GAP, :-GAP])


if __name__ == "__main__":
    shapes100().save(DOCS / "shapes100.png", optimize=True)

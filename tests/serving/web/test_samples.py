import io
import re

import numpy as np
import pytest
from PIL import Image

from cifar_flax.data.shapes100.classes import CATALOG
from cifar_flax.serving.web import samples

SHAPES = tuple(name for members in CATALOG.values() for name in members)


@pytest.mark.parametrize("class_names", [SHAPES, SHAPES[::-1], ("cat", "dog")], ids=["shapes100", "reordered", "others"])
def test_samples_are_six_different_pictures_with_names_for_addresses(class_names):
    drawn = samples.draw(class_names)
    pictures = [np.asarray(Image.open(io.BytesIO(sample.png))) for sample in drawn]
    assert len({sample.png for sample in drawn}) == 6
    assert all(picture.shape == (192, 192, 3) and picture.std() > 10 for picture in pictures)
    assert all(re.fullmatch(r"[a-z-]+", sample.slug) for sample in drawn)
    assert {sample.name for sample in drawn} <= set(SHAPES) or class_names == ("cat", "dog")


def test_shapes_stand_upright():
    tree = next(sample for sample in samples.draw(SHAPES) if sample.name == "fir tree")
    green = np.asarray(Image.open(io.BytesIO(tree.png)))[..., 0] < 128
    assert green[:96].sum() < green[96:].sum()

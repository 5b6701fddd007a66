import numpy as np
import pytest

from cifar_flax.evaluation.predict import TTA, views


def shifted(images, by):
    """Moved down and right by one pixel (by=1) or up and left (by=-1); numpy's reflect padding as the reference."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    return padded[:, 1 - by : 1 - by + images.shape[1], 1 - by : 1 - by + images.shape[2]]


@pytest.mark.parametrize("tta", TTA)
def test_the_views_and_weights_of_each_augmentation(tta):
    images = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype(np.float32)
    expected = {
        "none": [(images, 1)],
        "flip": [(images, 1 / 2), (images[:, :, ::-1], 1 / 2)],
        "flip+shift": [
            (view, weight)
            for moved, share in ((images, 1 / 2), (shifted(images, -1), 1 / 4), (shifted(images, 1), 1 / 4))
            for view, weight in ((moved, share / 2), (moved[:, :, ::-1], share / 2))
        ],
    }[tta]
    found = list(views(images, tta))
    assert [weight for _, weight in found] == [weight for _, weight in expected]
    for (view, _), (reference, _) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(view, reference)
    assert sum(weight for _, weight in found) == 1

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from cifar_flax.augment.operations import Operation
from cifar_flax.augment.randaugment import (
    draw,
    rand_augment,
    rand_augment_magnitudes,
    trivial_augment,
    trivial_augment_magnitudes,
)
from tests.augment.test_operations import pillow

SIGNED = set(Operation) - {0, Operation.POSTERIZE, Operation.SOLARIZE, Operation.AUTOCONTRAST, Operation.EQUALIZE}
ENHANCERS = (Operation.BRIGHTNESS, Operation.COLOR, Operation.CONTRAST, Operation.SHARPNESS)

# Least, middle and largest magnitude in torchvision's `_augmentation_space`, for 31 bins and 32x32 pixels.
RAND_AUGMENT = {
    Operation.SHEAR_X: (0, 0.15, 0.3),
    Operation.SHEAR_Y: (0, 0.15, 0.3),
    Operation.TRANSLATE_X: (0, 7.25, 14.50),
    Operation.TRANSLATE_Y: (0, 7.25, 14.50),
    Operation.ROTATE: (0, 15, 30),
    **dict.fromkeys(ENHANCERS, (0, 0.45, 0.9)),
    Operation.POSTERIZE: (8, 6, 4),
    Operation.SOLARIZE: (255, 127.5, 0),
}
TRIVIAL_AUGMENT = {
    Operation.SHEAR_X: (0, 0.495, 0.99),
    Operation.SHEAR_Y: (0, 0.495, 0.99),
    Operation.TRANSLATE_X: (0, 16, 32),
    Operation.TRANSLATE_Y: (0, 16, 32),
    Operation.ROTATE: (0, 67.5, 135),
    **dict.fromkeys(ENHANCERS, (0, 0.495, 0.99)),
    Operation.POSTERIZE: (8, 5, 2),
    Operation.SOLARIZE: (255, 127.5, 0),
}


def with_pillow(pictures, operations, magnitudes):
    each = zip(pictures, np.asarray(operations).tolist(), np.asarray(magnitudes).tolist(), strict=True)
    return np.stack([np.asarray(pillow(Image.fromarray(picture), o, magnitude)) for picture, o, magnitude in each])


@pytest.mark.parametrize(
    ("ours", "published"),
    [(rand_augment_magnitudes(32, 32), RAND_AUGMENT), (trivial_augment_magnitudes(), TRIVIAL_AUGMENT)],
)
def test_magnitudes_are_the_published_ones(ours, published):
    assert ours.shape == (14, 31)
    for operation, magnitudes in published.items():
        np.testing.assert_allclose(ours[operation, [0, 15, 30]], magnitudes, atol=5e-3)
        steps = np.diff(ours[operation])
        assert (steps >= 0).all() or (steps <= 0).all()


def test_bits_are_rounded_as_torchvision_does():
    bits = [8, 8, 8, 8, 7, 7, 7, 7, 7, 7, 7, 7, 6, 6, 6, 6, 6, 6, 6, 5, 5, 5, 5, 5, 5, 5, 5, 4, 4, 4, 4]  # of its table
    np.testing.assert_array_equal(rand_augment_magnitudes(32, 32)[Operation.POSTERIZE], bits)


def test_translations_follow_the_sides_of_the_image():
    magnitudes = rand_augment_magnitudes(331, 662)
    np.testing.assert_allclose(magnitudes[[Operation.TRANSLATE_X, Operation.TRANSLATE_Y], -1], [300, 150])


def test_operations_levels_and_signs_are_drawn_evenly_and_apart(key):
    n = 28_000
    operations, magnitudes = (np.asarray(x) for x in draw(key, n, np.tile(np.arange(1, 32.0), (14, 1))))
    levels = np.abs(magnitudes)
    assert stats.chisquare(np.bincount(operations, minlength=14)).pvalue > 0.01
    assert stats.chisquare(np.bincount(levels.astype(int), minlength=32)[1:]).pvalue > 0.01
    for operation in Operation:
        negative = (magnitudes[operations == operation] < 0).mean()
        assert abs(negative - (0.5 if operation in SIGNED else 0)) < 0.05
    assert abs(np.corrcoef(operations, levels)[0, 1]) < 0.03


def test_rand_augment_does_its_layers_one_after_the_other(key, pictures):
    batch = np.tile(pictures, (16, 1, 1, 1))
    expected = batch.copy()
    level = rand_augment_magnitudes(28, 36)[:, 9:10].repeat(31, 1)
    for layer in jax.random.split(key, 3):
        expected = with_pillow(expected, *draw(layer, len(batch), level))
    augmented = jax.jit(rand_augment, static_argnums=(2, 3))(key, jnp.asarray(batch / np.float32(255)), 3, 9)
    off = np.abs(np.asarray(augmented) * 255 - expected)
    assert (off < 1.5).mean() > 0.98  # rounding errors of one layer are stretched by the next
    assert np.median(off) < 1e-3
    assert not np.array_equal(augmented[0], augmented[8])


def test_trivial_augment_does_one_operation_at_any_level(key, pictures):
    batch = np.tile(pictures, (16, 1, 1, 1))
    (layer,) = jax.random.split(key, 1)
    operations, magnitudes = draw(layer, len(batch), trivial_augment_magnitudes())
    expected = with_pillow(batch, operations, magnitudes)
    augmented = jax.jit(trivial_augment)(key, jnp.asarray(batch / np.float32(255)))
    off = np.abs(np.asarray(augmented) * 255 - expected)
    assert (off < 1.5).mean() > 0.999
    assert len(np.unique(magnitudes)) > 50

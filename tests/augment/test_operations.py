import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from cifar_flax.augment.operations import Operation, apply

on_batch = jax.jit(jax.vmap(apply))
every_channel_count = pytest.mark.parametrize("channels", [1, 3])


def pillow(image, operation, magnitude):
    """What torchvision's `_apply_op` has Pillow do."""

    def transform(*matrix):
        return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)

    return {
        Operation.IDENTITY: lambda: image,
        Operation.SHEAR_X: lambda: transform(1, magnitude, 0, 0, 1, 0),
        Operation.SHEAR_Y: lambda: transform(1, 0, 0, magnitude, 1, 0),
        Operation.TRANSLATE_X: lambda: transform(1, 0, -int(magnitude), 0, 1, 0),
        Operation.TRANSLATE_Y: lambda: transform(1, 0, 0, 0, 1, -int(magnitude)),
        Operation.ROTATE: lambda: image.rotate(magnitude),
        Operation.BRIGHTNESS: lambda: ImageEnhance.Brightness(image).enhance(1 + magnitude),
        Operation.COLOR: lambda: ImageEnhance.Color(image).enhance(1 + magnitude),
        Operation.CONTRAST: lambda: ImageEnhance.Contrast(image).enhance(1 + magnitude),
        Operation.SHARPNESS: lambda: ImageEnhance.Sharpness(image).enhance(1 + magnitude),
        Operation.POSTERIZE: lambda: ImageOps.posterize(image, int(magnitude)),
        Operation.SOLARIZE: lambda: ImageOps.solarize(image, magnitude),
        Operation.AUTOCONTRAST: lambda: ImageOps.autocontrast(image),
        Operation.EQUALIZE: lambda: ImageOps.equalize(image),
    }[operation]()


def ours_and_pillows(pictures, operation, magnitude):
    n = len(pictures)
    changed = on_batch(jnp.asarray(pictures, jnp.int32), jnp.full(n, operation), jnp.full(n, magnitude, jnp.float32))
    expected = [np.asarray(pillow(Image.fromarray(p.squeeze()), operation, magnitude)) for p in pictures]
    return np.asarray(changed), np.stack(expected).reshape(pictures.shape).astype(int)


@every_channel_count
@pytest.mark.parametrize(
    ("operation", "magnitude"),
    [
        *((Operation.POSTERIZE, bits) for bits in (2, 4, 7, 8)),
        *((Operation.SOLARIZE, threshold) for threshold in (0, 76.5, 128, 255)),
        *((Operation.TRANSLATE_X, pixels) for pixels in (4.35, -14.5, 32, -40)),
        *((Operation.TRANSLATE_Y, pixels) for pixels in (4.35, -14.5, 32)),
        (Operation.IDENTITY, 0),
        (Operation.EQUALIZE, 0),
    ],
)
def test_whole_numbered_operations_are_exactly_pillows(pictures, operation, magnitude, channels):
    changed, expected = ours_and_pillows(pictures[..., :channels], operation, magnitude)
    np.testing.assert_array_equal(changed, expected)


@every_channel_count
@pytest.mark.parametrize(
    ("operation", "magnitude"),
    [
        *((operation, shear) for operation in (Operation.SHEAR_X, Operation.SHEAR_Y) for shear in (0.09, -0.3, 0.99)),
        *((Operation.ROTATE, degrees) for degrees in (9, -30, 90, -135)),
    ],
)
def test_moved_pixels_are_pillows(pictures, operation, magnitude, channels):
    changed, expected = ours_and_pillows(pictures[..., :channels], operation, magnitude)
    assert (changed != expected).mean() < 0.002  # a few lie on the border between two


@every_channel_count
@pytest.mark.parametrize(
    ("operation", "magnitude"),
    [
        *(
            (operation, strength)
            for operation in (Operation.BRIGHTNESS, Operation.COLOR, Operation.CONTRAST, Operation.SHARPNESS)
            for strength in (-0.99, -0.27, 0, 0.27, 0.9)
        ),
        (Operation.AUTOCONTRAST, 0),
    ],
)
def test_blended_levels_are_pillows_to_a_rounding_error(pictures, operation, magnitude, channels):
    changed, expected = ours_and_pillows(pictures[..., :channels], operation, magnitude)
    assert np.abs(changed - expected).max() <= 1
    assert (changed != expected).mean() < 0.02


@pytest.mark.parametrize("operation", [Operation.AUTOCONTRAST, Operation.EQUALIZE])
def test_histograms_of_few_levels_are_treated_as_pillow_does(operation):
    rng = np.random.default_rng(0)
    flat, two = np.full((12, 12, 3), 77), rng.choice([30, 200], (12, 12, 3))
    every, almost = rng.integers(0, 256, (12, 12, 3)), np.full((12, 12, 3), 9)
    almost[0, 0] = 10
    changed, expected = ours_and_pillows(np.stack([flat, two, every, almost]).astype(np.uint8), operation, 0)
    # Pillow truncates 255 * span / span in binary fractions and gets 254 now and then.
    np.testing.assert_allclose(changed, expected, atol=1 if operation is Operation.AUTOCONTRAST else 0)


def test_each_image_of_a_batch_has_its_own_operation(pictures):
    operations = [Operation.ROTATE, Operation.EQUALIZE, Operation.SHARPNESS, Operation.IDENTITY] * 2
    batch = on_batch(jnp.asarray(pictures, jnp.int32), jnp.array(operations), jnp.full(8, 0.5))
    for i, operation in enumerate(operations):
        single, _ = ours_and_pillows(pictures[i : i + 1], operation, 0.5)
        np.testing.assert_array_equal(batch[i], single[0])

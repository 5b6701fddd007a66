import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cifar_flax.augment.geometry import random_crop, random_flip, random_shift, shift
from cifar_flax.augment.policy import Batch, create_augmentation
from cifar_flax.config import AugmentConfig

KEY = jax.random.key(0)


@pytest.fixture
def images():
    return np.random.default_rng(0).random((64, 12, 10, 3), dtype=np.float32)


@pytest.mark.parametrize("offset", [(0.0, 0.0), (2.0, -3.0), (0.25, 0.5), (-1.75, 4.5), (-30.0, 30.0)])
def test_shift_equals_scipy(images, offset):
    shifted = shift(jnp.asarray(images[:2]), jnp.tile(jnp.array(offset), (2, 1)))
    expected = [ndimage.shift(image, (-offset[0], -offset[1], 0), order=1, mode="nearest") for image in images[:2]]
    np.testing.assert_allclose(shifted, expected, atol=1e-6)


def test_random_shift_draws_each_image_its_own_offset_within_the_limits():
    ramp = jnp.broadcast_to(jnp.arange(40.0)[None, :, None, None], (500, 40, 40, 1))
    offsets = np.asarray(random_shift(KEY, ramp, 0.1))[:, 20, 20, 0] - 20
    assert np.abs(offsets).max() <= 4
    np.testing.assert_allclose((offsets.min(), offsets.max(), offsets.mean()), (-4, 4, 0), atol=0.3)
    assert len(np.unique(offsets)) == 500


def test_random_crop_gives_each_window_of_the_padded_image_evenly(images):
    single = jnp.asarray(np.repeat(images[:1], 4000, axis=0))
    crops = np.asarray(random_crop(KEY, single, 1))
    padded = np.pad(images[0], ((1, 1), (1, 1), (0, 0)))
    windows = [padded[i : i + 12, j : j + 10] for i in range(3) for j in range(3)]
    counts = [sum(np.array_equal(crop, window) for crop in crops) for window in windows]
    assert sum(counts) == 4000
    assert min(counts) > 4000 / 9 * 0.8


def test_random_flip_mirrors_about_half(images):
    flipped = np.asarray(random_flip(KEY, jnp.asarray(images)))
    kept = [np.array_equal(a, b) for a, b in zip(flipped, images, strict=True)]
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, images, strict=True)]
    assert all(a or b for a, b in zip(kept, mirrored, strict=True))
    assert 16 < sum(kept) < 48


def test_the_policy_is_a_function_of_the_key_and_leaves_labels_alone(images):
    augment = jax.jit(create_augmentation(AugmentConfig(flip=True, crop_padding=2, shift=0.1)))
    batch = Batch(jnp.asarray(images), jnp.eye(64), jnp.arange(64))
    first, again, other = (augment(jax.random.key(i), batch, jnp.int32(0)) for i in (0, 0, 1))
    np.testing.assert_array_equal(first.images, again.images)
    assert not np.array_equal(first.images, other.images)
    np.testing.assert_array_equal(first.labels, batch.labels)
    nothing = create_augmentation(AugmentConfig())(KEY, batch, jnp.int32(0))
    np.testing.assert_array_equal(nothing.images, images)

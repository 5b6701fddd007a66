import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from cifar_flax.augment import geometry
from cifar_flax.augment.geometry import alternating_flip, random_crop, random_flip
from cifar_flax.config.types import FillMode

random_affine = jax.jit(geometry.random_affine, static_argnames="mode")


@pytest.fixture
def images():
    return np.random.default_rng(0).random((64, 12, 10, 3), dtype=np.float32)


def mirrored(images, originals):
    """Which of the images are mirrored; all are that or the originals."""
    kept = np.array([np.array_equal(a, b) for a, b in zip(images, originals, strict=True)])
    turned = np.array([np.array_equal(a, b[:, ::-1]) for a, b in zip(images, originals, strict=True)])
    assert (kept ^ turned).all()
    return turned


def drawn_maps(key, rotation=0.0, height_shift=0.0, width_shift=0.0, zoom=0.0):
    """Degrees, shifts in pixels and scales that `random_affine` drew, read off pictures of the pixels' own coordinates."""
    n, height, width = 3000, 30, 20
    grid = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), -1).astype(np.float32)
    ranges = {"rotation": rotation, "height_shift": height_shift, "width_shift": width_shift, "zoom": zoom}
    images = np.asarray(random_affine(key, jnp.broadcast_to(grid, (n, *grid.shape)), **ranges))
    y, x = height // 2, width // 2
    down, right = images[:, y + 1, x] - images[:, y, x], images[:, y, x + 1] - images[:, y, x]
    scales = np.stack([np.linalg.norm(down, axis=-1), np.linalg.norm(right, axis=-1)], -1)
    radians = np.arctan2(down[:, 1], down[:, 0])
    centre = images[:, y, x] - down / 2 - right / 2
    moved = centre - np.array([(height - 1) / 2, (width - 1) / 2])
    cosine, sine = np.cos(radians), np.sin(radians)
    shifts = np.stack([cosine * moved[:, 0] + sine * moved[:, 1], cosine * moved[:, 1] - sine * moved[:, 0]], -1)
    return np.rad2deg(radians), shifts, scales


def assert_even(draws, low, high):
    assert low - 1e-3 <= draws.min()
    assert draws.max() <= high + 1e-3
    assert stats.kstest(draws, stats.uniform(low, high - low).cdf).pvalue > 0.01


def test_random_flip_mirrors_about_half(key, images):
    assert 16 < mirrored(random_flip(key, jnp.asarray(images)), images).sum() < 48


def test_alternating_flip_shows_the_other_side_every_other_epoch(images):
    indices = jnp.arange(1000, 1064)
    epochs = [mirrored(alternating_flip(jnp.asarray(images), indices, jnp.int32(e)), images) for e in range(4)]
    np.testing.assert_array_equal(epochs[0], ~epochs[1])
    np.testing.assert_array_equal(epochs[0], epochs[2])
    np.testing.assert_array_equal(epochs[1], epochs[3])
    reordered = mirrored(alternating_flip(jnp.asarray(images[::-1]), indices[::-1], jnp.int32(0)), images[::-1])
    np.testing.assert_array_equal(reordered[::-1], epochs[0])


def test_alternating_flip_mirrors_half_of_the_images_without_a_pattern():
    n = 10_000
    sides = np.asarray(alternating_flip(jnp.tile(jnp.array([0, 1])[:, None], (n, 1, 1, 1)), jnp.arange(n), jnp.int32(0)))[
        :, 0, 0
    ]
    first = sides[:, 0]
    assert abs(first.mean() - 0.5) < 0.02
    assert abs((first[1:] == first[:-1]).mean() - 0.5) < 0.02


@pytest.mark.parametrize(("mode", "pad"), [(FillMode.CONSTANT, "constant"), (FillMode.REFLECT, "symmetric")])
def test_random_crop_gives_each_window_of_the_padded_image_evenly(key, images, mode, pad):
    single = jnp.asarray(np.repeat(images[:1], 4000, axis=0))
    crops = np.asarray(random_crop(key, single, 1, mode))
    padded = np.pad(images[0], ((1, 1), (1, 1), (0, 0)), pad)
    windows = [padded[i : i + 12, j : j + 10] for i in range(3) for j in range(3)]
    counts = [sum(np.array_equal(crop, window) for crop in crops) for window in windows]
    assert sum(counts) == 4000
    assert min(counts) > 4000 / 9 * 0.8


def test_random_affine_draws_evenly_within_the_limits(key):
    degrees, shifts, scales = drawn_maps(key, rotation=15.0, height_shift=0.1, width_shift=0.2, zoom=0.25)
    assert_even(degrees, -15, 15)
    assert_even(shifts[:, 0], -3, 3)
    assert_even(shifts[:, 1], -4, 4)
    assert_even(scales[:, 0], 0.75, 1.25)
    assert_even(scales[:, 1], 0.75, 1.25)
    draws = np.stack([degrees, *shifts.T, *scales.T])
    assert np.abs(np.corrcoef(draws) - np.eye(5)).max() < 0.07


def test_one_range_does_not_change_the_draws_of_another(key):
    rotations, _, scales = drawn_maps(key, rotation=15.0)
    with_others, _, _ = drawn_maps(key, rotation=15.0, width_shift=0.1, zoom=0.2)
    np.testing.assert_allclose(rotations, with_others, atol=1e-2)
    np.testing.assert_allclose(scales, 1, atol=1e-5)


def test_random_affine_fills_as_it_is_told(key):
    ones = jnp.ones((50, 12, 10, 1))
    filled = np.asarray(random_affine(key, ones, width_shift=0.4, mode=FillMode.CONSTANT, value=0.25))
    assert filled.min() == pytest.approx(0.25)
    assert filled.max() == 1


def test_each_image_has_its_own_map_whatever_its_neighbours(key, images):
    swapped = images.copy()
    swapped[1:] = 0
    options = {"rotation": 30.0, "zoom": 0.1}
    first, changed = (random_affine(key, jnp.asarray(x), **options) for x in (images, swapped))
    np.testing.assert_array_equal(first[0], changed[0])
    copies = random_affine(key, jnp.asarray(images[:1].repeat(64, 0)), **options)
    assert len(np.unique(copies, axis=0)) == 64

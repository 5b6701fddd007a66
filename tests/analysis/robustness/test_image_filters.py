import colorsys
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from cifar_flax.analysis.robustness.corruptions import corrupt
from cifar_flax.analysis.robustness.image_filters import (
    chunks,
    directional_blur,
    fractal_noise,
    magnification,
    resample,
    shift_hue,
    to_grayscale,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(("shape", "size"), [((8, 8), 1000), ((32, 32), 1000), ((224, 224), 20), ((2000, 2000), 1)])
def test_chunks_have_no_more_pixels_than_a_thousand_small_images(shape, size):
    images = np.broadcast_to(np.uint8(0), (2001, *shape, 3))  # takes no memory
    parts = [(part.start, len(images[part])) for part in chunks(images)]
    assert parts == [(start, min(size, 2001 - start)) for start in range(0, 2001, size)]


@pytest.mark.parametrize(
    "change", [to_grayscale, lambda images: shift_hue(images, 60), lambda x: corrupt(x, "gaussian_noise", 5)]
)
def test_large_images_are_changed_in_little_memory(change):
    images = np.zeros((150, 224, 224, 3), np.uint8)
    tracemalloc.start()
    changed = change(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - changed.nbytes < 200e6  # all of them in float64 are 181 MB, of which four are made


def test_a_change_of_colour_does_not_depend_on_the_chunk():
    images = np.random.default_rng(1).integers(0, 256, (3, 800, 800, 3), dtype=np.uint8)  # one a chunk
    for change in (to_grayscale, lambda images: shift_hue(images, 60)):
        np.testing.assert_array_equal(change(images), np.concatenate([change(image[None]) for image in images]))


def test_hue_shift_is_that_of_colorsys():
    def shift(pixel):
        h, s, v = colorsys.rgb_to_hsv(*(pixel / 255))
        return np.array(colorsys.hsv_to_rgb((h + 60 / 360) % 1, s, v)) * 255

    expected = np.array([[shift(pixel) for pixel in row] for row in IMAGES[0]])
    np.testing.assert_allclose(shift_hue(IMAGES, 60)[0], expected, atol=0.5 + 1e-6)


def test_grayscale_is_pillows_luma_in_three_channels():
    luma = np.asarray(Image.fromarray(IMAGES[0]).convert("L"))
    np.testing.assert_allclose(to_grayscale(IMAGES)[0], np.repeat(luma[..., None], 3, -1), atol=1)


def test_magnification_is_scipys_bilinear_zoom():
    x = np.random.default_rng(0).normal(size=(2, 24, 20, 3))
    scale = np.array([1, 1 / 1.2, 1 / 1.2, 1])
    centre = (np.array(x.shape) - 1) / 2
    expected = ndimage.affine_transform(x, scale, centre - scale * centre, order=1, mode="nearest")
    np.testing.assert_allclose(resample(x, magnification(24, 1.2), magnification(20, 1.2)), expected, atol=1e-9)


def test_directional_blur_keeps_the_sum_of_a_point_along_its_line():
    point = np.zeros((50, 41, 41, 1))
    point[:, 20, 30] = 1.0
    blurred = directional_blur(point, 6, 2.0, np.linspace(-np.pi / 4, np.pi / 4, 50))
    np.testing.assert_allclose(blurred.sum((1, 2, 3)), 1.0)
    rows, columns = np.nonzero(blurred.sum((0, 3)))
    assert columns.min() >= 30 - 12
    assert columns.max() == 30
    assert rows.min() < 20 < rows.max()


def test_fractal_noise_is_rougher_where_amplitudes_decay_less():
    def roughness(decay):
        return np.abs(np.diff(fractal_noise(np.random.default_rng(0), (50, 32, 32), decay), axis=1)).mean()

    assert roughness(1.75) > 1.3 * roughness(3.0)
    assert fractal_noise(np.random.default_rng(0), (5, 32, 32), 2.0).min() == 0
    assert fractal_noise(np.random.default_rng(0), (5, 32, 32), 2.0).max() == 1

import colorsys

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from cifar_flax.analysis.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from tests.conftest import tiny_split


@pytest.fixture(scope="module")
def images():
    """Smooth images of 24x20 pixels, which blur and displacement change."""
    noise = np.random.default_rng(0).normal(size=(30, 24, 20, 3))
    smooth = ndimage.gaussian_filter(noise, (0, 2, 2, 0))
    return np.rint(np.clip(0.5 + 2 * smooth, 0, 1) * 255).astype(np.uint8)


def grey(n=200):
    return np.full((n, 24, 20, 3), 128, np.uint8)


def distance(a, b):
    return np.abs(a.astype(float) - b).mean()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_deterministic_and_grows_with_severity(name, images):
    results = [corrupt(images, name, severity) for severity in SEVERITIES]
    assert all(result.shape == images.shape and result.dtype == np.uint8 for result in results)
    np.testing.assert_array_equal(corrupt(images, name, 3), results[2])
    assert 0.1 < distance(results[0], images) < distance(results[4], images)


def photographs(n=60):
    """Images of 32x32 pixels with the spectrum of photographs: amplitudes decrease with frequency, and channels correlate."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(32)[:, None], np.fft.rfftfreq(32))
    frequency[0, 0] = np.inf
    noise = rng.normal(size=(n, 1, 32, 32)) + 0.4 * rng.normal(size=(n, 3, 32, 32))
    x = np.fft.irfft2(np.fft.rfft2(noise) / frequency, (32, 32))
    return np.rint(np.clip(0.45 + 0.22 * x / x.std(), 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)


# Not glass blur: its severities 1 to 3, and 4 and 5, shuffle pixels alike and smooth them increasingly.
@pytest.mark.parametrize("name", sorted(CORRUPTIONS.keys() - {"glass_blur"}))
def test_each_severity_changes_an_image_more_than_the_previous_one(name):
    pictures = photographs()
    distances = [distance(corrupt(pictures, name, severity), pictures) for severity in SEVERITIES]
    assert distances == sorted(set(distances))


def test_glass_blur_copies_pixels_from_above_and_from_the_left():
    pictures = photographs(2)
    frosted = corrupt(pictures, "glass_blur", 1)  # its blur is too faint to change a pixel
    copied = [(np.roll(pictures, (up, left), (1, 2)) == frosted).all(-1) for up in (0, 1) for left in (0, 1)]
    assert np.any(copied, axis=0)[:, 2:, 2:].all()
    assert [0.2 < pixels[:, 2:, 2:].mean() < 0.3 for pixels in copied] == [True] * 4
    np.testing.assert_array_equal(frosted[:, :2], pictures[:, :2])


def test_streaks_of_snow_are_steep():
    """Brightness changes less along them, down the image, than across."""
    flakes = corrupt(np.zeros((200, 32, 32, 3), np.uint8), "snow", 5).astype(float)
    assert np.abs(np.diff(flakes, axis=1)).mean() < 0.7 * np.abs(np.diff(flakes, axis=2)).mean()


def test_pixelate_is_a_box_filter_down_and_up():
    """At severity 5 to 20 of 32 pixels, .65 of them rounded down."""
    picture = photographs(1)
    small = Image.fromarray(picture[0]).resize((20, 20), Image.Resampling.BOX)
    np.testing.assert_array_equal(corrupt(picture, "pixelate", 5)[0], small.resize((32, 32), Image.Resampling.BOX))


def test_images_of_a_chunk_do_not_depend_on_the_next_chunk():
    many = tiny_split(1100, 0).images
    np.testing.assert_array_equal(corrupt(many, "gaussian_noise", 5)[:1000], corrupt(many[:1000], "gaussian_noise", 5))
    fine = corrupt(np.full_like(many, 128), "gaussian_noise", 5)
    assert not np.array_equal(fine[:100], fine[1000:])


def test_noise_has_the_variance_of_its_distribution():
    assert corrupt(grey(), "gaussian_noise", 2).std() == pytest.approx(0.06 * 255, rel=0.02)
    assert corrupt(grey(), "shot_noise", 5).std() == pytest.approx(np.sqrt(128 / 255 / 50) * 255, rel=0.02)
    impulses = corrupt(grey(), "impulse_noise", 5)
    assert (impulses != 128).mean() == pytest.approx(0.07, rel=0.05)
    assert set(np.unique(impulses)) == {0, 128, 255}


@pytest.mark.parametrize("name", ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "elastic", "pixelate", "contrast"])
def test_moving_or_averaging_pixels_keeps_a_uniform_image(name):
    np.testing.assert_array_equal(corrupt(grey(3), name, 5), grey(3))


def test_contrast_and_brightness_are_their_formulas(images):
    x = images[:2] / 255
    mean = x.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(corrupt(images[:2], "contrast", 4) / 255, mean + 0.3 * (x - mean), atol=0.5 / 255 + 1e-9)

    def brighter(pixel):
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb(h, s, min(v + 0.15, 1))

    expected = np.array([[brighter(pixel) for pixel in row] for row in x[0]])
    np.testing.assert_allclose(corrupt(images[:1], "brightness", 3)[0] / 255, expected, atol=0.5 / 255 + 1e-9)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (2, 3), (1, 1)])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_images_of_one_row_or_pixel_are_corrupted(name, shape):
    line = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    assert corrupt(line, name, 5).shape == line.shape

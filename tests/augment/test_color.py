import colorsys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import stats

from cifar_flax.augment.color import (
    brightness,
    contrast,
    hue,
    random_brightness,
    random_contrast,
    random_hue,
    random_saturation,
    saturation,
)
from cifar_flax.runtime.compilation import jit

ENHANCERS = {brightness: ImageEnhance.Brightness, contrast: ImageEnhance.Contrast, saturation: ImageEnhance.Color}
COLOURS = np.random.default_rng(0).random((1, 7, 9, 3), dtype=np.float32)


@pytest.mark.parametrize("change", ENHANCERS)
@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7])
@pytest.mark.parametrize("channels", [1, 3])
def test_enhancers_equal_pillows_within_rounding(pictures, change, factor, channels):
    pictures = pictures[..., :channels]
    changed = jit(change)(pictures / np.float32(255), np.full(len(pictures), factor, np.float32))
    enhanced = [np.asarray(ENHANCERS[change](Image.fromarray(p.squeeze())).enhance(factor)) for p in pictures]
    np.testing.assert_allclose(changed * 255, np.stack(enhanced).reshape(pictures.shape), atol=2)


@pytest.mark.parametrize("turns", [0.0, 0.1, -0.25, 0.5])
def test_hue_equals_colorsys(turns):
    def turn(rgb):
        h, s, v = colorsys.rgb_to_hsv(*rgb)
        return colorsys.hsv_to_rgb((h + turns) % 1, s, v)

    images = np.concatenate([COLOURS, np.broadcast_to(np.float32(0.4), COLOURS.shape), np.round(COLOURS)])
    expected = np.apply_along_axis(turn, -1, images)
    np.testing.assert_allclose(jit(hue)(images, np.full(3, turns, np.float32)), expected, atol=1e-5)


def test_grey_images_have_neither_saturation_nor_hue(key):
    grey = jnp.asarray(COLOURS[..., :1])
    np.testing.assert_array_equal(random_saturation(key, grey, 0.9), grey)
    np.testing.assert_array_equal(random_hue(key, grey, 0.5), grey)


@pytest.mark.parametrize("change", [random_brightness, random_contrast, random_saturation])
def test_factors_are_drawn_evenly_for_each_image(key, change):
    pixels = jnp.array([[[0.5, 0.45, 0.48], [0.47, 0.52, 0.5]]])
    changed = np.asarray(change(key, jnp.tile(pixels, (2000, 1, 1, 1)), 0.3))
    factors = (changed[:, 0, 0, 0] - changed[:, 0, 0, 1]) / 0.05
    assert stats.kstest(factors, stats.uniform(0.7, 0.6).cdf).pvalue > 0.01


def test_turns_of_the_hue_are_drawn_evenly_for_each_image(key):
    reds = jnp.tile(jnp.array([1.0, 0.0, 0.0]), (2000, 1, 1, 1))
    hues = [colorsys.rgb_to_hsv(*rgb)[0] for rgb in np.asarray(random_hue(key, reds, 0.2))[:, 0, 0]]
    turns = (np.array(hues) + 0.5) % 1 - 0.5
    assert stats.kstest(turns, stats.uniform(-0.2, 0.4).cdf).pvalue > 0.01

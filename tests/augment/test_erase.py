import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from cifar_flax.augment import erase

N, HEIGHT, WIDTH = 4000, 20, 16
cutout, random_erasing = (jax.jit(f, static_argnums=2) for f in (erase.cutout, erase.random_erasing))


@pytest.fixture
def blank():
    return jnp.full((N, HEIGHT, WIDTH, 3), 2.0)  # a value that nothing fills with


def bounds(mask):
    """Height and width of the rectangle that is set in each mask [N, H, W]; asserts that it is one."""
    height, width = mask.any(2).sum(1), mask.any(1).sum(1)
    np.testing.assert_array_equal(mask.sum((1, 2)), height * width)
    return height, width


@pytest.mark.parametrize("size", [1, 4, 7])
def test_cutout_is_a_square_about_any_pixel_clipped_at_the_border(key, blank, size):
    cut = np.asarray(cutout(key, blank, size))
    assert set(np.unique(cut)) == {0.5, 2.0}
    mask = (cut == 0.5).all(-1)
    np.testing.assert_array_equal(mask, (cut == 0.5).any(-1))
    height, width = bounds(mask)
    assert height.max() == width.max() == size
    assert height.min() >= size // 2
    assert width.min() >= size // 2

    def covering(length):
        """How many centres cover each pixel of a line."""
        return np.array([sum(c - size // 2 <= at < c - size // 2 + size for c in range(length)) for at in range(length)])

    share = np.outer(covering(HEIGHT), covering(WIDTH)) / (HEIGHT * WIDTH)
    np.testing.assert_allclose(mask.mean(0), share, atol=4.5 * np.sqrt(share.max() / N))


def test_random_erasing_takes_a_share_of_images_and_rectangles_of_published_sizes(key, blank):
    erased = np.asarray(random_erasing(key, blank, 0.25))
    mask = (erased != 2).all(-1)
    np.testing.assert_array_equal(mask, (erased != 2).any(-1))
    chosen = mask.any((1, 2))
    assert abs(chosen.mean() - 0.25) < 0.03
    height, width = bounds(mask[chosen])
    exact = (height > 3) & (width > 3)  # of those, rounding to pixels changes little
    areas, aspects = (height * width / (HEIGHT * WIDTH))[exact], (height / width)[exact]
    assert 0.02 < areas.min() < 0.08
    assert 0.36 < areas.max() < 0.45
    assert 0.2 < aspects.min() < 0.4
    assert 2.5 < aspects.max() < 4.5
    assert len(set(zip(height, width, strict=True))) > 50
    rows, columns = mask[chosen].mean((0, 2)), mask[chosen].mean((0, 1))
    np.testing.assert_allclose(rows, rows[::-1], atol=0.06)
    np.testing.assert_allclose(columns, columns[::-1], atol=0.06)


def test_random_erasing_fills_with_even_noise_of_its_own_for_each_image(key, blank):
    first, second = (np.asarray(random_erasing(k, blank[:300], 1.0)) for k in jax.random.split(key))
    noise = first[first != 2]
    assert stats.kstest(noise[:5000], "uniform").pvalue > 0.01
    assert noise.min() >= 0
    assert noise.max() < 1
    assert len(np.unique(noise)) > 0.99 * len(noise)
    both = (first != 2) & (second != 2)
    assert abs(np.corrcoef(first[both], second[both])[0, 1]) < 0.02


def test_nothing_is_erased_at_probability_0(key, blank):
    np.testing.assert_array_equal(random_erasing(key, blank[:50], 0.0), blank[:50])

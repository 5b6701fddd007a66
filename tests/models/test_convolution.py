import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from cifar_flax.models.convolution import convolve


def reference(x, kernel, padding):
    """SciPy's correlation, summed over input channels. An even kernel's SAME window begins at the pixel, SciPy's before it."""
    size = len(kernel)
    before = (size - 1) // 2
    if padding == "SAME":
        x = np.pad(x, ((0, 0), (before, size - 1 - before), (before, size - 1 - before), (0, 0)))
    channels, features = kernel.shape[2:]

    def one(image, o):
        return sum(correlate2d(image[:, :, i], kernel[:, :, i, o], "valid") for i in range(channels))

    return np.stack([np.stack([one(image, o) for o in range(features)], -1) for image in x])


SIZES = [(1, 5, 4), (2, 5, 5), (2, 1, 1), (3, 2, 2), (3, 1, 2), (3, 2, 1), (3, 3, 2), (5, 3, 3), (5, 4, 2)]
SHAPES = [(*size, "SAME") for size in SIZES] + [(1, 5, 4, "VALID"), (2, 5, 5, "VALID"), (3, 4, 3, "VALID")]


@pytest.mark.parametrize(("size", "height", "width", "padding"), SHAPES)
def test_equals_scipy_with_its_gradients(size, height, width, padding):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, height, width, 3)), rng.normal(size=(size, size, 3, 4))
    expected = reference(x, kernel, padding)
    y, pullback = jax.vjp(lambda x, k: convolve(x, k, padding), jnp.float32(x), jnp.float32(kernel))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)

    cotangent = rng.normal(size=expected.shape)
    dx, dkernel = pullback(jnp.float32(cotangent))
    changed_x, changed_kernel = rng.normal(size=x.shape), rng.normal(size=kernel.shape)  # it is linear in each
    by_x = (reference(changed_x, kernel, padding) * cotangent).sum()
    by_kernel = (reference(x, changed_kernel, padding) * cotangent).sum()
    np.testing.assert_allclose([(dx * changed_x).sum(), (dkernel * changed_kernel).sum()], [by_x, by_kernel], rtol=1e-3)

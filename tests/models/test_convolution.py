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


SHAPES = [(1, 5, 4), (2, 5, 5), (2, 1, 1), (3, 2, 2), (3, 1, 2), (3, 2, 1), (3, 3, 2), (5, 3, 3), (5, 4, 2)]


@pytest.mark.parametrize(("size", "height", "width"), SHAPES)
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_equals_scipy_with_its_gradients(size, height, width, padding):
    if padding == "VALID" and min(height, width) < size:
        pytest.skip("no output")
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, height, width, 3)), rng.normal(size=(size, size, 3, 4))
    expected = reference(x, kernel, padding)
    y, pullback = jax.vjp(lambda x, k: convolve(x, k, padding), jnp.float32(x), jnp.float32(kernel))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)

    cotangent = rng.normal(size=expected.shape)
    dx, dkernel = pullback(jnp.float32(cotangent))
    direction = rng.normal(size=x.shape), rng.normal(size=kernel.shape)  # it is linear in each
    np.testing.assert_allclose(
        (dx * direction[0]).sum(), (reference(direction[0], kernel, padding) * cotangent).sum(), rtol=1e-3
    )
    np.testing.assert_allclose(
        (dkernel * direction[1]).sum(), (reference(x, direction[1], padding) * cotangent).sum(), rtol=1e-3
    )

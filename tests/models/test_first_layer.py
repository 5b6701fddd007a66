import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_flax.models.first_layer import GAP, SCALE, first_layer_kernels, kernel_grid

SHAPE = (8, 8, 3)


def test_filters_are_those_of_the_convolution_that_reads_the_channels():
    kernel = np.random.default_rng(0).normal(size=(2, 2, 3, 10)).astype(np.float32)
    params = {"deep": {"kernel": np.ones((2, 2, 10, 4))}, "stem": {"kernel": kernel, "bias": np.zeros(10)}}
    kernels = first_layer_kernels(params, SHAPE)
    assert kernels.shape == (10, 2, 2, 3)
    np.testing.assert_array_equal(kernels[7], kernel[..., 7])


def test_units_of_a_dense_layer_have_the_shape_of_the_image():
    kernel = jax.random.normal(jax.random.key(0), (192, 5))
    kernels = first_layer_kernels({"dense0": {"kernel": kernel}, "logits": {"kernel": jnp.ones((5, 10))}}, SHAPE)
    assert kernels.shape == (5, *SHAPE)
    image = jax.random.normal(jax.random.key(1), SHAPE)
    assert (kernels[3] * image).sum() == pytest.approx(float(image.ravel() @ kernel[:, 3]), rel=1e-5)


@pytest.mark.parametrize(("kernel", "channels"), [((5, 10), 3), ((3, 3, 4, 8), 3), ((3, 3, 2, 4), 2)])
def test_other_layers_and_two_channels_have_no_pictures(kernel, channels):
    assert first_layer_kernels({"layer": {"kernel": np.ones(kernel)}}, (8, 8, channels)) is None


def test_the_grid_has_rows_of_eight_each_scaled_by_its_largest_weight():
    kernels = np.zeros((10, 2, 2, 3), np.float32)
    kernels[0, 0, 0] = (0.5, 0, -0.5)
    kernels[9, 1, 1, 0] = 3.0
    grid = kernel_grid(kernels)
    cell = 2 * SCALE + GAP
    assert grid.shape == (2 * cell, 8 * cell, 3)
    assert grid.dtype == np.uint8
    np.testing.assert_array_equal(grid[0, 0], (255, 128, 0))
    np.testing.assert_array_equal(grid[cell + SCALE, cell + SCALE], (255, 128, 128))
    np.testing.assert_array_equal(grid[:, 2 * SCALE], np.full((2 * cell, 3), 255))

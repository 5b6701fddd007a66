import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_flax.models.first_layer import FRAME, GAP, SCALE, find_first_kernel, first_layer_kernels, kernel_grid

SHAPE = (8, 8, 3)


class Convolutions(nn.Module):
    """Layers whose names come before that of the one that reads the image; a kernel is for 1 channel, another for 3."""

    patch: int = 1

    @nn.compact
    def __call__(self, x, train):
        n, side = x.shape[:2]
        x = x.reshape(n, side // self.patch, side // self.patch, -1)
        x = nn.Dense(6, name="patches")(x) if self.patch > 1 else nn.remat(nn.Conv)(6, (2, 2), name="stem")(x)
        x = nn.Conv(6, (3, 3), feature_group_count=6, name="block")(x)
        x = nn.Conv(6, (3, 3), feature_group_count=2, name="grouped")(x)
        return nn.Dense(4, name="logits")(x.mean((1, 2)))


class Perceptron(nn.Module):
    hidden: int = 5

    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(10, name="a")(nn.Dense(self.hidden, name="b")(x.reshape(x.shape[0], -1)))


def kernels_of(model, shape):
    variables = model.init(jax.random.key(0), jnp.zeros((1, *shape)), train=False)
    return first_layer_kernels(variables["params"], find_first_kernel(model, variables, shape), shape), variables["params"]


@pytest.mark.parametrize("channels", [1, 3])
def test_filters_are_those_of_the_convolution_that_reads_the_image(channels):
    kernels, params = kernels_of(Convolutions(), (8, 8, channels))
    assert kernels.shape == (6, 2, 2, channels)
    np.testing.assert_array_equal(kernels[5], params["stem"]["kernel"][..., 5])


def test_units_of_a_dense_layer_have_the_shape_of_the_image():
    kernels, params = kernels_of(Perceptron(hidden=192), SHAPE)  # the second layer has a kernel for as many inputs
    assert kernels.shape == (192, *SHAPE)
    image = jax.random.normal(jax.random.key(1), SHAPE)
    expected = float(image.ravel() @ params["b"]["kernel"][:, 3])
    assert (kernels[3] * image).sum() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("patch", "channels"), [(2, 3), (2, 1), (1, 2)])
def test_layers_of_patches_and_two_channels_have_no_pictures(patch, channels):
    assert kernels_of(Convolutions(patch), (8, 8, channels))[0] is None


def test_the_grid_has_rows_of_eight_each_scaled_by_its_largest_weight():
    kernels = np.zeros((10, 2, 2, 3), np.float32)
    kernels[0, 0, 0] = (0.5, 0, -0.5)
    kernels[9, 1, 1, 0] = 3.0
    grid = kernel_grid(kernels)
    cell = 2 * SCALE + GAP
    assert grid.shape == (2 * cell + GAP, 8 * cell + GAP, 3)
    assert grid.dtype == np.uint8
    np.testing.assert_array_equal(grid[GAP, GAP], (255, 128, 0))
    np.testing.assert_array_equal(grid[GAP + cell + SCALE, GAP + cell + SCALE], (255, 128, 128))
    for line in (
        grid[:, 0],
        grid[0],
        grid[:, cell],
        grid[:, -1],
        grid[-1],
    ):  # around each, as bright kernels on a bright page need
        np.testing.assert_array_equal(line, np.full(line.shape, FRAME))

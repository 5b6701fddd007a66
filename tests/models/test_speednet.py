import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_flax.config import Activation, Initializer
from cifar_flax.models import SpeedNet, StageConfig, create_model, initialize
from cifar_flax.models.convolution import Conv
from cifar_flax.models.initializers import CONV_INITIALIZERS
from cifar_flax.models.speednet import whitening_kernel

SPEC = SpeedNet(
    stages=(
        StageConfig(6, 3, branch_features=(5, 6), branch_kernel_sizes=(1, 3), residual=True),
        StageConfig(8, 2, branch_features=(7,), branch_kernel_sizes=(3,)),
    ),
    logit_scale=0.125,
    batch_norm_momentum=0.6,
    batch_norm_scale=True,
)


@pytest.fixture(scope="module")
def images():
    """Pictures like photographs in that neighbouring pixels, and channels, resemble each other."""
    noise = np.random.default_rng(0).normal(size=(60, 13, 13, 1)) + 0.3 * np.random.default_rng(1).normal(size=(60, 13, 13, 3))
    smooth = sum(noise[:, i : i + 11, j : j + 11] for i in range(3) for j in range(3))
    return (smooth + 0.5).astype(np.float32)


def patches(images):
    windows = np.lib.stride_tricks.sliding_window_view(images.astype(np.float64), (2, 2), axis=(1, 2))  # n, i, j, c, di, dj
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 12)


def test_whitening_gives_uncorrelated_outputs_of_like_variance(images):
    kernel = np.asarray(whitening_kernel(jnp.asarray(images), 2, 5e-4))
    assert kernel.shape == (2, 2, 3, 24)
    np.testing.assert_array_equal(kernel[..., 12:], -kernel[..., :12])
    covariance = np.cov((patches(images) @ kernel.reshape(12, 24)[:, :12]).T, bias=True)
    variances = np.linalg.eigvalsh(np.cov(patches(images).T, bias=True))[::-1]
    np.testing.assert_allclose(covariance, np.diag(variances / (variances + 5e-4)), atol=2e-3)


def test_the_stem_whitens_the_images_that_it_is_initialised_with(images):
    model = create_model(SPEC, 10)
    kernel = initialize(model, jax.random.key(0), jnp.asarray(images))["params"]["whitening"]["kernel"]
    np.testing.assert_allclose(kernel, whitening_kernel(jnp.asarray(images), 2, 5e-4), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("features", [3, 7])
def test_a_dirac_convolution_hands_its_input_on(size, features):
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 4)).astype(np.float32)
    conv = Conv(features, size, "SAME", CONV_INITIALIZERS[Initializer.DIRAC], use_bias=False, dtype=jnp.float32)
    y, variables = conv.init_with_output(jax.random.key(0), x)
    same = min(features, 4)
    np.testing.assert_allclose(y[..., :same], x[..., :same], atol=1e-6)
    rest = np.asarray(variables["params"]["kernel"])[..., same:]
    assert rest.size == 0 or 0.5 < np.abs(rest).max() * np.sqrt(size * size * 4) <= 1  # within 1 / sqrt(fan in)


def test_forward_is_the_composition_of_its_parts(images):
    """Each part, but for the convolutions, written out in NumPy."""
    model = create_model(SPEC, 10)
    variables = initialize(model, jax.random.key(0), jnp.asarray(images))
    params = jax.tree.map(lambda p: np.asarray(p, np.float64) + 0.1, variables["params"])

    def convolve(x, kernel, padding):
        return np.asarray(
            jax.lax.conv_general_dilated(
                x.astype(np.float32), kernel.astype(np.float32), (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
            ),
            np.float64,
        )

    def silu(x):
        return x / (1 + np.exp(-x))

    def norm(x, name):
        x = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + SPEC.batch_norm_epsilon)
        return silu(x * params[f"{name}_norm"]["scale"] + params[f"{name}_norm"]["bias"])

    def pool(x):
        n, h, w, c = x.shape
        return x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))

    def conv(x, name):
        return convolve(x, params[name]["kernel"], "SAME")

    x = silu(convolve(images, params["whitening"]["kernel"], "VALID") + params["whitening"]["bias"])
    x = norm(pool(conv(x, "stage0_conv")), "stage0_conv")
    branch = norm(conv(x, "stage0_branch0"), "stage0_branch0")
    x = x + norm(conv(branch, "stage0_branch1"), "stage0_branch1")
    x = norm(pool(conv(x, "stage1_conv")), "stage1_conv")
    x = norm(conv(x, "stage1_branch0"), "stage1_branch0")
    expected = (x.max((1, 2)) + x.mean((1, 2))) @ params["logits"]["kernel"] * 0.125

    apply = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]))
    logits, _ = apply({**variables, "params": jax.tree.map(jnp.float32, params)}, images)
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)


def test_it_takes_any_resolution_with_the_same_parameters(images):
    model = create_model(SPEC, 10)
    variables = initialize(model, jax.random.key(0), jnp.asarray(images))
    assert model.apply(variables, images[:, :9, :9], train=False).shape == (60, 10)
    gelu = create_model(dataclasses.replace(SPEC, activation=Activation.GELU), 10)
    assert not np.allclose(gelu.apply(variables, images, train=False), model.apply(variables, images, train=False))

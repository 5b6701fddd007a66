"""Against flax.linen.BatchNorm, whose gradient is autodiff's, and in double precision against NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_flax.models.batch_norm import BatchNormalization, normalize
from cifar_flax.runtime.compilation import jit

SETTINGS = {"momentum": 0.6, "epsilon": 1e-3}


def draw(shape, mean=0.5):
    rng = np.random.default_rng(0)
    x, g = (rng.normal(mean, 2, shape).astype(np.float32) for mean in (mean, 0))
    channels = {name: rng.normal(1, 0.5, shape[-1]).astype(np.float32) for name in ("scale", "bias", "mean")}
    return x, g, channels, rng.uniform(0.5, 2, shape[-1]).astype(np.float32)


@pytest.mark.parametrize("shape", [(8, 5, 6, 3), (16, 7), (4, 1, 1, 2)])
@pytest.mark.parametrize("use_scale", [True, False])
def test_values_statistics_and_gradients_are_flaxs(shape, use_scale):
    x, g, channels, var = draw(shape)
    params = {name: channels[name] for name in (("scale", "bias") if use_scale else ("bias",))}
    batch_stats = {"mean": channels["mean"], "var": var}

    def run(module):
        def apply(params, x):
            return module.apply({"params": params, "batch_stats": batch_stats}, x, mutable="batch_stats")

        def values(params, x, g):
            y, pull, stats = jax.vjp(apply, params, x, has_aux=True)
            return y, pull(g), stats

        return jit(values)(params, x, g)

    ours = run(BatchNormalization(False, dtype=jnp.float32, use_scale=use_scale, **SETTINGS))
    flaxs = run(nn.BatchNorm(False, dtype=jnp.float32, use_scale=use_scale, **SETTINGS))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, flaxs)


def test_with_running_statistics_values_are_flaxs_and_they_stay():
    x, _, channels, var = draw((8, 4, 4, 3))
    variables = {
        "params": {name: channels[name] for name in ("scale", "bias")},
        "batch_stats": {"mean": channels["mean"], "var": var},
    }
    ours, state = BatchNormalization(True, dtype=jnp.float32, **SETTINGS).apply(variables, x, mutable="batch_stats")
    flaxs = nn.BatchNorm(True, dtype=jnp.float32, **SETTINGS).apply(variables, x)
    np.testing.assert_allclose(ours, flaxs, rtol=1e-6, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, state["batch_stats"], variables["batch_stats"])


def test_its_variables_are_initialised_as_flaxs_and_not_by_the_images():
    x, *_ = draw((8, 4, 4, 3))
    ours = BatchNormalization(False, dtype=jnp.float32, **SETTINGS).init(jax.random.key(0), x)
    flaxs = nn.BatchNorm(False, **SETTINGS).init(jax.random.key(0), x)
    jax.tree.map(np.testing.assert_array_equal, ours, flaxs)


def test_the_gradient_is_that_of_central_differences_in_double_precision():
    x, g, channels, _ = draw((6, 3, 3, 2), mean=0)
    scale, bias = channels["scale"], channels["bias"]

    def loss(x):
        x = x.astype(np.float64)
        return ((x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-3) * scale + bias).ravel() @ g.ravel().astype(
            np.float64
        )

    actual = jax.vjp(lambda x: normalize(x, scale, bias, 1e-3)[0], x)[1](g)[0]
    for at in ((0, 0, 0, 0), (3, 2, 1, 1), (5, 1, 2, 0)):
        step = np.zeros(x.shape)
        step[at] = 1e-5
        np.testing.assert_allclose(actual[at], (loss(x + step) - loss(x - step)) / 2e-5, rtol=1e-3, atol=1e-4)


def test_a_channel_that_is_the_same_everywhere_is_finite():
    x = np.full((4, 2, 2, 1), 7, np.float32)
    y, pull = jax.vjp(lambda x: normalize(x, np.ones(1), np.zeros(1), 1e-5)[0], x)
    np.testing.assert_allclose(y, 0, atol=1e-3)
    assert np.isfinite(pull(np.ones_like(x))[0]).all()


def test_bfloat16_comes_out_and_statistics_are_float32():
    x, *_ = draw((8, 4, 4, 3))
    module = BatchNormalization(False, dtype=jnp.bfloat16, **SETTINGS)
    y, variables = module.init_with_output(jax.random.key(0), x.astype(jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}

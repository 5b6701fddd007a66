import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf, expit

from cifar_flax.config import Activation
from cifar_flax.models.layers import ACTIVATIONS, max_pool


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (1, 7, 9, 2)])
@pytest.mark.parametrize("window", [1, 2, 3])
def test_max_pool_and_its_gradient_equal_reduce_window(shape, window):
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)

    def theirs(x):
        return nn.max_pool(x, (window, window), (window, window))

    np.testing.assert_array_equal(max_pool(x, window), theirs(x))
    ours, other = (jax.grad(lambda x, f=f: (f(x) ** 3).sum())(x) for f in (lambda x: max_pool(x, window), theirs))
    np.testing.assert_allclose(ours, other, rtol=1e-6)


def test_every_activation_has_its_formula():
    x = np.linspace(-4, 4, 101)
    expected = {
        Activation.LINEAR: x,
        Activation.RELU: np.maximum(x, 0),
        Activation.ELU: np.where(x > 0, x, np.exp(x) - 1),
        Activation.GELU: x * 0.5 * (1 + erf(x / np.sqrt(2))),
        Activation.SILU: x * expit(x),
        Activation.TANH: np.tanh(x),
        Activation.SIGMOID: expit(x),
        Activation.HARD_SIGMOID: np.clip(0.2 * x + 0.5, 0, 1),
    }
    assert expected.keys() == set(Activation)
    for name, values in expected.items():
        np.testing.assert_allclose(ACTIVATIONS[name](jnp.asarray(x, jnp.float32)), values, atol=2e-6, err_msg=name)

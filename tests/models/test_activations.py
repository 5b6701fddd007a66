import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import erf, expit

from cifar_flax.config import Activation
from cifar_flax.models.activations import ACTIVATIONS


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


def test_activations_in_bfloat16_are_those_of_float32_rounded_once():
    x = jnp.linspace(-4, 4, 101).astype(jnp.bfloat16)
    for name, function in ACTIVATIONS.items():
        values = function(x)
        assert values.dtype == jnp.bfloat16
        np.testing.assert_array_equal(values, function(x.astype(jnp.float32)).astype(jnp.bfloat16), err_msg=name)
        slopes, exact = (jax.grad(lambda x, f=function: f(x).astype(jnp.float32).sum())(x) for x in (x, x.astype(jnp.float32)))
        np.testing.assert_allclose(slopes.astype(jnp.float32), exact, rtol=2**-7, atol=2**-8, err_msg=name)

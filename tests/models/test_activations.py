import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import erf, expit

from cifar_flax.config import Activation
from cifar_flax.models.activations import ACTIVATIONS
from cifar_flax.runtime.compilation import jit


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
    actual = jit(lambda x: {name: function(x) for name, function in ACTIVATIONS.items()})(x.astype(np.float32))
    for name, values in expected.items():
        np.testing.assert_allclose(actual[name], values, atol=2e-6, err_msg=name)


def test_activations_in_bfloat16_are_those_of_float32_rounded_once():
    x = np.linspace(-4, 4, 101).astype(jnp.bfloat16)

    def values_and_slopes(x):
        slope = {name: jax.grad(lambda x, f=f: f(x).astype(jnp.float32).sum())(x) for name, f in ACTIVATIONS.items()}
        return {name: f(x) for name, f in ACTIVATIONS.items()}, slope

    values, slopes = jit(values_and_slopes)(x)
    exact_values, exact_slopes = jit(values_and_slopes)(x.astype(np.float32))
    for name in ACTIVATIONS:
        assert values[name].dtype == jnp.bfloat16
        np.testing.assert_array_equal(values[name], np.asarray(exact_values[name]).astype(jnp.bfloat16), err_msg=name)
        slope = np.asarray(slopes[name]).astype(np.float32)
        np.testing.assert_allclose(slope, exact_slopes[name], rtol=2**-7, atol=2**-8, err_msg=name)

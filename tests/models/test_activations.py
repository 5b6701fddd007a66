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

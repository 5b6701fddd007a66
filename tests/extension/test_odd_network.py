"""A network with every kind of variable that Flax has, and a schedule that asks of its step what the docstring promises."""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cifar_flax import ModelSpec, Run
from cifar_flax.pretrained.weights import check_variables, read_weights, write_weights
from cifar_flax.runtime.flag_values import KernelDtype
from cifar_flax.training.loop import train


@dataclass(slots=True)
class Odd(ModelSpec):
    """A parameter without axes, biases with two, statistics that are whole numbers, and names with a slash."""

    def build(self, num_classes: int, dtype: Any) -> nn.Module:
        return OddModule(num_classes, dtype)


class OddModule(nn.Module):
    num_classes: int
    dtype: Any

    @nn.compact
    def __call__(self, x, train):
        x = nn.PReLU()(nn.Conv(8, (3, 3), (2, 2), dtype=self.dtype, name="first/conv~")(x))
        calls = self.variable("batch_stats", "calls", jnp.zeros, (2,), jnp.int32)
        if train and not self.is_initializing():
            calls.value += 1
        x = x.reshape(x.shape[0], -1, 8)
        x = nn.MultiHeadDotProductAttention(2, dtype=self.dtype)(x, x).reshape(x.shape[0], -1)
        x = nn.WeightNorm(nn.Dense(4, dtype=self.dtype))(x)
        return nn.Dense(self.num_classes, dtype=self.dtype, name="logits")(inputs=x).astype(jnp.float32)


def linear(spec, total_steps, steps_per_epoch):
    return lambda step: spec.learning_rate * (1 - step.astype(jnp.float32) / total_steps)


def test_it_trains_and_travels(tiny_config, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR_FLAX_TRUST", "tests")
    tiny_config.model = Odd()
    tiny_config.optim.schedule = f"{__name__}:linear"
    tiny_config.optim.ema_decay = 0.9
    tiny_config.log.every_steps = 1
    train(tiny_config, tmp_path / "run")
    network = Run.open(tmp_path / "run").network()
    assert network.variables["batch_stats"]["calls"].dtype == jnp.int32
    images = Run.open(tmp_path / "run").dataset("test").images
    for dtype in KernelDtype:
        write_weights(tmp_path / "odd.safetensors", network, dtype)
        read = read_weights(tmp_path / "odd.safetensors")
        check_variables(read, "odd")
        np.testing.assert_allclose(read.logits(images), network.logits(images), atol=1e-5 if dtype == "float32" else 0.05)
        query = read.variables["params"]["MultiHeadDotProductAttention_0"]["query"]["bias"]
        assert query.shape == (2, 4)
        assert jax.tree.structure(dict(read.variables)) == jax.tree.structure(dict(network.variables))
    assert network.features(images).shape == (len(images), 4)  # what the last layer sees, called by name

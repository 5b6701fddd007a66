import dataclasses

import flax.linen as nn
import jax
import numpy as np
import pytest

from cifar_flax.config.registry import OPTIMIZERS
from cifar_flax.errors import ConfigError
from cifar_flax.optim import SGD, AdamW
from cifar_flax.optim.freezing import apply_frozen
from cifar_flax.optim.optimizers import create_optimizer
from tests.optim.test_optimizers import adam, descend, draw, sgd

START, GRADS = draw(0), [draw(seed) for seed in range(1, 5)]


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_frozen_parameters_keep_their_bits_and_have_no_state(name):
    spec = OPTIMIZERS.resolve(name, "")(freeze=("block0_*", "*/bias"))
    for field in {"weight_decay", "momentum"} & {field.name for field in dataclasses.fields(spec)}:
        setattr(spec, field, 0.1)
    params = descend(spec, START, GRADS)
    state = jax.eval_shape(create_optimizer(spec, lambda step: 0.1).init, params)
    held = {leaf.shape for leaf in jax.tree.leaves(state)}
    for module, leaves in START.items():
        for leaf, start in leaves.items():
            frozen = module.startswith("block0_") or leaf == "bias"
            assert np.array_equal(params[module][leaf], start.astype(np.float32)) == frozen
            assert (start.shape not in held) or not frozen


def test_parameters_beside_frozen_ones_train_as_without_them():
    frozen = AdamW(weight_decay=0.1, freeze=("block0_*",))
    params = descend(frozen, START, GRADS)
    grads = [g["dense0"]["kernel"] for g in GRADS]
    np.testing.assert_allclose(params["dense0"]["kernel"], adam(START["dense0"]["kernel"], grads, decay=0.1), rtol=1e-4)

    clipped = SGD(clip_norm=2.0, freeze=("block0_*", "logits/*"))
    params = descend(clipped, START, GRADS)
    grads = [2.0 * g / np.linalg.norm(g) for g in grads]
    np.testing.assert_allclose(params["dense0"]["kernel"], sgd(START["dense0"]["kernel"], grads), rtol=1e-4, atol=1e-6)


class Attribute(nn.Module):
    """flax.linen.BatchNorm told by its attribute what to use; the one on top has no parameters."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train, name="norm")(nn.Dense(4, name="dense")(x))
        return nn.BatchNorm(use_running_average=not train, use_scale=False, use_bias=False, name="bare")(x)


class Argument(nn.Module):
    """The same, told by the argument of the call, by position and by name."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(name="norm")(nn.Dense(4, name="dense")(x), not train)
        return nn.BatchNorm(use_scale=False, use_bias=False, name="bare")(x, use_running_average=not train)


class Nested(nn.Module):
    """Defined in setup, within another module, and recomputed in the backward pass."""

    def setup(self):
        self.inner = nn.remat(Attribute, static_argnums=2)()

    def __call__(self, x, train):
        return self.inner(x, train)


class Spectral(nn.Module):
    """Has statistics, and no `use_running_average`."""

    @nn.compact
    def __call__(self, x, train):
        return nn.SpectralNorm(nn.Dense(4, name="dense"), name="spectral")(x, update_stats=train)


def variables_of(model):
    x = jax.random.normal(jax.random.key(0), (16, 3)) + 5
    variables = model.init(jax.random.key(1), x, train=False)
    noise = jax.tree.map(lambda v: jax.random.uniform(jax.random.key(2), v.shape, minval=0.5), variables["batch_stats"])
    return x, {"params": variables["params"], "batch_stats": noise}


@pytest.mark.parametrize("model", [Attribute(), Argument(), Nested()], ids=lambda model: type(model).__name__)
def test_any_batch_norm_freezes_with_its_parameters(model):
    x, variables = variables_of(model)

    def train_with(freeze):
        apply = jax.jit(lambda v: apply_frozen(model, freeze)(v, x, train=True, mutable=["batch_stats"]))
        y, updates = apply(variables)
        return y, updates["batch_stats"]

    frozen, stats = train_with(("*",))
    np.testing.assert_allclose(frozen, model.apply(variables, x, train=False), rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, stats, variables["batch_stats"])

    free, stats = train_with(("*dense/*", "*norm/bias"))
    expected, updates = model.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(free, expected, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), stats, updates["batch_stats"])

    _, stats = train_with(("*norm/*",))
    stats, before = (tree.get("inner", tree) for tree in (stats, variables["batch_stats"]))
    assert np.array_equal(stats["norm"]["mean"], before["norm"]["mean"])
    assert not np.array_equal(stats["bare"]["mean"], before["bare"]["mean"])


def test_statistics_that_cannot_be_frozen_are_refused_by_name():
    x, variables = variables_of(Spectral())
    with pytest.raises(ConfigError, match=r"^config\.optim\.freeze: spectral has statistics .* SpectralNorm has no"):
        apply_frozen(Spectral(), ("*",))(variables, x, train=True, mutable=["batch_stats"])
    apply_frozen(Spectral(), ("dense/bias",))(variables, x, train=True, mutable=["batch_stats"])

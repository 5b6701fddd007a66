import jax
import numpy as np
import pytest

from cifar_flax.config import OptimConfig
from cifar_flax.config.types import Optimizer
from cifar_flax.optim.optimizers import create_optimizer
from tests.optim.test_optimizers import adam, descend, draw, sgd

START, GRADS = draw(0), [draw(seed) for seed in range(1, 5)]


@pytest.mark.parametrize("name", list(Optimizer))
def test_frozen_parameters_keep_their_bits_and_have_no_state(name):
    decay = 0.1 if name in (Optimizer.SGD, Optimizer.ADAMW, Optimizer.LION, Optimizer.MUON) else 0.0
    config = OptimConfig(name=name, weight_decay=decay, freeze=("block0_*", "*/bias"), momentum=0.9)
    params = descend(config, START, GRADS)
    state = jax.eval_shape(create_optimizer(config, lambda step: 0.1).init, params)
    held = {leaf.shape for leaf in jax.tree.leaves(state)}
    for module, leaves in START.items():
        for leaf, start in leaves.items():
            frozen = module.startswith("block0_") or leaf == "bias"
            assert np.array_equal(params[module][leaf], start.astype(np.float32)) == frozen
            assert (start.shape not in held) or not frozen


def test_the_others_train_as_without_them_and_are_clipped_by_their_own_norm():
    frozen = OptimConfig(name=Optimizer.ADAMW, weight_decay=0.1, freeze=("block0_*",))
    params = descend(frozen, START, GRADS)
    grads = [g["dense0"]["kernel"] for g in GRADS]
    np.testing.assert_allclose(params["dense0"]["kernel"], adam(START["dense0"]["kernel"], grads, decay=0.1), rtol=1e-4)

    clipped = OptimConfig(name=Optimizer.SGD, clip_norm=2.0, freeze=("block0_*", "logits/*"))
    params = descend(clipped, START, GRADS)
    grads = [2.0 * g / np.linalg.norm(g) for g in grads]
    np.testing.assert_allclose(params["dense0"]["kernel"], sgd(START["dense0"]["kernel"], grads), rtol=1e-4, atol=1e-6)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_flax.models import ResNet, create_model, initialize


def network(**options):
    model = create_model(ResNet(stem=4, features=(4, 6), blocks=(1, 2), **options), 5)
    return model, jax.jit(lambda key: initialize(model, key, jnp.zeros((1, 8, 8, 3))))(jax.random.key(0))


@pytest.mark.parametrize("preactivation", [False, True])
def test_a_block_whose_branch_gives_nothing_hands_its_input_on(preactivation):
    model, variables = network(preactivation=preactivation)
    params = dict(variables["params"])
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    before = model.apply(variables, images, train=False)
    name = "stage1_block1_conv1"  # of a block without a shortcut of its own
    params[name] = {"kernel": jnp.zeros_like(params[name]["kernel"])}
    without = model.apply({**variables, "params": params}, images, train=False)
    assert not np.allclose(before, without)
    other = dict(params)
    other["stage1_block1_conv0"] = {"kernel": -params["stage1_block1_conv0"]["kernel"]}  # nothing of it arrives
    np.testing.assert_array_equal(model.apply({**variables, "params": other}, images, train=False), without)


def test_every_stage_but_the_first_halves_the_map():
    model, variables = network()
    images = jnp.zeros((1, 9, 8, 3))
    _, state = model.apply(variables, images, train=False, capture_intermediates=True)
    shapes = {name: kept["__call__"][0].shape for name, kept in state["intermediates"].items() if isinstance(kept, dict)}
    assert shapes["stage0_block0_conv1"] == (1, 9, 8, 4)
    assert shapes["stage1_block0_shortcut"] == shapes["stage1_block1_conv1"] == (1, 5, 4, 6)


def test_dropout_acts_in_training_alone():
    model, variables = network(preactivation=True, dropout=0.5)
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))

    def train(seed):
        return model.apply(variables, images, train=True, rngs={"dropout": jax.random.key(seed)}, mutable=["batch_stats"])[0]

    assert not np.allclose(train(0), train(1))
    np.testing.assert_array_equal(model.apply(variables, images, train=False), model.apply(variables, images, train=False))

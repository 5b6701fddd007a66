"""Optimizers of a user's own: what a training gives them, what it keeps of their state, and what it refuses."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from cifar_flax import OptimizerSpec
from cifar_flax.config.serialize import validated
from cifar_flax.errors import ConfigError
from cifar_flax.training.checkpoints.manager import Checkpoints
from cifar_flax.training.loop import train
from cifar_flax.training.records import read_records

RULES = {
    "adds_noise": lambda schedule: optax.chain(optax.add_noise(0.01, 0.5, jax.random.key(3, impl="rbg")), optax.sgd(schedule)),
    "on_plateau": lambda schedule: optax.chain(optax.sgd(schedule), optax.contrib.reduce_on_plateau(0.5, patience=3)),
    "polyak": lambda schedule: optax.polyak_sgd(0.1),
    "lbfgs": optax.lbfgs,
    "lookahead": lambda schedule: optax.lookahead(optax.sgd(schedule), 5, 0.5),
    "nothing": lambda schedule: None,
    "raises": lambda schedule: 1 / 0,
    "text": lambda schedule: optax.GradientTransformation(lambda params: {"kind": "a"}, lambda g, state, params: (g, state)),
    "other_dtype": lambda schedule: optax.GradientTransformation(lambda params: 0, lambda g, state, params: (g, state * 0.5)),
    "other_state": lambda schedule: optax.GradientTransformation(lambda params: 0, lambda g, state, params: (g, ())),
    "other_tree": lambda schedule: optax.stateless(lambda g, params: jax.tree.leaves(g)),
    "other_shape": lambda schedule: optax.stateless(lambda g, params: jax.tree.map(lambda x: x[None], g)),
}


@dataclass(slots=True)
class Own(OptimizerSpec):
    rule: str = "adds_noise"

    def transform(self, schedule: optax.Schedule) -> Any:
        return RULES[self.rule](schedule)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("lbfgs", "config.optim: the update of {name} raised TypeError: "),
        ("lookahead", "config.optim: the update of {name} raised AttributeError: "),
        ("nothing", "config.optim: transform() of {name} returned a NoneType; expected an optax.GradientTransformation"),
        (
            "raises",
            "config.optim: transform() of {name} raised ZeroDivisionError: division by zero (test_own_optimizers.py, line ",
        ),
        ("text", "config.optim: {name} has 'a' in its state; expected arrays and numbers"),
        ("other_dtype", "config.optim: the update of {name} returns a state with float32[]; expected int32[]"),
        (
            "other_state",
            "config.optim: the update of {name} returns a state of another structure; expected the tree that its init",
        ),
        ("other_tree", "config.optim: the update of {name} returns updates of another structure; expected a tree like that"),
        ("other_shape", "config.optim: the update of {name} returns updates with float32[1,"),
    ],
)
def test_an_optimizer_that_cannot_train_costs_a_line_before_there_is_a_folder(tiny_data, tiny_config, tmp_path, rule, message):
    tiny_config.optim = Own(rule=rule)
    with pytest.raises(ConfigError) as error:
        train(validated(tiny_config), tmp_path / "run")
    assert str(error.value).startswith(message.format(name=f"{__name__}:Own"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("rule", ["on_plateau", "polyak"])
def test_an_optimizer_is_given_the_loss(tiny_data, tiny_config, tmp_path, rule):
    tiny_config.optim, tiny_config.model.blocks, tiny_config.model.dense = Own(rule=rule), (), ()
    state = train(validated(tiny_config), tmp_path / "run")
    losses = [record["loss"] for record in read_records(tmp_path / "run") if record["kind"] == "step"]
    if rule == "on_plateau":
        assert float(state.opt_state[1].best_value) == pytest.approx(min(losses))
    else:
        assert losses[-1] < losses[0]


def test_an_optimizer_with_a_random_key_is_saved_and_goes_on(tiny_data, tiny_config, tmp_path):
    tiny_config.optim, tiny_config.model.blocks, tiny_config.model.dense = Own(), (), ()
    tiny_config.train.epochs = 1
    saved = train(validated(tiny_config), tmp_path / "run")
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), saved)
    with Checkpoints(tmp_path / "run", tiny_config.checkpoint, read_only=True) as checkpoints:
        restored = checkpoints.restore(checkpoints.find("latest"), like).state
    key, expected = restored.opt_state[0].rng_key, saved.opt_state[0].rng_key
    assert key.dtype == expected.dtype
    assert jnp.array_equal(jax.random.key_data(key), jax.random.key_data(expected))
    tiny_config.train.epochs = 2
    resumed = train(validated(tiny_config), tmp_path / "run")
    unbroken = train(validated(tiny_config), tmp_path / "unbroken")
    assert jax.tree.all(jax.tree.map(jnp.array_equal, resumed.params, unbroken.params))

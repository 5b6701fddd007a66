"""Configs that pass their checks, against what is built of them: shapes, schedules and steps, without running any."""

import contextlib
import enum
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cifar_flax.data.batches import Batch
from cifar_flax.errors import UserError
from cifar_flax.runtime.devices import check_fits_in_memory
from cifar_flax.training.step import TrainStep
from cifar_flax.training.trainer import Trainer
from tests.helpers.overrides import FIELDS, FULL_CONFIG, LEAVES, experiment

HARMLESS = ("data.name", "train.init_from", "log.", "checkpoint.", "plateau.", "early_stopping.")


def build(config):
    """All that training makes of a config before it computes anything, and its learning rates."""
    trainer = Trainer.from_config(config)
    state = trainer.abstract_state
    check_fits_in_memory(state)
    trainer.layers()
    steps = trainer.plan.total_steps
    rates = np.array(
        [trainer.schedule(jnp.int32(step)) for step in (0, 1, trainer.steps_per_epoch, steps // 2, steps - 1, steps)]
    )
    assert np.isfinite(rates).all()
    assert (rates >= 0).all()
    rows = (config.train.batch_size,)
    images = jax.ShapeDtypeStruct((*rows, *trainer.preprocessing.image_shape), jnp.uint8)
    batch = Batch(images, *[jax.ShapeDtypeStruct(rows, jnp.int32)] * 2)
    for size in {None, *(part.size for part in config.train.resolutions)}:
        parts = trainer.model, trainer.optimizer, trainer.preprocessing, trainer.steps_per_epoch
        after, _ = jax.eval_shape(TrainStep(config, *parts, size), state, batch)
        assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(lambda a: (a.shape, a.dtype), state)


INTEGERS = ("0", "1", "2", "3", "4", "5", "8", "30", "32", "63", "64", "100", "512", "65536", "2147483647")
NUMBERS = ("0", "1e-37", "1e-7", "0.3", "0.5", "0.999", "0.9999999", "1", "2.5", "10", "1e6", "1e9", "1e38")


def plausible(path):
    """Values of the right type for a field, at the edges of what is let in."""
    old = FIELDS[path]
    if isinstance(old, bool):
        return st.sampled_from(["true", "false"])
    if isinstance(old, enum.Enum):
        return st.sampled_from([member.value for member in type(old)])
    if isinstance(old, int | float | None):
        return st.sampled_from(INTEGERS if isinstance(old, int) else NUMBERS)
    entries = {"paddings": ("'SAME'", "'VALID'"), "freeze": ("'*'", "'block*'"), "activations": ("'elu'",)}
    some = st.sampled_from(entries.get(path.rpartition(".")[2], ("1", "2", "5", "63", "0.5")))
    return st.lists(some, max_size=3).map(lambda texts: f"({', '.join(texts)},)" if texts else "()")


VARIED = [path for path in LEAVES if not path.startswith(HARMLESS) and not path.endswith("]")]


PAIRS = st.sampled_from(VARIED).flatmap(lambda path: st.tuples(st.just(path), plausible(path)))


@pytest.mark.slow
@settings(max_examples=settings.default.max_examples // 2)
@given(st.lists(PAIRS, min_size=1, max_size=3))
@example([("model.features", "flatten")])
@example([("train.resolutions[0].size", "4"), ("model.blocks[0].pool", "5")])
@example([("optim.warmup_epochs", "1e9")])
@example([("train.epochs", "2147483647")])
@example([("model.dense[0].features", "65536"), ("model.blocks[1].features", "(65536, 65536)")])
def test_a_config_that_is_taken_can_be_built_or_is_refused_in_a_line(tiny_cache, pairs):
    arguments = [f"--config={FULL_CONFIG}", *(f"--config.{path}={text}" for path, text in pairs)]
    message = ""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()):
        patch.setenv("CIFAR_FLAX_CACHE", str(tiny_cache))
        with contextlib.suppress(SystemExit):  # of a config that is not taken, which is another test's
            try:
                build(experiment(*arguments).config)
            except UserError as error:
                message = str(error)
    assert len(message.splitlines()) <= 1
    assert not message or message.startswith("config."), message

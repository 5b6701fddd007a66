"""Configs that pass their checks, against what is built of them: shapes, schedules and steps, without running any."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar_flax.errors import UserError
from cifar_flax.training.devices import DeviceData, check_room
from cifar_flax.training.setup import Setup
from cifar_flax.training.step import make_train_step
from tests.overrides import FULL_CONFIG, LEAVES, experiment, values

HARMLESS = ("data.name", "train.init_from", "log.", "checkpoint.", "plateau.", "early_stopping.")


def build(config):
    """All that training makes of a config before it computes anything, and its learning rates."""
    setup = Setup.load(config)
    state = setup.abstract_state()
    check_room(state)
    setup.layers()
    steps = config.train.epochs * setup.steps_per_epoch
    rates = np.array([setup.schedule(jnp.int32(step)) for step in (0, 1, setup.steps_per_epoch, steps // 2, steps - 1, steps)])
    assert np.isfinite(rates).all()
    assert (rates >= 0).all()
    data = DeviceData(jax.ShapeDtypeStruct(setup.train_set.images.shape, jnp.uint8), setup.train_set.labels)
    indices = jax.ShapeDtypeStruct((config.train.batch_size,), jnp.int32)
    for size in {None, *(part.size for part in config.train.resolutions)}:
        step = make_train_step(
            config, setup.model, setup.optimizer, setup.preprocessing, setup.steps_per_epoch, setup.dtype, setup.mesh, size
        )
        after, _ = jax.eval_shape(step, state, data, indices)
        assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(lambda a: (a.shape, a.dtype), state)


@pytest.mark.slow
@settings(max_examples=max(10, settings.default.max_examples // 2))
@given(st.data())
def test_a_config_that_is_taken_can_be_built_or_is_refused_in_a_line(tiny_cache, data):
    fields = [path for path in LEAVES if not path.startswith(HARMLESS)]
    pairs = data.draw(st.lists(st.tuples(st.sampled_from(fields), values), min_size=1, max_size=3))
    arguments = [f"--config={FULL_CONFIG}", *(f"--config.{path}={text}" for path, text in pairs)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_FLAX_CACHE", str(tiny_cache))
        message = ""
        try:
            build(experiment(*arguments).config)
        except SystemExit as end:
            assert end.code == 2  # noqa: PT017 - of a config that is not taken, which is another test's
        except UserError as error:
            message = str(error)
        assert len(message.splitlines()) <= 1

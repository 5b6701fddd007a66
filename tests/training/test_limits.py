import jax
import numpy as np
import pytest

from cifar_flax.config import Config, OptimConfig, ResolutionConfig
from cifar_flax.config.types import Features, Schedule
from cifar_flax.data.batches import masked_batches, round_up_batch
from cifar_flax.errors import UserError
from cifar_flax.models import create_model
from cifar_flax.optim.optimizers import create_optimizer
from cifar_flax.optim.schedules import create_schedule
from cifar_flax.runtime import devices
from cifar_flax.training.setup import Setup
from cifar_flax.training.state import create_state


@pytest.mark.parametrize(
    ("config", "total_steps", "field"),
    [
        (OptimConfig(), 2**31, "config.train.epochs"),
        (OptimConfig(warmup_epochs=1e9), 90, "config.optim.warmup_epochs"),
        (OptimConfig(schedule=Schedule.PIECEWISE, boundaries=(1.0, 1e9)), 90, "config.optim.boundaries"),
    ],
)
def test_more_steps_than_int32_counts_are_refused(config, total_steps, field):
    with pytest.raises(UserError, match=rf"{field}: comes to .* steps, more than the 2,147,483,647"):
        create_schedule(config, total_steps, 9)


def test_two_falls_of_the_rate_within_one_step_are_both_made():
    config = OptimConfig(learning_rate=1.0, schedule=Schedule.PIECEWISE, boundaries=(1.0, 1.01, 2.0), decay_rate=0.5)
    schedule = create_schedule(config, 90, 9)
    np.testing.assert_allclose([schedule(step) for step in (0, 8, 11, 20)], [1, 1, 0.25, 0.125])


@pytest.mark.parametrize(
    ("features", "size", "reason"),
    [
        (Features.FLATTEN, 4, "features=flatten has other weights at 4x4 pixels than at 8x8"),
        (Features.MEAN, 4, "cannot take 4x4"),
    ],
)
def test_a_resolution_that_the_network_does_not_take_is_refused_before_training(tiny_data, tiny_config, features, size, reason):
    tiny_config.model.features = features
    tiny_config.model.blocks[0].pool = 2 if features is Features.FLATTEN else 5
    tiny_config.train.resolutions = (ResolutionConfig(size=size),)
    with pytest.raises(UserError, match=rf"config\.train\.resolutions\[0\]\.size: .*{reason}"):
        Setup.load(tiny_config)


def test_weights_that_fill_the_memory_are_refused_before_they_are_made(monkeypatch):
    monkeypatch.setattr(devices, "_device_memory", lambda: 10_000)
    config = Config()
    optimizer = create_optimizer(config.optim, create_schedule(config.optim, 1, 1))
    model, mesh = create_model(config.model, 10), devices.data_parallel_mesh()
    with pytest.raises(UserError, match=r"config\.model: its weights .* GiB"):
        create_state(config, model, optimizer, jax.numpy.zeros((1, 8, 8, 3)), mesh)


def test_a_batch_for_evaluation_is_no_larger_than_its_images():
    assert [round_up_batch(2**31 - 1, 103, devices) for devices in (1, 8)] == [103, 104]
    assert round_up_batch(40, 103, 8) == 40
    indices, mask = next(masked_batches(103, round_up_batch(2**31 - 1, 103, 8)))
    assert len(indices) == 104
    assert mask.sum() == 103

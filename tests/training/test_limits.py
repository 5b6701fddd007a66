from dataclasses import replace

import numpy as np
import pytest

from cifar_flax.config import DataSource, GlobalPool, ResolutionConfig
from cifar_flax.data.batches import ResidentSource, StreamedSource, round_up_batch
from cifar_flax.errors import ConfigError, UserError
from cifar_flax.optim.optimizers import Adam
from cifar_flax.optim.schedules import create_schedule
from cifar_flax.runtime import devices
from cifar_flax.training import trainer as trainer_module
from cifar_flax.training.trainer import Trainer


@pytest.mark.parametrize(
    ("config", "total_steps", "field"),
    [
        (Adam(), 2**31, "config.train.epochs"),
        (Adam(warmup_epochs=1e9), 90, "config.optim.warmup_epochs"),
        (Adam(schedule="piecewise", boundaries=(1.0, 1e9)), 90, "config.optim.boundaries"),
    ],
)
def test_more_steps_than_int32_counts_are_refused(config, total_steps, field):
    with pytest.raises(UserError, match=rf"{field}: comes to .* steps, more than the 2,147,483,647"):
        create_schedule(config, total_steps, 9)


def test_two_falls_of_the_rate_within_one_step_are_both_made():
    config = Adam(learning_rate=1.0, schedule="piecewise", boundaries=(1.0, 1.01, 2.0), decay_rate=0.5)
    schedule = create_schedule(config, 90, 9)
    np.testing.assert_allclose([schedule(step) for step in (0, 8, 11, 20)], [1, 1, 0.25, 0.125])


@pytest.mark.parametrize(
    ("global_pool", "size", "reason"),
    [
        (GlobalPool.FLATTEN, 4, r"other weights at 4x4 pixels than at 8x8; .*config\.model\.global_pool=mean"),
        (GlobalPool.MEAN, 4, "cannot take 4x4"),
    ],
)
def test_a_resolution_that_the_network_does_not_take_is_refused_before_training(
    tiny_data, tiny_config, global_pool, size, reason
):
    tiny_config.model.global_pool = global_pool
    tiny_config.model.blocks[0].pool = 2 if global_pool is GlobalPool.FLATTEN else 5
    tiny_config.train.resolutions = (ResolutionConfig(size=size),)
    with pytest.raises(UserError, match=rf"config\.train\.resolutions\[0\]\.size: .*{reason}"):
        Trainer.from_config(tiny_config)


@pytest.mark.parametrize(("ordered", "expected"), [(True, {0: 5, 1: 5}), (False, {0: 7, 1: 3})])
def test_layers_computed_from_data_see_all_classes_of_a_set_that_is_ordered_by_class(
    tiny_data, tiny_config, monkeypatch, ordered, expected
):
    labels = np.repeat(np.int32([0, 1]), 20) if ordered else np.int32([0] * 7 + [1] * 20 + [0] * 13)
    images = np.broadcast_to(labels[:, None, None, None], (40, 8, 8, 3)).astype(np.uint8)
    monkeypatch.setattr(trainer_module, "FIRST_IMAGES", 10)
    trainer = Trainer.from_config(tiny_config)
    trainer = replace(trainer, train_set=replace(trainer.train_set, images=images, labels=labels))
    assert dict(zip(*np.unique(trainer.first_images[:, 0, 0, 0], return_counts=True), strict=True)) == expected


def test_weights_that_fill_the_memory_are_refused_before_they_are_made(tiny_data, tiny_config, monkeypatch):
    trainer = Trainer.from_config(tiny_config)
    monkeypatch.setattr(devices, "device_memory", lambda: 10_000)
    with pytest.raises(UserError, match=r"config\.model: the weights .* GiB"):
        trainer.initialize()


def test_images_that_fill_the_memory_are_streamed_unless_they_are_to_be_resident(tiny_data, tiny_config, monkeypatch):
    with monkeypatch.context() as small:
        small.setattr("cifar_flax.training.trainer.device_memory", lambda: 50_000)
        assert isinstance(Trainer.from_config(tiny_config).source, StreamedSource)
        tiny_config.data.source = DataSource.RESIDENT
        with pytest.raises(ConfigError, match=r"config\.data\.source: resident images take .* GiB .*; use auto or streamed"):
            Trainer.from_config(tiny_config).source  # noqa: B018
    assert isinstance(Trainer.from_config(tiny_config).source, ResidentSource)


def test_a_batch_that_microbatches_cannot_share_is_refused(tiny_data, tiny_config):
    tiny_config.train.microbatches = 3
    with pytest.raises(ConfigError, match=r"config\.train\.microbatches: 32 images cannot be parted evenly into 3"):
        Trainer.from_config(tiny_config)


def test_a_batch_for_evaluation_is_no_larger_than_its_images():
    assert [round_up_batch(2**31 - 1, 103, devices) for devices in (1, 8)] == [103, 104]
    assert round_up_batch(40, 103, 8) == 40

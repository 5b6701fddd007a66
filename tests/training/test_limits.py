from dataclasses import replace

import numpy as np
import pytest

from cifar_flax.config import DataSource, GlobalPool, ResolutionConfig
from cifar_flax.data.batches import ResidentSource, StreamedSource
from cifar_flax.errors import ConfigError, UserError
from cifar_flax.runtime import devices
from cifar_flax.training import trainer as trainer_module
from cifar_flax.training.trainer import Trainer


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
def test_layers_computed_from_data_see_all_classes_of_a_set_ordered_by_class(
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

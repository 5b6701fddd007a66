import numpy as np
import pytest

from cifar_flax.config.serialize import validated
from cifar_flax.data import cache
from cifar_flax.data.dataset import Dataset
from cifar_flax.optim import Adam
from cifar_flax.run import Run
from cifar_flax.training.loop import train
from cifar_flax.training.trainer import Trainer


@pytest.fixture
def rare(tiny_data):
    """Pictures that say nothing of their class; one in ten is of the second."""
    labels = (np.arange(1200) % 10 == 0).astype(np.int32)
    cache.write("rare", {"train": Dataset(np.full((1200, 8, 8, 3), 128, np.uint8), labels, ("common", "rare"))}, "a test")


@pytest.mark.parametrize(
    ("field", "expected"), [("none", 0.1), ("class_weights", 0.5), ("sampling", 0.5)], ids=["none", "class_weights", "sampling"]
)
def test_a_rare_class_counts_as_much_as_the_others(rare, tiny_config, tmp_path, field, expected):
    """A network that sees nothing learns how often each class counts."""
    config = tiny_config
    config.data.name, config.data.validation_fraction = "rare", 0.0
    if field != "none":
        setattr(config.data, field, "balanced")
    config.model.blocks, config.model.dense = (), ()
    config.optim = Adam(learning_rate=0.05)
    config.train.epochs, config.train.batch_size = 2, 20
    config.train.steps_per_dispatch = 10
    train(validated(config), tmp_path / "run")
    probability = Run.open(tmp_path / "run").network("latest").predict(np.full((8, 8, 3), 128, np.uint8), top=2)
    assert {p.name: p.probability for p in probability}["rare"] == pytest.approx(expected, abs=0.08)


def test_images_of_a_single_class_are_warned_of(rare, tiny_config, caplog):
    one = Dataset(np.zeros((40, 8, 8, 3), np.uint8), np.ones(40, np.int32), ("dog", "cat"))
    cache.write("one", {"train": one}, "a test")
    for tiny_config.data.name in ("rare", "one"):
        Trainer.from_config(tiny_config)
    assert caplog.messages == ["one: all training images are of one class, cat; a top-1 of 100% says nothing"]

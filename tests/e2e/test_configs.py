"""Every config and variant in configs/ is valid, and its step fits its state; each config trains."""

import json
import math
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.tiny import shrink
from cifar_flax.config.files import load_config
from cifar_flax.config.serialize import to_dict, validated
from cifar_flax.data import cache
from cifar_flax.data.batches import Batch
from cifar_flax.data.dataset import Dataset
from cifar_flax.errors import UserError
from cifar_flax.run import load_network
from cifar_flax.training.loop import train
from cifar_flax.training.step import STEP_METRICS, TrainStep
from cifar_flax.training.trainer import Trainer
from tests.conftest import ROOT

pytestmark = pytest.mark.usefixtures("unoptimized")
FILES = sorted((ROOT / "configs").glob("*.py"))
VARIANTS = {path.stem: tuple(runpy.run_path(str(path)).get("VARIANTS", ())) for path in FILES}
EXPERIMENTS = [f"{stem}:{variant}".rstrip(":") for stem, variants in VARIANTS.items() for variant in ("", *variants)]


def load(experiment):
    stem, _, variant = experiment.partition(":")
    return load_config(str(ROOT / "configs" / f"{stem}.py:{variant}"))


@pytest.fixture
def thumbnails(tmp_path, monkeypatch):
    """A set of CIFAR-100's classes, which a teacher knows, that is learnt in no time: 40 images of 20 of the classes."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(20, dtype=np.int32), 2)
    images = rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    split = Dataset(images, labels, load_network("pretrained:fast").class_names)
    monkeypatch.setenv("CIFAR_FLAX_CACHE", str(tmp_path / "cache"))
    cache.write("thumbnails", {"train": split, "test": split}, "tests")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_config_is_valid(experiment):
    config = load(experiment)
    assert validated(config) == config


@pytest.mark.parametrize("stem", VARIANTS)
def test_an_unknown_variant_is_refused_and_the_others_named(stem):
    with pytest.raises(UserError, match="no variant 'sort'; expected one of " + (", ".join(VARIANTS[stem]) or "none")):
        load(f"{stem}:sort")


def test_variants_differ_from_their_config_and_from_each_other():
    configs = [json.dumps(to_dict(load(experiment))) for experiment in EXPERIMENTS]
    assert len(set(configs)) == len(configs)


@pytest.fixture
def on_thumbnails(thumbnails):
    """Loads an experiment, to be trained for four steps."""

    def configure(experiment):
        config = load(experiment)
        config.data.name = "thumbnails"
        config.data.validation_fraction = 0.5
        config.train.epochs, config.train.batch_size, config.train.eval_batch_size = 1, 5, 10
        config.log.every_steps = 1
        return validated(config)

    return configure


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_step_returns_a_state_of_the_same_shapes(experiment, on_thumbnails):
    trainer = Trainer.from_config(on_thumbnails(experiment))
    state = trainer.abstract_state
    step = TrainStep(trainer.config, trainer.model, trainer.optimizer, trainer.preprocessing, trainer.steps_per_epoch)
    integers = jax.ShapeDtypeStruct((5,), jnp.int32)
    batch = Batch(jax.ShapeDtypeStruct((5, 32, 32, 3), jnp.uint8), integers, integers)
    following, metrics = jax.eval_shape(step, state, batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), following) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert metrics.shape == (len(STEP_METRICS),)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", VARIANTS)
def test_every_config_trains_for_a_few_steps(experiment, on_thumbnails, tmp_path):
    config = shrink(on_thumbnails(experiment))  # the whole of its network is traced above
    state = train(config, tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [record for record in records if record["kind"] == "step"]
    assert [record["step"] for record in steps] == list(range(1, 5))
    assert all(math.isfinite(record["loss"]) and record["grad_norm"] > 0 for record in steps)
    assert records[-1]["kind"] == "epoch"
    assert math.isfinite(records[-1]["validation_loss"])
    jax.clear_caches()
    assert int(state.step) == 4

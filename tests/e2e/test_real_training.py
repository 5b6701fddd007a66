"""Trainings on the data that people train on; the quickstart learns in test_readme.py."""

import json

import pytest

from cifar_flax import Run
from cifar_flax.config import GlobalPool
from cifar_flax.config.flags import load_config
from cifar_flax.config.serialize import validated
from cifar_flax.models import BlockConfig
from cifar_flax.training.loop import train
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
QUICKSTART = ROOT / "configs" / "quickstart.py"


def test_one_convolution_is_not_enough_for_shapes100(shapes100_cache, tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR_FLAX_CACHE", shapes100_cache)
    config = load_config(str(QUICKSTART))
    config.model.blocks = (BlockConfig(features=(48,)),)
    config.model.global_pool = GlobalPool.FLATTEN
    config.train.epochs = 5
    config.optim.learning_rate = 1e-3
    train(validated(config), tmp_path / "run")
    assert 0.05 < Run.open(tmp_path / "run").evaluate("test")["top1"] < 0.70


def test_real_cifar100_trains_and_every_test_image_counts(launch, tmp_path, real_tfds_dir):
    env = {"CIFAR_FLAX_CACHE": str(tmp_path / "cache"), "TFDS_DATA_DIR": real_tfds_dir}
    short = ["--config.train.epochs=1", "--config.optim.warmup_epochs=0", "--config.optim.learning_rate=1e-3"]
    result = launch(
        "train", f"--config={QUICKSTART}", "--config.data.name=cifar100", "--workdir=run", *short, env=env, timeout=1500
    )
    assert result.returncode == 0, result.stderr
    assert "45,000 training and 5,000 validation images" in result.stdout
    assert launch("evaluate", "--run=run", "--split=test", env=env).returncode == 0
    scores = json.loads((tmp_path / "run" / "report" / "test.json").read_text())
    assert scores["n"] == 10000
    assert scores["top1"] > 0.15

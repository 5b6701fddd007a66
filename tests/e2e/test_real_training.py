"""A training on the data that people train on; the quickstart learns in test_distillation.py."""

import json

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_real_cifar100_trains_and_every_test_image_counts(launch, tmp_path, cifar100_cache):
    env = {"CIFAR_FLAX_CACHE": cifar100_cache}
    short = ["--config.train.epochs=.2", "--config.optim.warmup_epochs=0", "--config.optim.learning_rate=1e-3"]
    quickstart = f"--config={ROOT / 'configs' / 'quickstart.py'}"
    result = launch("train", quickstart, "--config.data.name=cifar100", "--workdir=run", *short, env=env, timeout=1500)
    assert result.returncode == 0, result.stderr
    assert "45,000 training and 5,000 validation images" in result.stdout
    assert launch("evaluate", "--run=run", "--split=test", "--noreport", env=env).returncode == 0
    scores = json.loads((tmp_path / "run" / "report" / "test.json").read_text())
    assert scores["n"] == 10000
    assert scores["top1"] > 0.04

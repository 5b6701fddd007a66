import json
import os
import subprocess
import sys

import numpy as np
import pytest

from cifar_flax.analysis.compare.seeds import report_seeds
from cifar_flax.config.serialize import validated
from cifar_flax.errors import Preempted, UserError
from cifar_flax.runtime.preemption import Interrupt
from cifar_flax.training.loop import train
from cifar_flax.training.seed_folders import seed_folders
from cifar_flax.training.seeds import members, train_seeds
from cifar_flax.training.together import can_train_together
from tests.conftest import ROOT, TINY_CONFIG

STEPS = 18  # 2 epochs of 290 images in batches of 32


@pytest.fixture
def config(tiny_data, tiny_config):
    tiny_config.seed, tiny_config.train.num_seeds = 3, 2
    tiny_config.log.tensorboard = False
    return validated(tiny_config)


def losses(workdir):
    records = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [record["loss"] for record in records if record["kind"] == "step"]


@pytest.fixture
def alone(config, tmp_path):
    """The losses of each seed, trained by itself."""
    for run in members(config, tmp_path / "alone"):
        train(run.config, run.workdir)
    return [losses(tmp_path / "alone" / name) for name in ("seed3", "seed4")]


def test_seeds_one_after_another_are_the_runs_that_each_would_be_alone(config, alone, tmp_path, capsys):
    train_seeds(config, tmp_path / "run")
    assert [losses(folder) for folder in seed_folders(tmp_path / "run")] == alone
    assert alone[0] != alone[1]
    summary = json.loads((tmp_path / "run" / "seeds.json").read_text())
    assert list(summary["seeds"]) == ["seed3", "seed4"]
    np.testing.assert_allclose(summary["mean"], np.mean(list(summary["seeds"].values())))
    np.testing.assert_allclose(summary["sd"], np.std(list(summary["seeds"].values()), ddof=1))
    assert f"validation top-1 over 2 seeds: mean {summary['mean']:.2%}, sd {summary['sd']:.2%}" in capsys.readouterr().out

    text = report_seeds(tmp_path / "run", seed_folders(tmp_path / "run"), "test", "best", page=True)
    report = json.loads((tmp_path / "run" / "report" / "test.json").read_text())
    top1 = [seed["top1"] for seed in report["seeds"].values()]
    np.testing.assert_allclose([report["top1_mean"], report["top1_sd"]], [np.mean(top1), np.std(top1, ddof=1)])
    assert f"{report['top1_mean']:.2%}" in text
    assert f"{report['top1_mean']:.2%}" in (tmp_path / "run" / "report" / "report.html").read_text()


def test_seeds_side_by_side_lose_what_they_lose_alone_and_go_on_where_they_were(config, alone, tmp_path, monkeypatch):
    checks = []
    check = Interrupt.check

    def stop_once(interrupt):
        checks.append(interrupt)
        if len(checks) == 7:
            interrupt.stop("SIGTERM")
        check(interrupt)

    monkeypatch.setattr(Interrupt, "check", stop_once)
    with pytest.raises(Preempted, match="SIGTERM: saved 2 seeds at step 7"):
        train_seeds(config, tmp_path / "run", together=True)
    assert can_train_together(config, [run.workdir for run in members(config, tmp_path / "run")])
    train_seeds(config, tmp_path / "run", together=True)
    for folder, expected in zip(seed_folders(tmp_path / "run"), alone, strict=True):
        found = losses(folder)
        assert len(found) == STEPS
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        assert sorted(int(path.name) for path in (folder / "checkpoints").glob("[0-9]*"))[-1] == STEPS


def test_runs_that_do_not_make_the_same_steps_are_not_trained_side_by_side(config, tmp_path):
    folders = [run.workdir for run in members(config, tmp_path)]
    assert can_train_together(config, folders)
    (folders[1] / "checkpoints" / "9").mkdir(parents=True)
    assert not can_train_together(config, folders)
    config.early_stopping.patience = 1
    assert not can_train_together(config, [])


def test_a_folder_without_its_summary_is_named(tmp_path):
    with pytest.raises(UserError, match="have all seeds been trained"):
        seed_folders(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 3, 4])  # a seed each; one batched program; two devices a seed
def test_seeds_spread_over_devices(devices, config, alone, tmp_path):
    code = f"""
from pathlib import Path
from cifar_flax.runtime.app import load_config
from cifar_flax.config.serialize import checked
from cifar_flax.training.seeds import train_seeds
config = load_config({str(TINY_CONFIG)!r})
config.seed, config.train.num_seeds, config.train.batch_size = 3, 2, 32 if {devices} != 3 else 30
train_seeds(checked(config), Path("run"), together=True)
"""
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": str(ROOT),
    }
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment, timeout=300)
    if devices != 3:
        for folder, expected in zip(seed_folders(tmp_path / "run"), alone, strict=True):
            np.testing.assert_allclose(losses(folder), expected, rtol=1e-4)

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_flax.analysis.compare.writers import write_seed_report
from cifar_flax.config import AugmentConfig
from cifar_flax.config.files import load_config
from cifar_flax.config.serialize import read_config, validated
from cifar_flax.data import cache
from cifar_flax.errors import RERUN_WITHOUT_RESTART, Diverged, Preempted, UserError, WorkdirLocked
from cifar_flax.files.lock import exclusive_lock
from cifar_flax.optim import SGD
from cifar_flax.runtime.preemption import StopRequested
from cifar_flax.training import seeds
from cifar_flax.training.checkpoints.files import saved_steps
from cifar_flax.training.checkpoints.manager import Checkpoints
from cifar_flax.training.loop import train
from cifar_flax.training.records import read_records
from cifar_flax.training.runs import Runs
from cifar_flax.training.seed_folders import seed_folders
from cifar_flax.training.seeds import can_vmap_seeds, seed_runs, train_seeds
from cifar_flax.training.trainer import Trainer
from tests.conftest import ROOT, TINY_CONFIG, UNOPTIMIZED, tiny_split

pytestmark = pytest.mark.usefixtures("unoptimized")
SEEDS = ("seed3", "seed4", "seed5")
STEPS = 27  # 3 epochs of 290 images in batches of 32


def three_seeds(config):
    config.seed, config.train.num_seeds, config.train.epochs = 3, 3, 3
    config.plateau.patience, config.plateau.factor, config.plateau.min_delta = 1, 0.5, 1e3
    config.log.pictures = True
    return validated(config)


@pytest.fixture
def config(tiny_data, tiny_config):
    return three_seeds(tiny_config)


def values(workdir, kind, *names):
    return [[record[name] for name in names] for record in read_records(workdir) if record["kind"] == kind]


@pytest.fixture(scope="module")
def single(tiny_cache, tmp_path_factory):
    """Each seed, trained by itself."""
    folder = tmp_path_factory.mktemp("single")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_FLAX_CACHE", str(tiny_cache))
        for run in seed_runs(three_seeds(load_config(str(TINY_CONFIG))), folder):
            train(run.config, run.workdir)
    return folder


@pytest.mark.slow
def test_seeds_one_after_another_are_the_runs_that_each_would_be(config, single, tmp_path, capsys):
    train_seeds(config, str(tmp_path / "run"))
    for name in SEEDS:
        assert values(tmp_path / "run" / name, "step", "step", "loss") == values(single / name, "step", "step", "loss")
    summary = json.loads((tmp_path / "run" / "seeds.json").read_text())
    assert tuple(summary["seeds"]) == SEEDS
    np.testing.assert_allclose(summary["mean"], np.mean(list(summary["seeds"].values())))
    np.testing.assert_allclose(summary["sd"], np.std(list(summary["seeds"].values()), ddof=1))
    assert f"validation top-1 over 3 seeds: mean {summary['mean']:.2%}, sd {summary['sd']:.2%}" in capsys.readouterr().out

    text = write_seed_report(tmp_path / "run" / "report", seed_folders(tmp_path / "run"), "test", "best", page=True)
    report = json.loads((tmp_path / "run" / "report" / "test.json").read_text())
    top1 = [seed["top1"] for seed in report["seeds"].values()]
    np.testing.assert_allclose([report["top1_mean"], report["top1_sd"]], [np.mean(top1), np.std(top1, ddof=1)])
    assert f"{report['top1_mean']:.2%}" in text
    assert f"{report['top1_mean']:.2%}" in (tmp_path / "run" / "report" / "test.html").read_text()


@pytest.mark.slow
def test_vmapped_seeds_equal_single_runs(config, single, tmp_path):
    """Losses, validation and rates over 27 steps; every seed has its TensorBoard, its pictures and its checkpoints."""
    config.train.vmap_seeds = True
    train_seeds(config, tmp_path / "run")
    for name in SEEDS:
        for kind, fields in {
            "step": ("step", "loss", "grad_norm", "learning_rate"),
            "epoch": ("epoch", "validation_loss", "validation_raw_loss", "validation_top1", "train_loss"),
        }.items():
            vmapped, alone = (values(folder / name, kind, *fields) for folder in (tmp_path / "run", single))
            np.testing.assert_allclose(vmapped, alone, rtol=1e-4)
        assert len(values(tmp_path / "run" / name, "step", "step")) == STEPS
        files = {path.name for path in (tmp_path / "run" / name).iterdir()}
        assert {"config.json", "dataset.json", "environment.json", "metrics.jsonl", "tensorboard", "checkpoints"} <= files
    losses = [values(tmp_path / "run" / name, "step", "loss")[-1] for name in SEEDS]
    assert len({loss for (loss,) in losses}) == 3


@pytest.mark.slow
def test_a_vmapped_seed_that_stops_early_waits_for_the_others(config, tmp_path, capsys):
    config.train.vmap_seeds, config.train.epochs = True, 8
    config.plateau.patience, config.early_stopping.patience, config.early_stopping.monitor = 0, 1, "top1"
    train_seeds(validated(config), tmp_path / "run")
    ended = {name: len(values(tmp_path / "run" / name, "epoch", "epoch")) for name in SEEDS}
    out = capsys.readouterr().out
    assert "3 seeds in one program; the lines below are about seed 3\n" in out
    assert "seed 3 has stopped early; the lines below are about seed " in out
    shown = re.findall(r"^epoch (\d+)/8  loss", out, re.M)
    assert shown == [str(epoch) for epoch in range(1, max(ended.values()) + 1)], "the console followed a seed that had stopped"
    assert ended["seed3"] < max(ended.values()), "the first seed has to stop before another"
    for name, epochs in ended.items():
        train_alone = tmp_path / "alone" / name
        train(next(run.config for run in seed_runs(config, tmp_path) if run.workdir.name == name), train_alone)
        assert len(values(train_alone, "epoch", "epoch")) == epochs


@pytest.mark.parametrize(
    ("steps", "keep_latest", "patience", "vmapped"),
    [
        (((), (), ()), 2, 0, True),
        (((9,), (9,), ()), 2, 0, False),
        (((9,), (9,), (9, 14)), 2, 0, True),  # killed between the writes of the second and the third
        (((18, 27), (27, 81, 90), (27, 81, 90)), 2, 0, False),
        (((30, 60), (30, 60), (30, 100)), 1, 0, False),  # 30 is the best of each
        (((8, 12), (8, 12), (8, 12)), 2, 1, True),
        (((4, 8), (4, 8), (8, 12)), 2, 1, False),  # two were stopped after epoch 2, one after 3
    ],
)
def test_no_seed_goes_back_further_than_a_kill_left_another(config, tmp_path, steps, keep_latest, patience, vmapped):
    config.checkpoint.keep_latest, config.early_stopping.patience = keep_latest, patience
    folders = [run.workdir for run in seed_runs(config, tmp_path)]
    for folder, of_one in zip(folders, steps, strict=True):
        for step in of_one:
            (folder / "checkpoints" / str(step)).mkdir(parents=True)
    assert can_vmap_seeds(config, folders) == vmapped


def test_vmapped_seeds_stopped_before_their_first_step_keep_scores_and_records(config, tmp_path):
    config = short(config)
    config.train.vmap_seeds, config.train.epochs = True, 2
    train_seeds(validated(config), tmp_path / "run")
    config.train.epochs = 4

    def state(name):
        checkpoints = Checkpoints(tmp_path / "run" / name, config.checkpoint, read_only=True)
        steps = checkpoints.steps()
        return steps, checkpoints.find("best"), [checkpoints.scores(step) for step in steps]

    before = {name: state(name) for name in SEEDS}
    assert all(scores for _, _, (*_, scores) in before.values())
    with pytest.raises(Preempted):
        train_seeds(validated(config), tmp_path / "run", max_minutes=0)
    assert {name: state(name) for name in SEEDS} == before


def test_a_kill_between_the_checkpoints_that_end_an_epoch_changes_no_record(config, tmp_path, monkeypatch):
    config = short(config)
    config.train.vmap_seeds, config.train.epochs = True, 2
    train_seeds(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "evaluate", Mock(side_effect=StopRequested("SIGTERM")))
        with pytest.raises(Preempted):
            train_seeds(config, tmp_path / "run")
    save = Checkpoints.save

    def save_of_the_first(self, *arguments):
        if self.directory.parent.name != SEEDS[0]:
            raise KeyboardInterrupt
        save(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_of_the_first)
        with pytest.raises(KeyboardInterrupt):
            train_seeds(config, tmp_path / "run")
    train_seeds(config, tmp_path / "run")
    for name in SEEDS:
        what = ("epoch", "step", "train_loss", "validation_top1")
        assert values(tmp_path / "run" / name, "epoch", *what) == values(tmp_path / "whole" / name, "epoch", *what)


def test_vmapped_seeds_set_a_damaged_checkpoint_aside_and_go_on(config, tmp_path, caplog):
    config = short(config)
    config.train.vmap_seeds, config.train.epochs = True, 2
    train_seeds(validated(config), tmp_path / "run")
    for path in (tmp_path / "run" / "seed4" / "checkpoints" / "18").rglob("d/*"):
        path.write_bytes(b"")
    config.train.epochs = 3
    train_seeds(validated(config), tmp_path / "run")
    assert "falling back to checkpoint" in caplog.text
    assert [path.name.startswith("18-") for path in (tmp_path / "run" / "seed4" / "damaged_checkpoints").iterdir()] == [True]
    assert not (tmp_path / "run" / "seed3" / "damaged_checkpoints").exists()
    for name in SEEDS:
        assert [epoch for (epoch,) in values(tmp_path / "run" / name, "epoch", "epoch")] == [1, 2, 3]


def short(config):
    """Softmax regression for an epoch, one seed after another."""
    config.model.blocks, config.model.dense, config.augment = (), (), AugmentConfig()
    config.train.epochs, config.train.vmap_seeds, config.log.pictures = 1, False, False
    return validated(config)


def test_a_seed_without_records_is_left_out_of_the_mean(config, tmp_path, capsys, caplog):
    config = short(config)
    train_seeds(config, tmp_path)
    scores = json.loads((tmp_path / "seeds.json").read_text())["seeds"]
    (tmp_path / "seed4" / "metrics.jsonl").unlink()
    train_seeds(config, tmp_path)
    rest = [scores["seed3"], scores["seed5"]]
    summary = json.loads((tmp_path / "seeds.json").read_text())
    assert summary["seeds"] == {"seed3": rest[0], "seed5": rest[1]}
    assert summary["mean"] == pytest.approx(np.mean(rest))
    assert summary["sd"] == pytest.approx(np.std(rest, ddof=1))
    assert "no epoch in metrics.jsonl of seed4; left out of the mean" in caplog.text
    assert [path.name for path in seed_folders(tmp_path)] == ["seed3", "seed5"]

    (tmp_path / "seed3" / "metrics.jsonl").unlink()
    train_seeds(config, tmp_path)
    assert f"validation top-1 of one seed: {scores['seed5']:.2%}\n" in capsys.readouterr().out
    assert json.loads((tmp_path / "seeds.json").read_text())["sd"] is None

    (tmp_path / "seed5" / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match=r"no seed has an epoch in its metrics\.jsonl; put those files back, or --restart"):
        train_seeds(config, tmp_path)


def test_a_seed_that_diverges_does_not_keep_the_others_from_training(config, tmp_path, monkeypatch, capsys):
    fit = seeds.fit

    def diverge(trainer, workdirs, *args, **kwargs):
        state = fit(trainer, workdirs, *args, **kwargs)
        if workdirs[0].name == "seed3":
            raise Diverged("the loss is not finite")
        return state

    monkeypatch.setattr(seeds, "fit", diverge)
    config = short(config)
    with pytest.raises(Diverged, match=r"^1 of 3 seeds diverged; the first: the loss is not finite$") as error:
        train_seeds(config, tmp_path)
    assert error.value.ended == [tmp_path / "seed4", tmp_path / "seed5"]
    assert re.search(r"validation top-1 over 2 seeds: mean .*, without seed3, which diverged\n", capsys.readouterr().out)
    summary = json.loads((tmp_path / "seeds.json").read_text())
    assert (summary["seeds"].keys(), summary["diverged"]) == ({"seed4", "seed5"}, ["seed3"])


def test_of_seeds_in_one_program_the_others_train_on_when_one_diverges(config, tmp_path, monkeypatch, capsys):
    initialize = Trainer.initialize

    def spoil_seed_3(trainer, *args):
        states = initialize(trainer, *args)
        if trainer.seeds[0] == 3:
            states[0] = states[0].replace(params=jax.tree.map(lambda x: x * jnp.nan, states[0].params))
        return states

    monkeypatch.setattr(Trainer, "initialize", spoil_seed_3)
    config = short(config)
    config.train.vmap_seeds, config.checkpoint.every_steps = True, 2
    expected = r"^1 of 3 seeds diverged; the first: the loss is not finite at step 1 .*seed3; try a lower"
    for _ in range(2):  # the others have ended the second time
        with pytest.raises(Diverged, match=expected) as error:
            train_seeds(config, tmp_path)
        assert error.value.ended == [tmp_path / "seed4", tmp_path / "seed5"]
        assert [bool(saved_steps(tmp_path / name)) for name in SEEDS] == [False, True, True]
    output = capsys.readouterr().out
    assert "seed 3 has diverged; the lines below are about seed 4\n" in output
    assert output.count("trained 1 epochs") == 3
    assert json.loads((tmp_path / "seeds.json").read_text())["diverged"] == ["seed3"]
    assert [len(values(tmp_path / name, "epoch", "epoch")) for name in SEEDS] == [0, 1, 1]


def test_one_seed_in_a_program_of_its_own_that_diverges_is_no_success(config, tmp_path):
    config = short(config)
    config.train.vmap_seeds, config.train.num_seeds, config.optim = True, 1, SGD(learning_rate=3e38)
    with pytest.raises(Diverged, match=r"^1 of 1 seeds diverged; the first: the \w+ is not finite at step 2"):
        train_seeds(config, tmp_path)


def test_seeds_whose_common_checkpoints_are_damaged_do_not_begin_again(config, tmp_path):
    config = short(config)
    config.train.vmap_seeds, config.checkpoint.keep_latest = True, 1
    train_seeds(config, tmp_path)
    config.train.epochs = 2
    for name, damaged in (("seed3", 9), ("seed4", None), ("seed5", None)):
        shutil.copytree(tmp_path / name / "checkpoints" / "9", tmp_path / name / "checkpoints" / ("5" if damaged else "6"))
    (tmp_path / "seed3" / "checkpoints" / "9" / "_CHECKPOINT_METADATA").write_text("[]")
    before = (tmp_path / "seed4" / "metrics.jsonl").read_text()
    with pytest.raises(UserError, match=r"no intact checkpoint of one step any more; --config\.train\.vmap_seeds=false"):
        train_seeds(config, tmp_path)
    assert (tmp_path / "seed4" / "metrics.jsonl").read_text() == before


def test_seeds_in_one_program_that_all_diverge_end_at_once(config, tmp_path):
    config = short(config)
    config.train.vmap_seeds, config.optim = True, SGD(learning_rate=3e38)
    with pytest.raises(
        Diverged, match=r"^3 of 3 seeds diverged; the first: the \w+ is not finite at step 2 \(epoch 1\)"
    ) as error:
        train_seeds(config, tmp_path)
    assert error.value.ended == []
    assert max(step for name in SEEDS for (step,) in values(tmp_path / name, "step", "step")) < STEPS / 3


def test_weights_of_seeds_that_the_last_update_made_infinite_are_not_saved(config, tmp_path):
    config = short(config)
    config.train.vmap_seeds, config.optim.learning_rate, config.train.batch_size = True, 1e39, 250
    with pytest.raises(Diverged, match=r"^3 of 3 seeds diverged; the first: the weights are not finite after step 1"):
        train_seeds(config, tmp_path)
    assert not any(saved_steps(tmp_path / name) for name in SEEDS)


def test_the_minutes_are_those_of_all_seeds_together(config, tmp_path, monkeypatch):
    config, now, finish = short(config), 100.0, Runs.finish

    def finish_late(*args):
        nonlocal now
        now += 60
        finish(*args)

    monkeypatch.setattr("cifar_flax.runtime.preemption.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(Runs, "finish", finish_late)
    stopped = r"^--max_minutes=1\.5 are over: stopped before seed 5, 3 of 3, in \S+; run the same command to go on$"
    with pytest.raises(Preempted, match=stopped):
        train_seeds(config, tmp_path, max_minutes=1.5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed3", "seed4"]
    with pytest.raises(Preempted, match=r"--max_minutes=0 are over: stopped before seed 3, 1 of 3"):
        train_seeds(config, tmp_path, max_minutes=0)
    train_seeds(config, tmp_path, max_minutes=1.5 + 2)
    assert [path.name for path in seed_folders(tmp_path)] == list(SEEDS)


def test_a_seed_is_not_trained_on_other_images_than_the_first(config, tmp_path, monkeypatch):
    def finish_and_change(*args):
        finish(*args)
        cache.write("tiny", {"train": tiny_split(320, 7)}, "another")

    monkeypatch.setenv("CIFAR_FLAX_CACHE", str(tmp_path / "cache"))
    cache.write("tiny", {"train": tiny_split(320, 0)}, "tests")
    finish = Runs.finish
    monkeypatch.setattr(Runs, "finish", finish_and_change)
    with pytest.raises(UserError, match=r"^tiny is not what it was when the run in \S+seed3 began; choose another"):
        train_seeds(short(config), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["seed3"]


def test_restart_begins_all_seeds_again_at_once_and_they_go_on_without_it(config, tmp_path, monkeypatch):
    config = short(config)
    train_seeds(config, tmp_path / "run")
    config.optim.learning_rate = 0.5
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "evaluate", Mock(side_effect=StopRequested("SIGTERM")))
        with pytest.raises(Preempted, match=r"run the same command without --restart to go on$"):
            train_seeds(config, tmp_path / "run", restart=True)
    train_seeds(config, tmp_path / "run")
    for name in SEEDS:
        assert read_config(tmp_path / "run" / name / "config.json").optim.learning_rate == 0.5
        assert len(values(tmp_path / "run" / f"{name}.1", "epoch", "epoch")) == 1
        assert not (tmp_path / "run" / f"{name}.2").exists()


def test_a_restart_that_is_refused_for_one_seed_moves_none(config, tmp_path):
    train_seeds(short(config), tmp_path)
    with exclusive_lock(tmp_path / "seed5" / ".lock"), pytest.raises(WorkdirLocked, match=r"is training in \S+seed5;"):
        train_seeds(config, tmp_path, restart=True)
    assert sorted(folder.name for folder in tmp_path.iterdir()) == [*SEEDS, "seeds.json"]


def test_a_restart_that_fails_after_the_old_run_was_moved_is_to_go_on_without_it(config, tmp_path, monkeypatch):
    train_seeds(short(config), tmp_path / "run")
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr("cifar_flax.training.runs.open_run_dir", Mock(side_effect=full))
    with pytest.raises(OSError, match="No space left") as error:
        train_seeds(short(config), tmp_path / "run", restart=True)
    assert error.value.__notes__ == [RERUN_WITHOUT_RESTART]


def test_a_folder_without_its_summary_is_named(tmp_path):
    with pytest.raises(UserError, match="have all seeds been trained"):
        seed_folders(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 3, 6])  # all devices for all seeds; one a seed; several a seed
def test_seeds_spread_over_devices(devices, config, single, tmp_path):
    code = f"""
from pathlib import Path
from cifar_flax.config.files import load_config
from cifar_flax.config.serialize import validated
from cifar_flax.training.seeds import train_seeds
config = load_config({str(TINY_CONFIG)!r})
config.seed, config.train.num_seeds, config.train.epochs, config.train.vmap_seeds = 3, 3, 3, True
config.plateau.patience, config.plateau.factor, config.plateau.min_delta = 1, 0.5, 1e3
train_seeds(validated(config), Path("run"))
"""
    flags = f"--xla_force_host_platform_device_count={devices} {UNOPTIMIZED['XLA_FLAGS']}"
    environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment, timeout=600)
    for name in SEEDS:
        losses = (values(folder / name, "step", "loss") for folder in (tmp_path / "run", single))
        np.testing.assert_allclose(*losses, rtol=1e-4)

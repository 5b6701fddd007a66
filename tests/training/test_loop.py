"""What every training does, of one seed or several: each assertion goes through all ways to train."""

import dataclasses
import json
import math
import os
import re
import signal
import time

import jax
import numpy as np
import pytest

import cifar_flax
from cifar_flax.config import AugmentConfig, Dtype, GlobalPool, ResolutionConfig
from cifar_flax.config.serialize import validated
from cifar_flax.errors import ConfigError, Diverged, Preempted, UserError
from cifar_flax.models import BlockConfig
from cifar_flax.optim import SGD
from cifar_flax.runtime import preemption
from cifar_flax.runtime.preemption import Interrupt
from cifar_flax.training import loop
from cifar_flax.training.checkpoints.files import saved_steps
from cifar_flax.training.checkpoints.manager import Checkpoints
from cifar_flax.training.loop import train
from cifar_flax.training.records import TIMES, read_records
from cifar_flax.training.runs import Runs
from cifar_flax.training.trainer import Trainer
from tests.helpers.runs import records_without_times
from tests.training.writers.test_tensorboard import events

NEVER = 1e3  # no score gets better by as much


@pytest.fixture
def config(tiny_data, tiny_config):
    """Softmax regression. No epoch improves on the first: the rate halves after each, and after the third training ends."""
    tiny_config.model.blocks, tiny_config.model.dense, tiny_config.augment = (), (), AugmentConfig()
    tiny_config.train.epochs = 6
    tiny_config.plateau.patience, tiny_config.plateau.factor, tiny_config.plateau.min_delta = 1, 0.5, NEVER
    tiny_config.early_stopping.patience, tiny_config.early_stopping.min_delta = 2, NEVER
    return validated(tiny_config)


def of_kind(kind, workdir):
    return [record for record in records_without_times(workdir) if record["kind"] == kind]


def test_nothing_is_written_where_the_caller_refuses_the_training_images(config, tmp_path):
    def refuse(hashes):
        assert {"images", "labels"} <= hashes.keys()
        raise UserError("other images")

    with pytest.raises(UserError, match="other images"):
        train(config, tmp_path / "run", check_data=refuse)
    assert not (tmp_path / "run").exists()


def test_training_ends_early_says_why_and_does_not_begin_again(config, training, capsys):
    workdirs = training(config)
    output = capsys.readouterr().out
    assert "stopped early, after epoch 3 of 6: no better validation loss\nfor 2 epochs (config.early_stopping)" in output
    assert re.search(r"trained 3 epochs in \d+:\d\d:\d\d", output)
    assert "nothing is left" not in output
    records = [(workdir / "metrics.jsonl").read_text() for workdir in workdirs]
    assert [cifar_flax.Run.open(workdir).step("latest") for workdir in workdirs] == [27] * len(workdirs)

    config.train.epochs = 9
    assert training(config) == workdirs
    output = capsys.readouterr().out
    assert "nothing is left to train\nstopped early, after epoch 3 of 9" in output
    assert [(workdir / "metrics.jsonl").read_text() for workdir in workdirs] == records


def test_every_epoch_is_validated_recorded_and_shown(config, training):
    config.log.pictures = True
    for workdir in training(config):
        epochs = of_kind("epoch", workdir)
        assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3]
        for epoch in epochs:
            for split in ("train", "validation", "validation_raw"):  # raw are the weights that the optimizer updates
                assert 0 < epoch[f"{split}_loss"] < 10
                shares = [0, *(epoch[f"{split}_top{k}"] for k in (1, 2, 3, 5)), 1]
                assert shares == sorted(shares)
            assert epoch["validation_loss"] != epoch["validation_raw_loss"]
        assert len(of_kind("step", workdir)) == 27
        assert "hash" not in json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
        tags = {value.tag for event in events(workdir / "tensorboard") for value in event.summary.value}
        assert {"train/loss", "validation/top1", "validation_raw/top1", "step/grad_norm", "first_layer"} <= tags


def test_the_rate_falls_on_a_plateau_for_each_seed_by_itself(config, training, capsys):
    config.early_stopping.patience = 0
    for workdir in training(config):
        rates = [step["learning_rate"] for step in of_kind("step", workdir)]
        scales = np.array(rates[::9]) / rates[0]
        np.testing.assert_allclose(scales, [1, 1, 0.5, 0.25, 0.125, 0.0625], rtol=1e-6)
    assert "the learning rate is 0.5 times its schedule\n" in capsys.readouterr().out


def test_the_rate_that_is_recorded_is_the_one_that_is_applied(config, tmp_path):
    """In plain SGD the parameters move by the rate times the gradient, whose norm is recorded too."""
    config.optim = SGD(learning_rate=0.01)
    config.plateau.min_learning_rate = 0.004
    config.train.epochs, config.train.batch_size, config.early_stopping.patience = 4, 96, 0
    config.checkpoint.every_steps, config.checkpoint.keep_latest = 1, 100
    train(validated(config), tmp_path / "run")
    steps = {step["step"]: step for step in of_kind("step", tmp_path / "run")}
    rates = [step["learning_rate"] for step in steps.values()]
    np.testing.assert_allclose(rates, np.repeat([0.01, 0.01, 0.005, 0.004], 3), rtol=1e-6)
    like = Trainer.from_config(validated(config)).abstract_state
    checkpoints = Checkpoints(tmp_path / "run", config.checkpoint, read_only=True)
    for step in (2, 6, 9, 11):
        before, after = (checkpoints.restore(at, like).state.params["logits"] for at in (step - 1, step))
        moved = np.sqrt(sum(np.sum((np.float64(after[k]) - np.float64(before[k])) ** 2) for k in after))
        np.testing.assert_allclose(moved, steps[step]["learning_rate"] * steps[step]["grad_norm"], rtol=1e-3)


def test_scores_of_each_epoch_are_handed_over_and_an_exception_ends_the_run(config, tmp_path):
    class Pruned(Exception):
        pass

    seen = {}

    def after_epoch(epoch, scores, over):
        seen[epoch] = scores
        if epoch == 2:
            raise Pruned

    with pytest.raises(Pruned):
        train(config, tmp_path / "run", after_epoch=after_epoch)
    assert list(seen) == [1, 2]
    assert cifar_flax.Run.open(tmp_path / "run").step("latest") == 18
    epochs = of_kind("epoch", tmp_path / "run")
    for name in ("loss", "top1", "f1", "batch_f1"):
        assert [epoch[f"validation_{name}"] for epoch in epochs] == [seen[epoch][name] for epoch in (1, 2)]

    seen.clear()
    train(config, tmp_path / "run", after_epoch=lambda epoch, scores, over: seen.update({epoch: scores}))
    assert list(seen) == [3]


def test_a_loss_that_is_not_finite_ends_training_with_the_last_good_checkpoint(config, training):
    config.optim = SGD(learning_rate=3e38)
    with pytest.raises(Diverged, match=r"is not finite at step \d \(epoch 1\) of .*; try a lower config\.optim\.learning_rate"):
        training(validated(config))


@pytest.mark.parametrize("fraction", [0.1, 0.0])
def test_weights_that_the_last_update_of_an_epoch_made_infinite_are_not_saved(config, tmp_path, fraction):
    """Loss and gradient are those before it."""
    config.optim.learning_rate, config.train.batch_size, config.train.epochs = 1e39, 250, 1
    config.data.validation_fraction, config.plateau.patience, config.early_stopping.patience = fraction, 0, 0
    with pytest.raises(Diverged, match=r"^the weights are not finite after step 1 of .*run; try a lower"):
        train(config, tmp_path / "run")
    assert saved_steps(tmp_path / "run") == []


def test_weights_that_an_update_within_an_epoch_made_infinite_are_not_saved(config, tmp_path):
    config.optim.learning_rate, config.checkpoint.every_steps = 1e39, 1
    with pytest.raises(Diverged, match=r"^the weights are not finite after step 1 of .*run; try a lower"):
        train(config, tmp_path / "run")
    assert saved_steps(tmp_path / "run") == []


def test_a_stop_that_is_asked_for_when_all_is_done_does_not_stop_it(config, tmp_path, monkeypatch):
    evaluate = Trainer.evaluate

    def ask(*args):
        scores = evaluate(*args)
        signal.raise_signal(signal.SIGTERM)
        return scores

    config.train.epochs = 1
    monkeypatch.setattr(Trainer, "evaluate", ask)
    train(config, tmp_path / "run")
    assert len(of_kind("epoch", tmp_path / "run")) == 1


def test_several_hosts_end_a_validation_before_they_stop(monkeypatch):
    class SlowTrainer:
        def evaluate(self, state, wanted):
            signal.raise_signal(signal.SIGTERM)
            time.sleep(0.5)
            return [{"validation": {}}]

    left = []
    monkeypatch.setattr(preemption, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(Interrupt, "_leave", lambda self, reason: left.append(reason))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with Interrupt() as interrupt:
        assert loop._evaluate(SlowTrainer(), None, interrupt, [True]) == [{"validation": {}}]
        assert (interrupt.requested, left) == ("SIGTERM", [])


def test_training_resumes_where_it_was_stopped(config, training, monkeypatch):
    config, log_steps = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=2)), Runs.log_steps

    def stop(*args):
        signal.raise_signal(signal.SIGTERM)
        log_steps(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Runs, "log_steps", stop)
        with pytest.raises(Preempted, match=r"SIGTERM: saved (2 seeds )?at step 1 in .*; run the same command"):
            training(config)
    for workdir in training(config):
        assert [step["step"] for step in of_kind("step", workdir)] == list(range(1, 19))


def test_a_run_that_was_begun_again_goes_on_without_restart(config, training, monkeypatch):
    config.train.epochs, log_steps = 1, Runs.log_steps
    workdirs = training(validated(config))
    with pytest.raises(Preempted, match=r"nothing to save yet; run the same command to go on|stopped before"):
        training(config, restart=True, max_minutes=0)
    assert not any(workdir.with_name(f"{workdir.name}.1").exists() for workdir in workdirs), "nothing was begun again yet"

    def stop(*args):
        signal.raise_signal(signal.SIGTERM)
        log_steps(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Runs, "log_steps", stop)
        hint = r"(?s)SIGTERM: saved .*at step 1 in .*run the same command without --restart to go on$"
        with pytest.raises(Preempted, match=hint):
            training(config, restart=True)
    training(config)
    for workdir in workdirs:
        assert (workdir.with_name(f"{workdir.name}.1") / "metrics.jsonl").exists()
        assert not workdir.with_name(f"{workdir.name}.2").exists()
        assert [step["step"] for step in of_kind("step", workdir)] == list(range(1, 10))


def test_several_seeds_are_refused_where_one_is_trained(config, tmp_path):
    config.train.num_seeds = 3
    with pytest.raises(ConfigError, match=r"^config\.train\.num_seeds: 3 seeds .*; set it to 1"):
        train(validated(config), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("epochs", [0.1 * 3 * 10, 3 - 1e-9])
def test_rounding_in_a_number_of_epochs_makes_no_further_epoch(config, tmp_path, capsys, epochs):
    config.train.epochs, config.plateau.patience, config.early_stopping.patience = epochs, 0, 0
    train(validated(config), tmp_path / "run")
    assert [(epoch["epoch"], epoch["step"]) for epoch in of_kind("epoch", tmp_path / "run")] == [(1, 9), (2, 18), (3, 27)]
    assert "epoch 4" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_in_bfloat16_that_was_stopped_ends_bitwise_equal(tiny_data, tiny_config, tmp_path):
    """On a processor with AMX its convolutions and products run by oneDNN."""
    tiny_config.train.dtype, tiny_config.model.blocks[0].features = Dtype.BFLOAT16, (64, 64)
    config, states = validated(tiny_config), []

    def stop(epoch, scores, over):
        signal.raise_signal(signal.SIGTERM)

    for name, after_epoch in (("whole", None), ("stopped", stop)):
        if after_epoch:
            with pytest.raises(Preempted):
                train(config, tmp_path / name, after_epoch=after_epoch)
        states.append(jax.device_get(train(config, tmp_path / name)))
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_a_last_epoch_that_is_cut_off_is_validated_recorded_and_resumed_like_any(config, tmp_path):
    config.train.epochs, config.plateau.patience, config.early_stopping.patience = 1.5, 0, 0
    config.checkpoint.every_steps = 1
    states = [jax.device_get(train(validated(config), tmp_path / "whole"))]
    steps_per_epoch = of_kind("epoch", tmp_path / "whole")[0]["step"]
    last = of_kind("epoch", tmp_path / "whole")[-1]
    assert (last["epoch"], last["step"]) == (2, steps_per_epoch + math.ceil(steps_per_epoch / 2))
    assert int(states[0].step) == last["step"]
    with pytest.raises(Preempted):
        train(validated(config), tmp_path / "stopped", after_epoch=lambda *ended: signal.raise_signal(signal.SIGTERM))
    states.append(jax.device_get(train(validated(config), tmp_path / "stopped")))
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_chunks_of_steps_record_what_single_steps_do(config, tmp_path):
    records, states = [], []
    for steps in (1, 4):
        config.train.steps_per_dispatch, config.checkpoint.every_steps = steps, None
        states.append(jax.device_get(train(validated(config), tmp_path / str(steps))))
        records.append(read_records(tmp_path / str(steps)))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5), *(state.params for state in states))
    for single, chunked in zip(*records, strict=True):
        for name in set(single) - set(TIMES):
            assert chunked[name] == (pytest.approx(single[name], rel=1e-4) if isinstance(single[name], float) else single[name])
        assert single["kind"] == "epoch" or min(single["images_per_second"], chunked["images_per_second"]) > 0


class Watched:
    """Metrics of a chunk that take note when they are fetched, and of the last chunk dispatched by then."""

    def __init__(self, chunk, metrics, dispatched, fetched):
        self.fetch = lambda: fetched.append((chunk.end, dispatched[-1])) or np.asarray(metrics)

    def __array__(self, dtype=None, copy=None):
        return self.fetch()


@pytest.mark.parametrize("steps_per_dispatch", [1, 2])
def test_within_an_epoch_metrics_alone_are_fetched_and_a_chunk_behind(config, tmp_path, monkeypatch, steps_per_dispatch):
    config.train.steps_per_dispatch, config.checkpoint.every_steps = steps_per_dispatch, None
    monkeypatch.setattr("cifar_flax.training.runs.SLOW_SECONDS", math.inf)  # no step counts as slow
    dispatched, fetched, step = [], [], Trainer.step

    def watched(self, state, chunk, *args):
        with jax.transfer_guard("disallow"):  # nothing is copied to the device but what was loaded ahead
            state, metrics = step(self, state, chunk, *args)
        dispatched.append(chunk.end)
        return state, Watched(chunk, metrics, dispatched, fetched)

    monkeypatch.setattr(Trainer, "step", watched)
    train(validated(config), tmp_path)
    epoch_ends = [record["step"] for record in of_kind("epoch", tmp_path)]
    assert [end for end, _ in fetched] == dispatched
    assert len(dispatched) > 2 * len(epoch_ends)
    assert all(latest == dispatched[dispatched.index(end) + 1] for end, latest in fetched if end not in epoch_ends)


def test_streamed_batches_train_to_the_same_bits_as_resident_ones(config, tmp_path):
    records = []
    for source in ("resident", "streamed"):
        config.data.source = source
        train(validated(config), tmp_path / source)
        records.append([of_kind(kind, tmp_path / source) for kind in ("step", "epoch")])
    assert records[0] == records[1]


def test_images_grow_at_the_shares_of_training_that_the_config_names(config, tmp_path):
    """Six updates on images that are constant but for one pixel of two: resizing to a size of its own changes what is seen."""
    config.plateau.patience = config.early_stopping.patience = 0
    config.train.epochs, config.train.batch_size = 2, 96  # 3 steps each
    config.model.global_pool, config.model.blocks = GlobalPool.MEAN, (BlockConfig(features=(4,)),)
    losses = {}
    for name, resolutions in {
        "full": (),
        "growing": (ResolutionConfig(until=0.3, size=4), ResolutionConfig(until=0.5, size=6)),
        "small": (ResolutionConfig(until=1.0, size=4),),
    }.items():
        config.train.resolutions = resolutions
        train(validated(config), tmp_path / name)
        losses[name] = [step["loss"] for step in of_kind("step", tmp_path / name)]
    assert losses["growing"][:2] == losses["small"][:2]
    assert losses["growing"][2] not in (losses["small"][2], losses["full"][2])


def test_records_are_on_the_disk_before_a_checkpoint_that_follows_them(config, training, monkeypatch):
    """A power cut would else leave a run that goes on behind records that are lost."""
    fsync, save, on_disk, saves = os.fsync, Checkpoints.save, {}, []

    def sync(file):
        on_disk[os.fstat(file).st_ino] = os.fstat(file).st_size
        fsync(file)

    def check_and_save(self, *args):
        status = (self.directory.parent / "metrics.jsonl").stat()
        assert on_disk[status.st_ino] == status.st_size > 0
        saves.append(self)
        return save(self, *args)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Checkpoints, "save", check_and_save)
    training(config)
    assert saves

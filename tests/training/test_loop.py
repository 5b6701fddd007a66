import gzip
import json

import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import cifar_flax
from cifar_flax.config import AugmentConfig, BlockConfig, ResolutionConfig
from cifar_flax.config.serialize import validated
from cifar_flax.config.types import Features, Optimizer
from cifar_flax.training import loop
from cifar_flax.training.loop import train
from cifar_flax.training.step import make_train_step

NEVER = 1e3  # no score gets better by as much


@pytest.fixture
def config(tiny_data, tiny_config):
    """Softmax regression. No epoch improves on the first: the rate halves after each, and after the third training ends."""
    tiny_config.model.blocks, tiny_config.model.dense, tiny_config.augment = (), (), AugmentConfig()
    tiny_config.train.epochs = 6
    tiny_config.plateau.patience, tiny_config.plateau.factor, tiny_config.plateau.min_delta = 1, 0.5, NEVER
    tiny_config.early_stopping.patience, tiny_config.early_stopping.min_delta = 2, NEVER
    return validated(tiny_config)


def epochs(workdir):
    return cifar_flax.Run.open(workdir).metrics().query("kind == 'epoch'")


def test_training_ends_early_says_why_and_does_not_begin_again(config, tmp_path, capsys):
    train(config, tmp_path / "run")
    said = capsys.readouterr().out
    assert "stopped early, after epoch 3 of 6: validation loss has not improved for 2 epochs" in said
    assert "trained 3 epochs in 0:00:" in said
    assert "nothing is left" not in said
    records = (tmp_path / "run" / "metrics.jsonl").read_text()
    before = cifar_flax.Run.open(tmp_path / "run").step("latest")

    config.train.epochs = 9
    train(config, tmp_path / "run")
    said = capsys.readouterr().out
    assert "nothing is left to train\nstopped early, after epoch 3 of 9" in said
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == records
    assert cifar_flax.Run.open(tmp_path / "run").step("latest") == before == 27


def test_the_rate_that_is_recorded_is_the_one_that_is_applied(config, tmp_path, capsys):
    """In plain SGD the parameters move by the rate times the gradient, whose norm is recorded too."""
    config.optim.name, config.optim.learning_rate, config.plateau.min_learning_rate = Optimizer.SGD, 0.01, 0.004
    config.train.epochs, config.train.batch_size, config.early_stopping.patience = 4, 96, 0
    config.checkpoint.every_steps, config.checkpoint.keep_latest = 1, 100
    train(config, tmp_path / "run")
    run = cifar_flax.Run.open(tmp_path / "run")
    steps = run.metrics().query("kind == 'step'").set_index("step")
    np.testing.assert_allclose(steps.learning_rate, np.repeat([0.01, 0.01, 0.005, 0.004], 3), rtol=1e-6)
    for step in (2, 6, 9, 11):
        before, after = (ravel_pytree(run._state(at).params)[0] for at in (step - 1, step))
        moved = np.linalg.norm(np.asarray(after, np.float64) - np.asarray(before, np.float64))
        np.testing.assert_allclose(moved, steps.learning_rate[step] * steps.grad_norm[step], rtol=1e-3)
    assert "the learning rate is 0.5 times its schedule\n" in capsys.readouterr().out


def test_after_each_epoch_its_scores_are_handed_over_and_what_is_raised_ends_the_run(config, tmp_path):
    class Pruned(Exception):
        pass

    seen = {}

    def after_epoch(epoch, scores):
        seen[epoch] = scores
        if epoch == 2:
            raise Pruned

    with pytest.raises(Pruned):
        train(config, tmp_path / "run", after_epoch=after_epoch)
    assert list(seen) == [1, 2]
    assert cifar_flax.Run.open(tmp_path / "run").step("latest") == 18
    recorded = epochs(tmp_path / "run")
    for name in ("loss", "top1", "f1", "batch_f1"):
        assert recorded[f"validation_{name}"].tolist() == [seen[epoch][name] for epoch in (1, 2)]
        assert recorded[f"train_{name}"].notna().all()

    seen.clear()
    train(config, tmp_path / "run", after_epoch=lambda epoch, scores: seen.update({epoch: scores}))
    assert list(seen) == [3]


def test_images_grow_at_the_shares_of_training_that_the_config_names(config, tmp_path, monkeypatch):
    config.plateau.patience = config.early_stopping.patience = 0
    config.train.epochs, config.train.batch_size = 2, 96  # 3 steps each
    config.model.features, config.model.blocks = Features.MEAN, (BlockConfig(features=(4,)),)
    config.train.resolutions = (ResolutionConfig(until=0.3, size=4), ResolutionConfig(until=0.5, size=6))
    seen = []

    def make(*arguments):
        step = make_train_step(*arguments)
        return lambda *inputs: (seen.append(arguments[-1]), step(*inputs))[1]

    monkeypatch.setattr(loop, "make_train_step", make)
    train(validated(config), tmp_path / "run")
    assert seen == [4, 4, 6, None, None, None]


def test_a_trace_of_a_few_steps_is_recorded(config, tmp_path, capsys):
    config.train.epochs = 1
    train(config, tmp_path / "run", profile=True)
    folder = tmp_path / "run" / "tensorboard" / "plugins" / "profile"
    assert "traced 5 steps into" in capsys.readouterr().out
    (trace,) = folder.glob("*/perfetto_trace.json.gz")
    named = [
        event["args"]["step_num"]
        for event in json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
        if event.get("name") == "train" and "step_num" in event.get("args", {})
    ]
    assert sorted({int(step) for step in named}) == [3, 4, 5, 6, 7]
    assert list(folder.glob("*/*.xplane.pb"))

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cifar_flax
from cifar_flax.config import CheckpointConfig
from cifar_flax.config.serialize import validated
from cifar_flax.errors import UserError
from cifar_flax.files.checksum import dumps_checksummed, read_checksummed
from cifar_flax.run import Run, load_network
from cifar_flax.training.checkpoints.manager import Checkpoints
from cifar_flax.training.loop import train
from cifar_flax.training.seed_folders import expand_seeds, holds_seeds
from cifar_flax.training.trainer import Trainer
from tests.conftest import TINY_TEST_IMAGES, tiny_split


@pytest.fixture
def run(tiny_run, tiny_data):
    return cifar_flax.Run.open(str(tiny_run))


def test_a_run_knows_its_config_classes_and_metrics(run):
    assert run.config.train.epochs == 2
    assert run.class_names == tuple(f"line {i}" for i in range(10))
    table = run.metrics()
    epochs = table[table.kind == "epoch"]
    assert epochs.epoch.tolist() == [1, 2]
    assert epochs[["train_loss", "train_top1", "validation_loss", "validation_top5"]].notna().all(axis=None)
    assert (table[table.kind == "step"].learning_rate == run.config.optim.learning_rate).all()


def test_best_is_the_checkpoint_with_the_highest_validation_accuracy(run):
    epochs = run.metrics().query("kind == 'epoch'")
    best = epochs.loc[epochs.validation_top1 == epochs.validation_top1.max()]
    assert run.step("best") in best.step.tolist()
    assert run.step("latest") == epochs.step.max()
    scores, recorded = run.evaluate("validation", "best"), epochs.set_index("step").loc[run.step("best")]
    assert scores["top1"] == recorded.validation_top1 == epochs.validation_top1.max()
    assert scores["loss"] == pytest.approx(recorded.validation_loss, rel=1e-5)
    assert scores["macro_f1"] == pytest.approx(recorded.validation_f1, rel=1e-5)


def test_evaluate_equals_numpy_on_the_models_own_logits(run):
    scores = run.evaluate("test", "latest")
    test = tiny_split(TINY_TEST_IMAGES, 1)
    pixels = (test.images / 255 - np.array(run.preprocessing.mean)) / np.array(run.preprocessing.std)
    network, x = run.network("latest"), jnp.asarray(pixels, jnp.float32)
    logits = np.asarray(network.model.apply(network.variables, x, train=False), np.float64)
    actual = run.logits("test", "latest")
    assert (actual.dtype, actual.shape) == (np.float32, (TINY_TEST_IMAGES, 10))
    np.testing.assert_allclose(actual, logits, rtol=1e-4, atol=1e-5)
    order = np.argsort(-logits, axis=1)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(test)), test.labels]
    np.testing.assert_allclose(scores["loss"], losses.mean(), rtol=1e-5)
    for k in (1, 2, 3, 5):
        assert scores[f"top{k}"] == (order[:, :k] == test.labels[:, None]).any(1).mean()
    assert scores["n"] == TINY_TEST_IMAGES


def test_any_images_can_be_predicted_in_any_order(run):
    rows = np.random.default_rng(0).permutation(TINY_TEST_IMAGES)
    shuffled = run.logits(run.dataset("test").take(rows))
    np.testing.assert_allclose(shuffled, run.logits("test")[rows], rtol=1e-4, atol=1e-5)


def test_superclasses_are_scored_where_the_set_has_them(run):
    odd = dataclasses.replace(run.preprocessing, coarse_names=("even", "odd"), coarse_of_fine=(0, 1) * 5)
    scores = cifar_flax.Run(run.workdir, run.config, odd).evaluate("test")
    predicted, labels = run.logits("test").argmax(1), run.dataset("test").labels
    assert scores["superclass_top1"] == (predicted % 2 == labels % 2).mean()
    assert scores["per_superclass"]["odd"] == {"accuracy": (predicted % 2)[labels % 2 == 1].mean(), "support": 51}
    assert "superclass_top1" not in run.evaluate("test")


def test_averaged_and_raw_weights_are_both_there(run):
    ema, raw = run.network("latest"), run.network("latest", ema=False)
    assert ema.step == raw.step == run.step("latest")
    like, checkpoints = Trainer.from_config(run.config).abstract_state, Checkpoints(run.workdir, CheckpointConfig(), True)
    state = checkpoints.restore(ema.step, like).state
    jax.tree.map(np.testing.assert_array_equal, ema.variables, state.ema)
    jax.tree.map(np.testing.assert_array_equal, raw.variables["params"], state.params)
    assert not np.array_equal(ema.variables["params"]["logits"]["kernel"], raw.variables["params"]["logits"]["kernel"])
    jax.tree.map(np.testing.assert_array_equal, run.params("latest"), state.ema["params"])
    assert {leaf.dtype for leaf in jax.tree.leaves(run.params())} == {jnp.dtype("float32")}
    assert run.has_ema


def test_train_and_validation_are_the_images_that_the_run_had(run):
    train_set, validation = run.dataset("train"), run.dataset("validation")
    assert (len(train_set), len(validation)) == (290, 30)
    together = {image.tobytes() for image in [*train_set.images, *validation.images]}
    assert len(together) == 320
    with pytest.raises(UserError, match="expected one of train, validation, test"):
        run.dataset("tset")


@pytest.mark.parametrize("name", ["fast", "pretrained:fast", "x.safetensors", "hf:me/net", "exported"])
def test_weights_are_no_run_directory_and_the_message_says_so(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "model.safetensors").touch()
    with pytest.raises(UserError, match=f"^{name}: weights alone; expected a run directory, which has their records"):
        cifar_flax.Run.open(name)


def test_folders_that_are_no_runs_are_named(tmp_path, tiny_run):
    with pytest.raises(UserError, match="no such run directory"):
        cifar_flax.Run.open(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"config\.json"):
        cifar_flax.Run.open(tmp_path)
    broken = shutil.copytree(tiny_run, tmp_path / "broken")
    (broken / "config.json").write_text((broken / "config.json").read_text()[:100])
    with pytest.raises(UserError, match=r"config\.json"):
        cifar_flax.Run.open(broken)
    begun = shutil.copytree(tiny_run, tmp_path / "begun", ignore=lambda folder, names: {"checkpoints"} & set(names))
    with pytest.raises(UserError, match="no checkpoint yet"):
        cifar_flax.Run.open(begun).params()
    assert not (begun / "checkpoints").exists()


def test_a_run_goes_on_only_with_the_data_that_it_began_with(run, tiny_run, tmp_path):
    copy = shutil.copytree(tiny_run, tmp_path / "copy")
    dataset = read_checksummed(copy / "dataset.json")
    dataset["hashes"]["images"] = "0" * 64
    (copy / "dataset.json").write_text(dumps_checksummed(dataset))
    with pytest.raises(UserError, match="tiny is not what it was"):
        train(run.config, copy)


def test_without_validation_the_last_checkpoint_is_the_best(tiny_data, tiny_config, tmp_path):
    tiny_config.data.validation_fraction = 0.0
    tiny_config.train.epochs = 1
    train(validated(tiny_config), tmp_path / "run")
    run = cifar_flax.Run.open(tmp_path / "run")
    assert run.step("best") == run.step("latest") == 10
    with pytest.raises(UserError, match="no validation split"):
        run.evaluate("validation")


def test_test_time_augmentation_averages_logits(run):
    data = run.dataset("test")
    mirrored = dataclasses.replace(data, images=np.ascontiguousarray(data.images[:, :, ::-1]))
    expected = (run.logits(data) + run.logits(mirrored)) / 2
    np.testing.assert_allclose(run.logits(data, tta="flip"), expected, rtol=1e-4, atol=1e-5)
    shifted = run.logits(data, tta="flip+shift")
    assert shifted.shape == expected.shape
    assert not np.allclose(shifted, expected, atol=1e-3)
    with pytest.raises(UserError, match="expected one of none, flip, flip\\+shift"):
        run.logits(data, tta="crop")


def test_a_network_outlives_the_checkpoint_that_it_came_from(run, tiny_run, tmp_path):
    copy = cifar_flax.Run.open(shutil.copytree(tiny_run, tmp_path / "copy"))
    network, images = copy.network("latest"), run.dataset("test").images
    shutil.rmtree(copy.workdir / "checkpoints" / str(network.step))
    np.testing.assert_array_equal(network.logits(images), run.logits("test", "latest"))
    assert copy.network("latest").step == copy.step("latest") < network.step
    with pytest.raises(UserError, match=f"no checkpoint {network.step}"):
        copy.network(network.step)


def test_a_checkpoint_removed_while_it_is_read_is_replaced_by_the_best_now(tiny_run, tmp_path, monkeypatch):
    copy = cifar_flax.Run.open(shutil.copytree(tiny_run, tmp_path / "copy"))
    latest, restore = copy.step("latest"), Checkpoints.restore_variables

    def remove_first(self, step, *args, **kwargs):
        if step == latest:
            shutil.rmtree(copy.workdir / "checkpoints" / str(step))
        return restore(self, step, *args, **kwargs)

    monkeypatch.setattr(Checkpoints, "restore_variables", remove_first)
    assert copy.network("latest").step == copy.step("latest") < latest


def test_a_folder_that_changes_while_it_is_listed_is_listed_again(run, monkeypatch):
    find, calls = Checkpoints.find, []

    def fail_first(self, which):
        calls.append(which)
        if len(calls) == 1:
            raise FileNotFoundError("checkpoints/20")
        return find(self, which)

    monkeypatch.setattr(Checkpoints, "find", fail_first)
    assert run.step("latest") == 18


def test_checkpoints_that_are_all_replaced_while_they_are_listed_are_listed_again(run, tmp_path, monkeypatch):
    steps, listed = Checkpoints.steps, []

    def none_at_first(self):
        listed.append([] if not listed else steps(self))
        return listed[-1]

    monkeypatch.setattr(Checkpoints, "steps", none_at_first)
    assert run.step("latest") == 18
    assert listed[0] == []
    empty = Run(tmp_path, run.config, run.preprocessing)
    with pytest.raises(UserError, match="holds no checkpoint yet; has it trained"):
        empty.step("latest")


def test_folders_that_never_stay_are_given_up(run, monkeypatch):
    def fail(self, which):
        raise FileNotFoundError("checkpoints/20")

    monkeypatch.setattr(Checkpoints, "find", fail)
    with pytest.raises(UserError, match="replaced faster than they can be read"):
        run.step("latest")


def test_a_folder_of_seeds_is_the_one_that_is_best_in_validation(tiny_run, tmp_path):
    for seed in ("seed0", "seed1", "seed2"):
        shutil.copytree(tiny_run, tmp_path / seed)
    seeds = {"seed0": 0.5, "seed1": 0.7, "seed2": 0.6}
    summary = {"score": "validation_top1", "seeds": seeds, "mean": 0.6, "sd": 0.1}
    (tmp_path / "seeds.json").write_text(json.dumps(summary))
    assert Run.open(tmp_path).workdir == tmp_path / "seed1"
    assert load_network(tmp_path).predict(np.zeros((8, 8, 3), np.uint8))
    assert expand_seeds(["a", str(tmp_path)]) == ["a", *(str(tmp_path / seed) for seed in seeds)]
    (tmp_path / "config.json").write_text("{}")  # a run of its own, which all commands then take
    assert expand_seeds([str(tmp_path)]) == [str(tmp_path)]
    assert not holds_seeds(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "seeds.json").write_text(json.dumps({**summary, "score": "train_top1"}))
    assert Run.open(tmp_path).workdir == tmp_path / "seed0"
    (tmp_path / "seeds.json").write_text('{"score": "train_top1", "seeds": {"../x": 1}}')
    with pytest.raises(UserError, match=r"seeds.json: damaged"):
        Run.open(tmp_path)

import dataclasses

import jax
import numpy as np
import pytest

from cifar_flax import Run
from cifar_flax.config.serialize import validated
from cifar_flax.data.loading import load_dataset
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.errors import UserError
from cifar_flax.evaluation.scores import probabilities
from cifar_flax.pretrained.weights import write_weights
from cifar_flax.training.distillation import FILE, load_teacher
from cifar_flax.training.loop import train
from cifar_flax.training.records import read_records


@pytest.fixture
def config(tiny_config, tiny_run, tiny_data):
    """Softmax regression, taught by a finished run of the tiny training."""
    tiny_config.train.teacher = str(tiny_run)
    tiny_config.train.epochs = 1
    tiny_config.model.blocks = tiny_config.model.dense = ()
    tiny_config.augment.mixup = 0.5
    return validated(tiny_config)


def preprocessing_of(run):
    return Preprocessing.read(run / "dataset.json")


def test_targets_are_mixed_with_what_the_teacher_says_of_the_same_images(config, tiny_run):
    config.train.teacher_weight, config.train.teacher_temperature = 0.75, 2.0
    record = preprocessing_of(tiny_run)
    backwards = dataclasses.replace(record, class_names=record.class_names[::-1])
    teacher = load_teacher(config, backwards)
    images = load_dataset(config.data, "test").images[:9]
    hard = np.eye(10, dtype=np.float32)[np.arange(9)]
    actual = jax.jit(teacher.targets)(teacher.variables, images / np.float32(255), hard)
    network = Run.open(tiny_run).network()
    answers = probabilities(network.logits(images) / np.float32(2 * network.temperature))[:, ::-1]
    np.testing.assert_allclose(actual, 0.25 * hard + 0.75 * answers, atol=1e-5)
    np.testing.assert_allclose(actual.sum(1), 1, atol=1e-5)


def test_the_cross_entropy_of_a_taught_step_is_of_the_labels(config, tmp_path):
    config.train.teacher_weight, config.log.every_steps, config.augment.mixup = 1.0, 1, 0.0
    train(validated(config), tmp_path / "taught")
    config.train.teacher, config.train.teacher_weight = "", 0.5
    train(validated(config), tmp_path / "alone")
    (taught, *_), (alone, *_) = (read_records(tmp_path / name) for name in ("taught", "alone"))
    np.testing.assert_allclose(taught["cross_entropy"], alone["cross_entropy"], rtol=1e-5)  # no update has been made yet
    assert abs(taught["loss"] - taught["cross_entropy"]) > 0.01


def test_a_run_goes_on_with_the_teacher_it_began_with_to_the_same_bits(config, tmp_path, make_network, tiny_run):
    teacher = tmp_path / "teacher.safetensors"
    write_weights(teacher, Run.open(tiny_run).network())
    config.train.teacher = str(teacher)
    config.train.epochs = 2
    whole = train(config, tmp_path / "whole")
    config.train.epochs = 1
    train(config, tmp_path / "parts")
    config.train.epochs = 2
    resumed = train(config, tmp_path / "parts")
    jax.tree.map(np.testing.assert_array_equal, whole.params, resumed.params)
    other = make_network(coarse=False)
    other.preprocessing = preprocessing_of(tiny_run)
    write_weights(teacher, other)
    with pytest.raises(UserError, match=r"teacher\.safetensors has other weights than when the run in .* began"):
        train(config, tmp_path / "parts")
    (tmp_path / "parts" / FILE).write_text("{}")
    with pytest.raises(UserError, match=r"teacher\.json: damaged"):
        train(config, tmp_path / "parts")


def test_without_a_weight_the_teacher_changes_nothing(config, tmp_path):
    config.train.teacher_weight = 0.0
    taught = train(config, tmp_path / "taught")
    config.train.teacher = ""
    alone = train(config, tmp_path / "alone")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), taught.params, alone.params)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": (*(f"line {i}" for i in range(9)), "cat")}, "knows 10 classes, .*: it does not know cat"),
        ({"image_shape": (16, 16, 3)}, "takes images of 8x8x3, and the data are 16x16x3"),
    ],
)
def test_a_teacher_of_other_classes_or_sizes_is_refused(config, tiny_run, change, message):
    with pytest.raises(UserError, match=f"config.train.teacher: {tiny_run.name} {message}"):
        load_teacher(config, dataclasses.replace(preprocessing_of(tiny_run), **change))


def test_a_teacher_that_is_not_there_costs_one_line(config, tmp_path):
    config.train.teacher = "runs/nobody"
    with pytest.raises(UserError, match=r"^config\.train\.teacher: runs/nobody: no such run directory; "):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()

"""The training step on softmax regression, whose gradient is a line of NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from cifar_flax.config import Config, Normalization, Optimizer
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.models import create_model
from cifar_flax.optim.optimizers import create_optimizer
from cifar_flax.training.devices import data_parallel_mesh, place
from cifar_flax.training.evaluation import evaluate
from cifar_flax.training.metrics import means
from cifar_flax.training.state import create_state
from cifar_flax.training.step import make_eval_step, make_train_step
from tests.conftest import tiny_split

RATE, SMOOTHING, DECAY, STEPS_PER_EPOCH = 0.5, 0.1, 0.7, 4
DATASET = tiny_split(160, 0)
MESH = data_parallel_mesh()


def run(steps, dtype=jnp.float32):
    """States and metrics after each of some steps on batches of 32, in order."""
    config = Config()
    config.optim.name, config.optim.label_smoothing, config.optim.ema_decay = Optimizer.SGD, SMOOTHING, DECAY
    preprocessing = Preprocessing.of(DATASET, Normalization.STANDARDIZE, {})
    model = create_model(config.model, 10, dtype)
    optimizer = create_optimizer(config.optim, lambda step: RATE)
    step = make_train_step(config, model, optimizer, preprocessing, STEPS_PER_EPOCH, dtype, MESH)
    state, data = create_state(config, model, optimizer, np.zeros((1, 8, 8, 3), np.float32), MESH), place(DATASET, MESH)
    history = []
    for i in range(steps):
        state, metrics = step(state, data, batch(i))
        head = {name: np.asarray(value, np.float64) for name, value in state.params["logits"].items()}
        average = {name: np.asarray(value, np.float64) for name, value in state.ema["params"]["logits"].items()}
        history.append((head, average, {name: float(value) for name, value in metrics.items()}, means(state.metrics)))
    scores = evaluate(make_eval_step(model, preprocessing, dtype, MESH), state.eval_variables, data, 50, MESH)
    return history, scores


def batch(i):
    return (np.arange(32, dtype=np.int32) + 32 * i) % 160


def softmax(logits):
    exp = np.exp(logits - logits.max(1, keepdims=True))
    return exp / exp.sum(1, keepdims=True)


def inputs():
    pixels = DATASET.images / 255
    return ((pixels - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2))).reshape(160, -1)


@pytest.fixture(scope="module")
def trained():
    return run(6)


def test_updates_losses_and_norms_equal_numpy(trained):
    history, _ = trained
    x, labels = inputs(), DATASET.labels
    for i in range(1, 6):
        (before, _, _, _), (after, _, metrics, _) = history[i - 1 : i + 1]
        rows = batch(i)
        target = np.eye(10)[labels[rows]] * (1 - SMOOTHING) + SMOOTHING / 10
        probabilities = softmax(x[rows] @ before["kernel"] + before["bias"])
        error = (probabilities - target) / 32
        kernel, bias = x[rows].T @ error, error.sum(0)
        np.testing.assert_allclose(after["kernel"], before["kernel"] - RATE * kernel, atol=2e-5)
        np.testing.assert_allclose(after["bias"], before["bias"] - RATE * bias, atol=2e-5)
        np.testing.assert_allclose(metrics["loss"], -(target * np.log(probabilities)).sum(1).mean(), rtol=1e-4)
        np.testing.assert_allclose(metrics["grad_norm"], np.sqrt((kernel**2).sum() + (bias**2).sum()), rtol=1e-4)
        assert metrics["top1"] == (probabilities.argmax(1) == labels[rows]).mean()


def test_the_average_forgets_the_start_and_then_decays(trained):
    history, _ = trained
    for i in range(1, 6):
        decay = min(DECAY, (1 + i) / (10 + i))
        expected = decay * history[i - 1][1]["kernel"] + (1 - decay) * history[i][0]["kernel"]
        np.testing.assert_allclose(history[i][1]["kernel"], expected, atol=1e-6)


def test_metrics_accumulate_over_an_epoch_and_begin_anew_in_the_next(trained):
    losses = [metrics["loss"] for _, _, metrics, _ in trained[0]]
    for i, (_, _, _, so_far) in enumerate(trained[0]):
        begin = i // STEPS_PER_EPOCH * STEPS_PER_EPOCH
        np.testing.assert_allclose(so_far["loss"], np.mean(losses[begin : i + 1]), rtol=1e-5)


def test_evaluation_uses_the_average_and_plain_cross_entropy(trained):
    history, scores = trained
    average = history[-1][1]
    probabilities = softmax(inputs() @ average["kernel"] + average["bias"])
    np.testing.assert_allclose(scores["loss"], -np.log(probabilities[np.arange(160), DATASET.labels]).mean(), rtol=1e-4)
    assert scores["n"] == 160


def test_bfloat16_follows_float32_with_float32_parameters(trained):
    history, _ = run(6, jnp.bfloat16)
    for (_, _, exact, _), (_, _, rough, _) in zip(trained[0], history, strict=True):
        assert rough["loss"] != exact["loss"]
        np.testing.assert_allclose(rough["loss"], exact["loss"], rtol=0.03)

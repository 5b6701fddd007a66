import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
from sklearn.metrics import f1_score, log_loss, top_k_accuracy_score

from cifar_flax.evaluation.metrics import Metrics, batch_metrics, means, validation_scores

CLASSES = 12
TOP_K = (1, 2, 3, 5)


@pytest.fixture
def predictions():
    """Logits that are often right, some of them surely; classes 8 to 11 never occur, 8 is guessed, 10 and 11 never are."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 8, 50).astype(np.int32)
    logits = rng.normal(size=(50, CLASSES)) + 2 * np.eye(CLASSES)[labels] * rng.integers(0, 4, (50, 1))
    logits[:, 8] += 1
    logits[:, 10:] -= 9
    return logits.astype(np.float32), labels


def test_batches_accumulate_to_the_means_over_all_images(predictions):
    logits, labels = predictions
    metrics, add = Metrics.empty(), jax.jit(lambda so_far, *batch: so_far.merge(batch_metrics(*batch)))
    for rows in np.split(np.arange(50), [16, 32, 48]):
        losses = optax.softmax_cross_entropy_with_integer_labels(logits[rows], labels[rows])
        metrics = add(metrics, 2 * losses, logits[rows], labels[rows], jax.nn.one_hot(labels[rows], CLASSES))
    actual = means(metrics)
    assert all(isinstance(value, float) for value in actual.values())
    probs = scipy.special.softmax(logits.astype(np.float64), 1)
    assert actual["cross_entropy"] == pytest.approx(log_loss(labels, probs, labels=range(CLASSES)), rel=1e-6)
    assert actual.pop("loss") == pytest.approx(2 * actual.pop("cross_entropy"), rel=1e-6)
    assert actual == {f"top{k}": top_k_accuracy_score(labels, logits, k=k, labels=range(CLASSES)) for k in TOP_K}


def test_a_batch_of_a_diverged_network_is_never_right():
    actual = means(batch_metrics(jnp.zeros(4), jnp.full((4, 3), jnp.nan), jnp.arange(4) % 3, jnp.eye(4, 3)))
    assert math.isnan(actual.pop("cross_entropy"))
    assert {name: value for name, value in actual.items() if value} == {}


def test_validation_scores_are_those_of_scikit_learn(predictions):
    logits, labels = predictions
    actual, predicted = validation_scores(logits, labels, 16), logits.argmax(1)
    assert 8 in predicted
    assert not {10, 11} & {*predicted}
    probs = scipy.special.softmax(logits.astype(np.float64), 1)
    assert actual["loss"] == pytest.approx(log_loss(labels, probs, labels=range(CLASSES)), rel=1e-12)
    assert actual["f1"] == pytest.approx(f1_score(labels, predicted, average="macro", zero_division=0), rel=1e-12)
    for k in TOP_K:
        assert actual[f"top{k}"] == top_k_accuracy_score(labels, logits, k=k, labels=range(CLASSES))


def test_batch_f1_is_the_batch_mean_of_the_recipe(predictions):
    """y_pred * y_true, rounded: the F1 function that Keras users copied when Keras no longer had one."""
    logits, labels = predictions
    y_pred, y_true, epsilon = scipy.special.softmax(logits.astype(np.float64), 1), np.eye(CLASSES)[labels], 1e-7
    expected = []
    for rows in np.split(np.arange(50), [16, 32, 48]):
        true_positives = np.round(np.clip(y_true[rows] * y_pred[rows], 0, 1)).sum()
        precision = true_positives / (np.round(np.clip(y_pred[rows], 0, 1)).sum() + epsilon)
        recall = true_positives / (np.round(np.clip(y_true[rows], 0, 1)).sum() + epsilon)
        expected.append(2 * precision * recall / (precision + recall + epsilon))
    assert len(set(expected)) > 2
    assert validation_scores(logits, labels, 16)["batch_f1"] == pytest.approx(np.mean(expected), rel=1e-5)


def test_a_batch_without_a_likely_class_has_a_batch_f1_of_0():
    assert validation_scores(np.zeros((4, CLASSES), np.float32), np.arange(4), 4)["batch_f1"] == 0


def test_a_diverged_network_has_validation_scores_of_0():
    actual = validation_scores(np.full((4, 3), np.nan, np.float32), np.arange(4) % 3, 2)
    assert np.isnan(actual.pop("loss"))
    assert actual.pop("temperature") == 1
    assert set(actual.values()) == {0}

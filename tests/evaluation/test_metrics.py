import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.metrics import f1_score

from cifar_flax.evaluation.metrics import Metrics, batch_metrics, label_rank, means

CLASSES = 12


@pytest.fixture
def predictions():
    """Logits that are often right, some of them surely; classes 8 to 11 never occur, 8 is guessed, 10 and 11 never are."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 8, 50).astype(np.int32)
    logits = rng.normal(size=(50, CLASSES)) + 2 * np.eye(CLASSES)[labels] * rng.integers(0, 4, (50, 1))
    logits[:, 8] += 1
    logits[:, 10:] -= 9
    return logits.astype(np.float32), labels


def in_batches(logits, labels, size=16):
    """Masked batches, added up; what fills the last one must not count."""
    found, add = Metrics.empty(CLASSES), jax.jit(lambda so_far, *batch: so_far.merge(batch_metrics(*batch)))
    for start in range(0, len(labels), size):
        rows = np.arange(start, start + size)
        mask = rows < len(labels)
        rows = np.where(mask, rows, 0)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits[rows], labels[rows])
        found = add(found, losses, logits[rows], labels[rows], mask)
    return found


def test_rank_is_the_place_of_the_label_in_a_stable_sort(predictions):
    logits, labels = predictions
    logits = np.round(logits)  # many ties
    expected = [list(np.argsort(-row, kind="stable")).index(label) for row, label in zip(logits, labels, strict=True)]
    np.testing.assert_array_equal(label_rank(jnp.asarray(logits), jnp.asarray(labels)), expected)


def test_a_network_that_has_diverged_is_never_right():
    logits, labels = jnp.full((4, 3), jnp.nan), jnp.arange(4) % 3
    assert (label_rank(logits, labels) == 3).all()
    found = means(batch_metrics(jnp.zeros(4), logits, labels))
    assert {name: value for name, value in found.items() if value} == {}


def test_masked_batches_add_up_to_the_means_over_all_examples(predictions):
    logits, labels = predictions
    metrics = in_batches(logits, labels)
    shifted = logits - logits.max(1, keepdims=True)
    expected = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(50), labels]
    order = np.argsort(-logits, axis=1)
    found = means(metrics)
    assert int(metrics.loss.count) == 50
    np.testing.assert_allclose(found["loss"], expected.mean(), rtol=1e-6)
    for k in (1, 2, 3, 5):
        assert found[f"top{k}"] == (order[:, :k] == labels[:, None]).any(1).sum() / 50
    assert all(isinstance(value, float) for value in jax.tree.leaves(found))


def test_f1_is_that_of_scikit_learn(predictions):
    logits, labels = predictions
    guesses = logits.argmax(1)
    assert 8 in guesses
    assert not {10, 11} & set(guesses)
    expected = f1_score(labels, guesses, average="macro", zero_division=0)
    np.testing.assert_allclose(means(in_batches(logits, labels))["f1"], expected, rtol=1e-12)


def test_batch_f1_is_the_mean_over_batches_of_what_the_recipe_computes(predictions):
    """y_pred * y_true, rounded, as the function reads that was passed around when Keras no longer had an F1 of its own."""
    logits, labels = predictions
    exp = np.exp(logits.astype(np.float64))
    y_pred, y_true, epsilon = exp / exp.sum(1, keepdims=True), np.eye(CLASSES)[labels], 1e-7
    expected = []
    for rows in np.split(np.arange(50), [16, 32, 48]):
        true_positives = np.round(np.clip(y_true[rows] * y_pred[rows], 0, 1)).sum()
        precision = true_positives / (np.round(np.clip(y_pred[rows], 0, 1)).sum() + epsilon)
        recall = true_positives / (np.round(np.clip(y_true[rows], 0, 1)).sum() + epsilon)
        expected.append(2 * precision * recall / (precision + recall + epsilon))
    assert len(set(expected)) > 2
    np.testing.assert_allclose(means(in_batches(logits, labels))["batch_f1"], np.mean(expected), rtol=1e-5)


def test_a_batch_without_a_likely_class_has_a_batch_f1_of_0():
    found = means(batch_metrics(jnp.zeros(4), jnp.zeros((4, CLASSES)), jnp.arange(4)))
    assert found["batch_f1"] == 0

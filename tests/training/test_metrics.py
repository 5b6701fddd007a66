import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cifar_flax.training.metrics import Metrics, batch_metrics, label_rank, means


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    return rng.normal(size=(50, 12)).astype(np.float32), rng.integers(0, 12, 50).astype(np.int32)


def test_rank_is_the_place_of_the_label_in_a_stable_sort(predictions):
    logits, labels = predictions
    logits = np.round(logits)  # many ties
    expected = [list(np.argsort(-row, kind="stable")).index(label) for row, label in zip(logits, labels, strict=True)]
    np.testing.assert_array_equal(label_rank(jnp.asarray(logits), jnp.asarray(labels)), expected)


def test_a_network_that_has_diverged_is_never_right():
    logits = jnp.full((4, 3), jnp.nan)
    assert (label_rank(logits, jnp.arange(4) % 3) == 3).all()


def test_masked_batches_add_up_to_the_means_over_all_examples(predictions):
    logits, labels = predictions
    metrics = Metrics.empty()
    for start in range(0, 50, 16):
        rows = np.arange(start, start + 16)
        mask = rows < 50
        rows = np.where(mask, rows, 0)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits[rows], labels[rows])
        metrics = metrics.merge(batch_metrics(losses, jnp.asarray(logits[rows]), jnp.asarray(labels[rows]), jnp.asarray(mask)))
    shifted = logits - logits.max(1, keepdims=True)
    expected = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(50), labels]
    order = np.argsort(-logits, axis=1)
    found = means(metrics)
    assert int(metrics.loss.count) == 50
    np.testing.assert_allclose(found["loss"], expected.mean(), rtol=1e-6)
    for k in (1, 2, 3, 5):
        assert found[f"top{k}"] == (order[:, :k] == labels[:, None]).any(1).sum() / 50
    assert all(isinstance(value, float) for value in jax.tree.leaves(found))

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from cifar_flax.config import Config
from cifar_flax.errors import ConfigError
from cifar_flax.optim.losses import balanced_weights, create_loss, example_weights

RNG = np.random.default_rng(0)
LOGITS, TARGETS = RNG.normal(size=(6, 5)).astype(np.float32), RNG.dirichlet(np.ones(5), 6).astype(np.float32)


def squared_error(logits, targets):
    """A user's own loss."""
    return ((jax.nn.softmax(logits) - targets) ** 2).sum(1)


def mean_over_batch(logits, targets):
    return squared_error(logits, targets).mean()


def in_half_precision(logits, targets):
    return squared_error(logits, targets).astype(jnp.bfloat16)


def misspelt(logits, targets):
    return jax.nn.softmax(logits, axes=1)


def config(loss="cross_entropy", smoothing=0.0):
    c = Config(loss=loss)
    c.optim.label_smoothing = smoothing
    return c


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy_is_that_of_smoothed_targets(smoothing):
    """Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, section 7, in float64."""
    z = LOGITS.astype(np.float64)
    log_probs = z - np.log(np.exp(z).sum(1, keepdims=True))
    expected = -(((1 - smoothing) * TARGETS + smoothing / 5) * log_probs).sum(1)
    np.testing.assert_allclose(create_loss(config(smoothing=smoothing))(LOGITS, TARGETS), expected, rtol=1e-5)


def test_a_users_own_loss_gets_smoothed_targets():
    loss = create_loss(config(f"{__name__}:squared_error", smoothing=0.2))
    np.testing.assert_allclose(loss(LOGITS, TARGETS), squared_error(LOGITS, 0.8 * TARGETS + 0.04), rtol=1e-5)


@pytest.mark.parametrize(("name", "returned"), [("mean_over_batch", r"float32\[\]"), ("in_half_precision", r"bfloat16\[6\]")])
def test_a_loss_that_is_not_one_number_an_example_is_refused_by_name(name, returned):
    with pytest.raises(ConfigError, match=rf"^config\.loss: {__name__}:{name} returned {returned}; expected .*float32\[6\]"):
        jax.jit(create_loss(config(f"{__name__}:{name}")))(LOGITS, TARGETS)


def test_a_loss_that_raises_is_named_with_its_place():
    with pytest.raises(
        ConfigError, match=rf"^config\.loss: {__name__}:misspelt raised TypeError: .* \(test_losses\.py, line \d+\)"
    ):
        jax.jit(create_loss(config(f"{__name__}:misspelt")))(LOGITS, TARGETS)


def test_an_unknown_loss_is_refused():
    with pytest.raises(ConfigError, match=r"^config\.loss: there is no loss 'crossentropy'; did you mean cross_entropy\?"):
        create_loss(config("crossentropy"))


def test_balanced_weights_are_those_of_scikit_learn():
    labels = np.repeat([0, 1, 3], [70, 20, 10])
    weights = balanced_weights(labels, 5)
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    np.testing.assert_allclose(weights[[0, 1, 3]], expected, rtol=1e-6)
    assert weights[[2, 4]].tolist() == [0, 0]
    assert weights[labels].mean() == pytest.approx(1)


def test_an_example_has_the_weight_of_its_class_and_a_mixture_the_mean():
    weights = np.array([1, 2, 0, 4, 0.5], np.float32)
    classes = [3, 2, 0, 1, 4, 3]
    np.testing.assert_array_equal(example_weights(np.eye(5, dtype=np.float32)[classes], weights), weights[classes])
    np.testing.assert_allclose(example_weights(TARGETS, weights), (TARGETS * weights).sum(1), rtol=1e-6)

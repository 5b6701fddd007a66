import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from cifar_flax.augment import mix

N, HEIGHT, WIDTH = 500, 16, 24
mixup_or_cutmix = jax.jit(mix.mixup_or_cutmix, static_argnames=("mixup", "cutmix", "probability"))


@pytest.fixture
def batch():
    """Image i is i everywhere and of class i."""
    images = jnp.broadcast_to(jnp.arange(float(N))[:, None, None, None], (N, HEIGHT, WIDTH, 3))
    return images, jnp.eye(N)


def shares(targets):
    """Weight of each image in its target, and its partner."""
    targets = np.asarray(targets)
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-5)
    weights = targets.diagonal().copy()
    others = targets * (1 - np.eye(N))
    assert ((others > 0).sum(1) <= 1).all()
    return weights, others.argmax(1)


def published_box(rng, alpha):
    """The share that `rand_bbox` of the authors' code leaves, on this size."""
    ratio = np.sqrt(1 - rng.beta(alpha, alpha))
    cut_w, cut_h = int(WIDTH * ratio), int(HEIGHT * ratio)
    cx, cy = rng.integers(WIDTH), rng.integers(HEIGHT)
    x1, x2 = np.clip((cx - cut_w // 2, cx - cut_w // 2 + cut_w), 0, WIDTH)
    y1, y2 = np.clip((cy - cut_h // 2, cy - cut_h // 2 + cut_h), 0, HEIGHT)
    return 1 - (x2 - x1) * (y2 - y1) / (WIDTH * HEIGHT)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixup_averages_images_and_targets_with_the_same_beta_weights(key, batch, alpha):
    images, targets = mixup_or_cutmix(key, *batch, mixup=alpha)
    weights, partner = shares(targets)
    expected = weights * np.arange(N) + (1 - weights) * partner
    np.testing.assert_allclose(images, np.broadcast_to(expected[:, None, None, None], images.shape), rtol=1e-4)
    assert stats.kstest(weights, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_partners_are_a_permutation(key, batch):
    _, targets = mixup_or_cutmix(key, *batch, mixup=1.0)
    _, partner = shares(targets)
    assert sorted(partner) == list(range(N))
    assert (partner != np.arange(N)).all()


def test_cutmix_pastes_a_box_and_counts_its_pixels(key, batch):
    images, targets = mixup_or_cutmix(key, *batch, cutmix=1.0)
    weights, partner = shares(targets)
    kept = np.asarray(images) == np.arange(N)[:, None, None, None]
    pasted = np.asarray(images) == partner[:, None, None, None]
    assert (kept | pasted).all()
    pasted = (~kept).all(-1)
    np.testing.assert_array_equal(pasted, (~kept).any(-1))
    np.testing.assert_array_equal(pasted.sum((1, 2)), pasted.any(2).sum(1) * pasted.any(1).sum(1))
    np.testing.assert_allclose(weights, 1 - pasted.mean((1, 2)), atol=1e-6)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_cutmix_boxes_are_as_large_as_the_papers(batch, alpha):
    weights = np.concatenate([shares(mixup_or_cutmix(k, *batch, cutmix=alpha)[1])[0] for k in map(jax.random.key, range(4))])
    rng = np.random.default_rng(0)
    published = [published_box(rng, alpha) for _ in range(4000)]
    assert stats.ks_2samp(weights, published).pvalue > 0.01


def test_each_batch_takes_one_of_the_two_when_both_are_on(batch):
    images, targets = batch[0][:8, :, :, :1], batch[1][:8]
    both = np.stack([mixup_or_cutmix(k, images, targets, mixup=1.0, cutmix=1.0)[0] for k in map(jax.random.key, range(200))])
    pasted = (both == np.round(both)).all((2, 3, 4))  # for each batch and image
    assert 70 < pasted.all(1).sum() < 130
    np.testing.assert_array_equal(pasted.any(1), pasted.all(1))


@pytest.mark.parametrize("how", ["mixup", "cutmix"])
def test_only_the_given_share_of_images_is_mixed_and_the_others_stay(key, batch, how):
    images, targets = mixup_or_cutmix(key, *batch, **{how: 1.0}, probability=0.25)
    whole, _ = mixup_or_cutmix(key, *batch, **{how: 1.0})
    kept = (np.asarray(targets) == np.eye(N)).all(1)
    np.testing.assert_array_equal(np.asarray(images)[kept], np.asarray(batch[0])[kept])
    np.testing.assert_array_equal(np.asarray(images)[~kept], np.asarray(whole)[~kept])
    assert 0.18 < (~kept).mean() < 0.32

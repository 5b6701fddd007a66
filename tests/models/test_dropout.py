import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from cifar_flax.models.dropout import Dropout, random_mask

SHAPE = (32, 15, 15, 24)


def drop(x, rate=0.3, seed=0, deterministic=False):
    return Dropout(rate, deterministic).apply({}, x, rngs={"dropout": jax.random.key(seed)})


@pytest.mark.parametrize("probability", [1e-4, 0.1, 0.5, 0.75, 0.9999])
def test_a_mask_is_true_with_its_probability_in_every_image_row_column_and_channel(probability):
    mask = np.asarray(random_mask(jax.random.key(1), SHAPE, probability))
    assert stats.binomtest(int(mask.sum()), mask.size, probability).pvalue > 1e-3
    for axis, size in enumerate(SHAPE):
        counts = mask.sum(tuple(i for i in range(4) if i != axis))
        expected = np.full(size, mask.sum() / size)
        if expected[0] > 20:
            assert stats.chisquare(counts, expected).pvalue > 1e-3, f"axis {axis}"


def test_masks_of_other_keys_and_of_the_same_key_shifted_have_nothing_in_common():
    masks = [np.asarray(random_mask(jax.random.key(seed), (1 << 16,), 0.5)) for seed in range(4)]
    pairs = [(a, b) for i, a in enumerate(masks) for b in masks[:i]]
    pairs += [(mask[shift:], mask[: len(mask) - shift]) for mask in masks for shift in (1, 2, 24, 360, 5400)]
    agreement = [float((a == b).mean()) for a, b in pairs]
    np.testing.assert_allclose(agreement, 0.5, atol=4.5 * 0.5 / 2**8)  # 4.5 standard deviations of 2^16 tosses


def test_probabilities_of_0_and_1_hold_in_every_place():
    assert not random_mask(jax.random.key(0), (1000,), 0.0).any()
    assert random_mask(jax.random.key(0), (100_000,), 1.0).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_values_and_gradients_that_are_kept_are_divided_by_their_share(dtype):
    x = jax.random.normal(jax.random.key(2), SHAPE).astype(dtype)
    y, vjp = jax.vjp(drop, x)
    (gradient,) = vjp(jnp.ones_like(y))
    kept = np.asarray(y != 0)
    assert kept.mean() == pytest.approx(0.7, abs=0.005)
    assert y.dtype == gradient.dtype == dtype
    np.testing.assert_allclose(y, np.where(kept, (x.astype(jnp.float32) / 0.7).astype(dtype), 0), rtol=1e-6)
    np.testing.assert_allclose(gradient, np.where(kept, jnp.asarray(1 / 0.7, dtype), 0), rtol=1e-6)


def test_evaluation_and_rate_0_drop_nothing_and_need_no_key():
    x = jnp.ones(SHAPE)
    assert Dropout(0.5, True).apply({}, x) is x
    assert Dropout(0.0, False).apply({}, x) is x


def test_seeds_side_by_side_have_the_masks_that_they_have_alone():
    keys = jax.vmap(jax.random.key)(jnp.arange(3))
    together = jax.vmap(lambda key: random_mask(key, (8, 5), 0.5))(keys)
    np.testing.assert_array_equal(together, [random_mask(key, (8, 5), 0.5) for key in keys])

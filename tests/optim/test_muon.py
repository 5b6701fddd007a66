"""Muon and its companions against NumPy, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_flax.errors import ConfigError
from cifar_flax.optim import Muon, MuonConfig, MuonSGD
from cifar_flax.optim.groups import check_patterns
from cifar_flax.optim.muon import orthogonalize
from cifar_flax.optim.optimizers import create_optimizer
from tests.optim.test_optimizers import RATE, adam, descend, sgd


def newton_schulz(matrix, steps=3):
    """Jordan's iteration on singular values alone: it leaves the singular vectors as they are."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    s = s / np.linalg.norm(s)
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u * s @ vt


@pytest.mark.parametrize("shape", [(3, 3, 2, 5), (1, 1, 4, 40), (2, 2, 6, 24)])
def test_orthogonalize_changes_singular_values_alone(shape):
    kernel = np.random.default_rng(0).normal(size=shape)
    expected = newton_schulz(kernel.reshape(-1, shape[-1])).reshape(shape)
    np.testing.assert_allclose(orthogonalize(jnp.asarray(kernel, jnp.float32), 3), expected, atol=2e-5)


def test_orthogonalize_brings_singular_values_close_to_one():
    kernel = np.random.default_rng(1).normal(size=(3, 3, 16, 32))
    values = np.linalg.svd(np.asarray(orthogonalize(jnp.asarray(kernel, jnp.float32), 5)).reshape(-1, 32), compute_uv=False)
    assert 0.6 < values.min() < values.max() < 1.3


@pytest.mark.parametrize("shape", [(3, 3, 24, 64), (2, 2, 8, 96)])
def test_orthogonalize_in_bfloat16_hardly_moves_singular_values(shape):
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    exact, rounded = (
        np.linalg.svd(np.asarray(orthogonalize(kernel, 3, dtype)).reshape(-1, shape[-1]), compute_uv=False)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    np.testing.assert_allclose(rounded, exact, atol=0.015)
    assert np.abs(rounded - exact).max() > 1e-4  # it was computed in bfloat16


def test_muon_sgd_computes_its_products_in_the_dtype_that_an_update_is_given():
    params = {"conv": jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 8, 16)), jnp.float32), "bias": jnp.ones(16)}
    optimizer = create_optimizer(MuonSGD(), lambda step: 0.1)
    updates = {
        dtype: optimizer.update(params, optimizer.init(params), params, compute_dtype=dtype)[0]
        for dtype in (jnp.float32, jnp.bfloat16)
    }
    given, rounded = updates.values()
    assert jax.tree.map(lambda x: x.dtype, rounded) == {"conv": jnp.float32, "bias": jnp.float32}
    difference = float(jnp.linalg.norm(given["conv"] - rounded["conv"]) / jnp.linalg.norm(given["conv"]))
    assert 1e-5 < difference < 0.02
    np.testing.assert_array_equal(given["bias"], rounded["bias"])


def test_muon_sgd_is_muon_for_convolutions_and_nesterov_sgd_for_the_rest():
    rng = np.random.default_rng(2)
    kernel, head, bias = rng.normal(size=(3, 3, 2, 5)), rng.normal(size=(4, 3)), rng.normal(size=3)
    params = {"conv": kernel, "head": head, "bias": bias}
    grads = [{name: rng.normal(size=p.shape) for name, p in params.items()} for _ in range(4)]
    config = MuonSGD(learning_rate=RATE, momentum=0.9, nesterov=True, weight_decay=0.05)
    config.muon = MuonConfig(learning_rate=0.03, momentum=0.6, newton_schulz_steps=3)
    params = descend(config, params, grads)

    momentum = np.zeros_like(kernel)
    for t, grad in enumerate(grads, 1):
        momentum = 0.6 * momentum + grad["conv"]
        step = newton_schulz((grad["conv"] + 0.6 * momentum).reshape(-1, 5)).reshape(kernel.shape)
        kernel = kernel * (np.sqrt(5) / np.linalg.norm(kernel)) - 0.03 / t * step
    np.testing.assert_allclose(params["conv"], kernel, atol=2e-5)
    expected = sgd(head, [grad["head"] for grad in grads], decay=0.05, momentum=0.9, nesterov=True)
    np.testing.assert_allclose(params["head"], expected, rtol=1e-4)
    expected = sgd(bias, [grad["bias"] for grad in grads], momentum=0.9, nesterov=True)
    np.testing.assert_allclose(params["bias"], expected, rtol=1e-4)


PARAMS = {"conv": {"kernel": jnp.zeros((3, 3, 2, 4))}, "readout": {"kernel": jnp.zeros((4, 3)), "bias": jnp.zeros(3)}}


def test_muon_refuses_a_network_whose_last_layer_no_pattern_names():
    with pytest.raises(ConfigError, match=r"^config\.optim\.adam: .* matches no kernel, .* conv/kernel, readout/kernel"):
        check_patterns(Muon(), PARAMS)
    check_patterns(Muon(adam=("readout/*",)), PARAMS)
    check_patterns(Muon(), {"net": {**PARAMS, "head": PARAMS["readout"]}})


def test_muon_leaves_the_kernels_that_its_patterns_name_to_adam():
    rng = np.random.default_rng(3)
    start = {"conv": {"kernel": rng.normal(size=(3, 3, 2, 4))}, "readout": {"kernel": rng.normal(size=(4, 3))}}
    grads = [{name: {"kernel": rng.normal(size=p["kernel"].shape)} for name, p in start.items()} for _ in range(3)]
    params = descend(Muon(adam=("readout/*",)), start, grads)
    expected = adam(start["readout"]["kernel"], [grad["readout"]["kernel"] for grad in grads])
    np.testing.assert_allclose(params["readout"]["kernel"], expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(params["conv"]["kernel"], adam(start["conv"]["kernel"], [g["conv"]["kernel"] for g in grads]))


def test_muon_takes_projections_of_attention_for_matrices_of_inputs_and_outputs():
    rng = np.random.default_rng(4)
    start, grads = rng.normal(size=(16, 2, 8)), [rng.normal(size=(16, 2, 8)) for _ in range(3)]
    for name in ("query", "key", "value"):
        projection = descend(Muon(adam=()), {name: {"kernel": start}}, [{name: {"kernel": g}} for g in grads])
        dense = descend(Muon(adam=()), {"kernel": start.reshape(16, 16)}, [{"kernel": g.reshape(16, 16)} for g in grads])
        np.testing.assert_allclose(projection[name]["kernel"].reshape(16, 16), dense["kernel"], rtol=1e-5, atol=1e-6)


def test_muon_leaves_the_biases_of_attention_to_adam():
    rng = np.random.default_rng(5)
    start, grads = rng.normal(size=(2, 8)), [rng.normal(size=(2, 8)) for _ in range(3)]
    params = descend(Muon(adam=()), {"query": {"bias": start}}, [{"query": {"bias": g}} for g in grads])
    np.testing.assert_allclose(params["query"]["bias"], adam(start, grads), rtol=1e-5, atol=1e-6)

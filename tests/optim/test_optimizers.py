import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cifar_flax.config import OptimConfig, Optimizer
from cifar_flax.optim.optimizers import create_optimizer

RATE = 0.1
GRADS = np.random.default_rng(0).normal(size=(5, 2, 3))
START = np.random.default_rng(1).normal(size=(2, 3))


def ours(config, grads=GRADS, start=START):
    optimizer = create_optimizer(config, lambda step: RATE / (1 + step))
    params = {"kernel": jnp.asarray(start, jnp.float32), "bias": jnp.asarray(start[0], jnp.float32)}
    state = optimizer.init(params)
    for grad in grads:
        updates, state = optimizer.update({"kernel": jnp.asarray(grad), "bias": jnp.asarray(grad[0])}, state, params)
        params = optax.apply_updates(params, updates)
    return params


def adam(start, grads, decay):
    """Kingma & Ba, algorithm 1; with the decoupled decay of Loshchilov & Hutter, algorithm 2."""
    p, m, v = start.copy(), 0.0, 0.0
    for t, g in enumerate(grads):
        rate = RATE / (1 + t)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        p = p - rate * (m / (1 - 0.9 ** (t + 1)) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-7) + decay * p)
    return p


def sgd(start, grads, decay, momentum, nesterov):
    """torch.optim.SGD's documented update."""
    p, b = start.copy(), 0.0
    for t, grad in enumerate(grads):
        g = grad + decay * p
        b = momentum * b + g
        p = p - RATE / (1 + t) * (g + momentum * b if nesterov else b)
    return p


@pytest.mark.parametrize(("name", "decay"), [(Optimizer.ADAM, 0.0), (Optimizer.ADAMW, 0.3)])
def test_adam_follows_its_paper(name, decay):
    params = ours(OptimConfig(name=name, weight_decay=decay))
    np.testing.assert_allclose(params["kernel"], adam(START, GRADS, decay), rtol=1e-5)
    np.testing.assert_allclose(params["bias"], adam(START[0], GRADS[:, 0], 0.0), rtol=1e-5)  # biases do not decay


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd_follows_its_definition(decay, momentum, nesterov):
    config = OptimConfig(name=Optimizer.SGD, weight_decay=decay, momentum=momentum, nesterov=nesterov)
    params = ours(config)
    np.testing.assert_allclose(params["kernel"], sgd(START, GRADS, decay, momentum, nesterov), rtol=1e-5)
    np.testing.assert_allclose(params["bias"], sgd(START[0], GRADS[:, 0], 0.0, momentum, nesterov), rtol=1e-5)


def test_gradients_are_clipped_by_their_global_norm():
    start = np.zeros((2, 3))
    grad = np.full((1, 2, 3), 4.0)
    params = ours(OptimConfig(name=Optimizer.SGD, clip_norm=1.5), grad, start)
    moved = np.concatenate([np.ravel(leaf) for leaf in params.values()])
    np.testing.assert_allclose(np.linalg.norm(moved), RATE * 1.5, rtol=1e-5)


def test_every_optimizer_of_the_config_can_be_built():
    for name in Optimizer:
        assert np.isfinite(ours(OptimConfig(name=name))["kernel"]).all()

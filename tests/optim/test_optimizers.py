"""Every update rule against its definition, written out in NumPy; float64, rates that change from step to step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cifar_flax.config import BatchNorm, CheckpointConfig, Config, GroupConfig
from cifar_flax.config.registry import OPTIMIZERS
from cifar_flax.models import BlockConfig, create_model
from cifar_flax.optim import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Lion, Muon, RMSprop
from cifar_flax.optim.optimizers import create_optimizer
from cifar_flax.optim.schedules import create_schedule
from cifar_flax.runtime.devices import data_parallel_mesh, replicated
from cifar_flax.training.checkpoints.manager import Checkpoints, digest
from cifar_flax.training.progress import Progress
from cifar_flax.training.state import initial_state

RATE = 0.1
SIZES = np.array([1.0, 0.05, 0.5, 0.1, 0.02])  # so different that signs and maxima depend on what is remembered
GRADS = np.random.default_rng(0).normal(size=(5, 2, 3)) * SIZES[:, None, None]
START = np.random.default_rng(1).normal(size=(2, 3))


def descend(config, params, grads):
    """The parameters after an update with each of the trees of gradients, at rates of RATE, RATE / 2, RATE / 3, ..."""
    optimizer = create_optimizer(config, lambda step: RATE / (1 + step))

    @jax.jit
    def update(params, state, grad):
        updates, state = optimizer.update(grad, state, params)
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), params)
    state = jax.jit(optimizer.init)(params)
    for grad in grads:
        params, state = update(params, state, grad)
    return params


def ours(config, grads=GRADS, start=START):
    return descend(config, {"kernel": start, "bias": start[0]}, [{"kernel": grad, "bias": grad[0]} for grad in grads])


def sgd(start, grads, decay=0.0, momentum=0.0, nesterov=False, rate=RATE):
    """torch.optim.SGD's documented update."""
    p, b = start.copy(), 0.0
    for t, grad in enumerate(grads):
        g = grad + decay * p
        b = momentum * b + g
        p = p - rate / (1 + t) * (g + momentum * b if nesterov else b)
    return p


def adam(start, grads, decay=0.0, b1=0.9, b2=0.999, eps=1e-7, rate=RATE):
    """Kingma & Ba, ICLR 2015, algorithm 1; with the decoupled decay of Loshchilov & Hutter, ICLR 2019, algorithm 2."""
    p, m, v = start.copy(), 0.0, 0.0
    for t, g in enumerate(grads, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        p = p - rate / t * (m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + decay * p)
    return p


def adamax(start, grads, b1=0.9, b2=0.999):
    """Kingma & Ba, algorithm 2; Keras adds its epsilon of 1e-7 to the norm."""
    p, m, u = start.copy(), 0.0, 0.0
    for t, g in enumerate(grads, 1):
        m, u = b1 * m + (1 - b1) * g, np.maximum(b2 * u, abs(g))
        p = p - RATE / t * m / (1 - b1**t) / (u + 1e-7)
    return p


def adagrad(start, grads, eps=1e-7):
    """Duchi et al., JMLR 2011, figure 1; the accumulator starts at Keras' 0.1."""
    p, total = start.copy(), 0.1
    for t, g in enumerate(grads, 1):
        total = total + g**2
        p = p - RATE / t * g / np.sqrt(total + eps)
    return p


def adadelta(start, grads, rho=0.95, eps=1e-7):
    """Zeiler, 2012, algorithm 1, with Keras' learning rate on top."""
    p, squares, moves = start.copy(), 0.0, 0.0
    for t, g in enumerate(grads, 1):
        squares = rho * squares + (1 - rho) * g**2
        move = np.sqrt(moves + eps) / np.sqrt(squares + eps) * g
        moves = rho * moves + (1 - rho) * move**2
        p = p - RATE / t * move
    return p


def rmsprop(start, grads, rho=0.9, momentum=0.0, eps=1e-7):
    """Hinton's lecture 6e as in Keras 2, with epsilon outside the root; momentum as in tf.keras, over whole updates."""
    p, v, move = start.copy(), 0.0, 0.0
    for t, g in enumerate(grads, 1):
        v = rho * v + (1 - rho) * g**2
        move = momentum * move + RATE / t * g / (np.sqrt(v) + eps)
        p = p - move
    return p


def lion(start, grads, decay=0.0, b1=0.9, b2=0.99, rate=RATE):
    """Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023, algorithm 2."""
    p, m = start.copy(), 0.0
    for t, g in enumerate(grads, 1):
        p = p - rate / t * (np.sign(b1 * m + (1 - b1) * g) + decay * p)
        m = b2 * m + (1 - b2) * g
    return p


RULES = {
    SGD: (sgd, [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}]),
    Adam: (adam, [{}, {"b1": 0.8, "b2": 0.95, "eps": 0.1}]),
    AdamW: (adam, [{}, {"b1": 0.8, "b2": 0.95, "eps": 0.1}]),
    Adamax: (adamax, [{}, {"b1": 0.8, "b2": 0.5}]),
    Adagrad: (adagrad, [{}, {"eps": 0.1}]),
    Adadelta: (adadelta, [{}, {"rho": 0.6, "eps": 0.1}]),
    RMSprop: (rmsprop, [{}, {"rho": 0.6, "eps": 0.1}, {"momentum": 0.9}]),
    Lion: (lion, [{}, {"b1": 0.2, "b2": 0.5}]),
}
DECAYING = (SGD, AdamW, Lion)


@pytest.mark.parametrize(
    ("spec", "options", "decay"),
    [
        (spec, options, decay)
        for spec, (_, variants) in RULES.items()
        for options in variants
        for decay in ((0.0, 0.3) if spec in DECAYING else (0.0,))
    ],
)
def test_update_rules_follow_their_definitions(spec, options, decay):
    reference = RULES[spec][0]
    params = ours(spec(**options, **({"weight_decay": decay} if decay else {})))
    decayed = {"decay": decay} if decay else {}
    np.testing.assert_allclose(params["kernel"], reference(START, GRADS, **options, **decayed), rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(params["bias"], reference(START[0], GRADS[:, 0], **options), rtol=2e-6, atol=1e-6)


def test_gradients_are_clipped_by_their_global_norm():
    start = np.zeros((2, 3))
    grad = np.full((1, 2, 3), 4.0)
    params = ours(SGD(clip_norm=1.5), grad, start)
    moved = np.concatenate([np.ravel(leaf) for leaf in params.values()])
    np.testing.assert_allclose(np.linalg.norm(moved), RATE * 1.5, rtol=1e-5)


SHAPES = {
    "block0_conv0": {"kernel": (3, 3, 4, 8), "bias": (8,)},
    "block0_norm": {"scale": (8,)},
    "dense0": {"kernel": (6, 20)},
    "logits": {"kernel": (20, 5), "bias": (5,)},
}


def draw(seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda shape: rng.normal(size=shape), SHAPES, is_leaf=lambda x: isinstance(x, tuple))


def muon(start, grads, decay=0.0, momentum=0.95, nesterov=False, rate=RATE):
    """Jordan et al., 2024, with the updates of Liu et al., 2025, eq. 4; momentum's bias is corrected as in NAdam's."""
    p, m = start.copy(), 0.0
    rows, columns = p.size // p.shape[-1], p.shape[-1]
    for t, g in enumerate(grads, 1):
        m = momentum * m + (1 - momentum) * g
        ahead = momentum * m / (1 - momentum ** (t + 1)) + (1 - momentum) * g / (1 - momentum**t)
        x = (ahead if nesterov else m).reshape(rows, columns)
        x = x / np.linalg.norm(x)
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        p = p - rate / t * (0.2 * np.sqrt(max(rows, columns)) * x.reshape(p.shape) + decay * p)
    return p


@pytest.mark.parametrize(("options", "momentum"), [({}, 0.95), ({"momentum": 0.8, "nesterov": True}, 0.8)])
def test_muon_orthogonalizes_hidden_kernels_and_leaves_the_rest_to_adam(options, momentum):
    start, grads = draw(0), [draw(seed) for seed in range(1, 5)]
    params = descend(Muon(weight_decay=0.3, b2=0.95, **options), start, grads)
    for module, leaves in SHAPES.items():
        for name in leaves:
            p, gs, decay = start[module][name], [g[module][name] for g in grads], 0.3 if name == "kernel" else 0.0
            if name == "kernel" and module != "logits":
                expected = muon(p, gs, decay, momentum, options.get("nesterov", False))
            else:
                expected = adam(p, gs, decay, b2=0.95)
            np.testing.assert_allclose(params[module][name], expected, rtol=1e-4, atol=1e-5, err_msg=f"{module}/{name}")


def test_a_muon_update_has_singular_values_near_1_and_the_size_of_adams():
    start, grads = draw(0), draw(1)
    params = descend(Muon(), start, [grads])
    for module in ("block0_conv0", "dense0"):
        kernel = start[module]["kernel"]
        moved = ((kernel - params[module]["kernel"]) / RATE).reshape(-1, kernel.shape[-1])
        assert np.sqrt((moved**2).mean()) == pytest.approx(0.2, rel=0.15)
        values = np.linalg.svd(moved / (0.2 * np.sqrt(max(moved.shape))), compute_uv=False)
        assert len(values) == min(moved.shape)
        assert (abs(values - 1) < 0.35).all()


NETWORK = (BlockConfig(features=(4,), batch_norm=BatchNorm.CONV),) * 2
GROUPS = (GroupConfig("block1_*", learning_rate=0.1, weight_decay=0.01),)
STATES = {name: OPTIMIZERS.resolve(name, "")() for name in OPTIMIZERS} | {
    "rmsprop with momentum": RMSprop(momentum=0.9),
    "frozen, in groups": AdamW(freeze=("block0_*",), groups=GROUPS, clip_norm=1.0),
    "muon, frozen, in groups": Muon(freeze=("block0_*",), groups=GROUPS, clip_norm=1.0),
}


@pytest.mark.parametrize("optim", STATES.values(), ids=map(str, STATES))
def test_states_survive_a_checkpoint_whatever_the_length_of_the_schedule(optim, tmp_path):
    config = Config(optim=optim)
    config.model.blocks = NETWORK
    model, optimizer = create_model(config.model, 10), create_optimizer(optim, lambda step: 1.0)
    image, sharding = jax.ShapeDtypeStruct((1, 8, 8, 3), np.float32), replicated(data_parallel_mesh())
    like = jax.eval_shape(lambda image: initial_state(config, model, optimizer, np.uint32(0), image), image)
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like)
    rng = np.random.default_rng(0)
    state = jax.tree.map(lambda x: jax.device_put(rng.normal(size=x.shape).astype(x.dtype), x.sharding), like)
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints:
        checkpoints.save(0, state, Progress.start(config))
        checkpoints.wait()
        assert digest(checkpoints.restore(0, like).state) == digest(state)

    optimizer = create_optimizer(optim, create_schedule(optim, 1000, 100))
    _, after = jax.eval_shape(optimizer.update, like.params, like.opt_state, like.params)
    for state in (jax.eval_shape(optimizer.init, like.params), after):
        assert jax.tree.structure(state) == jax.tree.structure(like.opt_state)
        for x, y in zip(*map(jax.tree.leaves, (state, like.opt_state)), strict=True):
            assert (x.shape, x.dtype) == (y.shape, y.dtype)

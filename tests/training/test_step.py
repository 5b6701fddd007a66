"""The training step on softmax regression, whose gradient is a line of NumPy, and on small convolutional networks."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_flax.config import Config, GlobalPool
from cifar_flax.config.types import BatchNorm, Normalization
from cifar_flax.data.batches import Batch
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.evaluation.metrics import means
from cifar_flax.models import BlockConfig, DenseConfig, create_model
from cifar_flax.optim import SGD
from cifar_flax.optim.optimizers import create_optimizer
from cifar_flax.training.state import initial_state
from cifar_flax.training.step import STEP_METRICS, TrainStep
from tests.conftest import tiny_split

RATE, SMOOTHING, DECAY, STEPS_PER_EPOCH = 0.5, 0.1, 0.7, 4
DATASET = tiny_split(160, 0)
PREPROCESSING = Preprocessing.of(DATASET, Normalization.STANDARDIZE, {})


def make_step(config, dtype=jnp.float32):
    """The network and the jitted step."""
    model, optimizer = create_model(config.model, 10, dtype), create_optimizer(config.optim, lambda step: RATE)
    return model, jax.jit(TrainStep(config, model, optimizer, PREPROCESSING, STEPS_PER_EPOCH))


def shapes(config):
    """The shapes of the state."""
    model, optimizer = create_model(config.model, 10), create_optimizer(config.optim, lambda step: RATE)
    images = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    return jax.eval_shape(lambda images: initial_state(config, model, optimizer, np.uint32(0), images), images)


def draw(config):
    """A state with random parameters and statistics, which need no compilation as initializers do; the rest is 0."""
    rng, like = np.random.default_rng(0), shapes(config)
    params = jax.tree.map(lambda x: rng.normal(0, 0.1, x.shape).astype(np.float32), like.params)
    stats = jax.tree.map(lambda x: rng.uniform(0.1, 0.4, x.shape).astype(np.float32), like.batch_stats)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    return zeros.replace(params=params, batch_stats=stats)


def run(steps, dtype=jnp.float32, **optim):
    """States and metrics after each of some steps on batches of 32, in order."""
    config = Config(optim=SGD(label_smoothing=SMOOTHING, ema_decay=DECAY, **optim))
    _, step = make_step(config, dtype)
    state = draw(config)
    history = []
    for i in range(steps):
        state, metrics = step(state, take(batch(i)))
        head = {name: np.asarray(value, np.float64) for name, value in state.params["logits"].items()}
        average = {name: np.asarray(value, np.float64) for name, value in state.ema["params"]["logits"].items()}
        history.append((head, average, named(metrics), means(state.metrics)))
    return history


def named(metrics):
    return dict(zip(STEP_METRICS, np.asarray(metrics).tolist(), strict=True))


def take(rows):
    return Batch(DATASET.images[rows], DATASET.labels[rows], rows)


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


def regression(x, labels, head, smoothing):
    """Class probabilities, targets and the gradient of softmax regression's cross-entropy by kernel and bias."""
    probabilities = softmax(x @ head["kernel"] + head["bias"])
    target = np.eye(10)[labels] * (1 - smoothing) + smoothing / 10
    error = (probabilities - target) / len(x)
    return probabilities, target, {"kernel": x.T @ error, "bias": error.sum(0)}


def norm(tree):
    return np.sqrt(sum((leaf**2).sum() for leaf in tree.values()))


@pytest.mark.parametrize("rho", [0.0, 0.4])
def test_updates_losses_and_norms_equal_numpy(rho, trained):
    history = run(6, sam_rho=rho) if rho else trained
    x, labels = inputs(), DATASET.labels
    for i in range(1, 6):
        (before, _, _, _), (after, _, metrics, _) = history[i - 1 : i + 1]
        rows = batch(i)
        probabilities, target, grads = regression(x[rows], labels[rows], before, SMOOTHING)
        # Foret et al., 2021, eq. 2 and 3; with rho = 0 this is gradient descent.
        uphill = {name: before[name] + rho * grads[name] / norm(grads) for name in before}
        _, _, descent = regression(x[rows], labels[rows], uphill, SMOOTHING)
        for name in before:
            np.testing.assert_allclose(after[name], before[name] - RATE * descent[name], atol=2e-5)
        np.testing.assert_allclose(metrics["loss"], -(target * np.log(probabilities)).sum(1).mean(), rtol=1e-4)
        unsmoothed = -np.log(probabilities[range(32), labels[rows]]).mean()
        np.testing.assert_allclose(metrics["cross_entropy"], unsmoothed, rtol=1e-4)
        np.testing.assert_allclose(metrics["grad_norm"], norm(grads), rtol=1e-4)
        assert metrics["top1"] == (probabilities.argmax(1) == labels[rows]).mean()


@pytest.mark.parametrize("microbatches", [1, 2])
def test_an_image_has_the_weight_of_its_class_whatever_a_teacher_says_of_it(microbatches):
    config, weights = Config(optim=SGD()), np.linspace(0.5, 2, 10, dtype=np.float32)
    config.train.microbatches = microbatches
    model, optimizer = create_model(config.model, 10, jnp.float32), create_optimizer(config.optim, lambda step: RATE)
    unsure = SimpleNamespace(targets=lambda variables, images, targets: jnp.full((32, 10), 0.1))
    step = TrainStep(config, model, optimizer, PREPROCESSING, STEPS_PER_EPOCH, class_weights=weights, teacher=unsure)
    state, rows = draw(config), batch(0)
    _, metrics = jax.jit(step)(state, take(rows), {})
    probabilities = softmax(inputs()[rows] @ state.params["logits"]["kernel"] + state.params["logits"]["bias"])
    expected = (weights[DATASET.labels[rows]] * -0.1 * np.log(probabilities).sum(1)).mean()
    np.testing.assert_allclose(named(metrics)["loss"], expected, rtol=1e-4)


def test_the_average_forgets_the_start_and_then_decays(trained):
    history = trained
    for i in range(1, 6):
        decay = min(DECAY, (1 + i) / (10 + i))
        expected = decay * history[i - 1][1]["kernel"] + (1 - decay) * history[i][0]["kernel"]
        np.testing.assert_allclose(history[i][1]["kernel"], expected, atol=1e-6)


def test_metrics_accumulate_over_an_epoch_and_begin_anew_in_the_next(trained):
    losses = [metrics["loss"] for _, _, metrics, _ in trained]
    for i, (_, _, _, so_far) in enumerate(trained):
        begin = i // STEPS_PER_EPOCH * STEPS_PER_EPOCH
        np.testing.assert_allclose(so_far["loss"], np.mean(losses[begin : i + 1]), rtol=1e-5)


def test_bfloat16_follows_float32_with_float32_parameters(trained):
    history = run(6, jnp.bfloat16)
    for (_, _, exact, _), (_, _, rough, _) in zip(trained, history, strict=True):
        assert rough["loss"] != exact["loss"]
        np.testing.assert_allclose(rough["loss"], exact["loss"], rtol=0.03)


def first_step(config):
    """The network, and the states before and after a step, with the step's metrics; all arrays are on the host."""
    model, step = make_step(config)
    before = draw(config)
    after, metrics = step(before, take(batch(0)))
    return model, before, jax.device_get(after), named(metrics)


def convnet(*features, **optim):
    """Blocks of a convolution with BatchNorm each, then the mean of each feature map."""
    config = Config(optim=SGD(**optim))
    config.model.blocks = tuple(BlockConfig(features=(n,), batch_norm=BatchNorm.CONV) for n in features)
    config.model.global_pool = GlobalPool.MEAN
    return config


def test_sharpness_awareness_leaves_metrics_and_statistics_to_the_first_pass():
    (_, _, plain, metrics), (_, _, sharp, sharp_metrics) = (first_step(convnet(4, sam_rho=rho)) for rho in (0.0, 0.5))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), sharp.batch_stats, plain.batch_stats)
    assert {name: pytest.approx(value, rel=1e-4) for name, value in metrics.items()} == sharp_metrics
    assert not np.allclose(sharp.params["logits"]["kernel"], plain.params["logits"]["kernel"], rtol=1e-3)


def test_both_passes_of_sharpness_awareness_share_dropout_mask_and_augmentation():
    configs = [Config(optim=SGD(sam_rho=rho)) for rho in (0.0, 1e-5)]
    for config in configs:
        config.model.dense = (DenseConfig(8, dropout=0.5),)
        config.augment.flip = True
    (_, before, plain, _), (_, _, near, _) = map(first_step, configs)
    for name in ("dense0", "logits"):  # as they differ by the length of the climb only, so do the updates
        moved = [state.params[name]["kernel"] - before.params[name]["kernel"] for state in (plain, near)]
        np.testing.assert_allclose(moved[1], moved[0], atol=1e-3 * abs(moved[0]).max())


def test_a_frozen_base_is_a_fixed_map_with_its_running_statistics():
    model, before, after, metrics = first_step(convnet(4, 6, freeze=("block*",)))
    for name in before.params:
        if name != "logits":
            jax.tree.map(np.testing.assert_array_equal, after.params[name], before.params[name])
    jax.tree.map(np.testing.assert_array_equal, after.batch_stats, before.batch_stats)

    head = before.params["logits"]
    reading = {"kernel": np.eye(6, 10, dtype=np.float32), "bias": np.zeros(10, np.float32)}  # logits that are the features
    images = inputs()[batch(0)].reshape(-1, 8, 8, 3).astype(np.float32)
    variables = {"params": {**before.params, "logits": reading}, "batch_stats": before.batch_stats}
    features = np.asarray(model.apply(variables, images, train=False), np.float64)[:, :6]
    _, _, grads = regression(features, DATASET.labels[batch(0)], head, 0.0)
    for name, grad in grads.items():
        np.testing.assert_allclose(after.params["logits"][name], head[name] - RATE * grad, atol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], norm(grads), rtol=1e-4)


def test_batch_norm_above_the_frozen_layers_trains_on():
    _, before, after, _ = first_step(convnet(4, 6, freeze=("block0_*", "block1_conv0_norm/bias")))
    for name, stats in before.batch_stats.items():
        for old, new in zip(*map(jax.tree.leaves, (stats, after.batch_stats[name])), strict=True):
            assert np.array_equal(old, new) == name.startswith("block0_")
    assert not np.array_equal(after.params["block1_conv0"]["kernel"], before.params["block1_conv0"]["kernel"])


@pytest.mark.parametrize(
    ("freeze", "convolutions"),
    [
        ((), 2 + 2 + 1),  # two forward, the gradients of two kernels, that of the map between them
        (("block0_*",), 2 + 1),
        (("block*",), 2),
        (("*_norm/*", "*/bias"), 2 + 2 + 1),  # the kernels below still train
    ],
)
def test_frozen_layers_cost_no_backward_pass(freeze, convolutions):
    config = convnet(4, 6, freeze=freeze)
    program = make_step(config)[-1].lower(shapes(config), take(batch(0)))
    assert program.as_text().count("stablehlo.convolution") == convolutions


@pytest.mark.parametrize("rho", [0.0, 0.4])
def test_microbatches_count_each_image_once(rho):
    """Without BatchNorm and dropout the parts add up to the batch."""
    (_, _, all_at_once, metrics), (_, _, in_parts, metrics_of_parts) = (
        first_step(microbatched(count, sam_rho=rho)) for count in (1, 4)
    )
    for left, right in zip(jax.tree.leaves(all_at_once.params), jax.tree.leaves(in_parts.params), strict=True):
        np.testing.assert_allclose(right, left, atol=2e-6)
    assert metrics_of_parts == {name: pytest.approx(value, rel=1e-5) for name, value in metrics.items()}


def microbatched(count, **optim):
    config = Config(optim=SGD(label_smoothing=SMOOTHING, **optim))
    config.model.blocks, config.model.global_pool = (BlockConfig(features=(4,)),), GlobalPool.MEAN
    config.augment.flip, config.augment.mixup = True, 0.5  # drawn for the whole batch
    config.train.microbatches = count
    return config


def test_each_microbatch_has_its_own_batch_statistics():
    """The running ones move towards those of each part, one after another."""
    config = convnet(4)
    config.train.microbatches = 2
    model, before, after, _ = first_step(config)
    momentum, stats = config.model.batch_norm_momentum, jax.tree.map(np.float64, before.batch_stats["block0_conv0_norm"])
    images = inputs()[batch(0)].reshape(-1, 8, 8, 3).astype(np.float32)
    for part in (images[0::2], images[1::2]):
        _, updates = model.apply(
            {"params": before.params, "batch_stats": before.batch_stats}, part, train=True, mutable=["batch_stats"]
        )
        moved = updates["batch_stats"]["block0_conv0_norm"]
        of_part = {
            name: (moved[name] - momentum * before.batch_stats["block0_conv0_norm"][name]) / (1 - momentum) for name in stats
        }
        stats = {name: momentum * stats[name] + (1 - momentum) * of_part[name] for name in stats}
    for name, value in stats.items():
        np.testing.assert_allclose(after.batch_stats["block0_conv0_norm"][name], value, rtol=1e-3)


def test_one_program_serves_every_seed():
    config = Config()
    config.model.dense = (DenseConfig(8, dropout=0.5),)
    _, step = make_step(config)
    traced = []
    step = jax.jit(lambda state, batch, step=step: (traced.append(1), step(state, batch))[1])
    state = draw(config)
    losses = {seed: named(step(state.replace(seed=np.uint32(seed)), take(batch(0)))[1])["loss"] for seed in (0, 1, 2**32 - 1)}
    assert len(set(losses.values())) == 3
    assert len(traced) == 1

"""The training step on softmax regression, whose gradient is a line of NumPy, and on small convolutional networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_flax.config import BlockConfig, Config, DenseConfig, OptimConfig
from cifar_flax.config.types import BatchNorm, Features, Normalization, Optimizer
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.evaluation.evaluate import evaluate
from cifar_flax.evaluation.metrics import means
from cifar_flax.models import create_model
from cifar_flax.optim.optimizers import create_optimizer
from cifar_flax.runtime.devices import data_parallel_mesh, put_dataset, replicated
from cifar_flax.training.state import abstract_state
from cifar_flax.training.step import make_eval_step, make_train_step
from tests.conftest import tiny_split

RATE, SMOOTHING, DECAY, STEPS_PER_EPOCH = 0.5, 0.1, 0.7, 4
DATASET = tiny_split(160, 0)
MESH = data_parallel_mesh()


PREPROCESSING = Preprocessing.of(DATASET, Normalization.STANDARDIZE, {})


def make_step(config, dtype=jnp.float32):
    """The network and the jitted step."""
    model, optimizer = create_model(config.model, 10, dtype), create_optimizer(config.optim, lambda step: RATE)
    return model, make_train_step(config, model, optimizer, PREPROCESSING, STEPS_PER_EPOCH, dtype, MESH)


def draw(config):
    """A state with random parameters and statistics, which need no compilation as initializers do; the rest is 0."""
    rng, like = np.random.default_rng(0), abstract_state(config, PREPROCESSING, MESH)
    params = jax.tree.map(lambda x: rng.normal(0, 0.1, x.shape).astype(np.float32), like.params)
    stats = jax.tree.map(lambda x: rng.uniform(0.1, 0.4, x.shape).astype(np.float32), like.batch_stats)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    return zeros.replace(params=params, batch_stats=stats)


def run(steps, dtype=jnp.float32, **optim):
    """States and metrics after each of some steps on batches of 32, in order."""
    config = Config(optim=OptimConfig(name=Optimizer.SGD, label_smoothing=SMOOTHING, ema_decay=DECAY, **optim))
    model, step = make_step(config, dtype)
    state, data = jax.device_put(draw(config), replicated(MESH)), put_dataset(DATASET, MESH)
    history = []
    for i in range(steps):
        state, metrics = step(state, data, batch(i))
        head = {name: np.asarray(value, np.float64) for name, value in state.params["logits"].items()}
        average = {name: np.asarray(value, np.float64) for name, value in state.ema["params"]["logits"].items()}
        history.append((head, average, {name: float(value) for name, value in metrics.items()}, means(state.metrics)))
    scores = evaluate(make_eval_step(model, PREPROCESSING, dtype, MESH), state.eval_variables, data, 50, MESH)
    return history, scores


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
    history, _ = run(6, sam_rho=rho) if rho else trained
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
        np.testing.assert_allclose(metrics["grad_norm"], norm(grads), rtol=1e-4)
        assert metrics["top1"] == (probabilities.argmax(1) == labels[rows]).mean()


def test_the_average_forgets_the_start_and_then_decays(trained):
    history, _ = trained
    for i in range(1, 6):
        decay = min(DECAY, (1 + i) / (10 + i))
        expected = decay * history[i - 1][1]["kernel"] + (1 - decay) * history[i][0]["kernel"]
        np.testing.assert_allclose(history[i][1]["kernel"], expected, atol=1e-6)


def test_metrics_accumulate_over_an_epoch_and_begin_anew_in_the_next(trained):
    losses = [metrics["loss"] for _, _, metrics, _ in trained[0]]
    for i, (_, _, _, so_far) in enumerate(trained[0]):
        begin = i // STEPS_PER_EPOCH * STEPS_PER_EPOCH
        np.testing.assert_allclose(so_far["loss"], np.mean(losses[begin : i + 1]), rtol=1e-5)


def test_evaluation_uses_the_average_and_plain_cross_entropy(trained):
    history, scores = trained
    average = history[-1][1]
    probabilities = softmax(inputs() @ average["kernel"] + average["bias"])
    np.testing.assert_allclose(scores["loss"], -np.log(probabilities[np.arange(160), DATASET.labels]).mean(), rtol=1e-4)
    assert scores["n"] == 160


def test_bfloat16_follows_float32_with_float32_parameters(trained):
    history, _ = run(6, jnp.bfloat16)
    for (_, _, exact, _), (_, _, rough, _) in zip(trained[0], history, strict=True):
        assert rough["loss"] != exact["loss"]
        np.testing.assert_allclose(rough["loss"], exact["loss"], rtol=0.03)


def first_step(config):
    """The network, and the states before and after a step, with the step's metrics; all arrays are on the host."""
    model, step = make_step(config)
    before = draw(config)
    after, metrics = step(jax.device_put(before, replicated(MESH)), put_dataset(DATASET, MESH), batch(0))
    return model, before, *jax.device_get((after, metrics))


def convnet(*features, **optim):
    """Blocks of a convolution with BatchNorm each, then the mean of each feature map."""
    config = Config(optim=OptimConfig(name=Optimizer.SGD, **optim))
    config.model.blocks = tuple(BlockConfig(features=(n,), batch_norm=BatchNorm.CONV) for n in features)
    config.model.features = Features.MEAN
    return config


def test_sharpness_awareness_leaves_metrics_and_statistics_to_the_first_pass():
    (_, _, plain, metrics), (_, _, sharp, sharp_metrics) = (first_step(convnet(4, sam_rho=rho)) for rho in (0.0, 0.5))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), sharp.batch_stats, plain.batch_stats)
    assert {name: pytest.approx(float(value), rel=1e-4) for name, value in metrics.items()} == sharp_metrics
    assert not np.allclose(sharp.params["logits"]["kernel"], plain.params["logits"]["kernel"], rtol=1e-3)


def test_sharpness_awareness_has_one_dropout_mask_and_one_augmentation_for_both_passes():
    configs = [Config(optim=OptimConfig(name=Optimizer.SGD, sam_rho=rho)) for rho in (0.0, 1e-5)]
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
    program = make_step(config)[-1].lower(abstract_state(config, PREPROCESSING, MESH), put_dataset(DATASET, MESH), batch(0))
    assert program.as_text().count("stablehlo.convolution") == convolutions

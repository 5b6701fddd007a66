import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from cifar_flax.config import Activation, BatchNorm, GlobalPool, Padding
from cifar_flax.errors import UserError
from cifar_flax.models import BlockConfig, ConvNet, DenseConfig, create_model, describe, initialize


def init(config, shape=(32, 32, 3), classes=10):
    model = create_model(config, classes)
    return model, initialize(model, jax.random.key(0), jnp.zeros((1, *shape)))


def reference_conv(images, kernel, bias, padding):
    """SciPy's correlation, summed over input channels: an independent convolution."""
    mode = {"SAME": "same", "VALID": "valid"}[padding]
    return np.stack(
        [
            np.stack(
                [
                    sum(correlate2d(image[:, :, i], kernel[:, :, i, o], mode) for i in range(kernel.shape[2])) + bias[o]
                    for o in range(kernel.shape[3])
                ],
                axis=-1,
            )
            for image in images
        ]
    )


def reference_pool(x, window):
    n, h, w, c = x.shape
    out = np.zeros((n, h // window, w // window, c))
    for i in range(h // window):
        for j in range(w // window):
            out[:, i, j] = x[:, i * window : (i + 1) * window, j * window : (j + 1) * window].max((1, 2))
    return out


def test_forward_equals_scipy():
    config = ConvNet(
        activation=Activation.ELU,
        blocks=(BlockConfig(features=(4, 5), kernel_sizes=(3, 2), paddings=(Padding.SAME, Padding.VALID), pool=2),),
        dense=(DenseConfig(7), DenseConfig(6, Activation.TANH)),
    )
    model, variables = init(config, (9, 9, 3))
    images = np.random.default_rng(0).normal(size=(2, 9, 9, 3))
    params = jax.tree.map(np.asarray, variables["params"])

    def elu(x):
        return np.where(x > 0, x, np.expm1(x))

    x = elu(reference_conv(images, params["block0_conv0"]["kernel"], params["block0_conv0"]["bias"], "SAME"))
    x = elu(reference_conv(x, params["block0_conv1"]["kernel"], params["block0_conv1"]["bias"], "VALID"))
    x = reference_pool(x, 2).reshape(2, -1)
    x = elu(x @ params["dense0"]["kernel"] + params["dense0"]["bias"])
    x = np.tanh(x @ params["dense1"]["kernel"] + params["dense1"]["bias"])
    expected = x @ params["logits"]["kernel"] + params["logits"]["bias"]
    np.testing.assert_allclose(model.apply(variables, images, train=False), expected, rtol=1e-4, atol=1e-5)


def test_batch_norm_in_training_normalises_by_the_batch_and_keeps_running_stats():
    config = ConvNet(
        activation=Activation.LINEAR,
        blocks=(BlockConfig(features=(4,), batch_norm=BatchNorm.CONV, pool=1),),
        global_pool=GlobalPool.FLATTEN,
        batch_norm_momentum=0.9,
    )
    model, variables = init(config, (6, 6, 3))
    images = np.random.default_rng(0).normal(size=(8, 6, 6, 3))
    kernel = np.asarray(variables["params"]["block0_conv0"]["kernel"])
    x = reference_conv(images, kernel, np.zeros(4), "SAME")
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    logits, updates = model.apply(variables, images, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)})
    normalised = ((x - mean) / np.sqrt(variance + 1e-3)).reshape(8, -1)
    head = variables["params"]["logits"]
    np.testing.assert_allclose(logits, normalised @ head["kernel"] + head["bias"], rtol=1e-3, atol=1e-4)
    running = updates["batch_stats"]["block0_conv0_norm"]
    np.testing.assert_allclose(running["mean"], 0.1 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(running["var"], 0.9 + 0.1 * variance, rtol=1e-4)


@pytest.mark.parametrize(("pool", "reduce"), [(GlobalPool.MEAN, np.mean), (GlobalPool.MAX, np.max)])
def test_global_pooling_is_the_reduction_of_numpy_over_a_map(pool, reduce):
    config = ConvNet(activation=Activation.LINEAR, blocks=(BlockConfig(features=(4,), pool=1),), global_pool=pool)
    model, variables = init(config, (5, 5, 1))
    images = np.random.default_rng(0).normal(size=(2, 5, 5, 1))
    conv, head = variables["params"]["block0_conv0"], variables["params"]["logits"]
    x = reduce(reference_conv(images, np.asarray(conv["kernel"]), np.asarray(conv["bias"]), "SAME"), axis=(1, 2))
    logits = model.apply(variables, images, train=False)
    np.testing.assert_allclose(logits, x @ head["kernel"] + head["bias"], rtol=1e-4, atol=1e-5)


def test_dropout_works_in_training_only():
    config = ConvNet(dense=(DenseConfig(64, dropout=0.5),))
    model, variables = init(config)
    images = jnp.ones((1, 32, 32, 3))
    a, b = (model.apply(variables, images, train=True, rngs={"dropout": jax.random.key(i)}) for i in range(2))
    assert not np.allclose(a, b)
    np.testing.assert_array_equal(*(model.apply(variables, images, train=False) for _ in range(2)))


def test_glorot_uniform_kernels_stay_within_their_limit():
    _, variables = init(ConvNet(dense=(DenseConfig(100),)))
    kernel, limit = variables["params"]["dense0"]["kernel"], np.sqrt(6 / (3072 + 100))
    assert limit * 0.99 < np.abs(kernel).max() <= limit


def test_bfloat16_computes_in_bfloat16_from_float32_parameters():
    config = ConvNet(blocks=(BlockConfig(features=(4,)),), dense=(DenseConfig(8),))
    model = create_model(config, 10, jnp.bfloat16)
    variables = initialize(model, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    logits = model.apply(variables, images, train=False)
    exact = create_model(config, 10).apply(variables, images, train=False)
    assert logits.dtype == jnp.float32
    assert 0 < np.abs(logits - exact).max() < 0.05


def test_images_too_small_for_the_network_are_named():
    model = create_model(ConvNet(blocks=tuple(BlockConfig() for _ in range(4))), 10)
    with pytest.raises(UserError, match="8x8 images"):
        describe(model, (8, 8, 3))

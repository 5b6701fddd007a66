"""Networks of other kinds than ours, by ONNX Runtime and by JAX."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest

from cifar_flax.errors import UserError
from cifar_flax.export.onnx_operations import TRANSLATIONS
from cifar_flax.export.onnx_writer import to_onnx

SHAPE = (16, 16, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, *SHAPE), dtype=np.uint8)


class MlpMixer(nn.Module):
    """Tolstikhin et al., 2021: layers over patches, by transposition, and over channels."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(16, (4, 4), strides=(4, 4))(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        for _ in range(2):
            y = nn.Dense(8)(jnp.swapaxes(nn.LayerNorm()(x), 1, 2))
            x = x + jnp.swapaxes(nn.Dense(x.shape[1])(nn.gelu(y)), 1, 2)
            x = x + nn.Dense(16)(nn.gelu(nn.Dense(32)(nn.LayerNorm()(x)), approximate=False))
        return nn.Dense(10)(nn.LayerNorm()(x).mean(1))


class ViT(nn.Module):
    """Dosovitskiy et al., 2021: attention over patches, with a class token."""

    @nn.compact
    def __call__(self, x, train):
        n, height, width, channels = x.shape
        x = x.reshape(n, height // 4, 4, width // 4, 4, channels).transpose(0, 1, 3, 2, 4, 5).reshape(n, -1, 16 * channels)
        x = nn.Dense(24)(x)
        token = self.param("token", nn.initializers.normal(1.0), (1, 1, 24))
        x = jnp.concatenate([jnp.tile(token, (n, 1, 1)), x], axis=1)
        x = x + self.param("position", nn.initializers.normal(1.0), (1, x.shape[1], 24))
        for _ in range(2):
            y = nn.LayerNorm()(x)
            x = x + nn.MultiHeadDotProductAttention(num_heads=3)(y, y)
            y = nn.Dropout(0.1, deterministic=not train)(nn.gelu(nn.Dense(48)(nn.LayerNorm()(x))))
            x = x + nn.Dense(24)(y)
        return nn.Dense(10)(nn.LayerNorm()(x)[:, 0])


class Pooling(nn.Module):
    """Flax' pooling with padding, grouped convolution and normalisation, and less usual activations."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.max_pool(nn.relu(nn.GroupNorm(4)(nn.Conv(8, (3, 3))(x))), (3, 3), (2, 2), "SAME")
        x = nn.avg_pool(nn.silu(nn.Conv(8, (3, 3), feature_group_count=4)(x)), (3, 3), (2, 2), "SAME")
        x = nn.softplus(x) + jnp.clip(x, -1, 1) + nn.hard_swish(x) + nn.leaky_relu(x) + nn.elu(x)
        return nn.Dense(10)(jnp.concatenate([x.mean((1, 2)), x.max((1, 2)), jnp.linalg.norm(x, axis=(1, 2))], -1))


@pytest.mark.parametrize("model", [MlpMixer(), ViT(), Pooling()], ids=lambda model: type(model).__name__)
def test_a_network_gives_its_logits_for_any_number_of_images(model):
    variables = model.init(jax.random.key(0), jnp.zeros((1, *SHAPE)), train=False)
    key = jax.random.key(1)
    variables = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(key, x.shape), variables)  # no bias of 0, no scale of 1

    def logits(images):
        return model.apply(variables, images / jnp.float32(255), train=False)

    session = onnxruntime.InferenceSession(to_onnx(logits, SHAPE, {}))
    for images in (IMAGES, IMAGES[:1]):
        np.testing.assert_allclose(session.run(None, {"images": images})[0], logits(images), rtol=1e-4, atol=1e-4)


def convolved(x, **options):
    options = {"padding": "SAME", "window_strides": (1, 1), **options}
    return jax.lax.conv_general_dilated(x, jnp.ones((3, 3, 3, 2)), dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)


def pooled(x, padding):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), ((0, 0), padding, (0, 0), (0, 0)))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.take(x, jnp.array([0, -2]), axis=1).sum((1, 2)),
        lambda x: jnp.sum(x, axis=()).sum((1, 2)),
        lambda x: sum(jax.lax.optimization_barrier((x.mean((1, 2)), x.max((1, 2))))),
        lambda x: x.mean((1, 2)) + jnp.split(jnp.arange(6.0), 2)[1] + jax.lax.top_k(jnp.array([3.0, 1, 2]), 3)[0],
    ],
    ids=["negative index", "sum over no axis", "barrier", "constants of several outputs"],
)
def test_less_usual_parameters_give_what_jax_gives(function):
    images = jnp.asarray(IMAGES, jnp.float32)
    written = onnxruntime.InferenceSession(to_onnx(lambda x: function(x.astype("float32")), SHAPE, {}))
    np.testing.assert_allclose(written.run(None, {"images": IMAGES})[0], function(images), rtol=1e-4)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda x: jax.lax.conv_transpose(x, jnp.ones((3, 3, 3, 2)), (2, 2), "SAME"),
            "only a convolution of images that are not spread out",
        ),
        (lambda x: convolved(x, padding=((-1, 0), (0, 0))), "only a convolution whose padding is not negative"),
        (lambda x: pooled(x, (2, 0)), "only pooling with padding of 0 or more that is smaller than the window"),
        (lambda x: pooled(x, (-1, 0)), "only pooling with padding of 0 or more that is smaller than the window"),
        (lambda x: jnp.take(x, jnp.array([0, 16]), axis=1), "only indexing within an array"),
        (lambda x: jax.lax.slice_in_dim(x, 1, x.shape[0]), "only slicing of other axes than that of the images"),
        (lambda x: jax.lax.select_n((x > 9).astype("int32"), x, -x), "only a choice by a condition"),
        (lambda x: x + x.shape[0], "no translation of JAX' dim_as_value"),
        (lambda x: x.astype("bfloat16"), r"does not become a valid model \(.*elem type"),
    ],
)
def test_parameters_without_a_translation_are_refused_in_a_line(function, message):
    with pytest.raises(UserError, match=f"^ONNX: .*{message}.*take --format=stablehlo$"):
        to_onnx(lambda images: function(images.astype("float32")).sum((1, 2)), SHAPE, {})


def test_a_translation_that_gives_another_shape_than_jax_is_refused(monkeypatch):
    monkeypatch.setitem(TRANSLATIONS, "conv_general_dilated", lambda graph, equation, x, kernel: graph.node("Neg", x))
    with pytest.raises(UserError, match=r"does not become a valid model \(.*differ.*\); take --format=stablehlo$"):
        to_onnx(lambda x: convolved(x.astype("float32"), padding="VALID").sum((1, 2)), SHAPE, {})


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: jnp.cumsum(x.sum((2, 3)), axis=1), "no translation of JAX' cumsum"),
        (lambda x: jnp.concatenate([x, x]).sum((1, 2)) + jnp.zeros((2 * x.shape[0], 1)), r"shape \(2\*batch, 1\)"),
        (lambda x: x.sum((1, 2))[:, jnp.argmax(x.sum((0, 1, 2)))], "no translation of JAX' argmax"),
        (
            lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 1, 3), (1, 1, 1, 1), "VALID").sum((1, 2)),
            "only pooling over rows and columns",
        ),
    ],
)
def test_an_operation_without_a_translation_is_named(function, message):
    with pytest.raises(UserError, match=f"{message}.*take --format=stablehlo"):
        to_onnx(lambda images: function(images.astype("float32")), SHAPE, {})

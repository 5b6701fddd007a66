"""Networks of other kinds than ours, by ONNX Runtime and by JAX."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest

from cifar_flax.errors import UserError
from cifar_flax.export.onnx_operations import TRANSLATIONS
from cifar_flax.export.onnx_writer import to_onnx
from cifar_flax.runtime.compilation import jit

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


class ConvNeXt(nn.Module):
    """Liu et al., 2022: depthwise convolution, layer scale; with squeeze and excitation, GLU and remat."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(12, (4, 4), strides=(4, 4))(x)
        for _ in range(2):
            y = nn.LayerNorm()(nn.Conv(12, (7, 7), feature_group_count=12)(x))
            y = nn.glu(nn.remat(nn.Dense)(48)(y))
            x = x + self.param(f"scale{_}", nn.initializers.constant(0.1), (12,)) * nn.Dense(12)(y)
        squeezed = nn.Dense(12)(nn.relu(nn.Dense(3)(x.mean((1, 2), keepdims=True))))
        return nn.Dense(10)((x * nn.hard_sigmoid(squeezed)).min((1, 2)))


class Windows(nn.Module):
    """Attention within shifted windows, which are so many images more, with queries, keys and values from one layer."""

    @nn.compact
    def __call__(self, x, train):
        n = x.shape[0]
        x = jnp.roll(nn.Conv(12, (2, 2), strides=(2, 2))(x), (-1, -1), (1, 2))
        x = x.reshape(n, 2, 4, 2, 4, 12).transpose(0, 1, 3, 2, 4, 5).reshape(4 * n, 16, 3, 4)
        queries, keys, values = jnp.split(nn.Dense(12)(x), 3, axis=-1)
        weights = nn.softmax(jnp.einsum("nqhd,nkhd->nhqk", queries, keys))
        x = jnp.einsum("nhqk,nkhd->nqhd", weights, values).reshape(n, 4, 16, 12)
        return nn.logsumexp(nn.Dense(10)(x), axis=(1, 2))


class Recurrent(nn.Module):
    """Rows of pixels in their order, after layers that Flax scans over."""

    @nn.compact
    def __call__(self, x, train):
        layers = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)
        x, _ = layers()(x, None)
        return nn.Dense(10)(nn.RNN(nn.LSTMCell(8))(x.reshape(x.shape[0], 16, -1))[:, -1])


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.relu(nn.Dense(3)(x)), None


class Decoder(nn.Module):
    """Transposed convolutions, and images at another scale."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(4, (3, 3), kernel_dilation=(2, 2), padding="REFLECT")(x[:, :15, 1::2])
        for kernel, strides, padding in (((4, 4), (2, 2), "SAME"), ((2, 3), (3, 1), "VALID"), ((3, 3), (2, 2), "CIRCULAR")):
            x = nn.softplus(nn.ConvTranspose(4, kernel, strides, padding)(x))
        x = jax.image.resize(x, (x.shape[0], 10, 11, 4), "bilinear")
        return nn.Dense(10)(nn.avg_pool(x, (3, 3), (2, 2), "SAME", count_include_pad=False).max((1, 2)))


NETWORKS = [MlpMixer(), ViT(), Pooling(), ConvNeXt(), Windows(), Recurrent(), Decoder()]


@pytest.mark.parametrize("model", NETWORKS, ids=lambda model: type(model).__name__)
def test_a_network_gives_its_logits_for_any_number_of_images(model):
    def initialize(key):
        variables = model.init(key, jnp.zeros((1, *SHAPE)), train=False)
        return jax.tree.map(lambda x: x + 0.1 * jax.random.normal(key, x.shape), variables)  # no bias of 0, no scale of 1

    variables = jit(initialize)(jax.random.key(0))

    def logits(images):
        return model.apply(variables, images / jnp.float32(255), train=False)

    session = onnxruntime.InferenceSession(to_onnx(logits, SHAPE, {}))
    expected = jit(logits)(IMAGES)
    for n in (len(IMAGES), 1):
        np.testing.assert_allclose(session.run(None, {"images": IMAGES[:n]})[0], expected[:n], rtol=1e-4, atol=1e-4)


def convolved(x, **options):
    options = {"padding": "SAME", "window_strides": (1, 1), "dimension_numbers": ("NHWC", "HWIO", "NHWC"), **options}
    return jax.lax.conv_general_dilated(x, jnp.arange(54.0).reshape(3, 3, 3, 2) / 50, **options)


def pooled(x, start, operation, **options):
    options = {"window_dimensions": (1, 2, 3, 1), "window_strides": (1, 2, 2, 1), "padding": "SAME", **options}
    return jax.lax.reduce_window(x, start, operation, **options)


OPERATIONS = {  # of images, float32 in [-1, 1), each exact
    "negative index": lambda x: jnp.take(x, jnp.array([0, -2]), axis=1),
    "indices of two axes": lambda x: x[:, jnp.array([0, 3, 3]), jnp.array([2, 1, 0])],
    "steps of two axes": lambda x: x[:, 1::2, ::3],
    "steps backwards": lambda x: x[:, ::-2, 3, 1:],
    "index behind the last": lambda x: x.at[:, jnp.array([1, 20])].get(mode="clip"),
    "index of the first of other axes": lambda x: (x.transpose(1, 3, 0, 2)[3] + x.transpose(3, 0, 1, 2)[:, :, 0]).swapaxes(
        0, 1
    ),
    "dynamic slice": lambda x: jax.lax.dynamic_slice_in_dim(x, 14, 4, 1),
    "Fortran's order": lambda x: x.reshape(x.shape[0], 48, 16).reshape((x.shape[0], 16, 48), order="F"),
    "sum over no axis": lambda x: jnp.sum(x, axis=()),
    "barrier": lambda x: sum(jax.lax.optimization_barrier((x, -x.max(0, keepdims=True)))),
    "constants of several outputs": lambda x: (
        x + jnp.split(jnp.arange(6.0), 2)[1] + jax.lax.top_k(jnp.array([3.0, 1, 2]), 3)[0]
    ),
    "convolution spread out": lambda x: convolved(x, lhs_dilation=(2, 3), padding=((2, 1), (-1, 4)), rhs_dilation=(1, 2)),
    "convolution cut off": lambda x: convolved(x, padding=((-1, 0), (0, -2))),
    "channels first": lambda x: convolved(x.transpose(0, 3, 1, 2), dimension_numbers=("NCHW", "HWIO", "NCHW")),
    "one axis": lambda x: nn.max_pool(
        nn.Conv(4, (3,)).bind({"params": {"kernel": jnp.ones((3, 3, 4)), "bias": jnp.ones(4)}})(x.reshape(x.shape[0], -1, 3)),
        (2,),
        (2,),
    ),
    "pooling with much padding": lambda x: pooled(x, -jnp.inf, jax.lax.max, padding=((0, 0), (3, 0), (-1, 2), (0, 0))),
    "pooling of channels": lambda x: pooled(x, 0.0, jax.lax.add, window_dimensions=(1, 1, 1, 2), window_strides=(1,) * 4),
    "smallest of spread windows": lambda x: pooled(x, jnp.inf, jax.lax.min, window_dilation=(1, 2, 3, 1)),
    "sum of what is spread out": lambda x: pooled(x, 0.0, jax.lax.add, base_dilation=(1, 2, 1, 1)),
    "padding by an edge": lambda x: jnp.pad(x, ((0, 0), (1, 2), (2, 0), (0, 0)), "edge"),
    "padding by a mirror": lambda x: jnp.pad(x, ((0, 0), (1, 2), (2, 0), (0, 3)), "symmetric"),
    "padding between and less": lambda x: jax.lax.pad(x, 0.5, ((0, 0, 0), (-2, 3, 1), (20, -25, 0), (0, 0, 2))),
    "sums so far": lambda x: jnp.cumsum(x, axis=1) + jax.lax.cumsum(x, axis=2, reverse=True),
    "extremes": lambda x: (
        (x - x.min((1, 2), keepdims=True)) / jnp.ptp(x, axis=(1, 2), keepdims=True) + x.prod(3, keepdims=True)
    ),
    "order": lambda x: jnp.sort(x, axis=1)[:, 3:] + jnp.median(x, axis=(1, 2), keepdims=True),
    "largest": lambda x: sum(jax.lax.top_k(jnp.round(x.reshape(x.shape[0], -1), 1), 40)),
    "place of the largest": lambda x: jnp.argmax(jnp.round(x, 1), 1) - jnp.argmin(x, 1) + 0.5,
    "powers": lambda x: jnp.abs(x) ** 1.5 + 2**x + (x + 2) ** -2 + jnp.cbrt(x) + jnp.exp2(x) + jnp.log2(x + 2),
    "mean of powers": lambda x: (jnp.maximum(x, 1e-3) ** jnp.float32(3)).mean((1, 2)) ** (1 / 3),
    "rounding": lambda x: jnp.round(4 * x) + jax.lax.round(4 * x) + jnp.floor(3 * x) - jnp.ceil(2 * x) + jnp.sign(x),
    "remainders": lambda x: jnp.mod(x, 0.31415) + jax.lax.rem(x, 0.31415) + x // 0.25,
    "trigonometry": lambda x: jnp.sin(x) + jnp.cos(x) + jnp.tan(x) + jnp.arcsin(x) + jnp.arccos(x) + jnp.arctan(x),
    "hyperbolic": lambda x: jnp.sinh(x) + jnp.cosh(x) + jnp.arcsinh(x) + jnp.arccosh(x + 3) + jnp.arctanh(x / 2),
    "conditions": lambda x: jnp.where((x > 0.5) & ~(x < 0.6) | (x == x[:, :1]) ^ (x != 0), x, 0) + jnp.nan_to_num(x),
    "conditions of all": lambda x: (x > 0.9).any((1, 2)) + 2.0 * (x > -0.99).all((1, 2)),
    "bounds": lambda x: jax.lax.clamp(-0.5, x, 0.25) + jnp.clip(x, 0, 1),
    "side by side": lambda x: jnp.stack([x, x * x], axis=2),
    "unused keys": lambda x: x + 0 * jax.random.split(jax.random.key(0)).shape[0],
    "loop": lambda x: jax.lax.fori_loop(0, 3, lambda i, y: jnp.sin(y) + i, x),
    "gradient of its own": lambda x: nn.activation.relu(x) + jax.checkpoint(jnp.tanh)(x),
}


@pytest.mark.parametrize("function", OPERATIONS.values(), ids=OPERATIONS)
def test_an_operation_gives_what_jax_gives(function):
    def rows(images):
        return function(images / jnp.float32(128) - 1).reshape(images.shape[0], -1).astype("float32")

    written = onnxruntime.InferenceSession(to_onnx(rows, SHAPE, {}))
    np.testing.assert_allclose(written.run(None, {"images": IMAGES})[0], jit(rows)(IMAGES), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: pooled(x, 0.0, jax.lax.add, window_dilation=(1, 2, 1, 1)), "only pooling over .* without gaps"),
        (lambda x: pooled(x, -jnp.inf, jax.lax.max, window_dimensions=(2, 2, 2, 2)), "only pooling over one to three axes"),
        (lambda x: jnp.take(x, jnp.array([0, 16]), axis=1), "only indexing within an array"),
        (
            lambda x: jnp.take_along_axis(x, jnp.argmax(x, 1, keepdims=True), 1),
            "only indexing by constants, of all images alike",
        ),
        (lambda x: jax.lax.slice_in_dim(x, 1, x.shape[0]), "only slicing of other axes than that of the images"),
        (
            lambda x: jnp.split(jnp.concatenate([x, -x]), 2)[1],
            "only splitting of other axes than that of the images",
        ),
        (
            lambda x: jax.lax.reduce_or(x.astype("int32"), axes=(1,)).astype("float32")[:, None],
            "only a reduction by and, or by or, of truth values",
        ),
        (
            lambda x: pooled(x.astype("int32"), jnp.iinfo("int32").min, jax.lax.max) / 2,
            "only pooling of floating-point numbers",
        ),
        (lambda x: jnp.pad(x, ((1, 0), (0, 0), (0, 0), (0, 0))), "only padding of other axes than that of the images"),
        (lambda x: jax.lax.select_n((x > 9).astype("int32"), x, -x), "only a choice by a condition"),
        (lambda x: jax.lax.sort((x, -x), dimension=1)[1], "only sorting of one array"),
        (lambda x: x + x.shape[0], "no translation of JAX' dim_as_value"),
        (lambda x: jnp.cumprod(x, axis=1), "no translation of JAX' cumprod"),
        (lambda x: jax.lax.while_loop(lambda y: y.max() > 1, lambda y: y / 2, x), "no translation of JAX' while"),
        (lambda x: x.astype("bfloat16"), r"does not become a valid model \(.*elem type"),
        (lambda x: x + jnp.zeros((x.shape[0] + 1, 1, 1, 1))[1:], r"an array of batch \+ 1 rows or columns"),
    ],
)
def test_parameters_without_a_translation_are_refused_in_a_line(function, message):
    with pytest.raises(UserError, match=f"^ONNX: .*{message}.*take --format=stablehlo$"):
        to_onnx(lambda images: function(images.astype("float32")).sum((1, 2)), SHAPE, {})


def test_weights_that_are_used_often_are_stored_once():
    kernel = np.arange(9, dtype=np.float32).reshape(3, 3)
    model = onnx.load_model_from_string(to_onnx(lambda x: (x[..., 0, :] / 9 @ kernel @ kernel @ kernel).sum(1), SHAPE, {}))
    assert [list(constant.dims) for constant in model.graph.initializer].count([3, 3]) == 1


def test_a_translation_that_gives_another_shape_than_jax_is_refused(monkeypatch):
    monkeypatch.setitem(TRANSLATIONS, "conv_general_dilated", lambda graph, equation, x, kernel: graph.node("Neg", x))
    with pytest.raises(UserError, match=r"does not become a valid model \(.*differ.*\); take --format=stablehlo$"):
        to_onnx(lambda x: convolved(x.astype("float32"), padding="VALID").sum((1, 2)), SHAPE, {})

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_flax.models import convolution
from cifar_flax.models.convolution import add_bias, convolve
from cifar_flax.runtime import compilation

ONEDNN = pytest.mark.skipif(not compilation.uses_onednn(jnp.bfloat16), reason="no fast bfloat16, or no oneDNN in this jaxlib")


def reference(x, kernel, padding, stride, g):
    """The result in float64, and its gradients given that of the result: a sum over the taps of the kernel, in NumPy."""
    size, (n, height, width, _) = len(kernel), x.shape
    before, after = {"SAME": ((size - 1) // 2, size // 2), "VALID": (0, 0)}.get(padding, (padding, padding))
    padded = np.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))
    rows, columns = ((pixels + before + after - size) // stride + 1 for pixels in (height, width))
    y, dpadded, dkernel = np.zeros((n, rows, columns, kernel.shape[3])), np.zeros(padded.shape), np.zeros(kernel.shape)
    g = g(y.shape)
    for i, j in np.ndindex(size, size):
        across = (slice(start, start + (n - 1) * stride + 1, stride) for start, n in ((i, rows), (j, columns)))
        window = (slice(None), *across)
        y += padded[window] @ kernel[i, j]
        dpadded[window] += g @ kernel[i, j].T
        dkernel[i, j] = np.tensordot(padded[window], g, ((0, 1, 2), (0, 1, 2)))
    return y, dpadded[:, before : before + height, before : before + width], dkernel, g


SIZES = [(1, 5, 4), (2, 5, 5), (2, 1, 1), (3, 2, 2), (3, 1, 2), (3, 2, 1), (3, 3, 2), (4, 6, 5), (5, 3, 3), (5, 4, 2)]
SHAPES = [
    *((*size, "SAME", 1) for size in SIZES),
    *((size, height, width, "VALID", 1) for size, height, width in [(1, 5, 4), (2, 5, 5), (3, 4, 3), (4, 4, 7)]),
    *((3, height, width, 1, stride) for height, width in [(7, 5), (8, 8), (2, 3)] for stride in (1, 2, 3)),
    (1, 7, 8, 0, 2),
    (5, 9, 6, 2, 2),
    (2, 5, 7, "VALID", 2),
]
CHANNELS = [(2, 3, 4), (1, 1, 8), (3, 8, 1)]  # images, channels, features
CASES = list(zip(SHAPES, itertools.cycle(CHANNELS)))


def check(case, counts, dtype, tolerance):
    size, height, width, padding, stride = case
    n, channels, features = counts
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.normal(size=shape).astype(dtype).astype(np.float64)  # what `dtype` can hold

    x, kernel = draw(n, height, width, channels), draw(size, size, channels, features)
    *expected, g = reference(x, kernel, padding, stride, lambda shape: draw(*shape))

    def values(x, kernel, g):
        y, pullback = jax.vjp(lambda x, kernel: convolve(x, kernel, padding, stride), x, kernel)
        return y, *pullback(g)

    program = compilation.jit(values, dtype)
    for actual, right in zip(program(*(a.astype(dtype) for a in (x, kernel, g))), expected, strict=True):
        assert actual.dtype == dtype
        assert actual.shape == right.shape
        np.testing.assert_allclose(np.float64(actual), right, atol=tolerance * max(1, np.abs(right).max()))


@pytest.mark.parametrize(("case", "counts"), CASES)
def test_float32_equals_numpy_in_float64_with_its_gradients(case, counts):
    check(case, counts, jnp.float32, 1e-5)


@pytest.mark.parametrize("case", SHAPES)
def test_kernels_on_few_channels_equal_numpy_in_float64_with_their_gradients(case):
    size = case[0]
    channels = max(1, convolution.MAX_WINDOW // size**2)
    check(case, (2, channels, convolution.MIN_FEATURES), jnp.float32, 1e-5)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a form for CPUs")
@pytest.mark.parametrize(("channels", "features", "convolutions"), [(3, 32, 1), (4, 32, 2), (3, 31, 2)])
def test_the_gradient_of_a_kernel_on_few_channels_is_a_product(channels, features, convolutions):
    x, kernel = jnp.ones((2, 6, 6, channels)), jnp.ones((3, 3, channels, features))

    def loss(kernel):
        return (convolve(x, kernel, "SAME") ** 2).sum()

    assert compilation.jit(jax.grad(loss)).lower(kernel).compile().as_text().count(" convolution(") == convolutions


@pytest.mark.parametrize(("case", "counts"), CASES)
def test_bfloat16_equals_numpy_in_float64_with_its_gradients(case, counts):
    """To its precision; on a processor with AMX in the forms for oneDNN."""
    check(case, counts, jnp.bfloat16, 2**-7)


@pytest.mark.parametrize(("case", "counts"), CASES)
def test_the_forms_for_onednn_equal_numpy_in_float64_on_any_processor(case, counts, monkeypatch):
    monkeypatch.setattr(compilation, "uses_onednn", lambda dtype: True)
    monkeypatch.setattr(compilation, "compiler_options", lambda dtype: {})
    check(case, counts, jnp.float32, 1e-5)


@pytest.mark.parametrize("side", [(3, 3), (3, 2), (2, 3), (1, 3)])
@pytest.mark.parametrize("size", [3, 4, 5])
def test_a_small_map_of_a_large_batch_is_a_product_for_each_of_its_places(size, side, monkeypatch):
    monkeypatch.setattr(compilation, "uses_onednn", lambda dtype: True)
    monkeypatch.setattr(compilation, "compiler_options", lambda dtype: {})
    monkeypatch.setattr(convolution, "MIN_CHANNELS", 1)
    case = (size, *side, "SAME", 1)
    check(case, (convolution.MIN_IMAGES, 3, 4), jnp.float32, 1e-5)
    x = jnp.zeros((convolution.MIN_IMAGES, *side, 3))
    text = str(jax.make_jaxpr(lambda x: convolve(x, jnp.zeros((size, size, 3, 4)), "SAME"))(x))
    assert "conv_general_dilated" not in text


@pytest.mark.parametrize(("images", "parts"), [(12, 4), (7, 7), (13, 1)])
def test_the_gradient_of_a_kernel_is_the_sum_over_the_parts_of_a_batch(images, parts, monkeypatch):
    monkeypatch.setattr(compilation, "uses_onednn", lambda dtype: True)
    monkeypatch.setattr(compilation, "compiler_options", lambda dtype: {})
    stacked = images * 6 * 5 * 3 * 2 * 4  # bytes of all pixels under a row of the kernel
    monkeypatch.setattr(convolution, "STACK_BYTES", stacked // (3 if parts == 1 else parts))
    check((3, 6, 5, "SAME", 1), (images, 2, 3), jnp.float32, 1e-5)
    x, kernel = jnp.zeros((images, 6, 5, 2)), jnp.zeros((3, 3, 2, 3))
    text = str(jax.make_jaxpr(jax.grad(lambda kernel: convolve(x, kernel, "SAME").sum()))(kernel))
    assert (f"length={parts}" in text) == (parts > 1)


@ONEDNN
@pytest.mark.parametrize(("shape", "features", "size", "padding", "stride"), [
    ((64, 16, 16, 64), 128, 3, "SAME", 1),
    ((64, 15, 13, 64), 128, 3, "VALID", 1),
    ((64, 15, 15, 64), 128, 2, "SAME", 1),
    ((64, 16, 16, 64), 128, 3, 1, 2),
    ((64, 16, 16, 64), 128, 1, 0, 2),
])  # fmt: skip
def test_onednn_runs_the_convolution_and_both_gradients(shape, features, size, padding, stride):
    x, kernel = jnp.ones(shape, jnp.bfloat16), jnp.ones((size, size, shape[-1], features), jnp.bfloat16)

    def loss(x, kernel):
        return (convolve(x, kernel, padding, stride).astype(jnp.float32) ** 2).sum()

    text = compilation.jit(jax.grad(loss, (0, 1)), jnp.bfloat16).lower(x, kernel).compile().as_text()
    left = [line for line in text.splitlines() if " convolution(" in line or " dot(" in line]
    assert not left, left
    assert text.count('custom_call_target="__onednn$convolution"') == 2  # forward, and the gradient by the input
    assert text.count('custom_call_target="__onednn$matmul"') == size


@ONEDNN
@pytest.mark.parametrize(("side", "products"), [(2, 1), (3, 9)])
def test_onednn_runs_the_products_of_tiny_maps(side, products):
    x, kernel = jnp.ones((64, side, side, 256), jnp.bfloat16), jnp.ones((3, 3, 256, 256), jnp.bfloat16)

    def loss(x, kernel):
        return (convolve(x, kernel, "SAME").astype(jnp.float32) ** 2).sum()

    text = compilation.jit(jax.grad(loss, (0, 1)), jnp.bfloat16).lower(x, kernel).compile().as_text()
    assert not [line for line in text.splitlines() if " convolution(" in line or " dot(" in line]
    assert text.count('custom_call_target="__onednn$matmul"') == 3 * products  # the result, and a gradient by each factor


def test_vmapped_convolutions_equal_separate_ones_with_their_gradients():
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 3, 6, 5, 4)), rng.normal(size=(2, 3, 3, 4, 5))

    def loss(x, kernel):
        return (convolve(x, kernel, "SAME").astype(jnp.float32) ** 2).sum()

    for dtype, tolerance in ((jnp.float32, 1e-5), (jnp.bfloat16, 2**-6)):
        arguments = jnp.asarray(x, dtype), jnp.asarray(kernel, dtype)
        vmapped = compilation.jit(jax.vmap(jax.grad(loss, (0, 1))), dtype)(*arguments)
        for i in range(2):
            single = compilation.jit(jax.grad(loss, (0, 1)), dtype)(*(a[i] for a in arguments))
            for actual, expected in zip(vmapped, single, strict=True):
                largest = float(jnp.abs(expected).max())
                np.testing.assert_allclose(np.float64(actual[i]), np.float64(expected), atol=tolerance * largest)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_gradient_of_a_bias_is_the_sum_over_all_pixels(dtype):
    g = np.asarray(jnp.asarray(np.random.default_rng(0).normal(size=(64, 9, 7, 20)), dtype), np.float64)

    def gradient(g):
        return jax.vjp(add_bias, g, jnp.zeros(20, dtype))[1](g)

    dx, dbias = compilation.jit(gradient, dtype)(jnp.asarray(g, dtype))
    np.testing.assert_array_equal(np.float64(dx), g)
    expected = g.sum((0, 1, 2))
    tolerance = 1e-5 if dtype == jnp.float32 else 2**-7
    np.testing.assert_allclose(np.float64(dbias), expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize(("pixels", "padding", "stride"), [(5, "SAME", 2), (2, "SAME", 2), (5, 3, 1)])
def test_paddings_that_no_network_has_are_refused(pixels, padding, stride):
    with pytest.raises(ValueError, match="a map of 2x2 is too small for a kernel of 3x3 with 0 pixels of padding"):
        convolve(jnp.ones((1, 2, 2, 1)), jnp.ones((3, 3, 1, 4)), 0)
    with pytest.raises(ValueError, match="fewer than 1 pixels, not 1 with stride 1"):
        convolve(jnp.ones((1, 5, 5, 2)), jnp.ones((1, 1, 2, 4)), 1)
    with pytest.raises(ValueError, match="SAME with stride 1, VALID or fewer than 3 pixels"):
        convolve(jnp.ones((1, pixels, pixels, 1)), jnp.ones((3, 3, 1, 1)), padding, stride)

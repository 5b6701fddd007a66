import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_flax.analysis.report.filters import activation_picture, kernel_picture
from cifar_flax.analysis.report.layers import Layer, call_layers, leaf_layers
from cifar_flax.config import Config
from cifar_flax.models import BlockConfig, DenseConfig, create_model, initialize
from cifar_flax.models.first_layer import GAP

SHAPE = (8, 8, 3)


@pytest.fixture
def network():
    config = Config().model
    config.blocks, config.dense = (BlockConfig(features=(5, 4), dropout=0.2),), (DenseConfig(6),)
    model = create_model(config, 10)
    images = jax.random.normal(jax.random.key(1), (2, *SHAPE))
    return model, initialize(model, jax.random.key(0), images), images


class Transformer(nn.Module):
    """Keyword arguments, tuples, a layer called twice, remat and scan, as in networks of users."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(6, (4, 4), (4, 4), name="patches")(x).reshape(len(x), -1, 6)
        x = x + nn.MultiHeadDotProductAttention(2, name="attention")(inputs_q=x)
        mlp = nn.Dense(6, name="mlp")
        x = nn.remat(nn.Dense)(6, name="remat")(mlp(mlp(x)))
        _, x = nn.RNN(nn.GRUCell(6), name="recurrent", return_carry=True)(x)
        return nn.Dense(3, name="head")(x.mean(1))


def test_outputs_and_parameters_are_those_of_flax(network):
    model, variables, images = network
    layers = call_layers(model, variables, images, jnp.float32)
    assert [layer.name for layer in layers] == ["block0_conv0", "block0_conv1", "Dropout_0", "dense0", "logits"]
    _, state = model.apply(variables, images, train=False, capture_intermediates=True, mutable=["intermediates"])
    for layer in layers:
        np.testing.assert_allclose(layer.output, state["intermediates"][layer.name]["__call__"][0], rtol=1e-5, atol=1e-6)
    assert [layer.parameters for layer in layers] == [3 * 3 * 3 * 5 + 5, 3 * 3 * 5 * 4 + 4, 0, 64 * 6 + 6, 6 * 10 + 10]


def test_layers_of_a_users_network_are_called():
    model, images = Transformer(), jnp.ones((2, *SHAPE))
    layers = call_layers(model, initialize(model, jax.random.key(0), images), images, jnp.float32)
    names = [layer.name for layer in layers if "attention" not in layer.name]
    assert names == ["patches", "mlp", "mlp", "remat", "head"]
    first, second = (layer.output for layer in layers if layer.name == "mlp")
    assert not np.array_equal(first, second)


def test_a_network_of_which_flax_captures_nothing_has_no_layers():
    def forward(self, x, train):
        return x.mean((1, 2)) @ self.param("kernel", nn.initializers.lecun_normal(), (3, 4))

    model, images = type("Renamed", (nn.Module,), {"__call__": nn.compact(forward)})(), jnp.ones((2, *SHAPE))
    assert call_layers(model, initialize(model, jax.random.key(0), images), images, jnp.float32) == []


def test_layers_with_submodules_are_no_leaves():
    parent, child, other = (Layer(path, np.zeros(0), 0) for path in (("stage",), ("stage", "conv"), ("logits",)))
    assert leaf_layers([parent, child, other]) == [child, other]


def test_the_kernel_of_the_largest_norm_is_drawn_first():
    kernels = np.full((3, 2, 2, 3), 0.1, np.float32)
    kernels[2, 0, 0] = (5, 0, -5)
    caption, picture = kernel_picture(kernels)
    assert caption == "3 of 2 \N{MULTIPLICATION SIGN} 2 \N{MULTIPLICATION SIGN} 3 each"
    np.testing.assert_array_equal(picture[GAP, GAP], (255, 128, 0))


def test_activations_are_the_feature_maps_that_vary_most_first():
    output = np.random.default_rng(0).normal(size=(1, 32, 32, 5)) * (1, 3, 9, 2, 1)
    caption, picture = activation_picture(Layer(("conv",), output, 0))
    assert caption.startswith("conv: 5 of 5 maps of 32")
    assert picture.shape == (32, 5 * 32 + 4 * 2, 4)
    assert not picture[:, 32, 3].any()  # transparent between maps
    first = output[0, ..., 2]
    assert np.unravel_index(picture[:, :32, 0].argmax(), first.shape) == np.unravel_index(first.argmax(), first.shape)


@pytest.mark.parametrize(("shape", "drawn"), [((6,), (6, 41)), ((130,), (20, 447)), ((16, 12), (16, 12))])
def test_units_and_tokens_are_drawn_in_full(shape, drawn):
    output = np.random.default_rng(0).normal(size=(1, *shape))
    _, picture = activation_picture(Layer(("dense",), output, 0))
    assert picture.shape == (*drawn, 4)
    assert {picture[..., 0].min(), picture[..., 0].max()} == {0, 255}


def test_activations_that_are_not_finite_are_drawn():
    _, picture = activation_picture(Layer(("conv",), np.full((1, 8, 8, 5), np.nan), 0))
    assert picture.shape == (32, 5 * 32 + 4 * 2, 4)


class Scale(nn.Module):
    """Returns a parameter."""

    @nn.compact
    def __call__(self):
        return self.param("scale", nn.initializers.ones, ())


class Scaled(nn.Module):
    """A network whose logits are multiplied by a parameter."""

    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(3, name="logits")(x.reshape(len(x), -1)) * Scale(name="scale")()


def test_a_layer_that_returns_no_row_an_image_is_left_out():
    model, images = Scaled(), jnp.zeros((1, *SHAPE))
    layers = call_layers(model, model.init(jax.random.key(0), images, False), images, jnp.float32)
    assert [layer.name for layer in layers] == ["logits"]

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_flax.analysis.report.filters import draw_activations, draw_weights, first_weights
from cifar_flax.analysis.report.layers import call_layers, leaf_layers
from cifar_flax.config import BlockConfig, Config, DenseConfig
from cifar_flax.models import create_model, initialize

SHAPE = (8, 8, 3)


def network(blocks):
    config = Config().model
    config.blocks, config.dense = blocks, (DenseConfig(6),)
    model = create_model(config, 10)
    images = jax.random.normal(jax.random.key(1), (2, *SHAPE))
    return model, initialize(model, jax.random.key(0), images), images


@pytest.fixture
def conv():
    return network((BlockConfig(features=(5, 4), dropout=0.2),))


def test_layers_are_what_flax_captures(conv):
    model, variables, images = conv
    layers = call_layers(model, variables, images)
    assert [layer.name for layer in layers] == ["block0_conv0", "block0_conv1", "Dropout_0", "dense0", "logits"]
    _, captured = model.apply(variables, images, train=False, capture_intermediates=True, mutable=["intermediates"])
    for layer in layers:
        expected = captured["intermediates"][layer.name]["__call__"][0]
        np.testing.assert_allclose(layer.output, expected, rtol=1e-5, atol=1e-6)
    assert [layer.input_shape for layer in layers] == [(8, 8, 3), (8, 8, 5), (4, 4, 4), (64,), (6,)]
    assert [layer.parameters for layer in layers] == [3 * 3 * 3 * 5 + 5, 3 * 3 * 5 * 4 + 4, 0, 64 * 6 + 6, 6 * 10 + 10]


def test_parts_are_told_from_wholes(conv):
    layers = call_layers(*conv)
    whole = dataclasses.replace(layers[0], path=("stage",))
    part = dataclasses.replace(layers[0], path=("stage", "conv"))
    assert leaf_layers([whole, part, *layers]) == [part, *layers]


def test_filters_keep_their_pixels_and_the_strongest_come_first(conv):
    layers = call_layers(*conv)
    kernel = np.asarray(layers[0].params["kernel"])
    strongest = kernel[..., np.argmax(np.linalg.norm(kernel.reshape(-1, 5), axis=0))]
    shown = first_weights(layers, SHAPE)
    assert shown.shape == (5, 3, 3, 3)
    np.testing.assert_allclose(shown[0], 0.5 + strongest / (2 * abs(strongest).max()), atol=1e-6)
    assert len(draw_weights(shown).axes) == 5


def test_units_of_a_dense_first_layer_are_pictures_of_what_they_look_for():
    model, variables, images = network(())
    layers = call_layers(model, variables, images)
    shown = first_weights(layers, SHAPE)
    assert shown.shape == (6, *SHAPE)
    kernel = np.asarray(variables["params"]["dense0"]["kernel"])
    unit = int(np.argmax(np.linalg.norm(kernel, axis=0)))
    likeness = (np.asarray(images[0]) * (shown[0] - 0.5)).sum() * 2 * abs(kernel[:, unit]).max()
    assert likeness == pytest.approx(float(layers[0].output[0, unit]), rel=1e-4)  # biases begin at 0


def test_first_weights_of_other_channels_are_left_out(conv):
    layers = call_layers(*conv)
    assert first_weights(layers[1:], SHAPE) is None
    assert first_weights([], SHAPE) is None


def test_activations_are_the_maps_that_vary_most_or_all_units(conv):
    model, variables, images = conv
    layers = call_layers(model, variables, images)
    maps = draw_activations(layers[0]).axes
    assert len(maps) == 5
    strongest = layers[0].output[0][..., np.argmax(layers[0].output[0].std((0, 1)))]
    np.testing.assert_array_equal(maps[0].images[0].get_array(), strongest)
    units = draw_activations(layers[-1]).axes[0].images[0].get_array()
    np.testing.assert_array_equal(units, layers[-1].output[:1])
    broken = dataclasses.replace(layers[0], output=np.full((1, 8, 8, 5), np.nan))
    assert len(draw_activations(broken).axes) == 5
    assert jnp.isnan(broken.output).all()

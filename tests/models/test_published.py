"""Every network has the number of parameters that its write-up or paper, or Keras' or PyTorch's summary of it, gives."""

import jax
import numpy as np
import pytest

from cifar_flax.cli import load_config
from cifar_flax.models import create_model, describe, initialize
from tests.conftest import ROOT

PARAMETERS = {
    "wide": 6_777_060,
    "wide:published": 6_777_060,
    "wide:short": 6_777_060,
    "narrow": 1_297_028,
    "deep": 600_964,
    "three_conv": 1_193_636,
    "three_conv:short": 1_193_636,
    "three_conv:lr_1e-3": 1_193_636,
    "three_conv:dropout": 1_193_636,
    "three_conv:decay": 1_193_636,
    "three_conv:sgd": 1_193_636,
    "three_conv:sgd_tuned": 1_193_636,
    "three_conv:no_augment": 1_193_636,
    "small_kernels": 5_329_418,
    "small_kernels:relu": 5_329_418,
    "mlp": 318_410,
    "two_conv": 226_166,
    "bigger_conv": 403_414,
    "bigger_conv:dropout": 403_414,
    "bigger_conv:adam": 403_414,
    "vgg_bn": 8_737_572,
    "vgg_bn:short": 8_737_572,
    "vgg_bn:base": 8_737_572,
    "vgg_bn:augment": 8_737_572,
    "vgg_bn:dropout": 8_737_572,
    "fast": 8_605_368,  # of which 288 are the whitening kernel
    "resnet18": 11_220_132,
    "wrn_28_10": 36_536_884,
}
STATISTICS = {"vgg_bn": 1_920, "fast": 2 * 2_944, "resnet18": 2 * 4_800, "wrn_28_10": 2 * 8_976}
CLASSES = {"cifar10": 10, "cifar100": 100}


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name):
    stem, _, variant = name.partition(":")
    config = load_config(str(ROOT / "configs" / f"{stem}.py:{variant}"))
    model = create_model(config.model, CLASSES[config.data.name])
    images = np.zeros((1, 32, 32, 3), np.float32)
    variables = jax.eval_shape(lambda: initialize(model, jax.random.key(0), images))
    assert count(variables["params"]) == PARAMETERS[name]
    assert count(variables.get("batch_stats", {})) == STATISTICS.get(stem, 0)


def test_the_table_of_layers_gives_the_total():
    config = load_config(str(ROOT / "configs" / "wide.py"))
    assert "6,777,060" in describe(create_model(config.model, 100), (32, 32, 3))

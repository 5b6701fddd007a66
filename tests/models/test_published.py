"""Every network has the number of parameters that its write-up or paper, or Keras' or PyTorch's summary of it, gives."""

import jax
import numpy as np
import pytest

from cifar_flax.config.files import load_config
from cifar_flax.models import create_model, describe, initialize
from tests.conftest import ROOT
from tests.e2e.test_configs import EXPERIMENTS

PARAMETERS = {
    "quickstart": 446_084,  # ours; no bias where BatchNorm has one
    "wide": 6_777_060,
    "wide:published": 6_777_060,
    "wide:short": 6_777_060,
    "narrow": 1_297_028,
    "narrow:short": 1_297_028,
    "deep": 600_964,
    "deep:short": 600_964,
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
    "vgg_bn:search": 8_737_572,
    "vgg_bn:two_dense": 9_000_228,  # 512 * 512 + 512 more
    "vgg_bn:one_block": 8_479_268,  # 38,720 of convolutions, 128 of BatchNorm, 16 * 16 * 64 * 512 + 512, 512 * 100 + 100
    "vgg_bn:five_blocks": 15_031_588,  # 3 * (9 * 512 * 512 + 512) + 1,024 more, and 3 * 512 * 512 fewer: a map of 1 x 1
    "vgg_bn:baseline": 1_193_636,  # three_conv's
    "fast": 8_605_368,  # of which 288 are the whitening kernel
    "fast:published": 8_608_312,  # and a scale for each of the 2,944 channels that BatchNorm normalises
    "fast:bundled": 8_605_368,
    "fast:select": 8_605_368,
    "fast:sprint": 8_605_368,
    "fast:long": 10_960_760,
    "fast:taught": 8_605_368,
    "fast:finetune": 8_605_368,
    "fast:head": 8_605_368,
    "fast10": 1_971_640,  # the 1.97 M that cifar10-airbench says
    "fast10:select": 1_971_640,
    "fast10:long": 12_717_752,  # 9 * (24 * 128 + 2 * 128 ** 2 + 128 * 512 + 5 * 512 ** 2), 3,456 biases, 312 and 5,120
    "resnet18": 11_220_132,
    "wrn_28_10": 36_536_884,
    **dict.fromkeys(("summit", "summit:select", "summit:hour"), 36_536_884),  # wrn_28_10's
    "summit:minute": 10_960_760,  # fast:long's
}
STATISTICS = {  # a mean and a variance a channel that BatchNorm normalises
    **dict.fromkeys((name for name in PARAMETERS if name.startswith("vgg_bn")), 1_920),
    "vgg_bn:one_block": 2 * 64,
    "vgg_bn:five_blocks": 1_920 + 2 * 512,
    "vgg_bn:baseline": 0,
    "quickstart": 2 * 352,
    "fast": 2 * 2_944,
    "fast:published": 2 * 2_944,
    "fast:bundled": 2 * 2_944,
    "fast:select": 2 * 2_944,
    "fast:sprint": 2 * 2_944,
    "fast:long": 2 * 3_392,
    "fast:taught": 2 * 2_944,
    "fast:finetune": 2 * 2_944,
    "fast:head": 2 * 2_944,
    "fast10": 2 * 1_152,
    "fast10:select": 2 * 1_152,
    "fast10:long": 2 * 3_456,
    "resnet18": 2 * 4_800,
    "wrn_28_10": 2 * 8_976,
    **dict.fromkeys(("summit", "summit:select", "summit:hour"), 2 * 8_976),
    "summit:minute": 2 * 3_392,
}
CLASSES = {"cifar10": 10, "cifar100": 100, "shapes100": 100}


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.fixture(scope="module")
def counts():
    """From a spec and a number of classes to the numbers of parameters and statistics; most experiments share a network."""
    known = {}

    def counts(spec, classes):
        key = repr(spec), classes
        if key not in known:
            model, images = create_model(spec, classes), np.zeros((1, 32, 32, 3), np.float32)
            variables = jax.eval_shape(lambda: initialize(model, jax.random.key(0), images))
            known[key] = count(variables["params"]), count(variables.get("batch_stats", {}))
        return known[key]

    return counts


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_parameters_and_statistics_are_as_many_as_is_written(name, counts):
    stem, _, variant = name.partition(":")
    config = load_config(str(ROOT / "configs" / f"{stem}.py:{variant}"))
    assert counts(config.model, CLASSES[config.data.name]) == (PARAMETERS[name], STATISTICS.get(name, 0))


def test_small_kernels_averages_its_f1_over_batches_as_large_as_the_write_ups():
    train = load_config(str(ROOT / "configs" / "small_kernels.py")).train
    assert (train.batch_size, train.eval_batch_size) == (32, 32)


def test_the_table_of_layers_gives_the_total():
    config = load_config(str(ROOT / "configs" / "wide.py"))
    assert "6,777,060" in describe(create_model(config.model, 100), (32, 32, 3))

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from cifar_flax.analysis.report.architecture import Node, draw_network, network_graph, side_lanes
from cifar_flax.config import Activation, Architecture, BlockConfig, Config, DenseConfig, Features, ResNetConfig, StageConfig
from cifar_flax.models import create_model, initialize

SHAPE = (8, 8, 3)


def graph(model):
    return network_graph(model, initialize(model, jax.random.key(0), jnp.ones((2, *SHAPE))), SHAPE)


def edges(nodes):
    """(what is read, by what), by name."""
    return [(nodes[source].name, node.name) for node in nodes for source in node.sources]


def test_a_plain_network_is_a_chain_with_its_functions():
    config = Config().model
    config.blocks, config.dense = (BlockConfig(features=(5,), dropout=0.2),), (DenseConfig(6, Activation.TANH, dropout=0.0),)
    config.activation = Activation.ELU
    nodes = graph(create_model(config, 10))
    names = ["image", "block0_conv0", "elu", "max pool", "Dropout_0", "flatten", "dense0", "tanh", "logits"]
    assert [node.name for node in nodes] == names
    assert edges(nodes) == list(itertools.pairwise(names))
    assert nodes[1] == Node("block0_conv0", "Conv", (8, 8, 5), 3 * 3 * 3 * 5 + 5, (0,))
    assert [node.shape for node in nodes[3:6]] == [(4, 4, 5), (4, 4, 5), (80,)]
    assert side_lanes(nodes) == {}


def test_the_shortcut_of_a_residual_block_reads_what_the_block_begins_with():
    config = Config().model
    config.name, config.features = Architecture.RESNET, Features.MEAN
    config.resnet = ResNetConfig(stem=4, features=(4, 8), blocks=(1, 1))
    nodes = graph(create_model(config, 10))
    found = [node.name for node in nodes]
    begin, end = found.index("stage1_block0_conv0") - 1, found.index("stage1_block0_shortcut_norm") + 1
    shortcut = nodes[found.index("stage1_block0_shortcut")]
    assert (nodes[begin].name, nodes[begin].kind) == ("relu", "")
    assert shortcut.sources == (begin,) == nodes[begin + 1].sources
    assert [nodes[source].name for source in nodes[end].sources] == ["stage1_block0_norm1", "stage1_block0_shortcut_norm"]
    assert found[end:] == ["sum", "relu", "mean of each map", "logits"]
    first = found.index("sum")
    assert [nodes[source].name for source in nodes[first].sources] == ["relu", "stage0_block0_norm1"]  # no shortcut layer


def test_a_speednet_branches_and_pools_twice():
    config = Config().model
    config.name, config.features, config.activation = Architecture.SPEEDNET, Features.MAX_PLUS_MEAN, Activation.SILU
    config.stages = (StageConfig(4, branch_features=(4,), branch_kernel_sizes=(3,), residual=True),)
    found = edges(graph(create_model(config, 10)))
    assert found[:4] == [("image", "whitening"), ("whitening", "silu"), ("silu", "stage0_conv"), ("stage0_conv", "max pool")]
    assert found[-7:] == [
        *(("silu", "sum"), ("silu", "sum")),
        *(("sum", "maximum of each map"), ("sum", "mean of each map")),
        *(("maximum of each map", "sum"), ("mean of each map", "sum"), ("sum", "logits")),
    ]


class Gated(nn.Module):
    """A part of its own, whose input is also what its output is multiplied with."""

    @nn.compact
    def __call__(self, x):
        return x * nn.sigmoid(nn.Dense(x.shape[-1], name="gate")(x))


class Whole(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return Gated(name="part")(nn.Conv(4, (1, 1), name="conv")(x) * 2)


def test_parts_stand_for_their_whole():
    nodes = graph(Whole())
    assert edges(nodes) == [
        *(("image", "conv"), ("conv", "part/gate"), ("part/gate", "sigmoid")),
        *(("conv", "product"), ("sigmoid", "product")),
    ]


@pytest.fixture
def branched():
    """A stem, two branches of one layer each, and their sum."""
    return [
        Node("image", "", (8, 8, 3), 0, ()),
        Node("stem", "Conv", (8, 8, 4), 108, (0,)),
        Node("left", "Conv", (8, 8, 4), 144, (1,)),
        Node("right", "Conv", (8, 8, 4), 16, (1,)),
        Node("sum", "", (8, 8, 4), 0, (2, 3)),
        Node("logits", "Dense", (10,), 2570, (4,)),
    ]


def test_lines_that_lead_past_others_do_not_meet(branched):
    assert side_lanes(branched) == {(1, 3): 0, (2, 4): 1}
    assert side_lanes([*branched, Node("late", "", (10,), 0, (4, 5)), Node("later", "", (10,), 0, (4, 6))]) == {
        (1, 3): 0,
        (2, 4): 1,
        (4, 6): 0,
        (4, 7): 1,
    }


def test_the_drawing_names_all_shapes_and_parameters_and_points_from_what_is_read(branched):
    axes = draw_network(branched, 2838).axes[0]
    texts = {text.get_text() for text in axes.texts}
    assert {"image", "8 × 8 × 3", "stem  (Conv)", "8 × 8 × 3 → 8 × 8 × 4", "108 parameters", "sum"} <= texts  # noqa: RUF001
    assert axes.get_title() == "2,838 parameters"
    boxes = [patch.get_bbox() for patch in axes.patches if hasattr(patch, "get_boxstyle")]
    heads = sorted(arrow.xy for arrow in axes.texts if getattr(arrow, "arrow_patch", None))
    rows = [[head for head in heads if box.y0 <= head[1] <= box.y1] for box in boxes]
    assert [len(row) for row in rows] == [0, 1, 1, 1, 2, 1]
    assert rows[3][0][0] == boxes[3].x0  # from the side: what stands above it is not what it reads

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp

from cifar_flax.analysis.report.architecture import side_lanes
from cifar_flax.analysis.report.graph import Node, network_graph
from cifar_flax.config import Activation, GlobalPool
from cifar_flax.models import BlockConfig, ConvNet, DenseConfig, ResNet, SpeedNet, StageConfig, create_model, initialize
from tests.analysis.report.test_layers import Transformer

SHAPE = (8, 8, 3)


def graph(model):
    return network_graph(model, initialize(model, jax.random.key(0), jnp.ones((2, *SHAPE))), SHAPE)


def edges(nodes):
    """The arrows of a graph: (name of the node that is read, name of the node that reads it)."""
    return [(nodes[source].name, node.name) for node in nodes for source in node.sources]


def test_a_convolutional_network_is_a_chain_with_its_functions():
    blocks, dense = (BlockConfig(features=(5,), dropout=0.2),), (DenseConfig(6, Activation.TANH, dropout=0.0),)
    nodes = graph(create_model(ConvNet(activation=Activation.ELU, blocks=blocks, dense=dense), 10))
    names = ["image", "block0_conv0", "elu", "max pool", "Dropout_0", "flatten", "dense0", "tanh", "logits"]
    assert [node.name for node in nodes] == names
    assert edges(nodes) == list(itertools.pairwise(names))
    assert nodes[1] == Node("block0_conv0", "Conv", (8, 8, 5), 3 * 3 * 3 * 5 + 5, (0,))
    assert [node.shape for node in nodes[3:6]] == [(4, 4, 5), (4, 4, 5), (80,)]
    assert side_lanes(nodes) == {}


def test_the_shortcut_of_a_residual_block_reads_the_input_of_the_block():
    nodes = graph(create_model(ResNet(stem=4, features=(4, 8), blocks=(1, 1)), 10))
    names = [node.name for node in nodes]
    begin, end = names.index("stage1_block0_conv0") - 1, names.index("stage1_block0_shortcut_norm") + 1
    shortcut = nodes[names.index("stage1_block0_shortcut")]
    assert (nodes[begin].name, nodes[begin].kind) == ("relu", "")
    assert shortcut.sources == (begin,) == nodes[begin + 1].sources
    assert [nodes[source].name for source in nodes[end].sources] == ["stage1_block0_norm1", "stage1_block0_shortcut_norm"]
    assert names[end:] == ["sum", "relu", "mean of each map", "logits"]
    first = names.index("sum")
    assert [nodes[source].name for source in nodes[first].sources] == ["relu", "stage0_block0_norm1"]  # no shortcut layer


def test_a_speednet_branches_and_pools_by_maximum_and_mean():
    stages = (StageConfig(4, branch_features=(4,), branch_kernel_sizes=(3,), residual=True),)
    spec = SpeedNet(stages=stages, global_pool=GlobalPool.MAX_PLUS_MEAN, activation=Activation.SILU)
    arrows = edges(graph(create_model(spec, 10)))
    assert arrows[:4] == [("image", "whitening"), ("whitening", "silu"), ("silu", "stage0_conv"), ("stage0_conv", "max pool")]
    assert arrows[-7:] == [
        *(("silu", "sum"), ("silu", "sum")),
        *(("sum", "maximum of each map"), ("sum", "mean of each map")),
        *(("maximum of each map", "sum"), ("mean of each map", "sum"), ("sum", "logits")),
    ]


class Gated(nn.Module):
    """A module with a submodule, whose input is multiplied with the output of that."""

    @nn.compact
    def __call__(self, x):
        return x * nn.sigmoid(nn.Dense(x.shape[-1], name="gate")(x))


class Network(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return Gated(name="gated")(nn.Conv(4, (1, 1), name="conv")(x) * 2)


def test_a_module_is_represented_by_its_submodules():
    assert edges(graph(Network())) == [
        *(("image", "conv"), ("conv", "gated/gate"), ("gated/gate", "sigmoid")),
        *(("conv", "product"), ("sigmoid", "product")),
    ]


def test_a_users_network_with_attention_remat_and_scan_is_followed():
    nodes = graph(Transformer())
    arrows = edges(nodes)
    assert {("image", "patches"), ("patches", "reshape"), ("reshape", "sum"), ("mlp", "mlp"), ("mlp", "remat")} <= set(arrows)
    assert arrows[-1][1] == "head"
    read, pending = set(), [len(nodes) - 1]
    while pending:
        read.add(place := pending.pop())
        pending += [source for source in nodes[place].sources if source not in read]
    assert 0 in read, "no path leads from the image to the logits"

import pytest

from benchmarks.workload import common_recipe
from cifar_flax.config import BlockConfig, Config, DenseConfig, OptimConfig, StageConfig
from cifar_flax.config.types import Activation, Architecture, BatchNorm, Features, Optimizer, Padding


@pytest.fixture(scope="session")
def tiny_convnet():
    """Even kernels, VALID and SAME, both places of BatchNorm, a pooled map with a row left over, dropout, label smoothing."""
    c = Config()
    c.data.image_size = 9
    c.model.activation = Activation.ELU
    c.model.blocks = (
        BlockConfig(features=(4, 6), kernel_sizes=(2, 3), paddings=(Padding.SAME, Padding.VALID), dropout=0.2),
        BlockConfig(features=(5,), batch_norm=BatchNorm.CONV, pool=1, activations=(Activation.GELU,)),
        BlockConfig(features=(7,), kernel_sizes=(1,), batch_norm=BatchNorm.BLOCK, pool=1),
    )
    c.model.dense = (DenseConfig(8, Activation.HARD_SIGMOID, dropout=0.5),)
    c.optim.label_smoothing = 0.1
    c.train.batch_size = 4
    return common_recipe(c)


@pytest.fixture(scope="session")
def tiny_speednet():
    c = Config()
    c.data.image_size = 11
    c.model.name = Architecture.SPEEDNET
    c.model.activation = Activation.SILU
    c.model.stages = (
        StageConfig(6, 3, branch_features=(5, 6), branch_kernel_sizes=(1, 3), residual=True),
        StageConfig(8, 2, branch_features=(7,), branch_kernel_sizes=(3,)),
    )
    c.model.features = Features.MAX_PLUS_MEAN
    c.model.logit_scale = 0.125
    c.model.batch_norm_momentum = 0.6
    c.optim = OptimConfig(name=Optimizer.MUON_SGD, label_smoothing=0.2, freeze=("whitening/kernel",))
    c.train.batch_size = 4
    return common_recipe(c)

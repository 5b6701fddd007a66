import pytest

from benchmarks.workload import common_recipe
from cifar_flax.config import Config
from cifar_flax.config.types import Activation, BatchNorm, Padding
from cifar_flax.models import BlockConfig, ConvNet, DenseConfig, ResNet, SpeedNet, StageConfig
from cifar_flax.optim import SGD, MuonSGD


@pytest.fixture(scope="session")
def tiny_convnet():
    """Even kernels, VALID and SAME, both places of BatchNorm, a pooled map with a row left over, dropout, label smoothing."""
    c = Config()
    c.data.image_size = 9
    c.model = ConvNet(
        activation=Activation.ELU,
        blocks=(
            BlockConfig(features=(4, 6), kernel_sizes=(2, 3), paddings=(Padding.SAME, Padding.VALID), dropout=0.2),
            BlockConfig(features=(5,), batch_norm=BatchNorm.CONV, pool=1, activations=(Activation.GELU,)),
            BlockConfig(features=(7,), kernel_sizes=(1,), batch_norm=BatchNorm.BLOCK, pool=1),
        ),
        dense=(DenseConfig(8, Activation.HARD_SIGMOID, dropout=0.5),),
    )
    c.optim.label_smoothing = 0.1
    c.train.batch_size = 4
    return common_recipe(c)


@pytest.fixture(scope="session")
def tiny_speednet():
    c = Config()
    c.data.image_size = 11
    c.model = SpeedNet(
        stages=(
            StageConfig(6, 3, branch_features=(5, 6), branch_kernel_sizes=(1, 3), residual=True),
            StageConfig(8, 2, branch_features=(7,), branch_kernel_sizes=(3,)),
        ),
        logit_scale=0.125,
        batch_norm_momentum=0.6,
    )
    c.optim = MuonSGD(label_smoothing=0.2, freeze=("whitening/kernel",))
    c.train.batch_size = 4
    return common_recipe(c)


@pytest.fixture(scope="session")
def tiny_resnet():
    return _resnet(preactivation=False)


@pytest.fixture(scope="session")
def tiny_wide_resnet():
    return _resnet(preactivation=True)


def _resnet(preactivation):
    """Blocks that change the number of channels and those that do not; a map of odd size that is halved."""
    c = Config()
    c.data.image_size = 11
    c.model = ResNet(stem=4, features=(4, 6), blocks=(2, 2), preactivation=preactivation, dropout=0.2)
    c.optim = SGD(momentum=0.9)
    c.train.batch_size = 4
    return common_recipe(c)

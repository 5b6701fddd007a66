"""A config that has at least one entry wherever there can be several, for tests that go through all fields."""

from cifar_flax.config import Config, GlobalPool, GroupConfig, ResolutionConfig
from cifar_flax.errors import UserError
from cifar_flax.models import BlockConfig, ConvNet, DenseConfig


def get_config(variant: str = "") -> Config:
    if variant:
        raise UserError(f"no variant {variant!r}")
    c = Config()
    c.data.name = "tiny"
    c.model = ConvNet(
        blocks=(BlockConfig(features=(8,)), BlockConfig(features=(8, 8))), global_pool=GlobalPool.MEAN, dense=(DenseConfig(16),)
    )
    c.optim.groups = (GroupConfig(),)
    c.train.resolutions = (ResolutionConfig(size=4),)
    c.train.batch_size = 32
    return c

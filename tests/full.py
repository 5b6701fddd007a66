"""A config that has at least one entry wherever there can be several, for tests that go through all fields."""

from cifar_flax.config import BlockConfig, Config, DenseConfig, Features, GroupConfig, ResolutionConfig
from cifar_flax.errors import UserError


def get_config(variant: str = "") -> Config:
    if variant:
        raise UserError(f"no variant {variant!r}")
    c = Config()
    c.data.name = "tiny"
    c.model.features = Features.MEAN
    c.model.blocks = (BlockConfig(features=(8,)), BlockConfig(features=(8, 8)))
    c.model.dense = (DenseConfig(16),)
    c.optim.groups = (GroupConfig(),)
    c.train.resolutions = (ResolutionConfig(size=4),)
    c.train.batch_size = 32
    return c

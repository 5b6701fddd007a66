"""Two epochs of a network too small to measure, for --dry_run."""

from cifar_flax.config import Config, apply_variant
from cifar_flax.models import BlockConfig, ConvNet


def get_config(variant: str = "") -> Config:
    """One filter of 4 channels, and 45 steps an epoch."""
    c = Config()
    c.data.name = "shapes100"
    c.model = ConvNet(blocks=(BlockConfig(features=(4,), pool=4),), dense=())
    c.train.batch_size, c.train.epochs = 500, 2
    return apply_variant(c, variant, {})

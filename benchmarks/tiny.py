"""Two epochs of a network too small to measure, for --dry_run."""

from cifar_flax.config import Config, apply_variant
from cifar_flax.models import ConvNet, DenseConfig


def get_config(variant: str = "") -> Config:
    """Eight units, since a CPU is slow at convolutions of several seeds in one program; 45 steps an epoch."""
    c = Config()
    c.data.name = "shapes100"
    c.model = ConvNet(blocks=(), dense=(DenseConfig(8),))
    c.train.batch_size, c.train.epochs = 500, 2
    return apply_variant(c, variant, {})

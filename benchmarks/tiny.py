"""Networks and images too small to measure, for --dry_run."""

import numpy as np

from cifar_flax.config import Config
from cifar_flax.config.files import load_config
from cifar_flax.data.dataset import Dataset
from cifar_flax.models import ConvNet, DenseConfig, ResNet, SpeedNet


def get_config(variant: str = "") -> Config:
    """`tiny.py:three_conv:short` is configs/three_conv.py:short made small; without a name, two epochs of eight units.

    Those eight have no convolution, since a CPU is slow at convolutions of several seeds in one program; 45 steps an epoch.
    """
    if variant:
        c = shrink(load_config(variant))
        c.data.name = "benchmarks.tiny:images"
        c.train.batch_size = 20
        return c
    c = Config()
    c.data.name = "shapes100"
    c.model = ConvNet(blocks=(), dense=(DenseConfig(8),))
    c.train.batch_size, c.train.epochs = 500, 2
    return c


def shrink(config: Config) -> Config:
    """The same kind of network, of few filters."""
    match config.model:
        case ConvNet(blocks=blocks, dense=dense):
            for block in blocks:
                block.features = (4,) * len(block.features)
            for layer in dense:
                layer.features = 8
        case ResNet() as resnet:
            resnet.stem, resnet.features, resnet.blocks = 4, (4, 6), (1, 1)
        case SpeedNet(stages=stages):
            for stage in stages:
                stage.features, stage.branch_features = 4, (4,) * len(stage.branch_features)
    return config


def images() -> dict[str, Dataset]:
    """Noise in ten classes: 200 images to train on, 40 to test."""
    rng = np.random.default_rng(0)
    return {
        split: Dataset(
            rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8),
            np.arange(count, dtype=np.int32) % 10,
            tuple(f"noise {i}" for i in range(10)),
        )
        for split, count in (("train", 200), ("test", 40))
    }

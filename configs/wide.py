"""Wide ELU network on CIFAR-100: 128-128 / 256-256 / 512-512, 6,777,060 parameters.

    python launch/train.py --config=configs/wide.py

The network of the write-up with the Flask demo. It prints no recipe; this one is ours.

Claim: 18.4 % validation and 17.2 % test top-1 after the first epoch, n = 1, 5 min 18 s on two AVX-512 cores (2026-11-22). All
100 epochs have not been run yet.
"""

from cifar_flax.config import Activation, BlockConfig, Config, DenseConfig, Padding, Schedule
from cifar_flax.errors import UserError


def get_config(variant: str = "") -> Config:
    if variant:
        raise UserError(f"configs/wide.py has no variant {variant!r}")
    c = Config()
    c.data.name = "cifar100"

    c.augment.flip = True
    c.augment.shift = 0.1

    c.model.activation = Activation.ELU
    c.model.blocks = tuple(
        BlockConfig(features=(width, width), paddings=(Padding.SAME, Padding.VALID), dropout=rate)
        for width, rate in ((128, 0.1), (256, 0.25), (512, 0.5))
    )
    c.model.dense = (DenseConfig(1024, dropout=0.5),)

    c.optim.learning_rate = 1e-4
    c.optim.schedule = Schedule.INVERSE_TIME
    c.optim.decay = 1e-6

    c.train.batch_size = 64
    c.train.epochs = 100
    return c

"""Two convolutions on CIFAR-10: 64, 32 and a dense layer of 100, 226,166 parameters.

    python launch/train.py --config=configs/two_conv.py

The tutorial's second network, at .63. The batch size, which it does not give, is Keras' default.

Claim: 68.12 % test top-1, n = 1, 13 min on two shared Intel Xeon cores with AMX, bfloat16 (2026-11-27).
"""

from cifar_flax.config import Config, Normalization, apply_variant
from cifar_flax.models import BlockConfig, ConvNet, DenseConfig
from cifar_flax.optim import SGD


def get_config(variant: str = "") -> Config:
    c = Config()
    c.data.name = "cifar10"
    c.data.normalization = Normalization.UNIT

    c.model = ConvNet(blocks=(BlockConfig(features=(64,)), BlockConfig(features=(32,))), dense=(DenseConfig(100),))

    c.optim = SGD(learning_rate=0.01)

    c.train.batch_size = 32
    c.train.epochs = 30
    return apply_variant(c, variant, {})

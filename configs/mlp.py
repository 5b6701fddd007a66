"""No convolution at all on CIFAR-10: dense layers 100-100 with sigmoids, 318,410 parameters.

    python launch/train.py --config=configs/mlp.py

Where the tutorial begins, at about .40. It does not say for how many epochs; 30 are those of its next network.

Claim: 34.02 % test top-1, with --config.train.epochs=100 42.01 %, n = 1, in 1 and 2 min on two shared Intel Xeon cores with
AMX, bfloat16 (2026-11-27).
"""

from cifar_flax.config import Activation, Config, Normalization, apply_variant
from cifar_flax.models import ConvNet, DenseConfig
from cifar_flax.optim import SGD


def get_config(variant: str = "") -> Config:
    c = Config()
    c.data.name = "cifar10"
    c.data.normalization = Normalization.UNIT

    c.model = ConvNet(activation=Activation.SIGMOID, dense=(DenseConfig(100), DenseConfig(100)))

    c.optim = SGD(learning_rate=0.01)

    c.train.batch_size = 128
    c.train.epochs = 30
    return apply_variant(c, variant, {})

"""Three convolutions and two dense layers on CIFAR-10: 128, 64, 64 and 256, 100; 403,414 parameters.

    python launch/train.py --config=configs/bigger_conv.py

The tutorial's third network, at .68 (training .77). `:dropout` adds two dropouts of .25 for .69 (.72), and `:adam` Adam besides
for .78 (.99). Where they stand, and the batch size, are not given: after the convolutions and after the first dense layer, and
Keras' default.
"""

from cifar_flax.config import BlockConfig, Config, DenseConfig, Normalization, OptimConfig, Optimizer, apply_variant


def get_config(variant: str = "") -> Config:
    c = Config()
    c.data.name = "cifar10"
    c.data.normalization = Normalization.UNIT

    c.model.blocks = tuple(BlockConfig(features=(width,)) for width in (128, 64, 64))
    c.model.dense = (DenseConfig(256), DenseConfig(100))

    c.optim.name = Optimizer.SGD
    c.optim.learning_rate = 0.01

    c.train.batch_size = 32
    c.train.epochs = 50
    return apply_variant(c, variant, VARIANTS)


def dropout(c: Config) -> None:
    c.model.blocks[-1].dropout = c.model.dense[0].dropout = 0.25


def adam(c: Config) -> None:
    dropout(c)
    c.optim = OptimConfig()


VARIANTS = {"dropout": dropout, "adam": adam}

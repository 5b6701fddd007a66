"""Kernels of 2x2 and 1x1 on CIFAR-10: 128-128-128 / 256-256-256, 5,329,418 parameters.

    python launch/train.py --config=configs/small_kernels.py

The write-up reports validation .7586 at epoch 11 of `:relu`, on the test split. Its F1, computed a batch of 32 at a time from
probabilities above .5, is `validation_batch_f1` in metrics.jsonl; `validation_f1` beside it is what is usually meant.
"""

from cifar_flax.config import Activation, Config, Normalization, Padding, apply_variant
from cifar_flax.models import BlockConfig, ConvNet, DenseConfig


def get_config(variant: str = "") -> Config:
    c = Config()
    c.data.name = "cifar10"
    c.data.normalization = Normalization.UNIT

    c.model = network(Activation.ELU, first_block=(Activation.RELU, Activation.ELU, Activation.ELU))

    c.plateau.factor = 0.5
    c.plateau.patience = 5

    c.train.batch_size = c.train.eval_batch_size = 32
    c.train.epochs = 60
    return apply_variant(c, variant, VARIANTS)


def network(activation: Activation, first_block: tuple[Activation, ...]) -> ConvNet:
    return ConvNet(
        activation=activation,
        blocks=tuple(
            BlockConfig(
                features=(width,) * 3,
                kernel_sizes=(2, 2, 1),
                paddings=(Padding.VALID,),
                activations=activations,
                dropout=rate,
            )
            for width, activations, rate in ((128, first_block, 0.0), (256, (), 0.5))
        ),
        dense=(DenseConfig(512, dropout=0.5), DenseConfig(128)),
    )


def relu(c: Config) -> None:
    """ReLU throughout, 40 epochs: the write-up has validation .7586 at epoch 11."""
    c.model = network(Activation.RELU, first_block=())
    c.train.epochs = 40


VARIANTS = {"relu": relu}

"""Kernels of 2x2 and 1x1 on CIFAR-10: 128-128-128 / 256-256-256, 5,329,418 parameters.

    python launch/train.py --config=configs/small_kernels.py

The write-up reports validation .7586 at epoch 11 of `:relu`, on the test split. Its F1, computed a batch of 32 at a time from
probabilities above .5, is `validation_batch_f1` in metrics.jsonl; `validation_f1` beside it is what is usually meant.
"""

from cifar_flax.config import Activation, BlockConfig, Config, DenseConfig, Normalization, Padding, apply_variant

FIRST_RELU = (Activation.RELU, Activation.ELU, Activation.ELU)


def get_config(variant: str = "") -> Config:
    c = Config()
    c.data.name = "cifar10"
    c.data.normalization = Normalization.UNIT

    c.model.activation = Activation.ELU
    c.model.blocks = tuple(
        BlockConfig(
            features=(width,) * 3,
            kernel_sizes=(2, 2, 1),
            paddings=(Padding.VALID,),
            activations=activations,
            dropout=rate,
        )
        for width, activations, rate in ((128, FIRST_RELU, 0.0), (256, (), 0.5))
    )
    c.model.dense = (DenseConfig(512, dropout=0.5), DenseConfig(128))

    c.plateau.factor = 0.5
    c.plateau.patience = 5

    c.train.batch_size = c.train.eval_batch_size = 32
    c.train.epochs = 60
    return apply_variant(c, variant, VARIANTS)


def relu(c: Config) -> None:
    c.model.activation = Activation.RELU
    c.model.blocks[0].activations = ()
    c.train.epochs = 40


VARIANTS = {"relu": relu}

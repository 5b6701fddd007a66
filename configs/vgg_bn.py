"""VGG-style BatchNorm network on CIFAR-100: 64-64 / 128-128 / 256x3 / 512x3, dense 512 with a sigmoid, 8,737,572 parameters.

    python launch/train.py --config=configs/vgg_bn.py

The write-up reports .63, which it calls training accuracy, with dropout, augmentation and 120 epochs. `:base` is the network
without either (.4856), `:augment` and `:dropout` have one of them (.592, .53). Built on `:base` are `:two_dense` (.51),
`:one_block` (.48, of training), `:five_blocks` (.4875) and, with three plain convolutions, `:baseline` (.366). `:search` has
the 20 epochs of the write-up's random search, `configs/search/vgg_bn_random.py`.

Claim: `:short` 70.76 % test, 70.94 % validation top-1, n = 1, 84 min partly beside other work on two AVX-512 cores
(2026-11-26). The 120 epochs have not been run.
"""

from cifar_flax.config import (
    Activation,
    AugmentConfig,
    BatchNorm,
    BlockConfig,
    Config,
    DenseConfig,
    Initializer,
    Normalization,
    OptimConfig,
    Optimizer,
    Schedule,
    apply_variant,
)


def get_config(variant: str = "") -> Config:
    c = Config()
    c.data.name = "cifar100"
    c.data.normalization = Normalization.UNIT

    c.augment.flip = True
    c.augment.rotation = 15.0
    c.augment.width_shift = c.augment.height_shift = 0.1

    c.model.blocks = tuple(
        BlockConfig(features=(width,) * count, batch_norm=BatchNorm.BLOCK)
        for width, count in ((64, 2), (128, 2), (256, 3), (512, 3))
    )
    c.model.blocks[-1].dropout = 0.5
    c.model.dense = (DenseConfig(512, Activation.SIGMOID),)

    c.train.batch_size = 128
    c.train.epochs = 120
    return apply_variant(c, variant, VARIANTS)


def short(c: Config) -> None:
    """Muon from kernels that hand their inputs on, no rotation, smoothed labels, statistics that keep up with a short run."""
    c.data.normalization = Normalization.STANDARDIZE
    c.augment.rotation = 0.0
    c.model.kernel_init = Initializer.DIRAC
    c.model.batch_norm_momentum = 0.9
    c.optim = OptimConfig(name=Optimizer.MUON_SGD, learning_rate=0.05, momentum=0.9, nesterov=True, label_smoothing=0.1)
    c.optim.weight_decay = 5e-4
    c.optim.muon.learning_rate = 0.05
    c.optim.schedule = Schedule.COSINE
    c.optim.warmup_epochs = 1.0
    c.train.epochs = 15


def no_augmentation(c: Config) -> None:
    c.augment = AugmentConfig()


def no_dropout(c: Config) -> None:
    c.model.blocks[-1].dropout = 0.0


def base(c: Config) -> None:
    no_augmentation(c)
    no_dropout(c)


def two_dense(c: Config) -> None:
    base(c)
    c.model.dense *= 2


def one_block(c: Config) -> None:
    base(c)
    c.model.blocks = c.model.blocks[:1]


def five_blocks(c: Config) -> None:
    base(c)
    c.model.blocks += (BlockConfig(features=(512,) * 3, batch_norm=BatchNorm.BLOCK),)


def baseline(c: Config) -> None:
    base(c)
    c.model.blocks = tuple(BlockConfig(features=(width,)) for width in (32, 64, 128))
    c.model.dense = (DenseConfig(512),)


def search(c: Config) -> None:
    c.train.epochs = 20


VARIANTS = {
    "short": short,
    "search": search,
    "base": base,
    "augment": no_dropout,
    "dropout": no_augmentation,
    "two_dense": two_dense,
    "one_block": one_block,
    "five_blocks": five_blocks,
    "baseline": baseline,
}

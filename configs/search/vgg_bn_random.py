"""The random search on the VGG-style network: optimizer, and a second dense layer of 0 to 512 units with its activation.

    python launch/search.py --config=configs/vgg_bn.py --space=configs/search/vgg_bn_random.py --strategy=random --trials=20 \
        --folds=5 --noprune --config.train.epochs=20 --config.train.init_from=runs/vgg_bn

The convolutions are those of the run in `runs/vgg_bn` and stay as they are; each trial has 20 epochs on each of 5 folds. With 0
units there is no second layer. That run has seen most of what the folds hold out: the means serve to compare trials, not more.
"""

from typing import Any

from cifar_flax.config import Activation, Config, DenseConfig, Optimizer
from cifar_flax.search.space import Choice, Domain, IntRange

OPTIMIZERS = (
    Optimizer.ADAM,
    Optimizer.ADAMAX,
    Optimizer.ADAGRAD,
    Optimizer.ADADELTA,
    Optimizer.RMSPROP,
    Optimizer.SGD,
)


def get_space() -> dict[str, Domain]:
    return {
        "optim.name": Choice(OPTIMIZERS),
        "second_dense.units": IntRange(0, 512),
        "second_dense.activation": Choice(
            (Activation.RELU, Activation.SIGMOID, Activation.HARD_SIGMOID, Activation.LINEAR),
        ),
    }


def apply(config: Config, values: dict[str, Any]) -> None:
    """Freezes the convolutions and adds the layer."""
    config.optim.freeze = ("block*",)
    units, activation = values.pop("second_dense.units"), values.pop("second_dense.activation")
    if units:
        config.model.dense += (DenseConfig(units, Activation(activation)),)

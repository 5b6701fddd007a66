"""The random search on the VGG-style network: optimizer, and a second dense layer of 0 to 512 units with its activation.

    python launch/search.py --config=configs/vgg_bn.py:search --space=configs/search/vgg_bn_random.py --strategy=random \
        --trials=20 --folds=5 --noprune --config.train.init_from=runs/vgg_bn

The convolutions are those of the run in `runs/vgg_bn` and stay frozen. Each trial trains 20 epochs on each of 5 folds, at the
default rate of Keras 2 for its optimizer, not the config's. With 0 units there is no second layer. The run in `runs/vgg_bn` was
trained on most of the images that the folds hold out, so the means compare trials and estimate nothing else.
"""

from typing import Any

from cifar_flax.config import Activation, Config
from cifar_flax.models import ConvNet, DenseConfig
from cifar_flax.search.space import Choice, Domain, IntRange

# The defaults of Keras 2.0 to 2.3 (2017 to 2019); tf.keras and Keras 3 have .001 for Adamax, Adagrad and Adadelta.
LEARNING_RATES = {
    "adam": 0.001,
    "adamax": 0.002,
    "adagrad": 0.01,
    "adadelta": 1.0,
    "rmsprop": 0.001,
    "sgd": 0.01,
}


def get_space() -> dict[str, Domain]:
    return {
        "optim.name": Choice(tuple(LEARNING_RATES)),
        "second_dense.units": IntRange(0, 512),
        "second_dense.activation": Choice(
            (Activation.RELU, Activation.SIGMOID, Activation.HARD_SIGMOID, Activation.LINEAR),
        ),
    }


def apply(config: Config, values: dict[str, Any]) -> None:
    """Freezes the convolutions, sets the optimizer's rate and adds the layer."""
    config.optim.freeze = ("block*",)
    config.optim.learning_rate = LEARNING_RATES[values["optim.name"]]
    units, activation = values.pop("second_dense.units"), values.pop("second_dense.activation")
    if units and isinstance(config.model, ConvNet):
        config.model.dense += (DenseConfig(units, Activation(activation)),)

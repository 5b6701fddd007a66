r"""The grid of the blog post with the Flask demo: learning rate, decay, batch size and activation, 54 points.

    python launch/search.py --config=configs/narrow.py --space=configs/search/wide_grid.py --strategy=grid \
        --config.train.epochs=5

All 200 epochs of the config, 54 times, take some 150 h on two cores. Its author varied these four, beginning with the narrow
network, and gives no values; the values are ours. The grid suits `--config=configs/wide.py` and `deep.py` as well.
"""

from typing import Any

from cifar_flax.config import Activation, Config
from cifar_flax.search.space import Choice, Domain


def get_space() -> dict[str, Domain]:
    return {
        "optim.learning_rate": Choice((1e-3, 1e-4, 1e-5)),
        "optim.decay": Choice((0.0, 1e-6)),
        "train.batch_size": Choice((32, 64, 128)),
        "model.activation": Choice((Activation.RELU, Activation.ELU, Activation.TANH)),
    }


def apply(config: Config, values: dict[str, Any]) -> None:
    """Sets the schedule that `decay` belongs to."""
    config.optim.schedule = "inverse_time"

"""Description of a network, for the head of the page and for /api/model."""

from typing import Any

from cifar_flax.data.sources.folders import public_name
from cifar_flax.network import Network


def describe(network: Network) -> dict[str, Any]:
    """Name, architecture, number of parameters, data set, accuracy and calibration, in the JSON of /api/model.

    The accuracy is {"split", "top1", "n"}, or None where it was not measured.
    """
    figures = network.figures
    measured = {"split", "top1", "n"} <= figures.keys()
    return {
        "name": network.name,
        "architecture": network.config.model.name,
        "parameters": network.num_parameters,
        "data_set": public_name(network.config.data.name),
        "accuracy": {key: figures[key] for key in ("split", "top1", "n")} if measured else None,
        "calibrated": bool(network.calibration.source),
    }

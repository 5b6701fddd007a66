"""Train, understand and show image classifiers in JAX.

- `load_network`, `Network`: use a trained network.
- `Run`: read a run directory: records, checkpoints, data.
- `Config`, `ModelSpec`, `OptimizerSpec`, `Dataset`: train your own; docs/extending.md has an example.
"""

import importlib
from typing import TYPE_CHECKING, Any

from cifar_flax._version import __version__

if TYPE_CHECKING:
    from cifar_flax.config.schema import Config as Config
    from cifar_flax.config.specs import ModelSpec as ModelSpec
    from cifar_flax.config.specs import OptimizerSpec as OptimizerSpec
    from cifar_flax.data.dataset import Dataset as Dataset
    from cifar_flax.network import Network as Network
    from cifar_flax.run import Run as Run
    from cifar_flax.run import load_network as load_network

_MODULES = {
    "Config": "cifar_flax.config.schema",
    "Dataset": "cifar_flax.data.dataset",
    "ModelSpec": "cifar_flax.config.specs",
    "Network": "cifar_flax.network",
    "OptimizerSpec": "cifar_flax.config.specs",
    "Run": "cifar_flax.run",
    "load_network": "cifar_flax.run",
}
__all__ = ["Config", "Dataset", "ModelSpec", "Network", "OptimizerSpec", "Run", "__version__", "load_network"]


def __getattr__(name: str) -> Any:
    """Imports a name when it is used, so that a command which does not need JAX does not wait for it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

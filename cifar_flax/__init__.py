"""Train, understand and show CIFAR image classifiers in JAX."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["Run", "__version__"]


def __getattr__(name: str) -> Any:
    """Imports `Run` when it is asked for, so that a command which does not need JAX does not pay for it."""
    if name == "Run":
        from cifar_flax.run import Run

        return Run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

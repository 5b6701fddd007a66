"""Train, understand and show CIFAR image classifiers in JAX."""

from typing import TYPE_CHECKING, Any

from cifar_flax._version import __version__

if TYPE_CHECKING:
    from cifar_flax.pretrained import load_pretrained as load_pretrained
    from cifar_flax.run import Run as Run

__all__ = ["Run", "__version__", "load_pretrained"]


def __getattr__(name: str) -> Any:
    """Imports what is asked for, so that a command which does not need JAX does not pay for it."""
    if name == "Run":
        from cifar_flax.run import Run

        return Run
    if name == "load_pretrained":
        from cifar_flax.pretrained import load_pretrained

        return load_pretrained
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The folder for what can be made again: data sets as arrays, compiled programs."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$CIFAR_FLAX_CACHE, or else cifar_flax in $XDG_CACHE_HOME, or else ~/.cache/cifar_flax."""
    chosen = os.environ.get("CIFAR_FLAX_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "cifar_flax"

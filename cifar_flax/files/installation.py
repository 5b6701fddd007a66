"""Folders of configs and apps, the folder of the cache, and extras to install."""

import importlib.metadata
import os
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
_ROOT = PACKAGE if (PACKAGE / "launch").is_dir() else PACKAGE.parent
# Beside the package in a checkout, within it where pip installed it.
CONFIGS, LAUNCH = _ROOT / "configs", _ROOT / "launch"


def cache_folder() -> Path:
    """The folder for what can be made again: data sets as arrays, compiled programs.

    It is $CIFAR_FLAX_CACHE, or else cifar_flax in $XDG_CACHE_HOME, or else ~/.cache/cifar_flax.
    """
    chosen = os.environ.get("CIFAR_FLAX_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "cifar_flax"


def install_command(extra: str) -> str:
    """The command that installs an extra of setup.py: in a checkout it names the extra, elsewhere its packages."""
    if (_ROOT / "setup.py").is_file():
        return f"pip install -c constraints.txt -e '.[{extra}]'"
    from packaging.requirements import Requirement  # takes a while to import, for a message

    requirements = map(Requirement, importlib.metadata.requires("cifar_flax") or ())
    needed = [each for each in requirements if each.marker is not None and each.marker.evaluate({"extra": extra})]
    for each in needed:
        each.marker = None
    return f"pip install {' '.join(sorted(repr(str(each)) for each in needed))}"

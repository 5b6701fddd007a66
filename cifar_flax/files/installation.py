"""Folders of configs and apps, beside the package in a checkout, within it where pip installed it; and extras to install."""

import importlib.metadata
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
_ROOT = PACKAGE if (PACKAGE / "launch").is_dir() else PACKAGE.parent
CONFIGS, LAUNCH = _ROOT / "configs", _ROOT / "launch"


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

"""Where the configs and apps are: beside the package in a checkout, within it where pip has installed it."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
_ROOT = PACKAGE if (PACKAGE / "launch").is_dir() else PACKAGE.parent
CONFIGS, LAUNCH = _ROOT / "configs", _ROOT / "launch"

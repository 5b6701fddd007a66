"""Fields of a config that do nothing as long as another one is off."""

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any

from cifar_flax.config.schema import Config
from cifar_flax.config.types import FillMode, Policy


def _moves(c: Config) -> bool:
    a = c.augment
    return any((a.rotation, a.width_shift, a.height_shift, a.zoom))


_NEEDS: tuple[tuple[str, Callable[[Config], Any], str], ...] = (  # fields, what they need, and what is to be said without it
    ("plateau.[!p]*", lambda c: c.plateau.patience, "without config.plateau.patience"),
    ("early_stopping.[!p]*", lambda c: c.early_stopping.patience, "without config.early_stopping.patience"),
    ("augment.mix_probability", lambda c: c.augment.mixup or c.augment.cutmix, "without config.augment.mixup or cutmix"),
    (
        "augment.rand_augment_*",
        lambda c: c.augment.policy is Policy.RAND_AUGMENT,
        "without config.augment.policy=rand_augment",
    ),
    ("augment.fill_mode", _moves, "without config.augment.rotation, width_shift, height_shift or zoom"),
    ("augment.fill_value", lambda c: c.augment.fill_mode is FillMode.CONSTANT, "without config.augment.fill_mode=constant"),
    ("augment.crop_fill_mode", lambda c: c.augment.crop_padding, "without config.augment.crop_padding"),
    ("data.test_fraction", lambda c: c.data.name.startswith("folder:"), "but on config.data.name=folder:PATH"),
    ("data.validation_fraction", lambda c: c.data.folds is None, "beside config.data.folds"),
    ("log.pictures", lambda c: c.log.writers, "without config.log.writers"),
)


def without_effect(config: Config, paths: Iterable[str]) -> list[str]:
    """Finds fields that change nothing as long as another one is off.

    Args:
      config: a checked config.
      paths: the fields that somebody has set, such as "plateau.factor".

    Returns:
      A line each on those that have no effect.
    """
    return [
        f"config.{path} has no effect {why}"
        for path in paths
        for pattern, effective, why in _NEEDS
        if fnmatchcase(path, pattern) and not effective(config)
    ]

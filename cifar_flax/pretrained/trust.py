"""Modules that a weights file may have imported: parts of cifar_flax, and those that the user trusts."""

import os
from collections.abc import Iterator
from typing import Any

from cifar_flax.config.imports import import_path, is_import_path
from cifar_flax.config.registry import MODELS, OPTIMIZERS
from cifar_flax.data.sources.folders import PREFIX as PICTURES
from cifar_flax.data.sources.huggingface import PREFIX as HUB
from cifar_flax.errors import UserError

VARIABLE = "CIFAR_FLAX_TRUST"  # modules, separated by commas
# Field -> what its values begin with.
NOT_IMPORTED = {"config.train.init_from": ("",), "config.train.teacher": ("",), "config.data.name": (PICTURES, HUB)}


def check_imports(config: Any) -> None:
    """Refuses a config that names code beyond cifar_flax as `module:name`, before anything of it is imported.

    Whichever field it stands in: one that nobody imports today may be imported tomorrow.

    Args:
      config: as JSON has it; of a stranger.

    Raises:
      UserError: the message says what to type where the code is to be trusted.
    """
    trusted = {module.strip() for module in os.environ.get(VARIABLE, "").split(",")}
    ours = {import_path(registry.resolve(name, "")) for registry in (MODELS, OPTIMIZERS) for name in registry}
    for field, value in _texts(config, "config"):
        if not is_import_path(value) or value in ours or value.startswith(NOT_IMPORTED.get(field, ("\0",))):
            continue
        module = value.partition(":")[0].partition(".")[0]
        if module not in trusted:
            raise UserError(
                f"its {field} is {value}, code that is not a registered part of cifar_flax, which a file of anybody "
                f"must not have imported; if you know {module} and the file, set {VARIABLE}={module}"
            )


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """(field, value) of each text."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _texts(inner, f"{path}[{i}]")

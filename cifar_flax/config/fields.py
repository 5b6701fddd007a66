"""Fields by their path, such as `optim.learning_rate` or `model.blocks[0].dropout`: looked up, suggested, set."""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from cifar_flax.config.schema import Config
from cifar_flax.config.serialize import from_dict, to_dict
from cifar_flax.config.specs import ModelSpec, OptimizerSpec, Spec, specs_with, swap_class
from cifar_flax.errors import ConfigError

FIELD_PATH = re.compile(r"[A-Za-z_]\w*(\[-?\d+\])*(\.[A-Za-z_]\w*(\[-?\d+\])*)*", re.ASCII)
ALIASES = {"lr": "learning_rate", "wd": "weight_decay", "bs": "batch_size"}  # of other libraries
SWAPPING = ("model.name", "optim.name")  # setting one of them replaces the whole spec


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """A checked copy of the config with other values.

    Args:
      config: is left as it is.
      values: {path: value}, where a value is of JSON's types. `model.name` and `optim.name` are set first, whatever their
        place: the other paths are those of the new spec.

    Raises:
      ConfigError: a path is no field, or a value is refused.
    """
    config = from_dict(to_dict(config))
    swap_specs(config, values)
    tree = to_dict(config)
    for path, value in values.items():
        if path in SWAPPING:
            continue
        if problem := missing_field(config, path):
            raise ConfigError(problem)
        *parents, last = _keys(path)
        parent: Any = tree
        for key in parents:
            parent = parent[key]
        parent[last] = value
    return from_dict(tree)


def swap_specs(config: Config, values: Mapping[str, Any]) -> None:
    """Replaces the specs whose `model.name` or `optim.name` is among the values, in place.

    Raises:
      ConfigError: there is no spec with that name.
    """
    for path in SWAPPING:
        if path in values:
            section = path.partition(".")[0]
            setattr(config, section, swap_class(getattr(config, section), str(values[path])))


def missing_field(config: Any, path: str) -> str | None:
    """Says which part of `path`, such as `optim.learning_rte`, is no field of `config`; None when all of it is."""
    if not FIELD_PATH.fullmatch(path):
        return f"config.{path}: no such field"
    value, seen = config, "config"
    for part in path.split("."):
        name, *indices = part.replace("]", "").split("[")
        if not is_dataclass(value):
            return f"{seen}.{name}: no such field; {seen} is {value!r}"
        if name not in _names(value):
            return f"{seen}.{name}: no such field{_hint(config, value, seen, name)}"
        value, seen = getattr(value, name), f"{seen}.{name}"
        for index in indices:
            if not isinstance(value, tuple) or not -len(value) <= int(index) < len(value):
                return f"{seen}[{index}]: no such entry; {seen} has {len(value) if isinstance(value, tuple) else 'no'} entries"
            value, seen = value[int(index)], f"{seen}[{index}]"
    return None


def values_along(config: Config, path: str) -> list[Any]:
    """The config and what each key of a path leads to; of `optim.clip_norm` the config, the optimizer's section, the norm."""
    values: list[Any] = [config]
    for key in _keys(path):
        values.append(values[-1][key] if isinstance(key, int) else getattr(values[-1], key))
    return values


def _keys(path: str) -> list[str | int]:
    """The names and indices of a path: model, blocks, 0 and pool of `model.blocks[0].pool`."""
    return [int(key) if re.fullmatch(r"-?\d+", key) else key for key in re.findall(r"[^.\[\]]+", path)]


def _names(section: Any) -> list[str]:
    return [*(f.name for f in fields(section)), *(["name"] if isinstance(section, Spec) else [])]


def _hint(config: Any, section: Any, seen: str, name: str) -> str:
    """Suggests the same field of another class of spec, a similar one here or elsewhere; else lists the fields here."""
    if isinstance(section, Spec) and (owners := specs_with(section, name)):
        return f" of {section.name}; {', '.join(owners)} {'has' if len(owners) == 1 else 'have'} it, see --{seen}.name"
    if meant := _similar(config, section, seen, name):
        return f". Did you mean {' or '.join(meant)}?"
    return f" (fields: {', '.join(_names(section))})"


def _similar(config: Any, section: Any, seen: str, name: str) -> list[str]:
    """Paths of the fields that a name may mean: those of this name elsewhere, else one like it, here before elsewhere."""
    paths = dict(_sections(config))
    name = ALIASES.get(name, name)
    if exact := [f"{path}.{name}" for path, names in paths.items() if name in names]:
        return exact
    if close := difflib.get_close_matches(name, _names(section), 1):
        return [f"{seen}.{close[0]}"]
    elsewhere = difflib.get_close_matches(name, {other for names in paths.values() for other in names}, 1)
    return [f"{path}.{elsewhere[0]}" for path, names in paths.items() if elsewhere and elsewhere[0] in names]


def skeleton() -> Config:
    """A config with the fields that all networks and optimizers have, for what is to be known before JAX is imported."""
    return Config(model=ModelSpec(), optim=OptimizerSpec())


def suggest_field(name: str) -> str | None:
    """The path of the field, with "config.", that a flag of this name may have meant; None where nothing is like it."""
    config = skeleton()
    return next(iter(_similar(config, config, "config", name)), None)


def _sections(value: Any, path: str = "config") -> Iterator[tuple[str, list[str]]]:
    """Yields (path, names of the fields that are no sections themselves) of a config and its sections."""
    sections = {f.name for f in fields(value) if is_dataclass(getattr(value, f.name))}
    yield path, [name for name in _names(value) if name not in sections]
    for f in fields(value):
        if is_dataclass(section := getattr(value, f.name)):
            yield from _sections(section, f"{path}.{f.name}")

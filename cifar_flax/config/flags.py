"""The flag --config=FILE.py[:VARIANT] and its overrides --config.FIELD=VALUE, on top of ml_collections.config_flags."""

import ast
import functools
import hashlib
import json
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from absl import flags
from ml_collections import config_flags
from pydantic import TypeAdapter, ValidationError

from cifar_flax.config.fields import SWAPPING, missing_field, skeleton, swap_specs, values_along
from cifar_flax.config.files import load_config
from cifar_flax.config.recipe import BOOKKEEPING
from cifar_flax.config.schema import Config
from cifar_flax.config.serialize import check_fields, validated
from cifar_flax.config.specs import Spec
from cifar_flax.errors import UserError

_argv: list[str] = []  # what config_flags looks for overrides in: the command line without those that swap a spec


class Experiment(NamedTuple):
    """What the flags ask for.

    Attributes:
      config: checked.
      name: such as `wide-short-1f0c52a9`.
      overridden: the fields that flags set, such as "optim.learning_rate".
    """

    config: Config
    name: str
    overridden: tuple[str, ...]


@dataclass
class _Missing:
    """The value of --config where it is not given."""


def define_config_flag() -> None:
    """Defines --config=FILE.py[:VARIANT] and the overrides --config.FIELD=VALUE."""
    _argv.clear()
    config_flags.DEFINE_config_dataclass(
        "config",
        _Missing(),
        "the experiment: NAME or NAME:VARIANT, as `list` shows them, or FILE.py; --config.FIELD=VALUE changes a field",
        sys_argv=_argv,
        parse_fn=_parse,
    )
    flags.register_validator("config", _is_given)
    for path in SWAPPING:
        section = path.partition(".")[0]
        flags.DEFINE_string(f"config.{path}", None, f"another kind of {section}: a short name, or MODULE:CLASS of your own")


def _is_given(value: Any) -> bool:
    if not isinstance(value, Config):
        raise UserError("--config: missing; expected --config=configs/NAME.py, or a name such as --config=quickstart")
    return True


def experiment_from_flags() -> Experiment:
    """The checked config that the flags ask for, and its name: file, variant, and a hash of the overrides that matter.

    Raises:
      UserError: a value is refused.
    """
    flag = flags.FLAGS["config"]
    path, _, variant = config_flags.get_config_filename(flag).partition(":")
    config: Config = validated(flag.value)  # type: ignore[arg-type]  # of which _is_given made sure
    values = config_flags.get_override_values(flag) | {
        path: flags.FLAGS[f"config.{path}"].value for path in SWAPPING if flags.FLAGS[f"config.{path}"].value is not None
    }
    overrides = {name: value for name, value in values.items() if not f"config.{name}".startswith(BOOKKEEPING)}
    digest = hashlib.sha256(json.dumps(overrides, sort_keys=True, default=str).encode()).hexdigest()[:8] if overrides else ""
    return Experiment(config, "-".join(filter(None, (Path(path).stem, variant, digest))), tuple(values))


def _parse(config_path: str) -> Config:
    """Loads the config, swaps specs, and checks the other overrides; config_flags then sets these.

    Raises:
      UserError: of `load_config`, or an override names no single field.
    """
    overrides = list(_overrides(sys.argv))
    _check_common_fields(overrides)
    config = load_config(config_path)
    swap_specs(config, {path: value for path, value, _ in overrides})
    _argv[:] = [sys.argv[0], f"--config={config_path}", *(arg for path, _, arg in overrides if path not in SWAPPING)]
    for path, _, _ in overrides:
        if problem := missing_field(config, path) or _several_fields(config, path):
            raise UserError(problem)
        if outer := next((other for other, _, _ in overrides if path.startswith((f"{other}[", f"{other}."))), None):
            raise UserError(f"config.{path}: lies in config.{outer}, which another flag replaces; set one of the two")
        for value in values_along(config, path):
            if is_dataclass(value):
                _register_parsers(type(value))
    return config


def _check_common_fields(overrides: list[tuple[str, str, str]]) -> None:
    """Checks what is the same for all networks and optimizers, before the file and JAX are imported.

    Raises:
      UserError: an override names no field, or its value is of another type or out of its range.
    """
    config = skeleton()
    for path, value, arg in overrides:
        if path.startswith(("model", "optim")) or "[" in path:  # entries are those of the file's config
            continue
        if problem := missing_field(config, path) or _several_fields(config, path):
            raise UserError(problem)
        *sections, name = path.split(".")
        section: Any = functools.reduce(getattr, sections, config)
        kind = _declared_types(type(section))[name]
        if "=" in arg and get_origin(kind) is not tuple:
            setattr(section, name, _FieldParser(kind).parse(value))
    check_fields(config)


def _overrides(argv: list[str]) -> Iterator[tuple[str, str, str]]:
    """Yields (path, value, argument) of --config.PATH=VALUE, --config.PATH VALUE and --noconfig.PATH."""
    end = argv.index("--") if "--" in argv else len(argv)
    for i, arg in enumerate(argv[:end]):
        name, equals, value = arg.partition("=")
        dashed, dot, path = name.partition("config.")
        if dot and dashed in ("-", "--", "-no", "--no"):
            path = re.sub(r"-(?!\d)", "_", path)  # but not in blocks[-1]
            yield path, value if equals else "".join(argv[i + 1 : i + 2]), f"{dashed}config.{path}{equals}{value}"


def _several_fields(config: Config, path: str) -> str | None:
    """Says so where `path` is an entry of a tuple, or a section: config_flags sets single fields."""
    if path.endswith("]"):
        parent = f"config.{path.rpartition('[')[0]}"
        return f"config.{path}: entries are not set one by one; give all of {parent}, such as --{parent}='(1, 2)'"
    *_, parent, value = values_along(config, path)
    if type(parent).__dataclass_params__.frozen:
        return f"config.{path}: {type(parent).__name__} is a frozen dataclass, which no flag changes; leave out frozen=True"
    if is_dataclass(value):
        name = "name" if isinstance(value, Spec) else fields(value)[0].name
        return f"config.{path}: is a section; its fields are set one by one, such as --config.{path}.{name}"
    return None


class _FieldParser(flags.ArgumentParser[Any]):
    """Reads a value as pydantic does. An unreadable one stays text, so that the check of the config names its field."""

    def __init__(self, kind: Any) -> None:
        self._adapter = TypeAdapter(kind)
        self._optional = type(None) in get_args(get_args(kind)[0]) if get_origin(kind) is Annotated else False

    def parse(self, argument: Any) -> Any:
        if not isinstance(argument, str):
            return argument
        if self._optional and argument in ("none", "None", "null"):  # as `show` and a config.json have it, too
            return None
        try:
            return self._adapter.validate_strings(argument)
        except ValidationError:
            if argument.startswith(("(", "[", "{")):
                return self._parse_literal(argument)
            for number in (int, float):  # out of range, perhaps
                try:
                    return number(argument)
                except ValueError:
                    pass
            return argument

    def _parse_literal(self, argument: str) -> Any:
        """A tuple, a list or a dict in Python's form."""
        value: Any = argument
        try:
            value = ast.literal_eval(argument)
            return self._adapter.validate_json(json.dumps(value))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # ValidationError is a ValueError
            return value


def _register_parsers(section: type) -> None:
    """Teaches config_flags the types of the fields; it looks parsers up by the type that a field is declared with."""
    types_of = _declared_types(section)
    for f in fields(section):
        kind = f.type = types_of[f.name]
        if get_origin(kind) is not tuple and not is_dataclass(kind):
            config_flags.register_flag_parser_for_type(kind, _FieldParser(kind))


def _declared_types(section: type) -> dict[str, Any]:
    """The types of the fields. config_flags strips None off a union, and refuses one of several other types: not off these."""
    kinds = get_type_hints(section, include_extras=True)
    return {name: Annotated[k, "union"] if get_origin(k) in (Union, types.UnionType) else k for name, k in kinds.items()}

"""The flag --config=FILE.py[:VARIANT] and its overrides --config.FIELD=VALUE, on top of ml_collections.config_flags."""

import ast
import difflib
import functools
import hashlib
import importlib.util
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
from cifar_flax.config.imports import is_import_path, run_directory_of
from cifar_flax.config.recipe import BOOKKEEPING
from cifar_flax.config.schema import Config
from cifar_flax.config.serialize import check_fields, validated
from cifar_flax.config.specs import Spec
from cifar_flax.errors import CifarFlaxError, UserError
from cifar_flax.files.installation import CONFIGS
from cifar_flax.files.redact import named_reason

BARE_NAME = re.compile(r"\w*")

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


def load_config(config_path: str) -> Config:
    """Runs `get_config(VARIANT)` of FILE.py for "FILE.py:VARIANT"; the result is not checked yet.

    A name without ".py", such as "fast:sprint", is that of a config of this package.

    The file becomes the module of its name, so that its classes and functions have import paths, such as `my_mixer:Mixer`. Its
    folder comes last on Python's path.

    Raises:
      UserError: there is no such file or variant, the file raises an error or returns something else, or it defines a spec or a
        function that no other command could import.
    """
    path, *variant = config_path.split(":", 1)
    file, flag = Path(path), f"--config={config_path if config_path.isprintable() else repr(config_path)}"
    if BARE_NAME.fullmatch(path):
        file = CONFIGS / f"{path}.py"
        if not file.is_file():
            raise UserError(f"{flag}: no config of this name{_similar(path)}")
    if not file.is_file():
        folder = file if file.is_dir() else file.parent
        others = ", ".join(sorted(p.name for p in folder.glob("*.py"))) if folder.is_dir() else ""
        raise UserError(f"{flag}: no such file{f'. Configs there: {others}' if others else ''}")
    try:
        module, taken = _load_module(file.resolve())
        config = module.get_config(*variant)
    except CifarFlaxError as e:
        raise UserError(f"{flag}: {e}") from None
    except Exception as e:  # whatever a user's own file raises
        raise UserError(f"{flag}: {named_reason(e)}") from e
    if not isinstance(config, Config):
        raise UserError(f"{flag}: get_config() must return a cifar_flax.Config, not {type(config).__name__}")
    if taken and (part := _own_part(config, module, file.stem)):
        raise UserError(f"{flag}: {part} cannot be imported from this file: {taken}")
    return config


def _own_part(config: Config, module: types.ModuleType, name: str) -> str:
    """The first part of a config, of which nothing is checked yet, that lies in its own file, of that name; "" without one."""
    for spec in (config.model, config.optim):
        if isinstance(spec, Spec) and type(spec).__module__ == module.__name__:
            return type(spec).__name__
    values = [config.loss, getattr(config.data, "name", ""), getattr(config.optim, "schedule", "")]
    for several in (getattr(config.augment, "custom", ()), getattr(config.log, "writers", ())):
        values += several if isinstance(several, list | tuple) else ()
    own = (value for value in values if isinstance(value, str) and value.startswith(f"{name}:"))
    return next((value for value in own if hasattr(module, value.partition(":")[2])), "")


def _similar(name: str) -> str:
    names = sorted(path.stem for path in CONFIGS.glob("*.py"))
    close = difflib.get_close_matches(name, names, 1)
    return f". Did you mean {close[0]}?" if close else f"; expected one of {', '.join(names)}, or a file NAME.py"


def _load_module(file: Path) -> tuple[types.ModuleType, str]:
    """Executes the file as the module of its name; with the reason why nothing can be imported from it, or ""."""
    name, taken = file.stem, ""
    if str(file.parent) not in sys.path and run_directory_of(file) is None:
        sys.path.append(str(file.parent))
    if (run := run_directory_of(file)) is not None:
        taken = f"it lies in the run directory {run}, from which nothing is imported; move the file"
    elif not is_import_path(f"{name}:get_config"):
        taken = f"{name} is no name of a module; rename the file"
    elif (origin := _origin(name)) != file:
        taken = f"Python has another module called {name}, {origin}; rename the file"
    if taken:
        name = f"{__name__}.<{file}>"  # which no import path leads to
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UserError("not a Python file; its name has to end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module, taken


def _origin(name: str) -> Path | str | None:
    """Where the module of this name comes from."""
    if name in sys.modules:
        origin = getattr(sys.modules[name], "__file__", None)
    else:
        spec = importlib.util.find_spec(name)
        origin = spec.origin if spec else None
    return Path(origin).resolve() if origin and Path(origin).exists() else origin


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

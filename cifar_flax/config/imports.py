"""Objects by import path, `module:name`: how a config names what lies in a user's file."""

import importlib
import importlib.machinery
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

from cifar_flax.errors import ConfigError
from cifar_flax.files.layout import is_run_directory
from cifar_flax.files.redact import named_reason

IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_import_path(name: str) -> bool:
    """Whether `name` has the form `module:name`, such as `my_models.vit:ViT`; nothing is imported."""
    return IMPORT_PATH.fullmatch(name) is not None


def import_path(obj: Any) -> str:
    """The path under which `import_object` finds a class or function again: `cifar_flax.models.convnet:ConvNet`."""
    return f"{obj.__module__}:{obj.__qualname__}"


def import_object(path: str, field: str) -> Any:
    """Imports what a config names; modules are looked for on Python's path, then in the working directory.

    Args:
      path: `module:name`.
      field: of the config, for the message.

    Raises:
      ConfigError: the path has another form, there is no such module or name, the module raises while it is imported, or it
        lies in a run directory, from which nothing is executed.
    """
    if not is_import_path(path):
        raise ConfigError(f"{field}: {path!r} is no import path; expected MODULE:NAME, such as my_models:ViT")
    module_name, _, name = path.partition(":")
    value: Any = _import_module(module_name, path, field)
    for part in name.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise ConfigError(f"{field}: the module {module_name} has no {name}") from None
    return value


def _import_module(name: str, path: str, field: str) -> Any:
    if name in sys.modules:
        return sys.modules[name]
    working_directory = str(Path.cwd())
    if working_directory not in sys.path and "" not in sys.path:
        sys.path.append(working_directory)  # last, so that it hides nothing that is installed
    top = name.partition(".")[0]
    spec = importlib.util.find_spec(top) if top not in sys.modules else None
    if spec is None and top not in sys.modules:
        raise ConfigError(
            f"{field}: {path} cannot be imported: no module {top} on Python's path; "
            f"run the command from the folder of {top}.py, or set PYTHONPATH to it"
        )
    for place in _places(spec) if spec is not None else ():
        if (folder := run_directory_of(place)) is not None:
            raise ConfigError(f"{field}: {path} would come from the run directory {folder}, in which nothing is executed")
    try:
        return importlib.import_module(name)
    except ImportError as e:
        raise ConfigError(f"{field}: {path} cannot be imported: {e}") from e
    except Exception as e:  # whatever a user's own file raises
        raise ConfigError(f"{field}: {path} cannot be imported: {named_reason(e)}") from e


def _places(spec: importlib.machinery.ModuleSpec) -> list[Path]:
    """The files and folders that a module, a package or a namespace package is made of."""
    locations = [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.has_location and spec.origin else [])]
    return [Path(location) for location in locations]


def run_directory_of(path: Path) -> Path | None:
    """The run directory that a file or folder is or lies in, with and without following links; None where there is none."""
    for place in (path.absolute(), path.resolve()):
        for folder in (place, *place.parents):
            if is_run_directory(folder):
                return folder
    return None

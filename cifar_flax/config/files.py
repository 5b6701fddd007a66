"""Config files, and other files of Python that a flag names."""

import importlib.util
import re
import sys
import types
from pathlib import Path

from cifar_flax.config.imports import is_import_path, run_directory_of
from cifar_flax.config.schema import Config
from cifar_flax.config.specs import Spec
from cifar_flax.errors import CifarFlaxError, UserError, did_you_mean
from cifar_flax.files.installation import CONFIGS
from cifar_flax.files.redact import named_reason

BARE_NAME = re.compile(r"\w*")


def find_file(kind: str, flag: str, text: str, folder: Path) -> Path:
    """The file that a flag names by its path or, where it is one of `folder`, by its bare name.

    Args:
      kind: of the file, for messages: "config".
      flag: with its value, for messages: "--config=fast:sprint".
      text: "fast" or "configs/fast.py".
      folder: that bare names are looked up in.

    Raises:
      UserError: there is no such file.
    """
    if BARE_NAME.fullmatch(text):
        names = sorted(path.stem for path in folder.glob("*.py"))
        if text not in names:
            raise UserError(f"{flag}: no {kind} of this name; {did_you_mean(text, names, ', or a file NAME.py')}")
        return folder / f"{text}.py"
    file = Path(text)
    if not file.is_file():
        others = ", ".join(sorted(path.name for path in (file if file.is_dir() else file.parent).glob("*.py")))
        raise UserError(f"{flag}: no such file{f'. {kind.capitalize()}s there: {others}' if others else ''}")
    return file


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
    flag = f"--config={config_path if config_path.isprintable() else repr(config_path)}"
    file = find_file("config", flag, path, CONFIGS)
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

"""What the apps in `launch/` share: configs from flags, and one clear line with the right exit code for what goes wrong."""

import difflib
import errno
import hashlib
import json
import os
import runpy
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from logging import CRITICAL, getLogger
from pathlib import Path
from types import CoroutineType
from typing import Annotated, Any, NamedTuple, get_args, get_origin, overload

from absl import app, flags, logging
from ml_collections import config_flags

from cifar_flax.config import Config
from cifar_flax.config.serialize import validated
from cifar_flax.config.types import ConfigBase
from cifar_flax.errors import RERUN_HINT, CifarFlaxError, Preempted, RunFailed, UserError

LONGEST_LINE = 1000  # characters of a message


@overload
def run(main: Callable[[], None]) -> None: ...


@overload
def run(main: Callable[[list[str]], None], *, arguments: str) -> None: ...


def run(main: Callable[..., None], *, arguments: str = "") -> None:
    """Parses the flags and calls `main`; exits 0, or 2 for a user's mistake, 1 for a failed run, 75 when interrupted.

    Args:
      main: the command.
      arguments: what may stand beside the flags, before or after them, such as "RUN RUN..."; `main` is then given the list of
        them, at least one. Without, anything that is no flag is refused.
    """
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_handler().setFormatter(None)
    # What goes wrong in Orbax reaches us as exceptions; its own logs, tracebacks among them, are for --verbosity=0.
    logging.get_absl_logger().addFilter(
        lambda record: "orbax" not in record.pathname or logging.get_verbosity() >= logging.INFO
    )
    getLogger("asyncio").setLevel(CRITICAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)  # of its, where a write has failed
    sys.unraisablehook = _unraisable
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # for `report`; until now it was startup's
    app.run(
        lambda argv: report(lambda: main(argv[1:]) if arguments else main()),
        flags_parser=lambda argv: report(lambda: _parse(argv, arguments)),
    )


class Experiment(NamedTuple):
    """What --config and its overrides ask for: the config, and a name for it such as `wide-short-1f0c52a9`."""

    config: Config
    name: str


def define_config_flag() -> None:
    """Defines --config=FILE.py[:VARIANT] and the overrides --config.FIELD=VALUE."""
    # config_flags looks a field's parser up by its exact type, and a range makes a type of its own.
    for section in ConfigBase.__subclasses__():
        for f in fields(section):  # type: ignore[arg-type]  # all of them are dataclasses
            for ranged in (f.type, *get_args(f.type)):
                if get_origin(ranged) is Annotated:
                    config_flags.register_flag_parser_for_type(ranged, _NumberParser(get_args(ranged)[0]))
    config_flags.DEFINE_config_file("config", None, "the experiment: configs/NAME.py or configs/NAME.py:VARIANT")
    flags.mark_flag_as_required("config")


class _NumberParser(flags.ArgumentParser[float]):
    """Reads a number, or `none` for the fields that may be None; the config's own check knows which may."""

    def __init__(self, kind: type[float]) -> None:
        self.kind = kind

    def parse(self, argument: Any) -> float | None:
        return None if argument == "none" else self.kind(argument)


def experiment_from_flags() -> Experiment:
    """The checked config that the flags ask for, and its name: file, variant, and a hash of the overrides that matter.

    Raises:
      UserError: the file cannot be read, or a value is refused.
    """
    flag = flags.FLAGS["config"]
    path, _, variant = config_flags.get_config_filename(flag).partition(":")
    if not isinstance(flag.value, Config):
        raise UserError(f"--config={path}: get_config() must return a cifar_flax.config.schema.Config")
    config = validated(flag.value)
    overrides = {
        name: value
        for name, value in config_flags.get_override_values(flag).items()
        if not name.startswith(("log.", "checkpoint."))
    }
    digest = hashlib.sha256(json.dumps(overrides, sort_keys=True, default=str).encode()).hexdigest()[:8] if overrides else ""
    return Experiment(config, "-".join(filter(None, (Path(path).stem, variant, digest))))


def _unraisable(error: "sys.UnraisableHookArgs") -> None:
    """Leaves out what TensorStore's threads and Orbax's coroutines say of a failure that is raised too."""
    of_a_closed_loop = error.exc_type is RuntimeError and str(error.exc_value) == "Event loop is closed"
    of_orbax = isinstance(error.object, CoroutineType) and "orbax" in error.object.cr_code.co_filename
    if not (of_a_closed_loop or of_orbax):
        sys.__unraisablehook__(error)


def report(call: Callable[[], Any]) -> Any:
    """Calls it; what a person can act on ends as a line on stderr and an exit code, our own mistakes as a traceback."""
    try:
        result = call()
        sys.stdout.flush()
        return result
    except CifarFlaxError as e:
        error = e
    except KeyboardInterrupt:
        error = Preempted(f"interrupted; {RERUN_HINT}")
    except BrokenPipeError:  # `| head` has seen enough; what Python still flushes on leaving goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as e:
        error = _explain_os_error(e)
    print("\n".join(map(_brief, str(error).split("\n"))), file=sys.stderr)
    sys.exit(error.exit_code)


def _brief(line: str) -> str:
    """A line for a terminal, without the middle of what it quotes where that would fill the screen."""
    line = _visible(line)
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 100]} [...] {line[-100:]}"


def _visible(text: str) -> str:
    """The text with what would move the cursor, or is no character, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def _explain_os_error(e: OSError) -> CifarFlaxError:
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunFailed(f"disk full{f' at {e.filename}' if e.filename else ''}: free some space and run the same command")
    if e.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG):
        return UserError(f"{e.filename}: cannot write there ({e.strerror}); choose another place")
    raise e


def _parse(argv: list[str], arguments: str) -> list[str]:
    """Parses the flags and returns the program's name and what is no flag; --max-minutes is --max_minutes."""
    flags_end = argv.index("--") if "--" in argv else len(argv)
    argv = [*map(_underscored, argv[:flags_end]), *argv[flags_end:]]
    config_path = next((arg.partition("=")[2] for arg in argv if arg.startswith(("--config=", "-config="))), None)
    if config_path is not None and not Path(config_path.partition(":")[0]).is_file():
        raise UserError(f"--config={config_path}: no such file{_near(config_path)}")
    try:
        rest = flags.FLAGS(argv)[1:]
    except flags.UnrecognizedFlagError as e:
        close = difflib.get_close_matches(e.flagname, list(flags.FLAGS), 1)
        hint = f". Did you mean --{close[0]}?" if close else ""
        raise UserError(f"--{e.flagname}: no such flag{hint}") from None
    except flags.Error as e:
        if "parsing config file" in str(e):
            raise _explain_override(argv, config_path, e) from None
        raise UserError(str(e).removeprefix("flag ").splitlines()[0]) from None
    except CifarFlaxError:
        raise
    except Exception as e:  # of the config file's own, or what config_flags says of a field that does not exist
        raise _explain_override(argv, config_path, e) from e
    if rest and not arguments:
        raise UserError(f"{rest[0]}: unexpected argument; flags are written --name=value")
    if arguments and not rest:
        raise UserError(f"{arguments}: missing; expected  python {argv[0]} {arguments}")
    return [argv[0], *rest]


def _underscored(arg: str) -> str:
    name, equals, value = arg.partition("=")
    return f"--{name[2:].replace('-', '_')}{equals}{value}" if arg.startswith("--") else arg


def load_config(config_path: str) -> Config:
    """Runs `get_config(VARIANT)` of FILE.py for "FILE.py:VARIANT"; what it returns is not checked yet."""
    path, *variant = config_path.split(":", 1)
    namespace = runpy.run_path(path)
    config: Config = namespace["get_config"](*variant)
    return config


def _explain_override(argv: list[str], config_path: str | None, error: Exception) -> UserError:
    """Says what the config file raises; or, where it is fine by itself, which override is at fault."""
    try:
        config = load_config(config_path or "")
    except Exception as e:  # whatever a user's own file raises
        return UserError(f"--config={config_path}: {type(e).__name__}: {e}")
    overrides = [arg for arg in argv if arg.startswith(("--config.", "--noconfig."))]
    for arg in overrides:
        path = arg.partition("=")[0].partition("config.")[2]
        problem = missing_field(config, path) or _entry_of_a_value(path)
        if problem:
            return UserError(problem)
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return UserError(f"{_visible(' '.join(overrides)) or f'--config={config_path}'}: cannot be set ({reason})")


def _entry_of_a_value(path: str) -> str | None:
    """Says so where an existing `path` ends in an index: config_flags sets fields, and no entries of tuples."""
    if not path.endswith("]"):
        return None
    whole = f"config.{path.rpartition('[')[0]}"
    return f"config.{path}: entries are not set one by one; give all of {whole}, such as --{whole}='(1, 2)'"


def missing_field(config: Any, path: str) -> str | None:
    """Says which part of `path`, such as `optim.learning_rte`, is no field of `config`; None when all of it is."""
    value, seen = config, "config"
    for part in path.split("."):
        name, *indices = part.replace("]", "").split("[")
        names = [f.name for f in fields(value)] if is_dataclass(value) else []
        if not names:
            return f"{seen}.{name}: no such field; {seen} is {value!r}"
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            hint = f" Did you mean {close[0]}?" if close else ""
            return f"{seen}.{name}: no such field.{hint} (fields: {', '.join(names)})"
        value, seen = getattr(value, name), f"{seen}.{name}"
        for index in indices:
            if not isinstance(value, tuple) or not index.lstrip("-").isdigit() or not -len(value) <= int(index) < len(value):
                return f"{seen}[{index}]: no such entry; {seen} has {len(value) if isinstance(value, tuple) else 'no'} entries"
            value, seen = value[int(index)], f"{seen}[{index}]"
    return None


def _near(config_path: str) -> str:
    path = Path(config_path.partition(":")[0])
    others = sorted(p.name for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
    return f". Configs there: {', '.join(others)}" if others else ""

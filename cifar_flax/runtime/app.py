"""The start and the end of every command: flags, signals, one clear line with the right exit code for an error."""

import difflib
import errno
import io
import math
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from logging import CRITICAL, Formatter, LogRecord, getLogger
from pathlib import Path
from types import CoroutineType
from typing import Any, overload

from absl import app, flags, logging

from cifar_flax.errors import (
    RAISE_OPEN_FILES,
    RERUN_HINT,
    RERUN_WITHOUT_RESTART,
    CifarFlaxError,
    Preempted,
    RunFailed,
    UserError,
)
from cifar_flax.files.installation import LAUNCH
from cifar_flax.files.redact import reason, visible
from cifar_flax.runtime import background
from cifar_flax.runtime.command_line import typed
from cifar_flax.runtime.help_text import about, help_text

REFUSALS = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ENOTEMPTY),
    *(errno.EXDEV, errno.EINVAL),
)
SMALLER = "give it more, or a smaller config.train.batch_size or network"
LONGEST_LINE = 1000  # characters of a message
EXPECTED = {  # of a flag, by what absl and Python say of a value of another type
    r"\('Non-boolean argument to boolean flag', .*": "expected true or false",
    r"could not convert string to float: .*": "expected a number",
    r"invalid literal for int\(\) with base 10: .*": "expected a whole number",
}


@overload
def run(main: Callable[[], None]) -> None: ...


@overload
def run(main: Callable[[list[str]], None], *, arguments: str) -> None: ...


def run(main: Callable[..., None], *, arguments: str = "") -> None:
    """Parses the flags and calls `main`; exits 0, or 2 for a user's mistake, 1 for a failed run, 75 when interrupted.

    Args:
      main: the command.
      arguments: names the positional arguments in messages, such as "RUN RUN..."; `main` gets the list of them, at least one
        unless it is in brackets, such as "[FOLDER]". If empty, `main` takes no arguments and they are refused.
    """
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_handler().setFormatter(_Printable())
    # Errors in Orbax are raised; its logs, which repeat them with tracebacks, are for --verbosity=0.
    logging.get_absl_logger().addFilter(
        lambda record: "orbax" not in record.pathname or logging.get_verbosity() >= logging.INFO
    )
    getLogger("asyncio").setLevel(CRITICAL)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal, or a PYTHONIOENCODING, need not know bars and é
    # After a failed write, Orbax leaves coroutines un-awaited.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    sys.unraisablehook = _unraisable
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # for `report`; `startup` answered it until now
    try:
        app.run(
            lambda argv: report(lambda: main(argv[1:]) if arguments else main()),
            flags_parser=lambda argv: report(lambda: _parse(argv, arguments)),
        )
    except SystemExit as e:
        if e.code and background.busy():  # a scheduler that sent SIGTERM does not wait for a compilation to end
            sys.stderr.flush()
            os._exit(int(e.code))
        raise


class _Printable(Formatter):
    """The messages alone, printable: they may hold names of files and folders."""

    def format(self, record: LogRecord) -> str:
        return "\n".join(map(visible, super().format(record).split("\n")))


def _unraisable(error: "sys.UnraisableHookArgs") -> None:
    """Hides errors in threads of TensorStore, coroutines of Orbax and their loops, which are raised in the main thread too."""
    from_closed_loop = error.exc_type is RuntimeError and str(error.exc_value) == "Event loop is closed"
    from_orbax = isinstance(error.object, CoroutineType) and "orbax" in error.object.cr_code.co_filename
    from_loop_not_begun = getattr(error.object, "__qualname__", "") == "BaseEventLoop.__del__"  # there were too many open files
    if not (from_closed_loop or from_orbax or from_loop_not_begun):
        sys.__unraisablehook__(error)


def report(call: Callable[[], Any]) -> Any:
    """Calls it. Errors that a user can act on end as a line on stderr and an exit code; bugs of ours as a traceback."""
    try:
        result = call()
        sys.stdout.flush()
        return result
    except BrokenPipeError:  # `| head` has seen enough; Python flushes stdout once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (CifarFlaxError, KeyboardInterrupt, OSError, MemoryError, RuntimeError) as e:
        error = _explain(e)
        text = str(error)
        if RERUN_WITHOUT_RESTART in getattr(e, "__notes__", ()):
            text = text.replace(RERUN_HINT, RERUN_WITHOUT_RESTART)
    print("\n".join(map(_brief, text.split("\n"))), file=sys.stderr)
    sys.exit(error.exit_code)


def _explain(e: CifarFlaxError | KeyboardInterrupt | OSError | MemoryError | RuntimeError) -> CifarFlaxError:
    match e:
        case CifarFlaxError():
            return e
        case KeyboardInterrupt():
            return Preempted(f"interrupted; {RERUN_HINT}")
        case OSError():
            return _explain_os_error(e)
        case MemoryError():
            return RunFailed(f"out of memory{f': {e}' if str(e) else ''}; {SMALLER}")
        case _:
            return _explain_runtime_error(e)


def _brief(line: str) -> str:
    """The line, printable, and without its middle if it is so long that it would fill the screen."""
    line = visible(line)
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 100]} [...] {line[-100:]}"


def _explain_os_error(e: OSError) -> CifarFlaxError:
    if e.errno is None:  # not from the operating system
        raise e
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunFailed(f"disk full{f' at {e.filename}' if e.filename else ''}: free some space and {RERUN_HINT}")
    place = f"{os.fsdecode(e.filename)}: " if isinstance(e.filename, str | bytes | os.PathLike) else ""
    if e.errno == errno.EMFILE:
        return RunFailed(f"{place}{e.strerror}; {RAISE_OPEN_FILES} and {RERUN_HINT}")
    if e.errno == errno.ELOOP:
        return UserError(f"{place}is a link, and nothing is written through one in a run; remove it or choose another folder")
    if e.errno in REFUSALS:
        return UserError(f"{place}cannot be used ({e.strerror}); choose another place")
    return RunFailed(f"{place}{e.strerror}; what was saved before is intact; once that is mended, {RERUN_HINT}")


def _explain_runtime_error(e: RuntimeError) -> CifarFlaxError:
    text = str(e)
    if "home directory" in text:  # of pathlib, for a path with ~
        return UserError(f"{reason(e)} Set HOME, or CIFAR_FLAX_CACHE and TFDS_DATA_DIR, to a folder, and write paths without ~")
    if "can't start new thread" in text or "RESOURCE_EXHAUSTED" in text:  # of Python; of XLA
        return RunFailed(f"out of memory: {reason(e)}; {SMALLER}")
    raise e


def _parse(argv: list[str], arguments: str) -> list[str]:
    """Parses the flags and returns the name of the program and the positional arguments; --max-minutes is --max_minutes."""
    flags_end = argv.index("--") if "--" in argv else len(argv)
    argv = [argv[0], *_config_first(map(_underscored, argv[1:flags_end])), *argv[flags_end:]]
    if {"--help", "-h", "--helpshort", "--helpfull"} & set(argv[:flags_end]):
        print(help_text(argv[0], arguments))
        sys.exit(0)
    _refuse_unknown(argv[1:flags_end])
    try:
        rest = flags.FLAGS(argv)[1:]
    except flags.UnrecognizedFlagError as e:
        raise _unknown_flag(e.flagname) from None
    except flags.Error as e:
        raise UserError(_flag_problem(str(e), argv)) from None
    _check_values(rest)
    if rest and not arguments:
        raise UserError(f"{rest[0]}: unexpected argument; flags are written --name=value")
    if arguments and not rest and not arguments.startswith("["):
        file = Path(argv[0])
        command = typed(file.stem) if file.parent == LAUNCH else f"{Path(sys.executable).name} {file}"
        raise UserError(f"{arguments}: missing; expected  {command} {arguments}")
    return [argv[0], *rest]


def _config_first(words: Iterator[str]) -> list[str]:
    """The arguments with --config, in one word or two, before those of its fields, which there are once it is read."""
    first, rest = [], []
    for word in words:
        if word.partition("=")[0] in ("--config", "-config"):
            first += [word, *([] if "=" in word else islice(words, 1))]
        else:
            rest.append(word)
    return first + rest


def _refuse_unknown(argv: list[str]) -> None:
    """Refuses flags that there are not, before those that there are have a config read, and JAX with it."""
    names = [arg[2:].partition("=")[0] for arg in argv if arg.startswith("--")]
    defined = {*flags.FLAGS, "flagfile", "undefok", ""}
    for name in names if "undefok" not in names else []:
        if not name.startswith(("config.", "noconfig.")) and not {name, name.removeprefix("no")} & defined:
            raise _unknown_flag(name)


def _check_values(arguments: list[str]) -> None:
    """Refuses nan and inf, and an empty text: a script's variable that is unset, which as a path is the current folder."""
    for name in flags.FLAGS:
        if name.startswith("config.") or not flags.FLAGS[name].present:
            continue
        value = flags.FLAGS[name].value
        if value == "":
            raise UserError(f"--{name}: is empty; leave it out, or give it a value")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"--{name}: should be a finite number, not {value}")
    if "" in arguments:
        raise UserError("an argument is empty; leave it out, or give it a value")


def _unknown_flag(name: str) -> UserError:
    close = difflib.get_close_matches(name, [other for other in flags.FLAGS if not other.startswith("config.")], 1)
    hint = f". Did you mean --{close[0]}?" if close else ""
    if not close and "config" in flags.FLAGS:
        from cifar_flax.config.fields import suggest_field

        hint = f". Did you mean --{path}?" if (path := suggest_field(name)) else ""
    return UserError(f"--{name}: no such flag{hint}")


def _flag_problem(message: str, argv: list[str]) -> str:
    """Message of absl about a flag, in a line; for a required flag that is missing, its purpose."""
    line = message.removeprefix("flag ").splitlines()[0]
    if not (missing := re.search(r"Flag --(\w+) must have a value other than None", line)):
        for said, expected in EXPECTED.items():
            line = re.sub(said, expected, line)
        return line
    flag = flags.FLAGS[missing[1]]
    arguments = (arg for before, arg in pairwise(argv) if "=" in before or not before.startswith("--"))  # no values of flags
    given = next((arg for arg in arguments if not arg.startswith("-")), "VALUE")
    values = "|".join(getattr(flag.parser, "enum_values", None) or [given])
    return f"--{flag.name}: missing; expected --{flag.name}={values}: {about(flag)}"


def _underscored(arg: str) -> str:
    name, equals, value = arg.partition("=")
    if not arg.startswith("--"):
        return arg
    words = re.sub(r"-(?!\d)", "_", name[2:])  # but --config.model.blocks[-1].dropout stays
    return f"--{words}{equals}{value}"

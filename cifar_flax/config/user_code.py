"""Errors that a user's own code raises, as one line with their place."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cifar_flax.errors import CifarFlaxError, ConfigError
from cifar_flax.files.redact import named_reason

OURS = "cifar_flax"
LIBRARIES = {OURS, "flax", "jax", "jaxlib", "optax", "numpy", *sys.stdlib_module_names}


@contextmanager
def user_code(field: str, name: str, part: Any) -> Iterator[None]:
    """Turns an error of a user's part into a ConfigError with its place.

    Errors of this package pass through, and all that its own parts raise, where anything unexpected is a bug of ours.

    Args:
      field: of the config, which names the part.
      name: of what is called, for the message: `parts:my_loss`, `build() of parts:Net`.
      part: the class or the function that is called.

    Raises:
      ConfigError: a user's part raised something else.
    """
    try:
        yield
    except (CifarFlaxError, MemoryError):
        raise
    except Exception as e:
        if is_ours(part):
            raise
        raise ConfigError(f"{field}: {raised(name, e)}") from e


def raised(name: str, error: BaseException) -> str:
    """An error of a user's part, and its place: `parts:my_loss raised ValueError: no targets (parts.py, line 12)`."""
    place = place_of(error)
    return f"{name} raised {named_reason(error)}{f' ({place})' if place else ''}"


def is_ours(part: Any) -> bool:
    """Whether a class or a function is of this package."""
    return _package(getattr(part, "__module__", None)) == OURS


def place_of(error: BaseException) -> str:
    """The innermost line of a user's own that an error went through: `parts.py, line 12`; "" where there is none."""
    frames = traceback.walk_tb(error.__traceback__)
    own = [
        (frame, line)
        for frame, line in frames
        if _package(frame.f_globals.get("__name__")) not in LIBRARIES and "-packages" not in frame.f_code.co_filename
    ]
    return f"{Path(own[-1][0].f_code.co_filename).name}, line {own[-1][1]}" if own else ""


def _package(module: Any) -> str:
    return str(module).partition(".")[0]

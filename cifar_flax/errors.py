"""Exceptions that map to exit codes, which scripts can rely on."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

RERUN_HINT = "run the same command to go on"
RAISE_OPEN_FILES = "raise the hard limit on open files (ulimit -Hn 4096, as root)"
RERUN_WITHOUT_RESTART = "run the same command without --restart to go on"  # which would begin again once more


class CifarFlaxError(Exception):
    """Base of the errors whose message is written for the person at the terminal: one line, or a line and a short list."""

    exit_code = 1


class UserError(CifarFlaxError):
    """The request cannot be carried out as it stands: a bad config, missing data, a folder that is not a run."""

    exit_code = 2


class ConfigError(UserError):
    """A field of the config is at fault, so that the same config would end the same way again; the message names the field."""


class WorkdirLocked(UserError):
    """Another process is training in the folder."""


class RunFailed(CifarFlaxError):
    """A run that started well had to stop: NaN loss, full disk. What was saved stays."""


class Diverged(RunFailed):
    """The loss or the gradient is not finite: the same config would end the same way again.

    Attributes:
      seeds: of several seeds' run directories those that diverged, and the message of each.
      ended: run directories of other seeds, which were trained to their end.
    """

    seeds: Mapping[Path, str] = {}
    ended: Sequence[Path] = ()


class Preempted(CifarFlaxError):
    """SIGTERM, Ctrl-C or --max_minutes, after everything was saved. 75 is EX_TEMPFAIL of sysexits.h: try again later."""

    exit_code = 75


def did_you_mean(name: str, names: Collection[str], others: str = "") -> str:
    """The end of a message on a misspelt name: "did you mean adam?", or, where none is like it, "expected one of ...".

    Args:
      name: as typed.
      names: that there are.
      others: what else would do, for the second form: ", or MODULE:NAME of your own".
    """
    close = difflib.get_close_matches(name, names, 1)
    return f"did you mean {close[0]}?" if close else f"expected one of {', '.join(names)}{others}"

"""The runs in a folder, as a table."""

import re
from pathlib import Path

from cifar_flax.config.serialize import read_config
from cifar_flax.errors import UserError
from cifar_flax.files.checksum import read_checksummed
from cifar_flax.files.layout import is_exported
from cifar_flax.files.redact import visible
from cifar_flax.files.tables import TERMINAL_WIDTH, format_table, shorten
from cifar_flax.training.records import read_epochs

HEADER = ("run", "began", "config", "data", "epochs", "validation", "test")
NUMBERS = (4, 5, 6)  # its columns that are aligned to the right
NAMED = 13  # characters of a config or of data: the other columns leave so many of a line


def describe_runs(folder: Path) -> str:
    """A table of the runs in a folder and below: day, config and data, epochs, best validation and test top-1.

    Where names of runs would make it wider than a terminal, they have lines of their own, so that they can be copied whole.
    """
    folders = (path.parent for path in sorted(folder.rglob("config.json")))
    runs = [_describe_run(run, folder) for run in folders if not is_exported(run)]
    if not runs:
        return f"{folder}: no run there"
    table = format_table([HEADER, *runs], right=NUMBERS)
    if max(map(len, table.splitlines())) <= TERMINAL_WIDTH:
        return table
    header, *rows = format_table([("  ", *row[1:]) for row in (HEADER, *runs)], right=NUMBERS).splitlines()
    return "\n".join(
        [f"{HEADER[0]}{header[len(HEADER[0]) :]}", *(f"{visible(run[0])}\n{row}" for run, row in zip(runs, rows, strict=True))]
    )


def _describe_run(run: Path, folder: Path) -> tuple[str, ...]:
    name = str(run.relative_to(folder)) if run != folder else run.name
    began, name_of_config = _first_session(run)
    try:
        config = read_config(run / "config.json")
        epochs = read_epochs(run)
    except (UserError, OSError):
        return name, began, "(unreadable)", "", "", "", ""
    validated = [record["validation_top1"] for record in epochs if record.get("validation_top1") is not None]
    try:
        test = f"{read_checksummed(run / 'report' / 'test.json')['top1']:.2%}"
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        test = ""
    done = min(len(epochs), config.train.epochs)  # the last may have been cut off
    of, best = f"{done:g}/{config.train.epochs:g}", f"{max(validated):.2%}" if validated else ""
    trained = (name_of_config or config.model.name, Path(config.data.name).name)
    return name, began, *(shorten(visible(text), NAMED) for text in trained), of, best, test


def _first_session(run: Path) -> tuple[str, str]:
    """The day on which a run began, and the config that its command named; "" for what is not known."""
    try:
        environment = read_checksummed(run / "environment.json")
        first = [*environment.get("earlier", []), environment][0]
        named = re.search(r"^--?config[=\n](.*)$", "\n".join(map(str, first["command"])), re.MULTILINE)
        return str(first["time"])[:10], re.sub(r"^.*/|\.py", "", named[1]) if named else ""
    except (OSError, ValueError, KeyError, TypeError):
        return "", ""

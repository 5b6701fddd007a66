"""The runs in a folder, as a table."""

import re
from pathlib import Path

from cifar_flax.config.serialize import read_config
from cifar_flax.errors import UserError
from cifar_flax.files.checksum import read_checksummed
from cifar_flax.files.exported import is_exported
from cifar_flax.files.tables import format_table
from cifar_flax.training.records import read_records

HEADER = ("run", "began", "config", "data", "epochs", "validation", "test")
NUMBERS = (4, 5, 6)  # its columns that are aligned to the right


def describe_runs(folder: Path) -> str:
    """A table of the runs in a folder and below: day, config and data, epochs, best validation and test top-1."""
    folders = (path.parent for path in sorted(folder.rglob("config.json")))
    runs = [_describe_run(run, folder) for run in folders if not is_exported(run)]
    return format_table([HEADER, *runs], right=NUMBERS) if runs else f"{folder}: no run there"


def _describe_run(run: Path, folder: Path) -> tuple[str, ...]:
    name = str(run.relative_to(folder)) if run != folder else run.name
    began, name_of_config = _first_session(run)
    try:
        config = read_config(run / "config.json")
        epochs = [record for record in read_records(run) if record["kind"] == "epoch"]
    except UserError:
        return name, began, "(damaged, or of another version)", "", "", "", ""
    validated = [record["validation_top1"] for record in epochs if record.get("validation_top1") is not None]
    try:
        test = f"{read_checksummed(run / 'report' / 'test.json')['top1']:.2%}"
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        test = ""
    done = min(len(epochs), config.train.epochs)  # the last may have been cut off
    of, best = f"{done:g}/{config.train.epochs:g}", f"{max(validated):.2%}" if validated else ""
    return name, began, name_of_config or config.model.name, Path(config.data.name).name, of, best, test


def _first_session(run: Path) -> tuple[str, str]:
    """The day on which a run began, and the config that its command named; "" for what is not known."""
    try:
        environment = read_checksummed(run / "environment.json")
        first = [*environment.get("earlier", []), environment][0]
        named = re.search(r"^--?config[=\n](.*)$", "\n".join(map(str, first["command"])), re.MULTILINE)
        return str(first["time"])[:10], re.sub(r"^.*/|\.py", "", named[1]) if named else ""
    except (OSError, ValueError, KeyError, TypeError):
        return "", ""

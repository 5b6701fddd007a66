"""metrics.jsonl: a JSON object a line, appended while training and cut back to the checkpoint when a run is resumed."""

import json
import math
import os
from pathlib import Path
from typing import Any, TextIO

from absl import logging

from cifar_flax.errors import UserError
from cifar_flax.files.atomic import write_text
from cifar_flax.files.folder import open_regular, open_to_append, parse_json

FILE = "metrics.jsonl"
TIMES = ("seconds", "elapsed", "compilation", "images_per_second")  # differ between runs that are bitwise equal
KINDS = ("step", "epoch")
SCORE_PREFIXES = ("validation_raw", "validation", "train")  # with which the names of an epoch's scores begin
LONGEST_LINE = 1 << 20  # characters
SECONDS = ("seconds", "elapsed", "compilation")  # of the TIMES those that are sums, which are never null
LARGEST = 3.5e38  # of a number, which is float32
MOST = {"step": 1 << 53, "epoch": 1 << 53} | dict.fromkeys(SECONDS, 1e10)


class Records:
    """The records of a run: `kind` "step" holds a batch's metrics, "epoch" the epoch's on training and validation images."""

    def __init__(self, workdir: Path, step: int, epochs_done: int) -> None:
        """Opens the file and drops the records that a run resumed at `step`, `epochs_done` epochs validated, writes again."""
        self.path = workdir / FILE
        kept = [r for r in read_records(workdir) if (r["epoch"] <= epochs_done if r["kind"] == "epoch" else r["step"] <= step)]
        lost = sorted({*range(1, epochs_done + 1)} - {r["epoch"] for r in kept if r["kind"] == "epoch"})
        if lost:  # more than a cut line, of which `read_records` has warned
            logging.warning(
                "%s: there are no records of %d of %d epochs, the first of them %d", self.path, len(lost), epochs_done, lost[0]
            )
        write_text(self.path, "".join(_line(r) for r in kept))
        self.last: dict[str, Any] = max(kept, key=lambda r: (r["step"], r["kind"] == "epoch"), default={})
        self._file: TextIO = open_to_append(self.path)

    def append(self, record: dict[str, Any]) -> None:
        """Writes one record, at once. Numbers that JSON has no word for, NaN and infinities, become null.

        Raises:
          OSError: it cannot be written.
        """
        if not self._is_there():
            logging.warning("%s was removed or replaced while this process trains; it is written again", self.path)
            self._file.seek(0)
            content = self._file.read()
            self._file.close()
            write_text(self.path, content)
            self._file = open_to_append(self.path)
        self._file.write(_line({k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}))
        self._file.flush()

    def sync(self) -> None:
        """Returns once the records are on the disk: a power cut must not leave a checkpoint without the records before it."""
        os.fsync(self._file.fileno())

    def _is_there(self) -> bool:
        """Whether the path still leads to the file that is written."""
        try:
            return os.path.samestat(os.lstat(self.path), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_records(workdir: Path) -> list[dict[str, Any]]:
    """The records so far; none where there is no file. Lines that are no records are left out, with a warning.

    Raises:
      UserError: the file cannot be read.
    """
    path = workdir / FILE
    records, damaged = [], []
    try:
        with open_regular(path) as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), ""), 1):
                if (record := _parse(line)) is not None:
                    records.append(record)
                else:
                    damaged.append(str(number))
    except FileNotFoundError:
        return []
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror})") from None
    except ValueError as e:
        raise UserError(f"{path}: {e}; remove it") from None
    if damaged:
        shown = ", ".join([*damaged[:3], *(["..."] if damaged[3:] else [])])
        logging.warning("%s: line %s cut short or damaged, left out; the other %d are read", path, shown, len(records))
    return records


def read_epochs(workdir: Path) -> list[dict[str, Any]]:
    """The records of epochs, as `read_records` reads them."""
    return [record for record in read_records(workdir) if record["kind"] == "epoch"]


def validated_epochs(workdir: Path) -> dict[int, float]:
    """Validation top-1, in [0, 1], by the number of the epoch, counted from 1, of those that were validated."""
    return epoch_values(workdir, "validation_top1")


def epoch_values(workdir: Path, name: str) -> dict[int, float]:
    """The values of a field by the number of the epoch, counted from 1, of those that have it."""
    return {r["epoch"]: r[name] for r in read_epochs(workdir) if r.get(name) is not None}


def curves(record: dict[str, Any]) -> dict[str, float]:
    """The points that a record adds to curves, by the curves' names: `step/loss`, `train/top1`, `validation_raw/loss`.

    Numbers that are null or not finite are left out, and so are times but for the speed.
    """
    numbers = {name: x for name, x in record.items() if isinstance(x, int | float) and math.isfinite(x)}
    if record["kind"] == "step":
        unnamed = {"step", "epoch", *TIMES} - {"images_per_second"}
        return {f"step/{name}": x for name, x in numbers.items() if name not in unnamed}
    splits = {name: next((split for split in SCORE_PREFIXES if name.startswith(f"{split}_")), None) for name in numbers}
    return {f"{split}/{name.removeprefix(f'{split}_')}": numbers[name] for name, split in splits.items() if split}


def _parse(line: str) -> dict[str, Any] | None:
    """The record in a line; None where it holds none."""
    try:
        record = parse_json(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or record.get("kind") not in KINDS:
        return None
    numbers = {name: value for name, value in record.items() if name != "kind"}
    needed = {"step", "epoch"} | ({"elapsed"} if record["kind"] == "epoch" else set())
    if not needed <= numbers.keys() or not all(type(numbers[name]) is int for name in ("step", "epoch")):
        return None
    return record if all(_in_range(name, value) for name, value in numbers.items()) else None


def _in_range(name: str, value: Any) -> bool:
    """Whether it is a number that a training records."""
    if value is None:
        return name not in MOST
    return type(value) in (int, float) and (0 <= value <= MOST[name] if name in MOST else -LARGEST <= value <= LARGEST)


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record) + "\n"

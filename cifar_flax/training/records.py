"""metrics.jsonl: a JSON object a line, appended while training and cut back to the checkpoint when a run is resumed."""

import json
import math
from pathlib import Path
from typing import Any, TextIO

from absl import logging

from cifar_flax.files.atomic import write_text

FILE = "metrics.jsonl"
TIMES = ("seconds", "elapsed", "compilation", "images_per_second")  # differ between runs that are bitwise equal
REQUIRED = ("kind", "step", "epoch")


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
        self.last: dict[str, Any] = max(kept, key=lambda r: r["step"], default={})
        self._file: TextIO = self.path.open("a", encoding="utf-8")

    def append(self, record: dict[str, Any]) -> None:
        """Writes one record, at once. Numbers that JSON has no word for, NaN and infinities, become null."""
        self._file.write(_line({k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}))
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_records(workdir: Path) -> list[dict[str, Any]]:
    """The records so far; none where there is no file. Lines that are no records are left out, with a warning."""
    path = workdir / FILE
    if not path.exists():
        return []
    records, damaged = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if isinstance(record, dict) and all(key in record for key in REQUIRED):
            records.append(record)
        else:
            damaged.append(str(number))
    if damaged:
        shown = ", ".join([*damaged[:3], *(["..."] if damaged[3:] else [])])
        logging.warning("%s: line %s cut short or damaged, left out; the other %d are read", path, shown, len(records))
    return records


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record) + "\n"

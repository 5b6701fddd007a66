"""The report on several seeds of one config: each evaluated, and their mean and sd."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cifar_flax.analysis.compare.runs import Entry, groups_of, load_entries
from cifar_flax.analysis.compare.tables import tables, write_html
from cifar_flax.files.atomic import write_text

SCORES = ("top1", "top2", "top3", "top5", "macro_f1", "loss", "ece")


def report_seeds(workdir: Path, folders: Sequence[Path], split: str, which: str, page: bool) -> str:
    """Evaluates the runs in `folders` and writes WORKDIR/report/SPLIT.json, and report.html where `page`; returns the table.

    Raises:
      UserError: as `Run` does, of any of them.
    """
    entries = load_entries([str(folder) for folder in folders], split, which)
    report = workdir / "report"
    report.mkdir(exist_ok=True)
    path = report / f"{split}.json"
    write_text(path, json.dumps(_scores(entries), indent=2) + "\n")
    text = "\n\n".join(table.text() for table in tables(entries, split)[:2])
    if page:
        write_html(report / "report.html", entries, split)
        return f"{text}\n-> {path}, {report / 'report.html'}"
    return f"{text}\n-> {path}"


def _scores(entries: Sequence[Entry]) -> dict[str, Any]:
    [group] = groups_of(entries)
    seeds = {entry.name: {"checkpoint": entry.step, **{name: entry.scores[name] for name in SCORES}} for entry in entries}
    return {"n": len(entries), "top1_mean": group.mean, "top1_sd": group.sd, "seeds": seeds}

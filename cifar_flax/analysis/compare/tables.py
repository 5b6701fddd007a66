"""A comparison of runs as tables: for the terminal, as CSV and as a page."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cifar_flax.analysis.compare.runs import Entry, against_first, fields_of, groups_of, repeated_seeds
from cifar_flax.analysis.config_diff import in_words
from cifar_flax.files.atomic import write_text
from cifar_flax.training.progress import clock

NONE = "-"


@dataclass(frozen=True)
class Table:
    """Rows of text under a header."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def text(self) -> str:
        """Aligned columns."""
        columns = list(zip(self.columns, *self.rows, strict=True))
        widths = [max(map(len, column)) for column in columns]
        lines = (
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in (self.columns, *self.rows)
        )
        note = [f"  {self.note}"] if self.note else []
        return "\n".join([self.title, *(f"  {line}" for line in lines if self.rows), *note])


def tables(entries: Sequence[Entry], split: str) -> list[Table]:
    """The runs, the groups of seeds where a config was run more than once, and the fields in which the configs differ."""
    found = [_runs(entries, split)]
    groups = groups_of(entries)
    if len(groups) < len(entries):
        rows = [
            (
                ", ".join(str(i + 1) for i in group.members),
                *map(_percent, (group.mean, group.sd)),
                str(len(group.top1)),
                _p(group.p),
            )
            for group in groups
        ]
        notes = ["p: Welch's t-test against the first group"]
        for group in groups:
            runs = ", ".join(str(i + 1) for i in repeated_seeds(entries, group))
            notes += [f"runs {runs} share a seed: where they are one training twice, n is too high and sd too low"] * bool(runs)
        title = "top-1 of the runs of one config, over seeds"
        found.append(Table(title, ("runs", "mean", "sd", "n", "p"), rows, "; ".join(notes)))
    fields = [
        (path, *(NONE if value is None else in_words(value) for value in values)) for path, values in fields_of(entries).items()
    ]
    columns = ("field", *(str(i) for i in range(1, len(entries) + 1)))
    found.append(Table("config fields that differ" if fields else "their configs do not differ", columns, fields))
    return found


def write_csv(path: Path, entries: Sequence[Entry]) -> None:
    """Writes a row a run, with shares in [0, 1], seconds, and a column for each config field that differs."""
    fields = fields_of(entries)
    group_of = {member: group for group in groups_of(entries) for member in group.members}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = ("loss", "top5", "macro_f1", "ece")
    head = ("run", "checkpoint", "n", "top1", "top1_low", "top1_high", "top1_minus_first", "mcnemar_p", *names)
    writer.writerow([*head, "images_per_second", "seconds", "group_mean", "group_sd", "group_n", *fields])
    for i, (entry, test) in enumerate(zip(entries, against_first(entries), strict=True)):
        group = group_of[i]
        scores = (entry.scores["n"], entry.scores["top1"], *entry.interval, *(test or ("", "")))
        more = (*(entry.scores[name] for name in names), entry.images_per_second, entry.seconds)
        together = (group.mean, group.sd, len(group.top1))
        writer.writerow([entry.name, entry.step, *scores, *more, *together, *(values[i] for values in fields.values())])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, buffer.getvalue())


def write_html(path: Path, entries: Sequence[Entry], split: str) -> Path:
    """Writes the tables and the overlaid learning curves as one page, and the curves as NAME_curves.png beside it.

    Returns:
      The path of the picture.
    """
    from cifar_flax.analysis.figures import Album
    from cifar_flax.analysis.html import write_page
    from cifar_flax.analysis.report.curves import epochs_of, overlaid_curves  # matplotlib only where pictures are drawn

    path.parent.mkdir(parents=True, exist_ok=True)
    album = Album(path.parent, path.stem)
    with album.style():
        figure = overlaid_curves([(entry.name, epochs_of(entry.metrics)) for entry in entries])
        curves = album.add("curves", figure, "Loss and accuracy of the runs by epoch")
    title = f"{len(entries)} runs compared on {split}"
    write_page(path, "compare.html", title=title, tables=tables(entries, split), curves=curves)
    return path.parent / curves.file


def _runs(entries: Sequence[Entry], split: str) -> Table:
    rows = []
    for i, (entry, test) in enumerate(zip(entries, against_first(entries), strict=True), 1):
        interval = f"{entry.interval.low:.2%} to {entry.interval.high:.2%}"
        difference = (f"{test[0] * 100:+.2f}", _p(test[1])) if test else (NONE, NONE)
        speed = NONE if entry.images_per_second is None else f"{entry.images_per_second:,.0f}"
        time = NONE if entry.seconds is None else clock(entry.seconds)
        scores = (_percent(entry.scores["top1"]), interval, *difference, _percent(entry.scores["top5"]))
        more = (f"{entry.scores['loss']:.4f}", _percent(entry.scores["ece"]), speed, time, f"{entry.step:,}")
        rows.append((str(i), entry.name, *scores, *more))
    columns = ("", "run", "top-1", "95 % interval", "to run 1", "p", "top-5", "loss", "ECE", "images/s", "time", "checkpoint")
    note = "p: McNemar's exact test against run 1, on the same images; it leaves chance in training, such as the seed, aside"
    return Table(f"{split}, {entries[0].scores['n']:,} images", columns, rows, note)


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{share:.2%}"


def _p(value: float | None) -> str:
    return NONE if value is None else f"{value:.2g}" if value >= 0.001 else "< 0.001"

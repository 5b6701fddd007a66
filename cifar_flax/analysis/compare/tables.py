"""A comparison of runs as tables of text."""

import textwrap
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cifar_flax.analysis.compare.runs import (
    RunResult,
    SeedGroup,
    config_differences,
    group_by_config,
    paired_tests,
    repeated_seeds,
)
from cifar_flax.config.defaults import format_value
from cifar_flax.files.tables import TERMINAL_WIDTH, format_table
from cifar_flax.runtime.progress import format_duration

NONE = "-"


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; a table without rows is its title alone.

    Attributes:
      title: above it.
      columns: the header.
      rows: the cells of each.
      note: below it.
      words: the columns of text, which are aligned to the left; all others are of numbers.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    words: Collection[str] = ()

    def text(self) -> str:
        """Formats the table for a terminal: columns that do not fit come below, behind those up to the first of words."""
        parts = [self._formatted(columns) for columns in self._fitting_columns()] if self.rows else []
        note = textwrap.fill(self.note, TERMINAL_WIDTH, initial_indent="  ", subsequent_indent="  ")
        return "\n".join([self.title, *parts, *([note] if note else [])])

    def _formatted(self, columns: Sequence[int]) -> str:
        cells = [[row[i] for i in columns] for row in (self.columns, *self.rows)]
        right = [place for place, i in enumerate(columns) if self.columns[i] not in self.words]
        return format_table(cells, indent=2, right=right)

    def _fitting_columns(self) -> list[list[int]]:
        """The columns of each part of the table; one whose columns are all words is not divided."""
        names = list(range(1 + min((i for i, column in enumerate(self.columns) if column in self.words), default=-1)))
        parts = [list(names)]
        for i in range(len(names), len(self.columns)):
            width = max(map(len, self._formatted([*parts[-1], i]).splitlines()))
            if width > TERMINAL_WIDTH and len(parts[-1]) > len(names) and self.columns[i] not in self.words:
                parts.append(list(names))
            parts[-1].append(i)
        return parts


def comparison_tables(results: Sequence[RunResult], split: str, groups: Sequence[SeedGroup] | None = None) -> list[Table]:
    """Tabulates the runs, the mean over seeds where a config was run more than once, and the config fields that differ.

    Args:
      results: from `load_results`.
      split: the split they are of.
      groups: of runs that differ in the seed; by default those of one config.
    """
    groups = group_by_config(results) if groups is None else groups
    repeated = [_seeds_table(results, groups)] if len(groups) < len(results) else []
    return [_runs_table(results, split), *repeated, _config_table(results)]


def _runs_table(results: Sequence[RunResult], split: str) -> Table:
    rows = []
    for i, (result, test) in enumerate(zip(results, paired_tests(results), strict=True), 1):
        interval = "{:.2%} to {:.2%}".format(*result.interval)
        difference = (f"{test[0] * 100:+.2f}", _p_value(test[1])) if test else (NONE, NONE)
        speed = NONE if result.images_per_second is None else f"{result.images_per_second:,.0f}"
        time = NONE if result.seconds is None else format_duration(result.seconds)
        scores = (_percent(result.scores["top1"]), interval, *difference, _percent(result.scores["top5"]))
        more = (f"{result.scores['loss']:.4f}", _percent(result.scores["ece"]), speed, time, f"{result.step:,}")
        rows.append((str(i), result.name, *scores, *more))
    columns = (
        "#",
        "run",
        "top-1",
        "95% interval",
        "points to run 1",
        "p",
        "top-5",
        "loss",
        "ECE",
        "images/s",
        "time",
        "checkpoint",
    )
    note = "p: McNemar's exact test against run 1 on the same images; it ignores chance in training, such as the seed"
    if len(results) > 2:
        note += f", and that of {len(results) - 1} tests some may have a low p by chance"
    return Table(f"{split}, {results[0].scores['n']:,} images", *_without_empty(columns, rows), note, words=("run",))


def _seeds_table(results: Sequence[RunResult], groups: Sequence[SeedGroup]) -> Table:
    rows, notes = [], ["p: Welch's t-test against the first group"] * any(group.p is not None for group in groups)
    for group in groups:
        scores = (_percent(group.mean), _percent(group.sd), str(len(group.top1)), _p_value(group.p))
        rows.append((_numbers(group.members), *scores))
        if repeated := repeated_seeds(results, group):
            notes.append(
                f"runs {_numbers(repeated)} share a seed: if they are one training twice, n is too high and sd too low"
            )
    columns = _without_empty(("runs", "mean", "sd", "n", "p"), rows)
    return Table("top-1 of runs of one config, over seeds", *columns, "; ".join(notes), words=("runs",))


def _config_table(results: Sequence[RunResult]) -> Table:
    rows = [
        (path, *(NONE if value is None else format_value(value) for value in values))
        for path, values in config_differences(results).items()
    ]
    columns = ("field", *(str(i) for i in range(1, len(results) + 1)))
    return Table("config fields that differ" if rows else "their configs do not differ", columns, rows, words=columns)


def _without_empty(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """The columns, and the cells of the rows in them, that are not empty in all rows."""
    shown = [i for i in range(len(columns)) if any(row[i] != NONE for row in rows)]
    return [columns[i] for i in shown], [[row[i] for i in shown] for row in rows]


def _numbers(indices: Sequence[int]) -> str:
    return ", ".join(str(i + 1) for i in indices)


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{share:.2%}"


def _p_value(p: float | None) -> str:
    return NONE if p is None else f"{p:.2g}" if p >= 0.001 else "< 0.001"

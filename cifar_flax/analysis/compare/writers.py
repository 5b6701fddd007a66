"""Files of a comparison: CSV, an HTML page with learning curves, and the report on several seeds of one config."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from cifar_flax.analysis.compare.runs import (
    RunResult,
    SeedGroup,
    config_differences,
    group_by_config,
    load_results,
    one_group,
    paired_tests,
)
from cifar_flax.analysis.compare.tables import comparison_tables
from cifar_flax.analysis.curves import METRICS, overlaid_curves, select_epochs
from cifar_flax.analysis.figures import PictureWriter, drawing_style
from cifar_flax.analysis.html import write_page
from cifar_flax.analysis.predictions import Predictions, finite
from cifar_flax.files.atomic import write_text
from cifar_flax.files.checksum import dumps_checksummed
from cifar_flax.files.folder import make_folder

SCORES = ("loss", "top5", "macro_f1", "ece")  # of each run in a CSV file, after its top-1
SEED_SCORES = ("top1", "top2", "top3", "top5", "macro_f1", "loss", "ece")  # of each seed in a report on several


def write_csv(path: Path, results: Sequence[RunResult]) -> None:
    """Writes a row per run: shares in [0, 1], times in seconds, and a column config.FIELD for each field that differs."""
    fields = config_differences(results)
    group_of = {member: group for group in group_by_config(results) for member in group.members}
    rows = []
    for i, (result, test) in enumerate(zip(results, paired_tests(results), strict=True)):
        difference, p = test or (None, None)
        rows.append(
            {
                "run": result.name,
                "checkpoint": result.step,
                "n": result.scores["n"],
                "top1": result.scores["top1"],
                "top1_low": result.interval[0],
                "top1_high": result.interval[1],
                "top1_minus_first": difference,
                "mcnemar_p": p,
                **{name: result.scores[name] for name in SCORES},
                "images_per_second": result.images_per_second,
                "seconds": result.seconds,
                "group_mean": group_of[i].mean,
                "group_sd": group_of[i].sd,
                "group_n": len(group_of[i].top1),
                **{f"config.{field}": values[i] for field, values in fields.items()},
            }
        )
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, buffer.getvalue())


def write_html(path: Path, results: Sequence[RunResult], split: str, groups: Sequence[SeedGroup] | None = None) -> list[Path]:
    """Writes a page with the tables and the learning curves, and the curves as NAME_loss.png and NAME_top1.png beside it.

    The arguments are those of `comparison_tables`.

    Returns:
      The paths of the pictures.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = PictureWriter(path.parent)
    with drawing_style([result.name for result in results], first=1):
        epochs = [(result.name, select_epochs(result.metrics)) for result in results]
        curves = [
            writer.add(
                f"{path.stem}_{metric}", overlaid_curves(epochs, [metric]), f"Learning curves of the runs: {name} by epoch"
            )
            for metric, name in METRICS.items()
        ]
    title = f"{len(results)} runs compared on {split}"
    write_page(path, "compare.html", title=title, tables=comparison_tables(results, split, groups), curves=curves)
    return [path.parent / picture.file for picture in curves]


def write_seed_report(
    folder: Path,
    seed_workdirs: Sequence[Path],
    split: str,
    which: str,
    page: bool,
    predictions: Sequence[Predictions] | None = None,
) -> str:
    """Compares the seeds of one config; writes SPLIT.json with mean and sd, and SPLIT.html if `page`.

    What a run may go on with, such as more epochs, need not be the same for all: a line names the fields that differ.

    Args:
      folder: they go to.
      seed_workdirs: the run directory of each seed.
      split: "train", "validation" or "test".
      which: the checkpoint of each, as in `Run.network`.
      page: whether to write SPLIT.html.
      predictions: of each, as in `load_results`.

    Returns:
      The tables and the paths, to print.

    Raises:
      UserError: as `load_results`.
    """
    results = load_results([str(path) for path in seed_workdirs], split, which, predictions)
    group = one_group(results)
    seeds = {r.name: {"checkpoint": r.step, **{name: r.scores[name] for name in SEED_SCORES}} for r in results}
    summary = {"n": len(results), "top1_mean": group.mean, "top1_sd": group.sd, "seeds": seeds}
    make_folder(folder)
    paths = [folder / f"{split}.json"]
    write_text(paths[0], dumps_checksummed(finite(summary)))
    if page:
        paths.append(folder / f"{split}.html")
        write_html(paths[1], results, split, [group])
    runs, seeds_table, *_ = comparison_tables(results, split, [group])
    differing = ", ".join(field for field in config_differences(results) if field != "seed")
    warned = f"\nnot the seed alone differs, but also {differing}" if differing else ""
    return f"{runs.text()}\n\n{seeds_table.text()}{warned}\n-> {', '.join(map(str, paths))}"

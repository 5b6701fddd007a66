"""Figures in the tables of README.md and docs are those of the lines in benchmarks/results/claims.jsonl."""

import re
import statistics
from pathlib import Path

import pytest

from benchmarks import records
from benchmarks.claim_lines import command, hardware, read_lines
from tests.conftest import ROOT

LINES = read_lines(ROOT / "benchmarks" / "results" / "claims.jsonl")
NUMBER = r"\d*\.?\d+"
VALUES = {
    "validation": lambda line: line["validation_top1"],
    "training": lambda line: line["train_top1"],
    "grey": lambda line: line["color"]["grey"],
    "hues": lambda line: line["color"]["mean_hue"],
}


def measured_rows(page: Path):
    """Rows of the tables with a column of seeds, and a number in it: what the header calls their cells -> the cells."""
    header = []
    for row in page.read_text().splitlines():
        cells = [cell.strip() for cell in row.strip("|").split("|")] if row.startswith("|") else []
        header = header if cells and header else cells
        named = dict(zip(header, cells, strict=True))
        if named.get("n", named.get("seeds", "")).isdecimal():
            yield named


ROWS = [
    pytest.param(row, id=f"{page.stem}-{next(iter(row.values()))[:60]}")
    for page in (ROOT / "README.md", ROOT / "docs" / "results.md", ROOT / "docs" / "experiments.md")
    for row in measured_rows(page)
]


def lines_of(row):
    """The first n lines of what a row trains, in its dtype, on its hardware, which its last cell names."""
    code = next(row[name] for name in ("command", "config", "`--config=configs/`") if name in row)
    wanted = re.search("`(.*?)`", code).group(1).removeprefix("python launch/train.py --config=configs/")
    (dtype,) = re.findall("float32|bfloat16", list(row.values())[-1])
    (machine,) = re.findall("EPYC|Xeon|H100|H200", list(row.values())[-1])
    lines = [line for line in LINES if "test" in line and (command(line), line["dtype"]) == (wanted, dtype)]
    return [line for line in lines if machine in hardware(line)][: int(row.get("n", row.get("seeds")))]


def agrees(shown, values):
    """Whether a number of some places is the mean of the values, rounded; with (sd ...) behind it, theirs too."""
    mean, sd = re.fullmatch(rf"({NUMBER})(?: \(sd ({NUMBER})\))?", shown).groups()
    near = [(mean, statistics.mean(values))] + ([(sd, statistics.stdev(values))] if sd else [])
    return all(abs(float(text) - value) <= 0.5001 * 10.0 ** -len(text.partition(".")[2]) for text, value in near)


def test_the_page_of_records_is_that_of_the_lines():
    page = records.page(LINES)
    assert (ROOT / "docs" / "records.md").read_text() == page, "python benchmarks/records.py > docs/records.md"
    assert page.index("`fast.py:long` | 78.34") < page.index("`fast.py` | 75.43 | 0.21 | 5 |") < page.index("`three_conv.py`")
    assert "--config.train.epochs" not in page


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_its_lines_and_their_figures(row):
    lines = lines_of(row)
    assert len(lines) == int(row.get("n", row.get("seeds"))), "as many lines as seeds"
    scores = next(cell for name, cell in row.items() if name.startswith(("test", "measured")))
    for part in scores.split("; "):
        name, shown, view = re.fullmatch(r"(?:(\w+) )?(.*?)(?: with `--tta=(.*)`)?", part).groups()
        for k, figure in zip((1, 2, 3, 5), shown.split(" / "), strict=False):
            test = f"test_{view.replace('+', '_')}" if view else "test"
            value = VALUES.get(name, lambda line, test=test, k=k: line[test][f"top{k}"])
            assert agrees(figure, [100 * value(line) for line in lines]), f"{part}: {[value(line) for line in lines]}"
    if "time a run" in row:  # without compilation, where that was recorded
        shown = re.match(rf"({NUMBER}) min( \(sd {NUMBER}\))?", row["time a run"])
        minutes = [(line["seconds"] - line.get("compilation", 0)) / 60 for line in lines]
        assert agrees(shown.group(1) + (shown.group(2) or ""), minutes), f"{row['time a run']}: {minutes}"


def test_every_table_of_figures_is_read():
    assert len(ROWS) >= 35

"""Figures in the tables of README.md and docs are those of the lines in benchmarks/results/claims.jsonl."""

import json
import re
import statistics
from pathlib import Path

import pytest

from benchmarks import records
from benchmarks.claim_lines import command, hardware, read_lines
from benchmarks.claim_list import GROUPS
from benchmarks.claim_times import estimate
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
    for page in (ROOT / "README.md", ROOT / "docs" / "experiments.md")
    for row in measured_rows(page)
]


def lines_of(row):
    """The lines of what a row trains, in its dtype, on its hardware, which its last cell names."""
    code = next(row[name] for name in ("command", "config", "`--config=configs/`") if name in row)
    wanted = re.search("`(.*?)`", code).group(1).removeprefix("python launch/train.py --config=configs/")
    (dtype,) = re.findall("float32|bfloat16", list(row.values())[-1])
    (machine,) = re.findall("EPYC|Xeon|H100|H200", list(row.values())[-1])
    lines = [line for line in LINES if "test" in line and (command(line), line["dtype"]) == (wanted, dtype)]
    return [line for line in lines if machine in hardware(line)]


def agrees(shown, values):
    """Whether a number of some places is the mean of the values, rounded; with (sd ...) behind it, their deviation too."""
    mean, sd = re.fullmatch(rf"({NUMBER})(?: \(sd ({NUMBER})\))?", shown).groups()
    near = [(mean, statistics.mean(values))] + ([(sd, statistics.stdev(values))] if sd else [])
    return all(abs(float(text) - value) <= 0.5001 * 10.0 ** -len(text.partition(".")[2]) for text, value in near)


def test_hours_of_what_is_prepared_are_those_that_list_estimates():
    here = next(line for line in LINES if hardware(line) == "2 x AMD EPYC, AVX-512" and line["dtype"] == "float32")
    machine = {**here, "fast_bfloat16": False, "multiply_adds_a_second": 1.0}
    claims = {claim.name: claim for group in GROUPS.values() for claim in group}
    prepared = r"\| prepared: ([\d.]+) h(?: each)?(?:,[^|]*)? \|[ |]*(?:search )?`(\w+)(?:\.py)?(:\w+)?`"
    rows = re.findall(prepared, (ROOT / "docs" / "experiments.md").read_text())
    assert len(rows) >= 10
    for hours, stem, variant in rows:
        seconds, _ = estimate(claims[stem + variant], LINES, machine)
        assert hours == f"{seconds / 3600:.{len(hours.partition('.')[2])}f}", stem + variant


VARIANTS = {  # of benchmarks/throughput.py, by what the tables of docs/performance.md call them
    "ours": ["ours"],
    "ours, bfloat16": ["ours"],
    "ours, float32": ["ours_f32"],
    "our layers without the option": ["default_options"],
    "Flax's layers, plain `jax.jit`": ["plain_jit"],
    **{f"PyTorch, {dtype}eager / compiled": ["torch_eager", "torch_compiled"] for dtype in ("", "float32, ")},
    **{f"PyTorch{how} bfloat16, eager / compiled": ["torch_bf16_eager", "torch_bf16_compiled"] for how in (",", " under")},
    **{f"Keras, {dtype}graph / XLA": ["keras_graph", "keras_xla"] for dtype in ("", "float32, ")},
    "Keras, bfloat16, graph / XLA": ["keras_bf16_graph", "keras_bf16_xla"],
}


def speeds(page):
    """Cells of tables with raw figures above them: (row, its cell, the figures that the link called as the column leads to)."""
    files, header = {}, []
    for line in page.read_text().splitlines():
        files |= {name: ROOT / "docs" / path for name, path in re.findall(r"\[([\w:]+)\]\((\S*/throughput_\w+\.json)\)", line)}
        if line.startswith("| images/s"):
            header, found = re.findall(r"`([\w:]+)`, batch", line), files
        elif not line.startswith("|"):
            header, files = [], files if not header else {}
        for name, cell in zip(header, line.strip("|").split("|")[1:], strict=False):
            yield line.strip("|").split("|")[0].strip(), cell.strip(), json.loads(found[name].read_text())


SPEEDS = [row for row in speeds(ROOT / "docs" / "performance.md") if row[0] in VARIANTS or "`*_ratio_" in row[0]]


@pytest.mark.parametrize(("row", "cell", "raw"), SPEEDS, ids=lambda x: x if isinstance(x, str) else "")
def test_speeds_are_those_that_were_measured(row, cell, raw):
    if name := re.search(r"`\*_(ratio_\w+)`", row):
        key = f"{raw['config'].partition(':')[0]}_{name[1]}"
        rounds, middles = raw.get("ratios_by_round", {}).get(key, [raw[key]]), [raw[key]]
    else:
        ((batch, by_variant),) = raw["seconds_per_step"].items()
        variants = VARIANTS[row] if row != "ours" or "ours_f32" not in by_variant else ["ours_f32"]
        rounds = [int(batch) / seconds for variant in variants for seconds in by_variant[variant]]
        middles = [raw["images_per_second"][batch][variant] for variant in variants]
    shown, _, limits = cell.replace("*", "").replace("rounds ", "").rstrip(")").partition(" (")
    texts = shown.split(" / ") + (limits.split(" to ") if limits else [])
    expected = middles + ([min(rounds), max(rounds)] if limits else [])
    assert [agrees(text, [value]) for text, value in zip(texts, expected, strict=True)] == [True] * len(texts)


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
    assert len(ROWS) >= 30

"""Every recipe that has been trained to its end, best first.

    python benchmarks/records.py > docs/records.md

The rows are of benchmarks/results/claims.jsonl, to which benchmarks/claims.py appends; a test holds the page to it.
"""

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.claim_lines import Line, command, read_lines, spread
from benchmarks.claim_list import ROOT
from benchmarks.claim_times import hardware
from cifar_flax.config.files import load_config
from cifar_flax.runtime import app

SETS = {"cifar100": "CIFAR-100", "cifar10": "CIFAR-10", "shapes100": "shapes100"}
LINES = ROOT / "benchmarks" / "results" / "claims.jsonl"
HEAD = """# Records

| question | section |
| --- | --- |
| what each recipe reaches, best first | [{sections}] |
| what was chosen by which images | [below](#selection) |
| what the five write-ups claim, and what of it holds | [experiments.md](experiments.md) |
| how fast a step is, beside other frameworks | [performance.md](performance.md) |

Every recipe that was trained to its end, by dtype and hardware: accuracy on the official test images, each once and as it is,
where no `--tta` is named. n counts seeds, and sd is over them; minutes are all of a training, without compilation where that
was measured. Log has the numbers of the lines in [claims.jsonl](../benchmarks/results/claims.jsonl), with curves, versions and
the other scores. `python benchmarks/claims.py --only=CONFIG --again` trains and scores again;
`python benchmarks/records.py > docs/records.md` writes this page.

## Selection

The checkpoint is the one with the best top-1 on the validation split, a tenth of train (.17 for `three_conv`). `fast`, `fast10`
and their variants train on all of train and keep the last, but where a `validation_fraction` is given. How each recipe was
chosen, and where test was looked at more than once, is in [recipes.md](recipes.md). Training and search never open the test
split.
"""
COLUMNS = "| config | test top-1, % | sd | n | top-2 / 3 / 5 | `--tta` | minutes | dtype, hardware | versions | commit | log |"
VIEWS = ("flip", "flip+shift")


def page(lines: Sequence[Line]) -> str:
    """The page, as Markdown."""
    groups: dict[tuple[str, ...], list[tuple[int, Line]]] = {}
    for number, line in enumerate(lines, 1):
        if "test" in line and line["planned"] is None and "--config.train.epochs" not in line["command"]:
            groups.setdefault((_data(line), command(line), line["dtype"], hardware(line)), []).append((number, line))
    sections = []
    for data, title in SETS.items():
        rows = [(_top1(members), key, members) for key, members in groups.items() if key[0] == data]
        ranked = [_row(key[1], members) for _, key, members in sorted(rows, key=lambda row: row[0], reverse=True)]
        sections.append("\n".join([f"## {title}\n", COLUMNS, "| --- " * (COLUMNS.count("|") - 1) + "|", *ranked]))
    links = ", ".join(f"[{title}](#{title.lower()})" for title in SETS.values())
    return "\n".join([HEAD.replace("[{sections}]", links), "\n\n".join(sections)]) + "\n"


def _row(name: str, members: Sequence[tuple[int, Line]]) -> str:
    lines = [line for _, line in members]
    top1 = [100 * line["test"]["top1"] for line in lines]
    sd = f"{statistics.stdev(top1):.2f}" if len(top1) > 1 else ""
    minutes = spread([(line["seconds"] - (line.get("compilation") or 0)) / 60 for line in lines], with_sd=False)
    versions = sorted({f"jaxlib {line['jaxlib']}" for line in lines})
    commits = dict.fromkeys(line["commit"][:7] for line in lines if line["commit"])
    dates = sorted({line["date"] for line in lines})
    notes = dict.fromkeys(line["note"].partition(";")[0] for line in lines if "note" in line)
    where = "; ".join((f"{lines[0]['dtype']}, {hardware(lines[0])}, {dates[-1]}", *notes))
    numbers = ", ".join(str(number) for number, _ in members)
    others = [[100 * line["test"][f"top{k}"] for line in lines if f"top{k}" in line["test"]] for k in (2, 3, 5)]
    top_k = " / ".join(spread(values, with_sd=False) for values in others if values)
    by_view = {view: [line.get(f"test_{view.replace('+', '_')}") for line in lines] for view in VIEWS}
    means = {view: statistics.mean(100 * x["top1"] for x in scores if x) for view, scores in by_view.items() if all(scores)}
    views = ", ".join(f"{view} {mean:.2f}" for view, mean in means.items())
    figures = (f"{statistics.mean(top1):.2f}", sd, str(len(top1)), top_k, views, minutes)
    return f"| {' | '.join((f'`{name}`', *figures, where, ', '.join(versions), ', '.join(commits), numbers))} |"


def _top1(members: Sequence[tuple[int, Line]]) -> float:
    return statistics.mean(line["test"]["top1"] for _, line in members)


def _data(line: Line) -> str:
    """The set, by its official name: some lines are from before it was written down, or from an import of another name."""
    return load_config(line["config"]).data.name


def main() -> None:
    """Prints the page."""
    print(page(read_lines(LINES)), end="")


if __name__ == "__main__":
    app.run(main)

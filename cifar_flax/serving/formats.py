"""Writes predictions as a table for people, and as JSON lines and CSV for programs."""

import csv
import io
import json
from collections.abc import Callable, Sequence

from cifar_flax.data.class_names import display_name
from cifar_flax.files.redact import visible
from cifar_flax.files.tables import format_table
from cifar_flax.network import Prediction

BAR = 24  # characters of a probability of 1
EIGHTHS = " ▏▎▍▌▋▊▉█"

Format = Callable[[str, Sequence[Prediction]], str]


def chosen(as_json_lines: bool, as_csv: bool, terminal: bool) -> Format:
    """The function for what was asked for; on a terminal, which names of files must not steer, its text is printable."""
    write = json_line if as_json_lines else csv_lines if as_csv else table
    return (lambda name, answer: "\n".join(map(visible, write(name, answer).split("\n")))) if terminal else write


def table(name: str, predictions: Sequence[Prediction]) -> str:
    """The name of a picture, and a line with a bar for each prediction."""
    rows = [
        (display_name(p.name), f"{bar(p.probability)} {p.probability:6.1%}", display_name(p.superclass or ""))
        for p in predictions
    ]
    return f"{visible(name)}\n{format_table(rows, indent=2)}\n"


def bar(probability: float) -> str:
    """A bar of `BAR` characters, exact to an eighth of one."""
    eighths = round(8 * BAR * probability)
    return ("█" * (eighths // 8) + EIGHTHS[eighths % 8]).ljust(BAR)[:BAR]


def json_line(name: str, predictions: Sequence[Prediction]) -> str:
    """One JSON object: `image` and `predictions`, each with `class`, `superclass` and `probability`."""
    return json.dumps({"image": name, "predictions": [as_json(p) for p in predictions]})


def as_json(prediction: Prediction) -> dict[str, str | float | None]:
    """A prediction in the JSON of predict --json and of the web application."""
    return {"class": prediction.name, "superclass": prediction.superclass, "probability": prediction.probability}


CSV_HEADER = "image,rank,class,superclass,probability"


def csv_lines(name: str, predictions: Sequence[Prediction]) -> str:
    """A row under `CSV_HEADER` for each prediction, the first with rank 1."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerows([name, rank, p.name, p.superclass or "", p.probability] for rank, p in enumerate(predictions, 1))
    return out.getvalue().rstrip("\n")

"""How predictions are written: a table for eyes, JSON lines and CSV for programs."""

import csv
import io
import json
from collections.abc import Callable, Sequence

from cifar_flax.serving.classifier import Prediction

BAR = 24  # characters that stand for certainty
EIGHTHS = " ▏▎▍▌▋▊▉█"

Format = Callable[[str, Sequence[Prediction]], str]


def table(name: str, predictions: Sequence[Prediction]) -> str:
    """The name of a picture, and a line with a bar for each prediction."""
    readable = [(p.name.replace("_", " "), p.probability, (p.superclass or "").replace("_", " ")) for p in predictions]
    width = max(len(fine) for fine, _, _ in readable)
    lines = [f"  {fine:<{width}}  {bar(p)} {p:6.1%}  {coarse}".rstrip() for fine, p, coarse in readable]
    return "\n".join([visible(name), *lines, ""])


def visible(name: str) -> str:
    """A file's name for a terminal: what would move its cursor or is no character, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name)


def bar(probability: float) -> str:
    """A bar of `BAR` characters, as exact as eighths of one."""
    eighths = round(8 * BAR * probability)
    return ("█" * (eighths // 8) + EIGHTHS[eighths % 8]).ljust(BAR)[:BAR]


def json_line(name: str, predictions: Sequence[Prediction]) -> str:
    """One JSON object: `image` and `predictions`, each with `class`, `superclass` and `probability`."""
    return json.dumps({"image": name, "predictions": [as_json(p) for p in predictions]})


def as_json(prediction: Prediction) -> dict[str, str | float | None]:
    """A prediction as predict --json and the web application write it."""
    return {"class": prediction.name, "superclass": prediction.superclass, "probability": prediction.probability}


CSV_HEADER = "image,rank,class,superclass,probability"


def csv_lines(name: str, predictions: Sequence[Prediction]) -> str:
    """A row under `CSV_HEADER` for each prediction, the first with rank 1."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerows([name, rank, p.name, p.superclass or "", p.probability] for rank, p in enumerate(predictions, 1))
    return out.getvalue().rstrip("\n")

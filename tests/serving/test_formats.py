import csv
import io
import json

import pytest

from cifar_flax.network import Prediction
from cifar_flax.serving import formats

PREDICTIONS = [Prediction("sweet_pepper", "fruit_and_vegetables", 0.75), Prediction("a,\nb", None, 0.0004)]


@pytest.mark.parametrize(
    ("probability", "expected"),
    [(0, ""), (1, "█" * 24), (0.5, "█" * 12), (1 / 48, "▌"), (0.0001, ""), (1.0000001, "█" * 24), (0.9999999, "█" * 24)],
)
def test_bars_are_as_long_as_the_probability(probability, expected):
    assert formats.bar(probability) == f"{expected:<24}"


def test_the_table_has_a_line_a_class():
    name, first, second, end = formats.table("holidays/a.png", [PREDICTIONS[0], Prediction("cat", None, 0.25)]).split("\n")
    assert (name, end) == ("holidays/a.png", "")
    assert first == f"  sweet pepper  {'█' * 18}        75.0%  fruit and vegetables"
    assert second == f"  cat           {'█' * 6}{' ' * 18}  25.0%"


def test_names_cannot_steer_a_terminal():
    name = "a\x1b[2J\n\r\x9b\u202e\udcffb \xe9 猫.png"
    shown = formats.table(name, PREDICTIONS).split("\n")[0]
    assert shown == "a\\x1b[2J\\n\\r\\x9b\\u202e\\udcffb \xe9 猫.png"
    steering = [Prediction("cat\x1b[2J", "a\x1b]0;x", 0.5)]
    assert formats.table("a.png", steering).replace("\n", "").isprintable()
    for kind in ((False, False), (True, False), (False, True)):
        assert formats.chosen(*kind, terminal=True)(name, steering).replace("\n", "").isprintable()
    assert "\x1b" in formats.chosen(False, True, terminal=False)(name, steering)  # which other programs read


def test_json_lines_read_back():
    line = formats.json_line("a\n\udcff.png", PREDICTIONS)
    assert "\n" not in line
    assert json.loads(line) == {
        "image": "a\n\udcff.png",
        "predictions": [
            {"class": "sweet_pepper", "superclass": "fruit_and_vegetables", "probability": 0.75},
            {"class": "a,\nb", "superclass": None, "probability": 0.0004},
        ],
    }


def test_csv_reads_back():
    text = f"{formats.CSV_HEADER}\n{formats.csv_lines('a, b.png', PREDICTIONS)}\n"
    first, second = csv.DictReader(io.StringIO(text))
    assert first == {
        "image": "a, b.png",
        "rank": "1",
        "class": "sweet_pepper",
        "superclass": "fruit_and_vegetables",
        "probability": "0.75",
    }
    assert (second["class"], second["rank"], second["superclass"]) == ("a,\nb", "2", "")

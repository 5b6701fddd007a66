import subprocess
import sys

import pytest

APP = """
from absl import flags
from cifar_flax import cli
flags.DEFINE_integer("how_often", 1, "of it")
cli.run(lambda words: print(words, flags.FLAGS.how_often), arguments="WORD...")
"""


@pytest.fixture
def app(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    return lambda *args: subprocess.run(
        [sys.executable, "app.py", *args], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )


def test_arguments_may_stand_before_and_after_flags(app):
    found = app("a b", "--how_often=3", "c", "--", "--d-e")
    assert found.stdout == "['a b', 'c', '--d-e'] 3\n", found.stderr
    assert app("x", "--how-often=2").stdout == "['x'] 2\n"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], "WORD...: missing; expected  python app.py WORD...\n"),
        (["a", "--how_oft=3"], "--how_oft: no such flag. Did you mean --how_often?\n"),
    ],
)
def test_a_mistake_beside_arguments_costs_one_line(app, args, expected):
    found = app(*args)
    assert (found.returncode, found.stdout, found.stderr) == (2, "", expected)

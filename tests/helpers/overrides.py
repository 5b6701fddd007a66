"""What people type behind --config: any field of a config, with any value, sane or not."""

import dataclasses
import enum
import math
import sys
from contextlib import contextmanager

from absl import flags
from hypothesis import strategies as st

from cifar_flax.config.files import load_config
from cifar_flax.config.flags import define_config_flag, experiment_from_flags
from cifar_flax.runtime import app
from tests.conftest import ROOT

FULL_CONFIG = ROOT / "tests" / "helpers" / "full.py"


@contextmanager
def config_flag():
    """The flag --config as a command has it, and none of it afterwards."""
    known = set(flags.FLAGS)
    define_config_flag()
    try:
        yield
    finally:
        for name in set(flags.FLAGS) - known:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()


def experiment(*arguments):
    """What `launch/train.py ARGUMENTS` trains, and how it ends where it does not: the exit code goes up as SystemExit."""
    with config_flag():
        before, sys.argv = sys.argv, ["train.py", *arguments]
        try:
            app.report(lambda: app._parse(sys.argv, ""))
            return app.report(experiment_from_flags)
        finally:
            sys.argv = before


def paths(value, path=""):
    """Yields (path, value) of every section, tuple, entry and leaf: `model.blocks[0].dropout`."""
    if path:
        yield path, value
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from paths(getattr(value, field.name), f"{path}.{field.name}".lstrip("."))
    elif isinstance(value, tuple):
        for i, entry in enumerate(value):
            yield from paths(entry, f"{path}[{i}]")


FIELDS = dict(paths(load_config(str(FULL_CONFIG))))
LEAVES = [path for path, value in FIELDS.items() if not dataclasses.is_dataclass(value)]

EDGES = [
    *("", " ", "0", "-0", "-0.0", "1", "-1", "2", "0.5", "1.5", "31", "32", "0x10", "1_000", "\u0661", " 1 ", "1j", "1+1"),
    *("nan", "inf", "-inf", "1e999", "1e400,", "(nan,)", "1e-320", "1e-45", "1e-38", "1e38", "1e39", "1e308", "0.9999999999"),
    *(str(2**k + d) for k in (31, 32, 63, 64) for d in (-1, 0)),
    *("9" * 25, "9" * 400, "9" * 5000, "x" * 5000, "(" * 150, "()" * 100, "[" * 90 + "]" * 90, "9" * 5000 + ","),
    *("none", "None", "null", "true", "False", "t", "yes", "build", "...", "b'a'", "{}", "{1: 2}", "[0]*9", "~", "*", "["),
    *("'", '"', "'a'", "\\", "(", ")", "(1,)", "(1, 2)", "[1]", "1,2", "()", "((1,),)", "('SAME',)", "SAME", "adam", "SGD"),
    *(
        "a=b",
        "=",
        "-",
        "--",
        "../..",
        "$(reboot)",
        "a\nb",
        "\x1b[2J",
        "\u00e9",
        "\u202e",
        "\U0001f600",
        "\udcff",
        "('\ud800',)",
    ),
]

values = st.one_of(
    st.sampled_from(EDGES),
    st.floats().map(repr),
    st.floats(0, 1).map(repr),
    st.integers().map(str),
    st.integers(0, 100).map(str),
    st.lists(st.integers(-1, 9) | st.floats(-1, 9), max_size=4).map(lambda items: str(tuple(items))),
    st.text(st.characters(exclude_characters="\0"), max_size=20),
)


@st.composite
def misspelt(draw):
    """A path with one character more, less or other than that of a field."""
    path = draw(st.sampled_from(list(FIELDS)))
    at = draw(st.integers(0, len(path) - 1))
    character = draw(st.sampled_from("abz_.[]0-7 \u00e9"))
    return draw(st.sampled_from([path[:at] + path[at + 1 :], path[:at] + character + path[at:], path[:at] + character]))


def asked_for(text, old):
    """The value that `text` asks for where the field holds `old`, as (value,); None where only the config's types can tell."""
    if isinstance(old, str) and old != "auto" and not isinstance(old, enum.Enum):
        return (text,)
    if isinstance(old, int | float) and not isinstance(old, bool):
        try:
            return (float(text) if isinstance(old, float) else int(text),)
        except ValueError:
            return None
    return None


def is_finite(value):
    """Whether no number in what `to_dict` gives is NaN or infinite."""
    if isinstance(value, dict | list):
        return all(map(is_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)

import contextlib
import io
import json
import re

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from cifar_flax.config.serialize import flatten_config, from_dict, read_config, to_dict, write_config
from cifar_flax.errors import UserError
from cifar_flax.runtime import app
from tests.helpers import overrides
from tests.helpers.overrides import EDGES, FIELDS, FULL_CONFIG, LEAVES, asked_for, experiment, is_finite, misspelt, values

MANY = 2 * settings.default.max_examples  # milliseconds each


def refusal(*arguments):
    """The message of a mistake: exit code 2 and one line that fits a screen; None where there was none."""
    err = io.StringIO()
    try:
        with contextlib.redirect_stderr(err):
            experiment(*arguments)
    except SystemExit as end:
        code = end.code
    else:
        code = None
    lines = err.getvalue().splitlines()
    assert (code, len(lines)) in ((2, 1), (None, 0)), err.getvalue()
    assert all(len(line) <= app.LONGEST_LINE + 10 for line in lines)
    return lines[0] if lines else None


def assert_sane(actual):
    """What the rest of the program takes for granted of a config and of the name of its run."""
    written = to_dict(actual.config)
    assert from_dict(written) == actual.config
    assert is_finite(written)
    assert re.fullmatch(r"[\w.-]+", actual.name)
    assert not actual.name.startswith(".")
    assert len(actual.name) < 100


@settings(max_examples=MANY)
@given(st.sampled_from(list(FIELDS)), values)
@example("optim.eps", "1e-320")
@example("model.blocks[0].features[0]", "8")
@example("optim.freeze", "1j")
@example("data.name", "folder:\udcff")
@example("train.epochs", "9" * 400)
@example("log.every_steps", "9" * 5000)
def test_any_value_of_any_field_is_taken_as_it_is_or_refused_in_a_line_by_name(path, text):
    arguments = [f"--config={FULL_CONFIG}", f"--config.{path}={text}"]
    if (line := refusal(*arguments)) is not None:
        assert path.partition("[")[0].split(".")[-1] in line or path.split(".")[0] in line, line
        return
    actual = experiment(*arguments)
    assert_sane(actual)
    asked = asked_for(text, FIELDS[path])
    if asked is not None and path in LEAVES:
        assert dict(flatten_config(to_dict(actual.config)))[f"config.{path}"] == asked[0]


@settings(max_examples=MANY)
@given(st.lists(st.tuples(st.sampled_from(LEAVES), values), min_size=2, max_size=5, unique_by=lambda pair: pair[0]))
@example([("model.blocks", "()"), ("model.blocks[0].pool", "1")])
@example([("model.blocks", "\r"), ("model.blocks[1].pool", "\n")])
def test_several_values_are_taken_as_they_are_or_refused_in_a_line(pairs):
    arguments = [f"--config={FULL_CONFIG}", *(f"--config.{path}={text}" for path, text in pairs)]
    if (line := refusal(*arguments)) is None:
        assert_sane(experiment(*arguments))
    else:
        assert any(path.split(".")[0] in line for path, _ in pairs), line


@settings(max_examples=MANY)
@given(misspelt(), st.sampled_from(["1", "", "x" * 2000]))
@example("optim.learning-rte", "1")
@example("model.blocks[-1].dropout", ".5")
@example("model.blocks[9].dropout", ".5")
@example("model.blocks[0", "1")
def test_a_misspelt_field_costs_a_line(path, text):
    assume(path not in FIELDS)
    arguments = [f"--config={FULL_CONFIG}", f"--config.{path}={text}"]
    if refusal(*arguments) is None:  # an index in another way of writing it
        assert_sane(experiment(*arguments))


@settings(max_examples=MANY)
@given(st.text(st.characters(exclude_characters="\0"), max_size=30) | st.sampled_from(EDGES))
def test_a_variant_that_there_is_not_costs_a_line(variant):
    line = refusal(f"--config={FULL_CONFIG}:{variant}")
    assert (line is None) == (variant == "")


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("optim.eps", "1e-320", "config.optim.eps: 1e-320 is 0 in float32"),
        ("optim.b2", "0.9999999999", "config.optim.b2: 0.9999999999 is 1 in float32"),
        ("optim.learning_rate", "1e39", "config.optim.learning_rate: 1e+39 is infinite in float32"),
        ("model.blocks[0].features[0]", "8", "entries are not set one by one; give all of config.model.blocks[0].features"),
        ("model.blocks[0].kernel_sizes", "(1j,)", "config.model.blocks[0].kernel_sizes[0]: a config keeps text, numbers, "),
        ("data.name", "folder:\udcff", "config.data.name: should be text in UTF-8, not 'folder:\\udcff'"),
        ("augment.rand_augment_layers", "2147483648", "should be less than or equal to 8"),
        ("model.blocks[0].pool", "1000", "should be less than or equal to 32"),
        ("train.epochs", "2147483648", "should be less than or equal to 2147483647"),
    ],
)
def test_what_no_program_could_be_built_of_is_refused_by_name(field, value, expected):
    assert expected in refusal(f"--config={FULL_CONFIG}", f"--config.{field}={value}")


def test_a_value_of_thousands_of_characters_leaves_the_line_readable():
    line = refusal(f"--config={FULL_CONFIG}", f"--config.log.every_steps={'9' * 5000}x")
    assert line.startswith("config.log.every_steps: ")
    assert " [...] " in line


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.sampled_from(EDGES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def containers(value):
    """Every dict and list in a JSON value, itself first."""
    if isinstance(value, dict | list):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from containers(inner)


@settings(max_examples=MANY)
@given(st.data())
def test_a_config_json_that_somebody_has_changed_is_read_as_it_is_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "changed" / "config.json"
    path.parent.mkdir(exist_ok=True)
    tree = to_dict(overrides.experiment(f"--config={FULL_CONFIG}").config)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from([c for c in containers(tree) if c] or [{"": 0}]))
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if data.draw(st.booleans()):
            place[key] = data.draw(json_values)
        elif isinstance(place, dict):
            place[data.draw(st.text(max_size=10))] = place.pop(key)
        else:
            place.append(place[key])
    text = json.dumps(tree)
    cut = data.draw(st.none() | st.integers(0, len(text)))
    path.write_text(text[:cut], encoding="utf-8", errors="surrogatepass")
    actual, message = None, ""
    try:
        actual = read_config(path)
    except UserError as error:
        message = str(error)
    if actual is None:
        assert message.startswith(f"{path}: ")
        assert len(message.splitlines()) == 1
        return
    write_config(actual, path)
    assert read_config(path) == actual


@pytest.mark.parametrize(
    "arguments", [["--config.seed=\x1b[2J\r1"], ["--config.model.blocks=\n", "--config.model.blocks[1].kernel_sizes="]]
)
def test_what_a_line_quotes_cannot_move_the_cursor(arguments):
    assert refusal(f"--config={FULL_CONFIG}", *arguments).isprintable()

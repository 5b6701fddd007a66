import csv
import math
import shutil

import numpy as np
import pandas as pd
import pytest

from cifar_flax import Run
from cifar_flax.analysis.compare.runs import Entry, against_first, fields_of, groups_of, load_entries, repeated_seeds
from cifar_flax.analysis.compare.statistics import accuracy_interval, mcnemar
from cifar_flax.analysis.compare.tables import Table, tables, write_csv, write_html
from cifar_flax.analysis.report.predictions import Predictions, write_predictions
from cifar_flax.errors import UserError
from cifar_flax.files.checksum import dumps_checksummed, read_checksummed


def entry(name, hits, seed=0, **config):
    """A run that is right on the first `hits` of 100 images."""
    right = np.arange(100) < hits
    scores = {"n": 100, "top1": hits / 100, "top5": 0.9, "loss": 1.5, "macro_f1": 0.4, "ece": 0.05}
    metrics = pd.DataFrame(
        [
            *({"kind": "step", "step": i, "epoch": 1, "images_per_second": 100.0 * i, "elapsed": 10.0 * i} for i in (1, 2, 3)),
            {"kind": "epoch", "step": 3, "epoch": 1, "train_loss": 2.0, "train_top1": 0.2, "elapsed": 3661.0},
        ]
    )
    fields = {f"config.{path.replace('__', '.')}": value for path, value in config.items()}
    return Entry(name, {"config.seed": seed, **fields}, 7, scores, right, accuracy_interval(right), metrics)


@pytest.fixture
def entries():
    return [
        entry("a", 50, seed=0, optim__learning_rate=0.1, model__blocks=[]),
        entry("b", 54, seed=1, optim__learning_rate=0.1, model__blocks=[]),
        entry("c", 70, seed=0, optim__learning_rate=0.2, **{"model__blocks[0]__pool": 2}),
    ]


def test_only_fields_that_differ_are_told(entries):
    assert fields_of(entries) == {
        "seed": [0, 1, 0],
        "optim.learning_rate": [0.1, 0.1, 0.2],
        "model.blocks[0].pool": [None, None, 2],
    }
    assert fields_of(entries[:1] * 2) == {}


def test_runs_that_differ_in_the_seed_only_are_a_group(entries):
    first, second = groups_of([entries[0], entries[2], entries[1]])
    assert (first.members, second.members) == ([0, 2], [1])
    assert (first.mean, first.sd, first.p) == (pytest.approx(0.52), pytest.approx(math.sqrt(2 * 0.02**2)), None)
    assert (second.mean, second.sd, second.p) == (0.7, None, None)


def test_a_seed_that_a_group_has_twice_is_said(entries):
    twice = [*entries, entry("d", 55, seed=1, optim__learning_rate=0.1, model__blocks=[])]
    group, other = groups_of(twice)
    assert repeated_seeds(twice, group) == [1, 3]
    assert repeated_seeds(twice, other) == []
    assert "runs 2, 4 share a seed" in tables(twice, "test")[1].text()
    assert "share a seed" not in tables(entries, "test")[1].text()


def test_runs_are_tested_against_the_first_on_the_same_images(entries):
    assert against_first(entries)[0] is None
    difference, p = against_first(entries)[1]
    assert difference == pytest.approx(0.04)
    assert p == mcnemar(entries[0].right, entries[1].right) == 2 / 2**4


def test_the_tables_hold_it_all(entries):
    runs, groups, fields = tables(entries, "test")
    low, high = entries[1].interval
    assert runs.rows[1] == (
        *("2", "b", "54.00%", f"{low:.2%} to {high:.2%}", "+4.00", "0.12"),
        *("90.00%", "1.5000", "5.00%", "200", "1:01:01", "7"),
    )
    assert groups.rows == [("1, 2", "52.00%", "2.83%", "2", "-"), ("3", "70.00%", "-", "1", "-")]
    assert fields.rows[2] == ("model.blocks[0].pool", "-", "-", "2")
    assert len(tables(entries[1:], "test")) == 2  # no config twice


def test_text_is_aligned():
    text = Table("title", ("a", "bb"), [("long", "1"), ("x", "22")], "note").text()
    assert text.splitlines() == ["title", "  a     bb", "  long  1", "  x     22", "  note"]
    assert Table("nothing", ("a",), []).text() == "nothing"


def test_csv_has_a_row_a_run(entries, tmp_path):
    write_csv(tmp_path / "new" / "table.csv", entries)
    first, second, third = csv.DictReader((tmp_path / "new" / "table.csv").open(newline=""))
    assert (first["run"], first["top1"], first["mcnemar_p"], first["group_n"]) == ("a", "0.5", "", "2")
    assert (float(second["top1_low"]), float(second["top1_high"])) == entries[1].interval
    assert (second["mcnemar_p"], second["images_per_second"], second["seconds"]) == ("0.125", "200.0", "3661.0")
    assert (third["optim.learning_rate"], third["model.blocks[0].pool"], third["group_sd"]) == ("0.2", "2", "")


def test_the_page_has_tables_and_curves(entries, tmp_path):
    named = [entry("<b>a</b>", 50), *entries]
    curves = write_html(tmp_path / "new" / "page.html", named, "test")
    page = (tmp_path / "new" / "page.html").read_text()
    assert curves == tmp_path / "new" / "page_curves.png"
    assert curves.read_bytes().startswith(b"\x89PNG")
    assert "&lt;b&gt;a&lt;/b&gt;" in page
    assert "<b>a</b>" not in page
    assert page.count("<tr>") == 1 + 4 + 1 + 3 + 1 + len(fields_of(named))


@pytest.fixture
def copy(tiny_workdir, tiny_data, tmp_path):
    """Copies the run, with some of its config changed."""

    def make(name, **changes):
        workdir = shutil.copytree(tiny_workdir, tmp_path / name)
        config = read_checksummed(workdir / "config.json")
        for path, value in changes.items():
            section, _, field = path.partition("_")
            config.update({section: {**config[section], field: value}} if field else {section: value})
        (workdir / "config.json").write_text(dumps_checksummed(config))
        return workdir

    return make


def contents(workdir):
    return {path.name: path.read_bytes() for path in (workdir / "report").iterdir()}


def evaluated(workdir, tta="none", step=9):
    """Has `evaluate` written predictions that are all right, which the network is not; returns the files."""
    run = Run.open(workdir)
    labels = run.dataset("test").labels
    logits = np.eye(10, dtype=np.float32)[labels]
    write_predictions(run, Predictions("test", step, tta, logits, labels), run.score(logits, labels))
    return contents(workdir)


def test_saved_predictions_of_the_same_checkpoint_are_read_and_others_made(copy):
    a, b = copy("a"), copy("b", seed=1)
    evaluated(a)
    entries = load_entries([str(a), str(b)], "test", "best")
    assert [e.name for e in entries] == ["a", "b"]
    assert entries[0].scores["top1"] == 1 > entries[1].scores["top1"] == Run.open(b).evaluate("test")["top1"]


@pytest.mark.parametrize("other", [{"tta": "flip"}, {"step": 4}])
def test_other_predictions_are_left_alone_and_their_own_made_once(copy, other, monkeypatch):
    a, b = copy("a"), copy("b", seed=1)
    before = {workdir: evaluated(workdir, **other) for workdir in (a, b)}
    first = load_entries([str(a), str(b)], "test", "best")
    assert first[0].scores["top1"] == Run.open(a).evaluate("test")["top1"] < 1
    for workdir in (a, b):
        after = contents(workdir)
        assert after.keys() - before[workdir].keys() == {"compare_test_9.npz"}
        assert {name: after[name] for name in before[workdir]} == before[workdir]

    monkeypatch.setattr(Run, "predict", None)
    again = load_entries([str(a), str(b)], "test", "best")
    assert [e.scores for e in again] == [e.scores for e in first]


def test_runs_on_different_data_are_refused(copy):
    a, b = copy("a"), copy("b", data_name="other")
    facts = read_checksummed(b / "dataset.json")
    (b / "dataset.json").write_text(dumps_checksummed({**facts, "class_names": [f"other {i}" for i in range(10)]}))
    with pytest.raises(UserError, match=r"different data: .*a on tiny, .*b on other; compare runs on one set"):
        load_entries([str(a), str(b)], "test", "best")
    (b / "dataset.json").write_text(dumps_checksummed({**facts, "hashes": {"images": "0" * 64}}))
    with pytest.raises(UserError, match="different data"):
        load_entries([str(a), str(b)], "test", "best")


def test_other_validation_images_are_refused_where_they_are_compared(copy):
    workdirs = [str(copy("a")), str(copy("b", data_split_seed=3))]
    with pytest.raises(UserError, match="different validation images; compare them with --split=test"):
        load_entries(workdirs, "validation", "best")
    assert len(load_entries(workdirs, "test", "best")) == 2


@pytest.mark.parametrize("paths", [["a"], ["a", "a"], ["a", "./a/"]])
def test_a_comparison_takes_two_runs(paths, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="expected two run directories or more, all different"):
        load_entries(paths, "test", "best")


def test_folders_of_one_name_are_told_by_path(copy, tmp_path):
    a = copy("a")
    (tmp_path / "more").mkdir()
    other = shutil.copytree(a, tmp_path / "more" / "a")
    assert [e.name for e in load_entries([str(a), str(other)], "test", "best")] == [str(a), str(other)]

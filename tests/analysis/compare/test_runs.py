import csv
import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cifar_flax import Network, Run
from cifar_flax.analysis.compare.runs import (
    RunResult,
    config_differences,
    group_by_config,
    held_out,
    load_results,
    paired_tests,
    repeated_seeds,
)
from cifar_flax.analysis.compare.statistics import accuracy_interval, mcnemar
from cifar_flax.analysis.compare.tables import Table, comparison_tables
from cifar_flax.analysis.compare.writers import write_csv, write_html, write_seed_report
from cifar_flax.analysis.predictions import Predictions, write_predictions
from cifar_flax.errors import UserError
from cifar_flax.files.checksum import dumps_checksummed, read_checksummed


def result(name, hits, seed=0, **config):
    """A run that is correct on the first `hits` of 100 images."""
    correct = np.arange(100) < hits
    scores = {"n": 100, "top1": hits / 100, "top5": 0.9, "loss": 1.5, "macro_f1": 0.4, "ece": 0.05}
    metrics = pd.DataFrame(
        [
            *({"kind": "step", "step": i, "epoch": 1, "images_per_second": 100.0 * i, "elapsed": 10.0 * i} for i in (1, 2, 3)),
            {"kind": "epoch", "step": 3, "epoch": 1, "train_loss": 2.0, "train_top1": 0.2, "elapsed": 3661.0},
        ]
    )
    fields = {f"config.{path.replace('__', '.')}": value for path, value in config.items()}
    return RunResult(name, {"config.seed": seed, **fields}, 7, scores, correct, accuracy_interval(correct), metrics)


@pytest.fixture
def results():
    return [
        result("a", 50, seed=0, optim__learning_rate=0.1, model__blocks=[]),
        result("b", 54, seed=1, optim__learning_rate=0.1, model__blocks=[]),
        result("c", 70, seed=0, optim__learning_rate=0.2, **{"model__blocks[0]__pool": 2}),
    ]


def test_config_differences_leave_equal_fields_out(results):
    assert config_differences(results) == {
        "seed": [0, 1, 0],
        "optim.learning_rate": [0.1, 0.1, 0.2],
        "model.blocks[0].pool": [None, None, 2],
    }
    assert config_differences(results[:1] * 2) == {}


def test_runs_that_differ_only_in_the_seed_are_a_group(results):
    first, second = group_by_config([results[0], results[2], results[1]])
    assert (first.members, second.members) == ([0, 2], [1])
    assert (first.mean, first.sd, first.p) == (pytest.approx(0.52), pytest.approx(math.sqrt(2 * 0.02**2)), None)
    assert (second.mean, second.sd, second.p) == (0.7, None, None)


def test_a_seed_used_twice_in_a_group_is_reported(results):
    twice = [*results, result("d", 55, seed=1, optim__learning_rate=0.1, model__blocks=[])]
    group, other = group_by_config(twice)
    assert repeated_seeds(twice, group) == [1, 3]
    assert repeated_seeds(twice, other) == []
    assert "runs 2, 4 share a seed" in comparison_tables(twice, "test")[1].text()
    assert "share a seed" not in comparison_tables(results, "test")[1].text()


def test_runs_are_compared_with_the_first_by_mcnemars_test(results):
    assert paired_tests(results)[0] is None
    difference, p = paired_tests(results)[1]
    assert difference == pytest.approx(0.04)
    assert p == mcnemar(results[0].correct, results[1].correct) == 2 / 2**4


def test_tables_list_runs_seed_groups_and_config_differences(results):
    runs, groups, fields = comparison_tables(results, "test")
    low, high = results[1].interval
    assert runs.rows[1] == [
        *("2", "b", "54.00%", f"{low:.2%} to {high:.2%}", "+4.00", "0.12"),
        *("90.00%", "1.5000", "5.00%", "200", "1:01:01", "7"),
    ]
    assert groups.columns == ["runs", "mean", "sd", "n"]  # without p, which neither group has
    assert groups.rows == [["1, 2", "52.00%", "2.83%", "2"], ["3", "70.00%", "-", "1"]]
    assert fields.rows[2] == ("model.blocks[0].pool", "-", "-", "2")
    assert len(comparison_tables(results[1:], "test")) == 2  # no group of seeds


def test_the_text_of_a_table_is_aligned_under_its_title_numbers_to_the_right():
    text = Table("title", ("a", "bb"), [("long", "1"), ("x", "22")], "note", words=("a",)).text()
    assert text.splitlines() == ["title", "  a     bb", "  long   1", "  x     22", "  note"]
    assert Table("nothing", ("a",), []).text() == "nothing"


def test_csv_has_a_row_per_run(results, tmp_path):
    write_csv(tmp_path / "new" / "table.csv", results)
    first, second, third = csv.DictReader((tmp_path / "new" / "table.csv").open(newline=""))
    assert (first["run"], first["top1"], first["mcnemar_p"], first["group_n"]) == ("a", "0.5", "", "2")
    assert (float(second["top1_low"]), float(second["top1_high"])) == results[1].interval
    assert (second["mcnemar_p"], second["images_per_second"], second["seconds"]) == ("0.125", "200.0", "3661.0")
    assert (third["config.optim.learning_rate"], third["config.model.blocks[0].pool"], third["group_sd"]) == ("0.2", "2", "")


def test_a_field_called_as_a_score_has_a_column_of_its_own(tmp_path):
    write_csv(tmp_path / "table.csv", [result("a", 50, loss="cross_entropy"), result("b", 54, loss="mine:focal")])
    first, second = csv.DictReader((tmp_path / "table.csv").open(newline=""))
    assert (first["loss"], second["config.loss"]) == ("1.5", "mine:focal")


def test_the_page_has_tables_and_curves(results, tmp_path):
    named = [result("<b>a</b>", 50), *results]
    curves = write_html(tmp_path / "new" / "page.html", named, "test")
    page = (tmp_path / "new" / "page.html").read_text()
    assert curves == [tmp_path / "new" / "page_loss.png", tmp_path / "new" / "page_top1.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in curves)
    assert "&lt;b&gt;a&lt;/b&gt;" in page
    assert "<b>a</b>" not in page
    assert page.count("<tr>") == 1 + 4 + 1 + 3 + 1 + len(config_differences(named))


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
    """Writes predictions as `evaluate` does, all of them correct, unlike the network's; returns the files."""
    run = Run.open(workdir)
    labels = run.dataset("test").labels
    logits = np.eye(10, dtype=np.float32)[labels]
    write_predictions(run, Predictions("test", step, tta, logits, labels), run.score(logits, labels))
    return contents(workdir)


def test_saved_predictions_are_used_and_missing_ones_made(copy):
    a, b = copy("a"), copy("b", seed=1)
    evaluated(a)
    loaded = load_results([str(a), str(b)], "test", "best")
    assert [one.name for one in loaded] == ["a", "b"]
    assert loaded[0].scores["top1"] == 1 > loaded[1].scores["top1"] == Run.open(b).evaluate("test")["top1"]


@pytest.mark.parametrize("other", [{"tta": "flip"}, {"step": 4}])
def test_predictions_of_another_checkpoint_or_tta_are_left_alone(copy, other, monkeypatch):
    a, b = copy("a"), copy("b", seed=1)
    before = {workdir: evaluated(workdir, **other) for workdir in (a, b)}
    first = load_results([str(a), str(b)], "test", "best")
    assert first[0].scores["top1"] == Run.open(a).evaluate("test")["top1"] < 1
    for workdir in (a, b):
        after = contents(workdir)
        assert after.keys() - before[workdir].keys() == {"compare_test_9.npz"}
        assert {name: after[name] for name in before[workdir]} == before[workdir]

    monkeypatch.setattr(Network, "logits", None)
    again = load_results([str(a), str(b)], "test", "best")
    assert [one.scores for one in again] == [one.scores for one in first]


def test_predictions_at_hand_are_neither_made_nor_saved(copy, monkeypatch):
    a, b = copy("a"), copy("b", seed=1)
    labels = Run.open(a).dataset("test").labels
    right = Predictions("test", 9, "none", np.eye(10, dtype=np.float32)[labels], labels)
    wrong = Predictions("test", 9, "none", np.eye(10, dtype=np.float32)[(labels + 1) % 10], labels)
    monkeypatch.setattr(Run, "network", None)
    loaded = load_results([str(a), str(b)], "test", "best", [right, wrong])
    assert [one.scores["top1"] for one in loaded] == [1, 0]
    assert not list(a.rglob("*.npz"))


def test_runs_on_different_data_are_refused(copy):
    a, b = copy("a"), copy("b", data_name="other")
    facts = read_checksummed(b / "dataset.json")
    (b / "dataset.json").write_text(dumps_checksummed({**facts, "class_names": [f"other {i}" for i in range(10)]}))
    with pytest.raises(UserError, match=r"different data: .*a on tiny, .*b on other; compare runs on one set"):
        load_results([str(a), str(b)], "test", "best")
    (b / "dataset.json").write_text(dumps_checksummed({**facts, "hashes": {"images": "0" * 64}}))
    with pytest.raises(UserError, match="different data"):
        load_results([str(a), str(b)], "test", "best")


def test_different_validation_images_are_refused(copy):
    workdirs = [str(copy("a")), str(copy("b", data_split_seed=3))]
    with pytest.raises(UserError, match="different validation images; compare them with --split=test"):
        load_results(workdirs, "validation", "best")
    assert len(load_results(workdirs, "test", "best")) == 2


def test_what_decides_on_no_validation_image_may_differ(copy):
    none = [copy(name, data_validation_fraction=0.0, data_split_seed=seed) for name, seed in (("a", 0), ("b", 3))]
    assert len(load_results([str(path) for path in none], "train", "best")) == 2
    folds = {"data_folds": 2, "data_fold": 1}
    several = [copy(name, **folds, data_validation_fraction=share) for name, share in (("c", 0.1), ("d", 0.2))]
    assert len(load_results([str(path) for path in several], "validation", "best")) == 2


def test_a_validation_split_of_the_set_is_the_same_whatever_the_fraction(copy):
    runs = [Run.open(copy(name, data_validation_fraction=share)) for name, share in (("a", 0.1), ("b", 0.2))]
    assert held_out(runs[0]) != held_out(runs[1])
    for run in runs:
        run.preprocessing = replace(run.preprocessing, hashes={**run.preprocessing.hashes, "validation_images": "0" * 64})
    assert held_out(runs[0]) == held_out(runs[1])


@pytest.mark.parametrize("paths", [["a"], ["a", "a"], ["a", "./a/"]])
def test_a_comparison_needs_two_different_runs(paths, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="expected two run directories or more, all different"):
        load_results(paths, "test", "best")


def test_folders_of_the_same_name_are_named_by_path(copy, tmp_path):
    a = copy("a")
    (tmp_path / "more").mkdir()
    other = shutil.copytree(a, tmp_path / "more" / "a")
    assert [one.name for one in load_results([str(a), str(other)], "test", "best")] == [str(a), str(other)]


def test_seeds_that_differ_in_what_a_run_may_are_one_group_and_the_fields_are_named(copy, tmp_path):
    seeds = [copy("seed0"), copy("seed1", seed=1, train_dtype="bfloat16")]
    labels = Run.open(seeds[0]).dataset("test").labels
    made = [Predictions("test", 9, "none", np.eye(10, dtype=np.float32)[(labels + k) % 10], labels) for k in (0, 1)]
    text = write_seed_report(tmp_path / "report", seeds, "test", "best", page=False, predictions=made)
    assert "top-1 of runs of one config, over seeds" in text
    assert "not the seed alone differs, but also train.dtype" in text
    summary = read_checksummed(tmp_path / "report" / "test.json")
    assert (summary["n"], summary["top1_mean"], summary["top1_sd"]) == (2, 0.5, pytest.approx(math.sqrt(0.5)))
    made[1].logits[:] = np.nan  # of a network that has diverged
    write_seed_report(tmp_path / "report", seeds, "test", "best", page=False, predictions=made)
    json.loads((tmp_path / "report" / "test.json").read_text(), parse_constant=pytest.fail)

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cifar_flax import Run
from cifar_flax.analysis.predictions import (
    Predictions,
    predict_split,
    predictions_path,
    read_predictions,
    save_predictions,
    write_predictions,
)
from cifar_flax.errors import UserError
from cifar_flax.run import BareRun


@pytest.fixture
def run(tiny_workdir, tiny_data, tmp_path):
    """A run of which the test may change the files."""
    return Run.open(shutil.copytree(tiny_workdir, tmp_path / "copy"))


def test_predictions_are_read_back_as_written(run):
    assert read_predictions(predictions_path(run.report_folder, "test")) is None
    predictions, dataset = predict_split(run, "test", tta="flip")
    path = write_predictions(run, predictions, run.score(predictions.logits, predictions.labels))
    again = read_predictions(path.with_name("test_flip_predictions.npz"))
    assert (again.split, again.step, again.tta) == ("test", run.step("best"), "flip")
    np.testing.assert_array_equal(again.logits, run.logits(dataset, tta="flip"))
    np.testing.assert_array_equal(again.labels, dataset.labels)
    report = json.loads(path.read_text())
    assert (report["split"], report["checkpoint"], report["tta"]) == ("test", again.step, "flip")
    assert report["top1"] == (again.logits.argmax(1) == again.labels).mean()
    assert read_predictions(predictions_path(run.report_folder, "test")) is None  # which is the plain view


def test_predictions_of_a_network_without_a_run_go_to_the_working_directory(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bare = BareRun(run.network(), "fast.safetensors")
    predictions = Predictions("test", 0, "none", np.eye(10, dtype=np.float32), np.arange(10, dtype=np.int32))
    assert write_predictions(bare, predictions, {}) == Path("copy-report/test.json")


def test_a_page_of_other_scores_goes_and_one_of_the_same_stays(run):
    predictions, _ = predict_split(run, "test")
    scores = run.score(predictions.logits, predictions.labels)
    page = write_predictions(run, predictions, scores).with_suffix(".html")
    page.write_text("their page")
    write_predictions(run, predictions, scores)
    assert page.exists()
    write_predictions(run, predictions, scores | {"temperature": 2.0})
    assert not page.exists()


@pytest.mark.parametrize("content", [b"", b"half of a zip file", b"PK\x03\x04"])
def test_damaged_predictions_are_treated_as_missing(run, content):
    (run.workdir / "report").mkdir()
    predictions_path(run.report_folder, "test").write_bytes(content)
    assert read_predictions(predictions_path(run.report_folder, "test")) is None


def test_predictions_without_a_checkpoint_are_treated_as_missing(run):
    (run.workdir / "report").mkdir()
    np.savez(predictions_path(run.report_folder, "test"), logits=np.zeros((3, 10)), labels=np.zeros(3))
    assert read_predictions(predictions_path(run.report_folder, "test")) is None


def test_a_checkpoint_removed_by_training_is_still_evaluated(run, monkeypatch):
    load = run.dataset

    def remove_and_load(split):
        shutil.rmtree(run.workdir / "checkpoints")
        return load(split)

    monkeypatch.setattr(run, "dataset", remove_and_load)
    predictions, _ = predict_split(run, "test")
    assert predictions.step == 9
    assert run.params(9)


def test_a_missing_checkpoint_is_named(run):
    with pytest.raises(UserError, match="no checkpoint 4"):
        predict_split(run, "test", 4)


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (np.zeros((4, 3), np.float32), np.arange(4, dtype=np.int32)),
        (np.zeros((4, 9), np.float32), np.zeros(3, np.int32)),
        (np.zeros((4, 9), np.float32), np.full(4, -1, np.int32)),
        (np.zeros((4, 9), np.int32), np.zeros(4, np.int32)),
        (np.zeros((0, 9), np.float32), np.zeros(0, np.int32)),
        (np.zeros(4, np.float32), np.zeros(4, np.int32)),
    ],
)
def test_arrays_that_are_no_predictions_are_treated_as_missing(tmp_path, logits, labels):
    save_predictions(tmp_path / "a.npz", Predictions("test", 7, "none", logits, labels))
    assert read_predictions(tmp_path / "a.npz") is None


def test_predictions_without_a_hash_or_packed_are_treated_as_missing(tmp_path):
    saved = Predictions("test", 7, "none", np.zeros((4, 9), np.float32), np.zeros(4, np.int32))
    arrays = {"logits": saved.logits, "labels": saved.labels, **saved.about}
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez_compressed(tmp_path / "b.npz", **arrays, sha256=saved.sha256)
    np.savez(tmp_path / "c.npz", **arrays, sha256=saved.sha256)
    assert [read_predictions(tmp_path / f"{name}.npz") is None for name in "abc"] == [True, True, False]

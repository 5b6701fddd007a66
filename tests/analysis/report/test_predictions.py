import json
import shutil

import numpy as np
import pytest

from cifar_flax import Run
from cifar_flax.analysis.report.predictions import predict_split, predictions_file, read_predictions, write_predictions
from cifar_flax.errors import UserError


@pytest.fixture
def copy(tiny_workdir, tiny_data, tmp_path):
    return Run.open(shutil.copytree(tiny_workdir, tmp_path / "copy"))


def test_what_is_written_is_read(copy):
    assert read_predictions(predictions_file(copy, "test")) is None
    found, dataset = predict_split(copy, "test", tta="flip")
    path = write_predictions(copy, found, copy.score(found.logits, found.labels))
    again = read_predictions(predictions_file(copy, "test"))
    assert (again.split, again.step, again.tta) == ("test", copy.step("best"), "flip")
    np.testing.assert_array_equal(again.logits, copy.predict(dataset, tta="flip"))
    np.testing.assert_array_equal(again.labels, dataset.labels)
    about = json.loads(path.read_text())
    assert (about["split"], about["checkpoint"], about["tta"]) == ("test", again.step, "flip")
    assert about["top1"] == (again.logits.argmax(1) == again.labels).mean()
    assert read_predictions(predictions_file(copy, "validation")) is None


@pytest.mark.parametrize("content", [b"", b"half of a zip file", b"PK\x03\x04"])
def test_damaged_predictions_count_as_none(copy, content):
    (copy.workdir / "report").mkdir()
    (copy.workdir / "report" / "test_predictions.npz").write_bytes(content)
    assert read_predictions(predictions_file(copy, "test")) is None


def test_predictions_of_before_they_named_their_checkpoint_count_as_none(copy):
    (copy.workdir / "report").mkdir()
    np.savez(copy.workdir / "report" / "test_predictions.npz", logits=np.zeros((3, 10)), labels=np.zeros(3))
    assert read_predictions(predictions_file(copy, "test")) is None


def test_predictions_go_on_with_a_checkpoint_that_training_has_removed(copy, monkeypatch):
    whole = copy.dataset

    def remove_and_load(split):
        shutil.rmtree(copy.workdir / "checkpoints")
        return whole(split)

    monkeypatch.setattr(copy, "dataset", remove_and_load)
    found, _ = predict_split(copy, "test")
    assert found.step == 9
    assert copy.params(9)


def test_a_checkpoint_that_is_not_there_is_said(copy):
    with pytest.raises(UserError, match="no checkpoint 4"):
        predict_split(copy, "test", 4)

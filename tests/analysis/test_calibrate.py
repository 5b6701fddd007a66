import shutil
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest

from cifar_flax import Run
from cifar_flax.analysis.calibrate import fit_to_validation, warn_of_unfinished
from cifar_flax.config.serialize import read_config, write_config
from cifar_flax.errors import UserError
from cifar_flax.evaluation.calibration import UNCALIBRATED, Calibration
from cifar_flax.evaluation.scores import probabilities
from cifar_flax.files.atomic import write_text
from cifar_flax.files.checksum import dumps_checksummed
from cifar_flax.training.calibration import FILE, calibration_of, without_damaged, write_calibration


@pytest.fixture
def other(tiny_run, tmp_path):
    """The same training under another seed in its config, as far as its folder tells."""
    folder = tmp_path / "other"
    shutil.copytree(tiny_run, folder)
    write_config(replace(read_config(folder / "config.json"), seed=7), folder / "config.json")
    return folder


def test_a_run_with_validation_images_is_calibrated_by_them(tiny_run, tiny_data):
    run = Run.open(tiny_run)
    network, fitted = run.network("best"), fit_to_validation(run, run)
    assert network.temperature == pytest.approx(fitted.calibration.temperature, rel=1e-3)
    assert network.temperature != 1
    images = run.dataset("validation").images[:9]
    np.testing.assert_allclose(
        network.probabilities(images), probabilities(network.logits(images) / np.float32(network.temperature)), rtol=1e-5
    )
    raw = run.network("best", ema=False)
    assert raw.temperature == pytest.approx(fit_to_validation(run, run, ema=False).calibration.temperature, rel=1e-3)


def test_the_temperature_of_another_run_takes_the_place_of_its_own(tiny_run, other, tiny_data):
    fitted = fit_to_validation(Run.open(other), Run.open(tiny_run)).calibration
    assert f"validation images of {tiny_run.name}" in fitted.source
    run = Run.open(other)
    write_calibration(other, run.step(), replace(fitted, temperature=2.5), replace(fitted, temperature=3.5))
    assert (run.network("best").temperature, run.network("best", ema=False).temperature) == (2.5, 3.5)
    assert run.score(np.eye(10, dtype=np.float32), np.arange(10))["temperature"] == 2.5
    assert run.network("best").calibration == Calibration(2.5, fitted.source)


def test_a_run_of_another_recipe_is_refused_by_the_field_that_differs(tiny_run, other, tiny_data):
    config = read_config(other / "config.json")
    config.optim.label_smoothing = 0.5
    write_config(config, other / "config.json")
    with pytest.raises(UserError, match=r"another recipe .* config\.optim\.label_smoothing is 0\.5, not 0\.1; train the"):
        fit_to_validation(Run.open(tiny_run), Run.open(other))


def test_a_run_of_other_classes_is_refused(tiny_run, other, tiny_data):
    validated = Run.open(other)
    renamed = ("another", *validated.preprocessing.class_names[1:])
    validated.preprocessing = replace(validated.preprocessing, class_names=renamed)
    with pytest.raises(UserError, match=r"other has other classes than .*; train it again on the data of today"):
        fit_to_validation(Run.open(tiny_run), validated)


def test_a_run_that_has_not_ended_is_warned_of(other, caplog):
    warn_of_unfinished(Run.open(other))
    assert not caplog.messages
    config = read_config(other / "config.json")
    config.train.epochs = 5
    write_config(config, other / "config.json")
    warn_of_unfinished(Run.open(other))
    assert caplog.messages == [f"{other}: after 2 of 5 epochs; at its end the temperature may be another"]


def test_a_damaged_file_does_not_keep_a_run_from_being_calibrated_anew(other, tiny_data):
    fitted = Calibration(2.5, "others")
    good = write_calibration(other, Run.open(other).step(), fitted, fitted).read_text()
    with without_damaged(other):
        assert (other / FILE).read_text() == good
    (other / FILE).write_text(good.replace("2.5", "2.6"))
    with pytest.raises(UserError, match="damaged"):
        Run.open(other).network()
    with without_damaged(other):
        assert fit_to_validation(Run.open(other), Run.open(other)).calibration.temperature != 1
        assert not (other / FILE).exists()
    damaged = good.replace("2.5", "2.6")
    (other / FILE).write_text(damaged)
    with pytest.raises(UserError, match="no validation images"), without_damaged(other):
        raise UserError("no validation images")
    assert (other / FILE).read_text() == damaged, "nothing has taken its place"


def test_a_temperature_is_of_one_checkpoint(tmp_path):
    fitted = Calibration(2.5, "others")
    write_calibration(tmp_path, 9, fitted, fitted)
    assert calibration_of(tmp_path, 9, {}, ema=True) == fitted
    assert calibration_of(tmp_path, 18, {}, ema=True) == UNCALIBRATED
    assert calibration_of(tmp_path, 18, {"temperature": 1.5}, ema=True).temperature == 1.5


def test_a_run_without_validation_images_is_not_calibrated(tmp_path):
    assert calibration_of(tmp_path, 9, {}, ema=True) == UNCALIBRATED


def test_a_damaged_file_is_refused_by_name(tmp_path):
    (tmp_path / FILE).write_text('{"temperature": 2.0}')
    with pytest.raises(UserError, match=r"calibration\.json: damaged .* write it again"):
        calibration_of(tmp_path, 9, {}, ema=True)


def test_a_file_that_cannot_be_read_now_is_left_as_it_is(tmp_path, monkeypatch):
    fitted = Calibration(2.5, "others")
    path = write_calibration(tmp_path, 9, fitted, fitted)
    with monkeypatch.context() as patch:
        patch.setattr(
            "cifar_flax.training.calibration.read_checksummed", Mock(side_effect=PermissionError(13, "Permission denied"))
        )
        with pytest.raises(UserError, match=r"calibration\.json: cannot be read \(Permission denied\)"):
            without_damaged(tmp_path).__enter__()
    assert path.exists()


def test_a_file_of_another_version_is_no_damaged_one(tmp_path):
    write_text(tmp_path / FILE, dumps_checksummed({"temperature": 1.5, "raw_temperature": 1.5, "source": "x"}))
    with pytest.raises(UserError, match=r"calibration\.json: of another version of cifar_flax; write it again"):
        calibration_of(tmp_path, 9, {}, ema=True)


def test_a_temperature_that_cannot_be_is_refused_by_name(tmp_path):
    write_text(tmp_path / FILE, dumps_checksummed({"step": 9, "temperature": -1.0, "raw_temperature": 1.0, "source": "x"}))
    with pytest.raises(UserError, match=r"calibration\.json: damaged \(temperature -1; expected 0\.01 to 100\); write it"):
        calibration_of(tmp_path, 9, {}, ema=True)

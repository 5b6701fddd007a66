"""launch/calibrate.py, and what other commands say of percentages that nobody has fitted."""

import shutil

import numpy as np
from PIL import Image

from cifar_flax.training.calibration import FILE
from tests.analysis.conftest import train_tiny


def test_each_seed_of_a_folder_is_calibrated(launch, tiny_run, tiny_data, tmp_path):
    for seed in ("seed0", "seed1"):
        shutil.copytree(tiny_run, tmp_path / "seeds" / seed)
    (tmp_path / "seeds" / "seeds.json").write_text('{"score": "validation_top1", "seeds": {"seed0": 0.4, "seed1": 0.5}}')
    done = launch("calibrate", "--run=seeds")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("->")] == [f"-> seeds/seed{i}/{FILE}" for i in (0, 1)]


def test_weights_have_a_temperature_already(launch):
    done = launch("calibrate", "--run=pretrained:fast")
    assert done.returncode == 2
    assert "weights keep the temperature that they were exported with, and these have a temperature of 0.5" in done.stderr


def test_a_run_without_validation_images_is_told_how_it_gets_a_temperature(launch, tiny_data, tmp_path):
    train_tiny(tmp_path / "run", data_validation_fraction=0.0)
    evaluated = launch("evaluate", "--run=run", "--noreport")
    assert "calibrate.py --run=run --validated=A_RUN_THAT_HELD_OUT_IMAGES fits one)" in evaluated.stdout
    refused = launch("calibrate", "--run=run")
    assert refused.returncode == 2
    assert refused.stderr.startswith("run: trained on all images, so that there is no validation split; a training of the same")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    predicted = launch("predict", "--run=run", "a.png")
    assert predicted.returncode == 0, predicted.stderr
    assert predicted.stderr == "run: its percentages are not calibrated, and may say too much or too little\n"

    train_tiny(tmp_path / "select")
    assert launch("calibrate", "--run=run", "--validated=select").returncode == 0
    assert launch("predict", "--run=run", "a.png").stderr == ""

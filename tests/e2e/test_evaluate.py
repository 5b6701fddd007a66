import json
import shutil

import pytest

from cifar_flax.files.checksum import read_checksummed
from cifar_flax.pretrained.weights import write_weights
from cifar_flax.run import load_network
from cifar_flax.runtime.flag_values import KernelDtype


def test_averaged_and_raw_weights_are_both_scored(launch, tiny_run, tiny_data, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    raw = load_network(run, ema=False).evaluate("test")
    done = launch("evaluate", f"--run={run}", "--noreport")
    assert f"raw weights, not averaged: top-1 {raw['top1']:.2%}" in done.stdout, done.stderr
    scores = read_checksummed(run / "report" / "test.json")
    assert scores["ema"] is True
    assert scores["loss"] == pytest.approx(load_network(run).evaluate("test")["loss"])
    assert scores["raw_weights"]["loss"] == pytest.approx(raw["loss"])
    assert launch("evaluate", f"--run={run}", "--noreport", "--weights=raw").returncode == 0
    assert read_checksummed(run / "report" / "test.json") == scores
    scores = read_checksummed(run / "report" / "test_raw.json")
    assert (scores["ema"], scores["loss"]) == (False, pytest.approx(raw["loss"]))
    assert "raw_weights" not in scores


def test_a_report_on_seeds_elsewhere_leaves_the_runs_as_they_are(launch, tiny_run, tmp_path):
    for name in ("seed0", "seed1"):
        shutil.copytree(tiny_run, tmp_path / "seeds" / name)
        shutil.rmtree(tmp_path / "seeds" / name / "report", ignore_errors=True)
    summary = {"score": "validation top-1", "seeds": {"seed0": 0.5, "seed1": 0.5}}
    (tmp_path / "seeds" / "seeds.json").write_text(json.dumps(summary))
    before = sorted((tmp_path / "seeds").rglob("*"))
    done = launch("evaluate", "--run=seeds", "--output=elsewhere", "--noreport")
    assert done.returncode == 0, done.stderr
    assert "evaluating" not in done.stderr  # a second time
    assert sorted((tmp_path / "seeds").rglob("*")) == before
    report = json.loads((tmp_path / "elsewhere" / "test.json").read_text())
    top1 = read_checksummed(tmp_path / "elsewhere" / "seed1" / "test.json")["top1"]
    assert (report["seeds"]["seed1"]["top1"], report["top1_mean"], report["top1_sd"]) == (top1, top1, 0)


def test_a_folder_of_which_one_seed_is_left_is_evaluated_as_that_run(launch, tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "seeds" / "seed3")
    (tmp_path / "seeds" / "seeds.json").write_text(json.dumps({"score": "validation top-1", "seeds": {"seed3": 0.5}}))
    done = launch("evaluate", "--run=seeds", "--noreport")
    assert done.returncode == 0, done.stderr
    assert "seeds/seed3/report/test.json" in done.stdout


def test_seeds_in_a_folder_called_as_a_network_of_the_package_are_refused(launch, tmp_path):
    (tmp_path / "fast").mkdir()
    (tmp_path / "fast" / "seeds.json").write_text("{}")
    done = launch("evaluate", "--run=fast")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "type ./fast or pretrained:fast" in done.stderr


@pytest.mark.slow
def test_scores_are_printed_without_a_writable_report_and_go_where_output_says(launch, tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    done = launch("evaluate", f"--run={run}", "--output=/sys/report")  # where root may not write either
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "calibration error" in done.stdout
    assert "give another folder by --output" in done.stderr
    done = launch("evaluate", f"--run={run}", f"--output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "test.html").exists()
    assert read_checksummed(tmp_path / "out" / "test.json")["n"] == 103
    assert not (run / "report").exists()


@pytest.mark.slow
def test_weights_without_their_run_are_scored_and_reported(launch, tiny_run, tiny_data, tmp_path):
    network = load_network(tiny_run)
    write_weights(tmp_path / "net.safetensors", network, KernelDtype.FLOAT32)
    expected = network.evaluate("test")
    done = launch("evaluate", "--run=net.safetensors", "--probe=color")
    assert done.returncode == 0, done.stderr
    assert f"top-1 {expected['top1']:.2%}" in done.stdout
    assert "test, 103 images, net.safetensors\n" in done.stdout
    scores = read_checksummed(tmp_path / "net-report" / "test.json")
    assert (scores["network"], scores["n"], scores["top1"]) == ("net.safetensors", 103, expected["top1"])
    assert scores["loss"] == pytest.approx(expected["loss"])
    page = (tmp_path / "net-report" / "test.html").read_text()
    assert "They need the run directory." in page
    assert "Confident mistakes" in page
    assert read_checksummed(tmp_path / "net-report" / "test_color.json")["clean"] == expected["top1"]


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--checkpoint=20", "net.safetensors: has no checkpoint 20, only its weights; others are in a run directory"),
        ("--weights=raw", "net.safetensors: has one set of weights; those of the last update are in a run directory"),
    ],
)
def test_what_only_a_run_has_costs_one_line(launch, tiny_run, tmp_path, flag, expected):
    write_weights(tmp_path / "net.safetensors", load_network(tiny_run))
    done = launch("evaluate", "--run=net.safetensors", flag)
    assert (done.returncode, done.stderr) == (2, f"{expected}\n")

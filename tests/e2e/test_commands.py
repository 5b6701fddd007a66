import json
import os
import re
import resource
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import scipy.special
import sklearn.metrics
from sklearn.calibration import calibration_curve

from cifar_flax import Run
from cifar_flax.evaluation.scores import reliability
from cifar_flax.files.checksum import dumps_checksummed, read_checksummed
from cifar_flax.training.records import read_records
from tests.conftest import ROOT, TINY_CONFIG, TINY_TEST_IMAGES, tiny_split
from tests.helpers import forked
from tests.helpers.picture_folders import fill


def records(run, kind):
    return [record for record in read_records(run) if record["kind"] == kind]


def one_line(process, code):
    """The single line on stderr of a command that failed with exit status `code`."""
    assert process.returncode == code, process.stdout + process.stderr
    lines = process.stderr.strip().splitlines()
    assert len(lines) == 1, process.stderr
    return lines[0]


def test_train_leaves_a_run_that_evaluate_reads(launch, tmp_path):
    trained = launch("train", f"--config={TINY_CONFIG}", "--config.train.epochs=4")
    assert trained.returncode == 0, trained.stderr
    run = next((tmp_path / "runs").glob("tiny-*"))
    assert "convnet: 2,466 parameters, 8x8x3 images, 10 classes, float32\n" in trained.stdout
    assert "flops" not in trained.stdout
    assert re.search(r"trained 4 epochs in \d+:\d\d:\d\d", trained.stdout)
    epochs = records(run, "epoch")
    assert [record["epoch"] for record in epochs] == [1, 2, 3, 4]
    assert epochs[-1]["train_loss"] < epochs[0]["train_loss"]
    assert len(records(run, "step")) == 4 * (290 // 32)
    assert json.loads((run / "config.json").read_text())["train"]["epochs"] == 4
    environment = json.loads((run / "environment.json").read_text())
    assert {"packages", "devices", "git_commit", "command"} <= environment.keys()
    assert list((run / "tensorboard").iterdir())

    scored = launch("evaluate", f"--run={run}", "--split=test")
    assert scored.returncode == 0, scored.stderr
    scores, _ = assert_report_is_scikit_learns(run / "report")
    assert scores["checkpoint"] == Run.open(run).step("best")
    assert f"top-1 {scores['top1']:.2%}" in scored.stdout
    assert f"macro F1 {scores['macro_f1']:.2%}" in scored.stdout


@pytest.mark.slow
def test_eight_devices_score_as_one_does_and_logits_that_are_nan_are_scored(launch, tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    report = run / "report"
    scored = launch("evaluate", f"--run={run}", "--noreport")
    assert scored.returncode == 0, scored.stderr
    _, logits = assert_report_is_scikit_learns(report)
    eight = launch("evaluate", f"--run={run}", "--noreport", env={"XLA_FLAGS": "--xla_force_host_platform_device_count=8"})
    assert eight.returncode == 0, eight.stderr
    _, same_logits = assert_report_is_scikit_learns(report)
    np.testing.assert_allclose(same_logits, logits, rtol=1e-4, atol=1e-5)

    facts = read_checksummed(run / "dataset.json")
    zero = [1e-60] * 3  # as float32, divided by which all logits are NaN
    (run / "dataset.json").write_text(dumps_checksummed({**facts, "std": zero}))
    diverged = launch("evaluate", f"--run={run}", "--noreport")
    assert diverged.returncode == 0, diverged.stderr
    scores = json.loads((report / "test.json").read_text())
    assert (scores["loss"], scores["ece"], scores["top1"], scores["macro_f1"]) == (None, None, 0, 0)


def assert_report_is_scikit_learns(report):
    """Recomputes the scores from the predictions beside them; returns both the scores and the logits."""
    scores = json.loads((report / "test.json").read_text())
    with np.load(report / scores["predictions"]) as predictions:
        logits, labels = predictions["logits"], predictions["labels"]
    assert (logits.dtype, logits.shape, labels.dtype) == (np.float32, (TINY_TEST_IMAGES, 10), np.int32)
    np.testing.assert_array_equal(labels, tiny_split(TINY_TEST_IMAGES, 1).labels)
    assert (scores["split"], scores["n"]) == ("test", TINY_TEST_IMAGES)
    for k in (1, 2, 3, 5):
        assert scores[f"top{k}"] == sklearn.metrics.top_k_accuracy_score(labels, logits, k=k)
    assert scores["loss"] == pytest.approx(sklearn.metrics.log_loss(labels, scipy.special.softmax(logits.astype(float), 1)))
    assert scores["macro_f1"] == pytest.approx(sklearn.metrics.f1_score(labels, logits.argmax(1), average="macro"))
    confusion = np.load(report / scores["confusion"])
    np.testing.assert_array_equal(confusion, sklearn.metrics.confusion_matrix(labels, logits.argmax(1), labels=range(10)))
    for key, temperature in (("ece", scores["temperature"]), ("ece_uncalibrated", 1.0)):
        assert_calibration_is_scikit_learns(scores[key], logits / temperature, labels)
    accuracies = [row["accuracy"] for row in scores["per_class"].values()]
    np.testing.assert_allclose(accuracies, np.diag(confusion) / confusion.sum(1))
    return scores, logits


def assert_calibration_is_scikit_learns(ece, logits, labels):
    probs = scipy.special.softmax(logits.astype(float), 1)
    confidence, right = probs.max(1), probs.argmax(1) == labels
    actual = reliability(probs.astype(np.float32), labels)
    filled, bins = actual.count > 0, len(actual.count)
    accuracy, mean_confidence = calibration_curve(right, confidence, n_bins=bins)
    np.testing.assert_allclose(actual.accuracy[filled], accuracy)
    np.testing.assert_allclose(actual.confidence[filled], mean_confidence, rtol=1e-5)
    expected = (actual.count[filled] * np.abs(accuracy - mean_confidence)).sum() / len(labels)
    assert ece == pytest.approx(expected, abs=1e-6)


def test_tensorflow_stays_out_of_the_training_process(tiny_data, tmp_path, monkeypatch):
    script = (
        "import runpy, sys, atexit\n"
        "atexit.register(lambda: print('tensorflow' in sys.modules, 'jax' in sys.modules))\n"
        f"sys.argv = ['train.py', '--config={TINY_CONFIG}', '--config.train.epochs=1', '--workdir={tmp_path / 'run'}']\n"
        f"runpy.run_path({str(ROOT / 'launch' / 'train.py')!r}, run_name='__main__')\n"
    )
    monkeypatch.syspath_prepend(str(ROOT))
    result = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "False True", result.stdout + result.stderr


@pytest.mark.parametrize("splits", [("train",), ("train", "test")])
def test_a_training_whose_pictures_are_gone_when_it_ends_has_succeeded(tmp_path, monkeypatch, splits):
    for split in splits:
        fill(tmp_path / "pets" / split, {"cat": 20, "dog": 20})
    data = [f"--config.data.name=folder:{tmp_path / 'pets'}", "--config.data.image_size=8", "--config.log.pictures=true"]
    args = ["train.py", f"--config={TINY_CONFIG}", "--config.train.epochs=1", f"--workdir={tmp_path / 'run'}", *data]
    script = tmp_path / "script.py"
    script.write_text(
        "import runpy, shutil, sys\n"
        "from cifar_flax.training import loop\n"
        "train = loop.train\n"
        f"loop.train = lambda *args, **options: (train(*args, **options), shutil.rmtree({str(tmp_path / 'pets')!r}))\n"
        f"sys.argv = {args!r}\n"
        f"runpy.run_path({str(ROOT / 'launch' / 'train.py')!r}, run_name='__main__')\n"
    )
    monkeypatch.setenv("CIFAR_FLAX_CACHE", str(tmp_path / "cache"))
    result = forked.run([script])
    *others, last = result.stderr.splitlines()
    assert f"{tmp_path / 'run'}: trained, but its summary is not written: {tmp_path / 'pets'}: no such" in last
    assert (result.returncode, len(others)) == (0, int("test" not in splits)), result.stderr  # one on the missing test split
    hint = "" if "test" in splits else " --split=validation"
    assert result.stdout.splitlines()[-1].endswith(f" --run={tmp_path / 'run'}{hint}")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--config.nothing.at=1"], "config.nothing: no such field"),
        (["--config.train.batch_size=291"], "291 is more than the 290 training images"),
        (["--config.model.blocks[0].pool=9"], "this network cannot take 8x8 images"),
        (
            [f"--config.model.blocks[0].{field}" for field in ("kernel_sizes=(9,)", "paddings=VALID", "pool=1")],
            "this network cannot take 8x8 images: a map of 8x8 is too small for a kernel of 9x9 without padding",
        ),
        (["--workdirr=x"], "--workdirr: no such flag"),
        (["stray"], "stray: unexpected argument"),
        (["--max_minutes=nan"], "--max_minutes: should be a finite number, not nan"),
        (["--max_minutes=inf"], "--max_minutes: should be a finite number, not inf"),
        (["--workdir="], "--workdir: is empty; leave it out, or give it a value"),  # and not the current folder
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(launch, tmp_path, args, expected):
    assert expected in one_line(launch("train", f"--config={TINY_CONFIG}", "--workdir=run", *args), 2)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("command", "args", "expected"),
    [
        ("train", [], "--config"),
        ("train", ["--config="], "--config=: no config of this name; expected one of bigger_conv, "),
        ("train", ["--config=nowhere.py"], "nowhere.py: no such file"),
        ("train", [f"--config={ROOT}/configs"], f"--config={ROOT}/configs: no such file. Configs there: bigger_conv.py, "),
        ("train", [f"--config={TINY_CONFIG}:nonsense"], "no variant 'nonsense'"),
        ("evaluate", ["--run=nowhere"], "nowhere: no such network; expected a run directory"),
        ("evaluate", ["--run=."], "config.json: no such file"),
        ("evaluate", ["--run="], "--run: is empty; leave it out, or give it a value"),
        ("predict", ["--run=fast", ""], "an argument is empty; leave it out, or give it a value"),
    ],
)
def test_a_missing_file_costs_one_line_and_exit_code_2(launch, command, args, expected):
    assert expected in one_line(launch(command, *args), 2)


def test_a_config_file_that_fails_costs_one_line(launch, tmp_path):
    (tmp_path / "broken.py").write_text("import nowhere")
    assert "ModuleNotFoundError: No module named 'nowhere'" in one_line(launch("train", "--config=broken.py"), 2)


def test_an_import_of_the_same_data_mends_a_damaged_file(launch, tmp_path):
    train, test = tiny_split(60, 0), tiny_split(20, 1)
    splits = {"train": train, "test": test}
    arrays = {f"{split}_{name}": getattr(data, name) for split, data in splits.items() for name in ("images", "labels")}
    np.savez(tmp_path / "mine.npz", **arrays)

    def import_it():
        cache = {"CIFAR_FLAX_CACHE": str(tmp_path / "cache")}
        assert launch("import_data", "--name=mine", "--archive=mine.npz", env=cache).returncode == 0

    import_it()
    (images,) = (tmp_path / "cache" / "mine").glob("test_images-*.npy")
    images.unlink()
    import_it()
    np.testing.assert_array_equal(np.load(images), test.images)


@pytest.mark.slow
def test_a_config_that_does_not_match_the_workdir_is_refused_until_restart(launch, tmp_path):
    first = ["train", f"--config={TINY_CONFIG}", "--workdir=run", "--config.train.epochs=1"]
    assert launch(*first).returncode == 0

    refused = launch(*first, "--config.optim.learning_rate=0.5", "--config.log.every_steps=7")
    assert refused.returncode == 2
    assert "config.optim.learning_rate: 0.001 there, 0.5 now" in refused.stderr
    assert "every_steps" not in refused.stderr

    longer = launch("train", f"--config={TINY_CONFIG}", "--workdir=run", "--config.train.epochs=2")
    assert longer.returncode == 0, longer.stderr
    assert [record["epoch"] for record in records(tmp_path / "run", "epoch")] == [1, 2]

    restarted = launch(*first, "--config.optim.learning_rate=0.5", "--restart")
    assert restarted.returncode == 0, restarted.stderr
    assert len(records(tmp_path / "run", "epoch")) == 1
    assert len(records(tmp_path / "run.1", "epoch")) == 2


def test_a_nan_loss_stops_the_run_and_keeps_the_last_good_checkpoint(launch, tiny_data, tmp_path):
    sudden = ["--config.optim.name=sgd", "--config.optim.warmup_epochs=1", "--config.optim.learning_rate=1e30"]
    stopped = launch("train", f"--config={TINY_CONFIG}", "--workdir=run", "--config.checkpoint.every_steps=1", *sudden)
    line = one_line(stopped, 1)
    assert "is not finite at step 3" in line
    assert "config.optim.learning_rate" in line
    leaves = jax.tree.leaves(Run.open(tmp_path / "run").params("latest"))
    assert all(np.isfinite(leaf).all() for leaf in leaves)


FULL_DISK = """
import errno, os

def fsync(descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

os.fsync = fsync
"""


@pytest.mark.slow
def test_a_full_disk_when_a_run_resumes_ends_in_one_line(launch, tmp_path):
    run = tmp_path / "run"
    assert launch("train", f"--config={TINY_CONFIG}", "--workdir=run", "--config.train.epochs=1").returncode == 0
    before = sorted(path.name for path in (run / "checkpoints").iterdir() if path.name.isdigit())
    (tmp_path / "sitecustomize.py").write_text(FULL_DISK)
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    line = one_line(launch("train", f"--config={TINY_CONFIG}", "--workdir=run", env={"PYTHONPATH": path}), 1)
    assert "disk full at run/config.json" in line
    assert sorted(path.name for path in (run / "checkpoints").iterdir() if path.name.isdigit()) == before


def test_a_checkpoint_that_cannot_be_written_ends_in_one_line(launch):
    def limit_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))

    stopped = launch("train", f"--config={TINY_CONFIG}", "--workdir=run", preexec_fn=limit_files)
    assert "cannot write" in one_line(stopped, 1)


def test_a_workdir_below_a_file_is_refused(launch, tmp_path):
    (tmp_path / "file").write_text("")
    assert "file" in one_line(launch("train", f"--config={TINY_CONFIG}", "--workdir=file/run"), 2)

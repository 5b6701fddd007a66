import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.claim_lines import read_lines
from cifar_flax.errors import UserError
from tests.conftest import ROOT, TINY_CONFIG, UNOPTIMIZED


@pytest.fixture
def benchmark(tiny_cache, tmp_path):
    """Runs `python benchmarks/NAME.py --config=tests/e2e/tiny.py ARGS` in an empty folder."""

    def run(name, *args):
        command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), f"--config={TINY_CONFIG}", *args]
        environment = {**os.environ, **UNOPTIMIZED, "CIFAR_FLAX_CACHE": str(tiny_cache)}
        return subprocess.run(command, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)

    return run


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--frameworks=jax,theano", "--frameworks: no 'theano'; expected some of jax, torch, keras"),
        ("--batch_sizes=32,0", "--batch_sizes: '0' is no batch size; expected whole numbers such as 32,64,128"),
    ],
)
def test_a_mistake_is_one_line(benchmark, flag, message):
    done = benchmark("throughput", flag)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message + "\n")


@pytest.mark.slow
def test_throughput_of_ours_beside_plain_jax(benchmark):
    small = ("--config.data.image_size=8", "--frameworks=jax", "--rounds=3", "--steps=1")
    done = benchmark("throughput", *small, "--batch_sizes=4", "--json")
    assert done.returncode == 0, done.stderr
    actual = json.loads(done.stdout)
    assert set(actual["images_per_second"]) == {"32", "4"}
    seconds, speeds = actual["seconds_per_step"]["32"], actual["images_per_second"]["32"]
    assert set(speeds) == {"ours", "ours_f32", "default_options", "plain_jit"}
    assert speeds["ours"] == pytest.approx(32 / np.median(seconds["ours"]))
    assert actual["tiny_ratio_plain_jit"] == pytest.approx(speeds["ours_f32"] / speeds["plain_jit"])
    rounds = zip(seconds["ours_f32"], seconds["plain_jit"], strict=True)
    assert actual["ratios_by_round"]["tiny_ratio_plain_jit"] == pytest.approx([plain / ours for ours, plain in rounds])
    # 8x8 outputs of 27 products for 8 channels; 4x4x8 features to 16, and 16 to 100 classes.
    assert actual["multiply_adds"] == 64 * 27 * 8 + 128 * 16 + 1600
    products = [np.median(actual["seconds_per_step"][size]["matrix_product_jax"]) for size in ("32", "4")]
    peak = max(2 * 2048**3 / product for product in products)
    assert actual["peak_gflops"] == pytest.approx(peak / 1e9)
    assert actual["tiny_share_of_peak"] == pytest.approx(speeds["ours_f32"] * 6 * actual["multiply_adds"] / peak)


@pytest.mark.slow
def test_time_to_accuracy_is_read_off_the_runs(benchmark, tmp_path):
    flags = ("--config.train.epochs=3", "--seeds=2", "--json")

    def ask(target):
        done = benchmark("time_to_accuracy", *flags, f"--target={target}")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    assert ask(1.0)["n"] == 0  # trains them
    workdirs = sorted((tmp_path / "runs" / "time_to_accuracy").iterdir())
    records = [list(map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())) for workdir in workdirs]
    epochs = [[record for record in run if record["kind"] == "epoch"] for run in records]
    target = max(record["validation_top1"] for record in epochs[0])
    actual = ask(target)
    assert [line["seed"] for line in actual["seeds"]] == [0, 1]
    assert actual["seeds"][0]["reached"]
    for line, run in zip(actual["seeds"], epochs, strict=True):
        first = next((record for record in run if record["validation_top1"] >= target), None)
        assert line["reached"] == (first is not None)
        if first:
            assert (line["epoch"], line["seconds_with_compilation"]) == (first["epoch"], first["elapsed"])
            assert 0 < line["seconds"] < line["seconds_with_compilation"]
    assert ask(target) == actual


@pytest.mark.slow
def test_a_recipe_without_validation_is_scored_on_test_once(benchmark, tmp_path, tiny_data):
    flags = ("--config.data.validation_fraction=0", "--target=.01")
    done = benchmark("time_to_accuracy", *flags)
    assert done.returncode == 0, done.stderr
    (workdir,) = (tmp_path / "runs" / "time_to_accuracy").iterdir()
    from cifar_flax.run import Run

    top1 = json.loads((workdir / "time_to_accuracy.json").read_text())["test_top1"]
    assert top1 == Run.open(workdir).evaluate("test", "latest")["top1"]
    assert f"seed 0: {top1:.2%} after epoch 2" in done.stdout
    (workdir / "time_to_accuracy.json").write_text('{"test_top1": 0.005}')  # what is there is not computed again
    assert "no seed reached 1.0%" in benchmark("time_to_accuracy", *flags).stdout


def run_plain(name, *args):
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *args]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("name", ["pictures", "records"])
def test_what_writes_the_documentation_obeys_its_command_line(name):
    before = [(path, path.stat().st_mtime_ns) for path in sorted((ROOT / "docs").iterdir())]
    shown, refused = run_plain(name, "--help"), run_plain(name, "stray")
    assert (shown.returncode, refused.returncode) == (0, 2), shown.stderr
    assert "| config |" not in shown.stdout
    assert (refused.stdout, refused.stderr) == ("", "stray: unexpected argument; flags are written --name=value\n")
    assert [(path, path.stat().st_mtime_ns) for path in sorted((ROOT / "docs").iterdir())] == before


def test_the_page_of_records_is_all_that_is_printed():
    assert run_plain("records").stdout == (ROOT / "docs" / "records.md").read_text()


@pytest.mark.parametrize("content", [b"no JSON\n", b"{}\n[]\n", b"\xff\n", b"\n"])
def test_results_that_are_none_are_refused_in_a_line(tmp_path, content):
    (tmp_path / "lines.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=r"lines\.jsonl: line [12] is no JSON object; give a file that claims\.py wrote$"):
        read_lines(tmp_path / "lines.jsonl")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium")
def test_a_screenshot_of_no_demo_is_refused_in_a_line():
    pytest.importorskip("playwright")
    done = run_plain("screenshot", "--address=http://127.0.0.1:1/")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("--address=http://127.0.0.1:1/: no demo there (")

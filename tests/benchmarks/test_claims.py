import json
import os
import subprocess
import sys
import time

import pytest

from benchmarks.claim_lines import curves, distances, read_lines, table
from benchmarks.claim_list import GROUPS, Search, Training, loaded, select
from benchmarks.claim_times import STARTUP_SECONDS, estimate
from cifar_flax.config.files import load_config
from cifar_flax.config.serialize import validated
from cifar_flax.errors import UserError
from tests.conftest import ROOT, UNOPTIMIZED

HARDWARE = {"devices": ["cpu"], "cpus": 2, "cpu": "Some", "cpu_flags": ["avx2", "fma"]}
MACHINE = {**HARDWARE, "fast_bfloat16": False, "multiply_adds_a_second": 1e11}


def line(config, **changed):
    """A line of a training of 45,000 images here."""
    scores = {"top1": 0.5, "top2": 0.6, "top3": 0.7, "top5": 0.8}
    given = {"config": config, "images": 45_000, "seconds": 100, "compilation": 10, "dtype": "float32", "test": scores}
    return {**given, **HARDWARE, **changed}


def test_everything_that_is_listed_has_a_config_a_tiny_one_and_a_space():
    for claim in select([]):
        assert loaded(claim).train.epochs > 0
        validated(load_config(f"{ROOT}/benchmarks/tiny.py:{claim.config}"))
        if isinstance(claim, Search):
            assert (ROOT / "configs" / "search" / f"{claim.name}.py").exists()


def test_names_and_groups_are_chosen_together_each_once():
    assert select(["D", "mlp", "fast"]) == [*GROUPS["D"], Training("fast", seeds=5, tta=True)]
    twenty = Training("three_conv:decay", epochs=20)
    assert select(["three_conv.py:decay@20", "configs/mlp.py"]) == [Training("mlp"), twenty]
    with pytest.raises(UserError, match=r"--only: no 'mlp@x'; expected"):
        select(["mlp@x"])
    with pytest.raises(UserError, match=r"--only: no 'MLP'; expected some of A, .*, mlp@100, "):
        select(["MLP"])


def test_a_time_is_that_of_its_like_here():
    twice = Training("wide", epochs=2)  # of 703 steps each
    others = ({"dtype": "bfloat16"}, {"cpu": "Other"}, {"cpu_flags": ["avx2", "fma", "avx512f"]})
    lines = [line("wide"), *(line("wide", seconds=1, **other) for other in others)]
    assert estimate(twice, lines, MACHINE) == (pytest.approx(2 * 703 * 64 / 45_000 * 90 + STARTUP_SECONDS), "its like here")


def test_a_time_without_its_like_is_by_the_work_of_the_nearest():
    lines = [line("wide"), line("mlp", seconds=11)]
    seconds, source = estimate(Training("wide:published", epochs=1), lines, MACHINE)
    assert source == "multiply-adds, at the rate of wide here"
    assert seconds == pytest.approx(90 + STARTUP_SECONDS, abs=2)
    seconds, source = estimate(Training("wide", epochs=1), [], MACHINE)
    assert source == "multiply-adds, by a matrix product"
    assert seconds == pytest.approx(45_000 * 3 * 384_700_416 / 35e9, rel=0.02)


def test_a_search_takes_as_long_as_all_its_runs():
    (search,) = select(["vgg_bn_random"])
    on_90_percent = estimate(Training("vgg_bn:search"), [line("vgg_bn:search")], MACHINE)[0] - STARTUP_SECONDS
    on_four_of_five_folds = on_90_percent * 80 / 90 + STARTUP_SECONDS
    seconds, _ = estimate(search, [line("vgg_bn:search")], MACHINE)
    assert seconds == pytest.approx(20 * 5 * on_four_of_five_folds, rel=1e-3)


def test_a_long_curve_is_thinned_from_its_first_epoch_to_its_last():
    epochs = [{"epoch": i, "train_loss": i / 3, "validation_top1": None} for i in range(1, 201)]
    actual = curves(epochs)
    assert (len(actual["epoch"]), actual["epoch"][0], actual["epoch"][-1]) == (50, 1, 200)
    assert actual["epoch"] == sorted(set(actual["epoch"]))
    assert (actual["train_loss"][0], actual["validation_top1"][0]) == (0.3333, None)


def test_the_table_has_a_row_for_each_command_dtype_and_machine():
    lines = read_lines(ROOT / "benchmarks" / "results" / "claims.jsonl")
    rows = table(lines).splitlines()
    fast = [row for row in rows if row.startswith("| `fast.py` ")]
    assert "75.43 (sd 0.21) / 86.02 / 90.24 / 94.09" in fast[0]
    assert "| bfloat16 | 3 |" in fast[1]


def test_a_row_measured_again_is_so_many_deviations_from_the_recorded_one():
    def of(top1, **changed):
        made = {"command": "python launch/train.py --config=configs/a.py", "test": {"top1": top1}}
        return line("a", **(made | changed))

    recorded = [of(0.5), of(0.52), of(0.9, dtype="bfloat16"), of(0.3, command="... --config=configs/b.py")]
    now = [
        of(0.54),
        of(0.31, command="... --config=configs/b.py --config.seed=1"),
        of(0.1, command="... --config=configs/c.py"),
    ]
    assert distances(recorded, now).splitlines() == [
        "a.py, float32: test top-1 54.00 %, n = 1; recorded 51.00 (sd 1.41) %, n = 2: +3.00, which is 2.1 sd, 1.7 standard "
        "errors",
        "b.py, float32: test top-1 31.00 %, n = 1; recorded 30.00 %, n = 1: +1.00",
        "c.py, float32: test top-1 10.00 %, n = 1",
    ]


@pytest.mark.slow
def test_a_dry_run_measures_each_once(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "claims.py"), "--dry_run", "--only=fast10,wide_grid"]

    def run():
        environment = {**os.environ, **UNOPTIMIZED, "CIFAR_FLAX_CACHE": str(tmp_path / "cache")}
        done = subprocess.run([*command, f"--output={tmp_path}"], env=environment, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return [json.loads(text) for text in (tmp_path / "claims.jsonl").read_text().splitlines()]

    lines = run()
    trained, search = lines
    assert trained["command"] == "python launch/train.py --config=configs/fast10.py"
    assert {"test_flip", "test_flip_shift"} <= trained.keys()
    assert (trained["seed"], trained["curves"]["epoch"]) == (0, [1, 2])
    assert (len(search["trials"]), search["runs"]) == (2, 2)
    assert run() == lines


@pytest.mark.slow
def test_a_signal_ends_what_runs_and_nothing_else_begins(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "claims.py"), "--dry_run", "--only=mlp,two_conv"]
    environment = {**os.environ, "CIFAR_FLAX_CACHE": str(tmp_path / "cache")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([*command, f"--output={tmp_path}"], env=environment, **pipes, text=True)
    assert process.stdout.readline().startswith("mlp: runs")
    while not (tmp_path / "mlp" / "config.json").exists() and process.poll() is None:
        time.sleep(0.1)
    process.terminate()
    printed, errors = process.communicate()
    assert (process.returncode, errors) == (75, "interrupted; run the same command to go on\n")
    assert "two_conv" not in printed
    assert (tmp_path / "mlp.log").read_text().endswith("; run the same command to go on\n"), "the training has not ended"

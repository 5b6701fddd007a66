"""The one command of a GPU: what it makes of figures, and, on a CPU with tiny networks, that all of it runs."""

import json
import subprocess
import sys

import pytest

from benchmarks import gpu
from benchmarks.gpu_table import table
from benchmarks.machine import Machine, OutOfTime
from cifar_flax.models import ConvNet, ResNet, SpeedNet
from tests.conftest import ROOT

RESULTS = {
    "commands": {
        "cold": {"command": 64.0, "training": 50.1, "compilation": 40.0},
        "warm": {"command": 33.3, "training": 20.1, "compilation": 5.0},
        "test_top1": [0.7527, 0.7529],
    },
    "seeds": {
        "alone": {"seed2": {"command": 10.0, "training": 4.0, "compilation": 1.0}},
        "test_top1": [0.75],
        "vmapped": {"command": 20.0, "training": 9.0, "compilation": 2.0, "test_top1": [0.75, 0.76]},
        "three_conv": {"one": {}, "five": {}, "ratio": 2.25},
    },
    "steps": {
        "seconds_per_step": {
            "wide": {
                "ours": [0.0008, 0.0009, 0.0008],
                "torch_compiled": [0.0032, 0.0032, 0.0033],
                "torch_cuda_graphs": [0.0016, 0.0017, 0.0016],
            },
            "resnet18": {"ours": [0.0026, 0.0026, 0.0026]},
        },
        "batch_sizes": {"wide": 64, "resnet18": 128},
        "remarks": ["wide: torch_cuda_graphs was left out"],
    },
    "resume": {"killed_after_step": 40, "bitwise_equal": False},
}


def test_the_table_has_every_figure_and_compares_with_the_faster_of_pytorch():
    text = table(RESULTS)
    assert "| seed 0, nothing compiled | 64.00 | 50.10 | 40.00 | 75.27 |" in text
    assert "| seed 2, programs on disk | 10.00 | 4.00 | 1.00 | 75.00 |" in text
    assert "Mean 75.19 %, sd 0.16, n = 3." in text
    assert "take 2.25 times the training of one" in text
    assert "| `wide`, batch 64 | 0.800 | 3.200 | 1.600 | 2.00 |" in text
    assert "| `resnet18`, batch 128 | 2.600 |  |  |  |" in text
    assert "Killed after step 40 and resumed: OTHER BITS." in text
    assert table({}) == ""


def test_every_network_has_a_tiny_form_of_its_kind():
    kinds = {type(gpu.tiny(gpu._config(name)).model) for name in gpu.NETWORKS}
    assert kinds == {ConvNet, ResNet, SpeedNet}
    assert {type(gpu._config(name).model) for name in gpu.DRY_NETWORKS} == kinds


def test_a_command_that_does_not_end_in_time_is_killed(tmp_path):
    machine = Machine(tmp_path, minutes=0.01, data="cifar100", dry=True)
    with pytest.raises(OutOfTime):
        machine.run("-c", "import time; time.sleep(60)")
    with pytest.raises(OutOfTime):
        machine.start("-c", "")


def test_an_unknown_part_is_one_line(tmp_path):
    command = [sys.executable, "benchmarks/gpu.py", f"--output={tmp_path}", "--parts=steps,speed"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    expected = "--parts: no 'speed'; expected some of commands, seeds, steps, resume, tests\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)


def test_a_dry_run_and_a_measurement_do_not_share_a_folder(tmp_path):
    (tmp_path / "gpu.json").write_text('{"dry_run": true}')
    command = [sys.executable, "benchmarks/gpu.py", f"--output={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "give another folder by --output" in done.stderr


@pytest.mark.slow
def test_a_dry_run_goes_through_all_parts_and_a_second_one_has_nothing_left(tmp_path):
    command = [sys.executable, "benchmarks/gpu.py", f"--output={tmp_path}", "--dry_run", "--minutes=120"]
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert "commands:" not in done.stdout  # they are in the file
    results = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert set(results) == {*gpu.PARTS, "dry_run"}
    assert results["resume"]["bitwise_equal"]
    assert results["tests"]["exit_code"] == 0
    assert len(results["seeds"]["vmapped"]["test_top1"]) == gpu.DRY_SEEDS
    assert set(results["steps"]["seconds_per_step"]) == set(gpu.DRY_NETWORKS)
    assert (tmp_path / "gpu.md").read_text(encoding="utf-8") == done.stdout

"""The one command of a GPU: what it makes of figures, and, on a CPU with tiny networks, that all of it runs."""

import json
import os
import signal
import subprocess
import sys
from unittest.mock import MagicMock, Mock

import pytest

from benchmarks import gpu, gpu_parts, recipe_steps
from benchmarks.gpu_table import table
from benchmarks.machine import Machine, OutOfTime
from cifar_flax.config.files import load_config
from cifar_flax.errors import RunFailed, UserError
from cifar_flax.models import ConvNet, ResNet, SpeedNet
from tests.conftest import ROOT, UNOPTIMIZED

RESULTS = {
    "commands": {
        "alone": {
            "seed0": {"command": 64.0, "training": 50.1, "compilation": 40.0, "epochs": [1.0, 1.2], "cached": False},
            "seed1": {"command": 33.3, "training": 20.1, "compilation": 5.0, "epochs": [1.0, 1.2], "cached": True},
        },
        "test_top1": [0.7527, 0.7529],
    },
    "recipe": {
        "programs": [
            {"image_size": 20, "steps": 24, "dispatches": 2, "seconds": [0.48, 0.48, 0.5]},
            {"image_size": None, "steps": 1, "dispatches": 10, "seconds": [0.1, 0.1, 0.1]},
        ]
    },
    "seeds": {
        "alone": {"seed2": {"command": 10.0, "training": 4.0, "compilation": 1.0, "epochs": [1.0, 1.2], "cached": True}},
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
    "resume": {"steps": 90, "killed_after_step": 40, "bitwise_equal": False},
    "autotuning": {"levels": {"0": {"command": 30.0, "training": 20.0, "compilation": 15.0}}},
}


def test_the_table_has_every_figure_and_compares_with_the_faster_of_pytorch():
    text = table(RESULTS)
    assert "| seed 0, nothing compiled | 64.00 | 50.10 | 40.00 | 2.20 | 1.12 | 75.27 |" in text
    assert "| seed 2, programs on disk | 10.00 | 4.00 | 1.00 | 2.20 | 1.12 | 75.00 |" in text
    assert "Mean 75.19 %, sd 0.16, n = 3." in text
    assert "| 20 | 24 | 2 | 20.000 |" in text
    assert "| all | 1 | 10 | 100.000 |" in text
    assert "The steps of a training take 1.96 s." in text
    assert "take 2.25 times the training of one" in text
    assert "| `wide`, batch 64 | 0.800 | 3.200 | 1.600 | 2.00 |" in text
    assert "| `resnet18`, batch 128 | 2.600 |  |  |  |" in text
    assert "Killed after step 40 of 90 and resumed: OTHER BITS." in text
    assert "At autotuning level 0, nothing compiled: command, training, waiting 30.00 | 20.00 | 15.00 s." in text
    assert table({}) == ""


def test_the_table_of_parts_that_are_not_complete_has_what_was_measured():
    alone = RESULTS["commands"]["alone"]
    assert table({"commands": {"alone": alone}}).splitlines()[-1].endswith("| 33.30 | 20.10 | 5.00 | 2.20 |  |  |")
    seeds = {name: RESULTS["seeds"][name] for name in ("alone", "test_top1")}
    text = table({"commands": RESULTS["commands"], "seeds": seeds})
    assert "n = 3" in text
    assert "in one program" not in text
    assert "| `wide`" not in table({"steps": {**RESULTS["steps"], "seconds_per_step": {}}})


def test_every_network_has_a_tiny_form_of_its_kind():
    kinds = {type(gpu_parts.tiny(load_config(name)).model) for name in gpu_parts.NETWORKS}
    assert kinds == {ConvNet, ResNet, SpeedNet}
    assert {type(load_config(name).model) for name in gpu_parts.DRY_NETWORKS} == kinds


def test_a_command_that_does_not_end_in_time_is_killed(tmp_path):
    machine = Machine(tmp_path, minutes=0.01, data="cifar100", dry=True)
    with pytest.raises(OutOfTime):
        machine.run("-c", "import time; time.sleep(60)")
    with pytest.raises(OutOfTime):
        machine.start("-c", "")


def test_commands_see_packages_on_the_path_of_the_caller(tmp_path, monkeypatch):
    (tmp_path / "carried.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    Machine(tmp_path, minutes=10, data="cifar100", dry=True).run("-c", "import benchmarks.gpu, carried")


def test_a_failed_evaluation_is_named(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(RunFailed, match=r"launch/evaluate.py --run=.*/run .* ended with exit code \d; see .*log.txt"):
        Machine(tmp_path, minutes=10, data="cifar100", dry=True).test_top1("run")


def test_what_is_compiled_for_the_first_command_is_not_on_disk(tmp_path, monkeypatch):
    machine, found = Machine(tmp_path, minutes=10, data="cifar100", dry=True), []
    (machine.programs / "program").mkdir(parents=True)
    monkeypatch.setattr(machine, "train", lambda *arguments: found.append(machine.programs.exists()))
    monkeypatch.setattr(machine, "test_top1", lambda *names: [0.5] * len(names))
    assert list(gpu_parts.commands(machine))[-1]["test_top1"] == [0.5, 0.5]
    assert found[0] is False


def test_a_run_that_ends_before_it_is_killed_shows_nothing(tmp_path, monkeypatch):
    machine = Machine(tmp_path, minutes=10, data="cifar100", dry=True)
    for name in ("whole", "killed"):
        (tmp_path / name / "checkpoints" / "90").mkdir(parents=True)
    monkeypatch.setattr(gpu_parts, "has_gpu", lambda: False)
    monkeypatch.setattr(machine, "train", lambda *arguments: None)
    monkeypatch.setattr(machine, "start", lambda *arguments: subprocess.Popen([sys.executable, "-c", ""]))
    with pytest.raises(RunFailed, match="the run of 90 steps had ended before it was killed"):
        list(gpu_parts.resume(machine))


def test_a_run_that_fails_before_it_has_saved_shows_nothing(tmp_path, monkeypatch):
    machine = Machine(tmp_path, minutes=10, data="cifar100", dry=True)
    (tmp_path / "whole" / "checkpoints" / "90").mkdir(parents=True)
    monkeypatch.setattr(gpu_parts, "has_gpu", lambda: False)
    monkeypatch.setattr(machine, "train", lambda *arguments: None)
    monkeypatch.setattr(machine, "start", lambda *arguments: subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]))
    with pytest.raises(RunFailed, match="ended with exit code 3, before it had saved"):
        list(gpu_parts.resume(machine))


def test_a_run_that_was_to_be_killed_does_not_outlive_the_time(tmp_path, monkeypatch):
    machine, started = Machine(tmp_path, minutes=10, data="cifar100", dry=True), []
    (tmp_path / "whole" / "checkpoints" / "90").mkdir(parents=True)
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    monkeypatch.setattr(gpu_parts, "has_gpu", lambda: False)
    monkeypatch.setattr(machine, "train", lambda *arguments: None)
    monkeypatch.setattr(machine, "start", lambda *arguments: started.append(subprocess.Popen(sleep)) or started[0])
    monkeypatch.setattr(machine, "seconds_left", Mock(side_effect=OutOfTime))
    with pytest.raises(OutOfTime):
        list(gpu_parts.resume(machine))
    assert started[0].returncode == -signal.SIGKILL


def test_what_is_measured_on_one_card_or_commit_is_not_mixed_with_another(tmp_path, monkeypatch):
    here = {"backend": "gpu", "git_commit": None, "code": "a1", "devices": ["H200"]}
    monkeypatch.setattr(gpu_parts, "environment", lambda: here)
    monkeypatch.setattr(gpu, "_DRY_RUN", Mock(value=False))
    results = {}
    gpu._check_environment(results, tmp_path / "gpu.json")
    assert results == {"environment": here}
    gpu._check_environment(results, tmp_path / "gpu.json")
    monkeypatch.setattr(gpu_parts, "environment", lambda: {**here, "code": "b2"})
    with pytest.raises(UserError, match=r"of code a1, and now it is b2; give another folder"):
        gpu._check_environment(results, tmp_path / "gpu.json")
    monkeypatch.setattr(gpu_parts, "environment", lambda: {**here, "devices": ["A100"]})
    with pytest.raises(UserError, match=r"of devices \['H200'\], and now it is \['A100'\]; give another folder"):
        gpu._check_environment(results, tmp_path / "gpu.json")
    monkeypatch.setattr(gpu_parts, "environment", lambda: {**here, "backend": "cpu", "devices": ["cpu"]})
    with pytest.raises(UserError, match="JAX finds no GPU here, only cpu; to try all parts on a CPU: --dry_run"):
        gpu._check_environment({}, tmp_path / "gpu.json")


def test_a_framework_that_cannot_be_imported_is_left_out_and_named():
    broken = Mock(call=Mock(side_effect=RunFailed("torch_device: the process ended with 1")))
    workers = {name: {"jax_device": Mock(call=Mock(return_value="0.12")), "torch_device": broken} for name in ("wide", "fast")}
    expected = {"jax_device": "0.12"}, ["torch_device was left out: torch_device: the process ended with 1"]
    assert gpu_parts._environments(workers) == expected
    assert [list(of_network) for of_network in workers.values()] == [["jax_device"]] * 2


def test_steps_that_were_not_compiled_in_time_are_not_complete(tmp_path, monkeypatch):
    machine = Machine(tmp_path, minutes=10, data="cifar100", dry=True)

    def build_nothing(reason):
        built = {name: ({}, [f"ours was left out: {reason}"]) for name in gpu_parts.DRY_NETWORKS}
        monkeypatch.setattr(gpu_parts, "_build", lambda *_: built)

    monkeypatch.setattr(gpu_parts, "Worker", MagicMock())
    build_nothing(gpu_parts.LATE)
    with pytest.raises(RunFailed, match="not compiled in time; the same command measures all of them again"):
        list(gpu_parts.steps(machine))
    build_nothing("no memory")
    assert [list(of["seconds_per_step"]) for of in gpu_parts.steps(machine)] == [[]] * len(gpu_parts.DRY_NETWORKS)


class Builder:
    """In the place of a worker: builds a step, or fails."""

    def __init__(self, error=None):
        self.error = error

    def call(self, function, config, batch_size):
        return function, batch_size

    def build(self, workload, chunk):
        if self.error:
            raise self.error
        return ["ours"], []


def test_a_network_that_cannot_be_built_is_left_out_and_named(tmp_path):
    machine = Machine(tmp_path, minutes=10, data="cifar100", dry=True)
    workers = {"wide": {"jax_device": Builder()}, "resnet18": {"jax_device": Builder(RuntimeError("traceback\nno memory"))}}
    built = gpu_parts._build({name: load_config(name) for name in workers}, workers, machine)
    assert built["wide"] == ({"ours": workers["wide"]["jax_device"]}, [])
    assert built["resnet18"] == ({}, ["jax_device was left out: no memory"])


def test_a_part_that_fails_is_named_and_the_next_begins(tmp_path):
    code = "; ".join(
        (
            "import sys; from benchmarks import gpu; from cifar_flax.runtime import app",
            "gpu.PARTS['commands'] = lambda machine: [machine.run('-c', 'raise SystemExit(\"of no use\")')]",
            "gpu.PARTS['tests'] = lambda machine: [{'exit_code': 0, 'summary': 'all passed', 'failed': []}]",
            f"sys.argv = ['gpu', '--output={tmp_path}', '--dry_run', '--parts=commands,tests']",
            "app.run(gpu.main)",
        )
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"failed: commands; see {tmp_path}/log.txt\n")
    assert "\nof no use\ntests: 0 s\n" in done.stdout
    assert done.stdout.startswith("commands: -c ")
    assert json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["tests"]["exit_code"] == 0
    assert "all passed" in (tmp_path / "gpu.md").read_text(encoding="utf-8")


def test_an_unknown_part_is_one_line(tmp_path):
    command = [sys.executable, "benchmarks/gpu.py", f"--output={tmp_path}", "--parts=steps,speed"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    expected = "--parts: no 'speed'; expected some of commands, recipe, seeds, resume, steps, tests, autotuning\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)


def test_a_dry_run_and_a_measurement_do_not_share_a_folder(tmp_path):
    (tmp_path / "gpu.json").write_text('{"dry_run": true}')
    command = [sys.executable, "benchmarks/gpu.py", f"--output={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "give another folder by --output" in done.stderr


@pytest.mark.slow
def test_a_dry_run_goes_through_all_parts_and_a_second_one_has_nothing_left(tmp_path, shapes100_cache):
    command = [sys.executable, "benchmarks/gpu.py", f"--output={tmp_path}", "--dry_run", "--minutes=120"]
    environment = {**os.environ, **UNOPTIMIZED, "CIFAR_FLAX_CACHE": shapes100_cache}
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert "commands:" not in done.stdout  # they are in the file
    results = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert set(results) == {*gpu.PARTS, "dry_run", "environment"}
    assert results["resume"]["bitwise_equal"]
    assert [program["dispatches"] for program in results["recipe"]["programs"]] == [200]  # of 50,000 images
    assert results["tests"]["exit_code"] == 0
    assert len(results["seeds"]["vmapped"]["test_top1"]) == gpu_parts.DRY_SEEDS
    assert set(results["steps"]["seconds_per_step"]) == set(gpu_parts.DRY_NETWORKS)
    assert (tmp_path / "gpu.md").read_text(encoding="utf-8") == done.stdout
    assert 0 < results["resume"]["killed_after_step"] < results["resume"]["steps"]


def test_the_programs_of_the_speed_run_make_all_of_its_steps(monkeypatch):
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    config = load_config("fast:published")
    chunks = recipe_steps.chunks_of(config, steps_per_epoch=48, batch_bytes=1024 * 32 * 32 * 3)
    assert sum(chunk.length for chunk in chunks) == 420 == 8.75 * 48
    programs = {(chunk.image_size, chunk.length) for chunk in chunks}
    assert programs == {(20, 3), (24, 3), (None, 3)}

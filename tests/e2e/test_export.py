import json
import shutil

import onnx
import pytest

from cifar_flax.evaluation.calibration import Calibration
from cifar_flax.pretrained.weights import read_weights
from cifar_flax.run import Run, load_network
from cifar_flax.training.calibration import write_calibration


@pytest.mark.slow
def test_a_run_and_its_files_are_exported_with_figures_of_what_the_file_holds(launch, tiny_run, tiny_data, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    done = launch("export", "--run=run", "--dtype=bfloat16")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("run/export/run.safetensors: kernels in bfloat16, not measured (evaluate first), ")
    assert launch("evaluate", "--run=run", "--noreport").returncode == 0
    done = launch("export", "--run=run", "--dtype=bfloat16")
    assert done.returncode == 0, done.stderr
    file = read_weights(run / "export" / "run.safetensors")
    scores = file.evaluate("test")
    assert (file.figures["top1"], file.figures["loss"]) == (scores["top1"], pytest.approx(scores["loss"]))
    assert f"kernels in bfloat16, with which top-1 is {scores['top1']:.2%} on 103 test images" in done.stdout

    shutil.copy(run / "export" / "run.safetensors", tmp_path / "lines.safetensors")
    done = launch("export", "--run=lines.safetensors", "--format=huggingface", "--dtype=float32", "--license=mit")
    assert done.returncode == 0, done.stderr
    assert "hf upload USER/NAME lines-huggingface" in done.stdout
    assert load_network(tmp_path / "lines-huggingface").figures == file.figures
    assert "license: mit" in (tmp_path / "lines-huggingface" / "README.md").read_text()
    assert launch("export", "--run=lines-huggingface", "--format=stablehlo").returncode == 0
    assert (tmp_path / "lines-huggingface.stablehlo").exists()


@pytest.mark.slow
def test_a_run_calibrated_after_evaluation_is_exported_with_its_calibration_error(launch, tiny_run, tiny_data, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    assert launch("evaluate", "--run=run", "--noreport").returncode == 0
    hot = Calibration(20.0, "5 images")
    write_calibration(run, load_network(run).step, hot, hot)
    expected = load_network(run).evaluate("test")
    for args in (("--format=onnx",), ("--format=huggingface", "--dtype=float32")):
        done = launch("export", "--run=run", *args)
        assert done.returncode == 0, done.stderr
    exported = load_network(run / "export" / "run-huggingface").figures
    card = (run / "export" / "run-huggingface" / "README.md").read_text()
    metadata = {entry.key: entry.value for entry in onnx.load(run / "export" / "run.onnx").metadata_props}
    for figures in (exported, json.loads(metadata["figures"])):
        assert (figures["temperature"], figures["ece"]) == (20.0, pytest.approx(expected["ece"]))
    assert f"| expected calibration error | {100 * expected['ece']:.2f}% |" in card


@pytest.mark.slow
def test_weights_that_are_not_averaged_have_the_figures_that_were_measured_of_them(launch, tiny_run, tiny_data, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    raw = ("--run=run", "--weights=raw")
    done = launch("export", *raw)
    assert "not measured" in done.stdout
    assert "-raw.safetensors" in done.stdout  # beside the file of the averaged weights
    assert launch("evaluate", *raw, "--noreport").returncode == 0
    done = launch("export", *raw, "--dtype=float32", f"--output={run / 'model.safetensors'}")
    assert done.returncode == 0, done.stderr
    expected = json.loads((run / "report" / "test_raw.json").read_text())["top1"]
    assert load_network(run / "model.safetensors").figures["top1"] == pytest.approx(expected)
    assert load_network(run).step == Run.open(run).step()  # and not the file in it


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (
            ["--format=onnx", "--output=x.safetensors"],
            "--output=x.safetensors: a name by which --run knows weights",
        ),
        (["--format=onnx", "--dtype=float16"], "--dtype=float16: onnx computes in float32; --dtype is for safetensors and"),
        (["--license=mit"], "--license: only --format=huggingface has a model card"),
        (["--dtype=int8"], "--dtype=int8: value should be one of <float32|bfloat16|float16>"),
        (["--output=nowhere/x.safetensors"], "--output=nowhere/x.safetensors: no such folder as nowhere"),
        (["--output=x.bin"], "--output=x.bin: expected a name that ends in .safetensors, by which --run knows such a file"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(launch, args, expected):
    done = launch("export", "--run=pretrained:fast", *args)
    assert done.returncode == 2, done.stdout
    assert done.stderr.count("\n") == 1
    assert expected in done.stderr


def test_figures_that_cannot_be_measured_again_are_a_line_with_what_to_do(launch, tmp_path):
    (tmp_path / "empty").mkdir()
    nowhere = {
        "CIFAR_FLAX_CACHE": str(tmp_path / "empty"),
        "TFDS_DATA_DIR": str(tmp_path / "empty"),
        "https_proxy": "http://127.0.0.1:9",
    }
    done = launch("export", "--run=pretrained:fast10", "--dtype=bfloat16", env=nowhere)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "its kernels would be rounded to another dtype, so that its figures are to be measured again: cifar10"
    )
    assert done.stderr.endswith("; bring the data here, or give --dtype=float32, which rounds nothing\n")
    assert not list(tmp_path.glob("*.safetensors"))

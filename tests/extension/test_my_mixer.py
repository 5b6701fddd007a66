"""Commands run from the folder of my_mixer.py treat its network, loss, augmentation and data like those of cifar_flax."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request

import jax
import numpy as np
import pytest
from PIL import Image

from cifar_flax import Run, load_network
from tests.conftest import ROOT
from tests.e2e.conftest import serving
from tests.helpers import forked
from tests.helpers.runs import records_without_times, wait_for_step

FILE = ROOT / "tests" / "extension" / "my_mixer.py"
EPOCHS, STEPS = 3, 3 * 27  # 1,350 images in batches of 50
FLOAT32 = "--config.train.dtype=float32"  # as files for other programs are
TRAIN = ["--config=my_mixer.py", f"--config.train.epochs={EPOCHS}", "--config.checkpoint.every_steps=10", FLOAT32]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with the file in it, from which commands are run; the file can be imported here too."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(FILE, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_FLAX_CACHE", str(folder / "cache"))
        patch.syspath_prepend(str(folder))
        patch.chdir(folder)
        yield folder
    sys.modules.pop("my_mixer", None)


def command(name, *args):
    return [ROOT / "launch" / f"{name}.py", *args]


def run(name, *args):
    return forked.run(command(name, *args))


def run_anew(name, *args, cwd, env=None):
    python = [sys.executable, *map(str, command(name, *args))]
    return subprocess.run(python, check=False, cwd=cwd, env=env, capture_output=True, text=True, timeout=600)


def succeed(name, *args):
    done = run(name, *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def mixer_run(project):
    """A training that nothing disturbed."""
    succeed("train", *TRAIN, "--workdir=run")
    return project / "run"


def assert_same_leaves(a, b):
    left, right = jax.tree_util.tree_leaves_with_path(a), jax.tree_util.tree_leaves_with_path(b)
    assert [path for path, _ in left] == [path for path, _ in right]
    for (path, x), (_, y) in zip(left, right, strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y), err_msg=str(path))


def test_it_trains_with_its_parts_named_by_import_path(mixer_run):
    config = json.loads((mixer_run / "config.json").read_text())
    assert config["model"]["type"] == "my_mixer:Mixer"
    assert (config["loss"], config["augment"]["custom"], config["data"]["name"]) == (
        *("my_mixer:focal_loss", ["my_mixer:fade"]),
        "my_mixer:digits",
    )
    epochs = [record for record in records_without_times(mixer_run) if record["kind"] == "epoch"]
    assert len(epochs) == EPOCHS
    assert epochs[-1]["validation_top1"] > 0.7


@pytest.mark.slow
def test_killed_at_once_it_resumes_bitwise(project, mixer_run):
    killed = project / "killed"
    process = forked.Popen(command("train", *TRAIN, f"--workdir={killed}"))
    wait_for_step(killed, STEPS // 2, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=600) == -signal.SIGKILL
    succeed("train", *TRAIN, f"--workdir={killed}")
    assert records_without_times(killed) == records_without_times(mixer_run)
    for ema in (True, False):
        assert_same_leaves(*(Run.open(folder).network("latest", ema).variables for folder in (killed, mixer_run)))


@pytest.mark.slow
def test_it_is_evaluated_and_reported(mixer_run):
    out = succeed("evaluate", "--run=run")
    assert "297 images" in out
    page = (mixer_run / "report" / "test.html").read_text()
    assert "my_mixer:Mixer" in page
    assert "mix_patches0_in" in page  # in the table of layers


@pytest.mark.slow
def test_its_network_is_loaded_and_classifies_pictures(project, mixer_run):
    network, test = load_network(mixer_run), Run.open(mixer_run).dataset("test")
    assert (network.logits(test.images).argmax(-1) == test.labels).mean() > 0.7
    Image.fromarray(test.images[0, ..., 0]).save(project / "digit.png")
    answer = json.loads(succeed("predict", "--run=run", "--json", "--top=3", "digit.png"))
    (ranked,) = network.predict([test.images[0]], top=3)
    assert [guess["class"] for guess in answer["predictions"]] == [guess.name for guess in ranked]


@pytest.mark.slow
def test_it_is_served(project, mixer_run):
    test = Run.open(mixer_run).dataset("test")
    Image.fromarray(test.images[0, ..., 0]).save(project / "served.png")
    with serving(f"--run={mixer_run}") as (_, url):
        body = (
            b'--m\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
            + (project / "served.png").read_bytes()
            + b"\r\n--m--\r\n"
        )
        headers = {"Content-Type": "multipart/form-data; boundary=m"}
        with urllib.request.urlopen(urllib.request.Request(f"{url}api/predict", body, headers), timeout=600) as response:
            assert json.load(response)["predictions"][0]["class"].startswith("digit ")


@pytest.mark.slow
def test_its_onnx_model_gives_the_same_logits(mixer_run):
    onnxruntime = pytest.importorskip("onnxruntime")
    succeed("export", "--run=run", "--format=onnx", "--output=mixer.onnx")
    images = Run.open(mixer_run).dataset("test").images[:7]
    (logits,) = onnxruntime.InferenceSession("mixer.onnx").run(None, {"images": images})
    network = load_network(mixer_run)
    np.testing.assert_allclose(logits, network.logits(images) / network.temperature, rtol=1e-3, atol=1e-3)


def test_from_another_folder_one_line_says_from_where_to_run(mixer_run, tmp_path):
    done = run_anew("evaluate", f"--run={mixer_run}", cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "my_mixer:Mixer" in line
    assert "run the command from the folder of my_mixer.py, or set PYTHONPATH to it" in line


@pytest.mark.parametrize("environment", [{}, {"PYTHONPATH": "."}])
def test_a_file_that_lies_in_the_run_is_not_executed(mixer_run, tmp_path, environment):
    stranger = tmp_path / "stranger"
    shutil.copytree(mixer_run, stranger)
    (stranger / "my_mixer.py").write_text("open('executed', 'w')\n" + FILE.read_text())
    path = os.pathsep.join(filter(None, (environment.get("PYTHONPATH"), os.environ.get("PYTHONPATH"))))
    done = run_anew("evaluate", "--run=.", cwd=stranger, env={**os.environ, "PYTHONPATH": path})
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "in which nothing is executed" in done.stderr
    assert not (stranger / "executed").exists()


@pytest.mark.slow
def test_its_fields_are_set_on_the_command_line_within_their_ranges(project):
    refused = run("train", "--config=my_mixer.py", "--config.model.depth=101")
    assert refused.stderr == "config.model.depth: should be less than or equal to 100, not 101\n"
    refused = run("train", "--config=my_mixer.py", "--config.model.depth=0")
    assert refused.stderr == "config.model.dropout: has no effect at depth 0\n"
    refused = run("train", "--config=my_mixer.py", "--config.model.wdth=8")
    assert refused.stderr == "config.model.wdth: no such field. Did you mean config.model.width?\n"

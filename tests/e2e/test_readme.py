"""What the README tells a newcomer to type, as it is written, one after another."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from cifar_flax.config import DataConfig
from cifar_flax.data.loading import load_dataset
from tests.conftest import ROOT
from tests.data.conftest import python_members, write_tar

pytestmark = pytest.mark.slow
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHORT = ["--config.train.epochs=0.02"]  # trainings take minutes; that quickstart learns is tested in test_distillation.py

FEW_FILTERS = [  # of configs/fast.py, whose network is large
    f"--config.model.stages[{i}].{field}={value}"
    for i in range(3)
    for field, value in (("features", 8), ("branch_features", (8, 8)))
]


def blocks(language):
    return "".join(text for name, text in BLOCK.findall((ROOT / "README.md").read_text()) if name == language)


def commands():
    lines = [line.partition("  #")[0].strip() for line in blocks("").splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("python ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, shapes100_cache):
    """Where a newcomer is: in the repository, with pictures of his own; shapes100, which takes a while to draw, is there."""
    root = tmp_path_factory.mktemp("readme")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_FLAX_CACHE", shapes100_cache)
        load_dataset(DataConfig(name="shapes100"), "train")
    shutil.copytree(Path(shapes100_cache) / "shapes100", root / "cache" / "shapes100")
    for name in ("cifar_flax", "configs", "launch"):
        (root / name).symlink_to(ROOT / name)
    for i in range(60):
        path = root / "pets" / ("cat", "dog", "eel")[i % 3] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (4 * i, 0, 0)).save(path)
    return root


@pytest.fixture(scope="module")
def environment(folder):
    return {**os.environ, "CIFAR_FLAX_CACHE": str(folder / "cache")}


@pytest.fixture(scope="module")
def archive(folder, cifar100_cache):
    """The real rows, as the official archive has them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_FLAX_CACHE", cifar100_cache)
        splits = {split: load_dataset(DataConfig(name="cifar100"), split).in_memory() for split in ("train", "test")}
    names = splits["train"].class_names, splits["train"].coarse_names
    return write_tar(folder / "cifar-100-python.tar.gz", python_members(splits, names=names))


def test_every_command_does_what_it_says(folder, environment, archive):
    def run(command):
        result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, (command, result.stdout[-500:], result.stderr[-2000:])
        return result.stdout

    makefile = (ROOT / "Makefile").read_text()
    train = shlex.split(re.search(r"^\t\$\(BIN\)/python (launch/train.py .*)$", makefile, re.MULTILINE)[1])
    run([sys.executable, *train, *SHORT, "--workdir=runs/quickstart"])
    typed = [command[1:] for command in commands()]
    assert len(typed) >= 8
    for command in typed:
        if command[0] == "launch/serve.py":
            continue
        short = []
        if command[0] == "launch/train.py":
            name = re.search(r"configs/(\w+)", " ".join(command))[1]
            short = [*SHORT] if "--workdir=" in " ".join(command) else [*SHORT, f"--workdir=runs/{name}"]
            short += FEW_FILTERS if name == "fast" and "runs/fast" in short[-1] else []
        run([sys.executable, *command, *short])
    assert (folder / "runs" / "quickstart" / "report" / "test.html").is_file()
    assert json.loads((folder / "runs" / "quickstart" / "report" / "test.json").read_text())["n"] == 5000
    assert (folder / "runs" / "fast" / "report" / "test_flip.json").is_file()


def test_the_demo_starts(folder, environment):
    command, _ = [command for command in commands() if "launch/serve.py" in command]
    server = subprocess.Popen(
        [sys.executable, *command[1:], "--port=0"], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        address = re.search(r"http://\S+/", server.stdout.readline())[0]
        with urllib.request.urlopen(address, timeout=600) as page:
            assert b"<html" in page.read()
    finally:
        server.terminate()
        server.wait(60)


def test_the_python_of_the_readme_runs(folder, environment):
    code = re.sub(r"^network\.predict\((.*?)\)", r"print(network.predict(\1)[0].name)", blocks("python"), flags=re.MULTILINE)
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "rocket"

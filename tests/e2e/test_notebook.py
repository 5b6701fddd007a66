"""notebooks/analysis.ipynb, from top to bottom, on two small runs."""

import base64
import dataclasses
import io
import shutil

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from cifar_flax.config import AugmentConfig
from cifar_flax.config.files import load_config
from cifar_flax.config.serialize import validated
from cifar_flax.data import cache
from cifar_flax.training.loop import train
from tests.analysis.conftest import train_tiny
from tests.conftest import ROOT, TINY_CONFIG, tiny_split

NAMES = ("$x", "a $ b $ c", *(f"line {i}" for i in range(8)))  # dollar signs begin formulas in matplotlib
PATH = ROOT / "notebooks" / "analysis.ipynb"


def execute(after_first=""):
    """Runs it, with more code after its first cell; returns what it prints, which is nothing on stderr, and its code cells."""
    notebook = nbformat.read(PATH, as_version=4)
    notebook.cells.insert(2, nbformat.v4.new_code_cell(after_first))
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(PATH.parent)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    texts = [output for cell in cells for output in cell.outputs if output.output_type == "stream"]
    assert not [output.text for output in texts if output.name == "stderr"]
    return "".join(output.text for output in texts), cells


@pytest.mark.slow
def test_it_runs_on_run_directories_alone(tiny_data, tmp_path, monkeypatch):
    config = validated(load_config(str(TINY_CONFIG)))
    train(config, tmp_path / "one")
    config.seed = 1
    train(config, tmp_path / "other")
    monkeypatch.setenv("CIFAR_FLAX_RUN", str(tmp_path / "one"))
    monkeypatch.setenv("CIFAR_FLAX_OTHER", str(tmp_path / "other"))
    said, cells = execute()
    outputs = [output for cell in cells for output in cell.outputs]
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) >= 10
    assert "10 classes, best checkpoint" in said
    assert "McNemar's test that they differ: p = " in said


@pytest.mark.slow
def test_it_runs_in_a_first_epoch_and_on_grey_pictures_with_any_class_names(tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR_FLAX_CACHE", str(tmp_path / "cache"))
    splits = [dataclasses.replace(tiny_split(rows, seed), class_names=NAMES) for rows, seed in ((320, 0), (103, 1))]
    grey = [dataclasses.replace(split, images=split.images[..., :1]) for split in splits]
    cache.write("tiny", dict(zip(("train", "test"), grey, strict=True)), "tests")
    run = train_tiny(tmp_path / "run", augment=AugmentConfig())
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines if '"kind": "step"' in line))
    monkeypatch.setenv("CIFAR_FLAX_RUN", str(run))
    said, cells = execute()
    assert "no epoch is recorded yet" in said
    grid = next(cell for cell in cells if "show_image(ax, dataset" in cell.source)
    (picture,) = [output.data["image/png"] for output in grid.outputs if "image/png" in output.get("data", {})]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB"), int)
    assert np.ptp(pixels, axis=-1).max() == 0  # no colours


@pytest.mark.slow
def test_all_of_it_is_of_one_checkpoint(tiny_data, tmp_path, monkeypatch):
    """The best of a run that goes on is replaced, and gone, before the second cell."""
    run = train_tiny(tmp_path / "run", train_epochs=2)
    monkeypatch.setenv("CIFAR_FLAX_RUN", str(run))
    monkeypatch.setenv("CIFAR_FLAX_OTHER", str(shutil.copytree(run, tmp_path / "other")))
    execute(after_first="import shutil; shutil.rmtree(run.workdir / 'checkpoints')")


def test_it_is_committed_without_outputs():
    cells = [cell for cell in nbformat.read(PATH, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    assert all(cell.execution_count is None and not cell.outputs for cell in cells)

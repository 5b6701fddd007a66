"""notebooks/analysis.ipynb, from top to bottom, on two small runs."""

import nbformat
import pytest
from nbclient import NotebookClient

from cifar_flax.cli import load_config
from cifar_flax.config_file import checked
from cifar_flax.training.loop import train
from tests.conftest import ROOT, TINY_CONFIG

PATH = ROOT / "notebooks" / "analysis.ipynb"


@pytest.mark.slow
def test_it_runs_on_run_directories_alone(tiny_data, tmp_path, monkeypatch):
    config = checked(load_config(str(TINY_CONFIG)))
    train(config, tmp_path / "one")
    config.seed = 1
    train(config, tmp_path / "other")
    monkeypatch.setenv("CIFAR_FLAX_RUN", str(tmp_path / "one"))
    monkeypatch.setenv("CIFAR_FLAX_OTHER", str(tmp_path / "other"))
    notebook = nbformat.read(PATH, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(PATH.parent)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    said = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    assert len(pictures) >= 10
    assert "10 classes, best checkpoint" in said
    assert "McNemar's test that they differ: p = " in said
    assert not [output.text for output in outputs if output.get("name") == "stderr"]


def test_it_is_committed_without_outputs():
    cells = [cell for cell in nbformat.read(PATH, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    assert all(cell.execution_count is None and not cell.outputs for cell in cells)

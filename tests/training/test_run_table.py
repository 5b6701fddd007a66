import json

import pytest

from cifar_flax.config import Config
from cifar_flax.config.serialize import write_config
from cifar_flax.export.huggingface import write_folder
from cifar_flax.files.checksum import dumps_checksummed
from cifar_flax.pretrained.weights import KernelDtype
from cifar_flax.training.run_table import describe_runs


def test_exported_folders_are_not_runs(make_network, launch, tmp_path):
    run, exported = tmp_path / "runs" / "a", tmp_path / "runs" / "a" / "export" / "a-huggingface"
    exported.mkdir(parents=True)
    write_config(Config(), run / "config.json")
    write_folder(exported, make_network(), KernelDtype.FLOAT16)
    _, row = describe_runs(tmp_path / "runs").splitlines()
    assert row.split()[:2] == ["a", "convnet"]
    assert describe_runs(exported.parent) == f"{exported.parent}: no run there"
    shown = launch("show", exported)
    assert shown.returncode == 2
    assert shown.stderr.strip() == f"{exported}: weights alone; expected the name of a config, FILE.py or a run directory"


@pytest.mark.parametrize(
    ("epochs", "recorded", "shown"), [(2.5, 2, "2/2.5"), (2.5, 3, "2.5/2.5"), (0.01, 1, "0.01/0.01"), (3, 1, "1/3")]
)
def test_a_last_epoch_that_is_cut_off_counts_as_what_it_is(tmp_path, epochs, recorded, shown):
    config = Config()
    config.train.epochs = epochs
    (tmp_path / "a").mkdir()
    write_config(config, tmp_path / "a" / "config.json")
    epochs = range(1, recorded + 1)
    records = [json.dumps({"kind": "epoch", "elapsed": 1.0, "step": 9 * epoch, "epoch": epoch}) for epoch in epochs]
    (tmp_path / "a" / "metrics.jsonl").write_text("\n".join(records) + "\n")
    _, row = describe_runs(tmp_path).splitlines()
    assert row.split()[-1] == shown


@pytest.mark.parametrize("flag", [["--config=configs/wide.py:short"], ["--config", "wide:short"]])
def test_the_config_is_named_as_the_command_named_it(tmp_path, flag):
    (tmp_path / "a").mkdir()
    write_config(Config(), tmp_path / "a" / "config.json")
    environment = {"time": "2026-01-02T03:04:05+0000", "command": ["python", "train.py", *flag, "--config.seed=1"]}
    (tmp_path / "a" / "environment.json").write_text(dumps_checksummed(environment))
    _, row = describe_runs(tmp_path).splitlines()
    assert row.split()[:3] == ["a", "2026-01-02", "wide:short"]

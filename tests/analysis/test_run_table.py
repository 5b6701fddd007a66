import json

import pytest

from cifar_flax.analysis.run_table import describe_runs
from cifar_flax.config import Config
from cifar_flax.config.serialize import write_config
from cifar_flax.export.huggingface import write_folder
from cifar_flax.files.checksum import dumps_checksummed
from cifar_flax.runtime.flag_values import KernelDtype


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


def test_a_long_name_has_its_own_line_and_no_other_is_wider_than_a_terminal(tmp_path):
    config = Config()
    config.train.epochs, config.data.name = 200, f"folder:/data/{'pets' * 20}"
    names = ("a", "wide-optim.learning_rate=0.1-optim.weight_decay=0.0005-train.batch_size=512")
    for name in names:
        (tmp_path / name / "report").mkdir(parents=True)
        write_config(config, tmp_path / name / "config.json")
        record = {"kind": "epoch", "elapsed": 1.0, "step": 9, "epoch": 1, "validation_top1": 1.0}
        (tmp_path / name / "metrics.jsonl").write_text(json.dumps(record) + "\n")
        (tmp_path / name / "report" / "test.json").write_text(dumps_checksummed({"top1": 1.0}))
        command = ["train", f"--config=configs/{'resnet' * 20}.py"]
        environment = {"time": "2026-11-28T10:00:00", "command": command}
        (tmp_path / name / "environment.json").write_text(dumps_checksummed(environment))
    lines = describe_runs(tmp_path).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line in names] == list(names)
    assert "1/200" in lines[2]
    assert "2026-11-28" in lines[2]


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


def test_a_run_that_cannot_be_read_has_a_row_that_says_so(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_config(Config(), tmp_path / name / "config.json")
    (tmp_path / "a" / "metrics.jsonl").mkdir()  # an error of the system, as for a file of somebody else
    _, first, second = describe_runs(tmp_path).splitlines()
    assert first.split() == ["a", "(unreadable)"]
    assert "convnet" in second

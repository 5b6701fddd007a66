from cifar_flax.config import Config
from cifar_flax.config.serialize import write_config
from cifar_flax.export.huggingface import write_folder
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

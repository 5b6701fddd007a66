"""`cifar-flax VERB`, `--help`, and names of configs without a file."""

import os
import re
import shutil
import subprocess
import sys
from urllib.request import urlopen

import pytest

from cifar_flax.config import Config
from cifar_flax.config.files import load_config
from cifar_flax.errors import UserError
from cifar_flax.files.checksum import read_checksummed
from cifar_flax.files.installation import CONFIGS
from cifar_flax.runtime.command_line import ORDER
from tests.conftest import ROOT
from tests.e2e.conftest import serving


def cifar_flax(*arguments, **options):
    code = "from cifar_flax.runtime.command_line import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **options)


def test_it_lists_its_verbs_and_suggests_one_for_a_typo():
    listed = cifar_flax()
    assert listed.returncode == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()[2:]] == list(ORDER)
    assert all(len(line) <= 80 and len(line.split()) > 4 for line in listed.stdout.splitlines()[2:])
    assert cifar_flax("--help").stdout == listed.stdout
    typo = cifar_flax("evalute")
    assert (typo.returncode, typo.stdout, typo.stderr) == (
        2,
        "",
        "cifar-flax evalute: no such command; did you mean evaluate?\n",
    )


@pytest.mark.parametrize("verb", ORDER)
def test_help_of_each_verb_names_its_flags_in_80_columns(verb, tmp_path):
    shown = cifar_flax(verb, "--help", cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    expected = {
        "train": ["--workdir", "--config=NAME", "--config.train.epochs", "--config.optim.learning_rate"],
        "evaluate": ["--run", "--split=train|validation|test", "--tta=none|flip|flip+shift"],
        "predict": ["--run", "--json"],
        "import": ["--name", "--archive"],
        "serve": ["--port", "--host"],
    }
    for flag in expected.get(verb, []):
        assert flag in shown.stdout
    assert "--alsologtostderr" not in shown.stdout
    assert "()" not in shown.stdout  # of a flag without a default
    assert "launch/" not in shown.stdout


def test_configs_are_listed_with_all_their_variants_and_a_sentence_each():
    lines = cifar_flax("list").stdout.splitlines()
    config, found = "", set()
    for line in lines:
        assert len(line) <= 80
        assert "..." not in line
        if line.startswith(" " * 16):  # a sentence goes on
            continue
        name, _, text = line.strip().partition(" ")
        assert len(text.split()) >= 3, line
        config = config if name.startswith(":") else name
        found.add(f"{config}{name}" if name.startswith(":") else name)
    assert {path.stem for path in CONFIGS.glob("*.py")} <= found
    assert {"fast:sprint", "three_conv:sgd_tuned", "vgg_bn:base", "wide:short"} <= found
    for name in found:
        assert isinstance(load_config(name), Config)


def test_a_config_without_its_file_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("fast:sprint").train.epochs == 4
    with pytest.raises(UserError, match=r"--config=fst: no config of this name; did you mean fast\?"):
        load_config("fst")
    with pytest.raises(
        UserError, match=r"--config=zzz: no config of this name; expected one of bigger_conv, .*, or a file NAME.py"
    ):
        load_config("zzz")


def test_fields_of_a_config_and_of_a_run(tiny_run, tmp_path):
    shown = cifar_flax("show", "fast:sprint", cwd=tmp_path).stdout.splitlines()
    assert "config.train.epochs = 4  *" in shown
    assert "config.train.eval_batch_size = 500" in shown
    assert "config.train.batch_size = 32  *" in cifar_flax("show", tiny_run).stdout.splitlines()
    assert all(len(line) <= 80 for line in shown)


def test_runs_are_listed_with_their_scores(tiny_run):
    header, row = cifar_flax("list", tiny_run.parent).stdout.splitlines()
    assert header.split() == ["run", "began", "config", "data", "epochs", "validation", "test"]
    assert row.split()[0] == tiny_run.name
    began = read_checksummed(tiny_run / "environment.json")["time"]
    assert row.split()[1:5] == [began[:10], "convnet", "tiny", "2/2"]
    assert row.rstrip().endswith("%")
    missing = cifar_flax("list", tiny_run / "nowhere")
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--learning_rate=1", "--learning_rate: no such flag. Did you mean --config.optim.learning_rate?"),
        ("--epochs=1", "--epochs: no such flag. Did you mean --config.train.epochs?"),
        ("--wrkdir=x", "--wrkdir: no such flag. Did you mean --workdir?"),
        ("--config.epochs=3", "config.epochs: no such field. Did you mean config.train.epochs?"),
        ("--layers=2", "--layers=2: expected true or false"),
        ("--max_minutes=x", "--max_minutes=x: expected a number"),
        ("--process_id=1.5", "--process_id=1.5: expected a whole number"),
    ],
)
def test_a_wrong_flag_is_a_line_that_says_what_was_meant_or_expected(flag, message, tmp_path):
    result = cifar_flax("train", "--config=quickstart", flag, cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", message + "\n")


@pytest.mark.slow
def test_an_installed_package_trains_evaluates_predicts_and_serves_from_anywhere(shapes100_cache, tmp_path):
    """Its files alone; what it depends on is here already."""
    site, checkout = tmp_path / "site", tmp_path / "checkout"
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(".*", "build", "runs"))  # setuptools leaves build/ there
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(checkout)]
    subprocess.run(install, check=True, capture_output=True)
    program, picture = (
        site / "bin" / "cifar-flax",
        site / "cifar_flax" / "serving" / "web" / "static" / "samples" / "rocket.png",
    )
    where = {**os.environ, "PYTHONPATH": str(site), "CIFAR_FLAX_CACHE": shapes100_cache}
    folder = tmp_path / "elsewhere"
    folder.mkdir()

    def run(*arguments):
        result = subprocess.run(
            [program, *map(str, arguments)], cwd=folder, env=where, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert "evaluate it: cifar-flax evaluate --run=runs/" in run("train", "--config=quickstart", "--config.train.epochs=0.05")
    (trained,) = (folder / "runs").iterdir()
    assert "top-1" in run("evaluate", f"--run={trained}", "--noreport")
    assert "rocket" in run("predict", picture)
    assert trained.name in run("list", "runs")
    with serving(f"--run={trained}", command=[program, "serve"], cwd=folder, env=where) as (_, address):
        assert urlopen(f"{address}healthz", timeout=600).status == 200
    result = subprocess.run(
        [program, "train", "--config=fast", "--config.data.name=hf:a/b"],
        cwd=folder,
        env=where,
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.search(r"type  pip install 'datasets>=\d+' 'huggingface_hub.*' 'pyarrow", result.stderr), result.stderr

import json

import pytest

from cifar_flax.config.imports import import_object, import_path, is_import_path
from cifar_flax.errors import ConfigError

CODE = "from pathlib import Path\nPath(__file__).with_name('executed').touch()\ndef part():\n    return 3\n"
RUN = json.dumps({"model": {}, "optim": {}})


pytestmark = pytest.mark.usefixtures("restored_modules")


def refusal(path):
    with pytest.raises(ConfigError) as error:
        import_object(path, "config.loss")
    assert str(error.value).startswith("config.loss: ")
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("path", ["a:b", "a.b:c", "a.b:C.d", "_a:_b"])
def test_import_paths_have_a_module_and_a_name(path):
    assert is_import_path(path)


@pytest.mark.parametrize("path", ["a", "a.b", ":b", "a:", "a:b:c", "a/b:c", "a:b()", "1:b", "a.:b", "folder:/data"])
def test_other_words_are_no_import_paths(path):
    assert not is_import_path(path)


def test_a_class_is_found_again_by_its_import_path():
    assert import_object(import_path(ConfigError), "config.loss") is ConfigError


def test_modules_are_found_in_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "mine_in_cwd.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    assert import_object("mine_in_cwd:part", "config.loss")() == 3


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("part", "'part' is no import path; expected MODULE:NAME"),
        ("nowhere_at_all:part", "run the command from the folder of nowhere_at_all.py, or set PYTHONPATH to it"),
        ("json:part", "the module json has no part"),
        ("json.nowhere:part", "cannot be imported: No module named 'json.nowhere'"),
    ],
)
def test_what_cannot_be_imported_costs_a_line(path, message):
    assert message in refusal(path)


def test_a_module_that_raises_is_named_with_its_error(tmp_path, monkeypatch):
    (tmp_path / "faulty_module.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    assert "faulty_module:part cannot be imported: ZeroDivisionError" in refusal("faulty_module:part")


def module(folder):
    (folder / "of_a_run.py").write_text(CODE)
    return "of_a_run:part"


def package(folder):
    (folder / "of_a_run").mkdir()
    (folder / "of_a_run" / "__init__.py").write_text(CODE)
    return "of_a_run:part"


def namespace_package(folder):
    (folder / "of_a_run").mkdir()
    (folder / "of_a_run" / "inner.py").write_text(CODE)
    return "of_a_run.inner:part"


def link(folder):
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "target.py").write_text(CODE)
    (folder / "of_a_run.py").symlink_to(elsewhere / "target.py")
    return "of_a_run:part"


@pytest.mark.parametrize("kind", [module, package, namespace_package, link])
@pytest.mark.parametrize("from_pythonpath", [False, True])
def test_nothing_in_a_run_directory_is_executed(tmp_path, monkeypatch, kind, from_pythonpath):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text(RUN)
    path = kind(folder)
    monkeypatch.syspath_prepend(str(folder)) if from_pythonpath else monkeypatch.chdir(folder)
    assert f"{path} would come from the run directory {folder}" in refusal(path)
    assert not list(tmp_path.rglob("executed"))


def test_a_folder_in_a_run_is_part_of_the_run(tmp_path, monkeypatch):
    folder = tmp_path / "run" / "report"
    folder.mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text(RUN)
    path = module(folder)
    monkeypatch.syspath_prepend(str(folder))
    assert "in which nothing is executed" in refusal(path)


def test_a_run_is_no_package_of_the_folder_that_holds_it(tmp_path, monkeypatch):
    (tmp_path / "my_run").mkdir()
    (tmp_path / "my_run" / "config.json").write_text(RUN)
    module(tmp_path / "my_run")
    monkeypatch.chdir(tmp_path)
    assert "in which nothing is executed" in refusal("my_run.of_a_run:part")


@pytest.mark.parametrize("content", ["{", "\x00"])
def test_a_run_with_a_damaged_config_is_a_run_all_the_same(tmp_path, monkeypatch, content):
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "dataset.json").touch()
    path = module(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert "in which nothing is executed" in refusal(path)


def test_another_projects_config_json_makes_no_run(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"compilerOptions": {}}')
    path = module(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert import_object(path, "config.loss")() == 3

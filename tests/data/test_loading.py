import logging
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cifar_flax.config import DataConfig
from cifar_flax.data import cache
from cifar_flax.data.loading import load_dataset
from cifar_flax.data.shapes100 import render
from cifar_flax.data.shapes100.source import DRAWING_CODE
from cifar_flax.data.sources import tfds
from cifar_flax.errors import UserError
from tests.data.conftest import data_hashes


@pytest.fixture
def drawings(monkeypatch, tiny):
    """Replaces the drawing of shapes100 by something quicker, and counts how often it is drawn."""
    drawn = []

    def generate(split, seed=0):
        drawn.append(split)
        return tiny[split]

    monkeypatch.setattr(render, "generate", generate)
    return drawn


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr(tfds, "reachable", lambda hosts: set())


def damage(folder, pattern):
    (path,) = folder.glob(pattern)
    os.truncate(path, path.stat().st_size - 1)
    return path


def test_shapes100_is_drawn_once(drawings, tiny):
    for split in ("train", "test", "train"):
        data = load_dataset(DataConfig(), split)
        np.testing.assert_array_equal(data.images, tiny[split].images)
    assert sorted(drawn for drawn in drawings) == ["test", "train"]
    hashes = data_hashes(DataConfig(), "train")
    assert set(hashes) == {"images", "labels", "coarse_labels"}
    assert hashes == cache.manifest("shapes100").hashes("train")


def test_shapes100_is_drawn_again_when_its_code_has_changed(drawings, tiny):
    cache.write("shapes100", {"train": tiny["test"]}, "drawn by an earlier version")
    assert len(load_dataset(DataConfig(), "train")) == len(tiny["train"])
    assert len(drawings) == 2


def test_every_module_that_draws_shapes100_is_in_its_version():
    script = "import sys, cifar_flax.data.shapes100.render\n"
    script += "print(*(m for m in sys.modules if m.startswith('cifar_flax.data.shapes')))"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    names = {f"{module.rpartition('.')[2]}.py" for module in modules}
    assert names - {"shapes100.py"} == set(DRAWING_CODE)


def test_shapes100_has_one_size(drawings):
    with pytest.raises(UserError, match=r"config\.data\.image_size: shapes100 is drawn with 32"):
        load_dataset(DataConfig(image_size=64), "train")
    assert len(load_dataset(DataConfig(image_size=32), "train")) == 60


def test_imported_sets_are_found_by_name_and_size(tiny):
    cache.write("mine", tiny, "a test")
    cache.write("mine-16", {"train": tiny["test"]}, "a test")
    assert len(load_dataset(DataConfig(name="mine"), "train")) == 60
    assert len(load_dataset(DataConfig(name="mine", image_size=16), "train")) == 30


def test_an_imported_set_that_is_not_there_at_a_size_is_to_be_imported_at_it(tiny, monkeypatch):
    monkeypatch.setattr(tfds, "find_spec", lambda name: None)
    cache.write("mine", tiny, "a test")
    with pytest.raises(UserError) as error:
        load_dataset(DataConfig(name="mine", image_size=16), "train")
    again = "launch/import_data.py --name=mine --archive=PATH --image_size=16"
    assert str(error.value).startswith("mine was imported with 32 x 32 pixels; import it at this size too:  ")
    assert str(error.value).endswith(again)
    with pytest.raises(
        UserError, match=r"^mine was imported with 32 x 32 pixels, its own; leave out  --config\.data\.image_size=32$"
    ):
        load_dataset(DataConfig(name="mine", image_size=32), "train")


def test_a_set_that_was_imported_at_a_size_alone_is_found_with_that_size(tiny, monkeypatch):
    monkeypatch.setattr(tfds, "find_spec", lambda name: None)
    cache.write("mine-16", tiny, "a test", "mine")
    cache.write("mine-other", tiny, "a test")
    with pytest.raises(UserError, match=r"^mine was imported with 32 x 32 pixels; .* --config\.data\.image_size=16$"):
        load_dataset(DataConfig(name="mine"), "train")
    with pytest.raises(UserError, match="Any one of these helps"):
        load_dataset(DataConfig(name="mine_1"), "train")


def test_a_set_that_tfds_gave_is_not_taken_for_an_import(tiny, monkeypatch):
    monkeypatch.setattr(tfds, "find_spec", lambda name: None)
    cache.write("cifar100", tiny, f"{tfds.ORIGIN}, cifar100/3.0.2")
    with pytest.raises(UserError, match="Any one of these helps"):
        load_dataset(DataConfig(name="cifar100", image_size=16), "train")


def test_a_missing_split_is_named_with_those_there_are(tiny):
    cache.write("mine", {"train": tiny["train"]}, "a test")
    with pytest.raises(UserError, match=r"^mine has no test split, only train$"):
        load_dataset(DataConfig(name="mine"), "test")


def test_damaged_entry_is_moved_aside_and_rebuilt(drawings, tiny, cache_folder, caplog):
    load_dataset(DataConfig(), "train")
    path = damage(cache_folder / "shapes100", "train_images-*")
    with caplog.at_level(logging.WARNING, "absl"):
        data = load_dataset(DataConfig(), "train")
    np.testing.assert_array_equal(data.images, tiny["train"].images)
    (line,) = caplog.messages
    assert str(path) in line
    assert "rebuilding it" in line
    (aside,) = cache_folder.glob("shapes100.damaged-*")
    assert (aside / path.name).exists()


def test_an_entry_that_another_process_was_quicker_to_move_aside_is_rebuilt(drawings, cache_folder, monkeypatch, caplog):
    load_dataset(DataConfig(), "train")
    damage(cache_folder / "shapes100", "train_images-*")
    monkeypatch.setattr(cache, "quarantine", lambda key: shutil.rmtree(cache_folder / key))
    with caplog.at_level(logging.WARNING, "absl"):
        load_dataset(DataConfig(), "train")
    (line,) = caplog.messages
    assert line.endswith("; another process has moved it aside, rebuilding it")


def test_training_does_not_notice_a_damaged_test_split(drawings, cache_folder):
    load_dataset(DataConfig(), "train")
    damage(cache_folder / "shapes100", "test_images-*")
    load_dataset(DataConfig(), "train")
    assert len(drawings) == 2


def test_damaged_entry_that_cannot_be_rebuilt_is_named_with_what_helps(tiny, cache_folder, no_network):
    cache.write("cifar100", tiny, "a test")
    path = damage(cache_folder / "cifar100", "train_labels-*")
    with pytest.raises(UserError) as error:
        load_dataset(DataConfig(name="cifar100"), "train")
    assert str(path) in str(error.value)
    assert "import_data.py --name=cifar100" in str(error.value)
    assert list(cache_folder.glob("cifar100.damaged-*"))


def test_missing_set_without_network_names_the_three_ways(no_network):
    with pytest.raises(UserError) as error:
        load_dataset(DataConfig(name="cifar100"), "train")
    first, *ways = str(error.value).splitlines()
    assert first.startswith("cifar100 is not here, and none of www.cs.toronto.edu, storage.googleapis.com can be reached.")
    assert len(ways) == 3
    assert "python launch/import_data.py --name=cifar100 --archive=cifar-100-python.tar.gz" in ways[1]
    assert "TFDS_DATA_DIR" in ways[0]
    assert "--config=configs/quickstart.py" in ways[2]
    with pytest.raises(UserError, match=r"--name=mnist --archive=FILE\.npz --image_size=28"):
        load_dataset(DataConfig(name="mnist", image_size=28), "train")


def test_missing_set_without_tensorflow_names_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(tfds, "find_spec", lambda name: None)
    with pytest.raises(UserError) as error:
        load_dataset(DataConfig(name="cifar100"), "train")
    for way in (
        "pip install -c constraints.txt -e '.[tfds]'",
        "launch/import_data.py --name=cifar100",
        "--config=configs/quickstart.py",
    ):
        assert way in str(error.value)


def test_missing_set_without_network_is_reported():
    """Every connection is refused: the proxy is a port that nobody listens on."""
    script = (
        "import sys\n"
        "from cifar_flax.config import DataConfig\n"
        "from cifar_flax.data.loading import load_dataset\n"
        "from cifar_flax.errors import UserError\n"
        "try:\n"
        "    load_dataset(DataConfig(name='cifar10'), 'train')\n"
        "except UserError as e:\n"
        "    sys.exit(f'{e}')\n"
    )
    environment = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    environment |= {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert run.stderr.startswith("cifar10 is not here, and none of")
    assert run.stderr.count("\n  - ") == 3


def test_folder_is_read_again_when_it_changes(tmp_path, monkeypatch):
    for split, count in (("train", 3), ("test", 1)):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (40, 50), (i, 0, 0)).save(tmp_path / "pets" / split / name / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    config = DataConfig(name="folder:pets")
    assert load_dataset(config, "train").images.shape == (6, 32, 32, 3)
    before = data_hashes(config, "train")
    assert load_dataset(DataConfig(name=f"folder:{tmp_path}/pets", image_size=32), "test").images.shape == (2, 32, 32, 3)
    assert load_dataset(DataConfig(name="folder:pets", image_size=8), "train").images.shape == (6, 8, 8, 3)
    Image.new("RGB", (40, 50), (9, 9, 9)).save(tmp_path / "pets" / "train" / "dog" / "3.png")
    assert len(load_dataset(config, "train")) == 7
    assert data_hashes(config, "train") != before
    with pytest.raises(UserError, match="no such folder"):
        load_dataset(DataConfig(name="folder:nowhere"), "train")

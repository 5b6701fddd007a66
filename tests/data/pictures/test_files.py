"""Which files of a folder are pictures."""

import pytest

from cifar_flax.data.pictures.files import pictures_in
from cifar_flax.data.pictures.read import as_pictures
from cifar_flax.data.sources import archives
from cifar_flax.errors import UserError
from tests.helpers.picture_folders import refuse_to_list, save


def names(folder):
    return [str(path.relative_to(folder)) for path in pictures_in(folder)]


def test_pictures_behind_links_to_folders_are_listed(tmp_path):
    save(tmp_path / "elsewhere" / "deep" / "1.png")
    save(tmp_path / "pets" / "2.png")
    (tmp_path / "pets" / "images").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pets" / "3.png").symlink_to(tmp_path / "pets" / "2.png")
    assert names(tmp_path / "pets") == ["2.png", "3.png", "images/deep/1.png"]


@pytest.mark.parametrize("target", [".", "..", "../b", "a"])
def test_links_in_a_circle_come_to_an_end(tmp_path, target):
    save(tmp_path / "a" / "1.png")
    save(tmp_path / "b" / "2.png")
    (tmp_path / "a" / "link").symlink_to(target)
    (tmp_path / "b" / "back").symlink_to("../a")
    assert names(tmp_path) == ["a/1.png", "b/2.png"]


def test_a_folder_that_several_links_lead_to_is_listed_once_by_its_own_path(tmp_path):
    save(tmp_path / "z" / "1.png")
    for name in ("a", "b", "y/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(tmp_path / "z")
    assert names(tmp_path) == ["z/1.png"]


def test_hidden_files_and_folders_and_those_of_operating_systems_hold_no_pictures(tmp_path):
    for name in (
        "1.png",
        ".2.png",
        ".git/3.png",
        "a/.b/4.png",
        "a/5.PNG",
        "a/6.txt.bak",
        "a/@eaDir/5.PNG/7.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert names(tmp_path) == ["1.png", "a/5.PNG"]


@pytest.mark.parametrize("read", [pictures_in, as_pictures, lambda folder: archives.read(folder, "pets")])
def test_a_folder_that_cannot_be_listed_is_no_empty_one(tmp_path, monkeypatch, read):
    save(tmp_path / "train" / "a" / "1.png")
    save(tmp_path / "train" / "b" / "2.png")
    refuse_to_list(monkeypatch, tmp_path / "train" / "b")
    with pytest.raises(UserError, match=r"train/b: cannot be listed \(Permission denied\); make it readable, or remove it$"):
        read(tmp_path)
    unlisted = {}
    assert pictures_in(tmp_path, unlisted) == [tmp_path / "train" / "a" / "1.png"]
    assert unlisted == {tmp_path / "train" / "b": "Permission denied"}

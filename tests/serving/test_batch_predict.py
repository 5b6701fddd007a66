import os
import threading
import time

import numpy as np
import pytest
from PIL import Image

from cifar_flax.data.pictures.files import SUFFIXES
from cifar_flax.errors import CifarFlaxError
from cifar_flax.serving import batch_predict
from cifar_flax.serving.errors import FetchFailed
from tests.helpers.picture_folders import refuse_to_list


def save(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(path)
    return str(path)


def test_a_folder_stands_for_the_pictures_below_it(tmp_path):
    expected = [save(tmp_path / name) for name in ("a.png", "b.JPG", "sub/c.webp")]
    for name in (".hidden.png", ".hidden/d.png", "sub/.e.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not asked for")
    (tmp_path / "empty").mkdir()
    address = "https://example.org/x.png"
    names = batch_predict.expand([address, str(tmp_path), "nowhere.png", str(tmp_path / "empty"), expected[0]])
    assert names == [address, *expected, "nowhere.png", str(tmp_path / "empty"), expected[0]]


def assert_alike(actual, expected):
    """The same predictions, but for rounding."""
    assert [(p.name, p.superclass) for p in actual] == [(p.name, p.superclass) for p in expected]
    assert [p.probability for p in actual] == pytest.approx([p.probability for p in expected], rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_every_name_gets_its_own_answer_in_order(make_network, tmp_path, batch_size):
    network = make_network()
    network.picture_batch = batch_size
    names = [save(tmp_path / f"{k:03}.png", k) for k in range(2 * batch_predict.READ_AHEAD + 5)]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    names[70:70] = [str(broken), str(tmp_path / "none.png"), str(tmp_path)]
    answers = list(batch_predict.classify_all(network, names, top=2))
    assert [name for name, _ in answers] == names
    for name, answer in answers[:70] + answers[73:]:
        assert_alike(answer, network.predict(name, top=2))
    assert all(isinstance(answer, CifarFlaxError) for _, answer in answers[70:73])
    assert [str(answer) for _, answer in answers[71:73]] == [
        "No such file or directory",
        f"no pictures in this folder (looked for *{', *'.join(SUFFIXES)})",
    ]


def test_a_probability_is_the_same_to_the_bit_whatever_was_read_first(network, tmp_path, monkeypatch):
    names = [save(tmp_path / f"{k:02}.png", k) for k in range(40)]
    read, expected = batch_predict.read_bytes, list(batch_predict.classify_all(network, names))

    def slowly(path):
        time.sleep(0.02 * (int(path.stem) % 3))
        return read(path)

    monkeypatch.setattr(batch_predict, "read_bytes", slowly)
    assert list(batch_predict.classify_all(network, names)) == expected


def test_links_pipes_and_huge_files_are_skipped_without_being_read(network, tmp_path):
    good = save(tmp_path / "good.png")
    (tmp_path / "link.png").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.png")
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(40 << 30)
    answers = dict(batch_predict.classify_all(network, batch_predict.expand([str(tmp_path)])))
    assert not isinstance(answers.pop(good), CifarFlaxError)
    assert {name[len(str(tmp_path)) + 1 :]: str(answer) for name, answer in answers.items()} == {
        "link.png": "Not a regular file.",
        "pipe.png": "Not a regular file.",
        "sparse.png": "The file is larger than 200 MB.",
    }


def test_a_folder_that_cannot_be_listed_is_skipped_by_its_name(network, tmp_path, monkeypatch):
    good = save(tmp_path / "a" / "good.png")
    save(tmp_path / "b" / "hidden.png")
    refuse_to_list(monkeypatch, tmp_path / "b")
    names = batch_predict.expand([str(tmp_path), str(tmp_path / "b")])
    assert names == [good, str(tmp_path / "b"), str(tmp_path / "b")]
    assert str(dict(batch_predict.classify_all(network, names))[str(tmp_path / "b")]) == "cannot be listed (Permission denied)"


def test_an_answer_does_not_wait_for_the_rest(network, tmp_path, monkeypatch):
    proceed, picture = threading.Event(), save(tmp_path / "a.png")
    monkeypatch.setattr(batch_predict, "fetch", lambda *_, **__: proceed.wait(30) and (tmp_path / "a.png").read_bytes())
    answers = batch_predict.classify_all(network, [picture, "http://slow.example"])
    assert next(answers)[0] == picture
    assert not proceed.is_set()
    proceed.set()
    assert next(answers)[0] == "http://slow.example"


def test_addresses_are_fetched(network, tmp_path, monkeypatch):
    picture = save(tmp_path / "a.png")

    def fetch(url, allow_private):
        assert allow_private
        if url.endswith("gone"):
            raise FetchFailed("It is gone.", "no_answer", 424)
        return (tmp_path / "a.png").read_bytes()

    monkeypatch.setattr(batch_predict, "fetch", fetch)
    names = ["http://here.example/a", "http://here.example/gone"]
    (_, predictions), (_, failed) = batch_predict.classify_all(network, names, allow_private=True)
    assert predictions == network.predict(picture)
    assert str(failed) == "It is gone."


def test_nothing_but_unreadable_files_is_no_crash(network, tmp_path):
    assert isinstance(dict(batch_predict.classify_all(network, [str(tmp_path / "none.png")])).popitem()[1], CifarFlaxError)
    assert list(batch_predict.classify_all(network, [])) == []


def test_what_no_file_can_be_called_is_a_name_like_any(tmp_path):
    long = "data:image/png;base64," + "A" * 300  # as it is copied from a page
    assert batch_predict.expand([long, str(tmp_path / "a.png"), "a\0b"]) == [long, str(tmp_path / "a.png"), "a\0b"]

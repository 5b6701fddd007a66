"""Folders with files that no camera would write: each is read as a picture or refused in a line, and nothing is run."""

import io
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cifar_flax.data.pictures.isolated import IsolatedDecoder
from cifar_flax.data.sources import archives
from cifar_flax.errors import UserError
from tests.data.conftest import nothing_else, refused


def saved(kind):
    out = io.BytesIO()
    Image.new("RGB", (16, 16), "teal").save(out, kind)
    return out.getvalue()


PICTURES = {
    kind: saved(kind) for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "EPS", "PDF", "ICO", "SGI", "PCX")
}


@settings(max_examples=2 * settings.default.max_examples)
@given(st.sampled_from(list(PICTURES)), st.sampled_from([".png", ".jpg", ".tif", ".ppm"]), st.data())
def test_any_picture_in_a_folder(tmp_path_factory, kind, suffix, data):
    root = tmp_path_factory.getbasetemp() / "pictures"
    (root / "train" / "a").mkdir(parents=True, exist_ok=True)
    damaged = bytearray(PICTURES[kind])
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(damaged) - 1), st.integers(0, 255)), max_size=6)):
        damaged[at] = value
    path = root / "train" / "a" / f"a{suffix}"
    path.write_bytes(damaged[: data.draw(st.none() | st.integers(0, len(damaged)))])
    try:
        with nothing_else(root):
            message = ""
            try:
                assert archives.read(root, "a").splits["train"].images.shape == (1, 32, 32, 3)
            except UserError as error:
                message = str(error)
    finally:
        path.unlink()
    assert len(message.splitlines()) <= 1


@pytest.mark.parametrize(("kind", "at", "value"), [("PPM", 3, 70), ("BMP", 25, 255), ("PNG", 36, 0)])
def test_a_picture_over_which_a_decoder_stumbles_in_a_way_of_its_own_is_refused(tmp_path, kind, at, value):
    """With ValueError, DecompressionBombError and SyntaxError."""
    (tmp_path / "train" / "a").mkdir(parents=True)
    damaged = bytearray(PICTURES[kind])
    damaged[at] = value
    (tmp_path / "train" / "a" / "a.png").write_bytes(damaged)
    refused(tmp_path, "cannot be read: The picture ")


def test_files_that_are_no_files_do_not_keep_a_folder_from_being_read(tmp_path):
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train" / "a" / "a.png").write_bytes(PICTURES["PNG"])
    os.mkfifo(tmp_path / "train" / "a" / "fifo.png")  # which would wait for somebody to write
    (tmp_path / "train" / "a" / "loop.png").symlink_to("loop.png")
    (tmp_path / "train" / "a" / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "train" / "a" / "folder.png").mkdir()
    assert len(archives.read(tmp_path, "a").splits["train"]) == 1


def test_postscript_that_is_called_a_picture_is_not_run(tmp_path, monkeypatch):
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train" / "a" / "a.png").write_bytes(PICTURES["EPS"])
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with IsolatedDecoder(1) as decoder:
        monkeypatch.setattr("cifar_flax.data.sources.folders.shared_decoder", lambda: decoder)
        refused(tmp_path, "not a picture")
    assert not (tmp_path / "ran").exists()

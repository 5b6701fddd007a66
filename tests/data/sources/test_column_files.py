"""Parquet and Arrow files are read part by part, and only what is asked for."""

import os

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from cifar_flax.data.sources import archives
from cifar_flax.data.sources.column_files import ColumnFile
from cifar_flax.errors import UserError
from tests.helpers.hub_files import png

PICTURE = png(np.full((8, 8, 3), 7, np.uint8))["bytes"]


@pytest.fixture
def pool():
    """What pyarrow allocates during the test."""
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    yield pool
    pa.set_memory_pool(before)


def test_files_of_a_split_are_not_in_memory_at_once(tmp_path, pool):
    for i in range(8):
        pictures = [PICTURE + os.urandom(1 << 17) for _ in range(8)]  # a decoder stops where the picture does
        parquet.write_table(pa.table({"img": pictures, "label": [0, 1] * 4}), tmp_path / f"train-{i:05}-of-00008.parquet")
    train = archives.read(tmp_path, "mine").splits["train"]
    assert (len(train), np.unique(train.images).tolist()) == (64, [7])
    assert pool.max_memory() < 4 << 20  # a file has 1 MB


def test_a_column_that_is_not_read_does_not_count(tmp_path, monkeypatch):
    table = {"img": [PICTURE] * 2, "label": [0, 1], "original": [os.urandom(1 << 20)] * 2}
    parquet.write_table(pa.table(table), tmp_path / "train.parquet")
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 1 << 20}[name])
    assert len(archives.read(tmp_path, "mine").splits["train"]) == 2


def test_images_of_all_splits_count_together(tmp_path, monkeypatch):
    for split in ("train", "validation", "test"):
        parquet.write_table(pa.table({"img": [PICTURE] * 4, "label": [0, 1, 0, 1]}), tmp_path / f"{split}.parquet")
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 1 << 16}[name])
    with pytest.raises(UserError, match=r"unpacks to 36,864 bytes, more than the 32,768 that are allowed"):
        archives.read(tmp_path, "mine")


@pytest.mark.parametrize("kind", ["parquet", "stream.arrow", "file.arrow"])
def test_values_of_a_column_are_in_the_order_of_the_rows(tmp_path, kind):
    path, table = tmp_path / f"train.{kind}", pa.table({"label": list(range(1000)), "img": [b"x"] * 1000})
    if kind == "parquet":
        parquet.write_table(table, path, row_group_size=300)
    else:
        with (ipc.new_stream if kind == "stream.arrow" else ipc.new_file)(path, table.schema) as writer:
            writer.write_table(table, 300)
    file = ColumnFile(path)
    assert file.columns == ["label", "img"]
    assert list(file.values("label")) == list(range(1000))


def test_a_file_that_is_damaged_further_down_is_one_line(tmp_path):
    path = tmp_path / "train.parquet"
    parquet.write_table(pa.table({"img": [os.urandom(1 << 12)] * 64, "label": list(range(64))}), path, use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[4:2000] = bytes(1996)
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^{path}: damaged, or no Parquet file \(.*\)$"):
        archives.read(tmp_path, "mine")


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array([PICTURE]), pa.array([0]), pa.array([1])], ["img", "label", "label"])
    parquet.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(UserError, match=r"train.parquet: has the columns img, label, label; expected label among them"):
        archives.read(tmp_path, "mine")

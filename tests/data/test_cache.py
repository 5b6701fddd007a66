import dataclasses
import errno
import multiprocessing
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from cifar_flax.data import cache
from cifar_flax.errors import UserError
from cifar_flax.files.checksum import dumps_checksummed, read_checksummed


def same(a, b):
    return (
        np.array_equal(a.images, b.images)
        and np.array_equal(a.labels, b.labels)
        and np.array_equal(a.coarse_labels, b.coarse_labels)
        and (a.class_names, a.coarse_names) == (b.class_names, b.coarse_names)
    )


def file_of(folder, pattern):
    (path,) = folder.glob(pattern)
    return path


def test_what_is_read_is_what_was_written(tiny):
    assert cache.read("tiny", "train") is None
    cache.write("tiny", tiny, "a test")
    for split, data in tiny.items():
        read = cache.read("tiny", split)
        assert same(read, data)
        assert isinstance(read.images, np.memmap)
        assert not read.images.flags.writeable
    assert cache.read("tiny", "validation") is None


def test_hashes_name_the_content_and_nothing_else(tiny):
    cache.write("a", tiny, "here")
    cache.write("b", tiny, "there")
    assert cache.manifest("a").hashes("train") == cache.manifest("b").hashes("train")
    changed = tiny["train"].images.copy()
    changed[0, 0, 0, 0] ^= 1
    cache.write("b", {**tiny, "train": dataclasses.replace(tiny["train"], images=changed)}, "there")
    a, b = cache.manifest("a").hashes("train"), cache.manifest("b").hashes("train")
    assert a["images"] != b["images"]
    assert a["labels"] == b["labels"]
    assert cache.manifest("nothing") is None


def test_only_the_files_of_the_split_are_opened(tiny, cache_folder):
    cache.write("tiny", tiny, "a test")
    for path in (cache_folder / "tiny").glob("test_*"):
        path.unlink()
    assert same(cache.read("tiny", "train"), tiny["train"])


def truncate(path):
    os.truncate(path, path.stat().st_size - 1)


def flip(path):
    content = bytearray(path.read_bytes())
    content[-7] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(truncate, "bytes, expected"), (flip, "SHA-256"), (os.unlink, "missing")],
    ids=["cut", "flip", "gone"],
)
@pytest.mark.parametrize("array", ["images", "labels", "coarse_labels"])
def test_damaged_file_is_named(tiny, cache_folder, damage, reason, array):
    cache.write("tiny", tiny, "a test")
    path = file_of(cache_folder / "tiny", f"train_{array}-*.npy")
    damage(path)
    with pytest.raises(cache.CorruptCache, match=reason) as error:
        cache.read("tiny", "train")
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    cache.write("tiny", tiny, "a test")
    assert same(cache.read("tiny", "train"), tiny["train"])


def test_what_may_pass_is_no_damage(tiny, cache_folder, monkeypatch):
    cache.write("tiny", tiny, "a test")

    def no_memory(*_, **__):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with monkeypatch.context() as patch:
        patch.setattr(np, "load", no_memory)
        with pytest.raises(UserError, match=r"images-.*\.npy: cannot be read now \(Cannot allocate memory\)") as error:
            cache.read("tiny", "train")
    assert not isinstance(error.value, cache.CorruptCache)
    assert same(cache.read("tiny", "train"), tiny["train"])


def test_a_file_that_others_may_have_mapped_is_not_replaced_by_its_like(tiny, cache_folder):
    cache.write("tiny", tiny, "a test")
    path = file_of(cache_folder / "tiny", "train_images-*.npy")
    before = path.stat().st_ino
    cache.write("tiny", tiny, "again")
    assert path.stat().st_ino == before
    flip(path)
    cache.write("tiny", tiny, "and again")
    assert same(cache.read("tiny", "train"), tiny["train"])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": 1}', "\x00\xff"])
def test_broken_manifest(tiny, cache_folder, text):
    cache.write("tiny", tiny, "a test")
    (cache_folder / "tiny" / "manifest.json").write_text(text)
    with pytest.raises(cache.CorruptCache, match=r"manifest\.json: damaged"):
        cache.read("tiny", "train")


def test_manifest_cannot_point_outside_its_entry_or_to_another_format(tiny, cache_folder):
    cache.write("tiny", tiny, "a test")
    path = cache_folder / "tiny" / "manifest.json"
    manifest = read_checksummed(path)
    manifest["splits"]["train"]["images"]["file"] = "../../secret.npy"
    path.write_text(dumps_checksummed(manifest))
    with pytest.raises(cache.CorruptCache, match=r"damaged \(String should match pattern"):
        cache.read("tiny", "train")
    path.write_text(dumps_checksummed({**manifest, "splits": {}, "format": 99}))
    with pytest.raises(cache.CorruptCache, match="format 99"):
        cache.read("tiny", "train")


def test_entry_names_are_safe_and_distinct():
    names = [
        "cifar100",
        "a/b",
        "a_b",
        "a/b/",
        "folder:/x/y z",
        "folder:/x/y_z",
        "..",
        "../x",
        ".hidden",
        "ä",
        "pets-64",
        "x" * 300,
    ]
    keys = [cache.key_of(name) for name in names]
    assert keys[0] == "cifar100"
    assert cache.key_of("cifar100", 64) == "cifar100-64"
    assert len({*keys, cache.key_of("pets", 64)}) == len(names) + 1
    assert all("/" not in key and not key.startswith(".") and len(key) < 100 for key in keys)


def test_unwritable_cache_is_one_line_that_says_what_to_do(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CIFAR_FLAX_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="CIFAR_FLAX_CACHE") as error:
        cache.write("tiny", tiny, "a test")
    assert "\n" not in str(error.value)


def test_full_disk_leaves_the_old_entry(tiny, monkeypatch, cache_folder):
    cache.write("tiny", tiny, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"No space left on device.*CIFAR_FLAX_CACHE"):
        cache.write("tiny", {"train": tiny["test"]}, "new")
    assert same(cache.read("tiny", "train"), tiny["train"])
    assert not list((cache_folder / "tiny").glob(".new-*"))


def test_orphans_of_a_killed_writer_are_harmless_and_removed_later(tiny, cache_folder):
    script = (
        "import os, sys, numpy as np\n"
        "from cifar_flax.data import cache, dataset\n"
        "data = dataset.Dataset(np.full((9, 4, 4, 3), int(sys.argv[1]), np.uint8), np.zeros(9, np.int32), ('a',))\n"
        "replace, moves = os.replace, []\n"
        "def killed(*paths):\n"
        "    moves.append(paths)\n"
        "    os.kill(os.getpid(), 9) if len(moves) > int(sys.argv[1]) else replace(*paths)\n"
        "os.replace = killed\n"
        "cache.write('tiny', {'train': data}, 'killed')\n"
    )
    for moves in ("0", "1", "2"):
        assert subprocess.run([sys.executable, "-c", script, moves], check=False).returncode == -9
        assert cache.read("tiny", "train") is None
    leftovers = list((cache_folder / "tiny").iterdir())
    assert leftovers
    cache.write("tiny", tiny, "a test")
    assert all(path.exists() for path in leftovers)  # another writer may still work on them
    long_ago = time.time() - 2 * cache.ORPHAN_AGE
    for path in leftovers:
        os.utime(path, (long_ago, long_ago))
    cache.write("tiny", tiny, "a test")
    assert not any(path.exists() for path in leftovers)
    assert same(cache.read("tiny", "train"), tiny["train"])


def test_a_folder_of_somebody_else_in_an_entry_is_left_alone(tiny, cache_folder):
    stray = cache_folder / "tiny" / "notes"
    stray.mkdir(parents=True)
    os.utime(stray, (0, 0))
    cache.write("tiny", tiny, "a test")
    assert stray.is_dir()


def test_an_entry_that_is_damaged_twice_in_a_second_is_moved_aside_twice(tiny):
    aside = set()
    for _ in range(2):
        cache.write("tiny", tiny, "a test")
        aside.add(cache.quarantine("tiny"))
    assert len(aside) == 2
    assert all(path.is_dir() for path in aside)


def _write_many(tiny, times):
    for _ in range(times):
        cache.write("tiny", tiny, "a test")


def test_two_processes_may_write_while_others_read(tiny):
    other = {split: dataclasses.replace(data, images=255 - data.images) for split, data in tiny.items()}
    cache.write("tiny", tiny, "a test")
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(data, 20)) for data in (tiny, other)]
    for writer in writers:
        writer.start()
    reads = 0
    while any(writer.is_alive() for writer in writers):
        read = cache.read("tiny", "train")
        assert same(read, tiny["train"]) or same(read, other["train"])
        reads += 1
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert reads > 1


@pytest.mark.parametrize(
    "change",
    [
        {"images": np.zeros((60, 32, 32, 3), np.float32)},
        {"images": np.zeros((60, 32, 32), np.uint8)},
        {"labels": np.zeros(59, np.int32)},
        {"labels": np.full(60, 100, np.int32)},
        {"labels": np.zeros(60, np.int64)},
        {"coarse_labels": np.full(60, -1, np.int32)},
        {"class_names": ("other",) * 100},
    ],
)
def test_invalid_arrays_are_not_written(tiny, change):
    with pytest.raises(ValueError, match=r"expected|other class names"):
        cache.write("tiny", {**tiny, "train": dataclasses.replace(tiny["train"], **change)}, "a test")
    assert cache.read("tiny", "train") is None

import dataclasses
import gzip
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from cifar_flax.data import cache
from cifar_flax.data.sources import archives, cifar_archives
from cifar_flax.errors import UserError
from cifar_flax.files.checksum import sha256_of_file
from tests.conftest import ROOT
from tests.data.conftest import assert_same, planes, refused
from tests.helpers import forked


def test_a_binary_tarball_gives_its_rows(binary_tarball, tiny):
    assert_same(archives.read(binary_tarball, "cifar100", allow_unverified=True).splits, tiny)


def cifar10(tiny):
    names = tuple(f"class_{i}" for i in range(10))
    return {split: dataclasses.replace(d, labels=d.labels % 10, class_names=names) for split, d in tiny.items()}


def test_cifar10_batches_are_joined_in_order(tar_writer, tiny, tmp_path):
    write, _, _ = tar_writer
    splits, bare = cifar10(tiny), {"coarse_labels": None, "coarse_names": ()}
    expected = {split: dataclasses.replace(data, **bare) for split, data in splits.items()}
    parts = {f"data_batch_{i + 1}": splits["train"].take(np.arange(12 * i, 12 * i + 12)) for i in range(5)}
    parts["test_batch"] = splits["test"]
    binary = {
        f"b/{name}.bin": np.concatenate([d.labels[:, None], planes(d.images)], 1).astype(np.uint8).tobytes()
        for name, d in reversed(parts.items())
    }
    binary["b/batches.meta.txt"] = "\n".join(expected["train"].class_names).encode() + b"\n\n"
    python = {
        f"b/{name}": pickle.dumps({"data": planes(d.images), "labels": d.labels.tolist()})
        for name, d in reversed(parts.items())
    }
    python["b/batches.meta"] = pickle.dumps({"label_names": list(expected["train"].class_names)})
    for name, members in (("b.tar.gz", binary), ("p.tar.gz", python)):
        assert_same(archives.read(write(tmp_path / name, members), "cifar10", allow_unverified=True).splits, expected)


def test_what_is_not_official_is_refused(binary_tarball):
    words = "has other rows than the official archive", "--allow_unverified"
    refused(binary_tarball, *words, allow_unverified=False)


def test_official_archive_is_taken_as_what_it_is_and_nothing_else(binary_tarball, tiny, monkeypatch):
    digest = sha256_of_file(binary_tarball)
    monkeypatch.setitem(archives.OFFICIAL, digest, "cifar100")
    imported = archives.read(binary_tarball, "cifar100")
    assert_same(imported.splits, tiny)
    assert digest in imported.source
    refused(binary_tarball, "is cifar100, not cifar10", name="cifar10", allow_unverified=False)


def test_image_size(binary_tarball):
    splits = archives.read(binary_tarball, "cifar100", 16, allow_unverified=True).splits
    assert splits["train"].images.shape == (60, 16, 16, 3)


def test_a_damaged_tarball_is_refused(binary_tarball, tmp_path):
    content = binary_tarball.read_bytes()
    for name, damaged in {"cut": content[: len(content) // 2], "empty": b"", "text": b"hello" * 300}.items():
        path = tmp_path / f"{name}.tar.gz"
        path.write_bytes(damaged)
        refused(path, "truncated, or not a tar archive")
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0xFF
    path = tmp_path / "flipped.tar.gz"
    path.write_bytes(flipped)
    refused(path, "not")


def test_an_archive_of_something_else_is_refused(tar_writer, tmp_path):
    write, binary, _ = tar_writer
    refused(write(tmp_path / "other.tar.gz", {"README": b"hello"}), "not a CIFAR archive")
    short = {name: content[:-1] if name.endswith("train.bin") else content for name, content in binary.items()}
    refused(write(tmp_path / "short.tar.gz", short), "train.bin", "not a multiple of the row length")
    wrong = {**binary, "cifar-100-binary/fine_label_names.txt": b"one\ntwo\n"}
    refused(write(tmp_path / "wrong.tar.gz", wrong), "expected 0 to 1")
    twice = {**binary, "elsewhere/train.bin": b""}
    refused(write(tmp_path / "twice.tar.gz", twice), "two members called train.bin")
    refused(tmp_path / "nowhere.tar.gz", "no such file or folder")


UNPACK = "if it holds pictures, unpack it and name the folder: --archive=FOLDER"


@pytest.mark.parametrize("count", [3, 250])
def test_a_tarball_of_pictures_is_to_be_unpacked(tar_writer, tmp_path, count):
    write, _, _ = tar_writer
    path = write(tmp_path / "flowers.tgz", {f"flowers/rose/{i}.png": b"picture" for i in range(count)})
    message = refused(path, "not a CIFAR archive (", UNPACK)
    assert "download" not in message


def test_a_large_tarball_of_pictures_is_to_be_unpacked(tar_writer, tmp_path, monkeypatch):
    write, _, _ = tar_writer
    path = write(tmp_path / "flowers.tar.gz", {f"{i}.png": os.urandom(1 << 10) for i in range(8)})
    monkeypatch.setattr(cifar_archives, "MAX_UNPACKED", 1 << 11)
    refused(path, "far more than such a file can need", UNPACK)
    path = write(tmp_path / "white.tar.gz", {f"{i}.png": bytes(1 << 10) for i in range(8)})
    refused(path, "far larger", UNPACK)


@pytest.mark.parametrize("name", ["train_32x32.mat", "train-images-idx3-ubyte.gz", "pets.rar", "pets"])
def test_files_of_other_kinds_are_answered_with_the_kinds_that_are_read(tmp_path, name):
    content = b"\0\0\x08\3\0\0\0\x0a" + bytes(1000)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    message = refused(
        tmp_path / name, "--archive takes: tarballs of CIFAR, .npz, .parquet, .arrow and .zip files; save arrays as"
    )
    assert "download" not in message


@pytest.mark.parametrize("name", ["labels.csv", "LABELS.TSV", "one.png"])
def test_a_single_picture_or_table_is_answered_with_its_folder(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    refused(tmp_path / name, f"is a single file; name the folder that it lies in: --archive={tmp_path}")


def test_a_tarball_may_be_called_anything(binary_tarball, tiny):
    path = binary_tarball.rename(binary_tarball.with_name("download"))
    assert_same(archives.read(path, "cifar100", allow_unverified=True).splits, tiny)


@pytest.mark.parametrize("inner", ["pets.zip", "deep/pets.tgz"])
def test_a_folder_that_holds_an_archive_alone_names_it(tmp_path, inner):
    (tmp_path / inner).parent.mkdir(exist_ok=True)
    (tmp_path / inner).touch()
    refused(tmp_path, f"has no pictures, but the archive '{os.path.basename(inner)}'; import that with --archive=PATH")


def test_absurd_sizes_are_refused_before_they_are_unpacked(tar_writer, tmp_path, monkeypatch):
    write, binary, _ = tar_writer
    path = write(tmp_path / "bomb.tar.gz", {**binary, "padding": bytes(1 << 20)})
    monkeypatch.setattr(cifar_archives, "MAX_UNPACKED", 1 << 20)
    refused(path, "padding is far larger")
    monkeypatch.setattr(cifar_archives, "MAX_MEMBER", 1 << 10)
    refused(path, "far larger")


def test_paths_in_a_tarball_play_no_part(tar_writer, tiny, tmp_path):
    write, binary, _ = tar_writer
    members = {f"../../../{tmp_path}/{name.rpartition('/')[2]}": content for name, content in binary.items()}
    members["../../escaped.txt"] = b"gotcha"
    (tmp_path / "in").mkdir()
    assert_same(archives.read(write(tmp_path / "in" / "a.tar.gz", members), "cifar100", allow_unverified=True).splits, tiny)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tar.gz", "in"]


def python2_batch(data):
    """What cPickle of Python 2 wrote, protocol 2: strings for bytes, and NumPy's old module names."""
    pixels = planes(data.images).tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K" + bytes([len(data)]) + b"M\x00\x0c\x86"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + len(pixels).to_bytes(4, "little") + pixels + b"tb"
    )

    def numbers(values):
        return b"](" + b"".join(b"K" + bytes([value]) for value in values) + b"e"

    fine, coarse = numbers(data.labels), numbers(data.coarse_labels)
    return b"\x80\x02}(U\x04data" + array + b"U\x0bfine_labels" + fine + b"U\x0dcoarse_labels" + coarse + b"u."


def test_batches_as_python_2_wrote_them(tar_writer, tiny, tmp_path):
    write, _, python = tar_writer
    members = {**python, **{f"cifar-100-python/{split}": python2_batch(data) for split, data in tiny.items()}}
    assert_same(archives.read(write(tmp_path / "a.tar.gz", members), "cifar100", allow_unverified=True).splits, tiny)


class RunsACommand:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickles_that_want_more_than_arrays_are_refused(tar_writer, tmp_path, protocol):
    write, _, python = tar_writer
    for value in (RunsACommand(f"touch {tmp_path}/gotcha"), OrderedDict(a=1), os.getcwd, np.load):
        members = {**python, "cifar-100-python/train": pickle.dumps(value, protocol=protocol)}
        message = refused(write(tmp_path / "evil.tar.gz", members), "train is not a CIFAR batch")
        assert "only NumPy arrays are allowed" in message
    assert not (tmp_path / "gotcha").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps([1, 2]),
        pickle.dumps({"data": 1, "fine_labels": [1], "coarse_labels": [1]}),
        pickle.dumps({"fine_labels": [1], "coarse_labels": [1]}),
        pickle.dumps({"data": np.zeros((2, 3072)), "fine_labels": [1, 1], "coarse_labels": [1, 1]}),
        pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "fine_labels": [1], "coarse_labels": [1, 1]}),
        pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "fine_labels": ["a", "b"], "coarse_labels": [1, 1]}),
        pickle.dumps({"data": np.array([[None] * 3072]), "fine_labels": [1], "coarse_labels": [1]}),
    ],
)
def test_a_damaged_batch_is_refused(tar_writer, tmp_path, content):
    write, _, python = tar_writer
    refused(write(tmp_path / "a.tar.gz", {**python, "cifar-100-python/train": content}), "train")


def test_import_command(binary_tarball, tiny, cache_folder):
    def import_data(*arguments):
        return forked.run([ROOT / "launch" / "import_data.py", *arguments], cwd=ROOT)

    archive = f"--archive={binary_tarball}"
    refusal = import_data("--name=cifar100", archive)
    assert refusal.returncode == 2
    assert refusal.stderr.count("\n") == 1
    assert "--allow_unverified" in refusal.stderr
    assert import_data("--name=../x", archive).returncode == 2
    done = import_data("--name=cifar100", archive, "--allow_unverified")
    assert done.returncode == 0, done.stderr
    assert "train: 60 images 32x32x3, 100 classes in 20 superclasses" in done.stdout
    assert cache.manifest("cifar100").hashes("train")["images"] in done.stdout
    assert done.stdout.endswith(f"in {cache_folder / 'cifar100'}\ntrain on it with  --config.data.name=cifar100\n")
    np.testing.assert_array_equal(cache.read("cifar100", "test").images, tiny["test"].images)
    assert import_data("--name=cifar100", archive, "--allow_unverified").stdout == done.stdout  # the same once more
    other = binary_tarball.with_name("mine.npz")
    np.savez(other, train_images=tiny["test"].images, train_labels=tiny["test"].labels)
    for name, words in (
        ("cifar100", "has 26 classes, expected 100"),
        ("cifar10", "has 26 classes, expected 10"),
        ("mine", ""),
    ):
        assert words in import_data(f"--name={name}", f"--archive={other}").stderr
    np.savez(other, train_images=tiny["train"].images, train_labels=tiny["train"].labels)
    taken = import_data("--name=mine", f"--archive={other}")
    assert (taken.returncode, taken.stderr.count("\n")) == (2, 2), "one is on the missing test split"
    assert "there is another data set of this name, from mine.npz, SHA-256 " in taken.stderr
    assert f"rm -r {cache_folder / 'mine'}" in taken.stderr
    np.testing.assert_array_equal(cache.read("mine", "train").images, tiny["test"].images)


def test_a_name_of_cifar_is_not_given_to_another_data_set(binary_tarball, tmp_path):
    refused(binary_tarball, "--name=cifar10", "has 100 classes, expected 10", name="cifar10")
    np.savez(tmp_path / "a.npz", train_images=np.zeros((2, 8, 8), np.uint8), train_labels=[0, 1])
    for name in ("cifar10", "cifar100"):
        with pytest.raises(UserError, match=f"--name={name}: .* has 2 classes, expected"):
            archives.read(tmp_path / "a.npz", name, allow_unverified=True)

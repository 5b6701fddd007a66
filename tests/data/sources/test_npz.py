import io
import zipfile

import numpy as np
import pytest

from cifar_flax.data.sources import archives
from cifar_flax.errors import UserError
from tests.data.conftest import assert_same, refused


def npz_arrays(tiny):
    return {
        "train_images": tiny["train"].images,
        "train_labels": tiny["train"].labels.astype(np.uint8),
        "train_coarse": tiny["train"].coarse_labels,
        "test_images": tiny["test"].images,
        "test_labels": tiny["test"].labels,
        "test_coarse": tiny["test"].coarse_labels,
        "class_names": np.array(tiny["train"].class_names),
        "coarse_names": np.array(tiny["train"].coarse_names),
    }


def test_an_npz_gives_its_rows(tiny, tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **npz_arrays(tiny))
    assert_same(archives.read(path, "mine").splits, tiny)


def test_npz_of_the_least(tmp_path, caplog):
    path = tmp_path / "a.npz"
    np.savez(path, train_images=np.zeros((4, 5, 6), np.uint8), train_labels=[0, 1, 2, 0])
    (data,) = archives.read(path, "mine").splits.values()
    assert f"{path}: has no test split, which is what evaluate scores if it is not told otherwise" in caplog.messages
    assert data.images.shape == (4, 5, 6, 1)
    assert data.class_names == ("0", "1", "2")
    assert data.coarse_labels is None


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"train_images": None}, "expected train_images"),
        ({"train_labels": None}, "no array train_labels"),
        ({"test_labels": None}, "no array test_labels"),
        ({"test_coarse": None}, "no array test_coarse"),
        ({"train_images": np.zeros((60, 8, 8, 3), np.float32)}, "float32"),
        ({"train_images": np.zeros((60, 8, 8, 4), np.uint8)}, "expected uint8"),
        ({"train_images": np.zeros((60, 5000, 2, 3), np.uint8)}, "5000 x 2 pixels, expected at most 4096"),
        ({"test_images": np.zeros((30, 16, 16, 3), np.uint8)}, "images of test are (16, 16, 3), those of train (32, 32, 3)"),
        ({"test_images": np.zeros((30, 32, 32), np.uint8)}, "images of test are (32, 32, 1), those of train (32, 32, 3)"),
        ({"train_labels": np.zeros(59, int)}, "labels are"),
        ({"train_labels": np.zeros(60)}, "float64"),
        ({"train_labels": np.zeros((60, 2), int)}, "int64 (60, 2), expected integers (60,)"),
        ({"train_labels": np.array(["a"] * 60)}, "<U1 (60,), expected integers"),
        ({"train_labels": np.full(60, np.nan)}, "float64 (60,), expected integers"),
        ({"train_labels": np.zeros(60, "M8[s]")}, "datetime64[s] (60,), expected integers"),
        ({"train_labels": np.zeros(60, [("a", "i4")])}, "records (60,), expected integers"),
        ({"train_coarse": np.full(60, 2**40)}, "expected 0 to 19"),
        ({"class_names": np.arange(100)}, "class_names are int64 (100,), expected text"),
        ({"class_names": np.full(10_000_000, "a")}, "N at most 100,000"),
        ({"class_names": np.full((10, 10), "a")}, "<U1 (10, 10), expected text"),
        ({"class_names": np.array(["a"] * 99 + ["b" * 1000])}, "at most 200 characters"),
        ({"class_names": np.array(["cat", "dog", "cat"])}, "two classes have the name cat"),
        ({"class_names": np.array([b"caf\xe9"] * 100)}, r"the name b'caf\xe9' is not UTF-8"),
        ({"class_names": np.array(["\x1b[2J", "b"])}, r"the name '\x1b[2J' holds control characters"),
        ({"class_names": np.array(["a", ""])}, "empty name"),
        ({"test_labels": np.full(30, 100)}, "expected 0 to 99"),
        ({"train_labels": np.array([None] * 60)}, "train_labels are object (60,), expected integers (60,)"),
    ],
)
def test_an_npz_with_wrong_arrays_is_refused(tiny, tmp_path, change, word):
    path = tmp_path / "a.npz"
    np.savez(path, **{name: array for name, array in {**npz_arrays(tiny), **change}.items() if array is not None})
    refused(path, word)


def save(path, labels, **others):
    labels = np.array(labels)
    np.savez(path, train_images=np.zeros((len(labels), 8, 8), np.uint8), train_labels=labels, **others)
    return archives.read(path, "mine").splits["train"]


def test_names_in_bytes_are_text(tmp_path):
    assert save(tmp_path / "a.npz", [0, 1], class_names=np.array(["café".encode(), b"tea"])).class_names == ("café", "tea")


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        ([1, 2, 3, 1], ("1", "2", "3"), [0, 1, 2, 0]),
        ([0, 9, 3, 9], ("0", "3", "9"), [0, 2, 1, 2]),
        ([0, 1, 2, 2**31], ("0", "1", "2", "2147483648"), [0, 1, 2, 3]),
        (np.array([0, 2**64 - 1], np.uint64), ("0", "18446744073709551615"), [0, 1]),
    ],
)
def test_without_names_the_numbers_that_occur_are_the_classes(tmp_path, labels, classes, expected):
    data = save(tmp_path / "a.npz", labels)
    assert data.class_names == classes
    assert data.labels.tolist() == expected
    assert data.labels.dtype == np.int32


def test_a_number_that_occurs_in_the_test_split_alone_is_a_class_of_both(tmp_path):
    images = np.zeros((2, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=[1, 2], test_images=images, test_labels=[3, 1])
    splits = archives.read(tmp_path / "a.npz", "mine").splits
    assert splits["train"].class_names == splits["test"].class_names == ("1", "2", "3")
    assert splits["test"].labels.tolist() == [2, 0]


@pytest.mark.parametrize(
    "names",
    [
        ("X_train", "Y_train", "X_val", "Y_val", "X_test", "Y_test"),
        ("train_x", "train_y", "dev_x", "dev_y", "test_x", "test_y"),
        ("train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"),  # as of MedMNIST
    ],
)
def test_arrays_may_be_called_as_elsewhere(tmp_path, names):
    images = [np.full((2, 8, 8), i, np.uint8) for i in range(3)]
    arrays = [array for i in range(3) for array in (images[i], np.array([[0], [1]]))]
    np.savez(tmp_path / "a.NPZ.npz", **dict(zip(names, arrays, strict=True)))
    (tmp_path / "a.NPZ.npz").rename(tmp_path / "a.NPZ")
    splits = archives.read(tmp_path / "a.NPZ", "mine").splits
    assert {split: int(data.images.max()) for split, data in splits.items()} == {"train": 0, "validation": 1, "test": 2}


def test_validation_arrays_without_test_arrays_are_the_test_split(tmp_path):
    images = np.zeros((2, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=[0, 1], val_images=images, val_labels=[1, 0])
    splits = archives.read(tmp_path / "a.npz", "mine").splits
    assert {split: data.labels.tolist() for split, data in splits.items()} == {"train": [0, 1], "test": [1, 0]}


def test_two_arrays_of_one_split_are_refused(tmp_path):
    images = np.zeros((2, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images, train_images=images, y_train=[0, 1])
    refused(tmp_path / "a.npz", "x_train and train_images are both of train_images; remove one of them")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("other", ["train_images.npy", "train_images"])
def test_two_arrays_of_one_name_are_refused(tmp_path, other):
    np.savez(tmp_path / "a.npz", train_images=np.zeros((2, 8, 8), np.uint8), train_labels=np.int32([0, 1]))
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr(other, archive.read("train_images.npy"))
    refused(tmp_path / "a.npz", "has two arrays called 'train_images'; write it anew")


def test_arrays_of_other_names_are_refused_with_those_that_are_accepted(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(2))
    refused(tmp_path / "a.npz", "has a, expected train_images, train_labels, ", "or Keras' x_train, y_train, x_test, y_test")


def test_a_test_split_without_labels_is_left_out(tmp_path, caplog):
    images = np.zeros((2, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=[0, 1], x_test=images, y_test=[-1, -1])
    (train,) = archives.read(tmp_path / "a.npz", "mine").splits.values()
    assert train.class_names == ("0", "1")
    assert f"{tmp_path}/a.npz: left out: the test split, which has no labels" in caplog.messages


def test_a_part_becomes_the_test_split_where_there_is_none_and_one_is_asked_for(tmp_path):
    images = np.zeros((10, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=[0, 1] * 5)
    splits = archives.read(tmp_path / "a.npz", "mine", test_fraction=0.4).splits
    assert {name: len(data) for name, data in splits.items()} == {"train": 6, "test": 4}
    np.savez(tmp_path / "a.npz", x_train=images, y_train=[0, 1] * 5, x_test=images, y_test=[0, 1] * 5)
    with pytest.raises(
        UserError, match=r"^--test_fraction=0\.4: \S+a\.npz has a test split, its own or its validation pictures; leave it out$"
    ):
        archives.read(tmp_path / "a.npz", "mine", test_fraction=0.4)
    assert len(archives.read(tmp_path / "a.npz", "mine", test_fraction=0).splits["train"]) == 10


def test_labels_below_zero_are_refused(tmp_path):
    with pytest.raises(UserError, match="labels go from -1 to 1, expected none below 0"):
        save(tmp_path / "a.npz", [-1, 0, 1])


def test_a_small_file_that_unpacks_to_gigabytes_is_refused_unread(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (100_000, 32, 32, 3)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("train_images.npy", "w", force_zip64=True) as file:
            file.write(header.getvalue())
            for _ in range(300):
                file.write(bytes(2**20))
        archive.writestr("train_labels.npy", b"")
    refused(tmp_path / "a.npz", "train_images unpacks to 314,572,", "more than 250 times its size")


def test_a_damaged_npz_is_refused(tiny, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **npz_arrays(tiny))
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[5000] ^= 1
    for damaged in (content[:-100], b"", b"text", bytes(flipped)):
        path.write_bytes(damaged)
        refused(path, "damaged")

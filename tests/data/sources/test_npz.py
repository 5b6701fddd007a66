import numpy as np
import pytest

from cifar_flax.data.sources import archives
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


def test_npz(tiny, tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **npz_arrays(tiny))
    assert_same(archives.read(path, "mine").splits, tiny)


def test_npz_of_the_least(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, train_images=np.zeros((4, 5, 6), np.uint8), train_labels=[0, 1, 2, 0])
    (data,) = archives.read(path, "mine").splits.values()
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
        ({"train_labels": np.zeros(59, int)}, "labels are"),
        ({"train_labels": np.zeros(60)}, "float64"),
        ({"test_labels": np.full(30, 100)}, "expected 0 to 99"),
        ({"train_labels": np.array([None] * 60)}, "damaged, or not an .npz of plain arrays"),
    ],
)
def test_npz_with_wrong_arrays(tiny, tmp_path, change, word):
    path = tmp_path / "a.npz"
    np.savez(path, **{name: array for name, array in {**npz_arrays(tiny), **change}.items() if array is not None})
    refused(path, word)


def test_damaged_npz(tiny, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **npz_arrays(tiny))
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[5000] ^= 1
    for damaged in (content[:-100], b"", b"text", bytes(flipped)):
        path.write_bytes(damaged)
        refused(path, "damaged")

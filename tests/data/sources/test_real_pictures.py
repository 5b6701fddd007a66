"""The real test images of CIFAR-100 as people have pictures: each layout gives the same rows."""

import csv
import shutil

import numpy as np
import pytest
from PIL import Image

from cifar_flax.config import DataConfig
from cifar_flax.data.dataset import Dataset
from cifar_flax.data.loading import load_dataset
from cifar_flax.data.sources import archives, cifar_content


def write_pictures(folder, dataset):
    """FOLDER/CLASS/00012.png and so on; the paths in the order of the rows."""
    paths = [folder / dataset.class_names[label] / f"{i:05}.png" for i, label in enumerate(dataset.labels)]
    for path, image in zip(paths, dataset.images, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, compress_level=1)
    return paths


@pytest.mark.slow
def test_real_images_in_each_layout_are_the_same_rows(tmp_path, monkeypatch, cifar100_cache):
    monkeypatch.setenv("CIFAR_FLAX_CACHE", cifar100_cache)
    real = load_dataset(DataConfig(name="cifar100"), "test").in_memory()
    expected = cifar_content.digest(Dataset(real.images, real.labels, real.class_names))

    def digest(path):
        splits = archives.read(path, "mine").splits
        assert all(dataset.class_names == real.class_names for dataset in splits.values())
        images, labels = (np.concatenate([getattr(d, name) for d in splits.values()]) for name in ("images", "labels"))
        return cifar_content.digest(Dataset(images, labels, real.class_names))

    paths = write_pictures(tmp_path / "classes", real)
    assert digest(tmp_path / "classes") == expected, "CLASS, of which some are carved out for testing"
    shutil.make_archive(str(tmp_path / "zipped"), "zip", tmp_path / "classes")
    assert digest(tmp_path / "zipped.zip") == expected, "a zip file of CLASS"
    with (tmp_path / "classes" / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "label"), *((path.name, path.parent.name) for path in paths)])
    for path in paths:
        path.rename(tmp_path / "classes" / path.name)
    assert digest(tmp_path / "classes") == expected, "labels.csv"
    for i, path in enumerate(paths):
        place = tmp_path / "splits" / ("Training", "Testing")[i % 2] / path.parent.name / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "classes" / path.name).rename(place)
    assert digest(tmp_path / "splits") == expected, "Training and Testing"

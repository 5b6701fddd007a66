import dataclasses
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest

from cifar_flax.data.dataset import Dataset
from cifar_flax.data.loading import load_splits
from cifar_flax.data.sources import archives
from cifar_flax.errors import UserError

CLASSES = tuple(f"class_{i}" for i in range(100))
SUPERCLASSES = tuple(f"superclass_{i}" for i in range(20))

BOUND = 64 << 20  # bytes that reading an archive of a few kB may take

BUILD_TFDS = """
import json, sys
import numpy as np
import tensorflow_datasets as tfds

out, rows = sys.argv[1:]
arrays = np.load(rows)
names = json.loads(str(arrays["names"]))

with tfds.core.registered.skip_registration():
    class Cifar100(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("3.0.2")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=(32, 32, 3)),
                "label": tfds.features.ClassLabel(names=names["fine"]),
                "coarse_label": tfds.features.ClassLabel(names=names["coarse"]),
            }))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in ("train", "test")}

        def _generate_examples(self, split):
            for i in range(len(arrays[split + "_images"])):
                yield i, {
                    "id": f"{split}_{i:05d}",
                    "image": arrays[split + "_images"][i],
                    "label": int(arrays[split + "_labels"][i]),
                    "coarse_label": int(arrays[split + "_coarse"][i]),
                }

    class Sketches(tfds.core.GeneratorBasedBuilder):
        "One channel, pictures of different sizes, no ids, no test split but a validation split."

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
                "image": tfds.features.Image(shape=(None, None, 1)),
                "label": tfds.features.ClassLabel(names=["dark", "light"]),
            }))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(6), "validation": self._generate_examples(4)}

        def _generate_examples(self, count):
            for i in range(count):
                yield i, {"image": np.full((20 + i, 30, 1), 200 * (i % 2), np.uint8), "label": i % 2}

    class Squares(tfds.core.GeneratorBasedBuilder):
        "All three splits; the labels of the configuration `blind` for the test split are -1."

        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in ("open", "blind")]

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
                "image": tfds.features.Image(shape=(8, 8, 3)), "label": tfds.features.ClassLabel(names=["dark", "light"])}))

        def _split_generators(self, dl_manager):
            blind = self.builder_config.name == "blind"
            return {
                "train": self._generate_examples(6),
                "validation": self._generate_examples(4),
                "test": self._generate_examples(2, blind),
            }

        def _generate_examples(self, count, blind=False):
            for i in range(count):
                yield i, {"image": np.full((8, 8, 3), 100 + count, np.uint8), "label": -1 if blind else i % 2}

for config in ("open", "blind"):
    Squares(data_dir=out, config=config).download_and_prepare()
for builder in (Cifar100, Sketches):
    builder(data_dir=out).download_and_prepare()
"""


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    """An empty cache, and no TFDS directory, for each test."""
    monkeypatch.setenv("CIFAR_FLAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "no_tfds"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def tiny():
    """A few rows that look like CIFAR-100."""
    rng = np.random.default_rng(0)

    def split(rows):
        labels = rng.integers(0, 100, rows, dtype=np.int32)
        images = rng.integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8)
        return Dataset(images, labels, CLASSES, labels // 5, SUPERCLASSES)

    return {"train": split(60), "test": split(30)}


@pytest.fixture(scope="session")
def tiny_tfds_dir(tiny, tmp_path_factory):
    """`tiny` and a set of odd pictures, as TFDS prepares them; it shuffles the rows."""
    folder = tmp_path_factory.mktemp("tfds")
    rows = folder / "rows.npz"
    arrays = {
        f"{split}_{name}": array
        for split, data in tiny.items()
        for name, array in (("images", data.images), ("labels", data.labels), ("coarse", data.coarse_labels))
    }
    np.savez(rows, names=json.dumps({"fine": CLASSES, "coarse": SUPERCLASSES}), **arrays)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "TMPDIR": str(folder)}
    subprocess.run([sys.executable, "-c", BUILD_TFDS, folder / "out", rows], env=environment, check=True, capture_output=True)
    return folder / "out"


def planes(images):
    """[N, 3072]: red, then green, then blue, as the tarballs have it."""
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def write_tar(path, members):
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def binary_members(splits, folder="cifar-100-binary"):
    def rows(data):
        return (
            np.concatenate([data.coarse_labels[:, None], data.labels[:, None], planes(data.images)], 1)
            .astype(np.uint8)
            .tobytes()
        )

    return {
        f"{folder}/fine_label_names.txt": "\n".join(CLASSES).encode() + b"\n",
        f"{folder}/coarse_label_names.txt": "\n".join(SUPERCLASSES).encode() + b"\n",
        f"{folder}/train.bin": rows(splits["train"]),
        f"{folder}/test.bin": rows(splits["test"]),
    }


def python_members(splits, folder="cifar-100-python", names=(CLASSES, SUPERCLASSES)):
    def batch(data):
        return {
            b"data": planes(data.images),
            b"fine_labels": data.labels.tolist(),
            b"coarse_labels": data.coarse_labels.tolist(),
        }

    fine, coarse = ([name.encode() for name in of] for of in names)
    content = {
        "meta": {b"fine_label_names": fine, b"coarse_label_names": coarse},
        "train": batch(splits["train"]),
        "test": batch(splits["test"]),
    }
    return {f"{folder}/{name}": pickle.dumps(value, protocol=2) for name, value in content.items()}


@pytest.fixture
def binary_tarball(tiny, tmp_path):
    return write_tar(tmp_path / "tiny-binary.tar.gz", binary_members(tiny))


@pytest.fixture
def python_tarball(tiny, tmp_path):
    return write_tar(tmp_path / "tiny-python.tar.gz", python_members(tiny))


@pytest.fixture
def tar_writer(tiny):
    """For tests of odd archives: (write_tar, members of the binary version, members of the python version)."""
    return write_tar, binary_members(tiny), python_members(tiny)


def data_hashes(config, split):
    """What a run that begins now would record of a split."""
    return load_splits(config, lambda there: []).recorded(split)


def refused(path, *words, name="cifar100", allow_unverified=True):
    """Reading ends in one line that holds all of `words`."""
    with pytest.raises(UserError) as error:
        archives.read(path, "mine" if path.is_dir() or path.suffix == ".npz" else name, allow_unverified=allow_unverified)
    message = str(error.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message
    return message


def assert_same(splits, expected):
    assert list(splits) == list(expected)
    for split, data in splits.items():
        for field in dataclasses.fields(data):
            np.testing.assert_array_equal(getattr(data, field.name), getattr(expected[split], field.name))


@contextmanager
def nothing_else(folder):
    """Nothing comes into the folder, or goes, and memory stays within bounds."""
    before = sorted(folder.rglob("*"))
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sorted(folder.rglob("*")) == before
    assert peak < BOUND, f"{peak:,} bytes"

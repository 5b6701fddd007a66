import functools
import json
import subprocess

import jax.numpy as jnp
import numpy as np
import pytest

from cifar_flax.analysis.predictions import Predictions, read_predictions, save_predictions
from cifar_flax.config import Config, Normalization
from cifar_flax.config.serialize import read_config, write_config
from cifar_flax.data import cache
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.errors import UserError
from cifar_flax.files.checksum import (
    dumps_checksummed,
    read_checksummed,
    sha256_of_arrays,
    sha256_of_file,
    verify_checksum,
    with_checksum,
)
from cifar_flax.models import BlockConfig
from tests.conftest import tiny_split

BITS, CUTS = 800, 80  # per file


def damaged(content):
    """Yields `content` with one bit flipped, then cut short, at random places."""
    rng = np.random.default_rng(0)
    for bit in rng.choice(8 * len(content), min(BITS, 8 * len(content)), replace=False):
        byte = content[bit // 8] ^ 1 << bit % 8
        yield content[: bit // 8] + bytes([byte]) + content[bit // 8 + 1 :]
    for length in rng.choice(len(content), min(CUTS, len(content)), replace=False):
        yield content[:length]


def config(folder):
    made = Config()
    made.model.blocks = (BlockConfig(features=(8, 16)),)
    write_config(made, folder / "config.json")
    return folder / "config.json", functools.partial(read_config, folder / "config.json")


def preprocessing(folder):
    made = Preprocessing.of(tiny_split(50, 0), Normalization.STANDARDIZE, {"images": "0" * 64})
    made.write(folder / "dataset.json")
    return folder / "dataset.json", functools.partial(Preprocessing.read, folder / "dataset.json")


def manifest(folder):
    cache.write("tiny", {"train": tiny_split(50, 0)}, "a test")
    return folder / "tiny" / "manifest.json", functools.partial(cache.manifest, "tiny")


@pytest.mark.parametrize("kind", [config, preprocessing, manifest])
def test_a_damaged_file_is_refused_or_read_as_before(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR_FLAX_CACHE", str(tmp_path))
    path, read = kind(tmp_path)
    original, expected, errors, exact = path.read_bytes(), read(), set(), 0
    for content in damaged(original):
        path.write_bytes(content)
        try:
            assert read() == expected, content
        except UserError as e:
            errors.add(str(e))
        else:
            exact += 1
    assert all(line.startswith(f"{path}: ") and "\n" not in line for line in errors)
    assert exact < (BITS + CUTS) / 2  # spaces may change, and so may the name of the hash


def test_damaged_predictions_are_refused_or_unchanged(tmp_path):
    rng = np.random.default_rng(1)
    saved = Predictions("test", 7, "none", rng.normal(size=(9, 4)).astype(np.float32), rng.integers(0, 4, 9, np.int32))
    path = tmp_path / "test_predictions.npz"
    save_predictions(path, saved)
    original, refused = path.read_bytes(), 0
    for content in damaged(original):
        path.write_bytes(content)
        predictions = read_predictions(path)
        if predictions is None:
            refused += 1
            continue
        assert predictions.about == saved.about
        assert predictions.logits.dtype == saved.logits.dtype
        np.testing.assert_array_equal(predictions.logits, saved.logits)
        np.testing.assert_array_equal(predictions.labels, saved.labels)
    assert refused > (BITS + CUTS) / 4  # many bytes of a zip file are dates and attributes


def test_predictions_with_a_smaller_shape_are_refused(tmp_path):
    """The checksum of a zip is compared only at the end of a file, which a smaller array does not reach."""
    saved = Predictions("test", 7, "none", np.zeros((900, 9), np.float32), np.zeros(900, np.int32))
    path = tmp_path / "test_predictions.npz"
    save_predictions(path, saved)
    path.write_bytes(path.read_bytes().replace(b"(900, 9)", b"(100, 9)"))
    with np.load(path) as arrays:
        assert arrays["logits"].shape == (100, 9)
    assert read_predictions(path) is None


@pytest.mark.parametrize(
    "values", [{}, {"loss": 0.1 + 0.2, "n": 3}, {"names": ["猫", "\x00"], "nested": {"b": [1, 2.0, None], "a": float("inf")}}]
)
def test_an_object_is_read_as_it_was_written(values, tmp_path):
    (tmp_path / "file.json").write_text(dumps_checksummed(values))
    assert read_checksummed(tmp_path / "file.json") == values
    assert (
        verify_checksum(json.loads(json.dumps(dict(reversed(with_checksum(values).items()))))) == values
    )  # whatever the order


def test_a_changed_missing_or_misplaced_checksum_is_refused():
    with pytest.raises(ValueError, match="its hash differs"):
        verify_checksum({**with_checksum({"loss": 0.5}), "loss": 0.7})
    with pytest.raises(ValueError, match="it has no hash of itself"):
        verify_checksum({"loss": 0.5})
    with pytest.raises(ValueError, match="not a JSON object"):
        verify_checksum([0.5])


def test_sha256_of_a_file_is_that_of_coreutils(tmp_path):
    (tmp_path / "file").write_bytes(bytes(range(256)) * 999)
    expected = subprocess.run(["sha256sum", tmp_path / "file"], capture_output=True, text=True, check=True).stdout.split()[0]
    assert sha256_of_file(tmp_path / "file") == expected


def test_names_dtypes_shapes_values_and_header_change_the_hash_of_arrays():
    x = np.arange(6, dtype=np.float32)
    variants = [{"a": x}, {"b": x}, {"a": x.view(np.int32)}, {"a": x.reshape(2, 3)}, {"a": x + 1}, {"a": x, "b": x}]
    digests = {sha256_of_arrays(arrays) for arrays in variants} | {sha256_of_arrays({"a": x}, "header")}
    assert len(digests) == 7
    assert sha256_of_arrays({"a": jnp.zeros(2, jnp.bfloat16)}) != sha256_of_arrays({"a": jnp.zeros(2, jnp.float16)})
    assert sha256_of_arrays({"a": jnp.arange(12, dtype=jnp.float32)[::2] / 2}) == sha256_of_arrays({"a": x})

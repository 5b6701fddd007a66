import functools
import json

import numpy as np
import pytest

from cifar_flax.analysis.report.predictions import Predictions, read_predictions, save_predictions
from cifar_flax.config import BlockConfig, Config, Normalization
from cifar_flax.config.serialize import read_config, write_config
from cifar_flax.data import cache
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.errors import UserError
from cifar_flax.files.checksum import dumps_checksummed, read_checksummed, verify_checksum, with_checksum
from cifar_flax.training.records import Records, read_records
from tests.conftest import tiny_split

BITS, CUTS = 800, 80  # tried of each file


def damaged(content):
    """`content` with one bit turned, and without its end, at random places."""
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
def test_a_damaged_file_is_refused_or_says_what_it_said(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR_FLAX_CACHE", str(tmp_path))
    path, read = kind(tmp_path)
    whole, expected, said, exact = path.read_bytes(), read(), set(), 0
    for content in damaged(whole):
        path.write_bytes(content)
        try:
            assert read() == expected, content
        except UserError as e:
            said.add(str(e))
        else:
            exact += 1
    assert all(line.startswith(f"{path}: ") and "\n" not in line for line in said)
    assert exact < (BITS + CUTS) / 2  # spaces may change, and so may the name of the hash


def test_a_damaged_record_is_left_out_and_said(tmp_path, caplog):
    records = Records(tmp_path, 0, 0)
    for step in range(1, 6):
        records.append({"kind": "step", "step": step, "epoch": 1, "loss": 1 / step, "grad_norm": step * 0.1})
    records.close()
    path = tmp_path / "metrics.jsonl"
    whole, expected = path.read_bytes(), read_records(tmp_path)
    assert "hash" not in expected[0]
    for content in damaged(whole):
        caplog.clear()
        path.write_bytes(content)
        found = [{name: value for name, value in record.items() if name in expected[0]} for record in read_records(tmp_path)]
        assert all(record in expected for record in found), content
        if content[:1] and len(content) == len(whole):  # an end that was cut off may be whole lines, of which nobody knows
            assert found == expected or "left out" in caplog.text


def test_damaged_predictions_count_as_none_or_are_what_they_were(tmp_path):
    rng = np.random.default_rng(1)
    saved = Predictions("test", 7, "none", rng.normal(size=(9, 4)).astype(np.float32), rng.integers(0, 4, 9, np.int32))
    path = tmp_path / "test_predictions.npz"
    save_predictions(path, saved)
    whole, refused = path.read_bytes(), 0
    for content in damaged(whole):
        path.write_bytes(content)
        found = read_predictions(path)
        if found is None:
            refused += 1
            continue
        assert found.about == saved.about
        assert found.logits.dtype == saved.logits.dtype
        np.testing.assert_array_equal(found.logits, saved.logits)
        np.testing.assert_array_equal(found.labels, saved.labels)
    assert refused > (BITS + CUTS) / 4  # many bytes of a zip file are dates and attributes


def test_predictions_of_which_fewer_are_read_than_were_saved_count_as_none(tmp_path):
    """Whoever stops before the end of a file in a zip does not get to its checksum."""
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
def test_what_is_sealed_is_read_as_it_was(values, tmp_path):
    (tmp_path / "file.json").write_text(dumps_checksummed(values))
    assert read_checksummed(tmp_path / "file.json") == values
    assert (
        verify_checksum(json.loads(json.dumps(dict(reversed(with_checksum(values).items()))))) == values
    )  # whatever the order


def test_another_value_under_the_hash_of_the_first_is_refused():
    with pytest.raises(ValueError, match="its hash differs"):
        verify_checksum({**with_checksum({"loss": 0.5}), "loss": 0.7})
    with pytest.raises(ValueError, match="it has no hash of itself"):
        verify_checksum({"loss": 0.5})
    with pytest.raises(ValueError, match="not a JSON object"):
        verify_checksum([0.5])

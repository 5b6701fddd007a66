import json
import math
from dataclasses import asdict
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from cifar_flax import pretrained
from cifar_flax.config import BatchNorm, Config
from cifar_flax.config.types import Normalization
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.errors import UserError
from cifar_flax.export.huggingface import write_folder
from cifar_flax.files.checksum import sha256_of_arrays
from cifar_flax.models import BlockConfig, create_model, initialize
from cifar_flax.network import Network
from cifar_flax.pretrained.weights import as_stored, check_variables, read_weights, write_weights
from cifar_flax.runtime.flag_values import KernelDtype
from tests.conftest import tiny_split

PREPROCESSING = Preprocessing.of(tiny_split(40, 0), Normalization.STANDARDIZE, {"images": "0"})


@pytest.fixture(scope="module")
def network():
    """A network with variables that float16 rounds."""
    config = Config()
    config.model.blocks = (BlockConfig(features=(4,), batch_norm=BatchNorm.CONV),)
    model = create_model(config.model, 10)
    return Network(config, PREPROCESSING, initialize(model, jax.random.key(0), jnp.zeros((1, 8, 8, 3))), "net", {"top1": 0.5})


@pytest.fixture
def path(network, tmp_path):
    write_weights(tmp_path / "net.safetensors", network)
    return tmp_path / "net.safetensors"


def test_what_is_read_is_what_was_written_with_kernels_rounded_to_half(network, path):
    actual = read_weights(path)
    assert (actual.config, actual.preprocessing, actual.figures) == (network.config, PREPROCESSING, {"top1": 0.5})
    assert (actual.name, actual.step) == ("net", None)
    assert actual.class_names == PREPROCESSING.class_names

    def rounded(x):
        return np.asarray(x, np.float16 if x.ndim > 1 else np.float32).astype(np.float32)

    jax.tree.map(np.testing.assert_array_equal, actual.variables, jax.tree.map(rounded, dict(network.variables)))
    images = tiny_split(3, 1).images
    np.testing.assert_allclose(actual.logits(images), network.logits(images), atol=5e-3)


@pytest.mark.parametrize("dtype", KernelDtype)
def test_what_is_read_of_any_dtype_is_what_was_written_rounded(network, tmp_path, dtype):
    write_weights(tmp_path / "net.safetensors", network, dtype)
    expected = jax.tree.map(lambda x: x.astype(dtype).astype("float32") if x.ndim > 1 else x, dict(network.variables))
    actual = read_weights(tmp_path / "net.safetensors").variables
    assert {leaf.dtype for leaf in jax.tree.leaves(actual)} == {jnp.dtype("float32")}
    jax.tree.map(np.testing.assert_array_equal, actual, expected)
    stored = as_stored(network, dtype)
    jax.tree.map(np.testing.assert_array_equal, dict(stored.variables), expected)
    assert (stored is network) == (dtype is KernelDtype.FLOAT32)
    assert as_stored(stored, dtype) is stored
    with safe_open(tmp_path / "net.safetensors", framework="flax") as file:
        assert file.get_tensor("params/block0_conv0/kernel").dtype == dtype
        assert file.get_tensor("batch_stats/block0_conv0_norm/var").dtype == jnp.float32


@pytest.mark.parametrize("dtype", KernelDtype)
def test_counts_among_the_statistics_stay_whole_numbers(network, tmp_path, dtype):
    counts = {"seen": jnp.int32(2**24 + 1), "full": jnp.array([True, False])}
    variables = {**network.variables, "batch_stats": {**network.variables["batch_stats"], **counts}}
    write_weights(tmp_path / "net.safetensors", Network(network.config, PREPROCESSING, variables, "net"), dtype)
    actual = read_weights(tmp_path / "net.safetensors").variables["batch_stats"]
    assert (int(actual["seen"]), actual["seen"].dtype) == (2**24 + 1, jnp.int32)
    assert (actual["full"].tolist(), actual["full"].dtype) == ([True, False], bool)


def test_weights_that_do_not_fit_their_network_are_refused_in_a_line(network):
    kernel = network.variables["params"]["block0_conv0"]
    for params in ({}, {**network.variables["params"], "block0_conv0": {**kernel, "kernel": kernel["kernel"][..., :2]}}):
        other = Network(network.config, PREPROCESSING, {**network.variables, "params": params}, "net")
        with pytest.raises(UserError, match="x: its weights do not fit the network that it describes: "):
            check_variables(other, "x")
    params = {**network.variables["params"], "block9": {"kernel": kernel["kernel"]}}
    larger = Network(network.config, PREPROCESSING, {**network.variables, "params": params}, "net")
    with pytest.raises(UserError, match=r"network that it describes: it has no params/block9/kernel$"):
        check_variables(larger, "x")
    whole = {**network.variables["params"], "block0_conv0": {**kernel, "kernel": kernel["kernel"].astype(jnp.int32)}}
    counts = Network(network.config, PREPROCESSING, {**network.variables, "params": whole}, "net")
    with pytest.raises(UserError, match=r"network that it describes: its params/block0_conv0/kernel is float32, not int32$"):
        check_variables(counts, "x")
    check_variables(network, "x")


def rewrite(path, tensors, parts):
    """Replaces the tensors and parts of the metadata, under their right hash."""
    with safe_open(path, framework="numpy") as file:
        metadata = {**file.metadata(), **parts}
    del metadata["sha256"]
    digest = sha256_of_arrays(dict(sorted(tensors.items())), json.dumps(metadata, sort_keys=True))
    save_file(tensors, path, {**metadata, "sha256": digest})


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint64", "complex64"])
def test_weights_that_jax_would_round_or_wrap_are_refused(path, dtype):
    tensors = load_file(path)
    name = "batch_stats/block0_conv0_norm/var"
    rewrite(path, {**tensors, name: tensors[name].astype(dtype)}, {})
    with pytest.raises(UserError, match=rf"{name} is {dtype}; expected float32, float16, bfloat16 or 32 bits of a whole"):
        read_weights(path)


@pytest.mark.parametrize(
    ("part", "content", "message"),
    [
        ("figures", {"top1": "very good"}, 'its figures.top1: "very good"; expected a number in [0, 1]; measure it again'),
        ("figures", {"top1": True}, "its figures.top1: true; expected a number"),
        (
            "figures",
            {"top1": 10**400},
            "its figures.top1: 1000000000000000000000000000000000000000; expected a number in [0, 1]",
        ),
        ("figures", {"ece": 1.5}, "its figures.ece: 1.5; expected a number in [0, 1]"),
        ("figures", {"loss": math.nan}, "its figures.loss: NaN; expected a number"),
        ("figures", {"loss": 10**400}, "expected a number; measure it again"),
        ("figures", {"split": 3, "n": 10}, "its figures.split: 3; expected one of train, validation, test"),
        ("figures", {"split": "\x1b[31mtest"}, 'its figures.split: "\\u001b[31mtest"; expected one of train, validation, test'),
        ("figures", {"split": "test", "n": 10.5}, "its figures.n: 10.5; expected a count"),
        ("figures", {"split": "test", "n": -1}, "its figures.n: -1; expected a count"),
        (
            "calibration",
            {"temperature": 1, "source": "\x1b[31m"},
            r"its calibration: source '\x1b[31m' holds control characters",
        ),
        ("preprocessing", {**asdict(PREPROCESSING), "image_shape": (10**9, 10**9, 3)}, "expected at most 2.1 GB each"),
        ("preprocessing", {**asdict(PREPROCESSING), "class_names": ["a"] * 10}, "its classes: two classes have the name a"),
        (
            "preprocessing",
            {**asdict(PREPROCESSING), "class_names": ["", *"abcdefghi"]},
            "its classes: a class has an empty name",
        ),
        ("figures", [0.5], "its config or its figures are no JSON object"),
        ("calibration", {"temperature": -1, "source": "x"}, "its calibration: temperature -1; expected 0.01 to 100; export"),
        ("calibration", {"temperature": "hot"}, "its calibration.temperature: Input should be a valid number"),
        ("preprocessing", {}, "of another version of cifar_flax: it has no preprocessing.image_shape; export it again"),
    ],
)
def test_a_whole_file_that_states_what_cannot_be_is_refused_in_a_line(path, part, content, message):
    rewrite(path, load_file(path), {part: json.dumps(content)})
    with pytest.raises(UserError) as error:
        read_weights(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_flipped_bit_or_a_missing_tail_is_found(path):
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    for place in (8 + content[8:].index(b"0.5"), header + 5, len(content) - 1):
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"damaged|not a safetensors file"):
            read_weights(path)
    path.write_bytes(content[:-1])
    with pytest.raises(UserError, match="not a safetensors file, or cut short"):
        read_weights(path)


def test_other_files_are_refused_in_a_line(tmp_path):
    save_file({"x": np.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"has no config; expected a file that export --format=safetensors wrote"):
        read_weights(tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="no such file"):
        read_weights(tmp_path / "none.safetensors")


def test_a_kernel_beyond_half_precision_is_refused(network, tmp_path):
    large = jax.tree.map(lambda x: x * 1e6, dict(network.variables))
    large = Network(network.config, PREPROCESSING, large, "large")
    with pytest.raises(UserError, match="does not fit into float16"):
        write_weights(tmp_path / "net.safetensors", large)
    write_weights(tmp_path / "net.safetensors", large, KernelDtype.BFLOAT16)


def test_other_libraries_can_read_the_file(path):
    tensors = load_file(path)
    assert tensors["params/block0_conv0/kernel"].shape == (3, 3, 3, 4)
    assert tensors["params/block0_conv0/kernel"].dtype == np.float16
    assert tensors["batch_stats/block0_conv0_norm/var"].dtype == np.float32


def test_bundled_networks_are_found_by_name(path, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", path.parent)
    assert pretrained.pretrained_names() == ("net",)
    assert json.dumps(pretrained.load_pretrained("net").figures) == '{"top1": 0.5}'
    with pytest.raises(UserError, match="no pretrained network 'nets'; expected one of net"):
        pretrained.load_pretrained("nets")


def test_a_name_that_is_a_folder_too_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fast").mkdir()
    with pytest.raises(UserError, match=r"type \./fast or pretrained:fast"):
        pretrained.load_weights("fast")
    assert pretrained.load_weights("./fast") is None
    assert pretrained.load_weights("pretrained:fast").name == "fast"


def test_a_name_that_is_a_folder_of_weights_too_is_refused(network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "fast", network, KernelDtype.FLOAT32)
    with pytest.raises(UserError, match=r"^fast: both a path here and .*; type \./fast or pretrained:fast$"):
        pretrained.load_weights("fast")
    assert pretrained.load_weights("./fast").figures == {"top1": 0.5}
    assert not pretrained.is_bundled("fast")
    assert not pretrained.is_bundled("./fast")
    assert pretrained.load_weights(Path("fast")).figures == {"top1": 0.5}  # no name, but a path
    assert pretrained.is_bundled("pretrained:fast")
    (tmp_path / "fast").rename(tmp_path / "mine")
    assert pretrained.is_bundled("fast")

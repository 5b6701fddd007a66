"""`hf:USER/NAME`, with the client of the Hub replaced by one that copies from a folder."""

import shutil
import sys
from types import ModuleType

import numpy as np
import pytest

from cifar_flax.errors import UserError
from cifar_flax.export.huggingface import write_folder
from cifar_flax.run import load_network
from cifar_flax.runtime.flag_values import KernelDtype
from tests.conftest import tiny_split


class Client(ModuleType):
    """huggingface_hub, as far as it is used: `repositories` maps USER/NAME to a folder, or to what is raised."""

    def __init__(self, cache):
        super().__init__("huggingface_hub")
        self.cache, self.repositories, self.fetched = cache, {}, []
        self.errors = ModuleType("huggingface_hub.errors")
        self.errors.RepositoryNotFoundError = type("RepositoryNotFoundError", (Exception,), {})
        self.errors.RevisionNotFoundError = type("RevisionNotFoundError", (Exception,), {})
        self.errors.EntryNotFoundError = type("EntryNotFoundError", (Exception,), {})
        self.errors.LocalEntryNotFoundError = type("LocalEntryNotFoundError", (self.errors.EntryNotFoundError,), {})

    def hf_hub_download(self, repository, file, revision=None):
        found = self.repositories.get(repository, self.errors.RepositoryNotFoundError())
        if isinstance(found, Exception):
            raise found
        if revision not in (None, "v1"):
            raise self.errors.RevisionNotFoundError
        self.fetched.append((repository, file, revision))
        if not (found / file).exists():
            raise self.errors.EntryNotFoundError
        return str(shutil.copy(found / file, self.cache))


@pytest.fixture
def client(tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir()
    client = Client(tmp_path / "cache")
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    return client


def test_a_repository_gives_the_network_that_was_exported(client, make_network, tmp_path):
    network, images = make_network(), tiny_split(5, 3).images
    write_folder(tmp_path / "folder", network, KernelDtype.FLOAT32)
    client.repositories["me/lines"] = tmp_path / "folder"
    loaded = load_network("hf:me/lines@v1")
    assert (loaded.name, loaded.file_stem) == ("me/lines@v1", "lines@v1")
    np.testing.assert_array_equal(loaded.logits(images), network.logits(images))
    assert client.fetched == [("me/lines", "config.json", "v1"), ("me/lines", "model.safetensors", "v1")]


def refusal(name):
    with pytest.raises(UserError) as error:
        load_network(name)
    assert str(error.value).startswith(f"{name}: ")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_cannot_be_had_is_said_in_a_line(client, tmp_path):
    client.repositories["me/offline"] = client.errors.LocalEntryNotFoundError("Connection error\nand more")
    client.repositories["me/slow"] = TimeoutError("read timed out\nafter 10 s")
    client.repositories["me/empty"] = tmp_path
    assert "no such repository" in refusal("hf:me/nothing")
    assert "cannot be reached" in refusal("hf:me/offline")
    assert "(TimeoutError: read timed out)" in refusal("hf:me/slow")
    assert "it has no config.json" in refusal("hf:me/empty")
    assert "no revision v2" in refusal("hf:me/empty@v2")
    for name in ("hf:fast", "hf:", "hf:a/b/c", "hf:../x/y"):
        assert "expected hf:USER/NAME" in refusal(name)


def test_weights_of_others_are_not_even_downloaded(client, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "model.safetensors").write_bytes(b"gigabytes")
    client.repositories["big/llama"] = tmp_path
    assert "not a network of cifar_flax" in refusal("hf:big/llama")
    assert client.fetched == [("big/llama", "config.json", None)]


def test_a_missing_library_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install -c constraints.txt -e '.[huggingface]'" in refusal("hf:me/lines")

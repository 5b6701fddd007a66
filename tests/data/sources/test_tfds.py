import os
import shutil
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from cifar_flax.config import DataConfig
from cifar_flax.data import cache
from cifar_flax.data.dataset import Dataset
from cifar_flax.data.loading import load_dataset
from cifar_flax.data.sources import archives, tfds
from cifar_flax.data.splits import training_splits
from cifar_flax.errors import RunFailed, UserError


@pytest.fixture
def tfds_dir(tiny_tfds_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tiny_tfds_dir))
    return tiny_tfds_dir


@pytest.fixture
def no_child(monkeypatch):
    """Fails the test when a child process is started."""

    def started(*arguments, **options):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "run", started)


@pytest.fixture
def stub_child(monkeypatch):
    """Answers requests in place of the child, and records them."""
    requests = []

    def answer(request):
        requests.append(request)
        return {"hosts": ["images.example"]} if request["action"] == "hosts" else {}

    monkeypatch.setattr(tfds, "run_child", answer)
    return requests


def test_tfds_and_both_tarballs_give_the_same_bytes(tfds_dir, binary_tarball, python_tarball, tiny):
    tfds.prepare("cifar100")
    for key, path in (("binary", binary_tarball), ("python", python_tarball)):
        cache.write(key, archives.read(path, "cifar100", allow_unverified=True).splits, "a test")
    for split, data in tiny.items():
        assert len({str(cache.manifest(name).hashes(split)) for name in ("cifar100", "binary", "python")}) == 1
        read = cache.read("cifar100", split)
        np.testing.assert_array_equal(read.images, data.images)
        assert (read.class_names, read.coarse_names) == (data.class_names, data.coarse_names)
    assert not {module for module in sys.modules if module.partition(".")[0] in ("tensorflow", "tensorflow_datasets")}


def test_user_tfds_directory_comes_before_the_network(tfds_dir, tiny, monkeypatch):
    monkeypatch.setattr(tfds, "reachable", lambda hosts: set())
    data = load_dataset(DataConfig(name="cifar100"), "train")
    np.testing.assert_array_equal(data.images, tiny["train"].images)
    monkeypatch.setattr(tfds, "prepare", None)  # from now on it is in the cache
    assert len(load_dataset(DataConfig(name="cifar100"), "test")) == len(tiny["test"])
    assert isinstance(data, Dataset)
    assert "tensorflow" not in sys.modules


@pytest.mark.slow
def test_one_channel_any_size_and_validation_for_test(tfds_dir):
    with pytest.raises(UserError, match=r"config\.data\.image_size: the images of sketches differ in size"):
        tfds.prepare("sketches")
    tfds.prepare("sketches", 16)
    train, test = (cache.read(cache.key_of("sketches", 16), split) for split in ("train", "test"))
    assert train.images.shape == (6, 16, 16, 1)
    assert len(test) == 4
    assert train.class_names == ("dark", "light")
    assert train.coarse_labels is None
    for data in (train, test):
        np.testing.assert_array_equal(data.images[:, 8, 8, 0], 200 * data.labels)


@pytest.mark.slow
def test_a_validation_split_of_the_set_is_kept(tfds_dir):
    config = DataConfig(name="squares/open")
    splits = {split: load_dataset(config, split) for split in ("train", "validation", "test")}
    assert {split: np.unique(data.images).tolist() for split, data in splits.items()} == {
        "train": [106],
        "validation": [104],
        "test": [102],
    }
    assert len(training_splits(config)[1]) == 4


@pytest.mark.slow
def test_a_test_split_without_labels_is_left_out_and_validation_is_in_its_place(tfds_dir, capfd):
    tfds.prepare("squares/blind")
    key = cache.key_of("squares/blind")
    assert list(cache.manifest(key).splits) == ["train", "test"]
    assert np.unique(cache.read(key, "test").images).tolist() == [104]
    lines = capfd.readouterr().err.splitlines()
    assert "squares/blind: left out: the test split, which has no labels" in lines
    assert (
        "squares/blind: has no test split; its validation pictures are it, and training validates with some of train" in lines
    )


def test_newest_version_is_found_without_starting_anything(tmp_path, monkeypatch, no_child):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    for folder in ("a/1.9.0", "a/1.10.0", "a/downloads", "b/big/1.0.0", "b/small/1.0.0"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "dataset_info.json").touch()
    (tmp_path / "a/2.0.0.incompleteXYZ").mkdir()
    find = tfds.prepared_directory
    assert find("a") == tmp_path / "a/1.10.0"
    assert find("a:1.9.0") == tmp_path / "a/1.9.0"
    assert find("b/big") == tmp_path / "b/big/1.0.0"
    assert find("nothing") is find("a:3.0.0") is find("b/other") is None
    with pytest.raises(UserError, match="name one of b/big, b/small"):
        find("b")


@pytest.mark.parametrize("name", ["", "../x", "a b", "a/b/c", "/etc", "a:1", "*"])
def test_names_of_no_data_set_are_refused(name, no_child):
    with pytest.raises(UserError, match=r"config\.data\.name: no data set is called"):
        tfds.prepare(name)


def test_unknown_set_is_refused_with_its_neighbours():
    with pytest.raises(UserError, match=r"has no cifar1000; did you mean cifar100"):
        tfds.prepare("cifar1000")


def test_without_tensorflow_no_process_is_started(monkeypatch, no_child):
    monkeypatch.setattr(tfds, "find_spec", lambda name: None)
    with pytest.raises(tfds.NotInstalled, match=r"TensorFlow Datasets, .* is not installed"):
        tfds.prepare("cifar100")


@pytest.mark.parametrize(
    ("answering", "bucket"),
    [({"images.example", tfds.BUCKET}, True), ({"images.example"}, False), ({tfds.BUCKET}, True)],
)
def test_download_goes_on_with_what_answers(stub_child, monkeypatch, answering, bucket):
    monkeypatch.setattr(tfds, "reachable", lambda hosts: answering & set(hosts))
    tfds.prepare("pets")
    assert [request["action"] for request in stub_child] == ["hosts", "download"]
    assert stub_child[1]["bucket"] is bucket


def test_nothing_is_downloaded_when_nothing_answers(stub_child, monkeypatch):
    monkeypatch.setattr(tfds, "reachable", lambda hosts: set())
    with pytest.raises(tfds.Unreachable, match=r"pets is not here, and none of images\.example, storage\.googleapis\.com"):
        tfds.prepare("pets")
    assert [request["action"] for request in stub_child] == ["hosts"]


def test_probe_is_bounded_when_names_are_never_resolved(monkeypatch):
    done, ended = threading.Event(), []

    def never_resolved(*arguments, **options):
        done.wait(60)
        ended.append(arguments)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", never_resolved)
    monkeypatch.setattr(tfds, "PROBE_SECONDS", 0.3)
    assert tfds.reachable(["images.example", "other.example"]) == set()
    assert ended == [], "nobody was to wait for the lookups"
    done.set()


def test_probe_asks_the_proxy(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        lines = []

        def proxy():
            connection, _ = server.accept()
            with connection:
                lines.append(connection.recv(1000).partition(b"\r\n")[0])
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")

        thread = threading.Thread(target=proxy)
        thread.start()
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        assert tfds.reachable(["images.example"]) == set()  # the proxy lets nobody through
        thread.join()
    assert lines[0].startswith(b"CONNECT images.example:443 ")


def test_killed_child_is_one_line(monkeypatch):
    killed = subprocess.CompletedProcess([], -9, b"")
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: killed)
    with pytest.raises(RunFailed, match="ended by SIGKILL; was there enough memory"):
        tfds.run_child({"action": "read", "name": "pets"})


def test_failing_child_is_one_line():
    with pytest.raises(RunFailed, match=r"^pets: TensorFlow Datasets failed with TypeError: ") as error:
        tfds.run_child({"action": "read", "name": "pets"})
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["cifar100-train.tfrecord*", "dataset_info.json", "features.json"])
def test_damaged_tfds_directory_is_one_line(tiny_tfds_dir, tmp_path, monkeypatch, file):
    shutil.copytree(tiny_tfds_dir / "cifar100", tmp_path / "tfds" / "cifar100")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    (path,) = (tmp_path / "tfds" / "cifar100" / "3.0.2").glob(file)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match=r"cifar100/3\.0\.2: cannot be read .*remove it") as error:
        tfds.prepare("cifar100")
    assert "\n" not in str(error.value)
    assert cache.read("cifar100", "train") is None


DOWNLOAD = """
import sys
import numpy as np
import tensorflow_datasets as tfds
from cifar_flax.data.sources import tfds_worker

class Spots(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
            "image": tfds.features.Image(shape=(8, 8, 3)), "label": tfds.features.ClassLabel(num_classes=2)}))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(5):
            yield i, {"image": np.full((8, 8, 3), i, np.uint8), "label": i % 2}

sys.argv[1:] = ['{"action": "download", "name": "spots", "image_size": null, "bucket": true, "data_dir": "%s"}' % sys.argv[1]]
tfds_worker.main()
"""


@pytest.mark.slow
def test_download_prepares_in_the_tfds_directory_and_falls_back_from_the_bucket(tmp_path):
    """The bucket cannot have this set; without a network it cannot even be asked."""
    environment = {**os.environ, **tfds.QUIET, "TMPDIR": str(tmp_path)}  # TFDS leaves folders there
    child = subprocess.run(
        [sys.executable, "-c", DOWNLOAD, tmp_path / "tfds"], env=environment, capture_output=True, text=True, check=True
    )
    assert child.stdout == '{"splits": {"train": 5}}'
    assert (tmp_path / "tfds" / "spots" / "1.0.0" / "dataset_info.json").is_file()
    assert sorted(cache.read("spots", "train").images[:, 0, 0, 0]) == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_the_real_cifar100_has_its_classes_and_superclasses(cifar100_cache, monkeypatch):
    monkeypatch.setenv("CIFAR_FLAX_CACHE", cifar100_cache)
    train = cache.read("cifar100", "train")
    test = cache.read("cifar100", "test")
    for data, count in ((train, 50_000), (test, 10_000)):
        assert data.images.shape == (count, 32, 32, 3)
        assert (np.bincount(data.labels) == count // 100).all()
        assert (np.bincount(data.coarse_labels) == count // 20).all()
    assert (train.class_names[0], train.class_names[99], train.coarse_names[0]) == ("apple", "worm", "aquatic_mammals")
    pairs = set(zip(train.labels.tolist(), train.coarse_labels.tolist(), strict=True))
    assert len(pairs) == 100  # each class is in one superclass
    of_fish = {train.class_names[fine] for fine, coarse in pairs if train.coarse_names[coarse] == "fish"}
    assert of_fish == {"aquarium_fish", "flatfish", "ray", "shark", "trout"}

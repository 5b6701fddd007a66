"""The images that a run had, by what it recorded of them; other images are refused."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cifar_flax.config import DataConfig
from cifar_flax.data import cache
from cifar_flax.data.dataset import Dataset
from cifar_flax.data.loading import Loaded, data_identity, load_splits, read_cached
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.data.sources.split_names import SPLITS
from cifar_flax.data.splits import divide, validates_with_own
from cifar_flax.errors import UserError
from cifar_flax.files.redact import visible

SHOWN = 8  # class names in a message
READ_BYTES = 2**30  # of images that are read at once; of more, each when it is asked for


def load_as_trained(data: DataConfig, record: Preprocessing, split: str, run: str) -> Dataset:
    """Loads a split of the data set that a run was trained on, and compares it with what the run recorded.

    Classes that are the same in another order are brought into the run's.

    Args:
      data: of the run's config.
      record: the run's dataset.json. Hashes that it lacks are not compared.
      split: "train" (without the validation images), "validation" or "test".
      run: the run's name, for messages.

    Raises:
      UserError: there is no such split, the data are missing, or they are not what the run had: other classes or another image
        shape; for "train" and "validation" other training images; for "test" other test images.
    """
    if split not in SPLITS:
        raise UserError(f"no split {split!r}; expected one of {', '.join(SPLITS)}")
    loaded = load_splits(
        data, lambda there: ["train" if split == "validation" and not validates_with_own(data, there) else split]
    )
    ordered = _as_recorded(loaded, data, record, split, run)
    if split == "test" or validates_with_own(data, loaded.hashes):
        return ordered
    train, validation = divide(ordered, data)
    chosen = train if split == "train" else validation
    if chosen is None:
        raise UserError(
            f"{run}: trained on all images, so that there is no validation split; a training of the same config with "
            "--config.data.validation_fraction=.1 has one, and calibrate takes it as --validated"
        )
    return chosen.in_memory() if chosen.images.nbytes <= READ_BYTES else chosen


def cached_test_images(data: DataConfig, record: Preprocessing, run: str, most_bytes: int) -> Dataset | None:
    """The test split as `load_as_trained` gives it, where the cache has it and its images have at most `most_bytes`; else None.

    Raises:
      UserError: as `load_as_trained`.
    """
    loaded = read_cached(data, "test", most_bytes)
    return None if loaded is None else _as_recorded(loaded, data, record, "test", run)


def _as_recorded(loaded: Loaded, data: DataConfig, record: Preprocessing, split: str, run: str) -> Dataset:
    """The one data set that was loaded, in the run's order of classes, after a comparison with what the run recorded."""
    ((stored, dataset),) = loaded.datasets.items()
    ordered = in_order_of(dataset, record, data_identity(data), run)
    renumbered = {} if ordered is dataset else _label_hashes(ordered, stored)
    _check_hashes(data, record, split, run, loaded.recorded("test" if split == "test" else "train"), renumbered)
    return ordered


def in_order_of(dataset: Dataset, record: Preprocessing, name: str, run: str) -> Dataset:
    """The data set with classes and superclasses in the order in which a run had them; itself where it has that order.

    Args:
      dataset: labelled images.
      record: the run's dataset.json.
      name: of the data set, for the message.
      run: the run's name, for the message.

    Raises:
      UserError: it has other classes, or images of another shape.
    """
    shape = tuple(dataset.images.shape[1:])
    if shape != record.image_shape:
        sizes = [" x ".join(map(str, each)) for each in (shape, record.image_shape)]
        raise UserError(f"{name} has images of {sizes[0]} pixels; {run} was trained on {sizes[1]}. Nothing was scored.")
    coarse_names = record.coarse_names if dataset.coarse_names else ()  # scores need none
    for there, here in ((dataset.class_names, record.class_names), (dataset.coarse_names, coarse_names)):
        if sorted(there) != sorted(here):
            raise UserError(
                f"{name} has the classes {_few(there, here)}; {run} was trained on {_few(here, there)}. Nothing was scored."
            )
    if (dataset.class_names, dataset.coarse_names) == (record.class_names, coarse_names):
        return dataset
    coarse = dataset.coarse_labels
    return replace(
        dataset,
        labels=_renumbered(dataset.labels, dataset.class_names, record.class_names),
        class_names=record.class_names,
        coarse_labels=None if coarse is None else _renumbered(coarse, dataset.coarse_names, coarse_names),
        coarse_names=coarse_names,
        coarse_of_fine=(),
    )


def _renumbered(labels: np.ndarray, there: Sequence[str], here: Sequence[str]) -> np.ndarray:
    numbers = {name: number for number, name in enumerate(here)}
    return np.array([numbers[name] for name in there], np.int32)[labels]


def _label_hashes(reordered: Dataset, stored: str) -> dict[str, str]:
    prefix = "validation_" if stored == "validation" else ""
    return {prefix + name: cache.hash_of(array) for name, array in reordered.arrays().items() if name != "images"}


def _check_hashes(
    data: DataConfig, record: Preprocessing, split: str, run: str, actual: dict[str, str], renumbered: dict[str, str]
) -> None:
    """Compares what the run recorded with the data, and `renumbered` in place of their labels, where that is not empty."""
    recorded = record.test_hashes if split == "test" else record.hashes
    actual = actual | renumbered
    if renumbered:
        recorded, actual = (
            {name: digest for name, digest in digests.items() if name in renumbered or name.endswith("images")}
            for digests in (recorded, actual)
        )
    if not recorded or actual == recorded:
        return
    name = data_identity(data)
    before = f" (it was {visible(record.source)})" if record.source not in ("", name) else ""
    consequence = {
        "train": "the images are not those that it was trained on",
        "validation": "its validation images cannot be told from those that it was trained on",
        "test": "the scores would be of other images than before",
    }[split]
    raise UserError(
        f"{name}{before}: the {'test' if split == 'test' else 'training'} images have changed since {run} was trained: "
        f"{consequence}. Put them back, or train anew in another --workdir. Nothing was scored."
    )


def _few(names: Sequence[str], others: Sequence[str]) -> str:
    """Names for a message: of many, those that the others lack come first."""
    ordered = names if len(names) <= SHOWN else sorted(names, key=lambda name: name in others)
    return ", ".join([*ordered[:SHOWN], *([f"... ({len(names)} in all)"] if len(names) > SHOWN else [])]) or "none"

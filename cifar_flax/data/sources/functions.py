"""A data set that a user's function returns: `config.data.name = "my_mixer:digits"`."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cifar_flax.config.imports import import_object
from cifar_flax.config.user_code import user_code
from cifar_flax.data import cache
from cifar_flax.data.class_names import checked_names
from cifar_flax.data.dataset import Dataset, check_splits, checked_labels
from cifar_flax.data.pictures.fit import fit_all
from cifar_flax.data.sources.held_out import as_test_split
from cifar_flax.data.sources.source import Source
from cifar_flax.data.sources.split_names import SPLITS
from cifar_flax.errors import ConfigError, UserError
from cifar_flax.files.checksum import sha256_of_arrays

FIELD = "config.data.name"


class FunctionSource(Source):
    """The result of `module:function`, called without arguments once per load and copied into the cache where it is new.

    The function returns `{"train": Dataset, "test": Dataset}`, or "train" alone, and a split "validation" where there is one:
    images uint8 [N, H, W, 1 or 3], which may be memory-mapped, labels of any integer type [N]. It must return the same data at
    each call, since a run that resumes compares their hashes.
    """

    def __init__(self, name: str, image_size: int | None = None) -> None:
        self.name = name
        self._function: Any = import_object(name, FIELD)
        module, _, function = name.partition(":")
        file = getattr(sys.modules[module], "__file__", None)
        # Two projects with equal names do not share an entry of the cache.
        super().__init__(f"{Path(file).absolute() if file else module}:{function}", image_size)

    def version(self) -> str:
        """Names the content by its hash."""
        return self._version

    @cached_property
    def _version(self) -> str:
        arrays = {f"{split}/{name}": x for split, data in self._splits.items() for name, x in data.arrays().items()}
        train = self._splits["train"]
        return f"function {self.name}, SHA-256 {sha256_of_arrays(arrays, repr((train.class_names, train.coarse_names)))}"

    def build(self) -> None:
        """Copies the result into the cache."""
        cache.write(self.key(), self._splits, self.version(), self.name)

    @cached_property
    def _splits(self) -> dict[str, Dataset]:
        """The function's result, checked.

        Raises:
          ConfigError: the function raises, or returns something else than splits of one data set.
        """
        result = self._call()
        datasets = list(result.values()) if isinstance(result, dict) else []
        if not datasets or "train" not in result or not all(isinstance(dataset, Dataset) for dataset in datasets):
            raise self._error(f"returned {_describe(result)}, expected {{'train': Dataset, 'test': Dataset}}, or 'train' alone")
        if unknown := [split for split in result if split not in SPLITS]:
            raise self._error(f"returned a split {unknown[0]!r}, expected {', '.join(SPLITS)}")
        try:
            splits = {split: self._converted(split, dataset) for split, dataset in result.items()}
            check_splits(splits)
        except (ValueError, UserError) as e:
            raise self._error(f"returned a data set that cannot be used: {e}") from None
        return as_test_split(self.name, splits)

    def _call(self) -> Any:
        if not callable(self._function):
            raise ConfigError(f"{FIELD}: {self.name} is a {type(self._function).__name__}, expected a function")
        with user_code(FIELD, f"{self.name}()", self._function):
            return self._function()

    def _converted(self, split: str, dataset: Dataset) -> Dataset:
        """The data set with int32 labels, tuples of names, and images of the size that the config asks for."""
        images, names, coarse_names = (
            dataset.images,
            _names(f"class_names of {split}", dataset.class_names),
            _names(f"coarse_names of {split}", dataset.coarse_names),
        )
        _check_images(split, images)
        if not names:
            raise ValueError(f"class_names of {split} are empty, expected the name of each class, in the order of the labels")
        labels = np.asarray(dataset.labels)
        if labels.dtype.kind in "OSTU":
            raise ValueError(
                f"labels of {split} are {_describe(labels)}, expected integers; "
                "names, labels = np.unique(labels, return_inverse=True) numbers them"
            )
        labels = checked_labels(split, labels, len(images), len(names))
        coarse = dataset.coarse_labels
        if coarse is not None:
            coarse = checked_labels(f"{split}, coarse", np.asarray(coarse), len(images), len(coarse_names))
        images = fit_all(images, self.image_size)
        return replace(
            dataset, images=images, labels=labels, class_names=names, coarse_labels=coarse, coarse_names=coarse_names
        )

    def _error(self, problem: str) -> ConfigError:
        return ConfigError(f"{FIELD}: {self.name}() {problem}")


def _check_images(split: str, images: Any) -> None:
    """Refuses what is no uint8 [N, H, W, 1 or 3] with N at least 1, and says what makes it one."""
    hint = ""
    if not isinstance(images, np.ndarray):
        hint = "; np.asarray(images) makes an array of NumPy" if hasattr(images, "__array__") else ""
    elif images.ndim == 4 and images.size and images.shape[-1] not in (1, 3) and images.shape[1] in (1, 3):
        hint = "; images.transpose(0, 2, 3, 1) brings the channels last"
    elif images.dtype.kind == "f":
        hint = "; (255 * images).round().astype(np.uint8) converts values in [0, 1]"
    elif images.dtype == np.uint8 and images.ndim == 4 and images.size and images.shape[-1] in (1, 3):
        return
    raise ValueError(f"images of {split} are {_describe(images)}, expected uint8 (N, H, W, 1 or 3), N at least 1{hint}")


def _names(where: str, names: Any) -> tuple[str, ...]:
    if not isinstance(names, Iterable) or isinstance(names, str | bytes | set | frozenset | Mapping):
        raise UserError(f"{where} are {_describe(names)}, expected a tuple of names, in the order of the labels")
    return checked_names(where, (name if isinstance(name, bytes) else str(name) for name in names))


def _describe(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_describe(item)}" for key, item in value.items()) + "}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return "None" if value is None else type(value).__name__

"""The worker process that downloads and reads with TensorFlow Datasets; `sources.tfds` starts it.

    python -m cifar_flax.data.sources.tfds_worker '{"action": "read", "name": "cifar100", "directory": "...", ...}'

It answers with one line of JSON on standard output; progress and the output of TFDS go to standard error.
"""

import difflib
import json
import logging
import math
import os
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from cifar_flax.data import cache
from cifar_flax.data.class_names import checked_names
from cifar_flax.data.dataset import Dataset, checked_labels
from cifar_flax.data.pictures.fit import fit_picture, to_picture
from cifar_flax.data.sources.held_out import as_test_split, warn_of_no_test_split, warn_of_unlabelled_test_split
from cifar_flax.data.sources.split_names import SPLITS
from cifar_flax.data.sources.tfds import ORIGIN
from cifar_flax.errors import ConfigError, UserError
from cifar_flax.files.installation import cache_folder
from cifar_flax.files.redact import named_reason
from cifar_flax.runtime.memory import check_allocation


def main() -> None:
    """Carries out the request in the only argument and answers on standard output."""
    answer_to = os.dup(1)
    os.dup2(2, 1)  # keeps the output of TFDS out of the answer
    logging.basicConfig(format="%(message)s")  # of warnings, as in the parent
    request = json.loads(sys.argv[1])
    actions: dict[str, Callable[..., dict[str, Any]]] = {"hosts": _hosts, "download": _download, "read": _read}
    action = actions[request.pop("action")]
    try:
        answer = action(**request)
    except UserError as e:
        answer = {"config_error" if isinstance(e, ConfigError) else "user_error": str(e)}
    except KeyboardInterrupt:  # the parent receives and reports it too
        sys.exit(130)
    except Exception as e:  # TFDS, TensorFlow and the network raise nearly anything
        answer = {"failure": f"{request['name']}: TensorFlow Datasets failed with {named_reason(e)}"}
    with os.fdopen(answer_to, "w") as file:
        json.dump(answer, file)


def _hosts(name: str) -> dict[str, Any]:
    """Lists the hosts of the downloads of a data set, without importing TensorFlow or using the network."""
    import tensorflow_datasets as tfds

    base = name.partition("/")[0].partition(":")[0]
    try:
        urls = tfds.builder_cls(base).url_infos or {}
    except tfds.core.registered.DatasetNotFoundError:
        near = difflib.get_close_matches(base, tfds.list_builders(with_community_datasets=False), 3)
        hint = f"did you mean {' or '.join(near)}?" if near else "the names are on https://www.tensorflow.org/datasets/catalog"
        if os.path.exists(name):
            hint = f"for the pictures there, name it folder:{name}; for an archive, import it"
        raise ConfigError(f"config.data.name: TensorFlow Datasets has no {name}; {hint}") from None
    return {"hosts": list(dict.fromkeys(filter(None, (urlsplit(url).hostname for url in urls))))}


def _download(name: str, image_size: int | None, data_dir: str, bucket: bool) -> dict[str, Any]:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.utils import gcs_utils

    builder = tfds.builder(name, data_dir=data_dir)
    for from_bucket in (True, False) if bucket else (False,):
        gcs_utils._is_gcs_disabled = not from_bucket  # off by default in TFDS 4.9.10
        config = tfds.download.DownloadConfig(try_download_gcs=from_bucket)
        try:
            builder.download_and_prepare(download_config=config)
            break
        except Exception as e:  # the bucket is a shortcut, the original host must work
            if not from_bucket:
                raise
            _print(f"{name}: not from the bucket ({named_reason(e)}); trying the original host")
    return _read(name, image_size, builder.data_dir)


def _read(name: str, image_size: int | None, directory: str) -> dict[str, Any]:
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(directory)
        stored = list(builder.info.splits)
        _print(f"{name}: copying {directory} into the cache {cache_folder()}")
        classes, shape = _classes(tfds, builder, name), _shape(builder, name, image_size)
        if "test" in stored and _is_unlabelled(tfds, builder, "test"):
            warn_of_unlabelled_test_split(name)
            stored.remove("test")
        splits = {split: _read_split(tfds, builder, name, split, shape, classes) for split in SPLITS if split in stored}
    except UserError:
        raise
    except Exception as e:  # TensorFlow, protobuf and JSON raise their own errors for a damaged file
        raise UserError(f"{directory}: cannot be read ({named_reason(e)}); if it is damaged, remove it and try again") from None
    if not splits:
        raise ConfigError(f"config.data.name: {name} has none of the splits {', '.join(SPLITS)}, only {', '.join(stored)}")
    splits = as_test_split(name, splits)
    warn_of_no_test_split(name, splits)
    cache.write(cache.key_of(name, image_size), splits, f"{ORIGIN}, {builder.info.full_name}", name)
    return {"splits": {split: len(dataset) for split, dataset in splits.items()}}


def _classes(tfds: Any, builder: Any, name: str) -> dict[str, Any]:
    """The features of classes and, where there are any, superclasses of a set of labelled images."""
    features = dict(builder.info.features)
    classes = {
        key: feature for key in ("label", "coarse_label") if isinstance(feature := features.get(key), tfds.features.ClassLabel)
    }
    if "label" not in classes or not isinstance(features.get("image"), tfds.features.Image):
        raise ConfigError(f"config.data.name: {name} is not an image-classification data set: it has {', '.join(features)}")
    return classes


def _shape(builder: Any, name: str, image_size: int | None) -> tuple[int, int, int]:
    """Height, width and channels of the cached images."""
    feature = builder.info.features["image"]
    height, width, channels = feature.shape
    if image_size is None and (height is None or width is None):
        raise ConfigError(f"config.data.image_size: the images of {name} differ in size; choose one, such as 64")
    if channels not in (1, 3) or feature.np_dtype != np.uint8:
        kind = f"{feature.np_dtype} images with {channels} channels"
        raise ConfigError(f"config.data.name: {name} has {kind}, expected uint8 with 1 or 3")
    return image_size or height, image_size or width, channels


def _is_unlabelled(tfds: Any, builder: Any, split: str) -> bool:
    """Whether no picture of a split has a label; the first that has one ends it, and no picture is decoded."""
    examples = _examples(tfds, builder, split, image=tfds.decode.SkipDecoding())
    return bool(builder.info.splits[split].num_examples) and all(example["label"] == -1 for example in examples)


def _read_split(
    tfds: Any, builder: Any, name: str, split: str, shape: tuple[int, int, int], classes: dict[str, Any]
) -> Dataset:
    count = builder.info.splits[split].num_examples
    check_allocation(f"{name}: {split}", count * math.prod(shape))
    images = np.empty((count, *shape), np.uint8)
    labels = {key: np.empty(count, np.int32) for key in classes}
    ids: list[Any] = []
    row = 0
    for row, example in enumerate(_with_bar(_examples(tfds, builder, split), split, count), 1):
        image = example["image"]
        images[row - 1] = image if image.shape[:2] == shape[:2] else fit_picture(to_picture(image), shape)
        for key, column in labels.items():
            column[row - 1] = example[key]
        if "id" in example:
            ids.append(example["id"])
    if row != count:
        raise OSError(f"{row} of {count} examples in {split}")
    order = np.argsort(np.array(ids), kind="stable") if ids else np.arange(count)
    names = {key: checked_names(name, classes[key].names) for key in labels}
    rows = {key: checked_labels(f"{name}: {split}", column[order], count, len(names[key])) for key, column in labels.items()}
    return Dataset(images[order], rows["label"], names["label"], rows.get("coarse_label"), names.get("coarse_label", ()))


def _examples(tfds: Any, builder: Any, split: str, **decoders: Any) -> Any:
    """The examples in the stored order."""
    config = tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1)  # one file after the other
    return tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False, read_config=config, decoders=decoders or None))


def _with_bar(examples: Any, split: str, count: int) -> Any:
    from tqdm import tqdm

    return tqdm(examples, desc=split, total=count, unit=" images", disable=None)


def _print(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()

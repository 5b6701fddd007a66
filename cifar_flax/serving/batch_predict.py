"""Classifies as many pictures as there are: files, folders and addresses."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from cifar_flax.errors import CifarFlaxError, UserError
from cifar_flax.serving.classifier import Classifier, Prediction
from cifar_flax.serving.fetch.client import fetch

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff")  # of what `images.decode` reads
AHEAD = 64  # pictures that are read ahead of those that are classified

Answer = list[Prediction] | CifarFlaxError


def find(arguments: Sequence[str]) -> list[str]:
    """The files and addresses that the arguments name, in their order.

    A folder stands for the pictures in it and below, sorted, without hidden ones; or for itself, if there are none.
    """
    names: list[str] = []
    for argument in arguments:
        folder = Path(argument)
        names += [argument] if _is_address(argument) or not folder.is_dir() else _pictures(folder) or [argument]
    return names


def classify_all(
    classifier: Classifier,
    names: Sequence[str],
    top: int = 5,
    allow_private: bool = False,
) -> Iterator[tuple[str, Answer]]:
    """Pairs each name with its `top` predictions, or with what kept it from being read, in their order.

    Args:
      classifier: used for whole batches, while threads read and resize.
      names: paths and addresses.
      top: classes a picture.
      allow_private: whether addresses may lead into private networks.
    """

    def view(name: str) -> np.ndarray | CifarFlaxError:
        try:
            return classifier.view(fetch(name, allow_private=allow_private) if _is_address(name) else _read(Path(name)))
        except CifarFlaxError as e:
            return e

    threads = ThreadPoolExecutor(os.cpu_count())
    try:
        for start in range(0, len(names), AHEAD):
            chunk = names[start : start + AHEAD]
            views = zip(chunk, threads.map(view, chunk), strict=True)
            while batch := list(islice(views, classifier.batch_size)):
                readable = [found for _, found in batch if not isinstance(found, CifarFlaxError)]
                probabilities = iter(classifier.probabilities(np.stack(readable)) if readable else ())
                for name, found in batch:
                    yield name, found if isinstance(found, CifarFlaxError) else classifier.rank(next(probabilities), top)
    finally:
        threads.shutdown(cancel_futures=True)  # what was read ahead in vain, after Ctrl-C


def _is_address(argument: str) -> bool:
    return "://" in argument


def _pictures(folder: Path) -> list[str]:
    below = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES)
    return [str(folder / path) for path in below if not any(part.startswith(".") for part in path.parts)]


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise UserError(f"no pictures in this folder (looked for *{', *'.join(SUFFIXES)})")
    try:
        return path.read_bytes()
    except OSError as e:
        raise UserError(e.strerror or str(e)) from None

"""Classifies any number of files, folders and web addresses."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice
from pathlib import Path

import numpy as np

from cifar_flax.data.pictures.files import SUFFIXES, hint_of_heic, pictures_in, read_bytes
from cifar_flax.data.pictures.isolated import IsolatedDecoder
from cifar_flax.errors import CifarFlaxError, UserError
from cifar_flax.network import Network, Prediction
from cifar_flax.runtime.background import in_order
from cifar_flax.runtime.flag_values import Fit
from cifar_flax.serving.fetch.client import fetch

View = np.ndarray | CifarFlaxError  # what the network sees of a picture, or why there is nothing to see

READ_AHEAD = 64  # pictures that are read while earlier ones are classified

Answer = list[Prediction] | CifarFlaxError


def expand(arguments: Sequence[str]) -> list[str]:
    """The files and addresses that the arguments name, in their order.

    A folder stands for the pictures in it and below, sorted, without hidden ones; or for itself, if there are none.
    Folders below it that cannot be listed follow, each by its name.
    """
    names: list[str] = []
    for argument in arguments:
        is_folder = not _is_address(argument) and os.path.isdir(argument)  # False where Path.is_dir raises
        unlisted: dict[Path, str] = {}
        pictures = [*pictures_in(Path(argument), unlisted), *unlisted] if is_folder else []
        names += [*map(str, pictures)] or [argument]
    return names


def classify_all(
    network: Network,
    names: Sequence[str],
    top: int = 5,
    allow_private: bool = False,
    fit: Fit = Fit.CROP,
    flip: bool = False,
) -> Iterator[tuple[str, Answer]]:
    """Pairs each name with its `top` predictions, or with what kept it from being read, in their order.

    Args:
      network: classifies batches, while threads read, decode and resize.
      names: paths and addresses.
      top: number of classes a picture.
      allow_private: whether addresses may lead into private networks.
      fit: as in `Network.predict`.
      flip: as in `Network.predict`.
    """
    workers = os.cpu_count() or 1
    threads = ThreadPoolExecutor(workers)
    with IsolatedDecoder(workers) as decoder:

        def view(name: str) -> View:
            try:
                data = fetch(name, allow_private=allow_private) if _is_address(name) else _read(Path(name))
                return network.view(decoder.decode_any(data), fit)
            except CifarFlaxError as e:
                return e

        try:
            views = in_order(lambda name: threads.submit(view, name), names, READ_AHEAD)
            for batch in _batches(names, network.picture_batch):
                seen = list(islice(views, len(batch)))
                images = [image for image in seen if not isinstance(image, CifarFlaxError)]
                probabilities = iter(network.probabilities(np.stack(images), flip) if images else ())
                for name, image in zip(batch, seen, strict=True):
                    yield name, image if isinstance(image, CifarFlaxError) else network.rank(next(probabilities), top)
        finally:
            threads.shutdown(cancel_futures=True)  # after Ctrl-C, nobody needs the pictures that were read ahead


def _batches(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Files `size` at a time and addresses, which may be slow, each alone.

    Never as they come: what is classified together has a part in the last bits of a probability.
    """
    for is_address, run in groupby(names, _is_address):
        group = list(run)
        step = 1 if is_address else size
        yield from (group[start : start + step] for start in range(0, len(group), step))


def _is_address(argument: str) -> bool:
    return "://" in argument


def _read(path: Path) -> bytes:
    if os.path.isdir(path):  # False where Path.is_dir raises
        try:
            os.scandir(path).close()
        except OSError as e:
            raise UserError(f"cannot be listed ({e.strerror})") from None
        looked = f" (looked for *{', *'.join(SUFFIXES)})"
        raise UserError(f"no pictures in this folder{hint_of_heic(path) or looked}")
    return read_bytes(path)

"""Classifies any number of files, folders and web addresses."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from cifar_flax.data.pictures.files import SUFFIXES, pictures_in, read_bytes
from cifar_flax.data.pictures.fit import Fit
from cifar_flax.data.pictures.isolated import IsolatedDecoder
from cifar_flax.errors import CifarFlaxError, UserError
from cifar_flax.network import Network, Prediction
from cifar_flax.serving.fetch.client import fetch

View = np.ndarray | CifarFlaxError  # what the network sees of a picture, or why there is nothing to see

READ_AHEAD = 64  # pictures that are read while earlier ones are classified

Answer = list[Prediction] | CifarFlaxError


def expand(arguments: Sequence[str]) -> list[str]:
    """The files and addresses that the arguments name, in their order.

    A folder stands for the pictures in it and below, sorted, without hidden ones; or for itself, if there are none.
    """
    names: list[str] = []
    for argument in arguments:
        folder = Path(argument)
        is_folder = not _is_address(argument) and folder.is_dir()
        names += [str(path) for path in pictures_in(folder)] or [argument] if is_folder else [argument]
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

        def view(name: str) -> np.ndarray | CifarFlaxError:
            try:
                data = fetch(name, allow_private=allow_private) if _is_address(name) else _read(Path(name))
                return network.view(decoder.decode_any(data), fit)
            except CifarFlaxError as e:
                return e

        try:
            for start in range(0, len(names), READ_AHEAD):
                chunk = names[start : start + READ_AHEAD]
                views = deque((name, threads.submit(view, name)) for name in chunk)
                while views:
                    batch = [*_ready(views, network.picture_batch)]
                    images = [image for _, image in batch if not isinstance(image, CifarFlaxError)]
                    probabilities = iter(network.probabilities(np.stack(images), flip) if images else ())
                    for name, image in batch:
                        yield name, image if isinstance(image, CifarFlaxError) else network.rank(next(probabilities), top)
        finally:
            threads.shutdown(cancel_futures=True)  # after Ctrl-C, nobody needs the pictures that were read ahead


def _ready(views: deque[tuple[str, Future[View]]], most: int) -> Iterator[tuple[str, View]]:
    """Takes the first view, which is waited for, and those after it that need no waiting."""
    name, view = views.popleft()
    yield name, view.result()
    for _ in range(most - 1):
        if not views or not views[0][1].done():
            return
        name, view = views.popleft()
        yield name, view.result()


def _is_address(argument: str) -> bool:
    return "://" in argument


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise UserError(f"no pictures in this folder (looked for *{', *'.join(SUFFIXES)})")
    return read_bytes(path)

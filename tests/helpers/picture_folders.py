"""Small pictures, folders of them with tables or without, and how they are read."""

import csv
import io
import os

import numpy as np
from PIL import Image

from cifar_flax.data.sources import archives


def save(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value, value, value)).save(path)


def png(seed=0):
    """The bytes of a file of 16 x 16 pixels of noise."""
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


def fill(folder, counts, first=0):
    """Pictures of classes, each of another grey."""
    for name, count in counts.items():
        for i in range(count):
            save(folder / name / f"{i:02}.png", first := first + 1)
    return folder


def greys(dataset):
    return sorted(dataset.images[:, 0, 0, 0].tolist())


def read(path, **options):
    return archives.read(path, "mine", **options).splits


def write_table(path, *rows, delimiter=","):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def refuse_to_list(monkeypatch, folder):
    """As the system does where a folder may not be read, but to root too."""
    scandir = os.scandir

    def refuse(path):
        if str(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)

"""CIFAR-10 and CIFAR-100 by their content: whatever form and order their rows come in, these are the ones."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cifar_flax.data.dataset import Dataset

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest
fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain
mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit
raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower
sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman
worm
"""
CIFAR100_SUPERCLASSES = """
aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices household_furniture insects
large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores medium_mammals
non-insect_invertebrates people reptiles small_mammals trees vehicles_1 vehicles_2
"""
SUPERCLASS_OF = """
4 1 14 8 0 6 7 7 18 3 3 14 9 18 7 11 3 9 7 11 6 11 5 10 7 6 13 15 3 15 0 11 1 10 12 14 16 9 11 5 5 19 8 8 15 13 14 17 18 10
16 4 17 4 2 0 17 4 18 17 10 3 2 12 12 16 12 1 9 19 2 10 0 1 16 12 9 13 15 13 16 19 2 4 6 19 5 5 8 19 18 1 2 15 6 0 17 8 14
13
"""  # of each class, in the order of their names
NAMES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "cifar10": (CIFAR10, ()),
    "cifar100": (tuple(CIFAR100.split()), tuple(CIFAR100_SUPERCLASSES.split())),
}

# `digest` of images and labels, computed 2026-11-27: of CIFAR-100 as TFDS 4.9.10 prepares it, and of CIFAR-10.
DIGESTS = {
    "cifar10": {
        "train": "6a3b2c04d0a79ce272dcdacaf0bc440275db5a8cbe3717521a28fada2ea0d2ed",
        "test": "65a6ffe079453e514083f99356b35e02cbfd581b4951e3937fae188974b79f39",
    },
    "cifar100": {
        "train": "776014bcbe2fb28f9a27795522fbb0730c0cea69aa583046f5c875ba644b6f40",
        "test": "1c374d85cfee838e6e1fccfb9b0cc5fc79cba530552dd67c928bf665f787466e",
    },
}
ROWS = {"train": 50_000, "test": 10_000}


def recognized(splits: Mapping[str, Dataset]) -> tuple[str, dict[str, Dataset]] | None:
    """Recognizes the data set whose rows these are, all of them and no others.

    Returns:
      "cifar10" or "cifar100", and the rows with the names, and in CIFAR-100 the superclasses, of the official archives, which
      some copies lack or misspell; None where it is neither.
    """
    if {split: len(dataset) for split, dataset in splits.items()} != ROWS:
        return None
    name = f"cifar{splits['train'].num_classes}"
    if name not in NAMES or any(dataset.images.shape[1:] != (32, 32, 3) for dataset in splits.values()):
        return None
    named = {split: _with_names(dataset, *NAMES[name]) for split, dataset in splits.items()}
    return (name, named) if {split: digest(dataset) for split, dataset in named.items()} == DIGESTS[name] else None


def _with_names(dataset: Dataset, class_names: tuple[str, ...], coarse_names: tuple[str, ...]) -> Dataset:
    coarse = dataset.coarse_labels
    if coarse_names and coarse is None:
        coarse = np.array(SUPERCLASS_OF.split(), np.int32)[dataset.labels]
    return replace(dataset, class_names=class_names, coarse_names=coarse_names, coarse_labels=coarse if coarse_names else None)


def digest(dataset: Dataset) -> str:
    """SHA-256 over the sorted SHA-256s of all rows: pixels, then class and superclass in a byte each."""
    columns = [dataset.labels, *([] if dataset.coarse_labels is None else [dataset.coarse_labels])]
    labels = np.stack(columns, 1).astype(np.uint8)
    rows = sorted(
        hashlib.sha256(np.ascontiguousarray(image).tobytes() + label.tobytes()).digest()
        for image, label in zip(dataset.images, labels, strict=True)
    )
    return hashlib.sha256(b"".join(rows)).hexdigest()

"""Imports a data set from a file or a folder into the cache.

    python launch/import_data.py --name=cifar100 --archive=cifar100.tar.gz
    python launch/import_data.py --name=flowers --archive=flowers.npz
    python launch/import_data.py --name=pets --archive=pets/ --image_size=64

Archives, or folders into which they were unpacked: CIFAR-10 and CIFAR-100, python or binary version, tarball or zip; Parquet
and Arrow files of Hugging Face; an .npz with train_images, train_labels, test_images and test_labels, or Keras' names for them;
pictures in train/CLASS/ and test/CLASS/, in CLASS/, or named by a CSV file. The last line says how to train on it.
"""

from cifar_flax.runtime import startup

if __name__ == "__main__":
    startup.start()  # before what takes long to import

import re
import sys
from pathlib import Path

from absl import flags

from cifar_flax.data import cache
from cifar_flax.data.sources import archives
from cifar_flax.errors import UserError
from cifar_flax.files.installation import cache_folder
from cifar_flax.runtime import app

_NAME = flags.DEFINE_string("name", None, "name of the data set in configs: cifar100, cifar10, or a new one", required=True)
_ARCHIVE = flags.DEFINE_string(
    "archive", None, "a file or a folder: CIFAR, .npz, .parquet, .arrow, pictures, or a .zip of them", required=True
)
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size",
    None,
    "pixels a side to resize to; set config.data.image_size to the same",
    lower_bound=4,
    upper_bound=1024,
)
_ALLOW_UNVERIFIED = flags.DEFINE_boolean("allow_unverified", False, "accept other rows as cifar10 or cifar100")
_TEST_FRACTION = flags.DEFINE_float(
    "test_fraction",
    None,
    "of each class, for the test split of a set without one; default: 0.2 of pictures in CLASS/, else 0",
    lower_bound=0,
    upper_bound=0.9,
)


def main() -> None:
    """Imports the archive and prints its splits and their place."""
    name, size = _NAME.value, _IMAGE_SIZE.value
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII) or name == "shapes100":
        raise UserError(f"--name={name}: expected letters, digits and _ . -, and not shapes100, which is embedded")
    imported = archives.read(Path(_ARCHIVE.value).expanduser(), name, size, _ALLOW_UNVERIFIED.value, _TEST_FRACTION.value)
    key = cache.key_of(name, size)
    entry = archives.store(imported, key, name)
    for split, dataset in imported.splits.items():
        height, width, channels = dataset.images.shape[1:]
        coarse = f" in {len(dataset.coarse_names)} superclasses" if dataset.coarse_names else ""
        sys.stdout.write(
            f"{name} {split}: {len(dataset)} images {height}x{width}x{channels}, {dataset.num_classes} classes{coarse}, "
            f"images SHA-256 {entry.hashes(split)['images']}\n"
        )
    resized = f" --config.data.image_size={size}" if size else ""
    sys.stdout.write(f"in {cache_folder() / key}\ntrain on it with  --config.data.name={name}{resized}\n")


if __name__ == "__main__":
    app.run(main)

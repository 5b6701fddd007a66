"""JSON with a checksum, by which a flipped bit in a number is damage; and SHA-256 of files and arrays."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cifar_flax.files.folder import read_json

HASH = "hash"  # the key; its value is the first 16 hex digits of the SHA-256 of the rest, with sorted keys


def with_checksum(values: dict[str, Any]) -> dict[str, Any]:
    """Returns a JSON object with its checksum as last entry."""
    return {**values, HASH: _digest(values)}


def verify_checksum(values: Any) -> dict[str, Any]:
    """Returns the JSON object that was given to `with_checksum`.

    Raises:
      ValueError: `values` is no object, has no checksum, or has the checksum of another object.
    """
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    content = {name: value for name, value in values.items() if name != HASH}
    if values.get(HASH) != _digest(content):
        raise ValueError("its hash differs" if HASH in values else "it has no hash of itself")
    return content


def dumps_checksummed(values: dict[str, Any]) -> str:
    """Returns the text of a JSON file that holds an object and its checksum, one entry a line."""
    return json.dumps(with_checksum(values), indent=2) + "\n"


def read_checksummed(path: Path) -> dict[str, Any]:
    """Reads a file with the text that `dumps_checksummed` returned.

    Raises:
      OSError: it cannot be read.
      ValueError: it is damaged.
    """
    return verify_checksum(read_json(path))


def sha256_of_file(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, 64 hex digits.

    Raises:
      OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_arrays(arrays: Mapping[str, Any], header: str = "") -> str:
    """Returns the SHA-256 over names, dtypes, shapes and bytes of arrays, in their order, 64 hex digits.

    Args:
      arrays: NumPy or JAX arrays of any dtype and shape; fetched from the device one after the other.
      header: hashed before them.
    """
    sha = hashlib.sha256(header.encode())
    for name, value in arrays.items():
        array = np.asarray(value)
        sha.update(f"{name} {array.dtype} {array.shape}".encode())
        sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))  # bfloat16 is no type of Python's buffers
    return sha.hexdigest()


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

"""JSON objects with a hash of themselves, by which a flipped bit in a number is damage and not just another number."""

import hashlib
import json
from pathlib import Path
from typing import Any

HASH = "hash"  # the key; its value is the first 16 hex digits of the SHA-256 of the rest, with sorted keys


def with_checksum(values: dict[str, Any]) -> dict[str, Any]:
    """The same object with its hash as last entry."""
    return {**values, HASH: _digest(values)}


def verify_checksum(values: Any) -> dict[str, Any]:
    """What was sealed.

    Raises:
      ValueError: `values`, out of a JSON file, is no object, has no hash, or is another one than was sealed.
    """
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    content = {name: value for name, value in values.items() if name != HASH}
    if values.get(HASH) != _digest(content):
        raise ValueError("its hash differs" if HASH in values else "it has no hash of itself")
    return content


def dumps_checksummed(values: dict[str, Any]) -> str:
    """The text of a file that holds the object, sealed, with an entry a line."""
    return json.dumps(with_checksum(values), indent=2) + "\n"


def read_checksummed(path: Path) -> dict[str, Any]:
    """Reads a file that was written with `sealed_text`.

    Raises:
      OSError: it cannot be read.
      ValueError: it is damaged.
    """
    return verify_checksum(json.loads(path.read_text(encoding="utf-8")))


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

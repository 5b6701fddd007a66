"""Files that are whole or not there, whatever interrupts their writing."""

import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes beside `path`, flushes that to disk and puts it in place of what was there, which stays if that fails."""
    beside = path.with_suffix(".tmp")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)

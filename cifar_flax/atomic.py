"""Files that are whole or not there, whatever interrupts their writing."""

import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Writes `text` beside `path`, flushes it to disk and puts it in place of what was there, which stays if that fails."""
    beside = path.with_suffix(".tmp")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)

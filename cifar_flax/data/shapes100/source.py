"""shapes100 as a source: drawn once, and again when the drawing code changes."""

import hashlib
from pathlib import Path

from cifar_flax.data import cache
from cifar_flax.data.sources.source import Source
from cifar_flax.errors import ConfigError

NAME = "shapes100"
SEED = 0
DRAWING_CODE = ("render.py", "classes.py", "distance_fields.py")  # the pictures depend on these files


class Shapes100(Source):
    """The embedded data set; `image_size` can only be its own, 32."""

    def __init__(self, image_size: int | None = None) -> None:
        super().__init__(NAME, image_size)

    def version(self) -> str:
        """Names the code that drew the pictures by its hash."""
        code = b"".join((Path(__file__).parent / file).read_bytes() for file in DRAWING_CODE)
        return f"drawn by cifar_flax.data.shapes100.render {hashlib.sha256(code).hexdigest()[:16]}, seed {SEED}"

    def build(self) -> None:
        """Draws both splits into the cache.

        Raises:
          ConfigError: another image size is asked for.
        """
        from cifar_flax.data.shapes100 import render  # takes a second, which a cached copy saves

        if self.image_size not in (None, render.SIZE):
            raise ConfigError(f"config.data.image_size: {NAME} is drawn with {render.SIZE} pixels a side; leave it at None")
        splits = {split: render.generate(split, SEED) for split in render.IMAGES_PER_CLASS}
        cache.write(self.key(), splits, self.version(), NAME)

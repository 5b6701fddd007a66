"""The base of the sources."""

from abc import ABC, abstractmethod

from cifar_flax.data import cache


class Source(ABC):
    """The source of one data set, at one image size.

    Attributes:
      identity: its name, with absolute paths.
      image_size: pixels a side; None for the set's own.
    """

    def __init__(self, identity: str, image_size: int | None) -> None:
        self.identity, self.image_size = identity, image_size

    def key(self) -> str:
        """The data set's entry in the cache."""
        return cache.key_of(self.identity, self.image_size)

    def version(self) -> str | None:
        """The version of the source that an up-to-date entry records; None where any entry is up to date."""
        return None

    @abstractmethod
    def build(self) -> None:
        """Writes the entry."""

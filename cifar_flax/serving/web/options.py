"""Limits of the application."""

import os
from dataclasses import dataclass, field

from cifar_flax.runtime.flag_values import Fit
from cifar_flax.serving.web.sites import Hosts


@dataclass(frozen=True)
class Options:
    """Limits of the application.

    Attributes:
      fit: as in `Network.predict`.
      flip: as in `Network.predict`.
      allow_private: whether addresses may lead into private networks: for intranets and tests.
      hosts: names of the server.
      upload_bytes: largest request, and largest file at an address.
      fetching: addresses that are fetched at a time.
      fetching_queue_size: addresses that wait for their turn.
      classifying: pictures within `reading.MODERATE` that are decoded and classified at a time; of larger ones it is one.
      queue_size: pictures that wait for their turn.
      large_queue_size: the same, for large ones.
      explaining_queue_size: the same, for those to be explained: one at a time, which leaves places for predictions.
      queue_timeout: seconds after which a waiting picture is refused.
    """

    fit: Fit = Fit.CROP
    flip: bool = False
    allow_private: bool = False
    hosts: Hosts = field(default_factory=Hosts)
    upload_bytes: int = 10 * 2**20
    fetching: int = 16
    fetching_queue_size: int = 16
    classifying: int = min(4, max(2, os.cpu_count() or 1))
    queue_size: int = 96
    large_queue_size: int = 8
    explaining_queue_size: int = 24
    queue_timeout: float = 10.0

    @property
    def decoding(self) -> int:
        """Pictures that are decoded at a time."""
        return self.classifying + 1

    @property
    def threads(self) -> int:
        """Threads of the server: slow servers, large pictures and explanations, however many, leave some for other requests."""
        waiting = (self.classifying + self.queue_size) + (1 + self.large_queue_size) + (1 + self.explaining_queue_size)
        return self.fetching + self.fetching_queue_size + waiting + 8

"""Reading and decoding of the picture of a request, when its turn comes."""

import ipaddress
from collections.abc import Callable
from dataclasses import replace
from typing import IO, NamedTuple, TypeVar

from flask import Request
from PIL import Image

from cifar_flax.data.pictures.decode import LARGE, LIMIT_CODES, Limits
from cifar_flax.data.pictures.errors import UnreadableImage
from cifar_flax.data.pictures.isolated import IsolatedDecoder
from cifar_flax.serving.errors import RequestError
from cifar_flax.serving.fetch.client import FetchLimits, fetch
from cifar_flax.serving.web import request_parsing
from cifar_flax.serving.web.admission import Admission
from cifar_flax.serving.web.options import Options

T = TypeVar("T")
SMALLEST = 8  # pixels; smaller ones, such as those that count visitors, show nothing
# A file is decoded within QUICK, which is enough for pictures of a web page; one that takes more within MODERATE, after those
# of its sender that have had no turn; and one that takes still more within LARGE, one by one. A costly file so delays others
# little.
MODERATE = Limits(pixels=16_000_000, decoded_pixels=4_000_000, memory=128 * 2**20, cpu_seconds=0.3)
QUICK = replace(MODERATE, cpu_seconds=0.06)


class Received(NamedTuple):
    """The file of a request, and who sent it."""

    file: IO[bytes]
    client: str


class PictureReader:
    """Receives and decodes pictures for all handlers, within the limits of `options`."""

    def __init__(self, decoder: IsolatedDecoder, options: Options) -> None:
        self._decoder, self._allow_private = decoder, options.allow_private
        self._fetch_limits = FetchLimits(bytes=options.upload_bytes)
        self._fetching = Admission(options.fetching, options.fetching_queue_size, options.queue_timeout)
        self._classifying = Admission(options.classifying, options.queue_size, options.queue_timeout)
        self._classifying_large = Admission(1, options.large_queue_size, options.queue_timeout)

    def receive(self, request: Request) -> Received:
        """The file in a request, or at the address in it.

        Raises:
          RequestError: there is none.
        """
        client = _client(request.remote_addr)
        if request.mimetype == "application/json":
            url = request_parsing.address(request)
            with self._fetching.place(client):
                return Received(request_parsing.keep(fetch(url, self._fetch_limits, self._allow_private)), client)
        if request.mimetype == "multipart/form-data":
            return Received(request_parsing.upload(request), client)
        raise RequestError("Expected JSON with an address, or a form with a file.", "unsupported_media_type", 415)

    def use(self, received: Received, use: Callable[[Image.Image], T]) -> T:
        """Decodes the file, and calls `use` with the picture while it still has its place.

        Raises:
          UnreadableImage: it cannot be decoded within `LARGE`.
          RequestError: it is too small, or the server is busy.
        """
        rounds = ((QUICK, self._classifying, 0), (MODERATE, self._classifying, 1), (LARGE, self._classifying_large, 0))
        for limits, admission, round_ in rounds:
            try:
                with admission.place(received.client, round_):
                    return use(_large_enough(self._decoder.decode(_read(received.file), limits)))
            except UnreadableImage as e:
                if e.code not in LIMIT_CODES or limits is LARGE:
                    raise
        raise AssertionError  # LARGE was the last


def _client(address: str | None) -> str:
    """Client by IP address; IPv6 by its /64 network."""
    ip = ipaddress.ip_address((address or "::").partition("%")[0])
    if ip.version == 4:
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.IPv6Network((ip, 64), strict=False))


def _read(file: IO[bytes]) -> bytes:
    """The whole file, which waits for its turn on disk, not in memory."""
    file.seek(0)
    return file.read()


def _large_enough(picture: Image.Image) -> Image.Image:
    if min(picture.size) < SMALLEST:
        sentence = f"The picture is {picture.width} x {picture.height} pixels; it needs at least {SMALLEST} in each direction."
        raise RequestError(sentence, "too_small", 422)
    return picture

"""Files assembled from parts of others, which random bytes and single flipped bits do not reach."""

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.pictures.test_decode import VALID, decodes_or_refuses
from tests.serving import crafted

# pytest sets aside the filter that decode.py sets
pytestmark = [pytest.mark.filterwarnings(f"ignore:::PIL.{module}") for module in ("Image", "TiffImagePlugin")]

MARKS = rb"IHDR|IDAT|PLTE|tRNS|\xff[\xc0-\xfe]|VP8.|ALPH|ftyp|meta|iloc|mdat|II\*\0|\x2c\0|\x21\xf9"
NUMBERS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1", b"\1\0\0\0", b"\0\x80", b"\xff\xff", b"\0")
CRAFTED = [crafted.tiff_tile(64), crafted.tiff_strips(64), crafted.run_length_bmp(64, 64, b"\4\1\0\0" * 16)]
FILES = [*VALID, *CRAFTED, crafted.many_scans(64, 3)]


def parts(data):
    """The file cut before each of its marks."""
    places = [0, *(mark.start() for mark in re.finditer(MARKS, data)), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(places)]


@settings(max_examples=4 * settings.default.max_examples)
@given(st.sampled_from(FILES), st.sampled_from(FILES), st.data())
def test_parts_of_two_files_in_any_order_are_decoded_or_refused(one, other, data):
    pieces = parts(one)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(pieces)))
        pieces.insert(at, data.draw(st.sampled_from(parts(other) + pieces)))
    decodes_or_refuses(b"".join(pieces))


@settings(max_examples=4 * settings.default.max_examples)
@given(st.sampled_from(FILES), st.lists(st.tuples(st.floats(0, 1), st.sampled_from(NUMBERS)), min_size=1, max_size=4))
def test_numbers_at_their_edges_anywhere_in_a_file_are_decoded_or_refused(file, changes):
    damaged = bytearray(file)
    for where, number in changes:
        at = int(where**3 * (len(damaged) - len(number)))  # headers come first
        damaged[at : at + len(number)] = number
    decodes_or_refuses(bytes(damaged))

"""Grey pictures of 1 to 32 bits keep their tones."""

import struct

import numpy as np
import pytest
from PIL import Image

from tests.data.pictures.test_decode import decoded, encoded, grey, pixels
from tests.serving import crafted


def test_grey_and_black_and_white():
    array = pixels(16, 16)
    np.testing.assert_array_equal(decoded(encoded(array)), grey(array))
    np.testing.assert_array_equal(decoded(encoded(array > 99)), grey(255 * (array > 99)))
    np.testing.assert_allclose(decoded(encoded(array, "PNG", transparency=7)), grey(np.where(array == 7, 255, array)))


def test_sixteen_bits_are_scaled_not_clipped():
    array = pixels(64, 64, top=65536, dtype=np.uint16)
    expected = np.rint(array / 257)
    np.testing.assert_array_equal(decoded(encoded(array)), grey(expected))
    for order in ("<u2", ">u2"):
        np.testing.assert_array_equal(decoded(encoded(Image.fromarray(array.astype(order)), "TIFF")), grey(expected))
    np.testing.assert_array_equal(decoded(encoded(array // 1000)), 0)  # dark stays dark
    colours = pixels(16, 16, 3, top=65536, dtype=np.uint16)
    np.testing.assert_allclose(decoded(crafted.png(16, 16, 16, 2, crafted.rows(colours))), colours / 257, atol=1)
    clear = crafted.chunk(b"tRNS", struct.pack(">H", array[0, 0]))
    transparent = decoded(crafted.png(64, 64, 16, 0, crafted.rows(array), clear))
    np.testing.assert_array_equal(transparent, grey(np.where(array == array[0, 0], 255, expected)))


def with_field(tiff, tag, value, old):
    """A little-endian TIFF with another value of a 16-bit field."""
    field = struct.pack("<HHI", tag, 3, 1)
    assert tiff.count(field + struct.pack("<HH", old, 0)) == 1
    return tiff.replace(field + struct.pack("<HH", old, 0), field + struct.pack("<HH", value, 0))


@pytest.mark.parametrize(
    "values", [pixels(8, 9, top=65536, dtype=np.uint16), np.linspace(0, 1, 72, dtype=np.float32).reshape(8, 9)]
)
def test_tiff_whose_white_is_zero_is_no_negative(values):
    tiff = encoded(Image.fromarray(values), "TIFF")
    white_is_zero = with_field(tiff, tag=262, value=0, old=1)
    np.testing.assert_array_equal(decoded(white_is_zero), 255 - decoded(tiff))


def test_twelve_bits_are_scaled_by_their_own_white():
    values = np.array([[0, 4095], [2048, 1024]])
    packed = np.array([[a >> 4, (a & 15) << 4 | b >> 8, b & 255] for a, b in values], np.uint8)
    tiff = with_field(encoded(Image.fromarray(packed), "TIFF"), tag=258, value=12, old=8)
    width = struct.pack("<HHI", 256, 4, 1) + struct.pack("<I", 3)
    assert tiff.count(width) == 1
    tiff = tiff.replace(width, width[:8] + struct.pack("<I", 2))
    np.testing.assert_array_equal(decoded(tiff), grey(np.rint(values / 4095 * 255)))


@pytest.mark.parametrize("bits", [2, 4])
def test_a_clear_grey_of_few_bits_is_clear(bits):
    values = np.stack([np.arange(2**bits)] * 2)
    shifts = np.arange(8 - bits, -1, -bits)
    packed = (values.reshape(2, -1, 8 // bits) << shifts).sum(-1).astype(np.uint8)
    clear = crafted.chunk(b"tRNS", struct.pack(">H", 1))
    actual = decoded(crafted.png(values.shape[1], 2, bits, 0, b"".join(b"\0" + row.tobytes() for row in packed), clear))
    np.testing.assert_array_equal(actual, grey(np.where(values == 1, 255, values * (255 // (2**bits - 1)))))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0, 100, 255], np.int32), [0, 100, 255]),
        (np.array([0, 257, 65535], np.int32), [0, 1, 255]),
        (np.array([-1000, 0, 1000], np.int32), [0, 128, 255]),
        (np.array([0.0, 0.2, 1.0], np.float32), [0, 51, 255]),
        (np.array([0.0, 100.0, 200.0], np.float32), [0, 100, 200]),
        (np.array([0.0, 100.0, 1e6], np.float32), [0, 0, 255]),
        (np.array([-3.0, -2.0, np.nan], np.float32), [0, 85, 255]),
        (np.array([7.0, 7.0, 7.0], np.float32), [7, 7, 7]),
        (np.array([-7.0, -7.0, -7.0], np.float32), [0, 0, 0]),
    ],
)
def test_integers_and_floats_find_their_white(values, expected):
    data = encoded(Image.fromarray(np.tile(values, (8, 4))), "TIFF")
    np.testing.assert_array_equal(decoded(data), grey(np.tile(expected, (8, 4))))

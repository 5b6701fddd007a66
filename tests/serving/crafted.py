"""Files written byte by byte: no encoder writes them so small for what they claim."""

import io
import struct
import zlib

from PIL import Image


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, bits, colour, rows, *extra):
    """`rows`: each with its filter byte, as deflate gets them; `extra`: chunks before them."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"".join([b"\x89PNG\r\n\x1a\n", header, *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")])


def rows(array):
    """The rows of 16-bit values, for `png`."""
    return b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)


def png_bomb(side):
    """All black, 1 bit a pixel: 20,000 x 20,000 are 49 kB."""
    return png(side, side, 1, 0, bytes((1 + (side + 7) // 8) * side))


def segment(marker, data):
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def many_scans(side, scans):
    """A grey progressive JPEG, each of whose scans says that nothing changes in any block: 75 bytes for 7,000 x 7,000."""
    blocks = ((side + 7) // 8) ** 2
    start = [
        b"\xff\xd8",
        segment(0xDB, b"\0" + b"\1" * 64),
        segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0"),
        segment(0xC4, b"\0" + bytes([1] + [0] * 15) + b"\0"),  # one code, a zero bit: no difference
        segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\xe0"),  # one code: 2**14 blocks end here, and as many as 14 bits say
        segment(0xDA, b"\1\1\0\0\0\0") + bytes((blocks + 7) // 8),
    ]
    runs = "".join("0" + format(min(run, 2**14 - 1), "014b") for run in _runs(blocks))
    data = int(runs.ljust(-(-len(runs) // 8) * 8, "1"), 2).to_bytes(-(-len(runs) // 8), "big").replace(b"\xff", b"\xff\0")
    return b"".join(start) + (segment(0xDA, b"\1\1\0\1\x3f\0") + data) * scans + b"\xff\xd9"


def _runs(blocks):
    while blocks > 0:
        run = max(0, min(blocks, 2**15 - 1) - 2**14)
        yield run
        blocks -= 2**14 + run


def tiff_tile(side, picture=64):
    """A grey picture in one tile, of another size than its own."""
    data = zlib.compress(bytes(1000))
    tags = {256: picture, 257: picture, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: 0, 325: len(data)}
    tags[324] = 8 + 2 + 12 * len(tags) + 4
    return _directory([(tag, 4, 1, value) for tag, value in tags.items()]) + data


def tiff_strips(strips, kind=4, big=False, side=64):
    """A grey picture, uncompressed, that says where each of so many strips is: in `kind` 1, 3 or 4, of 1, 2 or 4 bytes."""
    one = {256: side, 257: side, 258: 8, 259: 1, 262: 1, 277: 1, 278: 1}
    end = len(_directory([(0, 0, 0, 0)] * (len(one) + 1), big))
    tags = [(tag, 4, 1, value) for tag, value in one.items()] + [(273, kind, strips, end)]
    return _directory(sorted(tags), big) + bytes(strips * {1: 1, 3: 2, 4: 4}[kind]) + bytes(side * side)


def _directory(tags, big=False):
    """The beginning of a little-endian TIFF: (tag, type, count, value or place) of each."""
    if big:
        entries = b"".join(struct.pack("<HHQQ", *tag) for tag in tags)
        return b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, len(tags)) + entries + bytes(8)
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def run_length_bmp(width, height, codes):
    """A BMP of 256 greys with these run-length codes."""
    palette = bytes(part for k in range(256) for part in (k, k, k, 0))
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(codes), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(codes), 0, 0, 1078) + header + palette + codes


def hungriest(side):
    """The two forms that take most memory for their pixels: a WebP of 92 bytes, turned by EXIF, and a TIFF of floats."""
    webp, tiff, turned = io.BytesIO(), io.BytesIO(), Image.Exif()
    turned[0x0112] = 6
    Image.new("RGBA", (side, side), (1, 2, 3, 128)).save(webp, "WEBP", lossless=True, method=0, quality=0, exif=turned)
    Image.new("F", (side, side)).save(tiff, "TIFF", compression="tiff_adobe_deflate")
    return webp.getvalue(), tiff.getvalue()


def jpeg(added=b"", **options):
    """A JPEG of 64 x 64 pixels with these bytes after its first marker."""
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(out, "JPEG", **options)
    return out.getvalue()[:2] + added + out.getvalue()[2:]

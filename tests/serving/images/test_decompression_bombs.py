import io
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from cifar_flax.serving.errors import UnreadableImage
from cifar_flax.serving.images import decompression_bombs
from cifar_flax.serving.images.decode import decode
from tests.conftest import ROOT
from tests.serving import crafted


def jpeg(**options):
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(out, "JPEG", **options)
    return out.getvalue()


def code_of(data):
    with pytest.raises(UnreadableImage) as caught:
        decode(data)
    return caught.value.code


def after_start(data, added):
    return data[:2] + added + data[2:]


def hungriest(side):
    """The two forms that take most memory for their pixels: a WebP of 40 bytes, turned by EXIF, and a TIFF of floats."""
    webp, tiff, turned = io.BytesIO(), io.BytesIO(), Image.Exif()
    turned[0x0112] = 6
    Image.new("RGBA", (side, side), (1, 2, 3, 128)).save(webp, "WEBP", lossless=True, method=0, quality=0, exif=turned)
    Image.new("F", (side, side)).save(tiff, "TIFF", compression="tiff_adobe_deflate")
    return webp.getvalue(), tiff.getvalue()


COSTLY = {
    "scans of a progressive JPEG": lambda: crafted.many_scans(7000, 150),
    "scans of a small one": lambda: crafted.many_scans(64, 6000),
    "EXIF in parts": lambda: after_start(jpeg(), crafted.segment(0xE1, b"Exif\0\0ab") * 501),
    "JPEG segments": lambda: after_start(jpeg(), crafted.segment(0xE3, b"") * (decompression_bombs.MOST_MARKERS + 1)),
    "TIFF tile": lambda: crafted.tiff_tile(4096),
    "TIFF strips": lambda: crafted.tiff_strips(2_500_000),
    "TIFF strips in short numbers": lambda: crafted.tiff_strips(5_000_000, kind=3),
    "TIFF strips in bytes": lambda: crafted.tiff_strips(10_000_000, kind=1),
    "BigTIFF strips": lambda: crafted.tiff_strips(2_500_000, big=True),
    "BMP skips": lambda: crafted.run_length_bmp(1_000_000, 16, b"\0\2\0\xff\0\1"),
    "BMP line ends": lambda: crafted.run_length_bmp(1_000_000, 16, b"\1\1\0\0" * 16 + b"\0\1"),
}


@pytest.mark.parametrize("kind", COSTLY)
def test_a_file_that_would_take_minutes_or_gigabytes_is_refused_at_once(kind):
    data = COSTLY[kind]()
    start = time.thread_time()
    assert code_of(data) == "too_costly"
    assert time.thread_time() - start < 0.5


def test_what_encoders_write_is_not_taken_for_a_bomb():
    rows = io.BytesIO()
    Image.new("L", (64, 64)).save(rows, "TIFF", compression="tiff_adobe_deflate")
    video = bytes(range(256)) * 20_000 + b"\xff\xda\xff\xc4" * 6000  # as telephones append to a JPEG
    strips = [crafted.tiff_strips(64), crafted.tiff_strips(64, big=True)]
    for data in (
        *strips,
        jpeg(progressive=True) + video,
        after_start(jpeg(), crafted.segment(0xE2, b"ICC") * 255),
        rows.getvalue(),
    ):
        assert decode(data).size == (64, 64)
    assert decode(crafted.many_scans(7000, 12)).size == (1750, 1750)


def test_a_small_run_length_bmp_is_read():
    stripes = bytes(i for k in range(64) for i in (40, 1 + k % 2, 24, 3, 0, 0)) + b"\0\1"
    colours = np.asarray(decode(crafted.run_length_bmp(64, 64, stripes)))
    expected = np.repeat([[[1] * 40 + [3] * 24, [2] * 40 + [3] * 24]], 32, 0).reshape(64, 64)[::-1]  # from the bottom up
    np.testing.assert_array_equal(colours[..., 0], expected)


def test_what_is_within_the_limits_takes_as_much_memory_as_is_said(tmp_path):
    child = """
import pathlib, resource, sys
from cifar_flax.serving.images.decode import decode
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
picture = decode(pathlib.Path(sys.argv[1]).read_bytes())
print(peak() - before, *picture.size)
"""
    for k, data in enumerate(hungriest(5000)):
        path = tmp_path / str(k)
        path.write_bytes(data)
        run = subprocess.run(
            [sys.executable, "-c", child, path], check=True, cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        megabytes, *size = run.stdout.split()
        assert float(megabytes) < 500
        assert size == ["1250", "1250"]  # and not 75 MB that would be kept until the network has looked


def test_no_bomb_takes_more_memory_than_a_picture_may(tmp_path):
    """In a process that has 1 GB: reading one of these for what it claims takes 1.2 GB to 68 GB."""
    zeros = zlib.compress(bytes(200_000_000), 9)
    text = [crafted.chunk(b"zTXt", b"a\0\0" + zeros), crafted.chunk(b"iCCP", b"a\0\0" + zeros)]
    files = {
        # Above and below Pillow's own limit, and as many as only a JPEG may have.
        "too_many_pixels": [crafted.png_bomb(20_000), crafted.png_bomb(12_000), *hungriest(7000)],
        "damaged": [crafted.png(8, 8, 8, 0, bytes(72), extra) for extra in text],
        "too_costly": [
            crafted.tiff_tile(2**15),
            crafted.tiff_strips(2_500_000),
            crafted.run_length_bmp(5_000_000, 8, b"\0\2\0\xff\0\1"),
        ],
    }
    for code, contents in files.items():
        for k, data in enumerate(contents):
            (tmp_path / f"{code}-{k}").write_bytes(data)
    child = """
import pathlib, resource, sys
from cifar_flax.serving.images.decode import UnreadableImage, decode
resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30))
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    try:
        decode(path.read_bytes())
    except UnreadableImage as e:
        print(path.name, e.code)
"""
    run = subprocess.run(
        [sys.executable, "-c", child, tmp_path], check=False, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert run.stderr == ""  # nor do Pillow's warnings reach the log
    assert dict(line.split() for line in run.stdout.splitlines()) == {
        f"{code}-{k}": code for code, contents in files.items() for k in range(len(contents))
    }

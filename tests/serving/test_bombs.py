import io
import subprocess
import sys
import time
import zlib

import pytest
from PIL import Image

from cifar_flax.serving import bombs, images
from cifar_flax.serving.refusal import UnreadableImage
from tests.conftest import ROOT
from tests.serving import crafted


def jpeg(**options):
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(out, "JPEG", **options)
    return out.getvalue()


def code_of(data):
    with pytest.raises(UnreadableImage) as caught:
        images.decode(data)
    return caught.value.code


def after_start(data, added):
    return data[:2] + added + data[2:]


COSTLY = {
    "scans of a progressive JPEG": lambda: crafted.many_scans(7000, 150),
    "scans of a small one": lambda: crafted.many_scans(64, 6000),
    "EXIF in parts": lambda: after_start(jpeg(), crafted.segment(0xE1, b"Exif\0\0ab") * (bombs.MOST_EXIF_PARTS + 1)),
    "JPEG segments": lambda: after_start(jpeg(), crafted.segment(0xE3, b"") * (bombs.MOST_MARKERS + 1)),
    "TIFF tile": lambda: crafted.tiff_tile(4096),
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
    for data in (jpeg(progressive=True) + video, after_start(jpeg(), crafted.segment(0xE2, b"ICC") * 255), rows.getvalue()):
        assert images.decode(data).size == (64, 64)
    assert images.decode(crafted.many_scans(7000, 12)).size == (1750, 1750)


def test_no_bomb_takes_more_memory_than_a_picture_may(tmp_path):
    """In a process that has 1 GB: reading one of these for what it claims takes 1.2 GB to 68 GB."""
    zeros = zlib.compress(bytes(200_000_000), 9)
    text = [crafted.chunk(b"zTXt", b"a\0\0" + zeros), crafted.chunk(b"iCCP", b"a\0\0" + zeros)]
    files = {
        "too_many_pixels": [crafted.png_bomb(20_000), crafted.png_bomb(12_000)],  # above and below Pillow's own limit
        "damaged": [crafted.png(8, 8, 8, 0, bytes(72), extra) for extra in text],
        "too_costly": [crafted.tiff_tile(2**15), crafted.run_length_bmp(5_000_000, 8, b"\0\2\0\xff\0\1")],
    }
    for code, contents in files.items():
        for k, data in enumerate(contents):
            (tmp_path / f"{code}-{k}").write_bytes(data)
    child = """
import pathlib, resource, sys
from cifar_flax.serving.images import UnreadableImage, decode
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

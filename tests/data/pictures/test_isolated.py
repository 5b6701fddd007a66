import contextlib
import io
import os
import signal
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_flax.data.pictures.decode import LARGE, SMALL, Limits, decode
from cifar_flax.data.pictures.errors import UnreadableImage
from cifar_flax.data.pictures.isolated import IsolatedDecoder
from tests.conftest import ROOT
from tests.data.pictures.test_decode import VALID
from tests.helpers.picture_folders import png
from tests.serving import crafted

MEGABYTE = 2**20
ZEROS = zlib.compress(bytes(200 * MEGABYTE), 9)


@pytest.fixture(scope="module")
def decoder():
    with IsolatedDecoder(2) as decoder:
        yield decoder


def refusal(decoder, data, limits=LARGE):
    with pytest.raises(UnreadableImage) as caught:
        decoder.decode(data, limits)
    return caught.value


def is_running(pid):
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"  # nobody may collect a zombie
    return False


def workers():
    """The process ids of the workers of this process."""
    tasks = Path("/proc/self/task").glob("*/children")
    children = [int(pid) for task in tasks for pid in task.read_text().split()]
    return [pid for pid in children if b"pictures.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.parametrize("data", [*VALID, *crafted.hungriest(1200)], ids=len)
def test_pictures_are_the_same_as_when_decoded_in_this_process(decoder, data):
    np.testing.assert_array_equal(np.asarray(decoder.decode(data, SMALL)), np.asarray(decode(data)))


def test_a_picture_of_extreme_shape_arrives_whole(decoder):
    array = np.random.default_rng(0).integers(0, 256, (8, 300_000, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    np.testing.assert_array_equal(np.asarray(decoder.decode(out.getvalue(), SMALL)), array)


@pytest.mark.parametrize("data", [b"", b"<html>", png()[:300], crafted.png_bomb(20_000)], ids=len)
def test_refusals_are_the_same_as_when_decoded_in_this_process(decoder, data):
    with pytest.raises(UnreadableImage) as caught:
        decode(data)
    error = refusal(decoder, data)
    assert (str(error), error.code) == (str(caught.value), caught.value.code)


COSTLY = {
    "scans of a progressive JPEG": lambda: crafted.many_scans(2000, 9000),
    "TIFF strips": lambda: crafted.tiff_strips(2_500_000),
    "TIFF strips in bytes": lambda: crafted.tiff_strips(10_000_000, kind=1),
    "BigTIFF strips": lambda: crafted.tiff_strips(2_500_000, big=True),
    "BMP line ends": lambda: crafted.run_length_bmp(1_000_000, 16, b"\1\1\0\0" * 16 + b"\0\1"),
    "TIFF tile of a gigabyte": lambda: crafted.tiff_tile(2**15),
}


@pytest.mark.parametrize("kind", COSTLY)
def test_a_file_that_takes_too_much_time_or_memory_is_refused(decoder, kind):
    error = refusal(decoder, COSTLY[kind](), Limits(cpu_seconds=1))
    assert error.code == "too_costly"
    assert str(error).endswith(".")
    assert decoder.decode(png(), SMALL).size == (16, 16)


def test_a_decoder_that_takes_too_long_is_ended(decoder):
    assert refusal(decoder, COSTLY["scans of a progressive JPEG"](), Limits(cpu_seconds=60, seconds=1)).code == "too_costly"


def test_memory_is_limited(decoder):
    _, floats = crafted.hungriest(2000)
    assert refusal(decoder, floats, Limits(memory=16 * MEGABYTE)).code == "too_costly"
    assert decoder.decode(floats, SMALL).size == (2000, 2000)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_compressed_text_and_profiles_fill_no_memory(decoder, kind):
    data = crafted.png(8, 8, 8, 0, bytes(72), crafted.chunk(kind, b"a\0\0" + ZEROS))
    assert refusal(decoder, data).code == "damaged"


def test_pixels_are_counted_before_memory_is_used(decoder):
    for data in (crafted.png_bomb(20_000), crafted.png_bomb(12_000), *crafted.hungriest(7000)):
        assert refusal(decoder, data, LARGE).code == refusal(decoder, data, SMALL).code == "too_many_pixels"


def test_the_hungriest_pictures_fit_into_the_limits(decoder):
    for data in crafted.hungriest(2000):
        assert decoder.decode(data, SMALL).size == (2000, 2000)
    for data in crafted.hungriest(5000):
        assert decoder.decode_any(data).size == (1250, 1250)


def test_a_small_picture_that_takes_long_is_read_with_the_limits_of_a_large_one(decoder):
    assert decoder.decode_any(crafted.many_scans(1900, 3000)).size == (1900, 1900)


def test_unusual_files_of_encoders_are_read(decoder):
    rows = io.BytesIO()
    Image.new("L", (64, 64)).save(rows, "TIFF", compression="tiff_adobe_deflate")
    video = bytes(range(256)) * 20_000 + b"\xff\xda\xff\xc4" * 6000  # as telephones append to a JPEG
    for data in (
        crafted.tiff_strips(64),
        crafted.tiff_strips(64, big=True),
        crafted.jpeg(progressive=True) + video,
        crafted.jpeg(crafted.segment(0xE2, b"ICC") * 255),
        rows.getvalue(),
    ):
        assert decoder.decode(data, SMALL).size == (64, 64)
    assert decoder.decode_any(crafted.many_scans(7000, 12)).size == (1750, 1750)


def test_others_are_answered_while_a_costly_file_is_read(decoder):
    decoder.decode(png(), SMALL)  # the worker has started
    with ThreadPoolExecutor() as threads:
        costly = threads.submit(refusal, decoder, COSTLY["TIFF strips"](), Limits(cpu_seconds=2))
        first = next(as_completed([costly, threads.submit(decoder.decode, png(), SMALL)]))
        assert first is not costly
        assert costly.result().code == "too_costly"


def test_pictures_may_be_parts_of_one_file(decoder, tmp_path):
    files = [png(seed) for seed in range(3)]
    expected = [np.asarray(decoder.decode(data, SMALL)) for data in files]
    files[1] = files[1][:40]
    (tmp_path / "all").write_bytes(b"".join(files))
    images = np.zeros((3, 16, 16, 3), np.uint8)
    assert list(decoder.fit_parts(tmp_path / "all", list(map(len, files)), images)) == [1]
    np.testing.assert_array_equal(images, [expected[0], np.zeros_like(expected[1]), expected[2]])


def test_threads_get_their_own_pictures(decoder):
    with ThreadPoolExecutor(8) as threads:
        pictures = list(threads.map(lambda seed: decoder.decode_any(png(seed)), range(40)))
    for seed, picture in enumerate(pictures):
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(decode(png(seed))))


def test_a_worker_that_was_killed_is_started_anew():
    with IsolatedDecoder(2) as decoder:
        assert decoder.decode(png(), SMALL).size == (16, 16)
        for pid in workers():
            os.kill(pid, signal.SIGKILL)
        for _ in range(8):
            assert decoder.decode(png(), SMALL).size == (16, 16)


def test_the_worker_gets_no_secrets(monkeypatch):
    monkeypatch.setenv("DATABASE_PASSWORD", "secret")
    with IsolatedDecoder(1) as decoder:
        decoder.decode(png(), SMALL)
        assert workers()
        assert all(b"secret" not in Path(f"/proc/{pid}/environ").read_bytes() for pid in workers())


def test_the_worker_runs_no_code_of_the_working_directory(monkeypatch, tmp_path):
    for module in ("json", "PIL", "socket"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('run')")
    monkeypatch.chdir(tmp_path)
    with IsolatedDecoder(1) as decoder:
        assert decoder.decode(png(), SMALL).size == (16, 16)


def test_the_worker_writes_nothing_of_strangers_files(capfd):
    with IsolatedDecoder(1) as decoder:
        assert refusal(decoder, crafted.tiff_tile(64)).code == "damaged"  # libtiff says why, on stderr
    assert capfd.readouterr() == ("", "")


def test_the_worker_ends_with_the_program():
    program = """
import os, signal
from cifar_flax.data.pictures.errors import UnreadableImage
from cifar_flax.data.pictures.decode import SMALL
from cifar_flax.data.pictures.isolated import IsolatedDecoder
from tests.data.pictures.test_isolated import workers
decoder = IsolatedDecoder(2)
try:
    decoder.decode(b"", SMALL)
except UnreadableImage:
    print(*workers(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    run = subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (-signal.SIGKILL, "")
    (worker,) = map(int, run.stdout.split())
    while is_running(worker):
        time.sleep(0.05)

import io
import threading
import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence, TiffImagePlugin

from cifar_flax.data.pictures.decode import Limits, decode, webp_size
from cifar_flax.data.pictures.errors import UnreadableImage
from cifar_flax.data.pictures.files import FORMATS
from cifar_flax.data.pictures.rgb import upright_rgb
from tests.serving import crafted

# pytest sets aside the filter that decode.py sets
pytestmark = [pytest.mark.filterwarnings(f"ignore:::PIL.{module}") for module in ("Image", "TiffImagePlugin")]


def pixels(*shape, seed=0, top=256, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, top, shape, dtype)


def encoded(picture, kind="PNG", **options):
    out = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(out, kind, **options)
    return out.getvalue()


def decoded(data):
    picture = decode(data)
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)


def grey(values):
    return np.repeat(np.asarray(values)[..., None], 3, -1).astype(int)


def over_white(colour, alpha):
    """`colour` [H, W, 3] with `alpha` [H, W] over white, all in 0..255."""
    a = alpha[..., None] / 255
    return colour * a + 255 * (1 - a)


def refusal(data, **limits):
    with pytest.raises(UnreadableImage) as caught:
        decode(data, Limits(**limits))
    return caught.value


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("BMP", {}), ("PPM", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True})],
)
def test_lossless_files_come_back_pixel_by_pixel(kind, options):
    array = pixels(20, 30, 3)
    np.testing.assert_array_equal(decoded(encoded(array, kind, **options)), array)


@pytest.mark.parametrize("kind", ["JPEG", "AVIF", "WEBP"])
def test_lossy_files_come_back_nearly(kind):
    ramp = np.stack(np.broadcast_arrays(np.arange(0, 250, 5), np.arange(0, 240, 6)[:, None], 100), -1).astype(np.uint8)
    assert np.abs(decoded(encoded(ramp, kind, quality=95)) - ramp).mean() < 4


def test_alpha_is_laid_over_white():
    array = pixels(16, 16, 4)
    expected = over_white(array[..., :3], array[..., 3])
    for data in (encoded(array), encoded(array, "TIFF"), encoded(array, "WEBP", lossless=True, exact=True)):
        np.testing.assert_allclose(decoded(data), expected, atol=1)
    np.testing.assert_allclose(
        decoded(encoded(Image.fromarray(array[..., 2:], "LA"))), over_white(grey(array[..., 2]), array[..., 3]), atol=1
    )


def test_palettes_keep_their_colours_and_transparency():
    palette, index = pixels(256, 3, seed=1), pixels(16, 16, seed=2)
    picture = Image.fromarray(index, "P")
    picture.putpalette(palette.tobytes())
    np.testing.assert_array_equal(decoded(encoded(picture)), palette[index])
    np.testing.assert_array_equal(decoded(encoded(picture, "BMP")), palette[index])
    alphas = pixels(256, seed=3)
    np.testing.assert_allclose(
        decoded(encoded(picture, transparency=alphas.tobytes())), over_white(palette[index], alphas[index]), atol=1
    )
    clear = np.where(index == index[0, 0], 0, 255)
    for kind in ("PNG", "GIF"):
        data = encoded(picture, kind, transparency=int(index[0, 0]))
        np.testing.assert_array_equal(decoded(data), over_white(palette[index], clear))


def test_cmyk_is_ink_on_white():
    ink = pixels(16, 16, 4)
    expected = (255 - ink[..., :3].astype(int)) * (255 - ink[..., 3:].astype(int)) / 255
    np.testing.assert_allclose(decoded(encoded(Image.fromarray(ink, "CMYK"), "TIFF")), expected, atol=1)
    flat = np.broadcast_to(np.uint8([200, 30, 60, 20]), (16, 16, 4))
    printed = decoded(encoded(Image.fromarray(flat, "CMYK"), "JPEG", quality=100))  # as Adobe writes them: inverted
    np.testing.assert_allclose(printed, np.broadcast_to([50.7, 207.4, 179.7], (16, 16, 3)), atol=4)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16"]
)
def test_pictures_of_every_mode_become_rgb(mode):
    assert upright_rgb(Image.new(mode, (9, 8))).mode == "RGB"


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_turns_pictures_upright(orientation):
    array, exif = pixels(8, 12, 3), Image.Exif()
    exif[0x0112] = orientation
    expected = UPRIGHT[orientation](array)
    for data in (
        encoded(array, exif=exif),
        encoded(array, "WEBP", lossless=True, exif=exif),
        encoded(array, "TIFF", tiffinfo={0x0112: orientation}),
    ):
        np.testing.assert_array_equal(decoded(data), expected)
    picture = Image.open(io.BytesIO(encoded(array, exif=exif)))
    np.testing.assert_array_equal(np.asarray(upright_rgb(picture)), expected)
    np.testing.assert_array_equal(np.asarray(picture), array)  # which is not turned itself


def test_nonsense_in_the_exif_data_does_not_lose_the_picture():
    array = pixels(8, 8, 3)
    for exif in (b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 40):
        np.testing.assert_array_equal(decoded(encoded(array, exif=exif)), array)


@pytest.mark.parametrize(
    ("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {}), ("MPO", {})]
)
def test_the_first_frame_of_many_is_read(kind, options):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert len(list(ImageSequence.Iterator(Image.open(io.BytesIO(data))))) == 3
    np.testing.assert_allclose(decoded(data), np.broadcast_to([255, 0, 0], (16, 16, 3)), atol=3)


def test_a_huge_jpeg_is_read_smaller_and_looks_the_same():
    y, x = np.mgrid[:2100, :3000]
    array = np.stack([127 + 120 * np.sin(x / 200), 127 + 120 * np.cos(y / 150), (x + y) / 20], -1).astype(np.uint8)
    picture = decode(encoded(array, "JPEG", quality=90))
    assert picture.size == (1500, 1050)
    expected = np.asarray(Image.fromarray(array).resize((32, 32), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(np.asarray(picture.resize((32, 32), Image.Resampling.BICUBIC)) - expected).max() <= 3


def test_a_panorama_is_read_smaller_too():
    panorama = np.zeros((1500, 18_000), np.uint8)
    assert decode(encoded(panorama, "JPEG")).size == (9000, 750)
    assert decode(encoded(panorama[:, :9000], "JPEG")).size == (9000, 1500)
    assert refusal(encoded(panorama)).code == "too_many_pixels"


@pytest.mark.parametrize(
    "options", [{"lossless": True}, {"quality": 1}, {"lossless": True, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}]
)
def test_the_pixels_of_a_webp_are_counted_before_it_takes_memory_for_them(options, monkeypatch):
    data = encoded(pixels(30, 17, 3), "WEBP", **options)
    assert webp_size(data) == (17, 30)
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
    assert refusal(data, decoded_pixels=509).code == "too_many_pixels"


@pytest.mark.parametrize(
    ("data", "code", "part"),
    [
        (b"", "not_an_image", "empty"),
        (b"hello", "not_an_image", "not a picture"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><html>", "not_an_image", "web page"),
        (b'<?xml version="1.0"?>\n<!-- a drawing -->\n<svg xmlns="http://www.w3.org/2000/svg"/>', "not_an_image", "SVG"),
        *((b"\0\0\0\x18ftyp" + brand + bytes(4), "not_an_image", "HEIC") for brand in (b"heic", b"hevc", b"heim", b"mif1")),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "not_an_image", "not a picture"),  # a film
        (b"%PDF-1.7", "not_an_image", "not a picture"),
        (encoded(pixels(8, 8, 3), "EPS"), "not_an_image", "not a picture"),  # Pillow reads it with Ghostscript, and 40 others
        (crafted.png_bomb(20_000), "too_many_pixels", "50 megapixels"),
        (encoded(pixels(64, 64, 3))[:-3000], "damaged", "cut short"),
        (encoded(pixels(64, 64, 3), "JPEG")[:-1000], "damaged", "cut short"),
        (encoded(pixels(64, 64, 3), "JPEG")[:20], "not_an_image", ""),
    ],
)
def test_refused_files_get_a_code_and_a_reason(data, code, part):
    error = refusal(data)
    assert error.code == code
    assert part in str(error)
    assert str(error).endswith(".")


def test_pixels_are_counted_before_they_are_decoded(monkeypatch):
    data = encoded(pixels(64, 65, 3))
    assert decode(data, Limits(pixels=64 * 65)).size == (65, 64)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    assert refusal(data, pixels=64 * 65 - 1).code == "too_many_pixels"


def test_threads_share_nothing_that_pillow_warns_about():
    """As warnings.catch_warnings() in one of them would."""
    data = [
        crafted.png_bomb(12_000),
        encoded(pixels(8, 8, 3), exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff"),
        encoded(pixels(2100, 2000)),
    ]
    before, failures = list(warnings.filters), []

    def work(k):
        for _ in range(5):
            try:
                decode(data[k % 3])
            except UnreadableImage:
                failures.append(k)
            if warnings.filters != before:
                failures.append("filters")

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(failures) == [0] * 5 + [3] * 5


VALID = [
    *(encoded(pixels(16, 16, 3), kind) for kind in FORMATS),
    *(encoded(pixels(16, 16, 4), kind) for kind in ("PNG", "WEBP", "AVIF", "TIFF")),
    encoded(pixels(16, 16, 3), "JPEG", progressive=True),
    encoded(pixels(16, 16, top=65536, dtype=np.uint16)),
    encoded(pixels(16, 16), "GIF", transparency=3),
    encoded(pixels(16, 16, 3), "TIFF", compression="tiff_adobe_deflate", tiffinfo=TiffImagePlugin.ImageFileDirectory_v2()),
]


def decodes_or_refuses(data):
    try:
        picture = decode(data, Limits(pixels=100_000))
    except UnreadableImage:
        return
    assert (picture.mode, np.asarray(picture).dtype) == ("RGB", np.uint8)
    assert 1 <= min(picture.size) <= picture.width * picture.height <= 100_000


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200), st.sampled_from([b"", *(data[:k] for data in VALID for k in (4, 12, 40))]))
def test_any_bytes_at_all_are_decoded_or_refused(data, start):
    decodes_or_refuses(start + data)


@settings(deadline=None, max_examples=500)
@given(st.sampled_from(VALID), st.floats(0, 1), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 7)), max_size=8))
@example(VALID[0], 1.0, [])
def test_files_that_were_cut_or_flipped_are_decoded_or_refused(data, length, flips):
    damaged = bytearray(data[: round(length * len(data))])
    for where, bit in flips if damaged else ():
        damaged[int(where * (len(damaged) - 1))] ^= 1 << bit
    decodes_or_refuses(bytes(damaged))


@pytest.mark.parametrize("data", VALID)
def test_the_files_of_the_property_tests_are_readable_undamaged(data):
    assert decode(data).size == (16, 16)

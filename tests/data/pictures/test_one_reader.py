"""What a network is trained on and what it is shown later are the same pixels, whatever the picture is."""

import numpy as np
import pytest
from PIL import Image

from cifar_flax.data.pictures import isolated
from cifar_flax.data.pictures.decode import Limits
from cifar_flax.data.pictures.fit import fit_picture
from cifar_flax.data.sources import folders
from cifar_flax.errors import UserError
from cifar_flax.runtime.flag_values import Fit
from cifar_flax.serving.batch_predict import classify_all
from tests.serving import crafted

RNG = np.random.default_rng(0)


def noise(*shape, dtype=np.uint8, top=256, low=0):
    return RNG.integers(low, top, shape).astype(dtype)


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def palette():
    picture = Image.fromarray(noise(40, 30), "P")
    picture.putpalette(noise(256, 3).tobytes())
    return picture


PICTURES = {
    "rgb.png": (lambda: Image.fromarray(noise(40, 30, 3)), {}),
    "wide.png": (lambda: Image.fromarray(noise(9, 90, 3)), {}),
    "tall.jpg": (lambda: Image.fromarray(noise(200, 21, 3)), {}),
    "exact.png": (lambda: Image.fromarray(noise(16, 16, 3)), {}),
    "tiny.png": (lambda: Image.fromarray(noise(3, 2, 3)), {}),
    "grey.png": (lambda: Image.fromarray(noise(40, 30)), {}),
    "grey.jpg": (lambda: Image.fromarray(noise(40, 30)), {}),
    "black-and-white.png": (lambda: Image.fromarray(noise(40, 30) > 99), {}),
    "grey-16-bit.png": (lambda: Image.fromarray(noise(40, 30, dtype=np.uint16, top=65536)), {}),
    "dark-16-bit.tif": (lambda: Image.fromarray(noise(40, 30, dtype=np.uint16, top=20000)), {}),
    "float.tif": (lambda: Image.fromarray(RNG.random((40, 30), np.float32)), {}),
    "palette.png": (palette, {}),
    "clear-palette.gif": (palette, {"transparency": 7}),
    "rgba.png": (lambda: Image.fromarray(noise(40, 30, 4)), {}),
    "grey-alpha.png": (lambda: Image.fromarray(noise(40, 30, 2), "LA"), {}),
    "cmyk.jpg": (lambda: Image.fromarray(noise(40, 30, 4), "CMYK"), {}),
    "turned.jpg": (lambda: Image.fromarray(noise(40, 30, 3)), {"exif": turned(6)}),
    "turned.png": (lambda: Image.fromarray(noise(40, 30, 3)), {"exif": turned(3)}),
    "large.jpg": (lambda: Image.fromarray(noise(64, 80, 3)).resize((2600, 2100)), {}),
    "photo.avif": (lambda: Image.fromarray(noise(40, 30, 3)), {}),
    "photo.webp": (lambda: Image.fromarray(noise(40, 30, 3)), {}),
    "sign.ppm": (lambda: Image.fromarray(noise(40, 30, 3)), {}),
}


@pytest.fixture(scope="module")
def trained_on(tmp_path_factory):
    """Paths of the pictures and, for each, the pixels that a training on its folder has, 16 x 16."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "train" / "a").mkdir(parents=True)
    for name, (make, options) in PICTURES.items():
        make().save(root / "train" / "a" / name, **options)
    images = folders.read(root, 16)["train"].images
    return dict(zip(sorted(PICTURES), images, strict=True)), root / "train" / "a"


@pytest.mark.parametrize("name", PICTURES)
def test_a_network_sees_the_pixels_that_training_saw(trained_on, make_network, name):
    (images, folder), network = trained_on, make_network((16, 16, 3))
    np.testing.assert_array_equal(network.view(folder / name), images[name])
    np.testing.assert_array_equal(network.view((folder / name).read_bytes()), images[name])
    if name != "large.jpg":  # libjpeg reads a file at half its size
        np.testing.assert_array_equal(network.view(Image.open(folder / name)), images[name])


def test_predict_sees_them_too(trained_on, make_network):
    (images, folder), network = trained_on, make_network((16, 16, 3))
    names = [str(folder / name) for name in images]
    expected = [network.rank(probs) for probs in network.probabilities(np.stack(list(images.values())))]
    assert [answer for _, answer in classify_all(network, names)] == expected


def test_two_classes_that_differ_in_16_bit_grey_alone_differ_in_training(tmp_path):
    for name, low in (("dark", 12000), ("light", 38000)):
        (tmp_path / "train" / name).mkdir(parents=True)
        picture = Image.fromarray(noise(32, 32, dtype=np.uint16, low=low, top=low + 6000))
        picture.save(tmp_path / "train" / name / "1.png")
    dark, light = folders.read(tmp_path)["train"].images
    assert dark.max() < 72 < 146 < light.min()


def test_a_grey_network_sees_what_its_data_set_was_resized_to():
    grey = Image.fromarray(noise(50, 40))
    seen = fit_picture(grey.convert("RGB"), (16, 16, 1), Fit.CROP)
    np.testing.assert_array_equal(seen, fit_picture(grey, (16, 16, 1)))


def test_a_picture_that_ends_its_process_costs_none_of_the_others(tmp_path, monkeypatch):
    (tmp_path / "train" / "a").mkdir(parents=True)
    for i in range(12):
        Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / "train" / "a" / f"{i:02}.png")
    monkeypatch.setattr(isolated, "LARGE", Limits(cpu_seconds=0.6))
    bomb = tmp_path / "train" / "a" / "05.png"
    bomb.write_bytes(crafted.many_scans(2000, 60_000))
    with pytest.raises(UserError, match=r"05.png: cannot be read: The picture is written in a way that takes too long"):
        folders.read(tmp_path, 8)
    bomb.unlink()
    assert folders.read(tmp_path, 8)["train"].images[:, 0, 0, 0].tolist() == [i for i in range(12) if i != 5]


def test_the_time_for_a_large_picture_is_spent_in_vain_once_in_a_folder(tmp_path, monkeypatch):
    (tmp_path / "train" / "a").mkdir(parents=True)
    monkeypatch.setattr(isolated, "SMALL", Limits(cpu_seconds=0.05))
    monkeypatch.setattr(isolated, "LARGE", Limits(cpu_seconds=0.2))
    for i in range(4):
        (tmp_path / "train" / "a" / f"{i}.jpg").write_bytes(crafted.many_scans(2000, 60_000))
    with pytest.raises(UserError) as error:
        folders.read(tmp_path, 8)
    lines = str(error.value).split("\n")[1:]
    assert sorted(line.rpartition(": ")[2] for line in lines) == [
        *["It takes long to read, and was given up after another that does"] * 3,
        "The picture is written in a way that takes too long to read",
    ]

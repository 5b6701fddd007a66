import numpy as np
from PIL import Image

from cifar_flax.data.sources import archives
from tests.data.conftest import refused


def make_folder(root):
    for split, classes in {"train": ("cat", "dog"), "test": ("dog",)}.items():
        for name in classes:
            (root / split / name).mkdir(parents=True)
    Image.new("RGB", (64, 32), (255, 0, 0)).save(root / "train" / "cat" / "b.png")
    Image.new("L", (32, 32), 100).save(root / "train" / "cat" / "a.PNG")
    Image.new("RGBA", (40, 40), (0, 255, 0, 128)).save(root / "train" / "dog" / "c.png")
    Image.new("RGB", (32, 32), (0, 0, 255)).quantize(4).save(root / "test" / "dog" / "d.gif")
    (root / "train" / "cat" / "notes.txt").write_text("not a picture, and not named like one")
    (root / "train" / "cat" / ".hidden.png").write_text("nor this")
    return root


def test_folder(tmp_path):
    splits = archives.read(make_folder(tmp_path / "pets"), "pets").splits
    train, test = splits["train"], splits["test"]
    assert train.class_names == test.class_names == ("cat", "dog")
    assert train.labels.tolist() == [0, 0, 1]
    assert test.labels.tolist() == [1]
    assert train.images.shape == (3, 32, 32, 3)
    assert train.images[:, 5, 5].tolist() == [[100, 100, 100], [255, 0, 0], [0, 255, 0]]
    assert test.images[0, 5, 5].tolist() == [0, 0, 255]


def test_folder_pictures_are_cropped_antialiased_and_turned_upright(tmp_path):
    (tmp_path / "train" / "a").mkdir(parents=True)
    stripes = np.zeros((96, 192, 3), np.uint8)
    stripes[:, :48] = stripes[:, 144:] = 255  # what a central square does not show
    stripes[::2, 48:144] = 200  # finer than the result can show
    Image.fromarray(stripes).save(tmp_path / "train" / "a" / "a.png")
    turned = np.zeros((32, 32, 3), np.uint8)
    turned[:16] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # taken upside down
    Image.fromarray(turned).save(tmp_path / "train" / "a" / "b.png", exif=exif)
    images = archives.read(tmp_path, "a", 24).splits["train"].images
    assert images.shape[1:3] == (24, 24)
    assert abs(images[0, 2:-2, 2:-2].astype(int) - 100).max() < 20
    assert images[1, 3, 3, 0] < 20
    assert images[1, -3, 3, 0] > 235


def test_folders_that_cannot_be_read(tmp_path):
    refused(tmp_path, "/train/CLASS/")
    root = make_folder(tmp_path / "pets")
    (root / "train" / "cat" / "z.jpg").write_bytes(b"no picture")
    (root / "train" / "cat" / "y.png").write_bytes((root / "train" / "cat" / "b.png").read_bytes()[:60])
    refused(root, "y.png", "and 1 more")
    (root / "test" / "bird").mkdir()
    refused(root, "bird", "no such class")
    (root / "test" / "bird").rmdir()
    (root / "train" / "eel").mkdir()
    refused(root, "eel", "no pictures")

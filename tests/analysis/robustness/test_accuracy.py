import colorsys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cifar_flax.analysis.report.predictions import Predictions
from cifar_flax.analysis.robustness import accuracy
from cifar_flax.analysis.robustness.corruptions import corrupt
from cifar_flax.data.dataset import Dataset
from cifar_flax.errors import UserError
from cifar_flax.files.checksum import read_checksummed

RNG = np.random.default_rng(0)
COLORS = RNG.integers(40, 200, (90, 1, 1, 3))
IMAGES = np.clip(COLORS + RNG.integers(-20, 20, (90, 8, 8, 3)), 0, 255).astype(np.uint8)


class Looker:
    """A network that takes the strongest channel for the class."""

    def predict(self, dataset, which, tta="none"):
        assert (which, tta) == ("best", "none")
        return dataset.images.mean((1, 2)).astype(np.float32)


DATASET = Dataset(IMAGES, IMAGES.mean((1, 2)).argmax(1).astype(np.int32), ("red", "green", "blue"))


def test_a_network_that_sees_colour_alone_is_lost_without_it():
    found = accuracy.color_accuracy(Looker(), DATASET, "best")
    assert found["clean"] == 1
    assert found["grey"] == (DATASET.labels == 0).mean()  # all channels tie
    assert found["hue"]["120"] == found["hue"]["240"] == 0  # red has become green, or blue
    assert found["mean_hue"] == pytest.approx(np.mean(list(found["hue"].values())))
    table = accuracy.color_table(found)
    assert "as they are  100.00" in table
    assert "(90 images)" in table


def test_turn_hue_is_colorsys_and_grey_is_pillows():
    turned = accuracy.turn_hue(IMAGES[:2], 60)

    def turn(pixel):
        h, s, v = colorsys.rgb_to_hsv(*(pixel / 255))
        return np.array(colorsys.hsv_to_rgb((h + 60 / 360) % 1, s, v)) * 255

    expected = np.array([[turn(pixel) for pixel in row] for row in IMAGES[0]])
    np.testing.assert_allclose(turned[0], expected, atol=0.5 + 1e-6)
    pillow = np.asarray(Image.fromarray(IMAGES[0]).convert("L"))
    np.testing.assert_allclose(accuracy.to_grey(IMAGES[:1])[0], np.repeat(pillow[..., None], 3, -1), atol=1)


def test_corruption_accuracy_is_that_of_the_corrupted_images(tmp_path):
    found = accuracy.corruption_accuracy(Looker(), DATASET, "best", names=["gaussian_noise", "contrast"])
    noisy = corrupt(IMAGES, "gaussian_noise", 5).mean((1, 2)).argmax(1)
    assert found["corruptions"]["gaussian_noise"][4] == (noisy == DATASET.labels).mean()
    assert found["clean"] == 1
    assert found["mean"] == pytest.approx(np.mean([found["corruptions"]["gaussian_noise"], found["corruptions"]["contrast"]]))
    table = accuracy.corruption_table(found)
    assert [line.split()[0] for line in table.splitlines()] == ["top-1,", "gaussian_noise", "contrast", "all"]

    of = Predictions("test", 9, "flip", np.zeros((90, 3)), DATASET.labels)
    path = accuracy.write_robustness(tmp_path / "report", "corruptions", of, found)
    assert path.name == "test_corruptions.json"
    assert read_checksummed(path) == {"split": "test", "checkpoint": 9, "tta": "flip", **found}
    picture = accuracy.draw_corruptions(tmp_path / "report", "test", DATASET, found)
    assert picture.name == "test_corruptions.png"
    assert Image.open(picture).width > 600


def test_test_time_augmentation_is_that_of_the_predictions():
    class Asked:
        def predict(self, dataset, which, tta):
            asked.append((which, tta))
            return np.zeros((len(dataset), 3), np.float32)

    asked = []
    accuracy.color_accuracy(Asked(), DATASET, 7, "flip")
    accuracy.corruption_accuracy(Asked(), DATASET, 7, "flip", ["contrast"])
    assert asked == [(7, "flip")] * (7 + 6)


def test_columns_of_the_picture_are_headed(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: drawn.append(figure))
    found = {"clean": 1.0, "corruptions": {"contrast": [0.9, 0.8, 0.7, 0.6, 0.5], "fog": [0.5] * 5}}
    accuracy.draw_corruptions(tmp_path, "test", DATASET, found)
    titles = [axes.get_title() for axes in drawn[0].axes]
    assert titles == ["as it is", *(f"severity {k}" for k in range(1, 6)), *[""] * 6]


def test_grey_images_are_refused():
    grey = Dataset(IMAGES[..., :1], DATASET.labels, DATASET.class_names)
    for probe in (accuracy.color_accuracy, accuracy.corruption_accuracy):
        with pytest.raises(UserError, match="1 channel have no colour; this needs three"):
            probe(Looker(), grey, "best")

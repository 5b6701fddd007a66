import numpy as np
import pytest
from PIL import Image

from cifar_flax.analysis.predictions import Predictions
from cifar_flax.analysis.robustness import accuracy
from cifar_flax.analysis.robustness.corruptions import corrupt
from cifar_flax.data.dataset import Dataset
from cifar_flax.errors import UserError
from cifar_flax.files.checksum import read_checksummed

RNG = np.random.default_rng(0)
COLORS = RNG.integers(40, 200, (90, 1, 1, 3))
IMAGES = np.clip(COLORS + RNG.integers(-20, 20, (90, 8, 8, 3)), 0, 255).astype(np.uint8)


class ColorRun:
    """Stands for a run whose network predicts the strongest channel."""

    def predict(self, dataset, which, tta="none"):
        assert (which, tta) == ("best", "none")
        return dataset.images.mean((1, 2)).astype(np.float32)


DATASET = Dataset(IMAGES, IMAGES.mean((1, 2)).argmax(1).astype(np.int32), ("red", "green", "blue"))


def test_a_network_that_reads_colour_alone_fails_without_it():
    colors = accuracy.color_accuracy(ColorRun(), DATASET, "best")
    assert colors["clean"] == 1
    assert colors["grey"] == (DATASET.labels == 0).mean()  # all channels tie
    assert colors["hue"]["120"] == colors["hue"]["240"] == 0  # red has become green, or blue
    assert colors["mean_hue"] == pytest.approx(np.mean(list(colors["hue"].values())))
    lines = accuracy.color_table(colors).splitlines()
    assert lines[1].split() == ["clean", "100.00"]
    assert lines[-1].endswith("(90 images)")


def test_corruption_accuracy_is_measured_on_corrupted_images(tmp_path):
    corrupted = accuracy.corruption_accuracy(ColorRun(), DATASET, "best", names=["gaussian_noise", "contrast"])
    noisy = corrupt(IMAGES, "gaussian_noise", 5).mean((1, 2)).argmax(1)
    assert corrupted["corruptions"]["gaussian_noise"][4] == (noisy == DATASET.labels).mean()
    assert corrupted["clean"] == 1
    assert corrupted["mean"] == pytest.approx(np.mean(list(corrupted["corruptions"].values())))
    table = accuracy.corruption_table(corrupted)
    assert [line.split()[0] for line in table.splitlines()] == ["top-1,", "gaussian_noise", "contrast", "mean"]

    predictions = Predictions("test", 9, "flip", np.zeros((90, 3)), DATASET.labels)
    path = accuracy.write_robustness(tmp_path / "report", "corruptions", predictions, corrupted)
    assert path.name == "test_corruptions.json"
    assert read_checksummed(path) == {"split": "test", "checkpoint": 9, "tta": "flip", "ema": True, **corrupted}
    picture = accuracy.draw_corruptions(tmp_path / "report", "test", DATASET, corrupted)
    assert picture.name == "test_corruptions.png"
    assert Image.open(picture).width > 600


def test_checkpoint_and_test_time_augmentation_are_passed_on():
    class RecordingRun:
        def predict(self, dataset, which, tta):
            calls.append((which, tta))
            return np.zeros((len(dataset), 3), np.float32)

    calls = []
    accuracy.color_accuracy(RecordingRun(), DATASET, 7, "flip")
    accuracy.corruption_accuracy(RecordingRun(), DATASET, 7, "flip", ["contrast"])
    assert calls == [(7, "flip")] * (7 + 6)


def test_the_picture_has_a_row_per_corruption_and_a_column_per_severity():
    accuracies = {"clean": 1.0, "corruptions": {"contrast": [0.9, 0.8, 0.7, 0.6, 0.5], "fog": [0.5] * 5}}
    axes = accuracy.corruption_figure(IMAGES[0], accuracies).axes
    assert [ax.get_title() for ax in axes] == ["clean", *(f"severity {k}" for k in range(1, 6)), *[""] * 6]
    assert [ax.get_xlabel() for ax in axes[:6]] == ["100.0%", "90.0%", "80.0%", "70.0%", "60.0%", "50.0%"]
    np.testing.assert_array_equal(axes[6].images[0].get_array(), IMAGES[0])
    np.testing.assert_array_equal(axes[8].images[0].get_array(), corrupt(IMAGES[:1], "fog", 2)[0])


def test_images_of_one_channel_are_refused():
    grey = Dataset(IMAGES[..., :1], DATASET.labels, DATASET.class_names)
    for measure in (accuracy.color_accuracy, accuracy.corruption_accuracy):
        with pytest.raises(UserError, match="1 channel have no colour; corruptions and hues need three channels"):
            measure(ColorRun(), grey, "best")

import dataclasses

import numpy as np
import pytest

from cifar_flax.analysis.predictions import Predictions
from cifar_flax.analysis.robustness import accuracy
from cifar_flax.analysis.robustness.corruptions import corrupt
from cifar_flax.data.dataset import Dataset
from cifar_flax.errors import UserError
from cifar_flax.files.checksum import dumps_checksummed, read_checksummed

RNG = np.random.default_rng(0)
COLORS = RNG.integers(40, 200, (90, 1, 1, 3))
IMAGES = np.clip(COLORS + RNG.integers(-20, 20, (90, 8, 8, 3)), 0, 255).astype(np.uint8)


class ColorNetwork:
    """Stands for a network that predicts the strongest channel, and counts how often it is asked."""

    def __init__(self):
        self.calls = []

    def logits(self, images, tta="none"):
        self.calls.append(tta)
        return images.mean((1, 2)).astype(np.float32)


DATASET = Dataset(IMAGES, IMAGES.mean((1, 2)).argmax(1).astype(np.int32), ("red", "green", "blue"))
CLEAN = Predictions("test", 9, "none", ColorNetwork().logits(IMAGES), DATASET.labels)
TWO = ["gaussian_noise", "contrast"]


def test_a_network_that_reads_colour_alone_fails_without_it(tmp_path):
    colors = accuracy.color_accuracy(ColorNetwork(), DATASET, CLEAN, tmp_path)
    assert colors["clean"] == 1
    assert colors["grey"] == (DATASET.labels == 0).mean()  # all channels tie
    assert colors["hue"]["120"] == colors["hue"]["240"] == 0  # red has become green, or blue
    assert colors["mean_hue"] == pytest.approx(np.mean(list(colors["hue"].values())))
    assert accuracy.read_robustness(tmp_path, CLEAN, "color") == colors
    lines = accuracy.color_table(colors).splitlines()
    assert lines[1].split() == ["clean", "100.00"]
    assert lines[-1].endswith("(90 images)")


def test_colours_are_changed_one_at_a_time(tmp_path, monkeypatch):
    network, asked = ColorNetwork(), []
    monkeypatch.setattr(accuracy, "shift_hue", lambda images, degrees: asked.append(len(network.calls)) or images)
    accuracy.color_accuracy(network, DATASET, CLEAN, tmp_path)
    assert asked == [1, 2, 3, 4, 5]  # after the score of the one before


def test_corruption_accuracy_is_measured_on_corrupted_images(tmp_path):
    corrupted = accuracy.corruption_accuracy(ColorNetwork(), DATASET, CLEAN, tmp_path / "report", TWO)
    noisy = corrupt(IMAGES, "gaussian_noise", 5).mean((1, 2)).argmax(1)
    assert corrupted["corruptions"]["gaussian_noise"][4] == (noisy == DATASET.labels).mean()
    assert (corrupted["split"], corrupted["checkpoint"], corrupted["tta"], corrupted["clean"]) == ("test", 9, "none", 1)
    assert corrupted["mean"] == pytest.approx(np.mean(list(corrupted["corruptions"].values())))
    assert read_checksummed(tmp_path / "report" / "test_corruptions.json") == corrupted
    table = accuracy.corruption_table(corrupted)
    assert [line.split()[0] for line in table.splitlines()] == ["top-1,", "gaussian_noise", "contrast", "mean"]


def test_interrupted_corruptions_go_on_where_they_were(tmp_path):
    class Interrupted(ColorNetwork):
        def logits(self, images, tta="none"):
            if len(self.calls) == 7:
                raise KeyboardInterrupt
            return super().logits(images, tta)

    with pytest.raises(KeyboardInterrupt):
        accuracy.corruption_accuracy(Interrupted(), DATASET, CLEAN, tmp_path, TWO)
    assert accuracy.read_robustness(tmp_path, CLEAN, "corruptions") is None  # not all are there
    network = ColorNetwork()
    resumed = accuracy.corruption_accuracy(network, DATASET, CLEAN, tmp_path, TWO)
    assert len(network.calls) == 3
    assert resumed == accuracy.corruption_accuracy(ColorNetwork(), DATASET, CLEAN, tmp_path / "anew", TWO)
    assert accuracy.read_robustness(tmp_path, CLEAN, "corruptions") == resumed


@pytest.mark.parametrize("change", ["checkpoint", "logits", "damage"])
def test_scores_of_another_checkpoint_and_damaged_ones_are_not_continued(change, tmp_path):
    accuracy.corruption_accuracy(ColorNetwork(), DATASET, CLEAN, tmp_path, TWO)
    path, predictions = tmp_path / "test_corruptions.json", CLEAN
    if change == "checkpoint":
        predictions = dataclasses.replace(CLEAN, step=10)
    elif change == "logits":
        predictions = dataclasses.replace(CLEAN, logits=2 * CLEAN.logits)
    else:
        path.write_text(path.read_text().replace("0.", "1."))
    network = ColorNetwork()
    accuracy.corruption_accuracy(network, DATASET, predictions, tmp_path, TWO)
    assert len(network.calls) == 10


def test_test_time_augmentation_is_passed_on_and_has_files_of_its_own(tmp_path):
    network, predictions = ColorNetwork(), dataclasses.replace(CLEAN, tta="flip")
    accuracy.color_accuracy(network, DATASET, predictions, tmp_path)
    accuracy.corruption_accuracy(network, DATASET, predictions, tmp_path, ["contrast"])
    assert network.calls == ["flip"] * (6 + 5)
    assert {path.name for path in tmp_path.iterdir()} == {"test_flip_color.json", "test_flip_corruptions.json"}


def test_the_picture_has_a_row_per_corruption_and_a_column_per_severity():
    accuracies = {"clean": 1.0, "corruptions": {"contrast": [0.9, 0.8, 0.7, 0.6, 0.5], "fog": [0.5] * 5}}
    axes = accuracy.corruption_figure(IMAGES[0], accuracies).axes
    assert [ax.get_title() for ax in axes] == ["clean", *(f"severity {k}" for k in range(1, 6)), *[""] * 6]
    assert [ax.get_xlabel() for ax in axes[:6]] == ["100.0%", "90.0%", "80.0%", "70.0%", "60.0%", "50.0%"]
    np.testing.assert_array_equal(axes[6].images[0].get_array(), IMAGES[0])
    np.testing.assert_array_equal(axes[8].images[0].get_array(), corrupt(IMAGES[:1], "fog", 2)[0])


def test_images_of_one_channel_are_refused(tmp_path):
    grey = Dataset(IMAGES[..., :1], DATASET.labels, DATASET.class_names)
    for measure in (accuracy.color_accuracy, accuracy.corruption_accuracy):
        with pytest.raises(UserError, match="1 channel have no colour; corruptions and hues need three channels"):
            measure(ColorNetwork(), grey, CLEAN, tmp_path)


@pytest.mark.parametrize("kind", ["corruptions", "color"])
@pytest.mark.parametrize(
    "change",
    [
        {"corruptions": {"contrast": [[1]]}, "hue": {"60": [1]}},
        {"corruptions": {"contrast": [0.5] * 6}, "hue": [0.5]},
        {"corruptions": {"contrast": [0.5]}, "mean": 0.5, "hue": 1},
        {"corruptions": {"unheard of": [0.5] * 5}, "mean_hue": 2},
        {"corruptions": 1, "grey": "x"},
    ],
)
def test_scores_that_are_none_are_treated_as_missing(tmp_path, kind, change):
    accuracy.corruption_accuracy(ColorNetwork(), DATASET, CLEAN, tmp_path, ["contrast"])
    accuracy.color_accuracy(ColorNetwork(), DATASET, CLEAN, tmp_path)
    path = tmp_path / f"test_{kind}.json"
    sound = read_checksummed(path)
    assert accuracy.read_robustness(tmp_path, CLEAN, kind) == sound
    path.write_text(dumps_checksummed({**sound, **{name: part for name, part in change.items() if name in sound}}))
    assert accuracy.read_robustness(tmp_path, CLEAN, kind) is None

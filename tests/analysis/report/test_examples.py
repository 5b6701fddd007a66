import numpy as np
from PIL import Image

from cifar_flax.analysis.figures import PictureWriter
from cifar_flax.analysis.report.confusion import Pair
from cifar_flax.analysis.report.examples import confident_mistakes, pair_pictures, prediction_card
from cifar_flax.analysis.report.explanations import overlay
from tests.conftest import tiny_split


def test_mistakes_are_ordered_by_confidence():
    probs = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7], [np.nan, np.nan]])
    labels = np.array([0, 1, 0, 0, 0])
    assert confident_mistakes(probs, labels, 9).tolist() == [2, 3, 1]
    assert confident_mistakes(probs, labels, 1).tolist() == [2]
    assert confident_mistakes(probs[:1], labels[:1], 9).tolist() == []


def test_a_card_shows_the_image_and_its_five_most_likely_classes():
    image = tiny_split(10, 0).images[3]
    probs = np.array([0.05, 0.3, 0.02, 0.5, 0.01, 0.07, 0.05])
    left, right = prediction_card(image, 1, probs, tuple("abcdefg")).axes
    np.testing.assert_array_equal(left.images[0].get_array(), image)
    assert [label.get_text() for label in right.get_yticklabels()] == ["d", "b", "f", "a", "g"]
    assert [bar.get_width() for bar in right.patches] == [0.5, 0.3, 0.07, 0.05, 0.05]
    colors = [bar.get_facecolor() for bar in right.patches]
    assert len({colors[0], colors[1], colors[2]}) == 3  # wrong, true, any other


def test_a_pair_shows_confused_images_and_images_of_the_other_class(tmp_path):
    data = tiny_split(60, 0)
    predicted = data.labels.copy()
    wrong = np.flatnonzero(data.labels == 4)[:3]
    predicted[wrong] = 7
    pair = pair_pictures(PictureWriter(tmp_path), "pair", Pair(4, 7, 3, 6), data, predicted)
    assert "3 of 6 (50.0%)" in pair["text"]
    for (name, kind, picture), rows in zip(pair["sides"], (wrong, np.flatnonzero(data.labels == 7)[:2]), strict=True):
        assert (name, kind) in {(data.class_names[4], "right"), (data.class_names[7], "wrong")}
        pixels = np.asarray(Image.open(tmp_path / picture.file))
        side = data.images.shape[1]
        shown = [pixels[:, k * (side + 2) :][:, :side, :3] for k in range(len(rows))]
        np.testing.assert_array_equal(shown, data.images[rows])


def test_evidence_is_orange_where_covering_costs_and_blue_where_it_helps():
    image = np.full((8, 8, 3), 100, np.uint8)
    drop = np.zeros((3, 3))
    drop[0, 0], drop[2, 2] = 0.5, -0.25
    shown = overlay(image, drop, size=4, stride=2).astype(int)
    assert shown[0, 0, 0] - shown[0, 0, 2] > 2 * (shown[7, 7, 2] - shown[7, 7, 0]) > 20
    np.testing.assert_array_equal(shown[0, 7], (100, 100, 100))
    np.testing.assert_array_equal(overlay(image, np.zeros((3, 3)), 4, 2), image)

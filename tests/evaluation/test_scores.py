import subprocess
import sys
import warnings

import jax
import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from cifar_flax.evaluation.scores import (
    confusion_matrix,
    informative_top_k,
    label_rank,
    predicted_classes,
    probabilities,
    reliability,
    scores,
)

CLASSES = 12
NAMES = tuple(f"class {i}" for i in range(CLASSES))


@pytest.fixture
def predictions():
    """Logits that are often right; class 7 is in no label and no prediction, class 3 in no label, class 5 in no prediction."""
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, 4, 5, 6, 8, 9, 10, 11], 400).astype(np.int32)
    logits = rng.normal(size=(400, CLASSES)).astype(np.float32)
    logits[np.arange(400), labels] += 1
    logits[:, [5, 7]] -= 20
    return logits, labels


def test_scores_are_those_of_scikit_learn(predictions):
    logits, labels = predictions
    actual = scores(logits, labels, NAMES)
    probs, predicted = scipy.special.softmax(logits.astype(np.float64), axis=1), logits.argmax(1)
    assert ({7, 3} & {*labels}, {7, 5} & {*predicted}, 3 in predicted, 5 in labels) == (set(), set(), True, True)
    assert actual["n"] == 400
    assert actual["loss"] == pytest.approx(sklearn.metrics.log_loss(labels, probs, labels=range(CLASSES)), rel=1e-12)
    assert actual["brier"] == pytest.approx(((probs - np.eye(CLASSES)[labels]) ** 2).sum(1).mean(), rel=1e-12)
    for k in (1, 2, 3, 5):
        assert actual[f"top{k}"] == sklearn.metrics.top_k_accuracy_score(labels, logits, k=k, labels=range(CLASSES))
    for name, score in (("f1", "f1_score"), ("precision", "precision_score"), ("recall", "recall_score")):
        expected = getattr(sklearn.metrics, score)(labels, predicted, average="macro", zero_division=0)
        assert actual[f"macro_{name}"] == pytest.approx(expected, rel=1e-12)


def test_the_table_of_classes_is_scikit_learns_report(predictions):
    logits, labels = predictions
    actual = scores(logits, labels, NAMES)["per_class"]
    report = sklearn.metrics.classification_report(
        labels, logits.argmax(1), labels=range(CLASSES), target_names=NAMES, zero_division=0, output_dict=True
    )
    assert tuple(actual) == NAMES
    for name in NAMES:
        expected = [report[name][column] for column in ("recall", "precision", "f1-score", "support")]
        assert list(actual[name]) == ["accuracy", "precision", "f1", "support"]
        assert list(actual[name].values()) == pytest.approx(expected, rel=1e-12)


def test_confusion_matrix_has_a_row_a_true_class(predictions):
    logits, labels = predictions
    actual = confusion_matrix(logits.argmax(1), labels, CLASSES)
    assert actual.dtype == np.int64
    np.testing.assert_array_equal(actual, sklearn.metrics.confusion_matrix(labels, logits.argmax(1), labels=range(CLASSES)))
    np.testing.assert_array_equal(confusion_matrix(np.array([1, -1]), np.array([0, 0]), 2), [[0, 1], [0, 0]])


def test_superclasses_are_those_of_the_predicted_classes(predictions):
    logits, labels = predictions
    upper = np.arange(CLASSES) % 3
    actual = scores(logits, labels, NAMES, ("a", "b", "c", "none"), tuple(upper))
    predicted, true = upper[logits.argmax(1)], upper[labels]
    assert actual["superclass_top1"] == sklearn.metrics.accuracy_score(true, predicted)
    assert actual["superclass_top1"] > actual["top1"]
    recalls = sklearn.metrics.recall_score(true, predicted, average=None)
    expected = {name: {"accuracy": pytest.approx(recalls[i]), "support": (true == i).sum()} for i, name in enumerate("abc")}
    assert actual["per_superclass"] == {**expected, "none": {"accuracy": 0, "support": 0}}


def test_labels_without_a_superclass_are_left_out_of_its_scores():
    logits = np.eye(3, dtype=np.float32)[[0, 1, 2, 2, 0]]
    actual = scores(logits, np.int32([0, 1, 2, 1, 2]), ("a", "b", "c"), ("x", "y"), (0, 1, -1))
    assert actual["superclass_top1"] == 2 / 3
    assert actual["per_superclass"] == {"x": {"accuracy": 1.0, "support": 1}, "y": {"accuracy": 0.5, "support": 2}}


def test_without_superclasses_there_are_no_scores_of_them(predictions):
    assert not any("superclass" in name for name in scores(*predictions, NAMES))


@pytest.mark.parametrize(("classes", "expected"), [(1, [1]), (2, [1]), (3, [1, 2]), (5, [1, 2, 3]), (6, [1, 2, 3, 5])])
def test_a_top_k_that_is_always_right_says_nothing(classes, expected):
    assert informative_top_k(classes) == expected


def test_rank_is_the_place_of_the_label_in_a_stable_sort(predictions):
    logits, labels = predictions
    logits = np.round(logits)  # many ties
    expected = [list(np.argsort(-row, kind="stable")).index(label) for row, label in zip(logits, labels, strict=True)]
    np.testing.assert_array_equal(label_rank(logits, labels), expected)


def test_ties_and_nans_rank_the_same_in_numpy_and_on_the_device():
    rng = np.random.default_rng(1)
    logits = rng.integers(-2, 3, (300, 6)).astype(np.float32)  # many ties
    logits[rng.random(logits.shape) < 0.05] = np.nan
    logits[rng.random(logits.shape) < 0.05] = np.inf
    logits[rng.random(logits.shape) < 0.05] = -np.inf
    labels = rng.integers(0, 6, 300).astype(np.int32)
    np.testing.assert_array_equal(label_rank(logits, labels), jax.jit(label_rank)(logits, labels))
    np.testing.assert_array_equal(label_rank(logits, labels) == 0, predicted_classes(logits) == labels)
    diverged = np.isnan(logits).any(1)
    assert diverged.any()
    assert (label_rank(logits, labels)[diverged] == 6).all()  # in no guess right


def test_probabilities_are_the_softmax_of_scipy(predictions):
    logits, _ = predictions
    actual = probabilities(logits)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, scipy.special.softmax(logits.astype(np.float64), 1), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_network_that_has_diverged_still_gets_a_report(bad):
    labels = np.arange(9, dtype=np.int32) % 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        actual = scores(np.full((9, 3), bad, np.float32), labels, NAMES[:3], ("all",), (0, 0, 0))
    assert not any(np.isfinite(actual[name]) for name in ("loss", "ece", "brier"))
    if np.isnan(bad):
        assert all(actual[name] == 0 for name in ("top1", "top5", "macro_f1", "superclass_top1"))
        assert all(row["accuracy"] == 0 and row["support"] == 3 for row in actual["per_class"].values())


def test_an_image_with_a_nan_counts_as_wrong_and_as_no_other_class(predictions):
    logits, labels = predictions
    logits[::10, 6] = np.nan
    predicted = np.where(np.arange(400) % 10 == 0, -1, logits.argmax(1))
    actual = scores(logits, labels, NAMES)
    assert actual["top1"] == (predicted == labels).mean()
    occurring = sorted({*labels, *predicted} - {-1})
    expected = sklearn.metrics.f1_score(labels, predicted, labels=occurring, average="macro", zero_division=0)
    assert actual["macro_f1"] == pytest.approx(expected, rel=1e-12)


def test_large_logits_do_not_overflow():
    logits = np.array([[3e38, -3e38], [-3e38, 3e38]], np.float32)
    assert scores(logits, np.array([0, 1]), NAMES[:2])["loss"] == 0
    assert scores(np.array([[1e4, 0]], np.float32), np.array([1]), NAMES[:2])["loss"] == 1e4


def test_calibration_error_is_that_of_a_loop_over_bins(predictions):
    logits, labels = predictions
    probs = scipy.special.softmax(logits.astype(np.float64), axis=1)
    for bins in (1, 10, 15):
        expected = 0.0
        actual = reliability(probs, labels, bins)
        for i in range(bins):
            rows = [row for row in range(400) if i / bins < probs[row].max() <= (i + 1) / bins]
            assert actual.count[i] == len(rows)
            if rows:
                accuracy = np.mean([probs[row].argmax() == labels[row] for row in rows])
                confidence = np.mean([probs[row].max() for row in rows])
                assert (actual.accuracy[i], actual.confidence[i]) == pytest.approx((accuracy, confidence))
                expected += len(rows) / 400 * abs(accuracy - confidence)
        assert actual.ece == pytest.approx(expected, rel=1e-12)
    assert scores(logits, labels, NAMES)["ece"] == pytest.approx(expected, rel=1e-9)


def test_calibration_error_by_hand():
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.7, 0.3], [0.5, 0.5]])
    actual = reliability(probs, np.array([0, 1, 0, 1]), bins=2)  # 0.5 belongs to the lower bin, and class 0 is its guess
    assert actual.ece == pytest.approx((1 * 0.5 + 3 * abs(2 / 3 - 2.5 / 3)) / 4)
    assert (actual.count.tolist(), actual.accuracy.tolist()) == ([1, 3], [0, pytest.approx(2 / 3)])
    assert actual.confidence.tolist() == pytest.approx([0.5, 2.5 / 3])
    assert reliability(np.eye(2), np.array([0, 1])).ece == 0
    assert reliability(np.eye(2), np.array([1, 0])).ece == 1


def test_reliability_refuses_what_are_no_probabilities(predictions):
    logits, labels = predictions
    with pytest.raises(ValueError, match="does not sum to 1"):
        reliability(logits, labels)
    with pytest.raises(ValueError, match=r"labels \(3,\)"):
        reliability(np.eye(2), np.zeros(3, np.int32))


def test_saved_predictions_can_be_scored_without_jax():
    script = "import sys, cifar_flax.evaluation.scores; print('jax' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "False"

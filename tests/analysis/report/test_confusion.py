import numpy as np
import pytest
import sklearn.metrics

from cifar_flax.analysis.report.confusion import Pair, by_superclass, coarse_confusion, heat_map, most_confused


def test_most_confused_pairs_are_the_largest_off_diagonal_cells():
    confusion = np.array([[90, 3, 7], [0, 100, 0], [3, 0, 47]])
    assert most_confused(confusion, 2) == [Pair(0, 2, 7, 100), Pair(0, 1, 3, 100)]
    assert most_confused(confusion, 9) == [Pair(0, 2, 7, 100), Pair(0, 1, 3, 100), Pair(2, 0, 3, 50)]
    assert most_confused(np.diag([4, 5]), 9) == []


def test_the_coarse_matrix_is_scikit_learns_on_coarse_labels():
    rng = np.random.default_rng(0)
    coarse_of_fine = (2, 0, 1, 0, 2, 1)
    labels, predicted = rng.integers(0, 6, 200), rng.integers(0, 6, 200)
    coarse = np.array(coarse_of_fine)
    expected = sklearn.metrics.confusion_matrix(coarse[labels], coarse[predicted])
    fine = sklearn.metrics.confusion_matrix(labels, predicted)
    np.testing.assert_array_equal(coarse_confusion(fine, coarse_of_fine, 3), expected)
    assert by_superclass(coarse_of_fine).tolist() == [1, 3, 2, 5, 0, 4]


def test_classes_without_a_superclass_are_left_out_of_the_coarse_matrix():
    assert coarse_confusion(np.array([[5, 1, 2], [0, 4, 3], [7, 8, 9]]), (1, 0, -1), 2).tolist() == [[4, 0], [1, 5]]


@pytest.mark.parametrize(("classes", "labels"), [(3, 3), (100, 100), (300, 0)])
def test_a_heat_map_has_a_row_and_a_name_per_class(classes, labels):
    confusion = np.eye(classes, dtype=int) * 4
    confusion[0, 1] = 4
    axes = heat_map(confusion, tuple(f"class {i}" for i in range(classes)), "all").axes[0]
    drawn = axes.images[0].get_array()
    assert drawn.shape == (classes, classes)
    assert (drawn[0, 0], drawn[0, 1], drawn[1, 1]) == (0.5, 0.5, 1)
    assert len(axes.get_yticks()) == labels
    assert axes.images[0].cmap(0.0)[:3] == (1, 1, 1)


def test_names_of_cifar_superclasses_are_whole_and_written_with_spaces():
    names = ("household_electrical_devices", "large_natural_outdoor_scenes", "large_omnivores_and_herbivores")
    axes = heat_map(np.eye(3, dtype=int), names, "all").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [name.replace("_", " ") for name in names]

import numpy as np

from cifar_flax.analysis.report.charts import bar_chart, coverage_curve, ranked_classes, reliability_diagram
from cifar_flax.evaluation.scores import reliability


def test_classes_with_equal_shortened_names_have_a_bar_each():
    rows = [(f"a class whose name begins like another {k}", share) for k, share in enumerate((0.9, 0.5, 0.1))]
    axes = bar_chart(rows, "accuracy").axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.9, 0.5, 0.1]
    assert len(axes.get_yticklabels()) == 3
    assert bar_chart([], "accuracy").axes[0].patches[:] == []


def test_bars_of_all_charts_are_on_one_scale():
    charts = [bar_chart(rows, "accuracy") for rows in ([("a", 0.1)], [("a much longer name", 1.0), ("b", 0.5)])]
    lengths = [figure.axes[0].get_position().width / np.ptp(figure.axes[0].get_xlim()) for figure in charts]
    assert lengths[0] == lengths[1]


def test_names_of_cifar_superclasses_are_whole_and_within_the_chart():
    figure = bar_chart([("large_omnivores_and_herbivores", 0.9), ("household_electrical_devices", 0.5)], "accuracy")
    labels = figure.axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["large omnivores and herbivores", "household electrical devices"]
    assert min(label.get_window_extent().x0 for label in labels) >= 0


def test_classes_are_ranked_and_those_without_images_left_out():
    rows = {"a": {"accuracy": 0.2, "support": 5}, "b": {"accuracy": 0.8, "support": 5}, "c": {"accuracy": 0.0, "support": 0}}
    assert ranked_classes(rows) == [("b", 0.8), ("a", 0.2)]


def test_reliability_after_and_before_calibration_is_in_one_figure():
    labels = np.array([0, 0, 1, 1], np.int32)
    after = reliability(np.array([[0.75, 0.25]] * 4), labels)
    before = reliability(np.array([[0.95, 0.05]] * 4), labels)
    alone, both = (reliability_diagram(after, earlier).axes[0] for earlier in (None, before))
    assert [bar.get_height() for bar in alone.patches] == [0.5]
    assert [bar.get_height() for bar in both.patches] == [0.5, 0.5]
    assert both.get_title() == "calibration error 25.0%, before 45.0%"


def test_coverage_is_the_accuracy_of_the_most_confident_images():
    probs = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    line = coverage_curve(probs, np.array([1, 0, 1, 0])).axes[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), [1, 1, 2 / 3, 1 / 2])
    np.testing.assert_allclose(line.get_xdata(), [0.25, 0.5, 0.75, 1])

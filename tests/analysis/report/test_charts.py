from cifar_flax.analysis.report.charts import class_chart, ranked_classes


def test_classes_with_equal_shortened_names_have_a_bar_each():
    rows = [(f"a class whose name begins like another {k}", share) for k, share in enumerate((0.9, 0.5, 0.1))]
    axes = class_chart(rows, "accuracy").axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.9, 0.5, 0.1]
    assert len(axes.get_yticklabels()) == 3
    assert class_chart([], "accuracy").axes[0].patches[:] == []


def test_classes_are_ranked_and_those_without_images_left_out():
    rows = {"a": {"accuracy": 0.2, "support": 5}, "b": {"accuracy": 0.8, "support": 5}, "c": {"accuracy": 0.0, "support": 0}}
    assert ranked_classes(rows) == [("b", 0.8), ("a", 0.2)]

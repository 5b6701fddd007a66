import pandas as pd
import pytest

from cifar_flax.analysis.report.curves import epochs_of, learning_curve, overlaid_curves


def metrics(validated=True, epochs=3):
    rows = [{"kind": "step", "step": 1, "epoch": 1, "loss": 3.0}]
    for epoch in range(1, epochs + 1):
        row = {"kind": "epoch", "step": 10 * epoch, "epoch": epoch, "train_loss": 2 / epoch, "train_top1": epoch / 10}
        rows.append(row | ({"validation_loss": None if epoch == 2 else 3 / epoch, "validation_top1": 0.1} if validated else {}))
    return pd.DataFrame(rows)


def test_a_curve_has_training_validation_and_the_checkpoint():
    axes = learning_curve(epochs_of(metrics()), "loss", step=20).axes[0]
    train, validation, checkpoint = axes.lines
    assert train.get_ydata().tolist() == [2, 1, 2 / 3]
    assert pd.isna(validation.get_ydata()).tolist() == [False, True, False]  # a loss that was not finite is null in the file
    assert checkpoint.get_xdata() == [2, 2]


def test_a_run_without_validation_has_one_curve():
    axes = learning_curve(epochs_of(metrics(validated=False)), "top1", step=25).axes[0]
    assert [line.get_label() for line in axes.lines] == ["train"]


@pytest.mark.parametrize("validated", [True, False])
def test_a_single_epoch_is_a_point_that_shows_at_a_whole_number(validated):
    one = epochs_of(metrics(validated, epochs=1))
    for figure in (learning_curve(one, "loss", 99), overlaid_curves([("a", one)])):
        figure.draw_without_rendering()
        axes = figure.axes[0]
        points = [line for line in axes.lines if len(line.get_xdata())]
        assert len(points) == 1 + validated
        assert all(line.get_marker() == "o" for line in points)
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]


def test_ticks_of_close_accuracies_are_told_apart():
    close = epochs_of(metrics())
    close["train_top1"], close["validation_top1"] = [0.921, 0.925, 0.93], 0.92
    axes = learning_curve(close, "top1", 99).axes[0]
    axes.figure.draw_without_rendering()
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(set(labels)) == len(labels) > 2
    assert all(label.endswith("%") for label in labels)


def test_no_epochs_yet():
    assert len(epochs_of(metrics(epochs=0))) == 0
    assert len(epochs_of(pd.DataFrame([]))) == 0


def test_runs_lie_over_each_other_in_a_colour_each():
    figure = overlaid_curves([("a", epochs_of(metrics())), ("b", epochs_of(metrics(validated=False))), ("c", pd.DataFrame())])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c"]
    loss = [line for line in figure.axes[0].lines if len(line.get_xdata())]
    assert [(line.get_color(), line.get_linestyle()) for line in loss] == [("C0", ":"), ("C0", "-"), ("C1", ":")]

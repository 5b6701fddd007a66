import pandas as pd
import pytest

from cifar_flax.analysis.curves import learning_curve, learning_rate_curve, overlaid_curves, select_epochs


def epochs(count=3, validation=True, raw_weights=False):
    """The epochs of `Run.metrics()`, after one record of a step; the second validation loss was not finite."""
    rows = [{"kind": "step", "step": 1, "epoch": 1, "loss": 3.0}]
    for epoch in range(1, count + 1):
        row = {"kind": "epoch", "step": 10 * epoch, "epoch": epoch}
        row |= {"train_loss": 3 / epoch, "train_cross_entropy": 2 / epoch, "train_top1": epoch / 10}
        if validation:
            row |= {"validation_loss": None if epoch == 2 else 3 / epoch, "validation_top1": 0.1}
        if raw_weights:
            row |= {"validation_raw_loss": 4 / epoch, "validation_raw_top1": 0.05}
        rows.append(row)
    return select_epochs(pd.DataFrame(rows))


def drawn(axes):
    return [line for line in axes.lines if len(line.get_xdata())]


def test_a_curve_has_training_validation_and_the_checkpoint():
    train, validation, checkpoint = learning_curve(epochs(), "loss", step=20).axes[0].lines
    assert train.get_ydata().tolist() == [2, 1, 2 / 3]
    assert pd.isna(validation.get_ydata()).tolist() == [False, True, False]
    assert checkpoint.get_xdata() == [2, 2]


def test_a_run_without_validation_has_one_curve():
    axes = learning_curve(epochs(validation=False), "top1", step=25).axes[0]
    assert [line.get_label() for line in axes.lines] == ["train"]


def test_a_run_with_ema_has_a_curve_of_the_raw_weights_too():
    axes = learning_curve(epochs(raw_weights=True), "loss", step=25).axes[0]
    assert [line.get_label() for line in axes.lines][1:] == ["validation, EMA weights", "validation, raw weights"]
    assert axes.lines[2].get_ydata().tolist() == [4, 2, 4 / 3]


@pytest.mark.parametrize("validation", [True, False])
def test_a_single_epoch_is_a_visible_point_at_an_integer_tick(validation):
    one = epochs(1, validation)
    for figure in (learning_curve(one, "loss", 99), overlaid_curves([("a", one)])):
        figure.draw_without_rendering()
        axes = figure.axes[0]
        assert [line.get_marker() for line in drawn(axes)] == ["o"] * (1 + validation)
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]


def test_tick_labels_of_close_accuracies_differ():
    close = epochs()
    close["train_top1"], close["validation_top1"] = [0.921, 0.925, 0.93], 0.92
    axes = learning_curve(close, "top1", 99).axes[0]
    axes.figure.draw_without_rendering()
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(set(labels)) == len(labels) > 2
    assert all(label.endswith("%") for label in labels)


def test_there_are_no_epochs_before_the_first_has_ended():
    assert len(epochs(0)) == 0
    assert len(select_epochs(pd.DataFrame([]))) == 0


def test_overlaid_runs_have_a_colour_each_and_a_line_style_per_split():
    runs = [("a", epochs(raw_weights=True)), ("b", epochs(validation=False)), ("c", pd.DataFrame())]
    figure = overlaid_curves(runs)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["a", "b", "c", "validation", "training", "validation, raw weights"]
    styles = [(line.get_color(), line.get_linestyle()) for line in drawn(figure.axes[0])]
    assert styles == [("C0", ":"), ("C0", "-"), ("C0", "--"), ("C1", ":")]


def test_more_runs_than_matplotlib_has_colours_still_have_one_each():
    figure = overlaid_curves([(str(i), epochs(validation=False)) for i in range(12)])
    assert len({line.get_color() for line in drawn(figure.axes[0])}) == 12


def test_a_long_name_of_a_run_is_whole_below_its_chart():
    name = "runs/" + "a_folder_with_a_long_name/" * 3
    figure = overlaid_curves([(name, epochs())], ["loss"])
    figure.draw_without_rendering()
    (axes,), (legend,) = figure.axes, figure.legends
    assert axes.get_title() == "cross-entropy, nats"
    assert legend.get_texts()[0].get_text().replace("\n", "") == name
    assert legend.get_window_extent().x1 <= figure.bbox.x1


def test_the_learning_rate_is_drawn_over_the_epochs_of_its_steps():
    steps = [{"kind": "step", "step": step, "epoch": 1, "learning_rate": rate} for step, rate in ((5, 0.1), (10, 0.2))]
    ends = [{"kind": "epoch", "step": 10, "epoch": 1, "train_loss": 1.0}]
    line = learning_rate_curve(pd.DataFrame(steps + ends)).axes[0].lines[0]
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([0.5, 1], [0.1, 0.2])
    assert learning_rate_curve(pd.DataFrame(steps)) is None


def test_the_learning_rate_of_a_last_epoch_that_is_cut_off_is_drawn_within_it():
    steps = [{"kind": "step", "step": step, "epoch": 1, "learning_rate": 0.1} for step in (5, 10, 15)]
    ends = [{"kind": "epoch", "step": step, "epoch": epoch, "train_loss": 1.0} for epoch, step in ((1, 10), (2, 15))]
    line = learning_rate_curve(pd.DataFrame(steps + ends)).axes[0].lines[0]
    assert line.get_xdata().tolist() == [0.5, 1, 1.5]


def test_a_learning_rate_that_no_step_has_is_not_drawn():
    end = {"kind": "epoch", "step": 3, "epoch": 1, "elapsed": 1.0, "self": 1}
    for records in ([{**end, "learning_rate": 0.1}], [end, {"kind": "step", "step": 1, "epoch": 1, "learning_rate": None}]):
        assert learning_rate_curve(pd.DataFrame(records)) is None

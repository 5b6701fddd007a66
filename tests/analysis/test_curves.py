import pandas as pd

from cifar_flax.analysis.curves import epochs_of, learning_curve, overlaid_curves


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


def test_no_epochs_yet():
    assert len(epochs_of(metrics(epochs=0))) == 0
    assert len(epochs_of(pd.DataFrame([]))) == 0


def test_runs_lie_over_each_other_in_a_colour_each():
    figure = overlaid_curves([("a", epochs_of(metrics())), ("b", epochs_of(metrics(validated=False))), ("c", pd.DataFrame())])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c"]
    loss = [line for line in figure.axes[0].lines if len(line.get_xdata())]
    assert [(line.get_color(), line.get_linestyle()) for line in loss] == [("C0", ":"), ("C0", "-"), ("C1", ":")]

"""Figures of a report as pixels, for TensorBoard."""

from collections.abc import Iterator

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cifar_flax.analysis.figures import Album
from cifar_flax.analysis.report.confusion import by_superclass, heat_map
from cifar_flax.analysis.report.examples import prediction_card, probabilities
from cifar_flax.evaluation.scores import confusion_matrix, predicted_classes
from cifar_flax.run import Run

SAMPLES = 6  # images, evenly over the validation split
DPI = 110


def board_pictures(run: Run) -> Iterator[tuple[str, np.ndarray]]:
    """Names and pictures, uint8 [H, W, 3], of the best checkpoint on the validation split.

    Raises:
      UserError: as `Run.predict`.
    """
    dataset, names = run.dataset("validation"), run.class_names
    logits = run.predict(dataset)
    confusion = confusion_matrix(predicted_classes(logits), dataset.labels, len(names))
    known = run.preprocessing
    order = by_superclass(known.coarse_of_fine) if known.coarse_names else np.arange(len(names))
    probs = probabilities(logits)
    with Album(run.workdir, "").style():
        yield "confusion", _pixels(heat_map(confusion[np.ix_(order, order)], tuple(names[i] for i in order), "validation"))
        for k, i in enumerate(np.linspace(0, len(dataset) - 1, min(SAMPLES, len(dataset))).astype(int)):
            yield f"prediction/{k}", _pixels(prediction_card(dataset.images[i], int(dataset.labels[i]), probs[i], names))


def _pixels(figure: Figure) -> np.ndarray:
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]

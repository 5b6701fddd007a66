"""Pictures for the writers of a run that has ended: the confusion matrix, and predictions with their images."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cifar_flax.analysis.figures import drawing_style
from cifar_flax.analysis.report.confusion import by_superclass, heat_map
from cifar_flax.analysis.report.examples import prediction_card
from cifar_flax.evaluation.scores import confusion_matrix, predicted_classes, probabilities
from cifar_flax.run import Run

EXAMPLES = 6  # images with predictions, evenly over the validation split
DPI = 110


def closing_pictures(workdir: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yields names and pictures, uint8 [H, W, 3]: the confusion matrix, then predictions.

    They are of the best checkpoint on the validation split; without such a split there are none.
    """
    run = Run.open(workdir)
    if not run.config.data.validates:
        return
    dataset, names, coarse_of_fine = run.dataset("validation"), run.class_names, run.preprocessing.coarse_of_fine
    logits = run.logits(dataset)
    probs = probabilities(logits, run.calibration().temperature)
    matrix = confusion_matrix(predicted_classes(logits), dataset.labels, len(names))
    order = by_superclass(coarse_of_fine) if coarse_of_fine else np.arange(len(names))
    with drawing_style(names):
        yield "confusion", _pixels(heat_map(matrix[np.ix_(order, order)], tuple(names[i] for i in order), "validation"))
        for k, i in enumerate(np.linspace(0, len(dataset) - 1, min(EXAMPLES, len(dataset))).astype(int)):
            yield f"prediction/{k}", _pixels(prediction_card(dataset.images[i], int(dataset.labels[i]), probs[i], names))


def _pixels(figure: Figure) -> np.ndarray:
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]

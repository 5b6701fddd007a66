"""What writers get at the end of a run: hyperparameters, the confusion matrix, and predictions with their images."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import logging
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cifar_flax.analysis.config_diff import format_value
from cifar_flax.analysis.figures import drawing_style
from cifar_flax.analysis.report.confusion import by_superclass, heat_map
from cifar_flax.analysis.report.examples import prediction_card
from cifar_flax.config import Config
from cifar_flax.config.defaults import changes, is_part_of
from cifar_flax.config.serialize import flatten_config, to_dict
from cifar_flax.errors import UserError
from cifar_flax.evaluation.scores import confusion_matrix, predicted_classes, probabilities
from cifar_flax.run import Run
from cifar_flax.training.records import read_epochs
from cifar_flax.training.writers import Session, open_writers

EXAMPLES = 6  # images with predictions, evenly over the validation split
DPI = 110
SCORES = ("top1", "top5", "f1", "loss")


def write_summaries(workdir: Path, pictures: bool = True) -> None:
    """Adds hyperparameters and final scores to what `config.log.writers` names, and pictures where config.log.pictures says so.

    The pictures are of the best checkpoint on the validation split; without such a split there are none. What cannot be read,
    because the data have changed, say, is a warning: the run is complete all the same.

    Args:
      workdir: of a run that has ended.
      pictures: whether to add any, for which the network is compiled once more.
    """
    try:
        _write_summaries(workdir, pictures)
    except UserError as e:
        logging.warning("%s: trained, but its summary is not written: %s", workdir, e)


def _write_summaries(workdir: Path, pictures: bool) -> None:
    run = Run.open(workdir)
    best, last = run.step("best"), run.step("latest")
    writers = open_writers(Session(workdir, run.config, last, last, finished=True))
    with contextlib.ExitStack() as stack:
        for writer in writers:
            stack.callback(writer.close)
        for writer in writers:
            writer.hyperparameters(best, hyperparameters(run.config), _scores(workdir, best))
        if pictures and writers and run.config.log.pictures and run.config.data.validates:
            for name, picture in _pictures(run):
                for writer in writers:
                    writer.picture(best, name, picture)


def hyperparameters(config: Config) -> dict[str, str | bool | float]:
    """Selects the fields that differ from their defaults, those of each block or layer apart, and the learning rate.

    Returns:
      {"optim.clip_norm": 2.0}: numbers and booleans as they are, all else as text.
    """
    changed = [*(change.path for change in changes(config)), "optim.learning_rate"]
    leaves = ((path.removeprefix("config."), value) for path, value in flatten_config(to_dict(config)))
    values = {path: value for path, value in leaves if is_part_of(path, changed)}
    return {
        path: value if isinstance(value, bool | int | float) else format_value(value) for path, value in sorted(values.items())
    }


def _scores(workdir: Path, step: int) -> dict[str, float]:
    """The validation scores of the epoch that ended with a checkpoint, without those that are null in metrics.jsonl."""
    epochs = [record for record in read_epochs(workdir) if record["step"] == step]
    epoch = epochs[-1] if epochs else {}
    names = [*SCORES, *(f"raw_{name}" for name in SCORES)]  # of a run with EMA, "raw" are the weights of the last update
    scores = {f"best/{name}": epoch.get(f"validation_{name}") for name in names}
    return {name: score for name, score in scores.items() if score is not None}


def _pictures(run: Run) -> Iterator[tuple[str, np.ndarray]]:
    """Yields names and pictures, uint8 [H, W, 3]: the confusion matrix, then predictions."""
    dataset, names, coarse_of_fine = run.dataset("validation"), run.class_names, run.preprocessing.coarse_of_fine
    logits = run.predict(dataset)
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

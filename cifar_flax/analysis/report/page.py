"""report.html: all there is to see of a run on a split, in one file."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from cifar_flax._version import __version__
from cifar_flax.analysis.config_diff import changed_fields, in_words
from cifar_flax.analysis.figures import Album, Picture, percent
from cifar_flax.analysis.html import write_page
from cifar_flax.analysis.report import architecture, charts, confusion, curves, examples, filters
from cifar_flax.analysis.report.layers import Layer, call_layers, leaf_layers
from cifar_flax.analysis.report.predictions import Predictions
from cifar_flax.config.serialize import to_dict
from cifar_flax.data.dataset import Dataset
from cifar_flax.evaluation.scores import confusion_matrix, predicted_classes, reliability
from cifar_flax.files.checksum import read_checksummed
from cifar_flax.run import Run
from cifar_flax.training.progress import clock

if TYPE_CHECKING:
    import pandas as pd

MISTAKES, PAIRS, CLASSES, ACTIVATIONS = 12, 10, 10, 12  # how many are shown of each
SECTIONS = (
    ("summary", "Summary"),
    ("curves", "Learning curves"),
    ("confusion", "Confusion"),
    ("classes", "Best and worst classes"),
    ("pairs", "Confused pairs"),
    ("calibration", "Calibration"),
    ("mistakes", "Confident mistakes"),
    ("filters", "First layer"),
    ("activations", "Activations"),
    ("architecture", "Architecture"),
    ("environment", "Environment"),
)


def write_report(run: Run, found: Predictions, dataset: Dataset, scores: dict[str, Any]) -> Path:
    """Writes RUN/report/report.html, and each of its pictures as RUN/report/SPLIT_NAME.png.

    Args:
      run: whose report it is.
      found: from `predict_split`, with
      dataset: its images, and
      scores: its scores by `Run.score`.

    Returns:
      The path of report.html.
    """
    folder = run.workdir / "report"
    folder.mkdir(exist_ok=True)
    album = Album(folder, found.split)
    variables = run.variables(found.step)
    predicted = predicted_classes(found.logits)
    probs = examples.probabilities(found.logits)
    epochs = curves.epochs_of(run.metrics())
    cells = confusion_matrix(predicted, found.labels, found.logits.shape[1])
    with album.style():
        return write_page(
            folder / "report.html",
            "report.html",
            title=f"{run.workdir.absolute().name}: {percent(scores['top1'])} top-1 on {found.split}",
            workdir=str(run.workdir),
            version=__version__,
            sections=SECTIONS,
            num_classes=run.preprocessing.num_classes,
            averaged=run.config.optim.ema_decay is not None,
            predictions=found,
            scores=scores,
            topk=album.add("topk", charts.topk_bars(scores), "Bars of top-1, 2, 3 and 5 accuracy"),
            **_summary(run, scores, variables, epochs),
            **_curves(album, epochs, found.step),
            **_classes(run, album, scores, cells),
            **_images(run, album, dataset, probs, predicted, cells),
            **_network(run, album, variables, dataset, probs, predicted),
            reliability=_reliability(album, probs, found.labels),
            environment=_environment(run.workdir / "environment.json"),
        )


def _summary(run: Run, scores: dict[str, Any], variables: Any, epochs: "pd.DataFrame") -> dict[str, Any]:
    """Facts in boxes, and the config with what of it is not the default."""
    shares = {f"top-{k}": f"top{k}" for k in (1, 2, 3, 5)} | {"superclass": "superclass_top1", "macro F1": "macro_f1"}
    facts = [(name, percent(scores[key])) for name, key in shares.items() if key in scores]
    facts += [("calibration error", percent(scores["ece"])), ("loss", f"{scores['loss']:.4f} nats")]
    facts += [("parameters", f"{_size(variables):,}")]
    if len(epochs):
        facts += [("epochs", f"{len(epochs)} of {run.config.train.epochs}"), ("training", clock(epochs.elapsed.iloc[-1]))]
    return {"facts": facts, "changed": changed_fields(run.config), "config": json.dumps(to_dict(run.config), indent=2)}


def _curves(album: Album, epochs: "pd.DataFrame", step: int) -> dict[str, Any]:
    pictures = [
        album.add(f"curve_{metric}", curves.learning_curve(epochs, metric, step), f"Learning curve: {name} by epoch")
        for metric, name in curves.METRICS.items()
        if len(epochs)
    ]
    return {"curves": pictures, "validated": "validation_loss" in epochs}


def _classes(run: Run, album: Album, scores: dict[str, Any], cells: np.ndarray) -> dict[str, Any]:
    """Confusion matrices, bars of classes, and tables of all of them."""
    known = run.preprocessing
    names, upper = known.class_names, known.coarse_of_fine
    order = np.array(confusion.by_superclass(upper) if upper else range(len(names)))
    bounds = (np.flatnonzero(np.diff(np.array(upper)[order])) + 1).tolist() if upper else []
    fine = confusion.heat_map(cells[np.ix_(order, order)], tuple(names[i] for i in order), f"{len(names)} classes", bounds)
    heading = f"{len(names)} classes" + (", in the order of their superclasses" if upper else "")
    matrices = [(heading, album.add("confusion", fine, "Confusion matrix of the classes", dpi=144))]
    tables = [(f"all {len(names)} classes", _table(scores["per_class"]))]
    if upper:
        coarse = confusion.coarse_confusion(cells, upper, len(known.coarse_names))
        figure = confusion.heat_map(coarse, known.coarse_names, f"{len(coarse)} superclasses")
        matrices.insert(0, (f"{len(coarse)} superclasses", album.add("confusion_coarse", figure, "Of the superclasses")))
        tables.append((f"all {len(coarse)} superclasses", _table(scores["per_superclass"])))
    ranked = charts.ranked_classes(scores["per_class"])
    parts = {"classes": ranked} if len(ranked) <= 2 * CLASSES else {"best": ranked[:CLASSES], "worst": ranked[-CLASSES:]}
    titles = {"classes": "accuracy of each class", "best": "the best classes", "worst": "the worst classes"}
    pictures = [album.add(key, charts.class_bars(rows, titles[key]), f"Bars: {titles[key]}") for key, rows in parts.items()]
    return {"matrices": matrices, "classes": pictures, "tables": tables}


def _images(
    run: Run, album: Album, dataset: Dataset, probs: np.ndarray, predicted: np.ndarray, cells: np.ndarray
) -> dict[str, Any]:
    """Confused pairs and confident mistakes, with their images."""
    pairs = [
        album.add(f"pair_{i:02}", examples.pair_card(pair, dataset, predicted), confusion.describe_pair(pair, run.class_names))
        for i, pair in enumerate(confusion.most_confused(cells, PAIRS), 1)
    ]
    mistakes = []
    for i, row in enumerate(examples.confident_mistakes(probs, dataset.labels, MISTAKES), 1):
        alt = f"Image {row}: {run.class_names[dataset.labels[row]]}, taken for {run.class_names[predicted[row]]}"
        mistakes.append(album.add(f"mistake_{i:02}", _card(dataset, row, probs), alt))
    return {"pairs": pairs, "mistakes": mistakes}


def _network(
    run: Run, album: Album, variables: Any, dataset: Dataset, probs: np.ndarray, predicted: np.ndarray
) -> dict[str, Any]:
    """First-layer weights, activations of the first image that was recognised, and the drawing of the layers."""
    row = int(np.argmax(predicted == dataset.labels))
    image = run.preprocessing.normalize(jnp.asarray(dataset.images[row : row + 1]))
    layers = call_layers(run.model, variables, image)
    shape = run.preprocessing.image_shape
    weights = filters.first_weights(layers, shape)
    first_layer = None if weights is None else album.add("filters", filters.draw_weights(weights), "Weights of the first layer")
    activations = [album.add("activations_image", _card(dataset, row, probs), "The image, with its likeliest classes")]
    for i, layer in enumerate(_spread(leaf_layers(layers)), 1):
        activations.append(album.add(f"activations_{i:02}", filters.draw_activations(layer), f"What {layer.name} returns"))
    nodes = architecture.network_graph(run.model, variables, shape)
    drawing = album.add(
        "architecture", architecture.draw_network(nodes, _size(variables)), "The layers with shapes and parameters", dpi=144
    )
    branches = bool(architecture.side_lanes(nodes))
    return {"filters": first_layer, "activations": activations, "architecture": drawing, "branches": branches}


def _reliability(album: Album, probs: np.ndarray, labels: np.ndarray) -> Picture | None:
    if not np.isfinite(probs).all():
        return None
    figure = charts.reliability_diagram(reliability(probs, labels))
    return album.add("reliability", figure, "Reliability diagram: accuracy by confidence")


def _card(dataset: Dataset, row: int, probs: np.ndarray) -> Any:
    return examples.prediction_card(np.asarray(dataset.images[row]), int(dataset.labels[row]), probs[row], dataset.class_names)


def _spread(layers: list[Layer]) -> list[Layer]:
    """Layers with parameters, or as many of them as are shown, evenly from the first to the last."""
    own = [layer for layer in layers if layer.parameters]
    places = np.linspace(0, len(own) - 1, min(len(own), ACTIVATIONS)).round().astype(int)
    return [own[place] for place in places]


def _size(variables: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def _table(rows: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Header and rows, the best first, of what `Run.score` says of each class."""
    columns = list(next(iter(rows.values())))
    ranked = sorted(rows.items(), key=lambda item: -item[1]["accuracy"])
    cells = [[name, *(f"{v:,}" if column == "support" else percent(v) for column, v in row.items())] for name, row in ranked]
    return {"columns": ["class", *("images" if column == "support" else column for column in columns)], "rows": cells}


def _environment(path: Path) -> list[tuple[str, str]]:
    """The lines of environment.json: versions spelled out, and without the earlier processes of the run."""
    try:
        found = read_checksummed(path)
    except (OSError, ValueError):
        return []
    found["earlier processes"] = len(found.pop("earlier", []))
    return [(name.replace("_", " "), in_words(value)) for name, value in found.items() if value not in (None, "")]

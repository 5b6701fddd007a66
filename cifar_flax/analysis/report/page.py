"""The page of a report: scores, learning curves, mistakes and layers of a run on one split, in one file."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from cifar_flax._version import __version__
from cifar_flax.analysis import curves
from cifar_flax.analysis.figures import WIDTH, Picture, PictureWriter, drawing_style, percent
from cifar_flax.analysis.html import write_page
from cifar_flax.analysis.predictions import Predictions
from cifar_flax.analysis.report import charts, confusion, examples, filters
from cifar_flax.analysis.report.architecture import draw_network, side_lanes
from cifar_flax.analysis.report.explanations import occlusion_pictures
from cifar_flax.analysis.report.graph import network_graph
from cifar_flax.analysis.report.layers import Layer, call_layers, leaf_layers
from cifar_flax.analysis.robustness.accuracy import corruption_figure, corruption_rows, read_robustness
from cifar_flax.config.defaults import changed_fields, format_value
from cifar_flax.config.serialize import to_dict
from cifar_flax.data.class_names import display_name
from cifar_flax.data.dataset import Dataset
from cifar_flax.evaluation.scores import confusion_matrix, informative_top_k, predicted_classes, probabilities, reliability
from cifar_flax.files.checksum import read_checksummed
from cifar_flax.files.folder import make_folder
from cifar_flax.models.first_layer import find_first_kernel, first_layer_kernels
from cifar_flax.network import Network
from cifar_flax.run import BareRun, Run
from cifar_flax.runtime.progress import format_duration

if TYPE_CHECKING:
    import pandas as pd

NONE = "-"  # in a table
MISTAKES, PAIRS, CLASSES, ACTIVATIONS = 12, 12, 10, 11  # how many are shown of each
SECTIONS = (
    ("summary", "Summary"),
    ("curves", "Learning curves"),
    ("confusion", "Confusion"),
    ("classes", "Best and worst classes"),
    ("pairs", "Confused pairs"),
    ("calibration", "Calibration"),
    ("mistakes", "Confident mistakes"),
    ("corruptions", "Corrupted images"),
    ("color", "Colour"),
    ("filters", "First layer"),
    ("activations", "Activations"),
    ("architecture", "Architecture"),
    ("config", "Config"),
    ("environment", "Environment"),
)


def write_report(
    run: Run, predictions: Predictions, dataset: Dataset, scores: dict[str, Any], folder: Path | None = None
) -> Path:
    """Writes NAME.html, and each of its pictures as a file in the folder NAME, which are those of `Predictions.name`.

    Scores on corrupted images and without colour are in it where the folder has them for these predictions.

    Args:
      run: the run to report on.
      predictions: from `predict_split`.
      dataset: the images of the predictions.
      scores: the scores of the predictions, from `Run.score`.
      folder: they go to, `run.report_folder` by default.

    Returns:
      The path of NAME.html.
    """
    folder = folder or run.report_folder
    pictures = folder / predictions.name
    make_folder(pictures)
    writer = PictureWriter(pictures)
    network = run.network(predictions.step, ema=predictions.ema)
    predicted = predicted_classes(predictions.logits)
    probs = probabilities(predictions.logits, network.temperature)
    metrics = run.metrics()
    matrix = confusion_matrix(predicted, predictions.labels, predictions.logits.shape[1])
    with drawing_style((*run.class_names, *run.preprocessing.coarse_names)):
        robustness = _robustness(writer, folder, predictions, dataset)
        page = write_page(
            folder / f"{predictions.name}.html",
            "report.html",
            title=f"{run.workdir.resolve().name}: {percent(scores['top1'])} top-1 on {predictions.split}",
            workdir=str(run.workdir),
            version=__version__,
            sections=[(id, text) for id, text in SECTIONS if robustness.get(id, True)],
            data=run.config.data.name,
            num_classes=run.preprocessing.num_classes,
            averaged=run.has_ema and predictions.ema,
            predictions=predictions,
            bare=isinstance(run, BareRun),
            scores=scores,
            topk=writer.add("topk", charts.topk_chart(scores), "Bars of top-1, 2, 3 and 5 accuracy"),
            **_summary(run, network, scores, curves.select_epochs(metrics)),
            **_curves(writer, metrics, predictions.step),
            **_classes(run, writer, scores, matrix),
            **_images(writer, network, predictions, dataset, probs, matrix),
            **_network(writer, network, dataset, probs, predicted),
            **robustness,
            reliability=_reliability(writer, probs, predictions, network.temperature),
            calibration=network.calibration,
            environment=environment_rows(run.workdir / "environment.json"),
        )
    writer.remove_others()
    return page


def _summary(run: Run, network: Network, scores: dict[str, Any], epochs: "pd.DataFrame") -> dict[str, Any]:
    """Facts in boxes, the whole config, and its fields that differ from the defaults."""
    shares = {f"top-{k}": f"top{k}" for k in informative_top_k(network.preprocessing.num_classes)}
    shares |= {"superclass": "superclass_top1", "macro F1": "macro_f1"}
    facts = [(name, percent(scores[key])) for name, key in shares.items() if key in scores]
    facts += [("calibration error", percent(scores["ece"])), ("loss", f"{scores['loss']:.4f} nats")]
    if "raw_weights" in scores:
        facts += [("top-1, raw weights", percent(scores["raw_weights"]["top1"]))]
    facts += [("parameters", f"{network.num_parameters:,}")]
    if len(epochs):
        facts += [
            ("epochs", f"{min(len(epochs), run.config.train.epochs):g} of {run.config.train.epochs:g}"),
            ("training", format_duration(epochs.elapsed.iloc[-1])),
        ]
    weights = {"EMA weights": "validation_top1", "raw weights": "validation_raw_top1"}
    if {*weights.values()} <= {*epochs} and len(epoch := epochs[epochs.step == network.step]):
        facts += [(f"validation, {name}", percent(epoch[column].iloc[-1])) for name, column in weights.items()]
    return {"facts": facts, "changed": changed_fields(run.config), "config": json.dumps(to_dict(run.config), indent=2)}


def _curves(writer: PictureWriter, metrics: "pd.DataFrame", step: int) -> dict[str, Any]:
    epochs = curves.select_epochs(metrics)
    pictures = [
        writer.add(f"curve_{metric}", curves.learning_curve(epochs, metric, step), f"Learning curve: {name} by epoch")
        for metric, name in curves.METRICS.items()
        if len(epochs)
    ]
    if rates := curves.learning_rate_curve(metrics):
        pictures.append(writer.add("curve_learning_rate", rates, "Learning rate by epoch"))
    return {"curves": pictures, "validated": "validation_loss" in epochs}


def _classes(run: Run, writer: PictureWriter, scores: dict[str, Any], matrix: np.ndarray) -> dict[str, Any]:
    """Confusion matrices, charts of the best and worst classes, and tables of all classes."""
    preprocessing = run.preprocessing
    names, coarse_of_fine = preprocessing.class_names, preprocessing.coarse_of_fine
    order = np.array(confusion.by_superclass(coarse_of_fine) if coarse_of_fine else range(len(names)))
    boundaries = (np.flatnonzero(np.diff(np.array(coarse_of_fine)[order])) + 1).tolist() if coarse_of_fine else []
    fine = confusion.heat_map(matrix[np.ix_(order, order)], tuple(names[i] for i in order), f"{len(names)} classes", boundaries)
    heading = f"{len(names)} classes" + (", in the order of their superclasses" if coarse_of_fine else "")
    matrices = [(heading, writer.add("confusion", fine, "Confusion matrix of the classes", dpi=144))]
    tables, superclasses = [(f"all {len(names)} classes", _table("class", scores["per_class"]))], None
    if coarse_of_fine:
        coarse = confusion.coarse_confusion(matrix, coarse_of_fine, len(preprocessing.coarse_names))
        heading = f"{len(coarse)} superclasses"
        figure = confusion.heat_map(coarse, preprocessing.coarse_names, heading)
        matrices.insert(0, (heading, writer.add("confusion_coarse", figure, "Confusion matrix of the superclasses")))
        tables.append((f"all {len(coarse)} superclasses", _table("superclass", scores["per_superclass"])))
        ranked = charts.ranked_classes(scores["per_superclass"])
        figure = charts.bar_chart(ranked, "accuracy of each superclass")
        superclasses = writer.add("superclasses", figure, "Bars: accuracy of each superclass")
    ranked = charts.ranked_classes(scores["per_class"])
    parts = {"classes": ranked} if len(ranked) <= 2 * CLASSES else {"best": ranked[:CLASSES], "worst": ranked[-CLASSES:]}
    titles = {"classes": "accuracy of each class", "best": "the best classes", "worst": "the worst classes"}
    pictures = [writer.add(key, charts.bar_chart(rows, titles[key]), f"Bars: {titles[key]}") for key, rows in parts.items()]
    return {"matrices": matrices, "superclasses": superclasses, "classes": pictures, "tables": tables}


def _images(
    writer: PictureWriter,
    network: Network,
    predictions: Predictions,
    dataset: Dataset,
    probs: np.ndarray,
    matrix: np.ndarray,
) -> dict[str, Any]:
    """Images of the most confused pairs of classes, and of the most confident mistakes, with what they rest on."""
    predicted = predicted_classes(predictions.logits)
    pairs = [
        examples.pair_pictures(writer, f"pair_{i:02}", pair, dataset, predicted)
        for i, pair in enumerate(confusion.most_confused(matrix, PAIRS), 1)
    ]
    rows = examples.confident_mistakes(probs, dataset.labels, MISTAKES)
    explained = occlusion_pictures(network, np.asarray(dataset.images[rows]), predicted[rows], predictions.tta)
    mistakes = [
        examples.image_card(writer, f"mistake_{i:02}", dataset, int(row), probs, *evidence)
        for i, (row, evidence) in enumerate(zip(rows, explained, strict=True), 1)
    ]
    return {"pairs": pairs, "mistakes": mistakes}


def _network(
    writer: PictureWriter, network: Network, dataset: Dataset, probs: np.ndarray, predicted: np.ndarray
) -> dict[str, Any]:
    """Kernels of the first layer, activations of the first image with a correct prediction, and the drawing of the network."""
    row = int(np.argmax(predicted == dataset.labels))
    model, variables, preprocessing = network.model, network.variables, network.preprocessing
    path, first_layer = find_first_kernel(model, variables, preprocessing.image_shape), None
    kernels = first_layer_kernels(variables["params"], path, preprocessing.image_shape)
    if kernels is not None:
        caption, picture = filters.kernel_picture(kernels)
        first_layer = caption, writer.add_image("filters", picture, "Kernels of the first layer", WIDTH)
    image = preprocessing.normalize(jnp.asarray(dataset.images[row : row + 1]))
    activations = []
    for i, layer in enumerate(_evenly(leaf_layers(call_layers(model, variables, image, network.dtype))), 1):
        caption, picture = filters.activation_picture(layer)
        activations.append((caption, writer.add_image(f"activations_{i:02}", picture, f"Output of {layer.name}", WIDTH)))
    nodes = network_graph(model, variables, preprocessing.image_shape)
    drawings = [
        writer.add(f"architecture_{i}", figure, f"The layers with shapes and parameters, part {i}", dpi=144)
        for i, figure in enumerate(draw_network(nodes), 1)
    ]
    return {
        "filters": first_layer,
        "activations_image": examples.image_card(writer, "activations_image", dataset, row, probs),
        "activations": activations,
        "architecture": drawings,
        "parameters": network.num_parameters,
        "branches": bool(side_lanes(nodes)),
    }


def _robustness(writer: PictureWriter, folder: Path, predictions: Predictions, dataset: Dataset) -> dict[str, Any]:
    """Tables and pictures of the scores on corrupted images and without colour; None for what was not measured."""
    corruptions, color = (read_robustness(folder, predictions, kind) for kind in ("corruptions", "color"))
    sections: dict[str, Any] = {"corruptions": None, "color": None}
    if corruptions:
        columns, *rows = corruption_rows(corruptions)
        cells = [[name.replace("_", " "), *shares] for name, *shares in rows]
        figure = corruption_figure(np.asarray(dataset.images[0]), corruptions)
        picture = writer.add("corruptions", figure, "One image under each corruption and severity", dpi=144, kind="photographs")
        sections["corruptions"] = {**corruptions, "table": {"columns": columns, "rows": cells}, "picture": picture}
    if color:
        hues = [(f"hue {degrees}\N{DEGREE SIGN}", share) for degrees, share in color["hue"].items()]
        bars = [("clean", color["clean"]), ("grayscale", color["grey"]), *hues]
        picture = writer.add("color", charts.bar_chart(bars, "accuracy"), "Bars: accuracy without colour and with turned hues")
        sections["color"] = {**color, "picture": picture}
    return sections


def _reliability(writer: PictureWriter, probs: np.ndarray, predictions: Predictions, temperature: float) -> list[Picture]:
    """The reliability diagram and the coverage curve; none where the network has diverged."""
    if not np.isfinite(probs).all():
        return []
    labels = predictions.labels
    before = reliability(probabilities(predictions.logits), labels) if temperature != 1 else None
    diagram, coverage = charts.reliability_diagram(reliability(probs, labels), before), charts.coverage_curve(probs, labels)
    return [
        writer.add("reliability", diagram, "Reliability diagram: accuracy by confidence"),
        writer.add("coverage", coverage, "Accuracy on the most confident images by their share"),
    ]


def _evenly(layers: list[Layer]) -> list[Layer]:
    """Selects up to ACTIVATIONS layers with parameters, evenly from the first to the last."""
    parameterized = [layer for layer in layers if layer.parameters]
    places = np.linspace(0, len(parameterized) - 1, min(len(parameterized), ACTIVATIONS)).round().astype(int)
    return [parameterized[place] for place in places]


def _table(what: str, rows: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Header and rows of the scores of each class, the most accurate first; those without images come last, and have none."""
    columns = list(next(iter(rows.values())))
    ranked = sorted(rows.items(), key=lambda item: (-item[1]["accuracy"], not item[1]["support"]))

    def cell(row: dict[str, float], column: str) -> str:
        if column == "support":
            return f"{row[column]:,}"
        return percent(row[column]) if row["support"] else NONE

    cells = [[display_name(name), *(cell(row, column) for column in columns)] for name, row in ranked]
    return {"columns": [what, *("images" if column == "support" else column for column in columns)], "rows": cells}


def environment_rows(path: Path) -> list[tuple[str, str]]:
    """(name, value) of the entries of environment.json but the config; the number of earlier processes. Empty if damaged."""
    try:
        environment = read_checksummed(path)
        environment.pop("config", None)
        environment["earlier processes"] = len(environment.pop("earlier", []))
    except (OSError, ValueError, TypeError):
        return []
    return [(name.replace("_", " "), format_value(value)) for name, value in environment.items() if value not in (None, "")]

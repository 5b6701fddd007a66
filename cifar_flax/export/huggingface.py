"""A folder as repositories of the Hugging Face Hub are: weights, config.json, and a model card with what was measured."""

import json
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from cifar_flax._version import __version__
from cifar_flax.data.sources.folders import public_name
from cifar_flax.data.sources.huggingface import PREFIX as HUB
from cifar_flax.errors import UserError
from cifar_flax.evaluation.scores import TOP_K, informative_top_k
from cifar_flax.files.atomic import write_text
from cifar_flax.files.folder import make_folder
from cifar_flax.files.layout import CONFIG, WEIGHTS
from cifar_flax.network import Network
from cifar_flax.pretrained.hub import LIBRARY, is_exported_config
from cifar_flax.pretrained.weights import write_weights
from cifar_flax.runtime.flag_values import KernelDtype

CARD = "README.md"
DATASETS = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100"}  # our name -> the Hub's
# Our name -> (type on the Hub, name for people).
METRICS = {
    "top1": ("accuracy", "top-1 accuracy"),
    "top2": ("top_2_accuracy", "top-2 accuracy"),
    "top3": ("top_3_accuracy", "top-3 accuracy"),
    "top5": ("top_5_accuracy", "top-5 accuracy"),
    "superclass_top1": ("superclass_accuracy", "superclass accuracy"),
    "ece": ("expected_calibration_error", "expected calibration error"),
}


def write_folder(folder: Path, network: Network, dtype: KernelDtype, license_id: str | None = None) -> None:
    """Writes model.safetensors, which alone `load_network` reads, config.json for other programs, and the card, README.md.

    Args:
      folder: made where it is missing; what an earlier export wrote is replaced.
      network: with its figures, which the card states; without any it says so.
      dtype: of kernels.
      license_id: of the weights, as the Hub names it, such as "apache-2.0"; None where it is not known, and the card has none.

    Raises:
      UserError: the folder holds other files, or a kernel does not fit into the dtype.
    """
    if folder.exists() and not (folder.is_dir() and (is_exported_config(folder / CONFIG) or not any(folder.iterdir()))):
        raise UserError(f"--output={folder}: is there, and no earlier export; choose a new folder")
    make_folder(folder)
    write_text(folder / CONFIG, json.dumps(_description(network, dtype), indent=2, ensure_ascii=False) + "\n")
    write_weights(folder / WEIGHTS, network, dtype)
    write_text(folder / CARD, model_card(network, dtype, license_id))


def model_card(network: Network, dtype: KernelDtype, license_id: str | None = None) -> str:
    """README.md: metadata in YAML, which the Hub shows and searches, then text; arguments as in `write_folder`."""
    metadata = yaml.safe_dump(_metadata(network, license_id), sort_keys=False, allow_unicode=True)
    return f"---\n{metadata}---\n\n{_text(network, dtype)}"


def _metadata(network: Network, license_id: str | None) -> dict[str, Any]:
    data, figures = network.config.data.name, network.figures
    hub = DATASETS.get(data) or (data.removeprefix(HUB).partition(":")[0] if data.startswith(HUB) else None)
    metadata: dict[str, Any] = {"license": license_id} if license_id else {}
    metadata |= {"library_name": LIBRARY, "pipeline_tag": "image-classification"}
    metadata |= {"tags": ["image-classification", "jax", "flax", network.config.model.name]}
    metadata |= {"datasets": [hub]} if hub else {}
    measured = [
        {"type": METRICS[key][0], "name": METRICS[key][1], "value": round(figures[key], 6)} for key in _measured(network)
    ]
    if not measured:
        return metadata
    dataset = {"type": hub or public_name(data), "name": public_name(data), "split": figures["split"]}
    result = {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {**dataset, "args": {"images": figures["n"]}},
        "metrics": measured,
    }
    return {**metadata, "metrics": ["accuracy"], "model-index": [{"name": network.name, "results": [result]}]}


def _text(network: Network, dtype: KernelDtype) -> str:
    preprocessing, model, data = network.preprocessing, network.config.model.name, public_name(network.config.data.name)
    height, width, channels = preprocessing.image_shape
    classes = ", ".join(f"{i} `{name}`" for i, name in enumerate(preprocessing.class_names))
    mean, std = (", ".join(f"{value:.4f}" for value in channels) for channels in (preprocessing.mean, preprocessing.std))
    bfloat16 = "import ml_dtypes  # bfloat16 for NumPy\n" if dtype is KernelDtype.BFLOAT16 else ""
    return f"""# {network.name}

An image classifier of the JAX package cifar_flax {__version__}: `{model}`, {network.num_parameters:,} parameters, trained on
{data}, {preprocessing.num_classes} classes. Kernels are stored in {dtype}, all else in float32.

## Figures

{_figures(network)}
## Use

```python
from cifar_flax import load_network

network = load_network("hf:USER/NAME")  # the name of this repository, or a folder with its files
print(network.predict("picture.jpg", top=3))  # ranked classes; folders, arrays and Pillow images too
print(network.evaluate("test")["top1"])  # on the data that it was trained on, where those are at hand
```

`model.safetensors` holds config, preprocessing and figures too, as JSON in its metadata, and a SHA-256 over all of it. Without
cifar_flax:

```python
import json
{bfloat16}from safetensors import safe_open

with safe_open("{WEIGHTS}", framework="numpy") as file:
    tensors = {{name: file.get_tensor(name) for name in file.keys()}}
    class_names = json.loads(file.metadata()["preprocessing"])["class_names"]
```

## Preprocessing

Images are uint8 [N, {height}, {width}, {channels}], divided by 255, minus the mean of each channel, {mean}, over its standard
deviation, {std}. `predict` crops a picture of another size to its middle and resizes it.

## Classes

{classes}
"""


def _figures(network: Network) -> str:
    figures = network.figures
    rows = [f"| {METRICS[key][1]} | {100 * figures[key]:.2f}% |" for key in _measured(network)]
    if not rows:
        return f"None: these weights have not been measured.{_percentages(network)}\n"
    return f"""Of the weights as this file has them, each image once, without test-time augmentation:

| {figures["split"]} split of {public_name(network.config.data.name)}, {figures["n"]:,} images | |
| --- | --- |
{chr(10).join(rows)}

They are of one training; another seed gives other figures.{_percentages(network)}
"""


def _measured(network: Network) -> list[str]:
    """The figures that the card states; none where it cannot say of which images they are."""
    if not {"split", "n"} <= network.figures.keys():
        return []
    silent = {f"top{k}" for k in TOP_K} - {f"top{k}" for k in informative_top_k(network.preprocessing.num_classes)}
    return [key for key in METRICS if key in network.figures and key not in silent]


def _percentages(network: Network) -> str:
    """The paragraph on how percentages come from logits."""
    if not network.calibration.source:
        return "\n\nPercentages are the softmax of the logits: no temperature has been fitted."
    return f"""

Percentages are the softmax of the logits over a temperature of {network.temperature:.4f}, fitted to
{network.calibration.source}; a calibration error is theirs."""


def _description(network: Network, dtype: KernelDtype) -> dict[str, Any]:
    """Classes and preprocessing under the names that libraries of the Hub use. Without `model`, by which a run is known."""
    preprocessing = network.preprocessing
    height, width, channels = preprocessing.image_shape
    return {
        "library_name": LIBRARY,
        "library_version": __version__,
        "architecture": network.config.model.name,
        "kernel_dtype": str(dtype),
        "image_size": [height, width],
        "num_channels": channels,
        "temperature": network.temperature,
        "rescale_factor": 1 / 255,
        "image_mean": preprocessing.mean,
        "image_std": preprocessing.std,
        "id2label": dict(enumerate(preprocessing.class_names)),
        "label2id": {name: label for label, name in enumerate(preprocessing.class_names)},
        "superclasses": preprocessing.coarse_names,
        "superclass_of_label": preprocessing.coarse_of_fine,
    }

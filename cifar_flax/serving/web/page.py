"""The page, its scripts, its sample pictures, and the description of the network at its head."""

import hashlib
from dataclasses import dataclass
from importlib.metadata import distribution
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from flask import Flask, Response, render_template, send_file
from werkzeug.exceptions import NotFound

from cifar_flax.data.class_names import display_name
from cifar_flax.data.pictures.fit import to_picture
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.data.provenance import cached_test_images
from cifar_flax.data.shapes100.classes import CATALOG
from cifar_flax.data.sources.folders import public_name
from cifar_flax.errors import UserError
from cifar_flax.network import Network
from cifar_flax.serving.web.heat_map import FAINTEST

DATA_SETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}  # as people write them
DAY = 86400  # seconds
SHAPES = frozenset(name for members in CATALOG.values() for name in members)
SHAPE_SAMPLES = ("butterfly", "sailboat", "spiral", "fir tree", "snowflake", "mug")  # static/samples/fir-tree.png
SCENE_SAMPLES = ("apple", "rocket", "sea", "skyscraper", "sunflower", "ship")
OWN_SAMPLES = 12
OWN_BYTES = 128 * 2**20  # of the test images; to open more would take the start more than a fifth of a second


@dataclass(frozen=True)
class Sample:
    """A picture to try: the exact name of its class, and a relative link; of a test image of the network's set its PNG."""

    name: str
    link: str
    png: bytes | None = None


def serve_page(app: Flask, network: Network) -> None:
    """Adds the page and what it loads."""
    samples = own_samples(network) or drawn_samples(network.preprocessing)
    groups, model = superclass_groups(network.preprocessing), describe(network)
    error = network.figures.get("ece") if model["accuracy"] else None
    # D3 5.7; mpld3 draws with it. To import mpld3 would import matplotlib too, for a second.
    d3 = Path(str(distribution("mpld3").locate_file("mpld3/js/d3.v5.min.js"))).read_bytes()
    openapi = (files("cifar_flax.serving.web") / "openapi.yaml").read_bytes()
    app.add_template_filter(display_name)
    app.add_template_filter(lambda name: DATA_SETS.get(name, name), "data_set_name")

    @app.get("/")
    def page() -> str:
        return render_template(
            "index.html",
            model=model,
            error=error,
            preprocessing=network.preprocessing,
            samples=samples,
            groups=groups,
            faintest=FAINTEST,
        )

    @app.get("/samples/<int:number>.png")
    def serve_sample(number: int) -> Response:
        if number >= len(samples) or (png := samples[number].png) is None:
            raise NotFound
        return send_file(BytesIO(png), "image/png", max_age=DAY)

    @app.get("/d3.js")
    def serve_d3() -> Response:
        return send_file(BytesIO(d3), "text/javascript", max_age=DAY)

    @app.get("/openapi.yaml")
    def serve_openapi() -> Response:
        return send_file(BytesIO(openapi), "application/yaml")


def describe(network: Network) -> dict[str, Any]:
    """Name, architecture, number of parameters, data set, accuracy and calibration, in the JSON of /api/model.

    The accuracy is {"split", "top1", "n"}, or None where it was not measured.
    """
    figures = network.figures
    measured = {"split", "top1", "n"} <= figures.keys()
    return {
        "name": network.name,
        "architecture": network.config.model.name,
        "parameters": network.num_parameters,
        "data_set": public_name(network.config.data.name),
        "accuracy": {key: figures[key] for key in ("split", "top1", "n")} if measured else None,
        "calibrated": bool(network.calibration.source),
    }


def own_samples(network: Network) -> list[Sample]:
    """Test images of the network's data set, of classes evenly spread; none where the cache does not have them."""
    try:
        dataset = cached_test_images(network.config.data, network.preprocessing, network.name, OWN_BYTES)
    except UserError:  # they are damaged, or others than those of the network
        return []
    if dataset is None:
        return []
    present, first = np.unique(dataset.labels, return_index=True)
    samples: list[Sample] = []
    for place in np.unique(np.linspace(0, len(present) - 1, OWN_SAMPLES).round().astype(int)):
        out = BytesIO()
        to_picture(np.asarray(dataset.images[first[place]])).save(out, "PNG")
        png, name = out.getvalue(), dataset.class_names[present[place]]
        version = hashlib.sha256(png).hexdigest()[:8]  # another network's picture at this place is not this one's in a cache
        samples.append(Sample(name, f"samples/{len(samples)}.png?v={version}", png))
    return samples


def drawn_samples(preprocessing: Preprocessing) -> list[Sample]:
    """Pictures of the package: shapes for networks that know those, otherwise scenes; of which those that it knows, or all."""
    names = SHAPE_SAMPLES if set(preprocessing.class_names) == SHAPES else SCENE_SAMPLES
    classes = set(map(display_name, preprocessing.class_names))
    offered = [name for name in names if name in classes] or names
    return [Sample(name, f"static/samples/{name.replace(' ', '-')}.png") for name in offered]


def superclass_groups(preprocessing: Preprocessing) -> list[tuple[str | None, list[str]]]:
    """The classes of each superclass, in the order of both; None stands for no superclass and comes last."""
    groups: dict[str | None, list[str]] = {name: [] for name in (*preprocessing.coarse_names, None)}
    for label, name in enumerate(preprocessing.class_names):
        groups[preprocessing.superclass(label)].append(name)
    return [(superclass, members) for superclass, members in groups.items() if members]

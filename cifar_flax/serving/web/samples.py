"""Sample pictures for the page, drawn here: shapes for networks that know shapes100, small scenes for all others."""

import re
from collections.abc import Sequence
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from cifar_flax.data.shapes100.classes import CATALOG
from cifar_flax.data.shapes100.distance_fields import CANVAS, EXTENT, Field

SIZE = 192  # pixels a side
OVERSAMPLING = 4  # of scenes, against jagged edges: Pillow's shapes have no soft ones
SHAPES = {  # what is drawn, and in which colour on which
    "butterfly": ("#ffd166", "#1d3557"),
    "sailboat": ("#1d3557", "#a8dadc"),
    "spiral": ("#f4a261", "#3d2c5e"),
    "fir tree": ("#14532d", "#fde68a"),
    "snowflake": ("#e0f2fe", "#1e3a8a"),
    "mug": ("#9f1239", "#fbcfe8"),
}

Colors = tuple[str, str]
Stroke = tuple[str, tuple[float, ...], str]  # ellipse, polygon or rectangle; its points, in hundredths of a side; its colour


class Sample(NamedTuple):
    """A picture to click: what it shows, the name of its file, and that file as PNG."""

    name: str
    slug: str
    png: bytes


def draw(class_names: tuple[str, ...]) -> list[Sample]:
    """Six pictures for a network with these classes."""
    shapes = {name: make for members in CATALOG.values() for name, make in members.items()}
    if set(class_names) == set(shapes):
        return [_sample(name, _silhouette(shapes[name](), colors)) for name, colors in SHAPES.items()]
    return [_sample(name, _scene(sky, strokes)) for name, (sky, strokes) in SCENES.items()]


def _sample(name: str, picture: Image.Image) -> Sample:
    out = BytesIO()
    picture.save(out, "PNG")
    return Sample(name, re.sub(r"\W", "-", name), out.getvalue())


def _silhouette(shape: Field, colors: Colors) -> Image.Image:
    """A shape of shapes100, without the rotation and the clutter that training images have."""
    soft = np.clip(0.5 - shape[::-1] * CANVAS / (2 * EXTENT), 0, 1)  # the field's lowest row is the first
    mask = Image.fromarray(np.rint(255 * soft).astype(np.uint8)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return Image.composite(Image.new("RGB", (SIZE, SIZE), colors[0]), Image.new("RGB", (SIZE, SIZE), colors[1]), mask)


def _scene(sky: Colors, strokes: Sequence[Stroke]) -> Image.Image:
    """Strokes over a sky that goes from its first colour at the top to its second at the bottom."""
    side = SIZE * OVERSAMPLING
    blend = Image.linear_gradient("L").resize((side, side))
    picture = Image.composite(Image.new("RGB", (side, side), sky[1]), Image.new("RGB", (side, side), sky[0]), blend)
    brush = ImageDraw.Draw(picture)
    for method, points, color in strokes:
        getattr(brush, method)([side / 100 * value for value in points], fill=color)
    return picture.resize((SIZE, SIZE), Image.Resampling.BOX)


def _ball(x: float, y: float, radius: float, dark: str, light: str) -> list[Stroke]:
    """A ball that is lit from the upper left."""
    start, end = np.array(ImageColor.getrgb(dark)), np.array(ImageColor.getrgb(light))
    strokes: list[Stroke] = []
    for t in np.linspace(0, 0.95, 24):
        r, shift = radius * (1 - t), 0.35 * radius * t
        box = (x - shift - r, y - shift - r, x - shift + r, y - shift + r)
        red, green, blue = (round(value) for value in start + t * (end - start))
        strokes.append(("ellipse", box, f"#{red:02x}{green:02x}{blue:02x}"))
    return strokes


def _petals(x: float, y: float, count: int, radius: float, color: str) -> list[Stroke]:
    """Leaf-shaped petals around (x, y)."""
    strokes: list[Stroke] = []
    for angle in np.arange(count) * 2 * np.pi / count:
        tips = [(0.0, 0.0), (0.55, 0.22), (0.8, 0.18), (1.0, 0.0), (0.8, -0.18), (0.55, -0.22)]
        turned = [(r * np.cos(angle) - s * np.sin(angle), r * np.sin(angle) + s * np.cos(angle)) for r, s in tips]
        strokes.append(("polygon", tuple(float(v) for u, w in turned for v in (x + radius * u, y + radius * w)), color))
    return strokes


def _tower(left: float, top: float, width: float, wall: str, window: str) -> list[Stroke]:
    """A tall building with rows of windows."""
    panes = [(x, y) for x in np.arange(left + 2.5, left + width - 3, 5) for y in np.arange(top + 4, 96, 7)]
    walls: Stroke = ("rectangle", (left, top, left + width, 100), wall)
    return [walls, *[("rectangle", (float(x), float(y), float(x) + 2.5, float(y) + 4), window) for x, y in panes]]


# What is painted, over which sky.
SCENES: dict[str, tuple[Colors, list[Stroke]]] = {
    "apple": (
        ("#f3efe6", "#cfc4b2"),
        [
            ("ellipse", (22, 76, 84, 92), "#a99c88"),
            *_ball(40, 56, 26, "#8c1016", "#ef4a3c"),
            *_ball(59, 56, 26, "#8c1016", "#d5281f"),
            *_ball(48, 57, 27, "#a3131a", "#ff7a66"),
            ("polygon", (48, 34, 51, 18, 55, 17, 52, 35), "#5b3a1e"),
            ("polygon", (53, 26, 62, 15, 77, 16, 68, 26), "#4c8c2b"),
        ],
    ),
    "rocket": (
        ("#3f7fc4", "#c9e2f5"),
        [
            ("polygon", (42, 66, 30, 84, 42, 80, 58, 80, 70, 84, 58, 66), "#b3261e"),
            ("polygon", (43, 78, 50, 99, 57, 78), "#ffb020"),
            ("rectangle", (42, 26, 58, 79), "#eef1f4"),
            ("rectangle", (52, 26, 58, 79), "#c3c9d1"),
            ("polygon", (42, 26, 50, 5, 58, 26), "#b3261e"),
            ("ellipse", (46, 36, 54, 44), "#2c3e50"),
        ],
    ),
    "sea": (
        ("#6f8fc9", "#ffc9a0"),
        [
            ("ellipse", (56, 30, 74, 48), "#fff1c9"),
            ("rectangle", (0, 52, 100, 100), "#2b5f8a"),
            *[("rectangle", (58 - k, 54 + 5 * k, 72 + k, 55.5 + 5 * k), "#e8c9a4") for k in range(6)],
            *[("rectangle", (11 * k % 83, 60 + 4 * k, 11 * k % 83 + 14, 61 + 4 * k), "#3f7aa8") for k in range(9)],
        ],
    ),
    "skyscraper": (
        ("#7fb2e5", "#dcebf7"),
        [
            *_tower(8, 52, 22, "#8a94a3", "#d6dee8"),
            *_tower(70, 42, 24, "#767f8c", "#d6dee8"),
            *_tower(36, 10, 28, "#4b5a6e", "#b9cfe8"),
        ],
    ),
    "sunflower": (
        ("#8cc3f0", "#5c9a3a"),
        [
            ("rectangle", (48, 55, 52, 100), "#3c7a22"),
            *_petals(50, 44, 18, 40, "#f2a900"),
            *_petals(50, 44, 13, 33, "#ffd02e"),
            *_ball(50, 44, 16, "#2b1708", "#7a4a1c"),
        ],
    ),
    "ship": (
        ("#9cc7e8", "#e6f1f8"),
        [
            ("rectangle", (0, 68, 100, 100), "#2a6083"),
            ("rectangle", (34, 40, 70, 58), "#f4f4f2"),
            *[("rectangle", (37 + 7 * k, 45, 41 + 7 * k, 49), "#33475b") for k in range(5)],
            ("rectangle", (56, 24, 64, 40), "#c1352b"),
            ("polygon", (10, 56, 94, 56, 84, 76, 20, 76), "#26323d"),
            ("rectangle", (18, 72, 86, 76), "#a5281f"),
        ],
    ),
}

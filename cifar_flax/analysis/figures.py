"""Pictures of a page: drawn by matplotlib, or images as they are; saved as PNG files and inlined as data URIs."""

import base64
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter
from PIL import Image

from cifar_flax.analysis.fonts import fonts_for
from cifar_flax.data.class_names import display_name
from cifar_flax.files.atomic import write_bytes

BLUE, ORANGE, GREEN, GREY = "#2f6db3", "#d9702b", "#2e8b57", "#8a8a8a"
CARD = 4.0  # inches: the width of a picture that fits the screen of a telephone
CLASS_LENGTH = 32  # characters of a class in a figure: superclasses of CIFAR-100 have up to 30
CSS_DPI = 96  # CSS pixels per inch
STYLE: Any = {
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "font.size": 9,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "text.parse_math": False,  # class names are users' and may hold dollar signs
}
WIDTH = round(CARD * CSS_DPI)  # of a card, in CSS pixels
_REPLACED: ContextVar[Mapping[str, str]] = ContextVar("replaced", default=MappingProxyType({}))  # by the innermost style


@dataclass(frozen=True)
class Picture:
    """A picture in a page.

    Attributes:
      file: file name in the report folder.
      uri: the PNG as a data URI.
      width, height: size on the page, in CSS pixels.
      alt: description for readers who do not see it.
      kind: "chart", which a page inverts in dark mode; "photographs", which it never does; "pixels", enlarged unsmoothed.
    """

    file: str
    uri: str
    width: int
    height: int
    alt: str
    kind: str = "chart"


@contextmanager
def drawing_style(names: Sequence[str] = (), first: int = 0) -> Iterator[None]:
    """Draws in the style of reports within the context, whatever the user's matplotlibrc says.

    Args:
      names: of classes or runs, as `short` gets them; drawn in any font that has their characters, else as "#7".
      first: the number of the first name.
    """
    families, replaced = fonts_for(names, first)
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE | {"font.family": families})
        warnings.filterwarnings("ignore", "Glyph .* missing")  # in names that nobody has announced
        token = _REPLACED.set(replaced)
        try:
            yield
        finally:
            _REPLACED.reset(token)


class PictureWriter:
    """Saves the pictures of one page as FOLDER/NAME.png."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written: set[Path] = set()

    def add(self, name: str, figure: Figure, alt: str, dpi: int = 2 * CSS_DPI, kind: str = "chart") -> Picture:
        """Writes a figure and returns it for the page.

        Args:
          name: file name without its ending.
          figure: the figure to save.
          alt: description for readers who do not see it.
          dpi: pixels per inch of the file; the page shows 96 pixels per inch, so that 192 are sharp on any screen.
          kind: as in `Picture`.
        """
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi)
        width, height = (round(inches * CSS_DPI) for inches in figure.get_size_inches())
        return self._write(name, buffer.getvalue(), width, height, alt, kind)

    def add_image(self, name: str, image: np.ndarray, alt: str, width: int) -> Picture:
        """Writes an image, uint8 [H, W, C] with C 1, 3 or 4, pixel by pixel; the page shows it `width` CSS pixels wide."""
        buffer = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "png", optimize=True)
        return self._write(name, buffer.getvalue(), width, round(width * image.shape[0] / image.shape[1]), alt, "pixels")

    def remove_others(self) -> None:
        """Removes the PNG files of the folder that this writer has not written: an earlier page had them."""
        for path in set(self.folder.glob("*.png")) - self._written:
            path.unlink()

    def _write(self, name: str, content: bytes, width: int, height: int, alt: str, kind: str) -> Picture:
        path = self.folder / f"{name}.png"
        write_bytes(path, content)
        self._written.add(path)
        return Picture(path.name, f"data:image/png;base64,{base64.b64encode(content).decode()}", width, height, alt, kind)


def new_figure(width: float = CARD, height: float = 3.0) -> Figure:
    """A figure of `width` x `height` inches whose parts make room for each other."""
    return Figure(figsize=(width, height), layout="constrained")


def label_logarithmic(axis: Any) -> None:
    """Labels a logarithmic axis, whose limits are set, with numbers; matplotlib's own are TeX, which STYLE leaves raw."""
    low, high = sorted(axis.get_view_interval())
    subs = (1, 2, 5) if high < 1000 * low else (1,)
    axis.set_major_locator(LogLocator(subs=subs) if high > 10 * low else MaxNLocator(5))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())


def show_image(axes: Any, image: Any) -> None:
    """Draws an image, uint8 [H, W, C] with C 1 or 3, or a map [H, W], with sharp pixels and no axes."""
    axes.imshow(image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image, cmap="gray", interpolation="nearest")
    axes.set_axis_off()


def tile(images: np.ndarray, columns: int, gap: int = 2) -> np.ndarray:
    """Tiles images, uint8 [N, H, W, C] with C 1 or 3, in rows of `columns`: uint8 [H', W', 4], transparent between them."""
    n, height, width, channels = images.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    cells = np.zeros((rows * columns, height + gap, width + gap, 4), np.uint8)
    cells[:n, :height, :width, :3] = images if channels == 3 else images[..., :1]
    cells[:n, :height, :width, 3] = 255
    tiled = cells.reshape(rows, columns, height + gap, width + gap, 4).swapaxes(1, 2)
    return tiled.reshape(rows * (height + gap), columns * (width + gap), 4)[:-gap, :-gap]


def class_label(name: str, length: int = CLASS_LENGTH) -> str:
    """A class or superclass for a figure: as `short`, and as people write it."""
    return display_name(short(name, length))


def short(name: str, length: int) -> str:
    """A name for a figure: truncated to `length` characters, the last an ellipsis; or what `drawing_style` draws instead."""
    name = _REPLACED.get().get(name, name)
    return name if len(name) <= length else name[: length - 1] + "…"


def percent(share: float) -> str:
    """Formats a share in [0, 1] as `12.3%`."""
    return f"{share:.1%}"

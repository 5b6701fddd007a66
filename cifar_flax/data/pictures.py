"""Pictures of any format, mode and size, and how they become the images that a network takes."""

import contextlib
import enum
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from cifar_flax.errors import UserError

Picture = str | Path | bytes | Image.Image | np.ndarray

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff")  # of files in those formats
DRAFT_SIDE = 1024  # pixels; libjpeg reads a JPEG of twice that or more at 1/2, 1/4 or 1/8, in a fraction of time and memory
RESAMPLING = Image.Resampling.BICUBIC  # Pillow widens the filter where it shrinks, which prevents aliasing


class Fit(enum.StrEnum):
    """How a picture of another shape becomes one of the network's."""

    CROP = "crop"  # the largest part in the middle that has the shape
    SQUASH = "squash"  # all of it, stretched
    PAD = "pad"  # all of it, with borders in the mean colour of the training images


def pictures_in(folder: Path) -> list[Path]:
    """The picture files in a folder and below, sorted, without hidden ones; a file is a picture by its suffix."""
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
    return [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def read_picture(picture: Picture) -> Image.Image:
    """Reads a picture that you trust as RGB, uint8, upright, over white where it is transparent.

    Pictures from strangers go through `cifar_flax.serving.images`, which has limits.

    Args:
      picture: a path, the bytes of a file in one of `FORMATS`, a Pillow image, or uint8 [H, W], [H, W, 1], [H, W, 3] or, with
        alpha, [H, W, 4]. Of a file much larger than `DRAFT_SIDE`, a smaller picture comes back.

    Raises:
      UserError: there is no such file, or it is not a picture; or the array has another dtype or shape.
    """
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (1,), (3,), (4,)):
            raise UserError(f"{picture.dtype} {picture.shape} is no picture; expected uint8 [H, W] or [H, W, 1, 3 or 4]")
        picture = Image.fromarray(picture[..., 0] if picture.shape[2:] == (1,) else picture)
    if isinstance(picture, Image.Image):
        return upright_rgb(picture)
    name = "the picture" if isinstance(picture, bytes) else str(picture)
    try:
        data = picture if isinstance(picture, bytes) else Path(picture).read_bytes()
    except OSError as e:
        raise UserError(f"{name}: {e.strerror or e}") from None
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
        image.draft(None, (DRAFT_SIDE, DRAFT_SIDE))
        return load_rgb(image)
    except Exception as e:  # Pillow's decoders raise whatever they stumble over
        raise UserError(f"{name}: not a picture that can be read ({type(e).__name__}); expected {', '.join(FORMATS)}") from None


def load_rgb(image: Image.Image) -> Image.Image:
    """Decodes an opened file: RGB, upright, shrunk by a whole factor to no fewer than `DRAFT_SIDE` pixels a side."""
    image.load()
    picture = upright_rgb(image)
    factor = min(picture.size) // DRAFT_SIDE
    return picture.reduce(factor) if factor > 1 else picture


def upright_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode as RGB, uint8, turned as its EXIF data says, over white where it is transparent.

    16 bits become 8 by division by 257. Modes I and F, 32 bits, do not say what white is. It is taken to be the smallest of 255
    and 65535 (F: of 1, 255 and 65535) that no value exceeds; where one does, or is negative, least is black and largest white.

    Raises:
      ValueError: Pillow knows no way from its mode to RGB.
    """
    upright = image
    with contextlib.suppress(Exception):  # EXIF data may make no sense where the picture does
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I") or upright.mode == "F":
        upright = _eight_bits(upright)
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    rgba = upright if upright.mode == "RGBA" else upright.convert("RGBA")  # which would copy it
    over_white = Image.new("RGB", rgba.size, "white")
    over_white.paste(rgba, mask=rgba)
    return over_white


def _eight_bits(image: Image.Image) -> Image.Image:
    """Modes I;16, I and F as L, or as LA where one value is marked as transparent."""
    values = np.array(image, np.float32)
    np.nan_to_num(values, copy=False, posinf=0, neginf=0)
    low, high = float(values.min()), float(values.max())
    whites = (65535.0,) if "16" in image.mode else (255.0, 65535.0) if image.mode == "I" else (1.0, 255.0, 65535.0)
    if low >= 0 and high <= whites[-1]:
        low, high = 0.0, next(white for white in whites if high <= white)
    values -= low
    values *= 255 / max(high - low, 1e-30)
    grey = Image.fromarray(np.rint(values, out=values).astype(np.uint8))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(np.asarray(image) == clear, 0, 255).astype(np.uint8)))
    return grey


def fit_picture(picture: Image.Image, image_shape: tuple[int, int, int], fit: Fit, mean: tuple[float, ...]) -> np.ndarray:
    """Resizes a picture to a network's image shape.

    Args:
      picture: mode RGB, of any size.
      image_shape: (H, W, C); C 1 takes the luma.
      fit: what becomes of another aspect ratio.
      mean: colour of the borders of `Fit.PAD`, in [0, 1], a channel each.

    Returns:
      uint8 [H, W, C]; the pixels as they are where the picture has that size already.
    """
    height, width, channels = image_shape
    if fit is Fit.PAD:
        resized = _pad(picture, (width, height), mean)
    elif fit is Fit.SQUASH:
        resized = picture.resize((width, height), RESAMPLING)
    else:
        resized = ImageOps.fit(picture, (width, height), RESAMPLING)
    return np.asarray(resized if channels == 3 else resized.convert("L")).reshape(height, width, channels)


def _pad(picture: Image.Image, size: tuple[int, int], mean: tuple[float, ...]) -> Image.Image:
    """The picture as large as fits, in the middle of one of `size`; unlike ImageOps.pad it keeps a pixel of a thin line."""
    scale = min(size[0] / picture.width, size[1] / picture.height)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    color = [round(255 * channel) for channel in mean]
    padded = Image.new("RGB", size, tuple(color * 3 if len(color) == 1 else color))
    padded.paste(picture.resize((width, height), RESAMPLING), ((size[0] - width) // 2, (size[1] - height) // 2))
    return padded

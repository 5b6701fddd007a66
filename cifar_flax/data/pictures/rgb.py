"""Decoded pictures of any mode as RGB."""

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION

WHITES = {"I;16": (65535.0,), "I": (255.0, 65535.0), "F": (1.0, 255.0, 65535.0)}  # what white may be, by mode
WIDENED = {"L;2": 85, "L;4": 17}  # raw modes of Pillow, and what their values are multiplied with


def upright_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode as RGB, uint8, turned as its EXIF data says, over white where it is transparent.

    16 bits become 8 by division by 257. Modes I and F, 32 bits, do not say what white is. It is taken to be the smallest of 255
    and 65535 (F: of 1, 255 and 65535) that no value exceeds; where one does, or is negative, least is black and largest white.

    Raises:
      ValueError: Pillow knows no way from its mode to RGB.
    """
    upright, tags = image, getattr(image, "tag_v2", {})
    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            upright = ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception:  # nosec B110 # EXIF data may make no sense where the picture does
        pass
    if upright.mode.startswith("I") or upright.mode == "F":
        upright = _eight_bits(upright, 4095.0 if tags.get(BITSPERSAMPLE) == (12,) else None)
        if tags.get(PHOTOMETRIC_INTERPRETATION) == 0:  # white is zero, which Pillow sees to in other modes
            upright = ImageOps.invert(upright)
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    rgba = upright if upright.mode == "RGBA" else upright.convert("RGBA")  # which would copy it
    over_white = Image.new("RGB", rgba.size, "white")
    over_white.paste(rgba, mask=rgba)
    return over_white


def scale_transparency(image: Image.Image) -> None:
    """Widens the transparent value of a PNG of 2 or 4 bits a pixel, not yet decoded: Pillow widens the pixels alone."""
    clear = image.info.get("transparency")
    if not isinstance(image, ImageFile.ImageFile) or image.format != "PNG" or not isinstance(clear, int):
        return
    if image.tile and image.tile[0].args in WIDENED:
        image.info["transparency"] = clear * WIDENED[image.tile[0].args]


def _eight_bits(image: Image.Image, white: float | None) -> Image.Image:
    """Modes I;16, I and F as L, or as LA where one value is marked as transparent; `white` is that of the file, if it says."""
    values = np.array(image, np.float32)
    np.nan_to_num(values, copy=False, posinf=0, neginf=0)
    low, high = float(values.min()), float(values.max())
    whites = WHITES["I;16" if "16" in image.mode else image.mode] if white is None else (white,)
    if low >= 0 and high <= whites[-1]:
        low, high = 0.0, next(white for white in whites if high <= white)
    values -= low
    values *= 255 / max(high - low, 1e-30)
    grey = Image.fromarray(np.rint(values, out=values).astype(np.uint8))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(np.asarray(image) == clear, 0, 255).astype(np.uint8)))
    return grey

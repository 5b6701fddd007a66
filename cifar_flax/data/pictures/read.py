"""Reads pictures, from files or from memory."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cifar_flax.data.pictures.decode import as_rgb
from cifar_flax.data.pictures.errors import UnreadableImage
from cifar_flax.data.pictures.files import MAX_BYTES, hint_of_heic, pictures_in, read_bytes
from cifar_flax.data.pictures.isolated import shared_decoder
from cifar_flax.errors import UserError

Picture = str | Path | bytes | Image.Image | np.ndarray  # or an open file, of which no type tells


def read_picture(picture: Picture) -> Image.Image:
    """Reads a picture as RGB, uint8, upright, over white where it is transparent.

    Args:
      picture: a path, the bytes of a file in one of `files.FORMATS`, an open file, a Pillow image, or uint8 [H, W], [H, W, 1],
        [H, W, 3] or, with alpha, [H, W, 4]. Of one much larger than `decode.DRAFT_SIDE`, a smaller picture comes back.

    Raises:
      UserError: there is no such file, or it is not a picture, or has no pixels; or the array has another dtype or shape.
    """
    picture = _content(picture)
    if not isinstance(picture, Picture):
        kind = type(picture).__name__
        raise UserError(f"{kind} is no picture; expected a path, an open file or its bytes, a Pillow image or a NumPy array")
    if isinstance(picture, np.ndarray):
        expected = picture.ndim in (2, 3) and picture.shape[2:] in ((), (1,), (3,), (4,)) and picture.size > 0
        if picture.dtype != np.uint8 or not expected:
            raise UserError(f"{picture.dtype} {picture.shape} is no picture; expected uint8 [H, W] or [H, W, 1, 3 or 4]")
        picture = Image.fromarray(picture[..., 0] if picture.shape[2:] == (1,) else picture)
    if isinstance(picture, Image.Image):
        if 0 in picture.size:
            raise UserError(f"a Pillow image of {picture.width} x {picture.height} pixels is no picture")
        try:
            return as_rgb(picture)
        except Exception as e:  # one that was opened and not loaded is decoded here, and decoders raise anything
            raise UserError(f"the Pillow image cannot be read ({type(e).__name__}: {e}); open its file again") from None
    name = "the picture" if isinstance(picture, bytes) else str(picture)
    try:
        return shared_decoder().decode_any(picture if isinstance(picture, bytes) else read_bytes(picture))
    except UnreadableImage as e:
        raise UserError(f"{name}: {e}") from None


def as_pictures(pictures: Picture | Sequence[Picture]) -> tuple[Sequence[Picture], bool]:
    """The pictures of a folder, in the order of `files.pictures_in`, of a sequence or of uint8 [N, H, W, C]; or a single one.

    Returns:
      The pictures, and whether what was given is a single one.

    Raises:
      UserError: a folder holds no picture, or cannot be listed.
    """
    if isinstance(pictures, str | Path):
        if not (folder := Path(pictures)).is_dir():
            return [pictures], True
        if not (paths := pictures_in(folder)):
            raise UserError(f"{folder}: no pictures in this folder{hint_of_heic(folder)}")
        return paths, False
    if isinstance(pictures, np.ndarray):
        return (list(pictures), False) if pictures.ndim == 4 else ([pictures], True)
    content: Any = _content(pictures)
    single = isinstance(content, bytes | Image.Image | Mapping) or not isinstance(content, Iterable)
    return [content] if single else content, single  # what is no picture is refused when it is read


def _content(picture: Any) -> Any:
    """The bytes of an open file, or of what holds bytes; anything else as it is."""
    if hasattr(picture, "read") and not isinstance(picture, Image.Image | Path):
        content = picture.read(MAX_BYTES + 1)
        if not isinstance(content, bytes):
            raise UserError(f"{type(picture).__name__} gives text; open a picture in binary mode, as by open(path, 'rb')")
        if len(content) > MAX_BYTES:
            raise UserError(f"{type(picture).__name__}: the file is larger than {MAX_BYTES >> 20} MB")
        return content
    return bytes(picture) if isinstance(picture, bytearray | memoryview) else picture

"""Validates the parameters and bodies of requests."""

import json
from collections.abc import Sequence
from tempfile import SpooledTemporaryFile
from typing import IO

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge

from cifar_flax.network import METHODS
from cifar_flax.serving.errors import Busy, RequestError

JSON_BYTES = 2**16
FORM_BYTES = 2**17  # of the headers of a part, and of its value where it is no file; werkzeug reads half of it at a time
FORM_PARTS = 8
MEMORY_BYTES = 500_000  # of a file; a larger one is kept on disk, as werkzeug keeps those of forms


def address(request: Request) -> str:
    """The `url` of a JSON body.

    Raises:
      RequestError: the body is no JSON object with one.
      RequestEntityTooLarge: it has more than `JSON_BYTES`.
    """
    request.max_content_length = min(JSON_BYTES, request.max_content_length or JSON_BYTES)
    try:
        body = json.loads(request.get_data().decode())  # json itself would take UTF-16 and UTF-32 too
    except (ValueError, RecursionError):
        raise RequestError('The body is not JSON in UTF-8. Expected {"url": "https://..."}.', "bad_json", 400) from None
    url = body.get("url") if isinstance(body, dict) else None
    if not isinstance(url, str) or not url.strip():
        raise RequestError('There is no address in the body. Expected {"url": "https://..."}.', "missing_url", 400)
    return url.strip()


def upload(request: Request) -> IO[bytes]:
    """The field `file` of a form.

    Raises:
      RequestError: there is no such field, or nothing in it, or the form is unusual.
      RequestEntityTooLarge: the form is larger than `request.max_content_length`.
      Busy: there is no room on disk for the file.
    """
    try:
        file = request.files.get("file")
    except RequestEntityTooLarge:
        if (request.content_length or 0) > (request.max_content_length or 0):
            raise
        sentence = f'The form has more than {FORM_PARTS} parts, or too much beside the file in the field "file".'
        raise RequestError(sentence, "bad_form", 400) from None
    except OSError:
        raise Busy from None
    if file is None:
        raise RequestError('There is no picture in the form. Expected one in the field "file".', "missing_file", 400)
    if not file.stream.read(1):
        raise RequestError("The file is empty.", "empty_file", 400)
    return file.stream


def keep(data: bytes) -> IO[bytes]:
    """A file with these bytes, on disk where they are many.

    Raises:
      Busy: there is no room on disk.
    """
    file = SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115 # closed when nobody refers to it any more
    try:
        file.write(data)
    except OSError:
        raise Busy from None
    return file


def top(request: Request) -> int:
    """The number of classes to answer with: `?top=`, in [1, 1000]; 5 where the request does not say.

    Raises:
      RequestError: it is not such a number.
    """
    text = request.args.get("top", "5")
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= 1000):
        raise RequestError("The parameter top must be a whole number from 1 to 1000.", "bad_top", 400)
    return int(text)


def method(request: Request) -> str:
    """The method of explanation: `?method=`, one of `METHODS`; "occlusion" where the request does not say.

    Raises:
      RequestError: it is none of them.
    """
    text = request.args.get("method", "occlusion")
    if text not in METHODS:
        raise RequestError(f"The parameter method must be {' or '.join(METHODS)}.", "bad_method", 400)
    return text


def label(request: Request, class_names: Sequence[str]) -> int | None:
    """The number of the class `?class=`; None where the request names none.

    Raises:
      RequestError: there is no such class.
    """
    name = request.args.get("class")
    if name is not None and name not in class_names:
        raise RequestError("The network has no class of that name; /api/model lists those that it has.", "unknown_class", 400)
    return None if name is None else class_names.index(name)

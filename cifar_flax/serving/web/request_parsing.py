"""Validates the parameters and bodies of requests."""

import json

from flask import Request

from cifar_flax.serving.errors import RequestError


def address(request: Request) -> str:
    """The `url` of a JSON body.

    Raises:
      RequestError: the body is no JSON object with one.
    """
    try:
        body = json.loads(request.get_data().decode())  # json itself would take UTF-16 and UTF-32 too
    except (ValueError, RecursionError):
        raise RequestError('The body is not JSON in UTF-8. Expected {"url": "https://..."}.', "bad_json", 400) from None
    url = body.get("url") if isinstance(body, dict) else None
    if not isinstance(url, str) or not url.strip():
        raise RequestError('There is no address in the body. Expected {"url": "https://..."}.', "missing_url", 400)
    return url.strip()


def upload(request: Request) -> bytes:
    """The bytes of the field `file` of a form.

    Raises:
      RequestError: there is no such field, or nothing in it.
    """
    file = request.files.get("file")
    if file is None:
        raise RequestError('There is no picture in the form. Expected one in the field "file".', "missing_file", 400)
    data = file.read()
    if not data:
        raise RequestError("The file is empty.", "empty_file", 400)
    return data


def top(request: Request, default: int = 5) -> int:
    """The number of classes to answer with: `?top=`, in [1, 1000].

    Raises:
      RequestError: it is not such a number.
    """
    text = request.args.get("top", str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= 1000):
        raise RequestError("The parameter top must be a whole number from 1 to 1000.", "bad_top", 400)
    return int(text)

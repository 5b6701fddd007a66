"""Redaction of passwords in URLs, before a text is shown or written."""

import re


def redact_passwords(text: str) -> str:
    """Returns the text with `***` for each password of a URL in it, malformed URLs included."""
    text = re.sub(r"(:/+[^/:\s]*):\S*@", r"\1:***@", text)  # up to the last @: they hold some that should have been %40
    return re.sub(r"([?&]password=)[^&\s]*", r"\1***", text)

"""Texts before they are shown: without passwords, and without what steers a terminal."""

import re


def redact_passwords(text: str) -> str:
    """Returns the text with `***` for each password of a URL in it, malformed URLs included."""
    text = re.sub(r"(:/+[^/:\s]*):\S*@", r"\1:***@", text)  # up to the last @: they hold some that should have been %40
    return re.sub(r"([?&]password=)[^&\s]*", r"\1***", text)


def visible(text: str) -> str:
    """Returns the text with control characters, and bytes that are no characters, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)

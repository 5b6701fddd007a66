"""Texts before they are shown: in a line, without passwords, and without what steers a terminal."""

import re

LONGEST_REASON = 200  # characters quoted from another library's message


def redact_passwords(text: str) -> str:
    """Returns the text with `***` for each password of a URL in it, malformed URLs included."""
    text = re.sub(r"(:/+[^/:\s]*):\S*@", r"\1:***@", text)  # up to the last @: they hold some that should have been %40
    return re.sub(r"([?&]password=)[^&\s]*", r"\1***", text)


def visible(text: str) -> str:
    """Returns the text with control characters, and bytes that are no characters, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def reason(error: BaseException) -> str:
    """Returns the first line that says something of an error, for the end of a line of ours; its type if there is none."""
    return _first_line(error) or type(error).__name__


def named_reason(error: BaseException) -> str:
    """Returns the same behind the error's type, for what may be anything: ValueError: not a number."""
    return ": ".join(filter(None, (type(error).__name__, _first_line(error))))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    line = "; ".join(line.removeprefix("- ") for line in lines[1:]) if lines[0].endswith(":") else lines[0]  # tarfile's
    return visible(redact_passwords(line))[:LONGEST_REASON]

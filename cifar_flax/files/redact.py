"""Passwords that people write into URLs, and that nobody else should read."""

import re


def redact_passwords(text: str) -> str:
    """The text with the passwords of its URLs as stars, in however many ways the URLs are wrong."""
    text = re.sub(r"(:/+[^/:\s]*):\S*@", r"\1:***@", text)  # up to the last @: they hold some that should have been %40
    return re.sub(r"([?&]password=)[^&\s]*", r"\1***", text)

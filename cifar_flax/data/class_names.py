"""Names of classes, whatever brings them: in one spelling, different from each other, and fit to be printed."""

import unicodedata
from collections.abc import Iterable

from cifar_flax.errors import UserError

MAX_CLASSES = 100_000
MAX_NAME_LENGTH = 200  # characters; a folder's name has at most 255 bytes
REFUSED_KINDS = ("Cc", "Cs", "Zl", "Zp")  # characters that steer a terminal or end a line, and bytes that are no text
TURNING = ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI")  # those that turn the order of their neighbours


def composed(name: str) -> str:
    """A name with "é" as one character, as most programs write it, and not as macOS names files, with two (Unicode's NFC)."""
    return unicodedata.normalize("NFC", name)


def checked_names(where: str, names: Iterable[str | bytes]) -> tuple[str, ...]:
    """Checks the names of classes or superclasses.

    Args:
      where: what they come from, for the message.
      names: text, or bytes of UTF-8.

    Returns:
      The names in Unicode's composed form (NFC), in which two that look alike are equal.

    Raises:
      UserError: a name is empty, not UTF-8, too long, holds control characters, or occurs twice; or there are too many.
    """
    checked: dict[str, None] = {}
    for name in names:
        try:
            text = composed(name.decode() if isinstance(name, bytes) else name)
            text.encode()
        except UnicodeError:
            raise UserError(f"{where}: the name {name!a} is not UTF-8") from None
        if problem := _problem(text):
            raise UserError(f"{where}: {problem}")
        if text in checked:
            raise UserError(f"{where}: two classes have the name {text}")
        checked[text] = None
        if len(checked) > MAX_CLASSES:
            raise UserError(f"{where}: more than the {MAX_CLASSES:,} classes that are allowed")
    return tuple(checked)


def display_name(name: str) -> str:
    """A class or superclass as people write it: "maple tree" for "maple_tree". Files keep the exact name."""
    return name.replace("_", " ")


def _problem(name: str) -> str:
    """The reason why a name cannot be that of a class; "" where it can."""
    if not name.strip():
        return "a class has an empty name"
    if len(name) > MAX_NAME_LENGTH:
        return f"a class has a name of {len(name):,} characters, expected at most {MAX_NAME_LENGTH}"
    if any(unicodedata.category(c) in REFUSED_KINDS or unicodedata.bidirectional(c) in TURNING for c in name):
        return f"the name {name!a} holds control characters"
    return ""

"""Tables as text, for the terminal."""

from collections.abc import Collection, Iterable, Sequence

from cifar_flax.files.redact import visible

TERMINAL_WIDTH = 80  # of a terminal


def shorten(text: str, width: int) -> str:
    """The text, or its beginning and "..." where it is longer than `width`."""
    return text if len(text) <= width else f"{text[: width - 3]}..."


def format_table(rows: Iterable[Sequence[str]], indent: int = 0, right: Collection[int] = ()) -> str:
    """Aligns cells into columns that are two spaces apart.

    Args:
      rows: the cells of each line; a header is a row like any other. Every row has the same number of cells.
      indent: spaces before each line.
      right: indices of the columns to align to the right, such as those of numbers.

    Returns:
      The lines, printable, without trailing spaces; "" without rows.
    """
    rows = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    formats = [f"{'>' if i in right else '<'}{width}" for i, width in enumerate(widths)]
    lines = ("  ".join(map(format, row, formats)) for row in rows)
    return "\n".join((" " * indent + line).rstrip() for line in lines)

"""Fonts for names in any script: those of this machine that have the characters which matplotlib's own font lacks."""

from collections.abc import Sequence
from functools import cache

from absl import logging
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

DEFAULT = "DejaVu Sans"  # comes with matplotlib
LAST_RESORT = "Last Resort"  # comes with it too, and draws a box for every character
NORMAL_WEIGHT = 400
SHOWN = 3  # names in a message
_warn_once = cache(logging.warning)


def fonts_for(names: Sequence[str], first: int = 0) -> tuple[list[str], dict[str, str]]:
    """Chooses fonts that together have the characters of names, as few as a greedy choice finds.

    Names for which there are none are named in a line.

    Returns:
      families: for matplotlib's `font.family`.
      replaced: what to draw instead of a name: its number, "#7", where that of the first is `first`.
    """
    families, missing = [DEFAULT], set("".join(names)) - set(_characters(font_manager.findfont(DEFAULT)))
    candidates = dict(_other_fonts()) if missing else {}
    while candidates and missing:
        family = max(candidates, key=lambda family: len(missing & candidates[family]))
        if not missing & candidates[family]:
            break
        families.append(family)
        missing -= candidates.pop(family)
    replaced = {name: f"#{i}" for i, name in enumerate(names, first) if missing.intersection(name)}
    if replaced:
        shown = ", ".join([*list(replaced)[:SHOWN], *["..."] * (len(replaced) > SHOWN)])
        _warn_once("no font here has the characters of %s: pictures show numbers; install one, such as fonts-noto-cjk", shown)
    return families, replaced


@cache
def _other_fonts() -> dict[str, frozenset[str]]:
    """The characters of each upright family of this machine, sorted by name."""
    entries = sorted(font_manager.fontManager.ttflist, key=lambda entry: entry.name)
    upright = {entry.name: entry.fname for entry in entries if entry.style == "normal" and entry.weight == NORMAL_WEIGHT}
    return {name: _characters(path) for name, path in upright.items() if not name.startswith(LAST_RESORT)}


@cache
def _characters(path: str) -> frozenset[str]:
    try:
        font = FT2Font(path)
        return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
    except (OSError, RuntimeError, ValueError):  # a damaged file, or one of coloured pictures
        return frozenset()

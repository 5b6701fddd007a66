"""Names of classes in any script, in figures."""

import numpy as np

from cifar_flax.analysis.figures import drawing_style
from cifar_flax.analysis.fonts import fonts_for
from cifar_flax.analysis.report.confusion import heat_map

PALATAL = "\N{LATIN SMALL LETTER D WITH PALATAL HOOK}og"  # in a font that comes with matplotlib, and not in its default one
LYDIAN = "\N{LYDIAN LETTER A}\N{LYDIAN LETTER B}"  # in none


def drawn(names, folder):
    with drawing_style(names):
        figure = heat_map(np.eye(len(names), dtype=int), names, "")
        return [label.get_text() for label in figure.axes[0].get_yticklabels()], figure


def test_names_in_the_default_font_are_drawn_with_it_alone(caplog):
    assert fonts_for(("cat", "caf\xe9", "\N{GREEK SMALL LETTER ALPHA}", "")) == (["DejaVu Sans"], {})
    assert not caplog.messages


def test_characters_of_another_font_are_drawn_with_that(tmp_path, caplog, recwarn):
    families, replaced = fonts_for(("cat", PALATAL))
    assert (families[0], len(families), replaced) == ("DejaVu Sans", 2, {})
    texts, figure = drawn(("cat", PALATAL), tmp_path)
    assert texts == ["cat", PALATAL]
    figure.savefig(tmp_path / "a.png")  # which warns of characters that it cannot draw
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
    assert not caplog.messages


def test_names_that_no_font_has_are_drawn_as_numbers_and_said_in_a_line(tmp_path, caplog):
    texts, _ = drawn(("cat", LYDIAN, "dog", LYDIAN[::-1]), tmp_path)
    assert texts == ["cat", "#1", "dog", "#3"]
    (line,) = caplog.messages
    assert f"no font here has the characters of {LYDIAN}, {LYDIAN[::-1]}: pictures show numbers" in line

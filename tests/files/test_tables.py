from cifar_flax.files.tables import format_table


def test_columns_are_aligned_left_or_right():
    rows = [("name", "n", "note"), ("a", "1", ""), ("longer", "200", "x")]
    assert format_table(rows, right={1}).splitlines() == ["name      n  note", "a         1", "longer  200  x"]
    assert format_table(rows[1:], indent=2).splitlines() == ["  a       1", "  longer  200  x"]
    assert format_table([]) == ""


def test_a_cell_cannot_steer_the_terminal():
    assert format_table([("a\x1b[2J", "b"), ("c\n", "d")]) == "a\\x1b[2J  b\nc\\n       d"

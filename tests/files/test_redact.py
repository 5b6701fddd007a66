"""What other libraries and users' code say of an error becomes the end of one line, whatever it is."""

import pytest

from cifar_flax.files.redact import LONGEST_REASON, named_reason, reason

ERRORS = [
    (ValueError("no number"), "no number", "ValueError: no number"),
    (ValueError("\n  first\nsecond"), "first", "ValueError: first"),
    (OSError("not opened:\n- gz: cut short\n- tar: none"), "gz: cut short; tar: none", "OSError: gz: cut short; tar: none"),
    (AssertionError(), "AssertionError", "AssertionError"),
    (ConnectionError("\n"), "ConnectionError", "ConnectionError"),
    (OSError("\x1b[2J\u202e"), r"\x1b[2J\u202e", r"OSError: \x1b[2J\u202e"),
    (
        OSError("no route to http://me:secret@host/"),
        "no route to http://me:***@host/",
        "OSError: no route to http://me:***@host/",
    ),
    (RuntimeError("x" * 300), "x" * LONGEST_REASON, f"RuntimeError: {'x' * LONGEST_REASON}"),
]


@pytest.mark.parametrize(("error", "expected", "named"), ERRORS)
def test_an_error_ends_a_line(error, expected, named):
    assert (reason(error), named_reason(error)) == (expected, named)

import doctest

import pytest

from srlib import errors
from srlib.errors import one_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\n\n  two\tthree"), "one two three"),
        (RecursionError(), "RecursionError"),
        (OSError("\x1b[31mred\x00"), "?[31mred?"),
        ("a\r\nb", "a b"),
    ],
)
def test_one_line(error: BaseException | str, line: str) -> None:
    assert one_line(error) == line


def test_a_long_message_is_cut() -> None:
    assert one_line(ValueError("x" * 500)) == "x" * errors.LONGEST_LINE + "…"
    assert one_line(ValueError("abcdef"), limit=3) == "abc…"


def test_examples() -> None:
    assert doctest.testmod(errors).attempted
    assert not doctest.testmod(errors).failed

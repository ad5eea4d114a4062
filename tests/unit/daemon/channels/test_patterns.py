"""The regular expressions that clients give: Python's syntax, and no search without an end."""

from __future__ import annotations

from typing import Any

import pytest

from junebug_turn.daemon.channels.patterns import MAX_LENGTH, Pattern, read_pattern


def pattern(text: Any) -> Pattern:
    return read_pattern({"config": {"regular_expression": text}})


@pytest.mark.parametrize(
    ("text", "address", "fits"),
    [
        (r"^\+?27(81|82)", "+27821234567", True),
        (r"^\+?27(81|82)", "+27831234567", False),
        (r"110$", "8110", True),
        (r"^(?!2781)", "2782", True),  # the rest: Junebug has no other default destination
        (r"^(?!2781)", "2781", False),
        (r"^(?P<two>\d\d)(?P=two)", "8181", True),
        (r"(?i)shop", "WebSHOP", True),
        ("", "", True),
    ],
)
def test_syntax(text: str, address: str, fits: bool) -> None:
    """Expressions mean what they mean for Python, with look-around and back-references."""
    assert pattern(text).fits(address) is fits


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (r"(a+)+$", "a" * 60 + "b"),
        (r"(a|aa)+$", "a" * 60 + "b"),
        (r"^(\d+)+$", "2" * 60 + "x"),
        (r"(\d*)*(\d*)*(\d*)*x", "1" * 500),
        (r"(?=(a|aa)+$)a", "a" * 60 + "b"),
        (r"(.+)(.+)(.+)\1\2\3x", "a" * 500),
        (r"(?:a{1,1000}){1,1000}b", "a" * 2000),
        (r"a|(b|bb)+$", "b" * 100_000 + "c"),
    ],
)
def test_hostile_expressions(text: str, address: str) -> None:
    """A search ends, whatever the expression and the address are: without a result where it would take too long."""
    try:
        assert not pattern(text).fits(address)
    except TimeoutError:
        pass


@pytest.mark.parametrize("text", ["(", "a" * (MAX_LENGTH + 1), 5, None, [], "(" * 400 + ")" * 400 + "("])
def test_what_is_refused(text: Any) -> None:
    """An expression that can't be used, or is too long, is refused with the name of its field."""
    with pytest.raises(ValueError, match="regular_expression"):
        pattern(text)

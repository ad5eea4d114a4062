"""What is logged of a destination's own words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junebug_turn.delivery.destination import Destination
from junebug_turn.delivery.refusal_text import MAX_TEXT, clean

TOKEN = "s3cr3t"
AUTHORIZATION = f"Bearer {TOKEN}".encode()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Invalid parameter (100)", "Invalid parameter (100)"),
        ("a\r\nb\t\x1b[31mc\u202e\u2028d\x00", "a b [31mc d"),
        (f"token {TOKEN} is wrong", "token *** is wrong"),
        ("to +27821234567, 27 82 123 4567 and 082-123-4567", "to ***4567, ***4567 and ***4567"),
        ("see https://whatsapp.turn.io/v1/numbers/0a1b2c3d", "see ***"),
        (f"eyJhbGciOiJIUzI1NiJ9.{'x' * 40} expired", "*** expired"),
        ("Ünbekannte Nummer", "Ünbekannte Nummer"),
        ("", ""),
    ],
)
def test_clean(text: str, line: str) -> None:
    """The text is one line without control characters, tokens, URLs and whole numbers."""
    assert clean(text, AUTHORIZATION) == line


def test_credentials_of_a_url() -> None:
    """The password of a URL is not shown either, nor its Basic header."""
    destination = Destination.of("http://user:p%40ss@localhost/", None)
    assert clean("user p@ss dXNlcjpwQHNz", destination.authorization) == "user *** ***"


@given(st.text(st.characters(exclude_categories=()), max_size=2000))
def test_any_text(text: str) -> None:
    """Whatever a destination says is short, printable and can be written."""
    line = clean(f"{text} {TOKEN}", AUTHORIZATION)
    assert len(line) <= MAX_TEXT
    assert line.isprintable()
    line.encode()
    assert TOKEN not in line
    assert not re.search(r"\d{7}", line, re.ASCII)

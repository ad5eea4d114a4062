"""Strict JSON."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junebug_turn.messages import strictjson
from tests.support.strategies import json_values


@given(json_values)
def test_round_trip(value: object) -> None:
    """Whatever JSON has a form for is read as it was written, and is written in ASCII."""
    text = strictjson.dumps(value)
    assert text.isascii()
    assert strictjson.loads(text) == value


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "Expecting value"),
        (b"{", "char 1"),
        (b'{"a": 1,}', "char"),
        (b'{"a": 1} x', "Extra data"),
        (b"[NaN]", "NaN is not JSON"),
        (b"[Infinity]", "Infinity is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"[1e999]", "out of range"),
        (b"[" + b"9" * 5000 + b"]", "digits"),
        (b'"\xff"', "not UTF-8: invalid start byte at byte 1"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b'"a\nb"', "control character"),
        (b"'a'", "Expecting value"),
        (b"[" * 65 + b"]" * 65, "nested deeper than 64 levels"),
    ],
)
def test_refused(body: bytes, words: str) -> None:
    """What isn't strict JSON is refused with what is wrong and where."""
    with pytest.raises(ValueError, match=words):
        strictjson.loads(body)


def test_stored_values() -> None:
    """What was read at the greatest depth and wrapped by a store can be read; deeper values are refused."""
    deepest = strictjson.loads(b"[" * strictjson.DEEPEST + b"]" * strictjson.DEEPEST, strictjson.DEEPEST)
    wrapped = [[deepest]]
    assert strictjson.loads_stored(strictjson.dumps(wrapped)) == wrapped
    for body in (b"[" * 600 + b"]" * 600, b"[" * 1_000_000):
        with pytest.raises(ValueError, match="levels"):
            strictjson.loads_stored(body)


def test_brackets_in_strings_do_not_nest() -> None:
    """Only brackets outside of strings count as depth."""
    value = ['[{"\\' * 100, "[" * 100]
    assert strictjson.loads(json.dumps(value).encode()) == value


def test_lone_surrogates_survive() -> None:
    """A lone surrogate, which JSON can escape and UTF-8 can't hold, is read and written."""
    assert strictjson.dumps(strictjson.loads(rb'"\ud83d"')) == rb'"\ud83d"'


def test_byte_order_mark() -> None:
    """A byte order mark before the value is passed over."""
    assert strictjson.loads(b"\xef\xbb\xbf[1]") == [1]


@pytest.mark.parametrize(
    "body", [b"[" * 1_000_000, b"[" * 70 + b'"' + b'\\"' * 500_000, b"[" * 70 + b'"' * 999_999]
)
def test_hostile_depth_is_found_at_once(body: bytes) -> None:
    """A megabyte made to be slow to read is refused in less than a second."""
    start = time.perf_counter()
    with pytest.raises(ValueError, match="levels"):
        strictjson.loads(body)
    assert time.perf_counter() - start < 1


@given(st.binary(max_size=60))
def test_bytes_never_raise_anything_else(body: bytes) -> None:
    """Any bytes are a value or a ValueError."""
    try:
        strictjson.loads(body)
    except ValueError:
        pass


@given(
    st.lists(st.sampled_from(["[", "]", "{", "}", '"', "\\", "a", "é", '"[{"', '"\\""'])).map("".join),
    st.integers(1, 5),
)
def test_depth(text: str, most: int) -> None:
    """The depth is that of brackets outside of strings, and the first bracket that is too deep is named."""
    depth, at, inside, escaped = 0, None, False, False
    for index, letter in enumerate(text):
        if inside:
            inside = escaped or letter != '"'
            escaped = letter == "\\" and not escaped
            continue
        inside = letter == '"'
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(letter, 0)
        if depth > most and at is None:
            at = index
    if at is None:
        strictjson.check_depth(text, most)
    else:
        with pytest.raises(ValueError, match=f"^nested deeper than {most} levels: char {at}$"):
            strictjson.check_depth(text, most)

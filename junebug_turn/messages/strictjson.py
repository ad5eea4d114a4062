"""JSON as RFC 8259 has it: UTF-8, one value, no NaN, and no deeper than a person would nest it."""

from __future__ import annotations

import json
import re
from itertools import accumulate
from math import isinf
from typing import Any, NoReturn

MAX_DEPTH = 64
"""How deep arrays and objects can nest where nobody says otherwise."""

DEEPEST = 500
"""The most that an option can say; Python reads a few hundred levels more."""

_STORED_DEPTH = DEEPEST + 10


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise ValueError(f"number out of range: {digits[:20]}")
    return number


_decoder = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def loads(data: bytes, max_depth: int = MAX_DEPTH) -> Any:
    """Read the value of a JSON text.

    :raises ValueError: not UTF-8, not JSON, deeper than ``max_depth``, or a number too long to hold; the
        message says what and where
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from None
    if text.startswith("\ufeff"):
        text = text[1:]
    if text.count("[") + text.count("{") > max_depth:
        check_depth(text, max_depth)
    return _decoder.decode(text)


def loads_stored(data: bytes) -> Any:
    """Read the value of a JSON text that a store returned.

    Whatever was accepted can be read again, at the depth that was allowed then and with the levels that a store puts
    around it.  The bound is for a store that others can write to.

    :raises ValueError: see ``loads``
    """
    return loads(data, _STORED_DEPTH)


def dumps(value: Any) -> bytes:
    """Write ``value`` as compact JSON, in ASCII, so that any value of ``loads`` can be written.

    :raises ValueError: the value holds a NaN or an infinity
    """
    return _encode(value).encode("ascii")


_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


# A whole string, or one that never ends.  Possessive, so that no input makes it go back.
_A_STRING = r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)'
_STRING = re.compile(_A_STRING, re.DOTALL)
_STRING_OR_BRACKET = re.compile(_A_STRING + r"|[\[\]{}]", re.DOTALL)

# The bytes 1 and -1, as a signed byte, for an opening and a closing bracket.
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_OTHERS = bytes(set(range(256)) - set(b"[{]}"))


def check_depth(text: str, max_depth: int) -> None:
    """Raise ValueError where brackets outside of strings nest deeper than ``max_depth``.

    A loop over the brackets took a tenth of a second for the 250,000 of a large body, in which nobody else was served.
    """
    steps = memoryview(_STRING.sub("", text).encode("utf-8").translate(_STEPS, _OTHERS)).cast("b")
    if max(accumulate(steps), default=0) > max_depth:
        raise ValueError(f"nested deeper than {max_depth} levels: char {_too_deep_at(text, max_depth)}")


def _too_deep_at(text: str, max_depth: int) -> int:
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if depth > max_depth:
            return match.start()
    return len(text)

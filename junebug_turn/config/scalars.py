"""YAML scalars as they are written: the option's type, not YAML, decides whether 0821 is a number or a text.

A number is only what looks like one to everybody: YAML 1.1 reads 0721 as 465 and 12:30 as 750, here these are texts.
"""

from __future__ import annotations

import re
from typing import Any

PATTERNS = {
    "bool": r"(?i:true|false|yes|no|on|off)",
    "int": r"[-+]?(0|[1-9][0-9]*)",
    "float": r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?|\.[0-9]+|\.(inf|Inf|INF))|\.(nan|NaN|NAN)",
}
"""The scalars without quotes that YAML would make values of."""

_WHOLE = re.compile(PATTERNS["int"])
_NUMBER = re.compile(PATTERNS["float"])
_YES = {"true", "yes", "on"}
_NO = {"false", "no", "off"}


class Scalar(str):
    """The text of a number or boolean that stands without quotes in YAML."""

    __slots__ = ()


def boolean(value: Any) -> Any:
    """The boolean that a text means, quoted or not; any other value as it is."""
    word = value.lower() if isinstance(value, str) else ""
    return True if word in _YES else False if word in _NO else value


def number(value: Any) -> Any:
    """The number that a text means, quoted or not; a whole one is an ``int``.  Any other value as it is."""
    if isinstance(value, str):
        try:
            if _WHOLE.fullmatch(value):
                return int(value)
            if _NUMBER.fullmatch(value):
                # Python writes these two without the dot of YAML.
                value = float(re.sub(r"\.(?=[inIN])", "", value))
        except ValueError:  # thousands of digits
            return value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def resolved(value: Any) -> Any:
    """Return ``value`` with its scalars as YAML reads them, for code that knows no option types."""
    if isinstance(value, Scalar):
        found = boolean(value)
        return number(value) if found is value else found
    if isinstance(value, dict):
        return {key: resolved(inner) for key, inner in value.items()}
    return [resolved(inner) for inner in value] if isinstance(value, list) else value

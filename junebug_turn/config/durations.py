"""Durations: ``30s``, ``5m``, ``2h``, ``1d``."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from junebug_turn.config.types import DAY, ValueType, seconds

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?) *(s|m|h|d)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": DAY}


def duration(text: str) -> float:
    """Return the seconds of a duration: ``30s``, ``5m``, ``2h``, ``1d``.

    :raises ValueError: it is none
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("must be a duration, such as 30s, 5m, 2h or 1d")
    return float(match[1]) * _UNITS[match[2]]


def durations(high: float) -> ValueType:
    """A list of durations, each longer than the one before, as a text (``30s``, ``5m``, ``2h``) or in seconds."""

    def one(value: Any) -> float:
        is_text = isinstance(value, str) and _DURATION.fullmatch(value)
        return duration(value) if is_text else seconds(high).read(value)

    def read(value: Any) -> tuple[float, ...]:
        if not isinstance(value, list) or not value:
            raise ValueError("must be a list of durations, such as [30s, 5m, 2h]")
        found = tuple(seconds(high).read(one(each)) for each in value)
        if any(later - earlier < 0.001 for earlier, later in pairwise(found)):
            raise ValueError("must have each duration longer than the one before")
        return found

    return ValueType("list of durations", read, from_yaml=True)

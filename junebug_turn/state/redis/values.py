"""Values in Redis: texts, lifetimes and JSON."""

from __future__ import annotations

from typing import Any

from junebug_turn.errors import UnreadableEntry
from junebug_turn.messages import strictjson


def milliseconds(seconds: float) -> int:
    """Return seconds as Redis takes a lifetime."""
    return max(1, round(seconds * 1000))


def to_bytes(text: str) -> bytes:
    """Return a text as Redis keeps it."""
    # An id from JSON can have half a surrogate pair, which is no UTF-8.
    return text.encode("utf-8", "surrogatepass")


def marked(from_addr: str | None) -> str:
    """Return an address so that none at all differs from an empty one."""
    return "" if from_addr is None else f"={from_addr}"


def read_json(packed: bytes) -> Any:
    """Return the value of an entry that is JSON.

    :raises UnreadableEntry: it is not
    """
    try:
        return strictjson.loads_stored(packed)
    except ValueError:
        raise UnreadableEntry("an entry of the cache is not JSON") from None

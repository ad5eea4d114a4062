"""Log context: the fields of the work that is under way, which every line that is logged meanwhile carries.

Each coroutine that Twisted runs has a context of its own, a copy of its caller's: fields that are noted in one are
seen in all that it calls and starts, and in no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any

from twisted.logger import LogEvent

_fields: ContextVar[Mapping[str, Any]] = ContextVar("junebug_turn.about")
_ATTRIBUTE = "_junebug_turn_about"


class about:
    """Add ``fields`` to the lines that are logged within this, and to an exception that leaves it, for its own line."""

    def __init__(self, **fields: Any) -> None:
        self._new = fields
        self._token: Token[Mapping[str, Any]] | None = None

    def __enter__(self) -> None:
        self._token = _fields.set({**_fields.get({}), **self._new})

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if fault is not None and not hasattr(fault, _ATTRIBUTE):
            try:
                setattr(fault, _ATTRIBUTE, _fields.get({}))
            except AttributeError:  # a class with slots
                pass
        if self._token is not None:
            # A coroutine that is thrown away is closed in some other context, whose fields are not its own.
            with suppress(ValueError):
                _fields.reset(self._token)


def note(**fields: Any) -> None:
    """Add ``fields`` to all lines that this coroutine logs from now on."""
    _fields.set({**_fields.get({}), **fields})


def with_context(event: LogEvent) -> LogEvent:
    """Return ``event`` with the fields of the context that it doesn't have itself; ``log_context`` has their names."""
    failure = event.get("log_failure")
    remembered: Mapping[str, Any] = getattr(getattr(failure, "value", None), _ATTRIBUTE, {})
    fields = {**remembered, **_fields.get({})}
    if not fields:
        return event
    return fields | event | {"log_context": tuple(fields)}


_debug_heard = True


def debugging() -> bool:
    """Whether a ``debug`` line would be heard.

    Ask before logging one for each message: Twisted makes an event before it can be dropped, which costs more than
    most of the other work for a message.
    """
    return _debug_heard


def hear_debug(heard: bool) -> None:
    """Set whether ``debug`` lines are heard; at first they may be."""
    global _debug_heard
    _debug_heard = heard

"""What is being worked on, so that every line that is logged meanwhile can say it.

Each coroutine that Twisted runs has a context of its own, a copy of that of whoever started it: what is noted
in one is seen by all that it calls and starts, and by no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from twisted.logger import LogEvent

_fields: ContextVar[Mapping[str, Any]] = ContextVar("junebug_turn.about")
_ATTRIBUTE = "_junebug_turn_about"


class about:
    """Within this, what is logged carries ``fields``; so does an exception that leaves it, for who logs that."""

    def __init__(self, **fields: Any) -> None:
        self._new = fields
        self._before: Mapping[str, Any] = {}

    def __enter__(self) -> None:
        self._before = _fields.get({})
        _fields.set({**self._before, **self._new})

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if fault is not None and not hasattr(fault, _ATTRIBUTE):
            try:
                setattr(fault, _ATTRIBUTE, _fields.get({}))
            except AttributeError:  # a class with slots
                pass
        # Not ContextVar.reset: a coroutine that is thrown away is closed in some other context.
        _fields.set(self._before)


def note(**fields: Any) -> None:
    """From now on, what this coroutine logs carries ``fields``, which belong to all of its work."""
    _fields.set({**_fields.get({}), **fields})


def with_context(event: LogEvent) -> LogEvent:
    """``event`` with what is being worked on, where it doesn't say so itself; ``log_context`` has its names."""
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

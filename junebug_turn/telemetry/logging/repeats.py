"""Limit of repeated log lines: lines of one cause become one line a minute, and a count, but for lines of messages."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

from attrs import define
from twisted.logger import LogEvent, LogLevel
from twisted.python.failure import Failure

from junebug_turn.errors import JunebugTurnError
from junebug_turn.net.clocks import WALL_CLOCK

WINDOW = 60.0
"""Seconds in which a line of one cause is shown once."""

MAX_CAUSES = 1000

# These fields and the format tell one cause from another; fields that tell messages apart are not among them.
_CAUSE = (
    "connector",
    "queue",
    "origin",
    "reason",
    "status",
    "error",
    "address",
    "purpose",
    "name",
    "event_type",
)


_OBJECTS = frozenset(("log_source", "log_logger", "log_failure", "failure"))


@define
class _Cause:
    since: float
    count: int = 0
    last: LogEvent | None = None


class Limiter:
    """Limiter that lets each line of one cause through once in ``WINDOW`` seconds; the others go through as ``debug``.

    A cause is the line's format, with the fields that say why and where, and with the place of a failure.
    When the time is over, a line says how many there were.  ``debug`` lines, and those with ``log_every=True``, go
    through as they are.  So do those with a ``message_id``, since a count would leave no line for a message; only its
    traceback is left out where the same was shown before.

    :param show: is given the events that go through
    :param seconds: the clock
    """

    def __init__(
        self, show: Callable[[LogEvent], None], *, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._show = show
        self._seconds = seconds
        self._causes: OrderedDict[Any, _Cause] = OrderedDict()
        # Lines come from any thread.
        self._lock = Lock()

    def __call__(self, event: LogEvent) -> None:
        level = event.get("log_level")
        failed = _failure_of(event) is not None
        if (
            level is None
            or level is LogLevel.debug
            or event.get("log_every")
            or ("message_id" in event and not failed)
        ):
            self._show(event)
            return
        self.flush()
        with self._lock:
            over = self._note(_key(event), event)
        for count in over:
            self._show(count)

    def flush(self, *, everything: bool = False) -> None:
        """Show the counts of the causes whose time is over, or those of all causes."""
        with self._lock:
            over = self._take(float("inf") if everything else self._seconds() - WINDOW)
        for count in over:
            self._show(count)

    def _note(self, key: Any, event: LogEvent) -> list[LogEvent]:
        cause = self._causes.get(key)
        if cause is not None and "message_id" in event:
            return [_without_objects(event) | {"log_counted": True}]
        if cause is not None:
            cause.count += 1
            cause.last = _without_objects(event)
            return [event | {"log_level": LogLevel.debug}]
        over = []
        if len(self._causes) >= MAX_CAUSES:
            _, oldest = self._causes.popitem(last=False)
            over = _counted(oldest, self._seconds())
        self._causes[key] = _Cause(self._seconds())
        return [*over, event]

    def _take(self, until: float) -> list[LogEvent]:
        """Return the counts of the causes that began until then; they are the first of all."""
        over: list[LogEvent] = []
        now = self._seconds()
        while self._causes and next(iter(self._causes.values())).since <= until:
            key, cause = self._causes.popitem(last=False)
            over += _counted(cause, now)
            if cause.count and until < now:
                # It goes on: its next line is counted too, not shown beside the count.
                self._causes[key] = _Cause(now)
        return over


def _counted(cause: _Cause, now: float) -> list[LogEvent]:
    if cause.last is None:
        return []
    line = cause.last.get("log_format") or ""
    counted = {
        "log_format": "... {repeated} in the last {within:.0f} s: " + line,
        "repeated": "once more" if cause.count == 1 else f"{cause.count} times",
        "within": now - cause.since,
        # Of now: a log whose times go back is hard to read.
        "log_time": WALL_CLOCK.now(),
        "log_counted": True,
    }
    return [cause.last | counted]


def _without_objects(event: LogEvent) -> LogEvent:
    """Return an event for its count: without its source and traceback, which may have a request with its body."""
    kept = {name: value for name, value in event.items() if name not in _OBJECTS}
    failure = _failure_of(event)
    if failure is not None:
        line = "Unhandled error" if event.get("log_namespace") == "log_legacy" else event.get("log_format")
        # The first one had the traceback.
        kept |= {"log_format": f"{line or ''}: {{error}}", "error": getattr(failure.type, "__name__", "?")}
    return kept


def _failure_of(event: LogEvent) -> Any:
    """Return the failure of an event; a legacy one may have it under another name."""
    failure = event.get("log_failure", event.get("failure"))
    return failure if isinstance(failure, Failure) else None


def _word(value: object) -> str:
    """Return what tells a cause; the text of a foreign exception may be another each time."""
    if isinstance(value, Exception) and not isinstance(value, JunebugTurnError):
        return type(value).__name__
    return str(value)


def _key(event: LogEvent) -> Any:
    place = None
    failure = _failure_of(event)
    if failure is not None:
        frames = getattr(failure, "frames", None)
        place = (failure.type, tuple(frames[-1][:3]) if frames else None)
        # A legacy line has the text of the exception.
        text = None if event.get("log_namespace") == "log_legacy" else event.get("log_format")
    else:
        text = event.get("log_text", event.get("log_format"))
    causes = tuple(_word(event[name]) if name in event else None for name in _CAUSE)
    return (event.get("log_namespace"), event.get("log_level"), text, causes, place)

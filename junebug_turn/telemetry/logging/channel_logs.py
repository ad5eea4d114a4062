"""Log lines of each channel, as the HTTP API shows them: the last ones, in memory."""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.logger import ILogObserver, LogEvent, LogLevel
from zope.interface import implementer

from junebug_turn.telemetry.context import with_context
from junebug_turn.telemetry.logging.formats import text_of

# The numbers of Python's logging, which clients of Junebug know.
_LEVELS = {
    LogLevel.debug: 10,
    LogLevel.info: 20,
    LogLevel.warn: 30,
    LogLevel.error: 40,
    LogLevel.critical: 50,
}
_MOST_TEXT = 500
_MOST_FRAMES = 20


@implementer(ILogObserver)
class ChannelLogs:
    """Log observer that keeps the last lines about each channel, from ``info`` on.

    :param max_logs: lines of each channel
    :param full: whether addresses are shown in full
    """

    def __init__(self, max_logs: int, *, full: bool = False) -> None:
        self._max_logs = max_logs
        self._full = full
        self._lines: dict[str, deque[dict[str, Any]]] = {}

    def add(self, channel: str) -> None:
        """Keep the lines about a channel, from now on."""
        self._lines.setdefault(channel, deque(maxlen=self._max_logs))

    def remove(self, channel: str) -> None:
        """Drop the lines about a channel."""
        self._lines.pop(channel, None)

    def latest(self, channel: str, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the lines about a channel, the newest first, and no more than ``limit``."""
        lines = list(self._lines.get(channel, ()))[::-1]
        return lines if limit is None else lines[: max(0, limit)]

    def __call__(self, event: LogEvent) -> None:
        level = event.get("log_level")
        if level is LogLevel.debug:
            return
        event = with_context(event)
        lines = self._lines.get(str(event.get("channel") or event.get("connector") or ""))
        if lines is None:
            return
        line = {
            "logger": (event.get("log_namespace") or "-").lower(),
            "level": _LEVELS.get(level, 20),
            "timestamp": event.get("log_time", 0.0),
            "message": text_of(event, self._full)[:_MOST_TEXT],
        }
        failure = event.get("log_failure")
        if failure is not None:
            line["exception"] = {
                "class": getattr(failure.type, "__name__", "?"),
                "instance": text_of({"log_format": "{text}", "text": str(failure.value)}, self._full)[
                    :_MOST_TEXT
                ],
                "stack": [f"{name} ({file}:{number})" for name, file, number, *_ in failure.frames][
                    -_MOST_FRAMES:
                ],
            }
        lines.append(line)

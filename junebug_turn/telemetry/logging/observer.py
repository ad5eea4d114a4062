"""Log observer of the daemon: it selects lines by level and writes them to a file, the terminal or syslog."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    Logger,
    LogLevel,
)
from zope.interface import implementer

from junebug_turn.telemetry.context import with_context
from junebug_turn.telemetry.logging.file import LogFile
from junebug_turn.telemetry.logging.formats import json_line, short_ids, text_line
from junebug_turn.telemetry.logging.repeats import Limiter


@implementer(ILogObserver)
class Lines:
    """Log observer that writes each event as a line.

    Twisted's own lines at ``info`` count as ``debug``, and so does a line that is repeated too often (see
    ``Limiter``).  An event that has no level, or is broken, is shown.

    :param twistd: the options of twistd: ``logfile``, ``nodaemon``, ``syslog`` and ``prefix`` are honoured
    :param reporter: is given the critical events, which are mostly bugs
    """

    log = Logger()

    def __init__(
        self,
        log_level: str,
        twistd: dict[str, Any],
        *,
        log_format: str = "text",
        full_addresses: bool = False,
        reporter: Callable[[LogEvent], None] | None = None,
    ) -> None:
        self._lowest = LogLevel.lookupByName(log_level.lower())
        self.reporter = reporter
        self._file: LogFile | None = None
        form = json_line if log_format == "json" else text_line
        self._write = self._target(twistd, partial(form, full=full_addresses, foreign=self.debugging))
        self._limiter = Limiter(self._show)

    @property
    def debugging(self) -> bool:
        """Whether ``debug`` lines are shown."""
        return bool(self._lowest <= LogLevel.debug)

    def __call__(self, event: LogEvent) -> None:
        level = event.get("log_level")
        if level is LogLevel.info and _is_twisteds(event):
            event = event | {"log_level": LogLevel.debug}
            level = LogLevel.debug
        if level is not None and level < self._lowest:
            return
        self._limiter(short_ids(with_context(event)))

    def flush(self) -> None:
        """Write the counts of repeated lines that are due; call this now and then."""
        self._limiter.flush()

    def close(self) -> None:
        """Write all counts of repeated lines."""
        self._limiter.flush(everything=True)

    def reopen(self) -> None:
        """Write to a new file of the same name: the old one was moved away."""
        if self._file is None:
            return
        try:
            self._file.reopen()
        except OSError as fault:
            self.log.error(
                "The log file can't be opened anew, and lines go on into the one before: {reason}; set the rights of "
                "its folder, and send SIGUSR1 again",
                reason=fault.strerror,
            )

    def _show(self, event: LogEvent) -> None:
        level = event.get("log_level")
        if self.reporter is not None and level is LogLevel.critical and "log_counted" not in event:
            self.reporter(event)
        if level is None or level >= self._lowest:
            self._write(event)

    def _target(self, twistd: dict[str, Any], form: Callable[[LogEvent], str]) -> Callable[[LogEvent], None]:
        if twistd.get("syslog"):
            from twisted.python.syslog import SyslogObserver  # not on every platform

            legacy: Any = SyslogObserver(twistd.get("prefix") or "junebug-turn").emit
            wrapped: Any = LegacyLogObserverWrapper(legacy)
            return lambda event: wrapped(
                {
                    "log_format": "{line}",
                    "line": form(event).rstrip("\n"),
                    "log_level": event.get("log_level") or LogLevel.info,
                    "log_time": event.get("log_time", 0.0),
                    "log_system": event.get("log_namespace", "-"),
                }
            )
        name = twistd.get("logfile")
        if name == "-" or (twistd.get("nodaemon") and not name):
            observer = FileLogObserver(sys.stdout, form)
            return cast(Callable[[LogEvent], None], cast(ILogObserver, observer))
        file = self._file = LogFile(name or "twistd.log")
        return lambda event: file.write(form(event))


def _is_twisteds(event: LogEvent) -> bool:
    """Whether this is a line of Twisted's about itself, such as that a factory starts."""
    namespace = event.get("log_namespace") or ""
    return namespace == "log_legacy" or namespace.partition(".")[0] == "twisted"

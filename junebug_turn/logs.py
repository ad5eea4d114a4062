"""Where log lines go, and which of them."""

from __future__ import annotations

import sys
from typing import Any, TextIO, cast

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEventAsClassicLogText,
)
from twisted.python.logfile import LogFile

# Level names of Python's logging, which existing configuration files carry, and Twisted's own.
_LEVELS = {
    "DEBUG": LogLevel.debug,
    "INFO": LogLevel.info,
    "WARN": LogLevel.warn,
    "WARNING": LogLevel.warn,
    "ERROR": LogLevel.error,
    "CRITICAL": LogLevel.critical,
}


def observer(log_level: str, twistd: dict[str, Any]) -> ILogObserver:
    """An observer that keeps what is at least at ``log_level``, and writes where twistd's own options say.

    :param twistd: the options of twistd: ``logfile``, ``nodaemon``, ``syslog`` and ``prefix`` are honoured
    """
    predicate = LogLevelFilterPredicate(defaultLogLevel=_LEVELS[log_level.upper()])
    return cast(ILogObserver, FilteringLogObserver(_target(twistd), [predicate]))


def _target(twistd: dict[str, Any]) -> ILogObserver:
    if twistd.get("syslog"):
        from twisted.python.syslog import SyslogObserver  # not on every platform

        legacy: Any = SyslogObserver(twistd.get("prefix") or "junebug-turn").emit
        return cast(ILogObserver, LegacyLogObserverWrapper(legacy))
    name = twistd.get("logfile")
    if name == "-" or (twistd.get("nodaemon") and not name):
        stream: TextIO = sys.stdout
    else:
        stream = cast(TextIO, LogFile.fromFullPath(name or "twistd.log", rotateLength=None))
    return FileLogObserver(stream, _line)


# What a peer sent may stand in a line: its control characters must not move a terminal's cursor or begin a line.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in (9, 10)}
_CONTROLS |= {0x2028: "\\u2028", 0x2029: "\\u2029"}


def _line(event: LogEvent) -> str | None:
    """An event as Twisted writes it: further lines of it (a traceback's, mostly) begin with a tab."""
    text = formatEventAsClassicLogText(event)
    return None if text is None else text.translate(_CONTROLS)

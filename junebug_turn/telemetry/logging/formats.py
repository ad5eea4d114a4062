"""Forms of a log line: text or JSON."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import lru_cache
from math import modf
from typing import Any

from twisted.logger import LogEvent, formatEvent

from junebug_turn.telemetry.masking import is_address, mask_digits, mask_numbers

# These would end a line, or steer the terminal that shows it.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LEGACY = frozenset(("message", "isError", "system", "time", "printed", "why", "failure", "format"))
_INFINITE = (float("inf"), float("-inf"))
_JSON_VALUES = (str, int, float, bool, type(None))
LEFT_OUT = "(left out: it may quote a message; log_level DEBUG shows it)"
_OURS = "junebug_turn."

MAX_ID = 100
"""Characters of an id in a line; a peer's may be megabytes long."""

MAX_TEXT = 8000
"""Characters of a line's text."""

_encode = json.JSONEncoder(separators=(",", ":")).encode


def short_ids(event: LogEvent) -> LogEvent:
    """Return the event with no more than the beginning of each id."""
    cut = {
        name: f"{value[:MAX_ID]}..."
        for name, value in event.items()
        if isinstance(value, str) and len(value) > MAX_ID and name.endswith("_id")
    }
    return event | cut if cut else event


def text_of(event: LogEvent, full: bool) -> str:
    """Return the event's text, on one line; addresses are masked unless ``full``."""
    if _is_legacy(event) and event.get("log_failure") is not None:
        text = str(event.get("why") or "Unhandled error")
    else:
        text = _formatted(event if full else _masked(event))
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}..."
    return _CONTROL.sub(_escape, text if full else mask_numbers(text))


def traceback_of(event: LogEvent, full: bool, foreign: bool = False) -> str:
    """Return the traceback of the event's failure, of many lines; empty where there is none.

    :param foreign: whether the texts of exceptions are shown that aren't ours: a middleware's may quote a message
    """
    failure = event.get("log_failure")
    if failure is None:
        return ""
    try:
        text = str(failure.getTraceback())
        if not foreign and not str(failure.type.__module__).startswith(_OURS):
            text = _without_text(text, str(failure.value))
    except Exception:
        return f"(no traceback for {type(failure).__name__})"
    return text if full else mask_numbers(text)


def _without_text(trace: str, text: str) -> str:
    """Return a traceback without the text of its exception, which stands at its end."""
    if not text:
        return trace
    before, found, after = trace.rpartition(f": {text}\n")
    if not found or after:
        return "(no traceback: it may quote a message)"
    return f"{before}: {LEFT_OUT}\n"


def fields_of(event: LogEvent, full: bool) -> dict[str, Any]:
    """Return the event's named fields, with addresses masked unless ``full``."""
    known = _LEGACY if _is_legacy(event) else ()
    fields = {
        name: value for name, value in event.items() if not name.startswith("log_") and name not in known
    }
    return fields if full else _masked(fields)


def text_line(event: LogEvent, full: bool, foreign: bool = False) -> str:
    """Write ``2026-11-21T09:19:52.868Z [junebug_turn.delivery.deliverer#info] text (message_id=...)`` and a newline.

    The fields of the context stand in brackets where the text doesn't have them.  A traceback follows, indented; see
    ``traceback_of`` for ``foreign``.
    """
    line = text_of(event, full)
    missing = ""
    for name in event.get("log_context", ()):
        value = event[name]
        shown = str(value) if full or not is_address(name) else mask_digits(value)
        if shown not in line:
            missing += f" {name}={shown}"
    if missing:
        line += _CONTROL.sub(_escape, f" ({missing[1:]})")
    head = f"{_time(event)} [{event.get('log_namespace') or '-'}#{_level(event)}] "
    trace = traceback_of(event, full, foreign)
    if trace:
        inner = [_CONTROL.sub(_escape, part) for part in trace.rstrip("\n").splitlines()]
        line = "\n\t".join([line, *inner])
    line = f"{head}{line}\n"
    return line if line.isascii() else line.encode("utf-8", "backslashreplace").decode("utf-8")


def json_line(event: LogEvent, full: bool, foreign: bool = False) -> str:
    """Write one JSON object and a newline: the named fields, ``time``, ``level``, ``namespace`` and ``text``.

    A failure adds ``error``, the name of the exception's class, and ``traceback``.
    """
    line = {
        "time": _time(event),
        "level": _level(event),
        "namespace": event.get("log_namespace") or "-",
        "text": text_of(event, full),
    }
    for name, value in fields_of(event, full).items():
        if isinstance(value, _JSON_VALUES) and value == value and value not in _INFINITE:
            line.setdefault(name, mask_numbers(value) if isinstance(value, str) and not full else value)
        else:
            line.setdefault(name, _text(value) if full else mask_numbers(_text(value)))
    failure = event.get("log_failure")
    if failure is not None:
        line["error"] = getattr(failure.type, "__name__", "?")
        line["traceback"] = traceback_of(event, full, foreign)
    return _encode(line) + "\n"


def _formatted(event: LogEvent) -> str:
    """Format as ``formatEvent`` does, without its work where all fields are plain, as nearly always."""
    form = event.get("log_format")
    if isinstance(form, str) and "log_flattened" not in event:
        try:
            return form.format_map(event)
        except Exception:  # noqa: S110  # a call in it, or something that can't be formatted  # nosec B110
            pass
    return formatEvent(event)


def _masked(fields: dict[str, Any]) -> dict[str, Any]:
    masked = {
        name: mask_digits(value) for name, value in fields.items() if is_address(name) and value is not None
    }
    return fields | masked if masked else fields


def _text(value: object) -> str:
    try:
        return str(value)[:MAX_TEXT]
    except Exception:
        return f"(a broken {type(value).__name__})"


def _is_legacy(event: LogEvent) -> bool:
    """Whether the event was logged through ``twisted.python.log``, whose fields are others."""
    return event.get("log_namespace") == "log_legacy"


def _time(event: LogEvent) -> str:
    fraction, whole = modf(event.get("log_time") or 0.0)
    second, microseconds = divmod(int(whole) * 1_000_000 + round(fraction * 1_000_000), 1_000_000)
    return f"{_second(second)}.{microseconds // 1000:03}Z"


@lru_cache(8)
def _second(second: int) -> str:
    """The same for all lines of a second: making it is most of the work."""
    return datetime.fromtimestamp(second, UTC).isoformat()[: -len("+00:00")]


def _level(event: LogEvent) -> str:
    level = event.get("log_level")
    return level.name if level is not None else "info"


def _escape(letter: re.Match[str]) -> str:
    return letter[0].encode("unicode_escape").decode("ascii")

"""What a command writes and asks at a terminal, and the form that it gives to values."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from attrs import frozen

COLUMNS = {
    "id": 32,
    "kind": 7,
    "connector": 16,
    "from": 8,
    "to": 8,
    "reason": 15,
    "last_status": 6,
    "attempts": 8,
    "first_failure": 25,
    "age": 7,
}
"""Of a list of messages, with the least width of each."""


@frozen
class Terminal:
    """Where a command reads and writes."""

    out: TextIO
    err: TextIO
    ask: Callable[[str], bool] | None = None  # where nobody is there to answer

    def say(self, text: str) -> None:
        """A line of the result."""
        print(text, file=self.out)

    def complain(self, text: str) -> None:
        """A line that is no part of the result."""
        print(f"junebug-turn: {text}", file=self.err)


def plain(value: object) -> str:
    """``value`` on a line, without what a terminal would take as a command."""
    return "".join(sign if sign.isprintable() else "?" for sign in str(value))


def row(values: Mapping[str, Any]) -> str:
    texts = ("-" if values[name] is None else plain(values[name])[:64] for name in COLUMNS)
    return "  ".join(text.ljust(width) for text, width in zip(texts, COLUMNS.values(), strict=True)).rstrip()


def age(seconds: float) -> str:
    """A time span in its two largest units."""
    days, rest = divmod(int(max(0, seconds)), 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {rest}s" if minutes else f"{rest}s"


def ask(question: str) -> bool:
    # Twisted's own handler would only note that Ctrl-C was pressed, and go on reading.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return False
    finally:
        signal.signal(signal.SIGINT, before)

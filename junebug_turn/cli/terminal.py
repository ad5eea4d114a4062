"""A command at a terminal: its lines, its questions, the form of its values, and its run in the reactor."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TextIO, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from junebug_turn.errors import ConfigError
from junebug_turn.net.clocks import use_monotonic

INTERRUPTED = 130
"""The exit status of a command that Ctrl-C ended."""

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
"""The columns of a list of messages, with the least width of each."""

_T = TypeVar("_T")


@frozen
class Terminal:
    """The streams that a command reads and writes."""

    out: TextIO
    err: TextIO
    ask: Callable[[str], bool] | None = None  # where nobody is there to answer

    def say(self, text: str) -> None:
        """Print a line of the result."""
        print(text, file=self.out)

    def complain(self, text: str) -> None:
        """Print a line that is no part of the result."""
        print(f"junebug-turn: {text}", file=self.err)


def plain(value: object) -> str:
    """Return ``value`` on one line, without characters that a terminal would take as a command."""
    return "".join(sign if sign.isprintable() else "?" for sign in str(value))


def row(values: Mapping[str, Any]) -> str:
    """Return a row of a list, with a value for each of ``COLUMNS``."""
    texts = ("-" if values[name] is None else plain(values[name])[:64] for name in COLUMNS)
    return "  ".join(text.ljust(width) for text, width in zip(texts, COLUMNS.values(), strict=True)).rstrip()


def age(seconds: float) -> str:
    """Return a time span in its two largest units."""
    days, rest = divmod(int(max(0, seconds)), 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {rest}s" if minutes else f"{rest}s"


def ask(question: str) -> bool:
    """Ask at the terminal; anything but yes, also Ctrl-C, is no."""
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


def run_command(terminal: Terminal, make: Callable[[Any], Callable[[], Coroutine[Any, Any, int]]]) -> int:
    """Run a command in the reactor; returns its exit status.

    :param make: returns the command's function for a reactor; a ``ConfigError`` is 1, with its lines
    """
    from twisted.internet import reactor

    use_monotonic(reactor)
    try:
        work = make(reactor)
    except ConfigError as error:
        for line in error.lines:
            terminal.complain(line)
        return 1
    return run_in_reactor(reactor, work)


def run_in_reactor(reactor: Any, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run the reactor until ``work`` is done; returns, or raises, its result.

    :raises SystemExit: Ctrl-C or a signal stopped the reactor before, with the status ``INTERRUPTED``
    """
    results: list[_T | Failure] = []
    stopping: list[bool] = []

    def end(result: _T | Failure) -> None:
        # While the reactor stops the work loses its connections, which is no result.
        if not stopping:
            results.append(result)
            reactor.stop()

    reactor.addSystemEventTrigger("before", "shutdown", stopping.append, True)
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(work()).addBoth(end))
    reactor.run()
    if not results:
        raise SystemExit(INTERRUPTED)
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]

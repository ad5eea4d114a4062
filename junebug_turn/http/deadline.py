"""The deadline of a connection's next step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall


class Deadline:
    """A deadline that is set anew with each step of a connection.

    A timer for each deadline, started and stopped again, cost more than most of a request's other work.  So one
    timer is left alone until it is due, which is before any deadline that may be set meanwhile.

    :param shortest: the shortest time that is ever set, in seconds
    :param passed: called when a deadline passes
    """

    __slots__ = ("_at", "_clock", "_due", "_passed", "_shortest", "_timer")

    def __init__(self, clock: Any, shortest: float, passed: Callable[[], object]) -> None:
        self._clock = clock
        self._shortest = shortest
        self._passed: Callable[[], object] | None = passed
        self._at: float | None = None
        self._due = 0.0
        self._timer: IDelayedCall | None = None

    def set(self, seconds: float) -> None:
        """Set the deadline to ``seconds`` from now."""
        now = self._clock.seconds()
        self._at = now + seconds
        if self._timer is None or self._due > self._at:
            if self._timer is not None:
                self._timer.cancel()
            self._start(seconds, now)

    def clear(self) -> None:
        """Have no deadline until the next one is set."""
        self._at = None

    def end(self) -> None:
        """Have no deadline any more, and let go of the connection."""
        timer, self._timer, self._passed = self._timer, None, None
        if timer is not None:
            timer.cancel()

    def _start(self, seconds: float, now: float) -> None:
        seconds = min(seconds, self._shortest)
        self._due = now + seconds
        self._timer = self._clock.callLater(seconds, self._fired)

    def _fired(self) -> None:
        self._timer = None
        if self._at is None or self._passed is None:
            return
        now = self._clock.seconds()
        if now < self._at:
            self._start(self._at - now, now)
        else:
            self._passed()

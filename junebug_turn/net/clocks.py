"""The two clocks: a monotonic one for intervals, and the wall clock for times that are shown, stored or sent.

The wall clock can be set while the daemon runs.  An interval that is measured with it is then wrong by an hour or a
year: timed calls come late or all at once, and whatever has a time limit is over.  So the reactor counts its time by
the monotonic clock (``use_monotonic``), and ``reactor.seconds()`` is good for differences only.  A time with a date
comes from a ``WallClock``.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import frozen

Seconds = Callable[[], float]

JUMP = 2.0
"""Seconds by which the wall clock differs from the monotonic one, since it was looked at last, when it has been set."""

_MOST_JUMPS = 16


def _monotonic() -> float:
    return time.monotonic()


def _wall() -> float:
    return time.time()


def use_monotonic(reactor: Any) -> None:
    """Have a reactor count its time by the monotonic clock, as Twisted's own don't; what is scheduled stays so.

    Once, before the reactor runs: a time that somebody has from it is of no use any more.
    """
    waits = [(call, call.getTime() - reactor.seconds()) for call in reactor.getDelayedCalls()]
    reactor.seconds = _monotonic
    for call, wait in waits:
        call.seconds = _monotonic
        call.reset(max(0.0, wait))


@frozen
class _Jump:
    """A jump of the wall clock: seen when and what it showed then, and by how much it was set."""

    at: float
    wall: float
    size: float


class WallClock:
    """The wall clock, in Unix seconds, and the jumps that were seen of it.

    A time that was stored before a jump and the present one differ by the jump, too.  It is seen whenever this object
    is asked for something, so all parts of a process share one.

    :param wall: the wall clock
    :param monotonic: the clock that tells whether the wall clock was set
    """

    def __init__(self, wall: Seconds = _wall, monotonic: Seconds = _monotonic) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._offset = wall() - monotonic()
        self._jumps: deque[_Jump] = deque(maxlen=_MOST_JUMPS)

    def now(self) -> float:
        """Return the present time."""
        now, at = self._wall(), self._monotonic()
        size = now - at - self._offset
        if abs(size) >= JUMP:
            self._jumps.append(_Jump(at, now, size))
        self._offset = now - at
        return now

    def elapsed(self, since: float) -> float:
        """Return the seconds since a time of the wall clock, without its jumps; 0 where the time is to come.

        :param since: may lack the fraction of the second
        """
        now = self.now()
        elapsed = now - since
        for jump in reversed(self._jumps):
            if since >= jump.wall - 1 if jump.size > 0 else since <= now:
                # It was stored after the jump.
                break
            elapsed -= jump.size
        return max(0.0, elapsed)

    def expired(self, lifetime: float) -> float:
        """Return the time at which what expires now was to expire; it may have been stored before a jump.

        :param lifetime: seconds for which it lives at most
        """
        now = self.now()
        oldest = self._monotonic() - lifetime
        return now - sum(max(0.0, jump.size) for jump in self._jumps if jump.at > oldest)


WALL_CLOCK = WallClock()
"""The wall clock of this process."""

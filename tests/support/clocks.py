"""A wall clock that a test sets, beside the clock that it moves."""

from __future__ import annotations

from typing import Any

from junebug_turn.net.clocks import WallClock


def wall_clock(clock: Any) -> WallClock:
    """A wall clock that shows the time of ``clock``."""
    return WallClock(clock.seconds, clock.seconds)


class Wall(WallClock):
    """A wall clock that goes with ``clock`` and can be set.

    :ivar ahead: the seconds by which it is ahead of ``clock``
    """

    def __init__(self, clock: Any, ahead: float = 1_700_000_000.0) -> None:
        self.ahead = ahead
        super().__init__(lambda: clock.seconds() + self.ahead, clock.seconds)

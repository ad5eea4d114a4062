"""Flow: the pace at which places come back, and whether deliveries that wait for one hold up others.

Tested by tests/unit/delivery/test_bulkhead.py.
"""

from __future__ import annotations

from collections import deque
from typing import Any

TICK = 0.25
"""Seconds between two looks at those that wait.  Time is counted in these, since a reactor that was busy has answers to
read first."""

CROWDED = 2
"""Ticks of slow answers after which deliveries for others count as held up by those that wait."""

QUICK = 0.5
"""Seconds of a quick delivery."""

PACE = 0.2
"""Seconds in which each place has an answer where deliveries flow.  Answers are slow where the places have less."""

RETURN = 6.0
"""Seconds after which a delivery that found no place has come again, so that it is known whether there are still as
many."""


class Flow:
    """The flow of some places.

    :param places: their number
    """

    def __init__(self, clock: Any, places: int) -> None:
        self._clock = clock
        self._answers: deque[float] = deque(maxlen=max(1, round(places * TICK / PACE)))
        self._slow = 0
        self._crowded_until = 0.0

    @property
    def crowded(self) -> bool:
        """Whether those that wait hold up others."""
        return self._clock.seconds() < self._crowded_until and not self._flows()

    def answered(self) -> None:
        """Note that a place came back with an answer."""
        self._answers.append(self._clock.seconds())

    def tick(self) -> None:
        """Count a tick in which some wait."""
        self._slow = 0 if self._flows() else self._slow + 1
        if self._slow >= CROWDED:
            self._crowded_until = self._clock.seconds() + RETURN

    def rest(self) -> None:
        """Count no more: none waits."""
        self._slow = 0

    def turned_away(self) -> None:
        """Note that a delivery found no place: until it comes again others stay held up."""
        if self.crowded:
            self._crowded_until = self._clock.seconds() + RETURN

    def _flows(self) -> bool:
        """Tell whether places come back quickly."""
        answers = self._answers
        return len(answers) == answers.maxlen and self._clock.seconds() - answers[0] <= TICK

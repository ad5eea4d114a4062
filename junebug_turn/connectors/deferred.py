"""Return of deferred messages to their queues, as soon as a destination that was down answers again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from junebug_turn.connectors.retry_queues import DEFERRAL, deferred_queue

INTERVAL = 5.0
"""Seconds between the beginnings of two returns at least."""

MAX_PAUSE = 60.0
"""Seconds between two returns at most, where destinations answer all the time."""

PAUSES = (INTERVAL, INTERVAL, 10.0, 20.0, 40.0, 80.0)
"""Seconds between the returns after an answer: what finds no place at first, or comes behind such a one, is deferred
once more, and nobody answers for the first time then."""

BURST = 100_000
"""Messages that are returned without a pause longer than ``INTERVAL``."""

RATE = DEFERRAL[1] / DEFERRAL[0]
"""Messages a second that are returned after these, over a long time: as many as come back after the delay."""


class DeferredMessages:
    """The messages in ``deferred_queue``, returned to their queues when a destination that was down answers.

    All of them are returned, since the broker can't tell for which destination one is.  Those for another that is still
    down are deferred again.  So each return has a price: where destinations come and go all the time, the pauses grow.

    :param dead_letter: has all messages of a queue dead-lettered, and returns how many, or None where that failed:
        ``Broker.dead_letter``
    """

    log = Logger()

    def __init__(self, clock: Any, dead_letter: Callable[[str], Awaitable[int | None]]) -> None:
        self._clock = clock
        self._dead_letter = dead_letter
        self._queue = deferred_queue().name
        self._started = self._working = False
        self._wanted = 0
        self._pausing: Deferred[None] | None = None
        self._not_before = self._due = 0.0
        self._credit = float(BURST)
        self._credited_at = 0.0

    def start(self) -> None:
        """Return what a former process deferred, and then what is deferred from now on."""
        self._started = True
        self._not_before = self._clock.seconds() + INTERVAL
        self.recovered()

    def stop(self) -> None:
        """Return nothing any more; what is deferred comes back when its time is over."""
        self._started, self._wanted = False, 0
        if self._pausing is not None:
            self._pausing.cancel()

    def recovered(self) -> None:
        """Return all that is deferred, soon: a destination that was down has answered."""
        if not self._started:
            return
        self._wanted, self._due = len(PAUSES) + 1, 0.0
        if self._pausing is not None:
            self._pausing.cancel()  # it may be a long one
        elif not self._working:
            Deferred.fromCoroutine(self._work())

    async def _work(self) -> None:
        self._working = True
        try:
            while self._wanted:
                if await self._pause_ends():
                    await self._return()
        finally:
            self._working = False

    async def _pause_ends(self) -> bool:
        """Wait until the next return may be; returns whether it may, and not another time is to be waited for."""
        end = max(self._not_before, self._due)
        self._pausing = deferLater(self._clock, max(0.0, end - self._clock.seconds()))
        try:
            await self._pausing
        except CancelledError:
            return False
        finally:
            self._pausing = None
        return True

    async def _return(self) -> None:
        self._wanted -= 1
        began, left = self._clock.seconds(), self._wanted
        count = await self._dead_letter(self._queue)
        if count is None:
            self._wanted += self._started
        elif count:
            self.log.info(
                "{count} deferred messages go back to their queues: a destination may be well again",
                count=count,
            )
        self._not_before = began + self._pause(count or 0)
        # Neither did it fail, nor has another destination answered meanwhile.
        if left and self._wanted == left:
            self._due = began + PAUSES[-left]

    def _pause(self, count: int) -> float:
        """Compute the seconds between the beginnings of a return of so many messages and of the next."""
        now = self._clock.seconds()
        credit = min(float(BURST), self._credit + (now - self._credited_at) * RATE) - count
        self._credit, self._credited_at = max(credit, -MAX_PAUSE * RATE), now
        return max(INTERVAL, -self._credit / RATE)

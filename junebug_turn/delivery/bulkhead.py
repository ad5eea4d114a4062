"""Bulkhead: the share of a queue's places that deliveries to clients' URLs have.

A client chooses its URL, and with it how long a delivery takes.  Without a bulkhead a few URLs that hang would hold all
places, and what is for others would wait behind them.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred

CLIENT_PATIENCE = 5.0
"""The most seconds that a delivery to a client's URL waits in place: for a place, or between its attempts."""

TICK = 0.25
"""Seconds between two looks at those that wait.  Time is counted in these, since a reactor that was busy has answers to
read first."""

STILL = 3
"""Ticks without a change after which a delivery to an origin that hasn't answered lately waits for no place."""

MAX_KNOWN = 1000
"""Origins of which it is remembered whether they answered last."""


class BulkheadFull(Exception):
    """No place became free within the time that there was to wait."""


class Standing(Enum):
    """Whether an origin answered last; the value is the part of the places that all such origins have at most."""

    ANSWERS = 1.0
    UNKNOWN = 0.5
    FAILS = 0.25


class Bulkhead:
    """The places of the deliveries to clients' URLs of one connector and kind.

    Origins that are not known yet have half of them at most, those that failed a quarter: so they don't keep the
    others from those that answer.

    :param limit: the number of places
    """

    def __init__(self, clock: Any, limit: int) -> None:
        self._clock = clock
        self._limit = limit
        self._limits = {standing: max(1, int(limit * standing.value)) for standing in Standing}
        self._held = dict.fromkeys(Standing, 0)
        # Ticks since a place was taken or given back.
        self._still = dict.fromkeys(Standing, 0)
        # In the order of arrival.
        self._waiting: dict[Deferred[Standing], _Waiting] = {}
        self._ticking: Any = None
        # Whether it answered; the one that was asked last is last.
        self._known: OrderedDict[str, bool] = OrderedDict()

    async def enter(self, origin: str) -> Standing:
        """Take a place; returns which kind of place, for ``leave``.

        :raises BulkheadFull: there is none in time
        """
        standing = self._standing(origin)
        if self._has_room(standing):
            self._count(1, standing)
            return standing
        waiting = _Waiting(origin)
        if self._is_hopeless(waiting):
            raise BulkheadFull()
        place: Deferred[Standing] = Deferred(self._forget)
        self._waiting[place] = waiting
        if self._ticking is None:
            self._ticking = self._clock.callLater(TICK, self._tick)
        return await place

    def leave(self, origin: str, standing: Standing, *, answered: bool) -> None:
        """Give a place back.

        :param answered: whether the destination gave an answer that is final
        """
        self._count(-1, standing)
        self._known[origin] = answered
        self._known.move_to_end(origin)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        # Those that have waited longest are first.
        for place, waiting in tuple(self._waiting.items()):
            standing = self._standing(waiting.origin)
            # One that got its place may be over already, and have given it to another.
            if place in self._waiting and self._has_room(standing):
                self._forget(place)
                self._count(1, standing)
                place.callback(standing)

    def _standing(self, origin: str) -> Standing:
        answered = self._known.get(origin)
        if answered is None:
            return Standing.UNKNOWN
        return Standing.ANSWERS if answered else Standing.FAILS

    def _has_room(self, standing: Standing) -> bool:
        return sum(self._held.values()) < self._limit and self._held[standing] < self._limits[standing]

    def _count(self, taken: int, standing: Standing) -> None:
        self._held[standing] += taken
        self._still[standing] = 0

    def _tick(self) -> None:
        for standing in Standing:
            self._still[standing] += 1
        self._ticking = self._clock.callLater(TICK, self._tick)
        for place, waiting in tuple(self._waiting.items()):
            waiting.ticks += 1
            if self._is_hopeless(waiting) and place in self._waiting:
                self._forget(place)
                place.errback(BulkheadFull())

    def _is_hopeless(self, waiting: _Waiting) -> bool:
        if waiting.ticks * TICK >= CLIENT_PATIENCE:
            return True
        standing = self._standing(waiting.origin)
        crowded = self._held[standing] >= self._limits[standing]
        still = self._still[standing] if crowded else min(self._still.values())
        return still >= STILL and standing is not Standing.ANSWERS

    def _forget(self, place: Deferred[Standing]) -> None:
        self._waiting.pop(place, None)
        if not self._waiting and self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None


@define
class _Waiting:
    """A delivery that waits for a place."""

    origin: str
    ticks: int = 0

"""Bulkhead: the share of a queue's places that deliveries to clients' URLs have.

A client chooses its URL, and with it how long a delivery takes.  Without a bulkhead a few URLs that hang would hold all
places, and what is for others would wait behind them.
"""

from __future__ import annotations

from collections import OrderedDict
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

MAX_ANSWERING = 1000
"""Origins that are remembered because they answered."""


class BulkheadFull(Exception):
    """No place became free within the time that there was to wait."""


class Bulkhead:
    """The places of the deliveries to clients' URLs of one connector and kind.

    Origins that don't answer, or are not known yet, have half of them at most, so that they don't keep the others from
    those that do.

    :param limit: the number of places
    """

    def __init__(self, clock: Any, limit: int) -> None:
        self._clock = clock
        self._limit = limit
        self._unproven_limit = max(1, limit // 2)
        self._held = self._unproven = 0
        # Ticks since a place was taken or given back: any, or one of an origin that doesn't answer.
        self._still = self._unproven_still = 0
        # In the order of arrival.
        self._waiting: dict[Deferred[bool], _Waiting] = {}
        self._ticking: Any = None
        # The one that answered last is last.
        self._answering: OrderedDict[str, None] = OrderedDict()

    async def enter(self, origin: str) -> bool:
        """Take a place; returns whether it is one of an origin that answers, for ``leave``.

        :raises BulkheadFull: there is none in time
        """
        answers = origin in self._answering
        if self._has_room(answers):
            self._count(1, answers)
            return answers
        waiting = _Waiting(origin)
        if self._is_hopeless(waiting):
            raise BulkheadFull()
        place: Deferred[bool] = Deferred(self._forget)
        self._waiting[place] = waiting
        if self._ticking is None:
            self._ticking = self._clock.callLater(TICK, self._tick)
        return await place

    def leave(self, origin: str, answers: bool, *, answered: bool) -> None:
        """Give a place back.

        :param answered: whether the destination gave an answer that is final
        """
        self._count(-1, answers)
        self._answering.pop(origin, None)
        if answered:
            self._answering[origin] = None
            if len(self._answering) > MAX_ANSWERING:
                self._answering.popitem(last=False)
        # Those that have waited longest are first.
        for place, waiting in tuple(self._waiting.items()):
            answers = waiting.origin in self._answering
            # One that got its place may be over already, and have given it to another.
            if place in self._waiting and self._has_room(answers):
                self._forget(place)
                self._count(1, answers)
                place.callback(answers)

    def _has_room(self, answers: bool) -> bool:
        return self._held < self._limit and (answers or self._unproven < self._unproven_limit)

    def _count(self, taken: int, answers: bool) -> None:
        self._held += taken
        self._still = 0
        if not answers:
            self._unproven += taken
            self._unproven_still = 0

    def _tick(self) -> None:
        self._still += 1
        self._unproven_still += 1
        self._ticking = self._clock.callLater(TICK, self._tick)
        for place, waiting in tuple(self._waiting.items()):
            waiting.ticks += 1
            if self._is_hopeless(waiting) and place in self._waiting:
                self._forget(place)
                place.errback(BulkheadFull())

    def _is_hopeless(self, waiting: _Waiting) -> bool:
        if waiting.ticks * TICK >= CLIENT_PATIENCE:
            return True
        crowded = self._unproven >= self._unproven_limit
        still = self._unproven_still if crowded else self._still
        return still >= STILL and waiting.origin not in self._answering

    def _forget(self, place: Deferred[bool]) -> None:
        self._waiting.pop(place, None)
        if not self._waiting and self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None


@define
class _Waiting:
    """A delivery that waits for a place."""

    origin: str
    ticks: int = 0

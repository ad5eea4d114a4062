"""Bulkhead: the share of a queue's places that deliveries to clients' URLs have.

A client chooses its URL, and with it how long a delivery takes.  Without a bulkhead a few URLs that hang would hold all
places, and what is for others would wait behind them.

What waits for a place of the bulkhead holds a place of the queue as well.  That is good for a burst, since the places
come back in a moment; where they don't, it waits in the broker.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from enum import Enum
from typing import Any

from attrs import define, frozen
from twisted.internet.defer import Deferred

CLIENT_PATIENCE = 5.0
"""The most seconds that a delivery to a client's URL waits in place: for a place, or between its attempts."""

TICK = 0.25
"""Seconds between two looks at those that wait.  Time is counted in these, since a reactor that was busy has answers to
read first."""

STILL = 3
"""Ticks without a change after which a delivery to an origin that hasn't answered lately waits for no place."""

CROWDED = 2
"""Ticks of slow answers after which deliveries for others count as held up by those that wait."""

QUICK = 0.2
"""Seconds of a quick delivery.  Answers are slow where the places have less of them than one each in that time."""

RETURN = 6.0
"""Seconds after which a delivery that found no place has come again, so that it is known whether there are still as
many."""

MAX_KNOWN = 1000
"""Origins of which it is remembered whether they answered last."""


class BulkheadFull(Exception):
    """No place became free within the time that there was to wait."""


class Standing(Enum):
    """Whether an origin answered last; the value is the part of the places that all such origins have at most."""

    ANSWERS = 1.0
    UNKNOWN = 0.5
    FAILS = 0.25


@frozen
class Place:
    """A place, of an origin with this standing, that was taken at ``since``."""

    standing: Standing
    quick: bool
    since: float


class Bulkhead:
    """The places of the deliveries to clients' URLs of one connector and kind.

    Origins that are not known yet have half of them at most, those that failed a quarter: so they don't keep the
    others from those that answer.

    Where there are several, a fifth is for those that answer quickly.

    Where the places are taken and answers are slow, deliveries that wait hold up all behind them in the queue.  After a
    moment only those to quick origins wait, and a few others, the first of each.  Where all have one origin
    nobody is held up, so that they wait in place, which is quicker for them.

    :param limit: the number of places
    :ivar shared: whether deliveries for others, which need no place here, come from the same queue
    """

    def __init__(self, clock: Any, limit: int) -> None:
        self.shared = False
        self._clock = clock
        self._limit = limit
        self._limits = {standing: max(1, int(limit * standing.value)) for standing in Standing}
        self._held = dict.fromkeys(Standing, 0)
        self._held_slow = 0
        # Ticks since an answer, or since the first place was taken.
        self._still = dict.fromkeys(Standing, 0)
        # In the order of arrival.
        self._waiting: dict[Deferred[Place], _Waiting] = {}
        self._ticking: Any = None
        # Seconds of a delivery to each origin, infinite where it didn't answer, None before that is known; the one that
        # was asked last is last.
        self._known: OrderedDict[str, float | None] = OrderedDict()
        # Deliveries of each origin that have a place or wait for one.
        self._present: Counter[str] = Counter()
        self._answers: deque[float] = deque(maxlen=max(1, round(limit * TICK / QUICK)))
        self._slow = 0
        self._crowded_until = 0.0

    async def enter(self, origin: str) -> Place:
        """Take a place; returns it, for ``leave``.

        :raises BulkheadFull: there is none in time
        """
        self._known.setdefault(origin)
        self._bound()
        first = not self._present[origin]
        self._present[origin] += 1
        if self._has_room(origin):
            return self._take(origin)
        waiting = _Waiting(origin, first)
        if self._is_hopeless(waiting, len(self._waiting)):
            self._absent(origin)
            raise self._full()
        turn: Deferred[Place] = Deferred(self._forget)
        self._waiting[turn] = waiting
        if self._ticking is None:
            self._ticking = self._clock.callLater(TICK, self._tick)
        try:
            return await turn
        except BaseException:
            self._absent(origin)
            raise

    def leave(self, origin: str, place: Place, *, answered: bool) -> None:
        """Give a place back.

        :param answered: whether the destination gave an answer that is final
        """
        self._held[place.standing] -= 1
        self._held_slow -= not place.quick
        self._absent(origin)
        seconds = math.inf
        if answered:
            now = self._clock.seconds()
            seconds, before = now - place.since, self._known.get(origin)
            if before is not None and before < math.inf:
                seconds = (3 * before + seconds) / 4
            self._still[place.standing] = 0
            self._answers.append(now)
        self._known[origin] = seconds
        self._known.move_to_end(origin)
        self._bound()
        # Those that have waited longest are first.
        for turn, waiting in tuple(self._waiting.items()):
            # One that got its place may be over already, and have given it to another.
            if turn in self._waiting and self._has_room(waiting.origin):
                del self._waiting[turn]
                turn.callback(self._take(waiting.origin))
        self._rest()

    def _standing(self, origin: str) -> Standing:
        seconds = self._known.get(origin)
        if seconds is None:
            return Standing.UNKNOWN
        return Standing.ANSWERS if seconds < math.inf else Standing.FAILS

    def _is_quick(self, origin: str) -> bool:
        seconds = self._known.get(origin)
        return seconds is not None and seconds < QUICK

    def _is_shared(self) -> bool:
        return self.shared or len(self._known) > 1

    def _has_room(self, origin: str) -> bool:
        standing, held = self._standing(origin), sum(self._held.values())
        if held >= self._limit or self._held[standing] >= self._limits[standing]:
            return False
        return (
            self._held_slow < self._limit - self._limit // 5
            or self._is_quick(origin)
            or not self._is_shared()
        )

    def _take(self, origin: str) -> Place:
        standing, quick = self._standing(origin), self._is_quick(origin)
        if not self._held[standing]:
            self._still[standing] = 0
        self._held[standing] += 1
        self._held_slow += not quick
        return Place(standing, quick, self._clock.seconds())

    def _absent(self, origin: str) -> None:
        self._present[origin] -= 1
        if not self._present[origin]:
            del self._present[origin]

    def _bound(self) -> None:
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def _tick(self) -> None:
        for standing in Standing:
            self._still[standing] += 1
        self._slow = 0 if self._flows() else self._slow + 1
        if self._slow >= CROWDED:
            self._crowded_until = self._clock.seconds() + RETURN
        self._ticking = self._clock.callLater(TICK, self._tick)
        number = 0
        for turn, waiting in tuple(self._waiting.items()):
            waiting.ticks += 1
            if turn not in self._waiting:
                continue
            if self._is_hopeless(waiting, number):
                del self._waiting[turn]
                turn.errback(self._full())
            else:
                number += 1
        self._rest()

    def _is_hopeless(self, waiting: _Waiting, number: int) -> bool:
        """Tell whether a delivery is to wait no longer, with ``number`` others before it."""
        if waiting.ticks * TICK >= CLIENT_PATIENCE:
            return True
        standing = self._standing(waiting.origin)
        full = self._held[standing] >= self._limits[standing]
        still = self._still[standing] if full else min(self._still.values())
        if still >= STILL and standing is not Standing.ANSWERS:
            return True
        if not self._is_crowded():
            return False
        quick = self._is_quick(waiting.origin)
        if quick and min(self._still.values()) < CROWDED:
            return False
        return number >= self._limit // 2 or not (quick or waiting.first)

    def _is_crowded(self) -> bool:
        """Tell whether those that wait hold up others."""
        return self._is_shared() and self._clock.seconds() < self._crowded_until and not self._flows()

    def _full(self) -> BulkheadFull:
        """Make the failure of a delivery that found no place; until it comes again others stay held up."""
        if self._is_crowded():
            self._crowded_until = self._clock.seconds() + RETURN
        return BulkheadFull()

    def _flows(self) -> bool:
        """Tell whether places come back quickly."""
        answers = self._answers
        return len(answers) == answers.maxlen and self._clock.seconds() - answers[0] <= TICK

    def _forget(self, turn: Deferred[Place]) -> None:
        self._waiting.pop(turn, None)
        self._rest()

    def _rest(self) -> None:
        """Count no more ticks where nobody waits, and there is room for the next one."""
        if self._ticking is not None and not self._waiting and sum(self._held.values()) < self._limit:
            self._ticking.cancel()
            self._ticking = None
            self._slow = 0


class Bulkheads:
    """The bulkheads of all connectors and kinds.

    :param limit: the number of places of each
    """

    def __init__(self, clock: Any, limit: int) -> None:
        self._clock = clock
        self._limit = limit
        self._bulkheads: dict[tuple[str, str], Bulkhead] = {}
        self._shared: set[tuple[str, str]] = set()

    def of(self, connector: str, kind: str) -> Bulkhead:
        """Return the bulkhead of a connector and kind."""
        key = connector, kind
        bulkhead = self._bulkheads.get(key)
        if bulkhead is None:
            bulkhead = self._bulkheads[key] = Bulkhead(self._clock, self._limit)
            bulkhead.shared = key in self._shared
        return bulkhead

    def share(self, connector: str, kind: str) -> None:
        """Note that there are deliveries to configured URLs beside those to clients'."""
        key = connector, kind
        if key not in self._shared:
            self._shared.add(key)
            if key in self._bulkheads:
                self._bulkheads[key].shared = True


@define
class _Waiting:
    """A delivery that waits for a place; ``first`` where no other of its origin was there when it came."""

    origin: str
    first: bool
    ticks: int = 0

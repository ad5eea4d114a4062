"""Bulkhead: the share of a queue's places that deliveries to clients' URLs have.

A client chooses its URL, and with it how long a delivery takes.  Without a bulkhead a few URLs that hang would hold all
places, and what is for others would wait behind them.

What waits for a place of the bulkhead holds a place of the queue as well.  That is good for a burst, since the places
come back in a moment; where they don't, it waits in the broker.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from junebug_turn.delivery.flow import CROWDED, PACE, QUICK, TICK, Flow
from junebug_turn.delivery.places import PARTS, Place, Standing, Waiting

CLIENT_PATIENCE = 5.0
"""The most seconds that a delivery to a client's URL waits in place: for a place, or between its attempts."""

STILL = 3
"""Ticks without a change after which a delivery to an origin that hasn't answered lately waits for no place."""

LEFT_FREE = 2
"""Places that an origin which has some leaves to another that seeks one."""

SEEKS = 15.0
"""Seconds for which these stay free after a delivery that found no place or no answer: it comes again each 5 s."""

MAX_KNOWN = 1000
"""Origins of which it is remembered whether they answered last."""


class BulkheadFull(Exception):
    """No place became free within the time that there was to wait."""


class Bulkhead:
    """The places of the deliveries to clients' URLs of one connector and kind.

    Origins that are not known yet have half of them at most, those that failed a quarter, and so those that hang: so
    they don't keep the others from those that answer.

    Where there are several, a fifth is for those that answer quickly, or fail at once, which have all of these but one.
    Of the rest, those that have some leave two to another that doesn't answer, or found none: so it can show that it
    answers again.

    Where the places are taken and answers are slow, deliveries that wait hold up all behind them in the queue.  After a
    moment only those to quick origins wait, and a few others, the first of each.  Where all have one origin
    nobody is held up, so that they wait in place, which is quicker for them.

    :param limit: the number of places
    :param recovered: is called when an origin has answered for which some found no place while it wasn't known to
    :ivar shared: whether deliveries for others, which need no place here, come from the same queue
    """

    def __init__(self, clock: Any, limit: int, recovered: Callable[[], None] = lambda: None) -> None:
        self.shared = False
        self._recovered = recovered
        self._clock = clock
        self._limit = limit
        self._limits = {standing: max(1, int(limit * part)) for standing, part in PARTS.items()}
        self._held = dict.fromkeys(Standing, 0)
        self._held_slow = 0
        self._slow_limit = limit - limit // 5
        # Ticks since an answer, or since the first place was taken.
        self._still = dict.fromkeys(Standing, 0)
        # In the order of arrival.
        self._waiting: dict[Deferred[Place], Waiting] = {}
        self._ticking: Any = None
        # Seconds of a delivery to each origin, infinite where it didn't answer, None before that is known; the one that
        # was asked last is last.
        self._known: OrderedDict[str, float | None] = OrderedDict()
        # Those of which the last delivery ended without any answer in time.
        self._hanging: set[str] = set()
        # Deliveries of each origin that have a place or wait for one.
        self._present: Counter[str] = Counter()
        self._holding: Counter[str] = Counter()
        # Origins that don't answer, or found no place, and since when; the last one is last.
        self._seeking: OrderedDict[str, float] = OrderedDict()
        # Origins of which some found no place while they were not known to answer.
        self._turned_away: set[str] = set()
        # Those to quick origins may have each place, the others have no use for the places of quick ones.
        self._flow, self._slow_flow = Flow(clock, limit), Flow(clock, self._slow_limit)

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
        waiting = Waiting(origin, first)
        if self._is_hopeless(waiting, len(self._waiting)):
            self._absent(origin)
            raise self._full(origin)
        turn: Deferred[Place] = Deferred(self._forget)
        self._waiting[turn] = waiting
        if self._ticking is None:
            self._ticking = self._clock.callLater(TICK, self._tick)
        try:
            return await turn
        except BaseException:
            self._absent(origin)
            raise

    def leave(
        self,
        origin: str,
        place: Place,
        *,
        answered: bool | None,
        seconds: float | None = None,
        hung: bool = False,
    ) -> None:
        """Give a place back.

        :param answered: whether the destination gave an answer that is final; None: it was not asked
        :param seconds: how long it took to answer, where that is known
        :param hung: whether there was no answer at all in time
        """
        self._held[place.standing] -= 1
        self._held_slow -= not place.quick
        self._holding[origin] -= 1
        self._absent(origin)
        if answered:
            self._answered(origin, place, seconds)
        else:
            if answered is not None:
                self._known[origin] = math.inf
                (self._hanging.add if hung else self._hanging.discard)(origin)
            self._seeks(origin)
        if origin in self._known:
            self._known.move_to_end(origin)
        self._bound()
        # Those that have waited longest are first.
        for turn, waiting in tuple(self._waiting.items()):
            # One that got its place may be over already, and have given it to another.
            if turn in self._waiting and self._has_room(waiting.origin):
                del self._waiting[turn]
                turn.callback(self._take(waiting.origin))
        self._rest()

    def _answered(self, origin: str, place: Place, seconds: float | None) -> None:
        before = self._known.get(origin)
        if seconds is None or place.standing is Standing.ANSWERS:
            # With the pauses between its attempts: one that often fails at first is slow.
            seconds = self._clock.seconds() - place.since
        if before is not None and before < math.inf:
            seconds = (3 * before + seconds) / 4
        self._known[origin] = seconds
        self._still[place.standing] = 0
        self._flow.answered()
        if not place.quick:
            self._slow_flow.answered()
        self._seeking.pop(origin, None)
        if origin in self._turned_away:
            self._turned_away.discard(origin)
            self._recovered()

    def _standing(self, origin: str) -> Standing:
        seconds = self._known.get(origin)
        if seconds is None:
            return Standing.UNKNOWN
        if seconds < math.inf:
            return Standing.ANSWERS
        return Standing.HANGS if origin in self._hanging else Standing.FAILS

    def _is_quick(self, origin: str, within: float = QUICK) -> bool:
        seconds = self._known.get(origin)
        return seconds is not None and seconds < within

    def _is_shared(self) -> bool:
        return self.shared or len(self._known) > 1

    def _has_room(self, origin: str) -> bool:
        standing = self._standing(origin)
        free, own = self._limit - sum(self._held.values()), self._limits[standing] - self._held[standing]
        if self._is_quick(origin):
            return min(free, own) > 0
        if standing is Standing.FAILS and min(free - 1, own) > 0:
            return True
        if self._is_shared():
            free = min(free, self._slow_limit - self._held_slow)
        other = self._other(origin) if self._holding[origin] else None
        if other is None:
            return min(free, own) > 0
        left = max(0, LEFT_FREE - self._holding[other])
        return free > left and own > (left if self._standing(other) is standing else 0)

    def _other(self, origin: str) -> str | None:
        """Return the other origin that seeks a place, the last one where there are several."""
        other = next((each for each in reversed(self._seeking) if each != origin), None)
        if other is None or self._clock.seconds() - self._seeking[other] >= SEEKS:
            return None
        return other

    def _seeks(self, origin: str) -> None:
        if origin in self._known:
            self._seeking[origin] = self._clock.seconds()
            self._seeking.move_to_end(origin)

    def _take(self, origin: str) -> Place:
        standing, quick = self._standing(origin), self._is_quick(origin)
        if not self._held[standing]:
            self._still[standing] = 0
        self._held[standing] += 1
        self._held_slow += not quick
        self._holding[origin] += 1
        return Place(standing, quick, self._clock.seconds())

    def _absent(self, origin: str) -> None:
        self._present[origin] -= 1
        if not self._present[origin]:
            del self._present[origin], self._holding[origin]

    def _bound(self) -> None:
        if len(self._known) > MAX_KNOWN:
            forgotten, _ = self._known.popitem(last=False)
            self._seeking.pop(forgotten, None)
            self._turned_away.discard(forgotten)
            self._hanging.discard(forgotten)

    def _tick(self) -> None:
        for standing in Standing:
            self._still[standing] += 1
        self._flow.tick()
        self._slow_flow.tick()
        self._ticking = self._clock.callLater(TICK, self._tick)
        number = 0
        for turn, waiting in tuple(self._waiting.items()):
            waiting.ticks += 1
            if turn not in self._waiting:
                continue
            if self._is_hopeless(waiting, number):
                del self._waiting[turn]
                turn.errback(self._full(waiting.origin))
            else:
                number += 1
        self._rest()

    def _is_hopeless(self, waiting: Waiting, number: int) -> bool:
        """Tell whether a delivery is to wait no longer, with ``number`` others before it."""
        if waiting.ticks * TICK >= CLIENT_PATIENCE:
            return True
        standing = self._standing(waiting.origin)
        full = self._held[standing] >= self._limits[standing]
        still = self._still[standing] if full else min(self._still.values())
        if still >= STILL and standing is not Standing.ANSWERS:
            return True
        if not self._is_shared() or not self._flow_for(waiting.origin).crowded:
            return False
        if self._is_quick(waiting.origin, PACE) and min(self._still.values()) < CROWDED:
            return False
        return number >= self._limit // 2 or not (waiting.first or self._is_quick(waiting.origin))

    def _flow_for(self, origin: str) -> Flow:
        """Return the flow of the places that a delivery to this origin may get."""
        return self._flow if self._is_quick(origin) else self._slow_flow

    def _full(self, origin: str) -> BulkheadFull:
        """Make the failure of a delivery that found no place."""
        self._seeks(origin)
        if origin in self._seeking and self._standing(origin) is not Standing.ANSWERS:
            self._turned_away.add(origin)
        if self._is_shared():
            self._flow_for(origin).turned_away()
        return BulkheadFull()

    def _forget(self, turn: Deferred[Place]) -> None:
        self._waiting.pop(turn, None)
        self._rest()

    def _rest(self) -> None:
        """Count no more ticks where nobody waits, and there is room for the next one."""
        if self._ticking is not None and not self._waiting and sum(self._held.values()) < self._limit:
            self._ticking.cancel()
            self._ticking = None
            self._flow.rest()
            self._slow_flow.rest()

"""Bulkhead: the share of a queue's places that deliveries to clients' URLs have.

A client chooses its URL, and with it how long a delivery takes.  Without a bulkhead a few URLs that hang would hold all
places, and what is for others would wait behind them.

What waits for a place of the bulkhead holds a place of the queue as well.  That is good for a burst, since the places
come back in a moment; where they don't, it waits in the broker.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from junebug_turn.delivery.places import PARTS, Group, Origin, Place, Standing, Waiting
from junebug_turn.delivery.retry import ASKS

CLIENT_PATIENCE = 5.0
"""The most seconds that a delivery to a client's URL waits in place: for a place, or between its attempts."""

TICK = 0.25
"""Seconds between two looks at those that wait.  Time is counted in these, since a reactor that was busy has answers to
read first."""

SOON = 0.5
"""Seconds within which a delivery is to get its place, so that it doesn't hold up those behind it in the queue."""

FLOW = 0.2
"""Seconds of a delivery to an origin whose deliveries hold up nobody for long, however many they are."""

LEFT_FREE = 2
"""Places that those that answer leave to each of the other standings."""

RETURN = 6.0
"""Seconds after which a delivery that found no place, or no answer, has come again."""

MAX_KNOWN = 1000
"""Origins of which it is remembered how they answered."""


class BulkheadFull(Exception):
    """No place became free within the time that there was to wait.

    :ivar soon: how many deliveries to the origin may come again soon
    """

    def __init__(self, soon: int) -> None:
        super().__init__()
        self.soon = soon


class Bulkhead:
    """The places of the deliveries to clients' URLs of one connector and kind, in fair shares.

    Origins that are not known yet have half of the places at most, those that failed a quarter, and so those that hang:
    so they don't keep the others from those that answer.  These leave them two, so that they can show that they answer
    again.  Of each kind, all that want places have equal shares, but for quick ones, which soon give theirs back.

    Where there are several, a fifth is for those that answer quickly.

    Deliveries that wait for a place hold up all behind them in the queue.  So those wait that get one soon, as their
    origin has answered so far, and a few others, in equal shares.  Where all have one origin nobody is held up, so that
    they wait in place, which is quicker for them.

    :param limit: the number of places
    :param recovered: is called when an origin has answered for which some found no place while it wasn't known to
    :ivar shared: whether deliveries for others, which need no place here, come from the same queue
    """

    def __init__(self, clock: Any, limit: int, recovered: Callable[[], None] = lambda: None) -> None:
        self.shared = False
        self._recovered = recovered
        self._clock = clock
        self._limit = limit
        self._groups = {standing: Group(max(1, int(limit * part))) for standing, part in PARTS.items()}
        self._held = self._held_slow = 0
        self._slow_limit = limit - limit // 5
        # In the order of arrival.
        self._waiting: dict[Deferred[Place], Waiting] = {}
        self._ticking: Any = None
        self._ticks = 0
        # The one that was asked last is last.
        self._origins: OrderedDict[str, Origin] = OrderedDict()
        self._reviewed = 0.0

    async def enter(self, name: str) -> Place:
        """Take a place for a delivery to an origin; returns it, for ``leave``.

        :raises BulkheadFull: there is none in time
        """
        origin = self._of(name)
        self._review()
        if self._has_room(origin):
            return self._take(origin)
        before, waiting = origin.waits, Waiting(origin)
        late = sum(each.late for each in self._waiting.values())
        turn: Deferred[Place] = Deferred(self._forget)
        self._waiting[turn] = waiting
        origin.waits += 1
        self._regroup(origin)
        if not self._may_wait(waiting, before, late, len(self._waiting) - 1):
            self._remove(turn)
            raise self._full(origin)
        if self._ticking is None:
            self._ticking = self._clock.callLater(TICK, self._tick)
        return await turn

    def leave(
        self, place: Place, *, answered: bool | None, seconds: float | None = None, hung: bool = False
    ) -> None:
        """Give a place back.

        :param answered: whether the destination gave an answer that is final; None: it was not asked
        :param seconds: how long it took to answer, where that is known
        :param hung: whether there was no answer at all in time
        """
        origin, group = place.origin, self._groups[place.standing]
        group.held -= 1
        self._held -= 1
        self._held_slow -= not place.quick
        origin.held -= 1
        if answered:
            if seconds is None or place.standing is Standing.ANSWERS:
                # With the pauses between its attempts: one that often fails at first is slow.
                seconds = self._clock.seconds() - place.since
            origin.answered(seconds)
            origin.still_since = group.still_since = self._ticks
        else:
            if answered is not None:
                origin.failed(hung=hung)
            origin.returns = self._clock.seconds() + RETURN
        self._regroup(origin)
        if answered and origin.missed:
            origin.missed = False
            self._recovered()
        self._serve()

    def _of(self, name: str) -> Origin:
        origin = self._origins.get(name)
        if origin is None:
            if len(self._origins) >= MAX_KNOWN:
                old = next((each for each in self._origins.values() if not (each.held or each.waits)), None)
                if old is not None:
                    del self._origins[old.name]
                    old.join(None)
            origin = self._origins[name] = Origin(name)
        self._origins.move_to_end(name)
        return origin

    def _is_shared(self) -> bool:
        return self.shared or len(self._origins) > 1

    def _has_room(self, origin: Origin) -> bool:
        standing = origin.standing
        group = self._groups[standing]
        free, limit = self._limit - self._held, group.limit
        if origin.is_quick:
            return min(free, limit - group.held) > 0
        if self._is_shared():
            free, limit = min(free, self._slow_limit - self._held_slow), min(limit, self._slow_limit)
        if standing is Standing.ANSWERS:
            others = [other for other in self._groups.values() if other is not group and other.active]
            left = sum(max(0, min(LEFT_FREE, other.limit) - other.held) for other in others)
            free -= min(left, self._slow_limit // 2)
        sharers = len(group.active) + (origin not in group.active)
        return min(free, limit - group.held) > 0 and origin.held * sharers < limit

    def _take(self, origin: Origin) -> Place:
        group, quick = self._groups[origin.standing], origin.is_quick
        if not group.held:
            group.still_since = self._ticks
        if not origin.held:
            origin.still_since = self._ticks
        group.held += 1
        self._held += 1
        self._held_slow += not quick
        origin.held += 1
        self._regroup(origin)
        return Place(origin, origin.standing, quick, self._clock.seconds())

    def _regroup(self, origin: Origin) -> None:
        """Put an origin into the group of its standing where it is active, and into none where it isn't."""
        active = origin.held or origin.waits or origin.returns > self._clock.seconds()
        origin.join(self._groups[origin.standing] if active else None)

    def _review(self) -> None:
        """Forget those that don't come again."""
        now = self._clock.seconds()
        if now - self._reviewed >= TICK:
            self._reviewed = now
            for group in self._groups.values():
                for origin in tuple(group.active):
                    self._regroup(origin)

    def _serve(self) -> None:
        """Give free places to those that have waited longest."""
        for turn, waiting in tuple(self._waiting.items()):
            # One that got its place may be over already, and have given it to another.
            if turn in self._waiting and self._has_room(waiting.origin):
                self._remove(turn)
                turn.callback(self._take(waiting.origin))
        self._rest()

    def _may_wait(self, waiting: Waiting, before: int, late: int, number: int) -> bool:
        """Tell whether a delivery is to wait.

        :param before: how many of its origin wait before it
        :param late: how many wait before it that get no place soon, of ``number`` in all
        """
        origin, waited = waiting.origin, waiting.ticks * TICK
        if waited >= CLIENT_PATIENCE:
            return False
        answers = origin.standing is Standing.ANSWERS
        if answers and not self._is_shared():
            return True
        since = origin.still_since if origin.held else self._groups[origin.standing].still_since
        expected = max((self._ticks - since) * TICK, origin.seconds * (before + 1) / max(1, origin.held))
        waiting.late = origin.standing.failed or max(waited, expected) > SOON
        if waiting.late:
            active, quota = sum(len(group.active) for group in self._groups.values()), self._limit // 2
            return late < quota and before < max(1, quota // max(1, active))
        return not answers or origin.seconds < FLOW or number < self._limit * 4 // 5

    def _tick(self) -> None:
        self._ticking = self._clock.callLater(TICK, self._tick)
        self._ticks += 1
        self._review()
        before: Counter[Origin] = Counter()
        late = 0
        for turn, waiting in tuple(self._waiting.items()):
            waiting.ticks += 1
            if turn not in self._waiting:
                continue
            if self._may_wait(waiting, before[waiting.origin], late, before.total()):
                before[waiting.origin] += 1
                late += waiting.late
            else:
                self._remove(turn)
                turn.errback(self._full(waiting.origin))
        self._serve()

    def _full(self, origin: Origin) -> BulkheadFull:
        """Make the failure of a delivery that found no place."""
        origin.returns = self._clock.seconds() + RETURN
        origin.missed = origin.missed or origin.standing is not Standing.ANSWERS
        self._regroup(origin)
        if origin.standing is not Standing.ANSWERS:
            return BulkheadFull(ASKS)
        return BulkheadFull(round(max(1, origin.held) * CLIENT_PATIENCE / max(FLOW, origin.seconds)))

    def _remove(self, turn: Deferred[Place]) -> None:
        origin = self._waiting.pop(turn).origin
        origin.waits -= 1
        self._regroup(origin)

    def _forget(self, turn: Deferred[Place]) -> None:
        self._remove(turn)
        self._rest()

    def _rest(self) -> None:
        """Count no more ticks where nobody waits, and there is room for the next one."""
        if self._ticking is not None and not self._waiting and self._held < self._limit:
            self._ticking.cancel()
            self._ticking = None

"""Paces of all configured URL bases, and that of one delivery."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.iweb import IResponse

from junebug_turn.delivery.outcome import deferred
from junebug_turn.delivery.pacing import NoTurn, Pace
from junebug_turn.delivery.rate import DeliveryRate
from junebug_turn.delivery.shared_quota import QuotaStore
from junebug_turn.net.clocks import WALL_CLOCK, WallClock


class DeliveryPace:
    """Pace of one delivery's calls; without one every call may be made at once.

    :param patience: seconds from now in which it waits for its turns
    """

    def __init__(self, pace: Pace | None, connector: str, kind: str, patience: float) -> None:
        self._pace = pace
        self._connector = connector
        self._kind = kind
        self._patience = patience
        self._deadline = 0.0 if pace is None else pace.clock.seconds() + patience
        self._entered = self._again = False

    def enter(self) -> Deferred[None] | None:
        """Take the turn to make a call: at once (None), or when the Deferred fires.

        :raises DeliveryDeferred: (in the Deferred) it doesn't come in time
        """
        pace = self._pace
        if pace is None:
            return None
        turn = pace.enter(self._connector, self._kind, self._deadline, again=self._again)
        if turn is None:
            self._entered = True
            return None

        def entered(_: None) -> None:
            self._entered = True

        def late(failure: Failure) -> None:
            failure.trap(NoTurn)
            now = pace.wall_clock.now()
            raise deferred(
                "rate_limited", f"{pace.origin} takes no more calls now", now - self._patience, now
            )

        return turn.addCallbacks(entered, late)

    def end(self, response: IResponse | None) -> None:
        """End the call, whose answer is ``response``; None: there was none."""
        if self._pace is not None and self._entered:
            self._entered = False
            self._again = response is not None and response.code == 429
            self._pace.end(self._kind, response)

    def leave(self) -> None:
        """End the call, if there is one; it was not made."""
        if self._pace is not None and self._entered:
            self._entered = False
            self._pace.release(self._kind)


Pacing: TypeAlias = AbstractContextManager[DeliveryPace]


class Paces:
    """Paces of all configured URL bases that are in use or have a quota to heed."""

    def __init__(self, clock: Any, wall_clock: WallClock = WALL_CLOCK) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._paces: dict[str, Pace] = {}
        self._stopped = False

    def __len__(self) -> int:
        return len(self._paces)

    @contextmanager
    def of_delivery(
        self,
        url_base: str | None,
        origin: str,
        rate: DeliveryRate | None,
        connector: str,
        kind: str,
        patience: float,
        quotas: QuotaStore | None = None,
    ) -> Iterator[DeliveryPace]:
        """Return the pace of one delivery.

        :param url_base: the configured URL that it shares with others; None: it has no pace
        :param rate: the configured quota
        :param kind: ``inbound`` goes before all others
        :param patience: seconds in which it waits for its turns
        :param quotas: counts the calls of the configured quota by all processes
        """
        if url_base is None:
            yield DeliveryPace(None, connector, kind, patience)
            return
        pace = self._paces.get(url_base)
        if pace is None:
            pace = self._paces[url_base] = Pace(self._clock, self._wall_clock, origin)
            if self._stopped:
                pace.stop()
        pace.rate = rate or pace.rate
        if quotas is not None and rate is not None:
            pace.share(quotas, url_base)
        pace.users += 1
        delivery = DeliveryPace(pace, connector, kind, patience)
        try:
            yield delivery
        finally:
            delivery.leave()
            pace.users -= 1
            if not pace.users and pace.idle:
                del self._paces[url_base]

    def waiting(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return how many deliveries wait for their turn, and for how many seconds the oldest does.

        :return: connector -> kind -> ``count`` and ``oldest``
        """
        now = self._clock.seconds()
        found: dict[str, dict[str, dict[str, float]]] = {}
        for pace in self._paces.values():
            for each in pace.waiting:
                shown = found.setdefault(each.connector, {}).setdefault(
                    each.kind, {"count": 0, "oldest": 0.0}
                )
                shown["count"] += 1
                shown["oldest"] = max(shown["oldest"], round(now - each.since, 1))
        return found

    def stop(self) -> None:
        """Cancel the deliveries that wait for their turn, now and from now on."""
        self._stopped = True
        for pace in tuple(self._paces.values()):
            pace.stop()

"""Share of one process in a configured quota that several processes have together.

The store that the processes share counts their calls.  Each of them takes some calls at a time, and makes them soon.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from junebug_turn.delivery.rate import DeliveryRate
from junebug_turn.errors import CacheError, UnreadableEntry

MARGIN = 1 / 30
"""Part of the quota's time in which the service counts a call, after it was taken: the store counts it until so long
after that time."""

LEASE = 1 / 60
"""Part of the quota's time in which a call that was taken is made; and part of the calls that are taken at once."""

ALONE = 5.0
"""Seconds for which a process keeps to the quota for itself, where the store fails."""


class QuotaStore(Protocol):
    """Counts of calls which several processes have together."""

    async def take_calls(self, quota: str, calls: int, seconds: float, wanted: int) -> tuple[int, float]:
        """Take as many of the calls of a quota as are wanted, or as there are.

        :param quota: its name
        :return: the number that was taken; where it is 0, the seconds until there are more
        :raises CacheError: the store fails
        """


def quota_name(url_base: str, seconds: float) -> str:
    """Return the name of the quota of a configured URL, which may hold secrets; ``seconds`` gives its slots."""
    return sha256(f"{seconds:g} {url_base}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


class SharedQuota:
    """Calls that this process has taken and not made yet.

    :param wake: called when ``delay`` may return less than before
    """

    log = Logger()

    def __init__(self, clock: Any, store: QuotaStore, url_base: str, wake: Callable[[], None]) -> None:
        self._clock = clock
        self._store = store
        self._url_base = url_base
        self._wake = wake
        self._left = self._size = 0
        self._until = 0.0  # the end of those that are left
        self._next = 0.0  # there are no more before
        self._alone_until = 0.0
        self._asking = False

    def delay(self, rate: DeliveryRate, waiting: int) -> float | None:
        """Return the seconds until a call may be made; None: until the store has answered.

        :param waiting: the number of deliveries that wait for their turn
        """
        now: float = self._clock.seconds()
        if now < self._alone_until or (self._left and now < self._until):
            return 0
        if now < self._next:
            return self._next - now
        if not self._asking:
            self._asking = True
            # More each time while all of them are made: one question to the store is then for many calls.
            more = 2 * self._size if not self._left and now < self._until else 1
            wanted = min(max(1, int(rate.calls * LEASE)), max(waiting, more))
            Deferred.fromCoroutine(self._take(rate, wanted))
        return None

    def use(self) -> None:
        """Make a call."""
        self._left = max(0, self._left - 1)

    def give_back(self) -> None:
        """Note that a call was not made after all."""
        self._left += 1

    async def _take(self, rate: DeliveryRate, wanted: int) -> None:
        start = self._clock.seconds()
        try:
            name = quota_name(self._url_base, rate.seconds)
            taken, wait = await self._store.take_calls(name, rate.calls, rate.seconds, wanted)
        except Exception as fault:
            # The store has logged the first of these.
            if not isinstance(fault, CacheError | UnreadableEntry | CancelledError):
                self.log.failure("Fault in counting the calls of a quota")
            self._alone_until = self._clock.seconds() + ALONE
        else:
            self._left = self._size = taken
            self._until = start + rate.seconds * LEASE
            self._next = 0.0 if taken else self._clock.seconds() + wait
            if taken and self._clock.seconds() >= self._until:
                # A slow store: one call can be made, or there would be none for ever.
                self._left, self._until = 1, self._clock.seconds() + rate.seconds * LEASE
        self._asking = False
        # In a turn of its own: the store may have answered at once.
        self._clock.callLater(0, self._wake)

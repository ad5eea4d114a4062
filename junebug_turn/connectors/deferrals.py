"""Deferrals: messages that were put off because their destination is down or has no place, and the order of these.

Tested by tests/unit/connectors/test_failures.py.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable

from attrs import Factory, define

from junebug_turn.connectors.retry_queues import DEFERRED_LIMIT

MAX_KEYS = 100_000
"""Keys of deferred messages that are remembered, so that others with the same key stay behind them."""

_MARGIN = 30.0
"""Seconds that a message may need to come back, behind all that returned with it: then another process has it."""


@define
class _PutOff:
    """The messages of a key that are put off, in their order, and until when each is surely not back."""

    destination: str
    soon: int
    until: dict[int, float] = Factory(dict)


class _Delay:
    """The places of those that wait for a delay.

    Several destinations share them: each has as many at most as it leaves free, so that one leaves places for others.

    :param seconds: how long each waits
    :param places: how many wait at most
    """

    def __init__(self, seconds: float, places: int) -> None:
        self.seconds = seconds
        self._places = places
        # When messages come back, and for which destinations they are.
        self._out: deque[tuple[float, str]] = deque()
        self._shares: Counter[str] = Counter()

    def take(self, now: float, destination: str, most: float) -> bool:
        """Take a place for a message; returns whether there was one.

        :param most: how many its destination has at most
        """
        while self._out and self._out[0][0] <= now:
            _, back = self._out.popleft()
            self._shares[back] -= 1
            if not self._shares[back]:
                del self._shares[back]
        if self._shares[destination] >= min(most, self._places - len(self._out)):
            return False
        self._out.append((now + self.seconds, destination))
        self._shares[destination] += 1
        return True


class Deferrals:
    """Choice of the delay for a message that waits only because its destination is down, or has no place for it.

    :param deferral: how long a message waits, and of how many messages for one destination; others are deferred
    :param soon: how long one waits for a destination that answers, and how many in all; others wait as above
    :param seconds: the clock
    """

    def __init__(
        self, deferral: tuple[float, int], soon: tuple[float, int], seconds: Callable[[], float]
    ) -> None:
        self._seconds = seconds
        delay, most = deferral
        self._short, self._usual = _Delay(*soon), _Delay(delay, 2 * most)
        # The key of the message that was put off last at the end.
        self._keys: OrderedDict[str, _PutOff] = OrderedDict()

    def next(self, key: str | None, message: int, destination: str, soon: int) -> float | None:
        """Choose the delay of one more message, whose ``key`` those share that must not overtake each other.

        :param message: its identity among these
        :param destination: the origin that it is for
        :param soon: how many for that destination come back soon at most
        :returns: seconds; None: it is deferred
        """
        now, delay = self._seconds(), None
        if self._short.take(now, destination, soon):
            delay = self._short.seconds
        elif self._usual.take(now, destination, math.inf):
            delay = self._usual.seconds
        if key is not None:
            # One that is put off again keeps its place.
            put_off = self._keys.setdefault(key, _PutOff(destination, soon))
            put_off.soon = soon
            put_off.until[message] = now + (delay or DEFERRED_LIMIT) + _MARGIN
            self._keys.move_to_end(key)
            if len(self._keys) > MAX_KEYS:
                self._keys.popitem(last=False)
        return delay

    def is_behind(self, key: str | None, message: int) -> bool:
        """Tell whether a message of this key that comes before this one was put off, and may not be back yet."""
        if key is None or key not in self._keys:
            return False
        now, out = self._seconds(), self._keys[key].until
        while out:
            first = next(iter(out))
            if first == message or out[first] > now:
                return first != message
            del out[first]
        del self._keys[key]
        return False

    def ahead(self, key: str | None) -> tuple[str, int]:
        """Return the destination of the messages of this key that are put off, and how many for it come back soon."""
        put_off = None if key is None else self._keys.get(key)
        return ("", 0) if put_off is None else (put_off.destination, put_off.soon)

    def done(self, key: str | None, message: int) -> None:
        """Note that a message is not put off any more."""
        if key is not None and key in self._keys:
            self._keys[key].until.pop(message, None)
            if not self._keys[key].until:
                del self._keys[key]

"""Deferrals: messages that were put off because their destination is down or has no place, and the order of these.

Tested by tests/unit/connectors/test_failures.py.
"""

from __future__ import annotations

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
    until: dict[int, float] = Factory(dict)


class Deferrals:
    """Choice of the delay for a message that waits only because its destination is down, or has no place for it.

    Several destinations share the places of those that wait for the delay: each has as many at most as it leaves free,
    so that one which is down leaves places for others.

    :param delay: how long a message waits
    :param most: of how many messages for one destination, and half of how many in all; others are deferred
    :param seconds: the clock
    """

    def __init__(self, delay: float, most: int, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._delay = delay
        self._most = most
        # When messages come back after the delay, and for which destinations they are.
        self._out: deque[tuple[float, str]] = deque()
        self._shares: Counter[str] = Counter()
        # The key of the message that was put off last at the end.
        self._keys: OrderedDict[str, _PutOff] = OrderedDict()

    def next(self, key: str | None, message: int, destination: str) -> float | None:
        """Choose the delay of one more message, whose ``key`` those share that must not overtake each other.

        :param message: its identity among these
        :param destination: the origin that it is for
        :returns: seconds; None: it is deferred
        """
        now = self._seconds()
        delay = self._choose(now, destination)
        if key is not None:
            # One that is put off again keeps its place.
            put_off = self._keys.setdefault(key, _PutOff(destination))
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

    def destination(self, key: str | None) -> str:
        """Return the destination of the messages of this key that are put off."""
        return self._keys[key].destination if key is not None and key in self._keys else ""

    def done(self, key: str | None, message: int) -> None:
        """Note that a message is not put off any more."""
        if key is not None and key in self._keys:
            self._keys[key].until.pop(message, None)
            if not self._keys[key].until:
                del self._keys[key]

    def _choose(self, now: float, destination: str) -> float | None:
        while self._out and self._out[0][0] <= now:
            _, back = self._out.popleft()
            self._shares[back] -= 1
            if not self._shares[back]:
                del self._shares[back]
        free = 2 * self._most - len(self._out)
        if self._shares[destination] >= free:
            return None
        self._out.append((now + self._delay, destination))
        self._shares[destination] += 1
        return self._delay

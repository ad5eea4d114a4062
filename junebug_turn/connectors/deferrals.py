"""Deferrals: messages that were put off because their destination is down or has no place, and the order of these.

Tested by tests/unit/connectors/test_failures.py.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from junebug_turn.connectors.retry_queues import DEFERRED_LIMIT

MAX_KEYS = 100_000
"""Keys of deferred messages that are remembered, so that others with the same key stay behind them."""

_MARGIN = 30.0
"""Seconds that a message may need to come back, behind all that returned with it: then another process has it."""


class Deferrals:
    """Choice of the delay for a message that waits only because its destination is down, or has no place for it.

    :param delay: how long a message waits
    :param most: of how many messages; others are deferred
    :param seconds: the clock
    """

    def __init__(self, delay: float, most: int, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._delay = delay
        self._most = most
        # The times when messages come back after the delay.
        self._out: deque[float] = deque()
        # For each key its messages that are put off, in their order, and until when each is surely not back; the key of
        # the one that was put off last at the end.
        self._keys: OrderedDict[str, dict[int, float]] = OrderedDict()

    def next(self, key: str | None, message: int) -> float | None:
        """Choose the delay of one more message, whose ``key`` those share that must not overtake each other.

        :param message: its identity among these
        :returns: seconds; None: it is deferred
        """
        now = self._seconds()
        delay = self._choose(now)
        if key is not None:
            # One that is put off again keeps its place.
            self._keys.setdefault(key, {})[message] = now + (delay or DEFERRED_LIMIT) + _MARGIN
            self._keys.move_to_end(key)
            if len(self._keys) > MAX_KEYS:
                self._keys.popitem(last=False)
        return delay

    def is_behind(self, key: str | None, message: int) -> bool:
        """Tell whether a message of this key that comes before this one was put off, and may not be back yet."""
        if key is None or key not in self._keys:
            return False
        now, out = self._seconds(), self._keys[key]
        while out:
            first = next(iter(out))
            if first == message or out[first] > now:
                return first != message
            del out[first]
        del self._keys[key]
        return False

    def done(self, key: str | None, message: int) -> None:
        """Note that a message is not put off any more."""
        if key is not None and key in self._keys:
            self._keys[key].pop(message, None)
            if not self._keys[key]:
                del self._keys[key]

    def _choose(self, now: float) -> float | None:
        while self._out and self._out[0] <= now:
            self._out.popleft()
        if len(self._out) >= self._most:
            return None
        self._out.append(now + self._delay)
        return self._delay

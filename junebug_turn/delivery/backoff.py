"""Backoff: the delays between the probes of a destination that is down.

Tested by tests/unit/delivery/test_circuit.py.
"""

from __future__ import annotations

from collections.abc import Callable

MAX_BACKOFF = 3.0
"""The most seconds between the end of a probe that failed and the next one, while the outage is short; the first comes
after 1 to 2 s."""

SHORT_OUTAGE = 15 * 60.0
"""Seconds for which an outage is a short one."""

MAX_LONG_BACKOFF = 30.0
"""The most seconds between two probes in a longer outage."""

MAX_NOT_BEFORE = 60.0
"""The most seconds that a destination is left alone because it asks for that."""


class Backoff:
    """Delays that double until they are as long as the outage allows; the upper half of each is random.

    :param rng: gives numbers in [0, 1)
    """

    def __init__(self, rng: Callable[[], float]) -> None:
        self._rng = rng
        self._doublings = 0

    def next(self, outage: float, not_before: float) -> float:
        """Compute the seconds until the next probe.

        :param outage: seconds since the circuit opened
        :param not_before: seconds that the destination wants to be left alone
        """
        most = MAX_BACKOFF if outage < SHORT_OUTAGE else MAX_LONG_BACKOFF
        longest = min(most, 2.0 ** (self._doublings + 1))
        # 2 ** 6 is over any limit already.
        self._doublings = min(self._doublings + 1, 5)
        return max(longest / 2 * (1 + self._rng()), min(not_before, MAX_NOT_BEFORE))

    def reset(self) -> None:
        """Begin with the shortest delay again."""
        self._doublings = 0

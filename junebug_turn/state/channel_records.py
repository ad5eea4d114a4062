"""Records of a channel: the statuses that its transport has published, and how many messages went each way.

Both are Junebug's (``StatusStore`` and ``MessageRateStore`` in ``junebug/stores.py``): of each component of the
transport the last status, without end, and counters of messages in windows of some seconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping

from junebug_turn.messages.vumi import TransportStatus
from junebug_turn.net.clocks import WALL_CLOCK, WallClock

COUNTED = (
    "inbound",
    "outbound",
    "submitted",
    "rejected",
    "delivery_succeeded",
    "delivery_failed",
    "delivery_pending",
)
"""The names of the counters."""

MAX_COMPONENTS = 100
"""Components of a transport whose status is kept; further ones are not."""


class ChannelRecords(ABC):
    """Base of the records of one channel.

    :param window: seconds that are counted together
    :ivar wall_clock: the clock that the windows go by
    """

    def __init__(self, window: float, wall_clock: WallClock = WALL_CLOCK) -> None:
        self._window = window
        self.wall_clock = wall_clock

    @abstractmethod
    def count(self, name: str) -> None:
        """Count a message, by one of the names in ``COUNTED``."""

    @abstractmethod
    async def fetch_rates(self) -> Mapping[str, float]:
        """Return how many were counted in a second, by name, in the last window that is over.

        :raises CacheError: they can't be read now
        """

    @abstractmethod
    async def store_status(self, status: TransportStatus) -> None:
        """Store a status in place of the former one of its component.

        :raises CacheError: it can't be stored now
        """

    @abstractmethod
    async def fetch_statuses(self) -> Mapping[str, TransportStatus]:
        """Return the last status of each component.

        :raises CacheError: they can't be read now
        """

    def _number(self) -> int:
        """Return the number of the present window."""
        return int(self.wall_clock.now() / self._window)


class MemoryRecords(ChannelRecords):
    """Records in memory."""

    def __init__(self, window: float, wall_clock: WallClock = WALL_CLOCK) -> None:
        super().__init__(window, wall_clock)
        self._present = 0
        self._counts: Counter[str] = Counter()
        self._last: Counter[str] = Counter()
        self._statuses: dict[str, TransportStatus] = {}

    def count(self, name: str) -> None:
        self._turn()
        self._counts[name] += 1

    async def fetch_rates(self) -> Mapping[str, float]:
        self._turn()
        return {name: self._last[name] / self._window for name in COUNTED}

    def _turn(self) -> None:
        """Begin a new window where it is time."""
        number = self._number()
        if number != self._present:
            self._last = self._counts if number == self._present + 1 else Counter()
            self._counts = Counter()
            self._present = number

    async def store_status(self, status: TransportStatus) -> None:
        if status.component in self._statuses or len(self._statuses) < MAX_COMPONENTS:
            self._statuses[status.component] = status

    async def fetch_statuses(self) -> Mapping[str, TransportStatus]:
        return dict(self._statuses)

"""Counts of the broker's queues, for the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.application.internet import TimerService
from twisted.logger import Logger

from junebug_turn.amqp.broker import Broker

INTERVAL = 15.0
"""Seconds between counts."""


class QueueCounts(TimerService):
    """The messages and consumers of each queue, as the broker counts them now and then."""

    log = Logger()

    def __init__(self, reactor: Any, broker: Broker) -> None:
        super().__init__(INTERVAL, self.count)
        self.clock = reactor
        self._broker = broker
        self._latest: Mapping[str, tuple[int, int]] = {}

    def latest(self) -> Mapping[str, tuple[int, int]]:
        """Return the latest counts: queue -> messages that wait in it, consumers that it has."""
        return self._latest

    async def count(self) -> None:
        """Ask the broker."""
        try:
            self._latest = await self._broker.count_queues()
        except Exception as fault:
            # Old numbers would look like good news.
            self._latest = {}
            self.log.debug("The queues can't be counted: {reason}", reason=type(fault).__name__)

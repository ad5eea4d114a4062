"""Counts of the broker's queues, for the metrics; and the transports that are seen in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.application.internet import TimerService
from twisted.logger import Logger

from junebug_turn.amqp.broker import Broker

INTERVAL = 15.0
"""Seconds between counts."""


COUNTED_EACH_TIME = 1000
"""Queues that are counted in each interval; twice as many are counted in every second one."""


class QueueCounts(TimerService):
    """The messages and consumers of each queue, as the broker counts them now and then."""

    log = Logger()

    def __init__(self, reactor: Any, broker: Broker) -> None:
        super().__init__(INTERVAL, self.count)
        self.clock = reactor
        self._broker = broker
        self._latest: Mapping[str, tuple[int, int]] = {}
        self._consumed: dict[str, bool] = {}
        self._rest = 0

    def latest(self) -> Mapping[str, tuple[int, int]]:
        """Return the latest counts: queue -> messages that wait in it, consumers that it has."""
        return self._latest

    async def count(self) -> None:
        """Ask the broker; the more queues there are, the more rarely."""
        if self._rest > 0:
            self._rest -= 1
            return
        try:
            self._latest = await self._broker.count_queues()
            self._rest = len(self._latest) // COUNTED_EACH_TIME
        except Exception as fault:
            # Old numbers would look like good news.
            self._latest = {}
            self.log.debug("The queues can't be counted: {reason}", reason=type(fault).__name__)
        for queue, (_, consumers) in self._latest.items():
            if queue.endswith(".outbound"):
                self._watch(queue, consumers > 0)

    def _watch(self, queue: str, consumed: bool) -> None:
        """Log where the transport that consumes ``queue`` has gone, or come back."""
        before, self._consumed[queue] = self._consumed.get(queue, True), consumed
        if before and not consumed:
            self.log.warn(
                "Nobody consumes {queue}: outbound messages wait there until the transport runs", queue=queue
            )
        elif consumed and not before:
            self.log.info("{queue} is consumed again", queue=queue)

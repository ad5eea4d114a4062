"""Counts of the broker's queues, with a broker that a test scripts."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent

from junebug_turn.daemon.queue_counts import INTERVAL, QueueCounts


class Broker:
    """Stands in for the broker: answers with its ``queues``, or fails with them."""

    def __init__(self) -> None:
        self.queues: Any = {}

    async def count_queues(self) -> Any:
        if isinstance(self.queues, Exception):
            raise self.queues
        return self.queues


def test_latest() -> None:
    """The queues are counted at the start and at each interval until the stop; a failure leaves no old count."""
    broker, clock = Broker(), Clock()
    counts = QueueCounts(clock, broker)  # type: ignore[arg-type]
    assert counts.latest() == {}
    broker.queues = {"a.inbound": (1, 1)}
    counts.startService()
    assert counts.latest() == {"a.inbound": (1, 1)}
    broker.queues = {"a.inbound": (2, 1)}
    clock.advance(INTERVAL)
    assert counts.latest() == {"a.inbound": (2, 1)}
    broker.queues = ConnectionError("lost")
    clock.advance(INTERVAL)
    assert counts.latest() == {}
    broker.queues = {"a.inbound": (3, 1)}
    clock.advance(INTERVAL)
    assert counts.latest() == {"a.inbound": (3, 1)}
    counts.stopService()
    assert not clock.getDelayedCalls()


def test_transports() -> None:
    """A transport that is gone, or was never there, is one line in the log, and so is its return."""
    broker, clock = Broker(), Clock()
    counts = QueueCounts(clock, broker)  # type: ignore[arg-type]
    with capturedLogs() as logs:
        broker.queues = {"a.outbound": (0, 0), "b.outbound": (0, 1), "b.inbound": (0, 0)}
        counts.startService()
        for consumers in (0, 1, 1, 0, 0):
            broker.queues = {"a.outbound": (0, consumers), "b.outbound": (0, 1)}
            clock.advance(INTERVAL)
            broker.queues = ConnectionError("lost")
            clock.advance(INTERVAL)
    counts.stopService()
    gone = "Nobody consumes a.outbound: outbound messages wait there until the transport runs"
    lines = [formatEvent(event) for event in logs if event["log_level"] >= LogLevel.info]
    assert lines == [gone, "a.outbound is consumed again", gone]

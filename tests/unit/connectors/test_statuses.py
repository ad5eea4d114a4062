"""The statuses of a transport, on a broker in memory."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs, formatEvent

from junebug_turn.connectors.statuses import consume_statuses
from junebug_turn.messages.vumi import TransportStatus
from tests.support.fake_broker import FakeBroker

QUEUE = "c.status.status"


class Bench:
    """The handler waits for the Deferreds in ``waiting``, one for each status."""

    def __init__(self) -> None:
        self.broker = FakeBroker()
        self.begun: list[TransportStatus] = []
        self.waiting: list[Deferred[None]] = []
        consume_statuses(cast(Any, self.broker), "c", self.handle)

    async def handle(self, status: TransportStatus) -> None:
        self.begun.append(status)
        self.waiting.append(Deferred())
        await self.waiting[-1]

    def deliver(self, component: str, status: str = "ok") -> Deferred[None]:
        return self.broker.deliver(QUEUE, TransportStatus(component=component, status=status).to_json())


def test_in_order() -> None:
    """Statuses of one component are handled one after another, so that the last one stays; others beside them."""
    bench = Bench()
    assert QUEUE in bench.broker.declared
    first, second, _ = bench.deliver("a", "down"), bench.deliver("a"), bench.deliver("b")
    assert [(each.component, each.status) for each in bench.begun] == [("a", "down"), ("b", "ok")]
    bench.waiting[0].callback(None)
    assert first.called
    assert not second.called
    assert (bench.begun[-1].component, bench.begun[-1].status) == ("a", "ok")


def test_unreadable() -> None:
    """One that can't be read is dropped with a warning, and stops no other."""
    bench = Bench()
    with capturedLogs() as logs:
        for body in (
            b"{",
            b"[]",
            b'{"component": "a"}',
            b'{"component": "a", "status": "well"}',
            b'{"status": "ok"}',
        ):
            assert bench.broker.deliver(QUEUE, body).called
    warnings = [formatEvent(event) for event in logs if event["log_level"] == LogLevel.warn]
    assert len(warnings) == 5
    assert all(line.startswith(f"A status of {QUEUE} is dropped: ") for line in warnings)
    bench.deliver("a")
    assert len(bench.begun) == 1

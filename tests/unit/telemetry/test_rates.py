"""Rates of messages by connector."""

from __future__ import annotations

from twisted.internet.task import Clock

from junebug_turn.telemetry.metrics import Metrics
from junebug_turn.telemetry.rates import Rates


def test_rates() -> None:
    """A rate is the messages a minute over the last minute: published ones that were confirmed, and delivered ones."""
    clock, metrics = Clock(), Metrics(applications={"a": "junebug"})
    rates = Rates(clock, metrics)
    assert rates.of("a") == {"outbound": None, "inbound": None, "event": None}
    rates.sample()
    for _ in range(6):
        metrics.published("a", 0.1, confirmed=True)
    metrics.published("a", 0.1, confirmed=False)
    with metrics.delivery("a", "event"):
        pass
    clock.advance(30)
    rates.sample()
    assert rates.of("a") == {"outbound": 12, "inbound": 0, "event": 2}
    assert rates.of("b") == {"outbound": 0, "inbound": 0, "event": 0}
    for _ in range(13):
        clock.advance(5)
        rates.sample()
    assert rates.of("a") == {"outbound": 0, "inbound": 0, "event": 0}

"""Does it flow? The daemon's state in one line, and why."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from junebug_turn.daemon.operators.overview import State
from junebug_turn.http.admin.operators.backend import Overview
from junebug_turn.telemetry.metrics import Metrics
from junebug_turn.telemetry.rates import Rates

LIVE = {"a.inbound": True, "a.event": True}
COUNTS = {"a.inbound": (1, 1), "a.event": (2, 1), "a.outbound": (3, 1), "a.inbound.parked": (4, 0)}


def overview(
    amqp: dict[str, Any] | None = None,
    destinations: dict[str, Any] | None = None,
    counts: dict[str, tuple[int, int]] | None = None,
    paused: bool = False,
    **components: Any,
) -> Overview:
    well = {"connected": True, "publishing": True, "blocked": False, "consumers": LIVE}
    health = {
        "amqp": well | (amqp or {}),
        "destinations": {"origins": {}, "others": 0} | (destinations or {}),
        "cache": {"state": "ok"},
    } | components
    clock = Clock()
    return State(
        {"a": "junebug"},
        lambda: health,
        lambda: COUNTS if counts is None else counts,
        lambda name: paused,
        Rates(clock, Metrics()),
    ).overview()


def test_it_flows() -> None:
    """Where all is well there is nothing more to say."""
    found = overview()
    assert (found.flows, list(found.reasons)) == ("yes", [])
    (connector,) = found.connectors
    assert connector["queues"]["outbound"] == {"messages": 3, "consumers": 1}
    assert connector["parked"] == {"inbound": 4, "event": None}


@pytest.mark.parametrize(
    ("state", "flows", "reason"),
    [
        ({"amqp": {"connected": False}}, "no", "no connection to the broker"),
        ({"amqp": {"blocked": True}}, "no", "short of memory or disk"),
        ({"amqp": {"publishing": False}}, "no", "can't publish"),
        ({"amqp": {"faults": ["no right to write"]}}, "no", "no right to write"),
        ({"amqp": {"consumers": LIVE | {"a.event": False}}}, "partly", "nobody here consumes a.event"),
        ({"paused": True}, "partly", "a is paused"),
        ({"counts": COUNTS | {"a.outbound": (3, 0)}}, "partly", "the outbound messages of a"),
        ({"destinations": {"origins": {"http://h:80": {}}}}, "partly", "http://h:80 is down"),
        ({"destinations": {"others": 2}}, "partly", "2 URLs of clients are down"),
        ({"cache": {"state": "degraded"}}, "partly", "a cache can't be used"),
        ({"channels": {"ok": False}}, "partly", "the store of channels can't be read"),
    ],
)
def test_it_does_not_flow(state: dict[str, Any], flows: str, reason: str) -> None:
    """Each fault has a reason in words."""
    found = overview(**state)
    assert found.flows == flows
    (line,) = found.reasons
    assert reason in line


def test_many() -> None:
    """A reason names a few, and has the number of the others."""
    gone = {f"a{n}.inbound": False for n in range(9)}
    (line,) = overview(amqp={"consumers": gone}).reasons
    assert line.endswith("a4.inbound and 4 more")


def test_counts_that_are_not_known() -> None:
    """Without counts nothing is said to be down."""
    found = overview(counts={})
    assert (found.flows, found.connectors[0]["transport"]) == ("yes", "unknown")


def test_delayed() -> None:
    """Delayed messages are counted by their delay, for all connectors together."""
    counts = COUNTS | {"junebug-turn.delay.30s": (7, 0), "junebug-turn.delay.5m": (0, 0)}
    assert overview(counts=counts).delayed == {"30s": 7, "5m": 0}

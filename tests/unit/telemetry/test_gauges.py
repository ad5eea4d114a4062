"""The gauges that are read at each scrape."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from junebug_turn.telemetry.gauges import (
    OTHER,
    AgeGauges,
    BrokerGauges,
    CertificateGauges,
    CircuitGauges,
    PartStats,
    StoreGauges,
    StoreStats,
    TurnGauges,
)
from junebug_turn.telemetry.metrics import Metrics
from tests.unit.telemetry.test_metrics import samples


def test_read_at_each_scrape() -> None:
    """Registering gauges reads nothing, and each scrape reads them anew."""
    read: list[str] = []

    def status() -> dict[str, bool]:
        read.append("status")
        return {"connected": len(read) > 1}

    metrics = Metrics()
    metrics.registry.register(BrokerGauges(status, lambda: {"q": (len(read), 0)}))
    assert read == []
    for number in (1, 2):
        found = samples(metrics)
        assert found["junebug_turn_broker_connected"] == [({}, number - 1)]
        assert found["junebug_turn_queue_messages"] == [({"connector": "", "queue": "q"}, number)]


@pytest.mark.parametrize("connected", [True, False])
def test_broker(connected: bool) -> None:
    """The broker's state is 0 or 1, and so is that of each queue's consumer."""
    status = {
        "connected": connected,
        "publishing": True,
        "consumers": {"a": True, "b": False},
        "paused": ["c"],
    }
    metrics = Metrics()
    metrics.registry.register(BrokerGauges(lambda: status, dict))
    found = samples(metrics)
    assert found["junebug_turn_broker_connected"] == [({}, float(connected))]
    assert found["junebug_turn_broker_blocked"] == [({}, 0)]
    live = {labels["queue"]: value for labels, value in found["junebug_turn_consumer_live"]}
    assert live == {"a": 1, "b": 0}
    paused = {labels["queue"]: value for labels, value in found["junebug_turn_consumer_paused"]}
    assert paused == {"a": 0, "b": 0, "c": 1}
    assert "junebug_turn_queue_messages" not in found


def test_unconfirmed() -> None:
    """The messages whose outcome at the broker is not known are shown, with their bytes."""
    metrics = Metrics()
    metrics.registry.register(BrokerGauges(dict, dict, lambda: (3, 5000)))
    found = samples(metrics)
    assert found["junebug_turn_unconfirmed_messages"] == [({}, 3)]
    assert found["junebug_turn_unconfirmed_bytes"] == [({}, 5000)]


def test_what_a_cache_cannot_tell() -> None:
    """What a cache can't tell is not there, rather than 0."""
    stats = {"c": StoreStats({"inbound": PartStats(hits=1)})}
    metrics = Metrics()
    metrics.registry.register(StoreGauges({}, lambda: stats))
    found = samples(metrics)
    assert found["junebug_turn_cache_hits_total"][0][1] == 1
    for name in ("entries", "bytes", "evictions_total", "failures_total"):
        assert f"junebug_turn_cache_{name}" not in found


def test_deliveries_that_wait_for_their_turn() -> None:
    """Each connector has a number of deliveries that wait for their turn, and the seconds that the oldest has."""
    metrics = Metrics()
    waiting = {"a": {"inbound": {"count": 3, "oldest": 12.5}}}
    metrics.registry.register(TurnGauges({"a": "turn", "b": "junebug"}, lambda: waiting))
    found = samples(metrics)
    for name, value in (("", 3), ("_seconds", 12.5)):
        shown = {
            (labels["application"], labels["connector"], labels["kind"]): count
            for labels, count in found[f"junebug_turn_deliveries_waiting{name}"]
        }
        assert shown == {
            ("turn", "a", "inbound"): value,
            ("turn", "a", "event"): 0,
            ("junebug", "b", "inbound"): 0,
            ("junebug", "b", "event"): 0,
        }


def test_origins() -> None:
    """Configured origins have a circuit each; those that clients named are one, open when any of them is."""
    metrics = Metrics()
    configured = frozenset({"http://a:1", "http://b:1"})
    metrics.registry.register(CircuitGauges(configured, lambda: ["http://a:1", "http://y:1"]))
    found = samples(metrics)["junebug_turn_circuit_open"]
    assert {labels["origin"]: value for labels, value in found} == {
        "http://a:1": 1,
        "http://b:1": 0,
        OTHER: 1,
    }


def test_connectors_of_queues() -> None:
    """The gauges of a queue have its connector; it is empty for queues that several connectors share, and others."""
    queues = {
        "sms.inbound": "sms",
        "sms.event": "sms",
        "sms.outbound": "sms",
        "sms.inbound.parked": "sms",
        "sms.event.parked": "sms",
        "a.b.outbound": "a.b",
        "other.inbound": "",
        "junebug-turn.delay.5s": "",
    }
    metrics = Metrics()
    status = {"consumers": {"sms.inbound": True}, "paused": ["a.b.inbound"]}
    gauges = BrokerGauges(
        lambda: status,
        lambda: dict.fromkeys(queues, (1, 2)),
        applications={"sms": "junebug", "a.b": "turn", "a": "turn"},
    )
    metrics.registry.register(gauges)
    found = samples(metrics)
    for name, value in (("messages", 1), ("consumers", 2)):
        assert found[f"junebug_turn_queue_{name}"] == [
            ({"connector": connector, "queue": queue}, value) for queue, connector in queues.items()
        ]
    assert found["junebug_turn_consumer_live"] == [({"connector": "sms", "queue": "sms.inbound"}, 1)]
    assert [labels for labels, _ in found["junebug_turn_consumer_paused"]] == [
        {"connector": "sms", "queue": "sms.inbound"},
        {"connector": "a.b", "queue": "a.b.inbound"},
    ]


def test_the_oldest_message() -> None:
    """Each connector has the age of the oldest message of each kind that is worked on; 0 where there is none."""
    metrics = Metrics()
    metrics.registry.register(
        AgeGauges({"a": "turn"}, lambda: {"a.inbound": 12.5, "a.outbound": 9.0, "b.event": 3.0})
    )
    found = samples(metrics)["junebug_turn_oldest_message_seconds"]
    assert {(labels["application"], labels["connector"], labels["kind"]): age for labels, age in found} == {
        ("turn", "a", "inbound"): 12.5,
        ("turn", "a", "event"): 0,
    }


def test_certificates() -> None:
    """Each certificate of ours has the time at which it ends; one that can't be read is left out."""
    expiries: dict[str, Callable[[], float | None]] = {
        "ssl:443": lambda: 1.8e9,
        "client_cert_file": lambda: None,
    }
    metrics = Metrics()
    metrics.registry.register(CertificateGauges(expiries))
    assert samples(metrics)["junebug_turn_certificate_expiry_timestamp_seconds"] == [
        ({"certificate": "ssl:443"}, 1.8e9)
    ]

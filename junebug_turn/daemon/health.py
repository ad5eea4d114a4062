"""Health of the daemon, composed of the state of its components."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

from junebug_turn.amqp.broker import Broker
from junebug_turn.delivery.deliverer import Deliverer
from junebug_turn.state.message_store import MessageStore


def health(
    broker: Broker,
    deliverer: Deliverer,
    stores: Mapping[str, MessageStore],
    configured: Container[str],
    channels: Callable[[], Mapping[str, Any]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the state of each component, as ``/health`` shows it.

    amqp is ok when it is connected, can publish, all consumers are live and the broker gives what is needed; its
    ``health`` and ``state`` are for clients of vumi2.  A destination or a store that is down makes the daemon not
    less healthy: nothing is lost, and a restart would help nobody.

    Everybody may ask, so the destinations that clients gave are a number: their names, and whether they answer, are not
    for others.

    Deliveries that wait for their turn within a destination's quota are shown by connector and kind, with their number
    and the seconds that the oldest has waited.

    :param stores: connector -> its store
    :param configured: the origins of the URLs that the configuration has
    :param channels: returns the state of the channels that are made at run time, where there can be some
    """
    amqp = broker.status()
    well = amqp["connected"] and amqp["publishing"] and all(amqp["consumers"].values())
    well = well and not amqp.get("faults")
    degraded = deliverer.degraded()
    shown = {origin: state for origin, state in degraded.items() if origin in configured}
    stored = {connector: store.status() for connector, store in stores.items()}
    found = {
        "amqp": {"ok": well, "health": "ok" if well else "down", "state": _connection(broker), **amqp},
        "destinations": {
            "ok": True,
            "state": _state(not degraded),
            "origins": shown,
            "others": len(degraded) - len(shown),
            "waiting": deliverer.waiting_for_turn(),
        },
        "cache": {
            "ok": True,
            "state": _state(all(status["ok"] for status in stored.values())),
            "connectors": stored,
        },
    }
    return found if channels is None else found | {"channels": dict(channels())}


def _connection(broker: Broker) -> str:
    """Return vumi2's word for the connections; its ``closed`` is for good, where ours are made again."""
    if broker.stopping:
        return "closing"
    return "open" if broker.connected else "connecting"


def _state(well: bool) -> str:
    return "ok" if well else "degraded"

"""The gauges of the daemon's parts, in the registry of its metrics.

Tested by tests/integration/test_metrics.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

from junebug_turn.amqp.broker import Broker
from junebug_turn.applications.base import ApplicationOptions
from junebug_turn.connectors.ages import message_ages
from junebug_turn.daemon.outgoing_tls import Expiries
from junebug_turn.daemon.queue_counts import QueueCounts
from junebug_turn.delivery.deliverer import Deliverer
from junebug_turn.delivery.destination import Destination
from junebug_turn.errors import DeliveryRefused
from junebug_turn.state.message_store import MessageStore
from junebug_turn.telemetry.gauges import (
    AgeGauges,
    BrokerGauges,
    CertificateGauges,
    CircuitGauges,
    StoreGauges,
    TurnGauges,
)
from junebug_turn.telemetry.metrics import Metrics


def register_gauges(
    metrics: Metrics,
    applications: Mapping[str, str],
    *,
    broker: Broker,
    queue_counts: QueueCounts,
    stores: Mapping[str, MessageStore],
    deliverer: Deliverer,
    origins: frozenset[str],
    expiries: Expiries,
) -> None:
    """Have the metrics read all these parts at each scrape; see the gauges for the parameters."""
    register = metrics.registry.register
    register(BrokerGauges(broker.status, queue_counts.latest, broker.unconfirmed, applications))
    register(AgeGauges(applications, lambda: message_ages(broker)))
    register(StoreGauges(applications, lambda: {name: store.stats() for name, store in stores.items()}))
    register(CircuitGauges(origins, deliverer.degraded))
    register(TurnGauges(applications, deliverer.waiting_for_turn))
    register(CertificateGauges(expiries))


def configured_origins(applications: Iterable[ApplicationOptions]) -> frozenset[str]:
    """Return the origins of the URLs that the configuration has."""
    origins = set()
    for url in {url for options in applications for url in options.urls.values()}:
        with suppress(DeliveryRefused):  # a fault that its application raises
            origins.add(Destination.of(url, None).origin)
    return frozenset(origins)

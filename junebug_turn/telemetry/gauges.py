"""Gauges: the metrics that are read from the daemon's parts at each scrape, not counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from attrs import define, field, frozen
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

PREFIX = "junebug_turn"
OTHER = "other"

_T = TypeVar("_T")


@define
class PartStats:
    """Statistics of a part of a message store, such as its inbound messages; None where a number is unknown.

    :ivar entries: about how many there are
    :ivar bytes: about how much memory, or room in its file, they take
    :ivar hits: how many were asked for and found
    :ivar misses: how many were asked for in vain
    :ivar evictions: how many had to go before their time
    """

    entries: int | None = None
    bytes: int | None = None
    hits: int = 0
    misses: int = 0
    evictions: int | None = None

    def asked(self, found: _T | None) -> _T | None:
        """Count a lookup as a hit or a miss; return its result."""
        if found is None:
            self.misses += 1
        else:
            self.hits += 1
        return found


@frozen
class StoreStats:
    """Statistics of a message store.

    :ivar parts: name -> the statistics of that part
    :ivar failures: how many operations failed; None where none can
    """

    parts: Mapping[str, PartStats] = field(factory=dict)
    failures: int | None = None


class _ReadAtScrape(Collector):
    """Gauges whose values are read at each scrape."""

    def describe(self) -> Iterable[Metric]:
        # Registering must not read a part that is not ready yet.
        return ()


@frozen(eq=False)
class BrokerGauges(_ReadAtScrape):
    """Gauges of the broker's connections, consumers and queues.

    :ivar status: as ``Broker.status`` has it
    :ivar queues: queue -> messages that wait in it, consumers that it has
    :ivar unconfirmed: messages whose outcome is not known, and their bytes
    :ivar applications: connector -> word of its application; the queues of others have an empty connector
    """

    status: Callable[[], Mapping[str, Any]]
    queues: Callable[[], Mapping[str, tuple[int, int]]]
    unconfirmed: Callable[[], tuple[int, int]] = lambda: (0, 0)
    applications: Mapping[str, str] = field(factory=dict)

    def collect(self) -> Iterator[Metric]:
        status = self.status()
        for name, help in (
            ("connected", "Whether all connections to the broker are up."),
            ("publishing", "Whether the channel that publishes is open."),
            ("blocked", "Whether the broker takes no messages for now."),
        ):
            yield GaugeMetricFamily(f"{PREFIX}_broker_{name}", help, float(bool(status.get(name))))
        messages, size = self.unconfirmed()
        for name, help, value in (
            ("messages", "Messages that wait for the broker or for its confirm.", messages),
            ("bytes", "Bytes of the messages that wait for the broker or for its confirm.", size),
        ):
            yield GaugeMetricFamily(f"{PREFIX}_unconfirmed_{name}", help, float(value))
        live = status.get("consumers", {})
        yield self._by_queue("consumer_live", "Whether the queue is consumed.", live)
        paused = dict.fromkeys(live, 0) | dict.fromkeys(status.get("paused", ()), 1)
        yield self._by_queue(
            "consumer_paused", "Whether the queue is not consumed, by an operator's order.", paused
        )
        queues = self.queues()
        waiting = {queue: count for queue, (count, _) in queues.items()}
        yield self._by_queue("queue_messages", "Messages that wait in the queue.", waiting)
        consumers = {queue: count for queue, (_, count) in queues.items()}
        yield self._by_queue("queue_consumers", "Consumers of the queue, of whatever process.", consumers)

    def _by_queue(self, name: str, help: str, values: Mapping[str, float]) -> Metric:
        gauge = GaugeMetricFamily(f"{PREFIX}_{name}", help, labels=["connector", "queue"])
        for queue, value in values.items():
            connector = queue.removesuffix(".parked").rpartition(".")[0]
            gauge.add_metric([connector if connector in self.applications else "", queue], float(value))
        return gauge


@frozen(eq=False)
class AgeGauges(_ReadAtScrape):
    """Gauge of the age of the oldest message that the daemon works on.

    :ivar applications: connector -> word of its application
    :ivar ages: queue -> seconds
    """

    applications: Mapping[str, str]
    ages: Callable[[], Mapping[str, float]]

    def collect(self) -> Iterator[Metric]:
        gauge = GaugeMetricFamily(
            f"{PREFIX}_oldest_message_seconds",
            "How old the oldest message is that the daemon works on, by its own timestamp.",
            labels=["application", "connector", "kind"],
        )
        ages = self.ages()
        for connector, application in self.applications.items():
            for kind in ("inbound", "event"):
                gauge.add_metric([application, connector, kind], ages.get(f"{connector}.{kind}", 0.0))
        yield gauge


@frozen(eq=False)
class CertificateGauges(_ReadAtScrape):
    """Gauge of the end of the daemon's own certificates.

    :ivar expiries: the certificate's option or address -> the Unix time at which it ends; None where it is unknown
    """

    expiries: Mapping[str, Callable[[], float | None]]

    def collect(self) -> Iterator[Metric]:
        found = {certificate: expiry() for certificate, expiry in self.expiries.items()}
        ends = {certificate: end for certificate, end in found.items() if end is not None}
        yield _by(
            "certificate",
            "certificate_expiry_timestamp_seconds",
            "When the daemon's own certificate ends, or one between it and its authority.",
            ends,
        )


@frozen(eq=False)
class StoreGauges(_ReadAtScrape):
    """Gauges and counters of the message stores.

    :ivar applications: connector -> word of its application
    :ivar stats: connector -> the statistics of its store
    """

    applications: Mapping[str, str]
    stats: Callable[[], Mapping[str, StoreStats]]

    def collect(self) -> Iterator[Metric]:
        labels = ["application", "connector", "part"]
        families: dict[str, Any] = {
            name: kind(f"{PREFIX}_cache_{name}", help, labels=labels)
            for name, kind, help in (
                ("entries", GaugeMetricFamily, "Entries of the cache, about."),
                ("bytes", GaugeMetricFamily, "Bytes that the entries of the cache take, about."),
                ("hits", CounterMetricFamily, "Entries asked for and found."),
                ("misses", CounterMetricFamily, "Entries asked for in vain."),
                ("evictions", CounterMetricFamily, "Entries that had to go before their time."),
            )
        }
        failures = CounterMetricFamily(
            f"{PREFIX}_cache_failures", "Operations of the cache that failed.", labels=labels[:-1]
        )
        for connector, stats in self.stats().items():
            of = [self.applications.get(connector, ""), connector]
            if stats.failures is not None:
                failures.add_metric(of, stats.failures)
            for part, counts in stats.parts.items():
                for name, family in families.items():
                    if (count := getattr(counts, name)) is not None:
                        family.add_metric([*of, part], count)
        yield from families.values()
        yield failures


@frozen(eq=False)
class CircuitGauges(_ReadAtScrape):
    """Gauges of the destinations' circuits.

    :ivar origins: those that the configuration names; the others, which clients name, are one
    :ivar open_origins: the origins whose circuits are open
    """

    origins: frozenset[str]
    open_origins: Callable[[], Iterable[str]]

    def collect(self) -> Iterator[Metric]:
        circuits = dict.fromkeys(self.origins, False)
        for origin in self.open_origins():
            circuits[origin if origin in self.origins else OTHER] = True
        yield _by("origin", "circuit_open", "Whether the destination is left alone.", circuits)


@frozen(eq=False)
class TurnGauges(_ReadAtScrape):
    """Gauges of the deliveries that wait for their turn within a quota.

    :ivar applications: connector -> word of its application
    :ivar waiting: connector -> kind -> ``count`` and ``oldest``
    """

    applications: Mapping[str, str]
    waiting: Callable[[], Mapping[str, Mapping[str, Mapping[str, float]]]]

    def collect(self) -> Iterator[Metric]:
        labels = ["application", "connector", "kind"]
        waiting = self.waiting()
        for name, key, help in (
            (
                "deliveries_waiting",
                "count",
                "Deliveries that wait for their turn within the destination's quota.",
            ),
            ("deliveries_waiting_seconds", "oldest", "How long the oldest of these has waited."),
        ):
            family = GaugeMetricFamily(f"{PREFIX}_{name}", help, labels=labels)
            for connector, application in self.applications.items():
                for kind in ("inbound", "event"):
                    value = waiting.get(connector, {}).get(kind, {}).get(key, 0)
                    family.add_metric([application, connector, kind], float(value))
            yield family


def _by(label: str, name: str, help: str, values: Mapping[str, float]) -> Metric:
    """Return a gauge with one label.

    :param values: value of the label -> value of the gauge
    """
    gauge = GaugeMetricFamily(f"{PREFIX}_{name}", help, labels=[label])
    for labelled, value in values.items():
        gauge.add_metric([labelled], float(value))
    return gauge

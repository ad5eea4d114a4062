"""Gauges: the metrics that are read from the daemon's parts at each scrape, not counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar, cast

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
    :ivar hits: how many were asked for and found
    :ivar misses: how many were asked for in vain
    :ivar evictions: how many had to go before their time
    """

    entries: int | None = None
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
    """

    status: Callable[[], Mapping[str, Any]]
    queues: Callable[[], Mapping[str, tuple[int, int]]]

    def collect(self) -> Iterator[Metric]:
        status = self.status()
        for name, help in (
            ("connected", "Whether both connections to the broker are up."),
            ("publishing", "Whether the channel that publishes is open."),
            ("blocked", "Whether the broker takes no messages for now."),
        ):
            yield GaugeMetricFamily(f"{PREFIX}_broker_{name}", help, float(bool(status.get(name))))
        live = GaugeMetricFamily(
            f"{PREFIX}_consumer_live", "Whether the queue is consumed.", labels=["queue"]
        )
        for queue, is_live in status.get("consumers", {}).items():
            live.add_metric([queue], float(is_live))
        yield live
        messages = GaugeMetricFamily(
            f"{PREFIX}_queue_messages", "Messages that wait in the queue.", labels=["queue"]
        )
        consumers = GaugeMetricFamily(
            f"{PREFIX}_queue_consumers", "Consumers of the queue, of whatever process.", labels=["queue"]
        )
        for queue, (message_count, consumer_count) in self.queues().items():
            messages.add_metric([queue], message_count)
            consumers.add_metric([queue], consumer_count)
        yield messages
        yield consumers


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
        name = f"{PREFIX}_cache"
        families: dict[str, Metric] = {
            "entries": GaugeMetricFamily(f"{name}_entries", "Entries of the cache, about.", labels=labels),
            "hits": CounterMetricFamily(f"{name}_hits", "Entries asked for and found.", labels=labels),
            "misses": CounterMetricFamily(f"{name}_misses", "Entries asked for in vain.", labels=labels),
            "evictions": CounterMetricFamily(
                f"{name}_evictions", "Entries that had to go before their time.", labels=labels
            ),
        }
        failures = CounterMetricFamily(
            f"{name}_failures", "Operations of the cache that failed.", labels=labels[:-1]
        )
        for connector, stats in self.stats().items():
            of = [self.applications.get(connector, ""), connector]
            if stats.failures is not None:
                failures.add_metric(of, stats.failures)
            for part, counts in stats.parts.items():
                for field_name, family in families.items():
                    if (count := getattr(counts, field_name)) is not None:
                        cast(Any, family).add_metric([*of, part], count)
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
        gauge = GaugeMetricFamily(
            f"{PREFIX}_circuit_open", "Whether the destination is left alone.", labels=["origin"]
        )
        for origin, is_open in circuits.items():
            gauge.add_metric([origin], float(is_open))
        yield gauge

"""What is not counted by us but read when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from attrs import field, frozen
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from junebug_turn.state.message_store import CacheStats

PREFIX = "junebug_turn"
OTHER = "other"


@frozen
class State:
    """What is read when somebody asks.

    :ivar broker: as ``Broker.status`` has it
    :ivar queues: queue -> messages that wait in it, consumers that it has
    :ivar caches: connector -> what its cache counts
    :ivar circuits: origin -> whether its circuit is open
    """

    broker: Mapping[str, Any] = field(factory=dict)
    queues: Mapping[str, tuple[int, int]] = field(factory=dict)
    caches: Mapping[str, CacheStats] = field(factory=dict)
    circuits: Mapping[str, bool] = field(factory=dict)


class Now(Collector):
    """What is not counted but read."""

    def __init__(
        self,
        version: str,
        applications: Mapping[str, str],
        origins: frozenset[str],
        state: Callable[[], State],
    ) -> None:
        self._version = version
        self._applications = applications
        self._origins = origins
        self._state = state

    def describe(self) -> Iterable[Metric]:
        # Registering must not read the state, of which not all is there yet.
        return ()

    def collect(self) -> Iterator[Metric]:
        state = self._state()
        yield InfoMetricFamily(PREFIX, "The version of the daemon.", {"version": self._version})
        for name, help in (
            ("connected", "Whether both connections to the broker are up."),
            ("publishing", "Whether the channel that publishes is open."),
            ("blocked", "Whether the broker takes no messages for now."),
        ):
            yield GaugeMetricFamily(f"{PREFIX}_broker_{name}", help, float(bool(state.broker.get(name))))
        live = GaugeMetricFamily(
            f"{PREFIX}_consumer_live", "Whether the queue is consumed.", labels=["queue"]
        )
        for queue, is_live in state.broker.get("consumers", {}).items():
            live.add_metric([queue], float(is_live))
        yield live
        messages = GaugeMetricFamily(
            f"{PREFIX}_queue_messages", "Messages that wait in the queue.", labels=["queue"]
        )
        consumers = GaugeMetricFamily(
            f"{PREFIX}_queue_consumers", "Consumers of the queue, of whatever process.", labels=["queue"]
        )
        for queue, (message_count, consumer_count) in state.queues.items():
            messages.add_metric([queue], message_count)
            consumers.add_metric([queue], consumer_count)
        yield messages
        yield consumers
        yield from self._caches(state)
        open_circuits = GaugeMetricFamily(
            f"{PREFIX}_circuit_open", "Whether the destination is left alone.", labels=["origin"]
        )
        for origin, is_open in self._bounded(state.circuits).items():
            open_circuits.add_metric([origin], float(is_open))
        yield open_circuits

    def _caches(self, state: State) -> Iterator[Metric]:
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
        for connector, stats in state.caches.items():
            of = [self._applications.get(connector, ""), connector]
            if stats.failures is not None:
                failures.add_metric(of, stats.failures)
            for part, counts in stats.parts.items():
                for what, family in families.items():
                    if (count := getattr(counts, what)) is not None:
                        cast(Any, family).add_metric([*of, part], count)
        yield from families.values()
        yield failures

    def _bounded(self, circuits: Mapping[str, bool]) -> dict[str, bool]:
        """Clients name origins too: those are one, which is open when any of them is."""
        found = dict.fromkeys(self._origins, False)
        for origin, is_open in circuits.items():
            name = origin if origin in self._origins else OTHER
            found[name] = found.get(name, False) or is_open
        return found

"""What is counted and measured, for Prometheus.

Names and units are by Prometheus' conventions, with the prefix ``junebug_turn_``.  The values of each label are of
bounded number: connectors, queues, words of ours, and HTTP statuses; never an address, a message id or a URL that a
client gave.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from attrs import define, field, frozen
from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from junebug_turn.errors import DeliveryFailed
from junebug_turn.logs import current

# Half as many series, for what nobody looks at; the library has this for the whole process only.
disable_created_metrics()

PREFIX = "junebug_turn"
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
OTHER = "other"

# Seconds; the last ones are the limits of requests.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 240)


@frozen
class State:
    """What is read when somebody asks.

    :ivar broker: as ``Broker.status`` has it
    :ivar queues: queue -> messages that wait in it, consumers that it has
    :ivar caches: connector -> name of a part -> entries, entries that had to go before their time
    :ivar circuits: origin -> whether its circuit is open
    """

    broker: Mapping[str, Any] = field(factory=dict)
    queues: Mapping[str, tuple[int, int]] = field(factory=dict)
    caches: Mapping[str, Mapping[str, tuple[int, int]]] = field(factory=dict)
    circuits: Mapping[str, bool] = field(factory=dict)


@define
class Attempt:
    """An attempt that is being made; ``result`` is ``ok`` or why it failed."""

    result: str = "cancelled"


class Metrics:
    """The metrics of one daemon, in a registry of their own.

    :param version: of the daemon
    :param applications: connector -> word of its application
    :param origins: those that the configuration names; the others are one
    :param state: gives what is read at each scrape
    """

    def __init__(
        self,
        *,
        version: str = "",
        applications: Mapping[str, str] | None = None,
        origins: Iterable[str] = (),
        state: Callable[[], State] = State,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.registry = CollectorRegistry()
        self._applications = applications or {}
        self._seconds = seconds
        self._requests = self._counter("http_requests", "HTTP requests that ended.", "status")
        self._request_seconds = self._histogram("http_request_duration", "How long HTTP requests took.")
        self._published = self._counter("published_messages", "Outbound messages.", "result")
        self._confirm_seconds = self._histogram(
            "publish_confirm", "How long outbound messages took to confirm."
        )
        self._deliveries = self._counter("deliveries", "Deliveries that ended.", "kind", "result")
        self._delivery_seconds = self._histogram("delivery_duration", "How long deliveries took.", "kind")
        self._attempts = self._counter("delivery_attempts", "Attempts of deliveries.", "kind", "result")
        self._attempt_seconds = self._histogram(
            "delivery_attempt_duration", "How long attempts took.", "kind"
        )
        self._retries = self._counter(
            "delivery_retries", "Attempts that were followed by another.", "kind", "cause"
        )
        self._parked = self._counter("parked_messages", "Messages and events parked.", "kind", "reason")
        # What each message needs: looking up a series by its labels costs more than counting in it.
        self._request_series: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self._publish_series: dict[tuple[str, bool], tuple[Counter, Histogram]] = {}
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.registry.register(_Now(version, self._applications, frozenset(origins), state))

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(
            f"{PREFIX}_{name}", help, ("application", "connector", *labels), registry=self.registry
        )

    def _histogram(self, name: str, help: str, *labels: str) -> Histogram:
        return Histogram(
            f"{PREFIX}_{name}",
            help,
            ("application", "connector", *labels),
            unit="seconds",
            registry=self.registry,
            buckets=_BUCKETS,
        )

    def text(self) -> bytes:
        """All metrics, in the text format of Prometheus."""
        return generate_latest(self.registry)

    # http

    def request(self, connector: str, status: str, seconds: float) -> None:
        """An HTTP request ended.

        :param connector: empty for those that no application has
        :param status: the HTTP status, or ``gone`` where the client didn't wait
        """
        series = self._request_series.get((connector, status))
        if series is None:
            labels = self._of(connector)
            series = self._requests.labels(*labels, status), self._request_seconds.labels(*labels)
            self._request_series[connector, status] = series
        count, duration = series
        count.inc()
        duration.observe(seconds)

    # amqp

    def published(self, connector: str, seconds: float, *, confirmed: bool) -> None:
        """An outbound message was confirmed, or given up, after so long."""
        series = self._publish_series.get((connector, confirmed))
        if series is None:
            labels = self._of(connector)
            counter = self._published.labels(*labels, "confirmed" if confirmed else "failed")
            series = counter, self._confirm_seconds.labels(*labels)
            self._publish_series[connector, confirmed] = series
        count, duration = series
        count.inc()
        if confirmed:
            duration.observe(seconds)

    def parked(self, reason: str) -> None:
        """What is worked on was parked."""
        self._parked.labels(*self._current(), reason).inc()

    # deliveries, of what is worked on

    @contextmanager
    def delivery(self) -> Iterator[None]:
        """A delivery is made within this."""
        start = self._seconds()
        labels = self._current()
        result = "cancelled"
        try:
            yield
            result = "delivered"
        except DeliveryFailed as failure:
            result = failure.reason
            raise
        except Exception:
            result = "error"
            raise
        finally:
            self._deliveries.labels(*labels, result).inc()
            self._delivery_seconds.labels(*labels).observe(self._seconds() - start)

    @contextmanager
    def attempt(self) -> Iterator[Attempt]:
        """One attempt of a delivery is made within this."""
        start = self._seconds()
        labels = self._current()
        attempt = Attempt()
        try:
            yield attempt
        finally:
            self._attempts.labels(*labels, attempt.result).inc()
            self._attempt_seconds.labels(*labels).observe(self._seconds() - start)

    def retried(self, cause: str) -> None:
        """Another attempt will follow."""
        self._retries.labels(*self._current(), cause).inc()

    def _of(self, connector: str) -> tuple[str, str]:
        application = self._applications.get(connector, "")
        return (application, connector) if application else ("", "")

    def _current(self) -> tuple[str, str, str]:
        return (*self._of(current("connector")), current("kind"))


class _Now(Collector):
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
        entries = GaugeMetricFamily(f"{PREFIX}_cache_entries", "Entries of the cache.", labels=labels)
        evictions = CounterMetricFamily(
            f"{PREFIX}_cache_evictions", "Entries that had to go before their time.", labels=labels
        )
        for connector, parts in state.caches.items():
            for part, (entry_count, eviction_count) in parts.items():
                values = [self._applications.get(connector, ""), connector, part]
                entries.add_metric(values, entry_count)
                evictions.add_metric(values, eviction_count)
        yield entries
        yield evictions

    def _bounded(self, circuits: Mapping[str, bool]) -> dict[str, bool]:
        """Clients name origins too: those are one, which is open when any of them is."""
        found = dict.fromkeys(self._origins, False)
        for origin, is_open in circuits.items():
            name = origin if origin in self._origins else OTHER
            found[name] = found.get(name, False) or is_open
        return found

"""Metrics for Prometheus: the counters and histograms; the gauges are in ``gauges``.

Names and units are by Prometheus' conventions, with the prefix ``junebug_turn_``.  The values of each label are of
bounded number: connectors, queues, words of ours, and HTTP statuses; never an address, a message id or a URL that a
client gave.
"""

from __future__ import annotations

import collections
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from typing import Any, Protocol, TypeAlias

from attrs import define, frozen
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric

from junebug_turn.errors import FAILURE_REASONS, DeliveryFailed
from junebug_turn.telemetry.gauges import PREFIX
from junebug_turn.telemetry.series import FromZero, Series

# Half as many series, for what nobody looks at; the library has this for the whole process only.
disable_created_metrics()

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

# Seconds: close together where a confirm or a local receiver is, far apart where time limits are.  Each bucket is a
# series for each connector and histogram, and a scrape of 500 connectors takes more than a second of CPU already.
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 240)

_PIECE = 1000
"""Samples of a piece of the text: they take some milliseconds."""

_LABELS = ("application", "connector")
_KINDS = ("inbound", "event")
_DELIVERIES = [*product(_KINDS, ("delivered", *FAILURE_REASONS, "error", "cancelled"))]
_DELAYED = [*product(_KINDS, (*FAILURE_REASONS, "error"))]
_PARKED = [*product(_KINDS, (*FAILURE_REASONS, "error", "session_expired", "unreadable"))]

Parked: TypeAlias = "collections.Counter[tuple[str, str, str]]"
"""Counts of parked messages and events by connector, kind and reason."""


@frozen
class _Collected:
    """A registry of one metric, which is collected already."""

    metric: Metric

    def collect(self) -> Iterator[Metric]:
        yield self.metric


class Deduplication(Protocol):
    """The stored results of requests, as the metrics show them."""

    @property
    def size(self) -> int:
        """Their bytes."""

    def __len__(self) -> int:
        """Their number."""


@define
class Attempt:
    """An attempt that is being made; ``result`` is ``ok`` or why it failed."""

    result: str = "cancelled"


class Metrics:
    """The metrics of one daemon, in a registry of their own, where gauges are registered, too.

    :param version: of the daemon
    :param applications: connector -> word of its application; it can change
    :ivar done: connector, kind (``outbound``, ``inbound``, ``event``) -> messages that were published or delivered:
        reading the counters of 500 connectors takes 70 ms
    """

    def __init__(
        self,
        *,
        version: str = "",
        applications: Mapping[str, str] | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.registry = CollectorRegistry()
        self._applications = {} if applications is None else applications
        # Connectors in the order in which they began.
        self._begun: dict[str, None] = {}
        self._every: list[Series[Any]] = []
        self._seconds = seconds
        self.done: dict[tuple[str, str], int] = defaultdict(int)
        self._requests = self._counter("http_requests", "HTTP requests that ended.", "status")
        self._request_seconds = self._histogram("http_request_duration", "How long HTTP requests took.")
        self._published = self._counter(
            "published_messages", "Outbound messages.", "result", known=[("confirmed",), ("failed",)]
        )
        self._confirm_seconds = self._histogram(
            "publish_confirm", "How long outbound messages took to confirm."
        )
        self._deliveries = self._counter(
            "deliveries", "Deliveries that ended.", "kind", "result", known=_DELIVERIES
        )
        self._delivery_seconds = self._histogram("delivery_duration", "How long deliveries took.", "kind")
        self._attempts = self._counter("delivery_attempts", "Attempts of deliveries.", "kind", "result")
        self._attempt_seconds = self._histogram(
            "delivery_attempt_duration", "How long attempts took.", "kind"
        )
        self._retries = self._counter(
            "delivery_retries", "Attempts that were followed by another.", "kind", "cause"
        )
        self._repeats = self._counter(
            "repeated_requests", "Requests that came again and sent nothing.", known=[()]
        )
        self._known_requests = self._series(
            Gauge, "known_requests", "Requests whose results are stored for repeats.", ()
        )
        self._known_bytes = self._series(
            Gauge, "known_requests_bytes", "Bytes that the results stored for repeats take, about.", ()
        )
        self._delayed = self._counter(
            "delayed_messages",
            "Messages and events moved to a delay queue.",
            "kind",
            "reason",
            known=_DELAYED,
        )
        self._parked = self._counter(
            "parked_messages", "Messages and events parked.", "kind", "reason", known=_PARKED
        )
        self._parked_lately: Parked = collections.Counter()
        self._operator_events = Counter(
            f"{PREFIX}_operator_events", "Operator events.", ["result"], registry=self.registry
        )
        for result in ("sent", "dropped"):
            self._operator_events.labels(result)
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        Info(PREFIX, "The version of the daemon.", registry=self.registry).info({"version": version})

    def _counter(
        self, name: str, help: str, *labels: str, known: Collection[tuple[str, ...]] = ()
    ) -> Series[Counter]:
        """Make a counter.

        :param known: the values of ``labels`` that are known before
        """
        series = self._series(Counter, name, help, labels, registry=None)
        self.registry.register(
            FromZero(series.metric, (*_LABELS, *labels), self._applications, self._begun, known)
        )
        return series

    def _histogram(self, name: str, help: str, *labels: str) -> Series[Histogram]:
        return self._series(Histogram, name, help, labels, unit="seconds", buckets=_BUCKETS)

    def _series(self, kind: Any, name: str, help: str, labels: tuple[str, ...], **more: Any) -> Series[Any]:
        names = (*_LABELS, *labels)
        metric = kind(f"{PREFIX}_{name}", help, names, **{"registry": self.registry, **more})
        series: Series[Any] = Series(metric, self._applications)
        self._every.append(series)
        return series

    def begin(self, connector: str) -> None:
        """Start the counters of a connector at 0, for each label value that is known before.

        ``increase()`` and ``rate()`` of Prometheus don't see the count with which a series begins.
        """
        self._begun[connector] = None

    def forget(self, connector: str) -> None:
        """Drop the series of a connector that is no more; it must be in ``applications`` still."""
        self._begun.pop(connector, None)
        for series in self._every:
            series.forget(connector)
        for kind in ("outbound", "inbound", "event"):
            self.done.pop((connector, kind), None)

    def text(self) -> Iterator[bytes]:
        """Yield all metrics, in the text format of Prometheus, in pieces that take some milliseconds each."""
        for family in self.registry.collect():
            for start in range(0, max(1, len(family.samples)), _PIECE):
                piece = Metric(family.name, family.documentation, family.type)
                piece.samples = family.samples[start : start + _PIECE]
                text = generate_latest(_Collected(piece))
                # The lines with its help and type stand before the first sample only.
                yield text if start == 0 else text.split(b"\n", 2)[2]

    # http

    def request(self, connector: str, status: str, seconds: float | None) -> None:
        """Count an HTTP request that ended.

        :param connector: empty for those that no application has
        :param status: the HTTP status, or ``gone`` where the client didn't wait
        :param seconds: how long it took; None for one that never arrived as a whole
        """
        self._requests[connector, status].inc()
        duration = self._request_seconds[connector,]
        if seconds is not None:
            duration.observe(seconds)

    def show_deduplication(self, connector: str, deduplication: Deduplication) -> None:
        """Show how many results a deduplication stores, and their bytes, at each scrape."""
        self._known_requests[connector,].set_function(lambda: len(deduplication))
        self._known_bytes[connector,].set_function(lambda: deduplication.size)

    def repeated(self, connector: str) -> None:
        """Count a request that came again: it gets the answer of the first one."""
        self._repeats[connector,].inc()

    # amqp

    def published(self, connector: str, seconds: float, *, confirmed: bool) -> None:
        """Count an outbound message that was confirmed, or given up, after so long."""
        self._published[connector, "confirmed" if confirmed else "failed"].inc()
        duration = self._confirm_seconds[connector,]
        if confirmed:
            self.done[connector, "outbound"] += 1
            duration.observe(seconds)

    def delayed(self, connector: str, kind: str, reason: str) -> None:
        """Count a message or event that was moved to a delay queue.

        :param kind: ``inbound`` or ``event``, here and below
        """
        self._delayed[connector, kind, reason].inc()

    def parked(self, connector: str, kind: str, reason: str) -> None:
        """Count a message or event that was parked."""
        self._parked[connector, kind, reason].inc()
        self._parked_lately[connector, kind, reason] += 1

    def take_parked(self) -> Parked:
        """Return the counts of messages and events that were parked since the last call."""
        counts, self._parked_lately = self._parked_lately, collections.Counter()
        return counts

    # operators

    def operator_event(self, result: str) -> None:
        """Count an operator event that was ``sent`` or ``dropped``."""
        self._operator_events.labels(result).inc()

    # deliveries

    @contextmanager
    def delivery(self, connector: str, kind: str) -> Iterator[None]:
        """Count the delivery that is made within this."""
        start = self._seconds()
        result = "cancelled"
        try:
            yield
            result = "delivered"
            self.done[connector, kind] += 1
        except DeliveryFailed as failure:
            result = failure.reason
            raise
        except Exception:
            result = "error"
            raise
        finally:
            self._deliveries[connector, kind, result].inc()
            self._delivery_seconds[connector, kind].observe(self._seconds() - start)

    @contextmanager
    def attempt(self, connector: str, kind: str) -> Iterator[Attempt]:
        """Count the attempt of a delivery that is made within this."""
        start = self._seconds()
        attempt = Attempt()
        try:
            yield attempt
        finally:
            self._attempts[connector, kind, attempt.result].inc()
            self._attempt_seconds[connector, kind].observe(self._seconds() - start)

    def retried(self, connector: str, kind: str, cause: str) -> None:
        """Count an attempt that another follows."""
        self._retries[connector, kind, cause].inc()

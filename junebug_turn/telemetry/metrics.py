"""What is counted and measured, for Prometheus.

Names and units are by Prometheus' conventions, with the prefix ``junebug_turn_``.  The values of each label are of
bounded number: connectors, queues, words of ours, and HTTP statuses; never an address, a message id or a URL that a
client gave.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from attrs import define
from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from junebug_turn.errors import DeliveryFailed
from junebug_turn.telemetry.context import current
from junebug_turn.telemetry.gauges import PREFIX, Now, State

# Half as many series, for what nobody looks at; the library has this for the whole process only.
disable_created_metrics()

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

# Seconds; the last ones are the limits of requests.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 240)


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
        self._repeats = self._counter("repeated_requests", "Requests that came again and sent nothing.")
        self._delayed = self._counter(
            "delayed_messages", "Messages and events moved to a delay queue.", "kind", "reason"
        )
        self._parked = self._counter("parked_messages", "Messages and events parked.", "kind", "reason")
        # What each message needs: looking up a series by its labels costs more than counting in it.
        self._request_series: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self._publish_series: dict[tuple[str, bool], tuple[Counter, Histogram]] = {}
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.registry.register(Now(version, self._applications, frozenset(origins), state))

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

    def request(self, connector: str, status: str, seconds: float | None) -> None:
        """An HTTP request ended.

        :param connector: empty for those that no application has
        :param status: the HTTP status, or ``gone`` where the client didn't wait
        :param seconds: how long it took; None for one that never arrived as a whole
        """
        series = self._request_series.get((connector, status))
        if series is None:
            labels = self._of(connector)
            series = self._requests.labels(*labels, status), self._request_seconds.labels(*labels)
            self._request_series[connector, status] = series
        count, duration = series
        count.inc()
        if seconds is not None:
            duration.observe(seconds)

    def repeated(self, connector: str) -> None:
        """A request came again: it gets the answer of the first one."""
        self._repeats.labels(*self._of(connector)).inc()

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

    def delayed(self, reason: str) -> None:
        """What is worked on was moved to a delay queue."""
        self._delayed.labels(*self._current(), reason).inc()

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

"""One application in memory: its HTTP server, broker, store and deliverer."""

from __future__ import annotations

import json
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure

from junebug_turn.applications.base import ApplicationOptions, ApplicationType, Services
from junebug_turn.connectors.connector import Connector
from junebug_turn.daemon.settings import load
from junebug_turn.delivery.destination import FORM, Destination
from junebug_turn.errors import CacheError
from junebug_turn.http.authentication import Authenticator
from junebug_turn.http.mounts import Mount
from junebug_turn.messages.vumi import Message
from junebug_turn.state.factory import make_store
from junebug_turn.telemetry.metrics import Metrics
from junebug_turn.telemetry.tracing import TraceContext, current
from tests.support.configurations import only
from tests.support.fake_broker import FakeBroker
from tests.support.http_harness import Client, Response, make_site

T = TypeVar("T")


@define
class Recorder:
    """A deliverer that takes deliveries and makes none; it reads their JSON or form.

    :ivar traces: the trace of each
    """

    delivered: list[tuple[Destination, Any, dict[str, Any]]] = field(factory=list)
    traces: list[TraceContext | None] = field(factory=list)

    async def deliver(self, destination: Destination, body: bytes, **options: Any) -> None:
        form = destination.content_type == FORM
        read = dict(parse_qsl(body.decode(), keep_blank_values=True)) if form else body and json.loads(body)
        self.delivered.append((destination, read, options))
        self.traces.append(current())


def done(work: Coroutine[Deferred[Any], Any, T]) -> T:
    """The result of a coroutine that waits for nothing, or its exception."""
    results: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(results.append)
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    value: T = result
    return value


def logged(work: Coroutine[Deferred[Any], Any, Any], level: Any = LogLevel.debug) -> list[str]:
    """Run such a coroutine; returns the lines of ``level`` or above that are logged meanwhile."""
    with capturedLogs() as events:
        done(work)
    return [formatEvent(event) for event in events if event["log_level"] >= level]


class Face:
    """An application, with what it needs.

    :ivar metrics: those of its server and its own
    """

    def __init__(self, kind: ApplicationType, options: ApplicationOptions) -> None:
        self.clock = Clock()
        self.broker = FakeBroker()
        self.deliverer = Recorder()
        self.metrics = Metrics()
        self.store = make_store(
            options.store_class,
            options.store_config,
            option=options.store_option,
            connector=options.connector_name,
            clock=self.clock,
            remember_last=options.remember_last,
        )
        self.application: Any = kind.create(
            options,
            Services(
                connector=Connector(cast(Any, self.broker), options.connector_name),
                store=self.store,
                deliverer=cast(Any, self.deliverer),
                metrics=self.metrics,
                clock=cast(Any, self.clock),
                max_json_depth=10,
            ),
        )
        mount = Mount(
            self.application.resource,
            options.connector_name,
            self.application.answer,
            Authenticator(options.header_credentials),
        )
        self.site = make_site({options.path: mount}, self.clock, metrics=self.metrics)
        self._path = options.path

    @classmethod
    def of(cls, kind: ApplicationType, configuration: Mapping[str, Any], **options: Any) -> Face:
        """The application of a configuration, with further options."""
        given = json.dumps([{**configuration, **options}])
        return cls(kind, only(load({"applications": given}, {})))

    def begin(self, method: str, path: str, body: bytes = b"", **headers: str) -> Client:
        """Send a request below the application's path; its answer may come later."""
        client = Client(self.site)
        client.request(method, self._path + path, body, **headers)
        return client

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
        return self.begin(method, path, body, **headers).response()

    @property
    def published(self) -> list[Message]:
        """The outbound messages."""
        return [Message.from_json(published.body) for published in self.broker.published]

    @property
    def repeats(self) -> float:
        """The number of requests that came again, in the metrics."""
        lines = b"".join(self.metrics.text()).decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if "repeated_requests_total{" in line)

    def break_store(self, *methods: str) -> None:
        """Have methods of the store fail."""

        async def fail(*args: Any) -> None:
            raise CacheError("away")

        for method in methods:
            setattr(self.store, method, fail)

"""A connector: publishing with its handle, consuming in order, and the middlewares between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import attrs
import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher

from junebug_turn.amqp.publication import Publication
from junebug_turn.connectors.connector import Connector
from junebug_turn.errors import AmqpConnectionError, DeliveryRefused
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.middlewares.base import BaseMiddleware, BaseMiddlewareConfig
from junebug_turn.middlewares.chain import Chain
from junebug_turn.telemetry.metrics import Metrics
from tests.support.connector_harness import message
from tests.support.fake_broker import FakeBroker


class Slow(BaseMiddleware):
    """Holds outbound messages until ``held`` fires, and adds a mark in each direction."""

    def __init__(self) -> None:
        super().__init__(
            BaseMiddlewareConfig(
                class_path="",
                enable_for_connectors=["c"],
                inbound_enabled=True,
                outbound_enabled=True,
                event_enabled=True,
            )
        )
        self.held: Deferred[None] = Deferred()

    async def handle_outbound(self, message: Message, connector_name: str) -> Message:
        await self.held
        return attrs.evolve(message, content=f"{message.content}!")

    async def handle_inbound(self, message: Message, connector_name: str) -> Message:
        if message.content == "fault":
            raise ZeroDivisionError
        return attrs.evolve(message, content=f"{message.content}!")

    async def handle_event(self, event: Event, connector_name: str) -> Event:
        return attrs.evolve(event, sent_message_id="changed")


class Counts(Metrics):
    """Notes how publishing ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[tuple[str, bool]] = []

    def published(self, connector: str, seconds: float, *, confirmed: bool) -> None:
        self.ended.append((connector, confirmed))


class Bench:
    """A connector "c" on a broker in memory, and what its handlers were given."""

    def __init__(self, *middlewares: BaseMiddleware) -> None:
        self.broker = FakeBroker()
        self.metrics = Counts()
        self.connector = Connector(self.broker, "c", chain=Chain(middlewares, "c"), metrics=self.metrics)
        self.messages: list[Message] = []
        self.events: list[Event] = []
        self.handle: Callable[[Message], Awaitable[None]] = self.keep
        self.connector.consume(lambda message: self.handle(message), self.keep_event)

    async def keep(self, message: Message) -> None:
        self.messages.append(message)

    async def keep_event(self, event: Event) -> None:
        self.events.append(event)


def fate(confirmed: Deferred[None]) -> list[Any]:
    """The result, when it is there; a failure by its type."""
    found: list[Any] = []
    confirmed.addCallbacks(found.append, lambda failure: found.append(failure.type))
    return found


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The log lines of the test, from INFO up."""
    found: list[str] = []

    def observe(event: LogEvent) -> None:
        if event["log_level"] >= LogLevel.info:
            found.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


def test_the_queues() -> None:
    """Its three queues are declared, and two of them consumed."""
    bench = Bench()
    assert {"c.inbound", "c.event", "c.outbound"} <= set(bench.broker.declared)
    assert set(bench.broker.handlers) == {"c.inbound", "c.event"}


def test_publishing() -> None:
    """A message goes to the outbound queue as it is; its handle fires with the confirm, which is counted."""
    bench, sent = Bench(), message("ü")
    bench.broker.confirming = False
    publishing = bench.connector.publish(sent)
    found = fate(publishing.confirmed)
    (published,) = bench.broker.published
    assert (published.queue, published.exchange, published.body) == ("c.outbound", "vumi", sent.to_json())
    assert not found
    published.publication.confirmed.callback(None)
    assert found == [None]
    assert bench.metrics.ended == [("c", True)]


def test_a_failure_to_publish() -> None:
    """A failure reaches the sender, and is counted."""
    bench = Bench()
    bench.broker.fault = AmqpConnectionError("refused")
    assert fate(bench.connector.publish(message()).confirmed) == [AmqpConnectionError]
    assert bench.metrics.ended == [("c", False)]


@pytest.mark.parametrize("fault", [None, AmqpConnectionError("lost")])
def test_a_sender_that_leaves(fault: Exception | None, lines: list[str]) -> None:
    """A message whose request ended after it was handed over is logged and counted as what it became, once that is
    known; no line says meanwhile that it was not published."""
    bench = Bench()
    bench.broker.confirming = False
    publishing = bench.connector.publish(message())
    assert isinstance(publishing, Publication)
    found = fate(publishing.confirmed)
    publishing.number = 1
    publishing.confirmed.cancel()
    assert found == [CancelledError]
    assert bench.metrics.ended == []
    assert not lines
    publishing.settle(fault)
    assert bench.metrics.ended == [("c", fault is None)]
    (line,) = lines
    assert line.startswith("Published" if fault is None else "Did not publish")


def test_a_message_that_was_withdrawn(lines: list[str]) -> None:
    """A message whose request ended while it waited for the broker is logged as not published, with the cause."""
    bench = Bench()
    bench.broker.confirming = False
    publishing = bench.connector.publish(message())
    fate(publishing.confirmed)
    assert publishing.withdraw()
    assert bench.metrics.ended == [("c", False)]
    (line,) = lines
    assert line.endswith(": its request ended while it waited for the broker")


def test_withdrawing() -> None:
    """The handle takes a message back until it is handed to the broker; with middlewares too."""
    for middlewares in ((), (Slow(),)):
        bench = Bench(*middlewares)
        bench.broker.confirming = False
        for number in (0, 1):
            publishing = bench.connector.publish(message())
            found = fate(publishing.confirmed)
            if middlewares and not number:
                assert not publishing.withdraw(), "its middlewares may still hand it over"
                middlewares[0].held.callback(None)
            published = bench.broker.published[number]
            published.publication.number = number  # the broker has it, or not
            assert publishing.withdraw() is (number == 0)
            assert found == ([] if number else [CancelledError])


def test_middlewares() -> None:
    """Messages and events go through the chain in all three directions."""
    slow = Slow()
    bench = Bench(slow)
    found = fate(bench.connector.publish(message("out")).confirmed)
    assert not bench.broker.published
    slow.held.callback(None)
    assert Message.from_json(bench.broker.published[0].body).content == "out!"
    assert found == [None]
    bench.broker.deliver("c.inbound", message("in").to_json())
    bench.broker.deliver("c.event", Event(user_message_id="m", event_type="ack").to_json())
    assert [each.content for each in bench.messages] == ["in!"]
    assert [each.sent_message_id for each in bench.events] == ["changed"]


def test_a_middlewares_fault() -> None:
    """What a middleware raises fails the publishing, and parks an inbound message."""
    slow = Slow()
    bench = Bench(slow)
    found = fate(bench.connector.publish(message()).confirmed)
    slow.held.errback(ZeroDivisionError())
    assert found == [ZeroDivisionError]
    assert not bench.broker.published
    assert bench.broker.deliver("c.inbound", message("fault").to_json()).called
    assert [each.queue for each in bench.broker.published] == ["c.inbound.parked"]


def test_order() -> None:
    """Messages of one sender are handled one after the other, those of others meanwhile."""
    bench, gate, seen = Bench(), Deferred[None](), []

    async def handle(message: Message) -> None:
        seen.append(message.content)
        if message.content == "1":
            await gate

    bench.handle = handle
    for content, sender in (("1", "+1"), ("2", "+1"), ("3", "+2")):
        bench.broker.deliver("c.inbound", message(content, from_addr=sender).to_json())
    assert seen == ["1", "3"]
    gate.callback(None)
    assert seen == ["1", "3", "2"]


def test_a_failed_handler() -> None:
    """What a handler raises decides about its message; the next of the same sender is handled all the same."""
    bench = Bench()

    async def refuse(message: Message) -> None:
        raise DeliveryRefused(
            "400", reason="http_status", last_status=400, attempts=1, first_failure=0, last_failure=0
        )

    bench.handle = refuse
    assert bench.broker.deliver("c.inbound", message().to_json()).called
    assert [each.queue for each in bench.broker.published] == ["c.inbound.parked"]
    bench.handle = bench.keep
    bench.broker.deliver("c.inbound", message("next").to_json())
    assert [each.content for each in bench.messages] == ["next"]


@pytest.mark.parametrize("kind", ["inbound", "event"])
def test_a_message_over_the_limit(kind: str) -> None:
    """A body over max_message_size is parked as it is, and not read: reading its JSON would take long.  One of that
    size is read."""
    bench = Bench()
    fitting = (
        message().to_json() if kind == "inbound" else Event(user_message_id="m1", event_type="ack").to_json()
    )
    bench.broker.max_message_size = len(fitting)
    bench.broker.deliver(f"c.{kind}", fitting + b" ")
    (parked,) = bench.broker.published
    assert (parked.queue, parked.body) == (f"c.{kind}.parked", fitting + b" ")
    assert (parked.headers or {})["reason"] == "unreadable"
    bench.broker.deliver(f"c.{kind}", fitting)
    assert len(bench.messages) + len(bench.events) == 1


def test_unreadable() -> None:
    """A body that is no message, or no event, is parked."""
    bench = Bench()
    for kind in ("inbound", "event"):
        bench.broker.deliver(f"c.{kind}", b"{}")
    assert [each.queue for each in bench.broker.published] == ["c.inbound.parked", "c.event.parked"]
    assert not bench.messages

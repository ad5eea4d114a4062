"""A bridge: an application over AMQP behind a connector, on a broker in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred, succeed

from junebug_turn.connectors.connector import Connector
from junebug_turn.errors import AmqpConnectionError, CacheError, DeliveryExhausted
from junebug_turn.messages.vumi import Event, Message
from tests.support.connector_harness import message
from tests.support.fake_broker import FakeBroker, Published

EVENT = Event(user_message_id="m", event_type="ack", event_id="e")
ITEMS = [("inbound", message()), ("event", EVENT)]


def exhausted() -> DeliveryExhausted:
    return DeliveryExhausted(
        "503", reason="http_status", last_status=503, attempts=4, first_failure=0, last_failure=0
    )


class Bench:
    """A connector "c" with a bridge to "q"; ``faults`` are raised by the handler, one each time.

    :ivar order: what happened, in order
    """

    def __init__(self, *faults: Exception, prepare: Callable[[Message], bool] = lambda _: True) -> None:
        self.broker = FakeBroker()
        self.faults = list(faults)
        self.order: list[str] = []
        connector = Connector(cast(Any, self.broker), "c")

        def prepared(message: Message) -> Deferred[bool]:
            self.order.append("prepared")
            return succeed(prepare(message))

        connector.bridge("q", prepared)
        connector.consume(self.handle, self.handle)

    async def handle(self, item: Message | Event) -> None:
        self.order.append("handled")
        if self.faults:
            raise self.faults.pop(0)

    def headers(self) -> dict[str, Any]:
        """The headers of the last message that was published."""
        return dict(self.broker.published[-1].headers or {})

    @property
    def forwarded(self) -> list[str]:
        return [each.queue for each in self.broker.published if each.queue.startswith("q.")]


def failure(handling: Deferred[None]) -> Any:
    failures: list[Any] = []
    handling.addErrback(failures.append)
    return failures[0].value


def test_the_queues() -> None:
    """The application's queues are declared, so that nothing is lost before it runs; its outbound one is consumed."""
    broker = Bench().broker
    assert {"q.inbound", "q.event", "q.outbound", "c.outbound"} <= set(broker.declared)
    assert set(broker.handlers) == {"c.inbound", "c.event", "q.outbound"}


@pytest.mark.parametrize(("kind", "item"), ITEMS)
def test_forwarded(kind: str, item: Message | Event) -> None:
    """Inbound messages and events are forwarded, confirmed, before the handler has them and before their ack."""
    bench = Bench()
    bench.broker.confirming = False
    handling = bench.broker.deliver(f"c.{kind}", item.to_json())
    (published,) = bench.broker.published
    assert (published.queue, published.exchange, published.body) == (f"q.{kind}", "vumi", item.to_json())
    prepared = ["prepared"] * (kind == "inbound")
    assert bench.order == prepared
    published.publication.confirmed.callback(None)
    assert handling.called
    assert bench.order == [*prepared, "handled"]


def test_not_wanted() -> None:
    """An inbound message that the application doesn't want is not forwarded; all events are."""
    bench = Bench(prepare=lambda message: message.session_event != "close")
    bench.broker.deliver("c.inbound", message(session_event="close").to_json())
    assert bench.order == ["prepared", "handled"]
    bench.broker.deliver("c.event", EVENT.to_json())
    assert bench.forwarded == ["q.event"]


@pytest.mark.parametrize(("kind", "item"), ITEMS)
def test_forwarded_once(kind: str, item: Message | Event) -> None:
    """A message that comes back after a failed delivery is not forwarded again: its copy says that it was."""
    bench = Bench(exhausted(), exhausted())
    bench.broker.deliver(f"c.{kind}", item.to_json())
    for _ in range(2):
        assert bench.headers()["amqp_queue"] == "q"
        bench.broker.deliver(f"c.{kind}", item.to_json(), bench.headers())
    assert bench.forwarded == [f"q.{kind}"]
    assert bench.order.count("handled") == 3


def test_another_queue() -> None:
    """What was forwarded to another queue, since the configuration has changed, is forwarded to this one."""
    bench = Bench()
    bench.broker.deliver("c.inbound", message().to_json(), {"amqp_queue": "another"})
    assert bench.forwarded == ["q.inbound"]


def test_not_confirmed() -> None:
    """What could not be forwarded goes back to its queue before it was handled."""
    bench = Bench()
    bench.broker.fault = AmqpConnectionError("away")
    assert isinstance(failure(bench.broker.deliver("c.event", EVENT.to_json())), AmqpConnectionError)
    assert bench.order == []


@pytest.mark.parametrize(("kind", "item"), ITEMS)
def test_store_away(kind: str, item: Message | Event) -> None:
    """While a store is away what was forwarded waits in place; it is not put back, which would forward it again."""
    bench = Bench(CacheError("away"), CacheError("away"))
    handling = bench.broker.deliver(f"c.{kind}", item.to_json())
    for times in (1, 2):
        assert bench.order.count("handled") == times
        assert not handling.called
        bench.broker.reactor.advance(5)
    assert handling.called
    assert bench.forwarded == [f"q.{kind}"]


def outbound(headers: dict[str, Any] | None = None) -> Published:
    """A message of the application, forwarded; it is not even JSON."""
    bench = Bench()
    bench.broker.deliver("q.outbound", b"as it is", headers)
    (published,) = bench.broker.published
    assert (published.queue, published.exchange, published.body) == ("c.outbound", "vumi", b"as it is")
    assert published.original
    return published


def test_outbound() -> None:
    """What the application sends goes to the transport unchanged, but for headers by which the broker would route."""
    assert outbound().headers == {}
    assert outbound({"a": 1, "reason": "theirs", "CC": "x"}).headers == {"a": 1, "reason": "theirs"}


def test_outbound_not_confirmed() -> None:
    """What the broker hasn't confirmed for the transport is not acked."""
    bench = Bench()
    bench.broker.confirming = False
    handling = bench.broker.deliver("q.outbound", b"{}")
    assert not handling.called
    bench.broker.published[0].publication.confirmed.errback(AmqpConnectionError("away"))
    assert isinstance(failure(handling), AmqpConnectionError)


def test_outbound_with_headers_of_no_form() -> None:
    """Headers that can't be written again are given up, not the message."""
    bench = Bench()
    bench.broker.fault = ValueError("too large")
    assert bench.broker.deliver("q.outbound", b"{}", {"a": 1}).called
    assert [each.headers for each in bench.broker.published] == [{"a": 1}, None]

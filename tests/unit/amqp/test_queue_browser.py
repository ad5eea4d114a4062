"""The queue browser: walking through a queue, publishing, and connections that are refused or lost."""

from __future__ import annotations

from typing import Any

import pytest
from pika import frame, spec
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionLost, ConnectionRefusedError
from twisted.internet.task import Clock

from junebug_turn.amqp import queue_browser
from junebug_turn.amqp.delivery import Delivery
from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.amqp.queue_browser import BATCH, PUBLISH_TIMEOUT, QueueBrowser, Walk
from junebug_turn.errors import AmqpConnectionError
from tests.support.broker_peer import Peer, connected
from tests.support.fake_broker import Channel


def result(work: Any) -> list[Any]:
    found: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(found.append)
    return found


class Bench:
    """A browser on a connection."""

    def __init__(self) -> None:
        self.peer: Peer = connected()
        self.browser = QueueBrowser(self.peer.clock, self.peer.protocol)

    def walk(self, count: int) -> Walk:
        """A walk through a queue with so many messages."""
        found = result(self.browser.walk("q"))
        self.peer.answer(Queue_Declare=spec.Queue.DeclareOk("q", count, 0))
        walk: Walk = found[0]
        return walk

    def gets(self) -> int:
        """How many messages were asked for since the last call."""
        return [method.NAME for method in self.peer.methods()].count("Basic.Get")

    def give(self, tag: int) -> None:
        method = spec.Basic.GetOk(tag, False, "", "q", 0)
        self.peer.protocol.dataReceived(self.peer.content(method, b"%d" % tag, 1, 100))


def original(body: bytes) -> Delivery:
    """A message to copy."""
    header = frame.Header(1, len(body), spec.BasicProperties(type="a type", headers={"y": 2}))
    return Delivery(Channel(), 1, body, header.marshal()[7:-1])


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that can't be reached is one error, with its address."""

    async def refuse(*args: Any, **options: Any) -> None:
        await fail(ConnectionRefusedError())

    monkeypatch.setattr(queue_browser, "connect_to_any", refuse)
    (failure,) = result(QueueBrowser.open(Clock(), AmqpOptions(hostname="h", port=1)))
    assert failure.check(AmqpConnectionError)
    assert str(failure.value).startswith("no AMQP broker at h:1: ")


def test_walking(bench: Bench) -> None:
    """Messages come in batches, asked for at once, and no more than there were in the beginning."""
    walk = bench.walk(BATCH + 1)
    assert walk.count == BATCH + 1
    first = result(walk.fetch())
    assert bench.gets() == BATCH
    for tag in range(1, BATCH + 1):
        bench.give(tag)
    assert [delivery.body for delivery in first[0]] == [b"%d" % tag for tag in range(1, BATCH + 1)]
    last = result(walk.fetch())
    assert bench.gets() == 1
    bench.peer.send(spec.Basic.GetEmpty(), 1)
    assert last == [[]], "taken by another meanwhile"
    assert result(walk.fetch()) == [[]]
    assert bench.gets() == 0


def test_what_is_acked(bench: Bench) -> None:
    """A message that is acked is taken; the end closes the channel, which puts back the others."""
    walk = bench.walk(2)
    found = result(walk.fetch())
    bench.peer.sent()
    bench.give(1)
    bench.give(2)
    found[0][1].ack()
    ended = result(walk.end())
    ack, close = bench.peer.answer()
    assert (ack.delivery_tag, ack.multiple) == (2, False)
    assert close.NAME == "Channel.Close"
    assert ended == [None]


def test_no_such_queue(bench: Bench) -> None:
    """A queue that is not there has no walk; one that is refused is an error."""
    found = result(bench.browser.walk("q"))
    bench.peer.answer(Queue_Declare=spec.Channel.Close(404, "NOT_FOUND", 50, 10))
    assert found == [None]
    found = result(bench.browser.walk("q"))
    bench.peer.answer(Queue_Declare=spec.Channel.Close(403, "ACCESS_REFUSED", 50, 10))
    assert "the queue q can't be had: 403 ACCESS_REFUSED" in str(found[0].value)


def test_a_lost_connection(bench: Bench) -> None:
    """A connection that is lost ends a walk with an error, in the middle of it and at its end."""
    walk = bench.walk(2)
    found = result(walk.fetch())
    bench.peer.lose(ConnectionLost())
    assert found[0].check(AmqpConnectionError)
    assert "the connection to the AMQP broker is lost" in str(found[0].value)
    assert result(bench.browser.walk("q"))[0].check(AmqpConnectionError)


def test_publishing(bench: Bench) -> None:
    """A copy goes to the queue by its name, with the original's properties and its own headers, and is confirmed."""
    found = result(bench.browser.publish("q", original(b"body"), {"x": 1}))
    bench.peer.answer()
    found_too = result(bench.browser.publish("q", original(b"other"), {}))
    method, header, body = bench.peer.sent()[:3]
    assert (method.method.exchange, method.method.routing_key) == ("", "q")
    assert body.fragment == b"other"
    bench.peer.send(spec.Basic.Ack(2, True), 2)
    assert found == found_too == [None]
    assert isinstance(header, frame.Header)
    assert (header.properties.type, header.properties.headers) == ("a type", None)


def test_publishing_has_a_limit(bench: Bench) -> None:
    """A broker that takes no message for 30 s is an error."""
    found = result(bench.browser.publish("q", original(b"body"), {}))
    bench.peer.send(spec.Connection.Blocked("memory"))
    bench.peer.answer()
    for _ in range(PUBLISH_TIMEOUT):
        bench.peer.protocol.dataReceived(frame.Heartbeat().marshal())
        bench.peer.clock.advance(1)
    assert str(found[0].value) == "the broker took no message for 30 s"


def test_closing(bench: Bench) -> None:
    """The connection is closed in order."""
    closed = result(bench.browser.close())
    assert [method.NAME for method in bench.peer.answer()] == ["Connection.Close"]
    bench.peer.lose(ConnectionLost())
    assert closed == [None]

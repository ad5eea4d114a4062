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
from junebug_turn.amqp.queue_browser import BATCH, LOOK, PUBLISH_TIMEOUT, QueueBrowser, Walk
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

    def fetch(self, walk: Walk, *tags: int, waiting: int = 0) -> tuple[list[Any], int]:
        """Fetch a batch, of which these messages come; the result, and how many were asked for."""
        found = result(walk.fetch())
        asked = [call.prefetch_count for call in self.peer.answer() if call.NAME == "Basic.Qos"]
        for tag in tags:
            method = spec.Basic.Deliver("walk-1", tag, False, "e", "c.event")
            self.peer.protocol.dataReceived(self.peer.content(method, b"%d" % tag, 1, 100))
        self.answer(waiting)
        return found, sum(asked)

    def answer(self, waiting: int = 0) -> list[Any]:
        calls: list[Any] = self.peer.answer(Queue_Declare=spec.Queue.DeclareOk("q", waiting, 0))
        return calls


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
    """Messages come in batches, with their routing keys, and no more than there were in the beginning."""
    walk = bench.walk(BATCH + 2)
    assert walk.count == BATCH + 2
    tags = range(1, BATCH + 1)
    first, asked = bench.fetch(walk, *tags)
    assert asked == BATCH
    assert [delivery.body for delivery in first[0]] == [b"%d" % tag for tag in tags]
    assert {delivery.routing_key for delivery in first[0]} == {"c.event"}
    last, asked = bench.fetch(walk, BATCH + 1)
    assert (asked, last) == (2, [])
    bench.peer.clock.advance(LOOK)
    bench.answer(1)
    assert last == [], "there is another one"
    bench.peer.clock.advance(LOOK)
    bench.answer(0)
    assert [delivery.tag for delivery in last[0]] == [BATCH + 1], "another consumer took it"
    assert bench.fetch(walk) == ([[]], 0)


def test_a_queue_that_is_deleted(bench: Bench) -> None:
    """A walk ends where its queue is deleted meanwhile."""
    walk = bench.walk(2)
    found, _ = bench.fetch(walk, 1)
    bench.peer.send(spec.Basic.Cancel("walk-1"), 1)
    bench.answer()
    assert [delivery.tag for delivery in found[0]] == [1]


def test_what_is_acked(bench: Bench) -> None:
    """A message that is acked is taken; the end puts back the others, one batch after the other."""
    walk = bench.walk(BATCH + 2)
    found, _ = bench.fetch(walk, *range(1, BATCH + 1))
    found[0][-1].ack()
    found, _ = bench.fetch(walk, BATCH + 1, BATCH + 2)
    found[0][0].ack()
    bench.peer.sent()
    ended = result(walk.end())
    calls = bench.peer.answer()
    nacks = [call for call in calls if call.NAME == "Basic.Nack"]
    assert [nack.delivery_tag for nack in nacks] == [BATCH - 1, BATCH + 2]
    assert all(nack.multiple and nack.requeue for nack in nacks)
    assert [call.NAME for call in calls] == ["Basic.Nack", "Basic.Qos"] * 2 + ["Channel.Close"]
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

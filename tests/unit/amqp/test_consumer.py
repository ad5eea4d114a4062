"""A consumer: acks, requeues with a pause, cancellation, and the end."""

from __future__ import annotations

import pytest
from pika import spec
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.logger import capturedLogs, formatEvent

from junebug_turn.amqp.consumer import REQUEUE_PAUSE, Consumer
from junebug_turn.amqp.delivery import Delivery, DeliveryLost
from junebug_turn.amqp.topology import Queue, Topology
from junebug_turn.errors import AmqpConnectionError
from tests.support.broker_peer import ANSWERS, connected


class Bench:
    """A consumer of the queue "q", whose handler waits for ``handling``, by body."""

    def __init__(self) -> None:
        self.peer = connected()
        self.handling: dict[bytes, Deferred[None]] = {}
        self.consumer = Consumer(
            self.peer.clock, lambda: 1.0, Topology([Queue("q")]), Queue("q"), self.handle, 20
        )
        self.serving = Deferred.fromCoroutine(self.consumer.serve(self.peer.protocol))
        self.opened = self.peer.answer()

    async def handle(self, delivery: Delivery) -> None:
        self.handling[delivery.body] = Deferred()
        await self.handling[delivery.body]

    def deliver(self, *bodies: bytes, again: bool = False) -> None:
        assert self.consumer.channel is not None
        channel = self.consumer.channel.id
        for tag, body in enumerate(bodies, start=1):
            method = spec.Basic.Deliver("t", tag, again, "vumi", "q")
            self.peer.protocol.dataReceived(self.peer.content(method, body, channel, 100))

    def reopen(self) -> None:
        """Have the broker close the channel, and another one opened."""
        assert self.consumer.channel is not None
        self.peer.send(spec.Channel.Close(406, "PRECONDITION_FAILED", 0, 0), self.consumer.channel.id)
        self.peer.answer()
        self.peer.clock.advance(1)
        self.peer.answer()
        assert self.consumer.live

    def settled(self) -> list[tuple[str, int]]:
        """What became of deliveries since the last call."""
        methods = self.peer.methods()
        return [(each.NAME, each.delivery_tag) for each in methods if hasattr(each, "delivery_tag")]

    def stop(self, timeout: float = 5) -> Deferred[None]:
        return Deferred.fromCoroutine(self.consumer.stop(timeout))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_it_consumes(bench: Bench) -> None:
    """It sets the prefetch, and consumes with acks, once all queues are declared; then it is live."""
    names = [method.NAME for method in bench.opened]
    assert names[-3:] == ["Channel.Open", "Basic.Qos", "Basic.Consume"]
    assert "Queue.Declare" in names[:-3]
    qos, consume = bench.opened[-2:]
    assert (qos.prefetch_count, qos.global_qos) == (20, False)
    assert (consume.queue, consume.no_ack) == ("q", False)
    assert bench.consumer.live


def test_a_handler_that_returns(bench: Bench) -> None:
    """Its message is acked, when it returns; those beside it don't wait for it."""
    bench.deliver(b"a", b"b")
    assert not bench.settled()
    bench.handling[b"b"].callback(None)
    assert bench.settled() == [("Basic.Ack", 2)]
    bench.handling[b"a"].callback(None)
    assert bench.settled() == [("Basic.Ack", 1)]


@pytest.mark.parametrize("fault", [AmqpConnectionError("away"), ZeroDivisionError()])
def test_a_handler_that_raises(bench: Bench, fault: Exception) -> None:
    """Its message goes back after a pause of 5 s, and the consumer lives on."""
    bench.deliver(b"a")
    bench.handling[b"a"].errback(fault)
    assert REQUEUE_PAUSE == 5
    bench.peer.clock.advance(4.9)
    assert not bench.settled()
    bench.peer.clock.advance(0.2)
    assert bench.settled() == [("Basic.Nack", 1)]
    assert bench.consumer.live


def test_a_deleted_queue(bench: Bench) -> None:
    """A consumer that the broker cancels is not live, until its queue is consumed again; one that is not there is
    declared and bound before."""
    bench.peer.send(spec.Basic.Cancel("t", True), bench.consumer.channel.id)
    assert not bench.consumer.live
    bench.peer.answer()
    bench.peer.clock.advance(0.1)
    names: list[str] = []
    missing = True
    while calls := bench.peer.sent():
        for call in calls:
            names.append(call.method.NAME)
            if names[-1] == "Basic.Consume" and missing:
                missing = False
                refusal = spec.Channel.Close(404, "NOT_FOUND - no queue 'q'", 60, 20)
                bench.peer.send(refusal, call.channel_number)
            elif names[-1] in ANSWERS:
                bench.peer.send(ANSWERS[names[-1]], call.channel_number)
    again = names.index("Queue.Declare")
    assert names.index("Basic.Consume") < again < names.index("Queue.Bind")
    assert names[-1] == "Basic.Consume"
    assert bench.consumer.live


@pytest.mark.parametrize(
    ("there", "cause"),
    [(True, "for longer than the broker's consumer_timeout"), (False, "the queue was deleted")],
)
def test_the_cause_of_a_cancellation(bench: Bench, there: bool, cause: str) -> None:
    """The log says that the queue was deleted only where it is not there: a broker cancels a consumer too that
    holds a message for too long, and does not say which it was."""
    gone = {} if there else {"Queue_Declare": spec.Channel.Close(404, "NOT_FOUND - no queue 'q'", 50, 10)}
    with capturedLogs() as logged:
        bench.peer.send(spec.Basic.Cancel("t", True), bench.consumer.channel.id)
        look, *_ = bench.peer.answer(**gone)
    assert (look.NAME, look.queue, look.passive) == ("Queue.Declare", "q", True)
    (line,) = [formatEvent(event) for event in logged if "channel of" in (event["log_format"] or "")]
    assert cause in line
    bench.peer.clock.advance(0.1)
    bench.peer.answer()
    assert bench.consumer.live


def test_a_connection_lost_after_a_cancellation(bench: Bench) -> None:
    """A consumer whose connection is lost before the cause is known is served no more on it."""
    bench.peer.send(spec.Basic.Cancel("t", True), bench.consumer.channel.id)
    bench.peer.lose(ConnectionLost())
    assert bench.serving.called
    assert not bench.consumer.live


def pause(bench: Bench, paused: bool) -> list[str]:
    """Pause the consumer, or end that; the methods that the broker gets for it."""
    switching = Deferred.fromCoroutine(bench.consumer.pause(paused))
    names = [method.NAME for method in bench.peer.answer()]
    assert switching.called
    return names


def test_pausing(bench: Bench) -> None:
    """A paused consumer gets no messages, and handlers under way end as usual; then it goes on, on the same channel."""
    bench.deliver(b"a")
    assert pause(bench, True) == ["Basic.Cancel"]
    assert pause(bench, True) == []
    bench.handling[b"a"].callback(None)
    assert bench.settled() == [("Basic.Ack", 1)]
    assert pause(bench, False) == ["Basic.Consume"]
    bench.deliver(b"b")
    bench.handling[b"b"].callback(None)
    assert bench.settled() == [("Basic.Ack", 1)]


def test_pausing_outlives_the_channel(bench: Bench) -> None:
    """A new channel of a paused consumer consumes nothing, and that of one which isn't paused any more does."""
    pause(bench, True)
    bench.reopen()
    assert pause(bench, False) == ["Basic.Consume"]
    bench.consumer.channel.closed = True
    bench.consumer.closed("lost")
    assert pause(bench, True) == []
    bench.peer.clock.advance(1)
    assert "Basic.Consume" not in [method.NAME for method in bench.peer.answer()]
    pause(bench, False)


def test_pausing_while_the_channel_is_opened(bench: Bench) -> None:
    """A pause that comes while the channel is opened holds, as soon as it is open."""
    bench.peer.send(spec.Channel.Close(406, "PRECONDITION_FAILED", 0, 0), bench.consumer.channel.id)
    bench.peer.answer()
    bench.peer.clock.advance(1)
    calls = {call.method.NAME: call.channel_number for call in bench.peer.sent()}
    assert list(calls) == ["Channel.Open", "Basic.Qos", "Basic.Consume"], "one round trip for all"
    Deferred.fromCoroutine(bench.consumer.pause(True))
    for name, channel in calls.items():
        bench.peer.send(ANSWERS[name], channel)
    assert [method.NAME for method in bench.peer.answer()] == ["Basic.Cancel"]


def test_stopping(bench: Bench) -> None:
    """A stop cancels the consumer and waits for handlers; what comes meanwhile goes back."""
    bench.deliver(b"a")
    stopping = bench.stop()
    assert [method.NAME for method in bench.peer.answer()] == ["Basic.Cancel"]
    bench.deliver(b"late", b"later")
    assert bench.settled() == [("Basic.Nack", 1), ("Basic.Nack", 2)]
    assert not stopping.called
    bench.handling[b"a"].callback(None)
    assert stopping.called
    assert bench.settled() == [("Basic.Ack", 1)]


def test_stopping_has_a_limit(bench: Bench) -> None:
    """Handlers that don't end in time are cancelled, and their messages go back without a pause."""
    bench.deliver(b"a")
    stopping = bench.stop(5)
    bench.peer.answer()
    bench.peer.clock.advance(4.9)
    assert not stopping.called
    bench.peer.clock.advance(0.1)
    assert stopping.called
    assert bench.handling[b"a"].called
    assert bench.settled() == [("Basic.Nack", 1)]


def test_a_message_that_comes_again_while_it_is_handled(bench: Bench) -> None:
    """A message whose channel ended has one handler at a time: the one that has it already, whose result holds."""
    bench.deliver(b"a", b"b")
    handling = dict(bench.handling)
    bench.reopen()
    bench.deliver(b"b", b"a", again=True)
    assert bench.handling == handling
    handling[b"a"].callback(None)
    assert bench.settled() == [("Basic.Ack", 2)]
    bench.reopen()
    bench.deliver(b"b", again=True)
    assert bench.handling == handling
    handling[b"b"].errback(AmqpConnectionError("away"))
    bench.peer.clock.advance(5)
    assert bench.settled() == [("Basic.Nack", 1)]


def test_a_message_that_comes_again_when_it_was_handled(bench: Bench) -> None:
    """A result that came while the channel was gone holds for the redelivery: it is acked, once."""
    bench.deliver(b"a")
    handling = bench.handling.pop(b"a")
    bench.consumer.channel.closed = True
    handling.callback(None)
    bench.consumer.channel.closed = False
    bench.reopen()
    bench.deliver(b"a", again=True)
    assert bench.settled() == [("Basic.Ack", 1)]
    assert not bench.handling
    bench.deliver(b"a", again=True)
    assert b"a" in bench.handling


@pytest.mark.parametrize("pause", [0.0, 61.0])
def test_a_copy_is_another_message(bench: Bench, pause: float) -> None:
    """A result is kept for a redelivery alone, not for another message with the same body, nor for long."""
    bench.deliver(b"a")
    handling = bench.handling.pop(b"a")
    bench.consumer.channel.closed = True
    handling.callback(None)
    bench.consumer.channel.closed = False
    bench.reopen()
    bench.peer.clock.advance(pause)
    bench.deliver(b"a", again=bool(pause))
    assert b"a" in bench.handling


def test_work_that_ends_as_lost(bench: Bench) -> None:
    """A handler that ends because its channel is gone leaves its message to the redelivery, at once."""
    bench.deliver(b"a")
    handling = bench.handling.pop(b"a")
    bench.reopen()
    handling.errback(DeliveryLost())
    bench.deliver(b"a", again=True)
    assert b"a" in bench.handling
    assert not bench.settled()


def test_the_oldest_message(bench: Bench) -> None:
    """The oldest message is the one whose handler has run for longest; it is another one when that has returned."""
    assert bench.consumer.oldest is None
    bench.deliver(b"a", b"b")
    for body in (b"a", b"b"):
        oldest = bench.consumer.oldest
        assert oldest is not None
        assert oldest.body == body
        bench.handling[body].callback(None)
    assert bench.consumer.oldest is None

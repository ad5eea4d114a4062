"""All messages of a queue are dead-lettered, with a broker that the test plays."""

from __future__ import annotations

from typing import Any

from pika import frame, spec
from twisted.internet.defer import Deferred
from txamqp.client import Closed

from junebug_turn.amqp.dead_letters import LOOK, PREFETCH, dead_letter
from tests.support.broker_peer import connected


class Bench:
    """A queue that is dead-lettered; ``waiting`` is how many messages the broker says are in it.

    :ivar results: the result, when there is one
    """

    def __init__(self, waiting: int) -> None:
        self.peer = connected()
        self.results: list[Any] = []
        Deferred.fromCoroutine(dead_letter(self.peer.protocol, "q")).addBoth(self.results.append)
        self.channel = next(iter(self.peer.protocol.channels.keys() - {0}))
        self.calls = self.answer(waiting)

    def answer(self, waiting: int = 0) -> list[Any]:
        return self.peer.answer(Queue_Declare=spec.Queue.DeclareOk("q", waiting, 0))

    def deliver(self, *tags: int) -> list[int]:
        """Deliver messages; the tags of those that are rejected, each one alone and not to be put back."""
        for tag in tags:
            deliver = spec.Basic.Deliver("junebug-turn", tag, False, "e", "c.event")
            self.peer.protocol.dataReceived(self.peer.content(deliver, b"{}", self.channel, 4096))
        nacks = [value.method for value in self.peer.sent() if isinstance(value, frame.Method)]
        assert all(nack.NAME == "Basic.Nack" and not (nack.requeue or nack.multiple) for nack in nacks)
        return [nack.delivery_tag for nack in nacks]

    def look(self, waiting: int = 0) -> list[str]:
        """Let time go until the next look; the calls that are made."""
        self.peer.clock.advance(LOOK)
        return [call.NAME for call in self.answer(waiting)]


def test_all_are_rejected() -> None:
    """The messages that were there in the beginning are rejected in their order; then no more are taken, and none is
    left unacknowledged."""
    bench = Bench(3)
    qos = [call.prefetch_count for call in bench.calls if call.NAME == "Basic.Qos"]
    assert (qos, bench.calls[-1].NAME) == ([PREFETCH], "Basic.Consume")
    assert bench.deliver(1, 2) == [1, 2]
    assert bench.look() == []
    assert bench.deliver(3, 4) == [3, 4]
    assert bench.look() == ["Basic.Cancel", "Channel.Close"]
    assert bench.results == [4]


def test_an_empty_queue() -> None:
    """Nothing is consumed where nothing waits."""
    bench = Bench(0)
    assert "Basic.Consume" not in [call.NAME for call in bench.calls]
    assert bench.results == [0]


def test_others_take_them() -> None:
    """Where no more come, it ends when the queue is empty, and not before."""
    bench = Bench(3)
    assert bench.deliver(1) == [1]
    assert bench.look() == []
    assert bench.look(1) == ["Queue.Declare"]
    assert bench.look(0) == ["Queue.Declare", "Basic.Cancel", "Channel.Close"]
    assert bench.results == [1]


def test_a_cancelled_consumer() -> None:
    """It ends where the broker ends the consumer."""
    bench = Bench(3)
    bench.peer.send(spec.Basic.Cancel("junebug-turn"), bench.channel)
    assert bench.look()[-1] == "Channel.Close"
    assert bench.results == [0]


def test_a_lost_connection() -> None:
    """It ends with the connection."""
    bench = Bench(3)
    bench.deliver(1)
    bench.peer.lose(ConnectionError("lost"))
    bench.peer.clock.advance(LOOK)
    assert bench.results[0].check(Closed)

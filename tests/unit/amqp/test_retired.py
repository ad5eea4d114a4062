"""Retired queues are deleted when they are empty, and left alone where that can't be told."""

from __future__ import annotations

from pika import spec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.retired import AT_ONCE, INTERVAL, RetiredQueues
from tests.support.broker_peer import Peer, connected


class Bench:
    """Retired queues, on a new connection each time."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.peers: list[Peer] = []
        self.away = False
        self.retired = RetiredQueues(self.clock, self.connect)
        self.retired.add(["a", "b", "a"])

    async def connect(self) -> AmqpProtocol:
        if self.away:
            raise ConnectionRefusedError()
        self.peers.append(connected())
        return self.peers[-1].protocol

    def delete(self, **refusals: object) -> list[object]:
        """The queues that are asked for."""
        Deferred.fromCoroutine(self.retired.delete())
        calls = self.peers[-1].answer(Queue_Delete=refusals.get("refusal", spec.Queue.DeleteOk(0)))  # type: ignore[arg-type]
        deletions = [call for call in calls if call.NAME == "Queue.Delete"]
        assert all(call.if_unused and call.if_empty for call in deletions)
        return [call.queue for call in deletions]


def test_all_are_deleted() -> None:
    """Only what is empty and not used is deleted; then nothing more is asked for."""
    bench = Bench()
    assert bench.delete() == ["a", "b"]
    assert not bench.retired.names
    bench.clock.advance(INTERVAL)
    Deferred.fromCoroutine(bench.retired.delete())
    assert len(bench.peers) == 1


def test_one_is_not_empty() -> None:
    """Where one has a message it is tried again, after a time."""
    bench = Bench()
    refusal = spec.Channel.Close(406, "PRECONDITION_FAILED - queue not empty", 50, 40)
    assert bench.delete(refusal=refusal) == ["a", "b"]
    assert list(bench.retired.names) == ["a", "b"]
    Deferred.fromCoroutine(bench.retired.delete())
    assert len(bench.peers) == 1
    bench.clock.advance(INTERVAL)
    assert bench.delete() == ["a", "b"]


def test_very_many() -> None:
    """Of thousands each call deletes some, so that no change and no message waits for all of them."""
    bench = Bench()
    names = [*bench.retired.names, *(f"q{number}" for number in range(2 * AT_ONCE))]
    bench.retired.add(names)
    deleted = [bench.delete() for _ in range(3)]
    assert [len(each) for each in deleted] == [AT_ONCE, AT_ONCE, 2]
    assert [name for each in deleted for name in each] == names
    assert not bench.retired.names


def test_a_broker_that_is_away() -> None:
    """Where there is no connection the next call deletes them."""
    bench = Bench()
    bench.away = True
    Deferred.fromCoroutine(bench.retired.delete())
    bench.away = False
    assert bench.delete() == ["a", "b"]


def test_quorum_queues() -> None:
    """RabbitMQ closes the connection for a quorum queue: they stay."""
    bench = Bench()
    Deferred.fromCoroutine(bench.retired.delete())
    peer = bench.peers[-1]
    peer.send(spec.Channel.OpenOk(), 1)
    peer.send(spec.Connection.Close(540, "NOT_IMPLEMENTED - cannot delete quorum queue", 50, 40))
    assert not bench.retired.names

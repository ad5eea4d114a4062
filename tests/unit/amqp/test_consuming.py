"""The connections that consume: as many as the consumers need channels for."""

from __future__ import annotations

from typing import Any

import pytest
from pika import spec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock

from junebug_turn.amqp import consuming, reconnecting
from junebug_turn.amqp.broker import Broker
from junebug_turn.amqp.consumer import Consumer
from junebug_turn.amqp.delivery import Delivery
from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.amqp.topology import Queue
from tests.support.broker_peer import Peer


class Bench:
    """A service, and the broker's sides of its connections by their purpose."""

    def __init__(self, channel_max: int = 2047) -> None:
        self.clock = Clock()
        self.channel_max = channel_max
        self.peers: dict[str, Peer] = {}
        self.broker = Broker(self.clock, AmqpOptions(), rng=lambda: 1.0)

    def connect(self, factory: Any) -> Deferred[Any]:
        peer = Peer(factory.buildProtocol(None))
        self.peers[peer.protocol.properties["connection_name"].removeprefix("junebug-turn ")] = peer
        return succeed(peer.protocol)

    def consume(self, *names: str) -> list[Consumer]:
        return [self.broker.consume(Queue(name), self.handle) for name in names]

    async def handle(self, delivery: Delivery) -> None: ...

    def log_in(self, *purposes: str) -> None:
        """Have the broker take these connections, or all."""
        for purpose in purposes or tuple(self.peers):
            self.peers[purpose].connect(channel_max=self.channel_max)
            self.answer()

    def answer(self) -> None:
        for peer in self.peers.values():
            peer.answer()

    def consumed(self, purpose: str) -> list[str]:
        """Answer the calls on a connection; the queues that are consumed over it."""
        calls = self.peers[purpose].answer()
        return [call.queue for call in calls if isinstance(call, spec.Basic.Consume)]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench()
    monkeypatch.setattr(reconnecting, "_endpoint", lambda reactor, options, trust_root: bench)
    monkeypatch.setattr(consuming, "CHANNELS", 3)
    return bench


def test_more_consumers_than_channels(bench: Bench) -> None:
    """Where a connection has not enough channels for all consumers, there is another one for the others; each needs a
    channel to spare."""
    bench.consume("a", "b", "c", "d", "e")
    bench.broker.startService()
    assert set(bench.peers) == {"publishing", "consuming", "consuming 2", "consuming 3"}
    bench.log_in("publishing", "consuming", "consuming 2")
    assert not bench.broker.connected
    bench.log_in("consuming 3")
    status = bench.broker.status()
    assert (status["connected"], status.get("faults")) == (True, None)
    assert status["consumers"] == dict.fromkeys("abcde", True)
    assert bench.broker.channels_needed == 4, "the three that publish, and one to spare"


def test_consumers_that_come_later(bench: Bench) -> None:
    """A consumer that comes while the service runs has another connection where no channel is left, and the place of
    one that has gone where there is one."""
    first, _ = bench.consume("a", "b")
    bench.broker.startService()
    bench.log_in()
    bench.consume("c")
    assert "consuming 2" in bench.peers
    bench.peers["consuming 2"].connect()
    assert bench.consumed("consuming 2") == ["c"]
    stopping = Deferred.fromCoroutine(bench.broker.stop_consumer(first, 1))
    bench.answer()
    assert stopping.called
    bench.consume("d")
    assert bench.consumed("consuming") == ["d"]
    assert bench.broker.status()["consumers"] == dict.fromkeys("bcd", True)


def test_a_broker_that_allows_fewer_channels(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the broker allows counts for consumers that come once it is known; where it is too few for those before,
    the state says so."""
    monkeypatch.setattr(consuming, "CHANNELS", 100)
    bench.channel_max = 4
    bench.consume("a", "b", "c")
    bench.broker.startService()
    bench.log_in()
    assert "faults" not in bench.broker.status()
    bench.consume("d")
    assert "consuming 2" in bench.peers


def test_stopping(bench: Bench) -> None:
    """A stop closes all connections in order."""
    bench.consume("a", "b", "c")
    bench.broker.startService()
    bench.log_in()
    stopping = bench.broker.stopService()
    for peer in bench.peers.values():
        assert "Connection.Close" in [call.NAME for call in peer.answer()]
        peer.lose(ConnectionDone())
    assert stopping.called

"""A connection that is made again: logging in, time limits, delays, and stopping in order."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from pika import spec
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from junebug_turn.amqp import reconnecting
from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.amqp.reconnecting import (
    CLOSE_TIMEOUT,
    CONNECT_TIMEOUT,
    ReconnectingConnection,
    connect,
    connect_to_any,
    refusal,
)
from tests.support.broker_peer import Peer

OPTIONS = AmqpOptions(hostname="broker.example", password="s3cret")


class Network:
    """Gives each connection that is made a broker's side; while ``down``, refuses them.

    :ivar asked: the host of each attempt
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.peers: list[Peer] = []
        self.down = False
        self.asked: list[str] = []

    def of(self, options: AmqpOptions) -> Network:
        self.asked.append(options.hostname)
        return self

    def connect(self, factory: Any) -> Deferred[Any]:
        if self.down:
            return fail(ConnectionRefusedError())
        self.peers.append(Peer(factory.buildProtocol(None)))
        return succeed(self.peers[-1].protocol)

    @property
    def peer(self) -> Peer:
        """The last of them."""
        return self.peers[-1]


class User:
    """Notes what it is served with."""

    def __init__(self) -> None:
        self.protocols: list[AmqpProtocol] = []
        self.cancelled = 0
        self.over: Deferred[None] = Deferred()

    async def serve(self, protocol: AmqpProtocol) -> None:
        self.protocols.append(protocol)
        self.over = Deferred()
        try:
            await self.over
        except CancelledError:
            self.cancelled += 1
            raise


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr(reconnecting, "_endpoint", lambda reactor, options, trust_root: network.of(options))
    return network


@pytest.fixture
def connection(network: Network) -> Iterator[ReconnectingConnection]:
    connection = ReconnectingConnection(network.clock, OPTIONS, "testing", rng=lambda: 1.0)
    yield connection
    Deferred.fromCoroutine(connection.stop())


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def lines(events: list[dict[str, Any]], *starts: str) -> list[str]:
    """The log's lines that start with one of these."""
    return [event["log_format"] for event in events if (event.get("log_format") or "").startswith(starts)]


@pytest.mark.parametrize("served", [True, False], ids=["when it is served", "when it is abandoned"])
def test_a_user_that_stops_it(network: Network, connection: ReconnectingConnection, served: bool) -> None:
    """A connection that a user stops while it begins or ends is not made again."""

    class Stopping(User):
        async def serve(self, protocol: AmqpProtocol) -> None:
            if served:
                await connection.stop()
            try:
                await super().serve(protocol)
            finally:
                await connection.stop()

    connection.add(Stopping())
    connection.start()
    network.peer.connect()
    if not served:
        network.peer.protocol.connectionLost(Failure(ConnectionDone()))
    network.peer.answer()
    network.clock.advance(CLOSE_TIMEOUT)
    network.clock.pump([10] * 10)
    assert len(network.peers) == 1
    assert connection.protocol is None
    assert network.clock.getDelayedCalls() == []


def test_its_users(network: Network, connection: ReconnectingConnection) -> None:
    """Users work on the connection once it is logged in, those added later too, and on the next one."""
    first, late = User(), User()
    connection.add(first)
    connection.start()
    assert connection.protocol is None
    network.peer.connect()
    assert connection.protocol is network.peer.protocol
    connection.add(late)
    assert first.protocols == late.protocols == [network.peer.protocol]
    network.peer.lose(ConnectionDone())
    assert connection.protocol is None
    assert (first.cancelled, late.cancelled) == (1, 1)
    network.clock.advance(0.1)
    network.peer.connect()
    assert len(first.protocols) == len(late.protocols) == 2


def test_a_refused_login(
    network: Network, connection: ReconnectingConnection, logged: list[dict[str, Any]]
) -> None:
    """A refused login is one line in the log, without the password, and nothing unhandled; then it is tried again."""
    connection.start()
    peer = network.peer
    peer.send(spec.Connection.Start(server_properties={}, mechanisms="PLAIN"))
    peer.send(spec.Connection.Close(403, "ACCESS_REFUSED - Login was refused", 0, 0))
    peer.lose(ConnectionDone())
    refused = "The AMQP broker at {address} refused user {username}"
    assert len(lines(logged, refused)) == 1
    assert not [event for event in logged if "log_failure" in event]
    assert "s3cret" not in repr(logged)
    network.clock.advance(0.1)
    assert len(network.peers) == 2


def test_no_broker(
    network: Network, connection: ReconnectingConnection, logged: list[dict[str, Any]]
) -> None:
    """A refused connection is tried again, after delays that grow."""
    network.down = True
    connection.start()
    for delay in (0.1, 0.2, 0.4):
        network.clock.advance(delay)
    assert len(lines(logged, "No AMQP broker at {address}")) == 4
    network.down = False
    network.clock.advance(0.8)
    network.peer.connect()
    assert connection.protocol is not None


def test_a_time_limit(network: Network) -> None:
    """Connecting and logging in have 10 s together; then the connection is dropped."""
    found: list[str] = []
    connecting = Deferred.fromCoroutine(connect(network.clock, OPTIONS, "testing"))
    connecting.addErrback(lambda failure: found.append(refusal(failure.value)))
    peer = network.peer
    network.clock.advance(CONNECT_TIMEOUT - 1)
    peer.send(spec.Connection.Start(server_properties={}, mechanisms="PLAIN"))
    assert not peer.transport.disconnecting
    network.clock.advance(1)
    assert found == ["no answer within 10 s"]
    assert peer.transport.disconnecting


def test_a_connection_that_nobody_holds(network: Network, logged: list[dict[str, Any]]) -> None:
    """A connection that is garbage while it logs in says nothing."""
    ReconnectingConnection(network.clock, OPTIONS, "publishing", rng=lambda: 0.5).start()
    network.peers.clear()
    gc.collect()
    assert not logged


def test_a_connection_that_does_not_last(network: Network, connection: ReconnectingConnection) -> None:
    """Delays grow also when each login succeeds and the connection is lost at once; one that held starts anew."""
    connection.start()
    for delay in (0.1, 0.2, 0.4):
        network.peer.connect()
        network.peer.lose(ConnectionDone())
        made = len(network.peers)
        network.clock.advance(delay - 0.01)
        assert len(network.peers) == made
        network.clock.advance(0.02)
        assert len(network.peers) == made + 1
    network.peer.connect(heartbeat=60)
    network.clock.advance(11)
    network.peer.lose(ConnectionDone())
    network.clock.advance(0.1)
    assert len(network.peers) == 5


def test_stopping(network: Network, connection: ReconnectingConnection) -> None:
    """A stop says connection.close, waits for the answer, and no connection follows."""
    user = User()
    connection.add(user)
    connection.start()
    network.peer.connect()
    network.peer.sent()
    stopping = Deferred.fromCoroutine(connection.stop())
    assert [method.NAME for method in network.peer.answer()] == ["Connection.Close"]
    assert not stopping.called
    network.peer.lose(ConnectionDone())
    assert stopping.called
    assert user.cancelled == 1
    network.clock.advance(60)
    assert len(network.peers) == 1
    assert not network.clock.getDelayedCalls()


@pytest.mark.parametrize("down", [True, False])
def test_stopping_without_a_connection(
    network: Network, connection: ReconnectingConnection, down: bool
) -> None:
    """Between two attempts, and in the middle of one, a stop is over at once."""
    network.down = down
    connection.start()
    assert Deferred.fromCoroutine(connection.stop()).called
    assert down or network.peer.transport.disconnecting
    assert not network.clock.getDelayedCalls()


def test_a_users_fault(
    network: Network, connection: ReconnectingConnection, logged: list[dict[str, Any]]
) -> None:
    """A user that fails would be missing while the connection lives: the connection is dropped and made again."""
    user = User()
    connection.add(user)
    connection.start()
    network.peer.connect()
    user.over.errback(ZeroDivisionError())
    assert network.peer.transport.disconnecting
    assert lines(logged, "Fault on the AMQP connection")
    network.peer.lose(ConnectionDone())
    network.clock.advance(0.1)
    assert len(network.peers) == 2


def test_several_hosts(network: Network, logged: list[dict[str, Any]]) -> None:
    """Of several hosts the next one is asked when one doesn't answer, at once, and when one is lost; the delays are
    those between two rounds."""
    options = AmqpOptions(hostname="a,b:1", password="s3cret")
    connection = ReconnectingConnection(network.clock, options, "testing", rng=lambda: 1.0)
    network.down = True
    connection.start()
    assert network.asked == ["a", "b"]
    network.clock.advance(0.1)
    assert network.asked == ["a", "b"] * 2
    network.down = False
    network.clock.advance(0.2)
    assert network.asked == ["a", "b"] * 2 + ["a"]
    assert connection.address is None
    network.peer.connect()
    assert connection.address == "a:5672"
    network.peer.lose(ConnectionDone())
    network.clock.advance(0.4)
    network.peer.connect()
    assert connection.address == "b:1"
    shown = [event["address"] for event in logged if "address" in event]
    assert set(shown) == {"a:5672", "b:1"}
    Deferred.fromCoroutine(connection.stop())


def test_one_connection_to_any(network: Network) -> None:
    """A command's connection is to the first host that answers."""
    options = AmqpOptions(hostname="a,b", password="s3cret")
    network.down = True
    failed = Deferred.fromCoroutine(connect_to_any(network.clock, options, "testing"))
    assert isinstance(failed.result.value, ConnectionRefusedError)
    failed.addErrback(lambda _: None)
    assert network.asked == ["a", "b"]

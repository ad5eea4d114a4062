"""Connections that send at the end of a turn, over real sockets."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import ConnectingCancelledError, ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from zope.interface import implementer

from junebug_turn.net.endpoints import NameEndpoint
from junebug_turn.net.tcp import accept_promptly
from tests.support.daemon import reactor, until

LARGE = b"0123456789abcdef" * 500_000  # more than the buffers of a socket


class Talker(Protocol):
    """Keeps what it receives, and hears how the connection ends."""

    transport: Any

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost: Deferred[Failure] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(reason.value)


class Server(Factory):
    """Accepts connections, each of which is in ``accepted``."""

    def __init__(self, protocol: Callable[[], Talker]) -> None:
        self.protocol: Any = protocol
        self.accepted: list[Any] = []

    def buildProtocol(self, addr: Any) -> Protocol:
        self.accepted.append(self.protocol())
        return self.accepted[-1]  # type: ignore[no-any-return]


class Asked:
    """What the reactor is told to watch for room to write."""

    def __init__(self) -> None:
        self.writers: list[Any] = []

    def __call__(self, writer: Any) -> None:
        self.writers.append(writer)
        type(reactor).addWriter(reactor, writer)


@pytest.fixture
def asked() -> Iterator[Asked]:
    made = Asked()
    reactor.addWriter = made
    yield made
    del reactor.addWriter


@pytest_twisted.async_yield_fixture
async def listen() -> Any:
    """Listens, connects a plain socket, and gives both ends: the accepted protocol and the socket."""
    ports, sockets = [], []

    async def start(protocol: Callable[[], Talker] = Talker) -> tuple[Any, socket.socket]:
        factory = Server(protocol)
        port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(factory)
        accept_promptly(port)
        ports.append(port)
        client = socket.create_connection(("127.0.0.1", port.getHost().port), timeout=10)
        sockets.append(client)
        await until(lambda: bool(factory.accepted) and factory.accepted[0].transport is not None)
        return factory.accepted[0], client

    yield start
    for client in sockets:
        client.close()
    for port in ports:
        await port.stopListening()


def read(client: socket.socket, size: int | None = None) -> bytes:
    """What comes, to the end of it or to ``size`` bytes."""
    parts, missing = [], size
    while missing is None or missing > 0:
        part = client.recv(65536)
        if not part:
            break
        parts.append(part)
        missing = None if missing is None else missing - len(part)
    return b"".join(parts)


async def turn() -> None:
    """Let one turn of the reactor end."""
    await deferLater(reactor, 0)


@pytest_twisted.ensureDeferred
async def test_sent_at_the_end_of_the_turn(listen: Any, asked: Asked) -> None:
    """What is written in a turn is sent as one when the turn ends, and the reactor is not asked to watch the socket."""
    server, client = await listen()
    client.setblocking(False)
    server.transport.write(b"one ")
    server.transport.writeSequence([b"two ", b"three"])
    with pytest.raises(BlockingIOError):
        client.recv(100)
    await turn()
    assert client.recv(100) == b"one two three"
    assert asked.writers == []


@pytest_twisted.ensureDeferred
async def test_more_than_the_socket_takes(listen: Any, asked: Asked) -> None:
    """What a slow reader does not take at once comes to it all the same, in order, with what was written after it."""
    server, client = await listen()
    server.transport.write(LARGE)
    await turn()
    assert asked.writers == [server.transport]
    server.transport.write(b"and this")
    assert await deferToThread(read, client, len(LARGE) + 8) == LARGE + b"and this"
    # And then it is prompt again.
    asked.writers.clear()
    server.transport.write(b"x")
    await turn()
    assert (read(client, 1), asked.writers) == (b"x", [])


@pytest_twisted.ensureDeferred
async def test_a_producer_is_paused_and_resumed(listen: Any) -> None:
    """A streaming producer is paused while the reader is slow, and resumed when it has read."""
    heard: list[str] = []

    @implementer(IPushProducer)
    class Producer:
        def pauseProducing(self) -> None:
            heard.append("pause")

        def resumeProducing(self) -> None:
            heard.append("resume")
            server.transport.write(b"last")

        def stopProducing(self) -> None:
            heard.append("stop")

    server, client = await listen()
    server.transport.registerProducer(Producer(), True)
    server.transport.write(LARGE)
    assert heard == ["pause"]
    assert await deferToThread(read, client, len(LARGE) + 4) == LARGE + b"last"
    assert heard == ["pause", "resume"]


@pytest.mark.parametrize("data", [b"bye", LARGE])
@pytest_twisted.ensureDeferred
async def test_closed_when_sent(listen: Any, data: bytes) -> None:
    """A connection that is closed after a write sends it all, then ends."""
    server, client = await listen()
    server.transport.write(data)
    server.transport.loseConnection()
    assert await deferToThread(read, client) == data
    assert isinstance(await server.lost, ConnectionDone)


@pytest_twisted.ensureDeferred
async def test_half_closed_when_sent(listen: Any) -> None:
    """A half that is closed after a write sends it all; the other half is still open, and its end is heard."""

    @implementer(IHalfCloseableProtocol)
    class HalfClosing(Talker):
        halves = ""

        def readConnectionLost(self) -> None:
            self.halves += "r"
            self.transport.loseConnection()

        def writeConnectionLost(self) -> None:
            self.halves += "w"

    server, client = await listen(HalfClosing)
    server.transport.write(b"bye")
    server.transport.loseWriteConnection()
    assert await deferToThread(read, client) == b"bye"
    client.sendall(b"answer")
    await until(lambda: server.received == b"answer")
    client.close()
    await server.lost
    assert server.halves == "wr"


@pytest_twisted.ensureDeferred
async def test_aborted(listen: Any, asked: Asked) -> None:
    """A connection that is aborted in the turn in which it wrote ends at once, and sends nothing."""
    server, client = await listen()
    server.transport.write(b"never")
    server.transport.abortConnection()
    assert isinstance(await server.lost, ConnectionAborted)
    with pytest.raises(ConnectionResetError):
        read(client)
    server.transport.write(b"too late")
    await turn()
    assert asked.writers == []


@pytest_twisted.ensureDeferred
async def test_peer_gone(listen: Any) -> None:
    """A peer that has gone is noticed by the reactor, as ever; others that wrote in the turn are sent."""
    gone, gones = await listen()
    other, others = await listen()
    linger = (1).to_bytes(4, "little") + bytes(4)
    gones.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    gones.close()
    gone.transport.write(LARGE)
    other.transport.write(b"here")
    await gone.lost
    assert await deferToThread(read, others, 4) == b"here"


@pytest_twisted.ensureDeferred
async def test_a_fault_ends_one_connection(listen: Any) -> None:
    """A fault in what a connection calls while it sends is logged and ends that connection only."""
    bad, _ = await listen()
    other, others = await listen()

    @implementer(IPushProducer)
    class Broken:
        def pauseProducing(self) -> None:
            pass

        def resumeProducing(self) -> None:
            raise ZeroDivisionError

        def stopProducing(self) -> None:
            pass

    bad.transport.registerProducer(Broken(), True)
    bad.transport.write(b"x" * 100_000)  # more than Twisted's buffer: the producer is paused
    other.transport.write(b"here")
    with capturedLogs() as logs:
        assert isinstance(await bad.lost, ConnectionAborted)
    assert [each["log_failure"].type for each in logs if "log_failure" in each] == [ZeroDivisionError]
    assert await deferToThread(read, others, 4) == b"here"


@pytest_twisted.ensureDeferred
async def test_made_promptly(asked: Asked) -> None:
    """A connection that we make waits for the reactor until it is there, and then sends as promptly."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        port = listening.getsockname()[1]
        client: Any = await NameEndpoint(reactor, "127.0.0.1", port).connect(Factory.forProtocol(Talker))
        with closing(listening.accept()[0]) as server:
            server.settimeout(10)
            asked.writers.clear()
            client.transport.write(b"hello")
            await turn()
            assert server.recv(100) == b"hello"
            assert asked.writers == []
            client.transport.write(LARGE)
            assert len(await deferToThread(read, server, len(LARGE))) == len(LARGE)
            server.sendall(b"bye")
            await until(lambda: client.received == b"bye")
            client.transport.loseConnection()
            await client.lost


@pytest_twisted.ensureDeferred
async def test_connecting_waits_for_the_reactor(asked: Asked) -> None:
    """While a host does not answer, the reactor watches the connection, and nothing is tried again in each turn."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as listening, ExitStack() as others:
        address = listening.getsockname()
        for _ in range(4):  # more than fit into its queue: what comes now gets no answer
            other = others.enter_context(closing(socket.socket()))
            other.setblocking(False)
            other.connect_ex(address)
        connecting = NameEndpoint(reactor, *address).connect(Factory.forProtocol(Talker))
        await until(lambda: bool(asked.writers))
        for _ in range(20):
            await turn()
        assert len(asked.writers) == 1
        connecting.cancel()
        with pytest.raises(ConnectingCancelledError):
            await connecting


@pytest_twisted.ensureDeferred
async def test_nobody_listens() -> None:
    """A connection that can't be made fails as ever."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(Exception, match="refused"):
        await NameEndpoint(reactor, "127.0.0.1", port).connect(Factory.forProtocol(Talker))


@pytest_twisted.ensureDeferred
async def test_other_ports_stay(tmp_path: Any) -> None:
    """A UNIX socket's connections stay as Twisted makes them."""
    port: Any = await serverFromString(reactor, f"unix:{tmp_path}/s").listen(Server(Talker))
    before = port.transport
    accept_promptly(port)
    assert port.transport is before is not tcp.Server
    await port.stopListening()

"""A small TCP load balancer, which follows the readiness of its servers, as Kubernetes' Services do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import treq
from attrs import define, field
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

reactor: Any = _reactor

INTERVAL = 0.1
"""Seconds between looks at the readiness of a server."""


@define(eq=False)
class Server:
    """A server behind the balancer.

    :ivar ready: whether its last answer to the probe was 200
    :ivar connections: those that are open to it
    """

    port: int
    ready: bool = False
    connections: set[Protocol] = field(factory=set)


class _Half(Protocol):
    """One of two connections that are joined: what comes at one goes to the other."""

    def __init__(self, other: _Half | None = None) -> None:
        self.other = other
        self._early: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        if self.other is None:
            self._early.append(data)
        else:
            self.other.transport.write(data)

    def join(self, other: _Half) -> None:
        self.other = other
        for data in self._early:
            other.transport.write(data)

    def connectionLost(self, reason: Failure | None = None) -> None:
        if self.other is not None:
            self.other.transport.loseConnection()


class _ToServer(_Half):
    def __init__(self, server: Server, client: _Half) -> None:
        super().__init__(client)
        self._server = server

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._server.connections.discard(self)
        super().connectionLost(reason)


class Balancer(Factory):
    """Balancer: each new connection goes to the next server that is ready; one that finds none is closed.

    :param path: the path of the probe
    :ivar url: its own address
    """

    def __init__(self, ports: Sequence[int], path: str) -> None:
        self.servers = [Server(port) for port in ports]
        self.url = ""
        self._path = path
        self._turn = 0
        self._looks = [LoopingCall(self._look, server) for server in self.servers]

    async def start(self) -> None:
        self._port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self)
        self.url = f"http://127.0.0.1:{self._port.getHost().port}"
        for look in self._looks:
            look.start(INTERVAL)

    async def stop(self) -> None:
        for look in self._looks:
            look.stop()
        await self._port.stopListening()

    def _look(self, server: Server) -> Deferred[None]:
        async def look() -> None:
            try:
                url = f"http://127.0.0.1:{server.port}{self._path}"
                response = await treq.get(url, persistent=False, timeout=30)
                await response.content()
                server.ready = response.code == 200
            except Exception:
                server.ready = False

        return Deferred.fromCoroutine(look())

    def buildProtocol(self, addr: Any) -> Protocol:
        client = _Half()
        ready = [server for server in self.servers if server.ready]
        self._turn += 1
        Deferred.fromCoroutine(self._join(client, ready[self._turn % len(ready)] if ready else None))
        return client

    async def _join(self, client: _Half, server: Server | None) -> None:
        try:
            if server is None:
                raise ConnectionError("no server is ready")
            there = _ToServer(server, client)
            server.connections.add(there)
            await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", server.port), there)
            client.join(there)
        except Exception:
            if server is not None:
                server.connections.discard(there)
            # It may have its transport only after this turn.
            reactor.callLater(0, lambda: client.transport.abortConnection())

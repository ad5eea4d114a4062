"""The load balancer of the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
import treq
from twisted.internet.defer import maybeDeferred
from twisted.web.client import HTTPConnectionPool, ResponseNeverReceived
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.support.balancer import Balancer, reactor
from tests.support.daemon import until


class Server(Resource):
    """Answers with its name; its probe as a test says."""

    isLeaf = True

    def __init__(self, name: bytes) -> None:
        super().__init__()
        self.name = name
        self.ready = True
        self.port = reactor.listenTCP(0, Site(self), interface="127.0.0.1")

    def render(self, request: Any) -> bytes:
        if request.path == b"/ready" and not self.ready:
            request.setResponseCode(503)
        return self.name


@pytest_twisted.async_yield_fixture
async def servers() -> AsyncIterator[list[Server]]:
    made = [Server(b"one"), Server(b"two")]
    yield made
    for server in made:
        await maybeDeferred(server.port.stopListening)


@pytest_twisted.async_yield_fixture
async def balancer(servers: list[Server]) -> AsyncIterator[Balancer]:
    made = Balancer([server.port.getHost().port for server in servers], "/ready")
    await made.start()
    await until(lambda: all(server.ready for server in made.servers), "both servers")
    yield made
    await made.stop()


async def ask(balancer: Balancer, **options: Any) -> bytes:
    response = await treq.get(balancer.url, timeout=60, **({"persistent": False} | options))
    return bytes(await response.content())


@pytest_twisted.ensureDeferred
async def test_in_turn(balancer: Balancer) -> None:
    """New connections go to the servers in turn; one that is kept stays with its server."""
    assert {await ask(balancer), await ask(balancer)} == {b"one", b"two"}
    pool = HTTPConnectionPool(reactor)
    assert len({await ask(balancer, pool=pool, persistent=True) for _ in range(4)}) == 1
    await pool.closeCachedConnections()
    await until(
        lambda: not any(server.connections for server in balancer.servers), "the end of the connections"
    )


@pytest_twisted.ensureDeferred
async def test_readiness(balancer: Balancer, servers: list[Server]) -> None:
    """A server that is not ready, or does not listen, gets no new connection; without any server they are closed."""
    servers[0].ready = False
    await until(lambda: not balancer.servers[0].ready, "the end of its readiness")
    assert {await ask(balancer) for _ in range(4)} == {b"two"}
    await maybeDeferred(servers[1].port.stopListening)
    await until(lambda: not balancer.servers[1].ready, "the end of the other's")
    with pytest.raises(ResponseNeverReceived):
        await ask(balancer)
    servers[0].ready = True
    await until(lambda: balancer.servers[0].ready, "its readiness")
    assert await ask(balancer) == b"one"

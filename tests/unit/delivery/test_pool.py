"""The bound of idle connections to clients' hosts, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_twisted
from treq.client import HTTPClient
from twisted.internet import reactor as _reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.web.client import Agent

from junebug_turn.delivery.http_client import Clients
from junebug_turn.delivery.pool import MAX_CLIENT_CONNECTIONS, BoundedPool
from junebug_turn.net.addresses import ALL_HOSTS
from junebug_turn.net.tls import ClientTls
from tests.support.daemon import until

reactor: Any = _reactor

MOST = 5


class Answering(Protocol):
    """Answers each request with 200, and is open until the other side closes."""

    factory: Any

    def connectionMade(self) -> None:
        self.factory.open.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")  # type: ignore[union-attr]

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.open.remove(self)


class Hosts:
    """Many origins, one for each port."""

    def __init__(self, count: int) -> None:
        self.open: list[Protocol] = []
        factory: Any = Factory.forProtocol(Answering)
        factory.open, factory.noisy = self.open, False
        self.ports = [reactor.listenTCP(0, factory, interface="127.0.0.1") for _ in range(count)]

    def url(self, number: int) -> str:
        return f"http://127.0.0.1:{self.ports[number].getHost().port}/"


@pytest_twisted.async_yield_fixture
async def hosts() -> AsyncIterator[Hosts]:
    hosts = Hosts(3 * MOST)
    yield hosts
    for port in hosts.ports:
        await port.stopListening()
    await until(lambda: not hosts.open, "the end of the connections")


@pytest_twisted.ensureDeferred
async def test_bound(hosts: Hosts) -> None:
    """However many hosts clients name, so many idle connections are kept in all, the latest; and nothing of others."""
    pool = BoundedPool(reactor, MOST)
    client = HTTPClient(Agent(reactor, pool=pool))
    for number in range(len(hosts.ports)):
        await (await client.get(hosts.url(number))).content()
    await until(lambda: len(hosts.open) == MOST, "the end of the older connections")
    kept = list(hosts.open)
    for number in range(len(hosts.ports) - MOST, len(hosts.ports)):
        await (await client.get(hosts.url(number))).content()
    assert hosts.open == kept
    # private: Twisted's list of hosts shows in the memory only.
    assert len(pool._connections) <= 2 * MOST + 1
    await pool.closeCachedConnections()


def test_clients_urls() -> None:
    """The pool of clients' URLs has the bound; that of configured URLs, which are few, has none."""
    clients = Clients(reactor, ClientTls(), 50)
    pool: Any = clients.pair(ALL_HOSTS).pool
    assert isinstance(pool, BoundedPool)
    assert pool.most == MAX_CLIENT_CONNECTIONS == 50
    assert not isinstance(clients.pair(None).pool, BoundedPool)

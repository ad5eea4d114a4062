"""A failover of Redis that leaves the connections open: a real pair of servers, and an address that changes over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.threads import deferToThread
from twisted.protocols.portforward import ProxyFactory

from junebug_turn.errors import CacheError
from tests.support.daemon import until
from tests.support.store_harness import message, reactor, refused
from tests.unit.state.conftest import Lines
from tools.servers.process import free_port
from tools.servers.redis import RedisServer

Private = Callable[..., RedisServer]


class Address:
    """An address that leads to one server or another, as that of a failover does; what is connected stays so."""

    def __init__(self, server: RedisServer) -> None:
        self._factory = ProxyFactory(server.host, server.port)
        self._factory.noisy = False
        self.connections = 0
        build = self._factory.buildProtocol

        def counted(addr: Any) -> Protocol:
            self.connections += 1
            return build(addr)

        self._factory.buildProtocol = counted
        self.port = reactor.listenTCP(0, self._factory, interface="127.0.0.1")
        self.url = f"redis://127.0.0.1:{self.port.getHost().port}/0"

    def lead_to(self, server: RedisServer) -> None:
        """Lead new connections to ``server``."""
        self._factory.port = server.port


@pytest_twisted.async_yield_fixture
async def address() -> AsyncIterator[Callable[[RedisServer], Address]]:
    made: list[Address] = []

    def make(server: RedisServer) -> Address:
        made.append(Address(server))
        return made[-1]

    yield make
    for each in made:
        await each.port.stopListening()


def demote(server: RedisServer, primary: RedisServer) -> None:
    server.cli("REPLICAOF", primary.host, str(primary.port))


@pytest_twisted.ensureDeferred
async def test_failover_with_open_connections(
    private: Private, make: Any, address: Callable[[RedisServer], Address], lines: Lines
) -> None:
    """A primary that becomes a replica and keeps its connections is left at the first READONLY: the command runs again
    where the address leads by then, and nobody sees an error."""
    old, new = (private(**{"repl-diskless-sync-delay": "0"}) for _ in range(2))
    demote(new, old)
    there = address(old)
    store = await make(there.url)
    await store.store_inbound(message("before"))
    await until(lambda: "before" in new.cli("KEYS", "*"))
    new.cli("REPLICAOF", "NO", "ONE")
    there.lead_to(new)
    demote(old, new)
    for number in range(5):
        await store.store_inbound(message(f"after{number}"))
    assert await store.fetch_inbound("before") is not None
    assert store.status() == {"ok": True, "fault": None, "failures": 0, "connected": True}
    assert await deferToThread(new.cli, "EXISTS", "chan:inbound_messages:after4") == "1\n"
    assert len(lines) == 1
    assert "READONLY" in lines[0]


@pytest_twisted.ensureDeferred
async def test_many_commands_in_a_failover(
    private: Private, make: Any, address: Callable[[RedisServer], Address]
) -> None:
    """Commands that were under way over all connections run again, each over a new one."""
    old, new = private(), private()
    there = address(old)
    store = await make(there.url)
    await store.store_inbound(message("before"))
    there.lead_to(new)
    demote(old, new)
    stored = [Deferred.fromCoroutine(store.store_inbound(message(f"m{number}"))) for number in range(50)]
    for each in stored:
        await each
    assert store.status()["failures"] == 0
    assert new.cli("DBSIZE") == "50\n"


@pytest_twisted.ensureDeferred
async def test_address_that_still_leads_to_the_replica(
    private: Private, make: Any, address: Callable[[RedisServer], Address], lines: Lines
) -> None:
    """As long as the address leads to a replica there are errors, new connections no faster than a few a second, and
    two lines; when it leads to the primary the next command works."""
    old, new = private(), private()
    there = address(old)
    store = await make(there.url, cache_timeout=1)
    await store.store_inbound(message("before"))
    demote(old, new)
    began = reactor.seconds()
    while reactor.seconds() - began < 2:
        with pytest.raises(CacheError):
            await store.store_inbound(message("refused"))
        assert "READONLY" in store.status()["fault"]
    # Three connections each time, after a quarter of the timeout.
    assert there.connections <= 3 * 12
    there.lead_to(new)
    await until(lambda: store.status()["connected"])
    await store.store_inbound(message("after"))
    assert store.status()["ok"] is True
    assert len([line for line in lines if line.startswith("warn")]) == 2


@pytest_twisted.ensureDeferred
async def test_demoted_and_promoted_again(private: Private, make: Any) -> None:
    """A server that was a replica for a while is written to as soon as it is a primary again."""
    server, other = private(), private()
    store = await make(server.url)
    demote(server, other)
    await refused(store, "READONLY")
    server.cli("REPLICAOF", "NO", "ONE")
    await store.store_inbound(message("m"))


@pytest.mark.parametrize("word", ["MASTERDOWN", "NOREPLICAS"])
@pytest_twisted.ensureDeferred
async def test_other_stale_servers(
    private: Private, make: Any, address: Callable[[RedisServer], Address], word: str
) -> None:
    """A replica without its primary, and a primary without its replicas, are left for where the address leads."""
    stale, primary = private(), private()
    there = address(stale)
    store = await make(there.url)
    await store.store_inbound(message("before"))
    if word == "MASTERDOWN":
        stale.cli("CONFIG", "SET", "replica-serve-stale-data", "no")
        stale.cli("REPLICAOF", "127.0.0.1", str(free_port()))
    else:
        stale.cli("CONFIG", "SET", "min-replicas-to-write", "1")
    await refused(store, word)
    there.lead_to(primary)
    await until(lambda: store.status()["connected"])
    await store.store_inbound(message("after"))
    assert primary.cli("DBSIZE") == "1\n"

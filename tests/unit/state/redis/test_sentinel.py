"""The connection pool with Sentinel: it leads to the present primary, over a failover too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest_twisted
from twisted.internet.threads import deferToThread

from junebug_turn.state.redis.address import RedisAddress
from junebug_turn.state.redis.pool import SIZE, RedisPool
from tests.support.daemon import until
from tests.support.failover import failover
from tests.support.store_harness import reactor
from tools.servers.process import ProcessError, free_port
from tools.servers.redis import RedisServer

Connect = Callable[..., RedisPool]


@pytest_twisted.async_yield_fixture
async def connect() -> AsyncIterator[Connect]:
    """Makes and starts pools, which are stopped at the end."""
    pools: list[RedisPool] = []

    def connect(url: str) -> RedisPool:
        pools.append(RedisPool(reactor, RedisAddress.from_url(url), 2))
        pools[-1].start()
        return pools[-1]

    yield connect
    for pool in pools:
        await pool.stop()


def is_primary(server: RedisServer) -> bool:
    with suppress(ProcessError):  # a sentinel closes all connections to the server that it promotes
        return "role:master" in server.cli("INFO", "replication")
    return False


@pytest_twisted.ensureDeferred
async def test_a_failover(connect: Connect) -> None:
    """The pool is connected to the primary that the sentinels name, and to the next one when that is gone, whichever
    sentinel is gone too; a replica is never written to."""
    with failover() as found:
        primary, replica = found.servers
        pool = connect(found.url)
        await until(lambda: len(pool.pool) == SIZE, "the primary")
        assert await pool.run("set", "key", "1") == "OK"
        assert primary.cli("GET", "key") == "1\n"
        await deferToThread(found.sentinels[0].stop)
        await deferToThread(primary.stop)
        await until(lambda: is_primary(replica), "the failover")
        assert await pool.run("set", "key", "2") == "OK"
        assert replica.cli("GET", "key") == "2\n"
        assert pool.refusal is None


@pytest_twisted.ensureDeferred
async def test_logins(connect: Connect) -> None:
    """User and password in the URL are the servers'; the sentinels have their own."""
    with failover("s3cret", "s3cret-sentinel") as found:
        url = found.url.replace("//", "//:s3cret@")
        pool = connect(f"{url}?sentinel_password=s3cret-sentinel")
        assert await pool.run("ping") == "PONG"
        without = connect(url)
        await until(lambda: without.refusal, "the refusal")
        assert "NOAUTH" in (without.refusal or "")
        assert "s3cret" not in (without.refusal or "") + repr(RedisAddress.from_url(url))


@pytest_twisted.ensureDeferred
async def test_no_primary(connect: Connect) -> None:
    """A service that no sentinel knows, and sentinels that don't answer, are each named; it is tried again."""
    with failover() as found:
        port = found.sentinels[0].port
        gone = free_port()
        pool = connect(f"redis+sentinel://127.0.0.1:{gone},127.0.0.1:{port}/other")
        await until(lambda: pool.refusal, "the refusal")
        assert f"Sentinel at 127.0.0.1:{gone}: " in (pool.refusal or "")
        assert f"Sentinel at 127.0.0.1:{port} knows no service other" in (pool.refusal or "")
        found.sentinels[0].cli(
            *("SENTINEL", "MONITOR", "other", found.servers[0].host, str(found.servers[0].port), "1")
        )
        assert await pool.run("ping") == "PONG"
        assert pool.refusal is None


@pytest_twisted.ensureDeferred
async def test_a_replica_is_no_primary(connect: Connect, server: RedisServer) -> None:
    """A sentinel that names a replica, as before it has seen a failover, leads to no connection."""
    with failover() as found:
        primary, replica = found.servers
        pool = connect(found.url)
        await until(lambda: len(pool.pool) == SIZE, "the primary")
        used: list[Any] = []
        take = pool.addConnection
        pool.addConnection = lambda conn: (used.append(conn), take(conn))  # type: ignore[method-assign]
        for sentinel in found.sentinels:
            sentinel.cli("SENTINEL", "REMOVE", "mymaster")
            sentinel.cli("SENTINEL", "MONITOR", "mymaster", replica.host, str(replica.port), "3")
        primary.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await until(lambda: len(used) > SIZE, "further connections")
        assert not pool.pool

"""Redis servers, and stores in them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_twisted

from junebug_turn.state.factory import make_store
from junebug_turn.state.message_store import MessageStore
from tests.support.store_harness import reactor, redis_server
from tools.servers.redis import RedisServer


def ttl(server: RedisServer, key: str) -> int:
    """The seconds that a key has left."""
    return int(server.cli("TTL", key))


@pytest.fixture
def server() -> RedisServer:
    """The server of the test run, without any key."""
    server = redis_server()
    server.cli("FLUSHALL")
    return server


@pytest.fixture
def private() -> Iterator[Callable[..., RedisServer]]:
    """Makes servers that are the test's alone."""
    servers: list[RedisServer] = []

    def make(**options: str) -> RedisServer:
        server = RedisServer(**options)
        server.start()
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.close()


@pytest_twisted.async_yield_fixture
async def make() -> AsyncIterator[Any]:
    """Makes and starts stores, which are stopped at the end."""
    stores: list[MessageStore] = []

    async def made(url: str, remember_last: bool = False, **config: Any) -> MessageStore:
        store = make_store(
            "redis",
            {"url": url, **config},
            option="state_cache",
            connector="chan",
            clock=reactor,
            remember_last=remember_last,
        )
        await store.start()
        stores.append(store)
        return store

    yield made
    for store in stores:
        await store.stop()

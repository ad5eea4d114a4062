"""The promises of every store of channels; each test runs for Redis and for SQLite."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import ensureDeferred, gatherResults

from junebug_turn.errors import CacheError
from junebug_turn.state.channel_store import ChannelStore, Key
from junebug_turn.state.redis.address import RedisAddress
from junebug_turn.state.redis.channels import RedisChannelStore
from junebug_turn.state.sqlite.channels import SqliteChannelStore
from tests.support.store_harness import reactor, redis_server, result
from tools.servers.process import free_port

CHANNEL, ROUTER = Key.channel("c1"), Key.of_router("r1")
DESTINATION = Key.destination("r1", "d1")
PROPERTIES = {"type": "telnet", "config": {"a": [1, {"b": None}]}, "label": "Molo ☺", "x": {}}

Make = Callable[[], ChannelStore]


@pytest.fixture
def prefix() -> str:
    return uuid.uuid4().hex


@pytest.fixture(params=["redis", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path, prefix: str) -> Iterator[Make]:
    """Makes stores over the same definitions; they are stopped at the end."""
    stores: list[ChannelStore] = []

    def make() -> ChannelStore:
        store: ChannelStore
        if request.param == "redis":
            address = RedisAddress.from_url(redis_server().url)
            store = RedisChannelStore(reactor, url=address, key_prefix=prefix)
        else:
            store = SqliteChannelStore(reactor, path=str(tmp_path / "folder" / "channels.db"))
        result(store.start())
        stores.append(store)
        return store

    yield make
    for store in stores:
        result(store.stop())


async def properties(store: ChannelStore) -> dict[Key, Any]:
    return {key: found.properties for key, found in (await store.fetch()).items()}


@pytest_twisted.ensureDeferred
async def test_definitions(make: Make) -> None:
    """A definition of each kind is found again as it was, by this daemon and by another one."""
    store, other = make(), make()
    assert await properties(store) == {}
    for key in (CHANNEL, ROUTER, DESTINATION):
        assert await store.replace(key, None, PROPERTIES)
    expected = dict.fromkeys((CHANNEL, ROUTER, DESTINATION), PROPERTIES)
    assert await properties(store) == expected
    assert await properties(other) == expected
    assert await properties(make()) == expected
    assert store.status()["ok"]


@pytest_twisted.ensureDeferred
async def test_a_change(make: Make) -> None:
    """What another daemon changed is seen; a definition that was not changed is the same object."""
    store, other = make(), make()
    await store.replace(CHANNEL, None, PROPERTIES)
    await store.replace(ROUTER, None, PROPERTIES)
    before = dict(await store.fetch())
    seen = (await other.fetch())[CHANNEL]
    assert await other.replace(CHANNEL, seen, {"type": "xmpp"})
    after = await store.fetch()
    assert after[CHANNEL].properties == {"type": "xmpp"}
    assert after[ROUTER] is before[ROUTER]
    assert (await store.fetch())[CHANNEL] is after[CHANNEL]


@pytest_twisted.ensureDeferred
async def test_changes_at_once(make: Make) -> None:
    """Of two changes of one definition at once one is refused, so that none is lost."""
    store, other = make(), make()
    assert await store.replace(CHANNEL, None, PROPERTIES)
    assert not await other.replace(CHANNEL, None, {"type": "new"})
    before = (await store.fetch())[CHANNEL]
    changes = [store.replace(CHANNEL, before, {"n": 1}), other.replace(CHANNEL, before, {"n": 2})]
    stored = await gatherResults([ensureDeferred(change) for change in changes])
    assert sorted(stored) == [False, True]
    assert await properties(make()) == {CHANNEL: {"n": stored.index(True) + 1}}


@pytest_twisted.ensureDeferred
async def test_removal(make: Make) -> None:
    """What is removed is gone at once; a router with its destinations; a change of it is refused."""
    store, other = make(), make()
    for key in (CHANNEL, ROUTER, DESTINATION, Key.destination("r1", "d2"), Key.destination("r2", "d3")):
        await store.replace(key, None, PROPERTIES)
    before = (await other.fetch())[CHANNEL]
    await store.remove(Key.destination("r1", "d2"))
    assert Key.destination("r1", "d2") not in await other.fetch()
    await store.remove(CHANNEL)
    await store.remove(CHANNEL)
    assert CHANNEL not in await other.fetch()
    assert not await other.replace(CHANNEL, before, {"type": "xmpp"})
    await store.remove(ROUTER)
    await store.replace(ROUTER, None, PROPERTIES)
    found = await properties(make())
    assert CHANNEL not in found
    assert DESTINATION not in found
    assert ROUTER in found


@pytest_twisted.ensureDeferred
async def test_many(make: Make) -> None:
    """All of 300 channels are found, whatever their ids are."""
    store = make()
    keys = [Key.channel(f"{number}:☺") for number in range(300)]
    await gatherResults([ensureDeferred(store.replace(key, None, {"n": key.id})) for key in keys])
    assert await properties(make()) == {key: {"n": key.id} for key in keys}


# Redis alone


@pytest_twisted.ensureDeferred
async def test_junebugs_keys(prefix: str) -> None:
    """Definitions in Redis are in Junebug's keys, as Junebug writes them; what can't be read is left out."""
    server = redis_server()
    store = RedisChannelStore(reactor, url=RedisAddress.from_url(server.url), key_prefix=prefix)
    await store.start()
    try:
        await store.replace(CHANNEL, None, PROPERTIES)
        await store.replace(ROUTER, None, {"type": "from_address"})
        await store.replace(DESTINATION, None, {"config": {}})

        def members(key: str) -> list[str]:
            return server.cli("SMEMBERS", f"{prefix}:{key}").split()

        def value(key: str) -> Any:
            return json.loads(server.cli("--raw", "GET", f"{prefix}:{key}"))

        assert members("channels") == ["c1"]
        assert value("c1:properties") == PROPERTIES
        assert members("routers") == ["r1"]
        assert value("routers:r1") == {"type": "from_address"}
        assert members("routers:r1:destinations") == ["d1"]
        assert value("routers:r1:destinations:d1") == {"config": {}}

        server.cli("SET", f"{prefix}:old:properties", '{"type": "smpp", "config": {"system_id": "\\u00e9"}}')
        server.cli("SADD", f"{prefix}:channels", "old", "broken", "gone", "list")
        server.cli("SET", f"{prefix}:broken:properties", "{")
        server.cli("LPUSH", f"{prefix}:list:properties", "1")
        found = await properties(store)
        assert found[Key.channel("old")] == {"type": "smpp", "config": {"system_id": "é"}}
        assert {key.id for key in found} == {"c1", "r1", "d1", "old"}
    finally:
        await store.stop()


@pytest_twisted.ensureDeferred
async def test_away() -> None:
    """While the store is away each call fails in time, and the status says so, without the password."""
    address = RedisAddress.from_url(f"redis://:pass-word@127.0.0.1:{free_port()}/0")
    store = RedisChannelStore(reactor, url=address, cache_timeout=0.2)
    await store.start()
    try:
        for work in (store.fetch(), store.replace(CHANNEL, None, {}), store.remove(CHANNEL)):
            with pytest.raises(CacheError, match="the store of channels"):
                await work
        assert not store.status()["ok"]
        assert "pass-word" not in str(store.status())
    finally:
        await store.stop()

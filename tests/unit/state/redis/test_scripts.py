"""The Lua scripts: expiry, and the index of the last messages."""

from __future__ import annotations

from typing import Any

import pytest_twisted

from junebug_turn.state.packing import MAX_EVENTS
from junebug_turn.state.redis.pool import SIZE
from tests.support.store_harness import event, message, outbound
from tests.unit.state.redis.conftest import ttl
from tools.servers.redis import RedisServer


@pytest_twisted.ensureDeferred
async def test_reading_renews_the_expiry(server: RedisServer, make: Any) -> None:
    """What is read lives as long as if it were stored then, as it did in Junebug; 24 hours by default."""
    store = await make(server.url)
    await store.store_inbound(message("m1"))
    await store.store_outbound(outbound("m2"))
    keys = {"i": "chan:inbound_messages:m1", "o": "chan:outbound_messages:m2"}
    for read, key in (
        (store.fetch_inbound("m1"), keys["i"]),
        (store.fetch_outbound("m2"), keys["o"]),
        (store.fetch_events("m2"), keys["o"]),
    ):
        assert 86390 <= ttl(server, key) <= 86400
        server.cli("EXPIRE", key, "5")
        await read
        assert 86390 <= ttl(server, key) <= 86400


@pytest_twisted.ensureDeferred
async def test_all_keys_expire(server: RedisServer, make: Any) -> None:
    """No key is without an expiry."""
    store = await make(server.url, remember_last=True, timeout=50)
    await store.store_inbound(message("m1"))
    await store.store_outbound(outbound("m2"))
    await store.store_event(event("m3"))
    await store.store_note("+27", [])
    keys = server.cli("KEYS", "*").split()
    assert len(keys) == 5
    assert all(45 <= ttl(server, key) <= 50 for key in keys)


@pytest_twisted.ensureDeferred
async def test_scripts_are_loaded_again(server: RedisServer, make: Any) -> None:
    """A server that forgot the scripts is told them again."""
    store = await make(server.url)
    for _ in range(2 * SIZE):
        await store.store_inbound(message("m1"))
    server.cli("SCRIPT", "FLUSH")
    for _ in range(2 * SIZE):
        assert await store.fetch_inbound("m1") is not None
        await store.store_inbound(message("m1"))


@pytest_twisted.ensureDeferred
async def test_events_of_another_writer(server: RedisServer, make: Any) -> None:
    """Fields that are no events of ours go first where there are too many, and stop nothing."""
    store = await make(server.url)
    key = "chan:outbound_messages:m1"
    strange = ["no JSON", "[]", "3", "{}", '{"timestamp": 5}']
    for number in range(MAX_EVENTS + 5):
        server.cli("HSET", key, f"strange{number}", strange[number % len(strange)])
    await store.store_outbound(outbound("m1"))
    await store.store_event(event("m1", "e1"))
    assert int(server.cli("HLEN", key)) == MAX_EVENTS + 1
    assert server.cli("HEXISTS", key, "e1").strip() == "1"
    assert await store.fetch_outbound("m1") == outbound("m1")

"""The store in a Redis: Junebug's keys, and a server that is away, slow, full, closed to us or holds foreign things."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

from junebug_turn.errors import CacheError, ConfigError, UnreadableEntry
from junebug_turn.messages.vumi import Event
from junebug_turn.state.factory import make_store
from junebug_turn.state.message_store import OutboundRecord
from tests.support.daemon import until
from tests.support.store_harness import event, message, outbound, reactor
from tests.unit.state.redis.conftest import ttl
from tools.servers.redis import RedisServer

# As Junebug wrote them: vumi's JSON, with spaces, unsorted, and with keys that vumi's own classes add.
OLD_INBOUND = {
    "message_id": "0a1b",
    "transport_type": "ussd",
    "transport_name": "6c5f8d2f",
    "to_addr": "*120*8864#",
    "from_addr": "+27831112222",
    "to_addr_type": None,
    "from_addr_type": "msisdn",
    "group": "g",
    "content": "molo ☺",
    "session_event": "resume",
    "in_reply_to": None,
    "provider": "mtn",
    "timestamp": "2016-04-07 12:38:30.123456",
    "message_version": "20110921",
    "message_type": "user_message",
    "helper_metadata": {"session_event": None},
    "transport_metadata": {"smpp": {"sequence": 5}},
    "routing_metadata": {},
    "cache": {},
}
OLD_OUTBOUND = {
    "from": "+27123",
    "to": "+27831112222",
    "group": None,
    "content": "hi",
    "reply_to": None,
    "channel_id": "6c5f8d2f",
    "channel_data": {},
    "message_id": "2c3d",
    "timestamp": "2016-04-07 12:38:31.000000",
    "priority": "standard",
    "event_url": "http://old.example.org/e",
    "event_auth_token": "sesame",
}
OLD_EVENT = {
    "user_message_id": "2c3d",
    "event_id": "ev1",
    "event_type": "ack",
    "sent_message_id": "77",
    "timestamp": "2016-04-07 12:38:32.000001",
    "message_version": "20110921",
    "message_type": "event",
    "helper_metadata": {},
    "transport_metadata": {},
    "routing_metadata": {},
}


# Junebug's keys


@pytest.mark.parametrize("prefix", ["", "old"])
@pytest_twisted.ensureDeferred
async def test_reads_what_junebug_wrote(server: RedisServer, make: Any, prefix: str) -> None:
    """A message, an event URL and an event that Junebug stored are found again, with a key prefix too."""
    p = f"{prefix}:" if prefix else ""
    server.cli("HSET", f"{p}chan:inbound_messages:0a1b", "message", json.dumps(OLD_INBOUND))
    server.cli("HSET", f"{p}chan:outbound_messages:2c3d", "message", json.dumps(OLD_OUTBOUND))
    server.cli("HSET", f"{p}chan:outbound_messages:2c3d", "ev1", json.dumps(OLD_EVENT))
    store = await make(server.url, key_prefix=prefix)
    inbound = await store.fetch_inbound("0a1b")
    assert inbound is not None
    kept = json.loads(inbound.to_json())
    assert kept == {name: value for name, value in OLD_INBOUND.items() if name != "cache"}
    assert await store.fetch_outbound("2c3d") == OutboundRecord(
        "2c3d", "+27831112222", "http://old.example.org/e", "sesame", from_addr="+27123"
    )
    (read,) = await store.fetch_events("2c3d")
    assert json.loads(read.to_json()) == {
        "nack_reason": None,
        "delivery_status": None,
        **OLD_EVENT,
    }


@pytest.mark.parametrize("prefix", ["", "new"])
@pytest_twisted.ensureDeferred
async def test_writes_what_junebug_reads(server: RedisServer, make: Any, prefix: str) -> None:
    """What is stored stands under Junebug's keys in Junebug's form, and expires."""
    store = await make(server.url, key_prefix=prefix, inbound_ttl=100, outbound_ttl=200)
    stored = message("m1", content="☺")
    await store.store_inbound(stored)
    details = {"to": "8110", "event_url": "http://h/e", "content": "x", "message_id": "m2"}
    await store.store_outbound(outbound("m2", "http://h/e", "sesame", details=details))
    await store.store_event(event("m2", "e1"))
    p = f"{prefix}:" if prefix else ""
    inbound_key, outbound_key = f"{p}chan:inbound_messages:m1", f"{p}chan:outbound_messages:m2"
    assert sorted(server.cli("KEYS", "*").split()) == sorted([inbound_key, outbound_key])
    assert json.loads(server.cli("HGET", inbound_key, "message")) == json.loads(stored.to_json())
    assert server.cli("HKEYS", inbound_key).split() == ["message"]
    assert json.loads(server.cli("HGET", outbound_key, "message")) == {
        **details,
        "event_auth_token": "sesame",
    }
    read = Event.from_json(server.cli("HGET", outbound_key, "e1").encode())
    assert (read.event_id, read.user_message_id) == ("e1", "m2")
    assert 95 <= ttl(server, inbound_key) <= 100
    assert 195 <= ttl(server, outbound_key) <= 200


@pytest_twisted.ensureDeferred
async def test_an_event_makes_no_message_known(server: RedisServer, make: Any) -> None:
    """A hash without the field message, which an event made, is no known message, whatever the event's id is."""
    store = await make(server.url)
    server.cli("HSET", "chan:outbound_messages:2c3d", "ev1", json.dumps(OLD_EVENT))
    assert await store.fetch_outbound("2c3d") is None
    await store.store_event(event("2c3d", "message"))
    assert await store.fetch_outbound("2c3d") is None
    assert {one.event_id for one in await store.fetch_events("2c3d")} == {"ev1", "message"}


# Faults


@pytest_twisted.ensureDeferred
async def test_away(private: Callable[..., RedisServer], make: Any) -> None:
    """A server that is away fails operations in time and keeps nothing waiting; one that comes back is used again."""
    server = private()
    store = await make(server.url, cache_timeout=0.3)
    await store.store_inbound(message("m1"))
    server.stop()
    await until(lambda: not store.status()["connected"])
    began = reactor.seconds()
    for _ in range(3):
        with pytest.raises(CacheError):
            await store.store_inbound(message("m2"))
    assert reactor.seconds() - began < 2
    status = store.status()
    assert (status["ok"], status["failures"]) == (False, 3)
    await until(lambda: "refused" in str(store.status()["fault"]))
    server.start()
    await until(lambda: store.status()["connected"])
    # What was stored before is there again.
    assert await store.fetch_inbound("m1") is not None
    assert store.status() == {"ok": True, "fault": None, "failures": 3, "connected": True}


@pytest_twisted.ensureDeferred
async def test_away_at_the_start(private: Callable[..., RedisServer], make: Any) -> None:
    """A store starts without its server, says that it isn't well, and finds the server when it comes."""
    server = private()
    server.stop()
    store = await make(server.url, cache_timeout=10)
    assert store.status()["ok"] is False
    waiting = Deferred.fromCoroutine(store.store_inbound(message("m1")))
    server.start()
    # An operation waits for the server, within its time.
    await waiting
    assert store.status()["ok"] is True


@pytest_twisted.ensureDeferred
async def test_hanging(private: Callable[..., RedisServer], make: Any) -> None:
    """A server that doesn't answer holds an operation no longer than cache_timeout; its connections are given up."""
    server = private()
    store = await make(server.url, cache_timeout=0.3)
    await store.store_inbound(message("m1"))

    def connections() -> set[str]:
        clients = server.cli("CLIENT", "LIST").splitlines()
        return {client.split()[0] for client in clients if "cmd=client" not in client}

    before = connections()
    server.cli("CLIENT", "PAUSE", "900", "ALL")
    began = reactor.seconds()
    with pytest.raises(CacheError):
        await store.fetch_inbound("m1")
    assert reactor.seconds() - began < 0.6

    results: list[object] = []
    while not results or isinstance(results[-1], CacheError):
        assert reactor.seconds() - began < 10
        try:
            results.append(await store.fetch_inbound("m1"))
        except CacheError as error:
            results.append(error)
    assert results[-1] is not None
    assert store.status()["ok"] is True
    assert not before <= connections()


@pytest_twisted.ensureDeferred
async def test_a_peer_that_never_speaks(make: Any) -> None:
    """An operation is bounded when the peer accepts connections and says nothing to AUTH."""
    listening = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
    store = await make(f"redis://:secret@127.0.0.1:{listening.getHost().port}", cache_timeout=0.2)
    with pytest.raises(CacheError):
        await store.fetch_inbound("m1")
    await store.stop()
    await listening.stopListening()


@pytest_twisted.ensureDeferred
async def test_wrong_password_for_a_while(private: Callable[..., RedisServer], make: Any) -> None:
    """A password that is refused is named in the status without being shown; once it is right the store works."""
    server = private(requirepass="right")
    store = await make(f"redis://:secret@{server.host}:{server.port}", cache_timeout=0.5)
    await until(lambda: "could not auth" in str(store.status()["fault"]))
    assert "secret" not in str(store.status())
    with pytest.raises(CacheError):
        await store.store_inbound(message("m1"))
    server.cli("-a", "right", "--no-auth-warning", "CONFIG", "SET", "requirepass", "secret")
    await until(lambda: store.status()["connected"])
    await store.store_inbound(message("m1"))


@pytest_twisted.ensureDeferred
async def test_full(private: Callable[..., RedisServer], make: Any) -> None:
    """A server without memory left fails what stores, while reading goes on; the fault is told."""
    server = private()
    store = await make(server.url)
    await store.store_outbound(outbound("m1", "http://h/"))
    server.cli("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(CacheError):
        await store.store_outbound(outbound("m2", "http://h/"))
    assert "OOM" in str(store.status()["fault"])
    assert await store.fetch_outbound("m1") is not None


@pytest_twisted.ensureDeferred
async def test_foreign_values(server: RedisServer, make: Any) -> None:
    """A key of a wrong type or with no JSON: an inbound message is unknown, an outbound one is told apart from that."""
    store = await make(server.url, remember_last=True)
    for kind in ("inbound", "outbound"):
        server.cli("SET", f"chan:{kind}_messages:typed", "x")
        for name, value in (("text", "{"), ("list", "[1]"), ("bytes", "\udcff")):
            server.cli("HSET", f"chan:{kind}_messages:{name}", "message", value)
    server.cli("SADD", "chan:menus:+27", "x")
    server.cli("SET", "chan:menus:+28", "x")
    server.cli("SADD", "chan:last_inbound:+27", "x")
    for name in ("typed", "text", "list", "bytes"):
        assert await store.fetch_inbound(name) is None
        with pytest.raises(UnreadableEntry):
            await store.fetch_outbound(name)
    assert await store.fetch_note("+27") is None
    assert await store.fetch_note("+28") is None
    assert await store.fetch_last_inbound("+27") is None
    with pytest.raises(CacheError):
        await store.store_outbound(outbound("typed"))
    server.cli("HSET", "chan:outbound_messages:m", "e1", "{")
    await store.store_event(event("m", "e2"))
    assert [one.event_id for one in await store.fetch_events("m")] == ["e2"]


@pytest_twisted.ensureDeferred
async def test_numbers_stay_texts(server: RedisServer, make: Any) -> None:
    """A large message, and texts that look like numbers, come back as they were."""
    store = await make(server.url)
    for content in ("1", "-1.5", "+27", "", "x" * 300_000, "\r\n$5\r\n"):
        stored = message("1", content=content)
        await store.store_inbound(stored)
        assert await store.fetch_inbound("1") == stored


def test_url_is_required() -> None:
    """Without url there is no store."""
    with pytest.raises(ConfigError, match=r"^state_cache_config\.url: required option$"):
        make_store("redis", {}, option="state_cache", connector="c", clock=reactor)

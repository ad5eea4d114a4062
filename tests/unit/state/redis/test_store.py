"""The cache in a Redis: Junebug's keys, and a server that is away, slow, full, closed to us or holds foreign things."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography.hazmat.primitives import serialization
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import trustRootFromCertificates

from junebug_turn.errors import CacheError, ConfigError, UnreadableEntry
from junebug_turn.messages.vumi import Event
from junebug_turn.state.factory import make_store
from junebug_turn.state.message_store import MessageStore, OutboundRecord
from junebug_turn.state.redis.address import RedisAddress
from junebug_turn.state.redis.pool import SIZE
from junebug_turn.state.redis.store import RedisStore
from tests.support.certificates import self_signed
from tests.support.daemon import until
from tests.support.store_harness import reactor, redis_server
from tests.unit.state.test_message_store import event, message, outbound
from tools.servers.process import free_port
from tools.servers.redis import RedisServer

pytestmark = pytest.mark.usefixtures("empty")

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


@pytest.fixture
def empty() -> None:
    redis_server().cli("FLUSHALL")


@pytest.fixture
def server() -> RedisServer:
    return redis_server()


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
    caches: list[MessageStore] = []

    async def made(url: str, remember_last: bool = False, **config: Any) -> MessageStore:
        cache = make_store(
            "redis",
            {"url": url, **config},
            option="state_cache",
            connector="chan",
            clock=reactor,
            remember_last=remember_last,
        )
        await cache.start()
        caches.append(cache)
        return cache

    yield made
    for cache in caches:
        await cache.stop()


def ttl(server: RedisServer, key: str) -> int:
    return int(server.cli("TTL", key))


# Junebug's keys


@pytest.mark.parametrize("prefix", ["", "old"])
@pytest_twisted.ensureDeferred
async def test_reads_what_junebug_wrote(server: RedisServer, make: Any, prefix: str) -> None:
    """A message, an event URL and an event that Junebug stored are found again, with a key prefix too."""
    p = f"{prefix}:" if prefix else ""
    server.cli("HSET", f"{p}chan:inbound_messages:0a1b", "message", json.dumps(OLD_INBOUND))
    server.cli("HSET", f"{p}chan:outbound_messages:2c3d", "message", json.dumps(OLD_OUTBOUND))
    server.cli("HSET", f"{p}chan:outbound_messages:2c3d", "ev1", json.dumps(OLD_EVENT))
    cache = await make(server.url, key_prefix=prefix)
    inbound = await cache.fetch_inbound("0a1b")
    assert inbound is not None
    kept = json.loads(inbound.to_json())
    assert kept == {name: value for name, value in OLD_INBOUND.items() if name != "cache"}
    assert await cache.fetch_outbound("2c3d") == OutboundRecord(
        "2c3d", "+27831112222", "http://old.example.org/e", "sesame"
    )
    (read,) = await cache.fetch_events("2c3d")
    assert json.loads(read.to_json()) == {
        "nack_reason": None,
        "delivery_status": None,
        **OLD_EVENT,
    }


@pytest.mark.parametrize("prefix", ["", "new"])
@pytest_twisted.ensureDeferred
async def test_writes_what_junebug_reads(server: RedisServer, make: Any, prefix: str) -> None:
    """What is stored stands under Junebug's keys in Junebug's form, and expires."""
    cache = await make(server.url, key_prefix=prefix, inbound_ttl=100, outbound_ttl=200)
    stored = message("m1", content="☺")
    await cache.store_inbound(stored)
    details = {"to": "8110", "event_url": "http://h/e", "content": "x", "message_id": "m2"}
    await cache.store_outbound(outbound("m2", "http://h/e", "sesame", details=details))
    await cache.store_event(event("m2", "e1"))
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
async def test_reading_renews_the_expiry(server: RedisServer, make: Any) -> None:
    """What is read lives as long as if it were stored then, as it did in Junebug; 24 hours by default."""
    cache = await make(server.url)
    await cache.store_inbound(message("m1"))
    await cache.store_outbound(outbound("m2"))
    keys = {"i": "chan:inbound_messages:m1", "o": "chan:outbound_messages:m2"}
    for read, key in (
        (cache.fetch_inbound("m1"), keys["i"]),
        (cache.fetch_outbound("m2"), keys["o"]),
        (cache.fetch_events("m2"), keys["o"]),
    ):
        assert 86390 <= ttl(server, key) <= 86400
        server.cli("EXPIRE", key, "5")
        await read
        assert 86390 <= ttl(server, key) <= 86400


@pytest_twisted.ensureDeferred
async def test_an_event_makes_no_message_known(server: RedisServer, make: Any) -> None:
    """A hash without the field message, which an event made, is no known message, whatever the event's id is."""
    cache = await make(server.url)
    server.cli("HSET", "chan:outbound_messages:2c3d", "ev1", json.dumps(OLD_EVENT))
    assert await cache.fetch_outbound("2c3d") is None
    await cache.store_event(event("2c3d", "message"))
    assert await cache.fetch_outbound("2c3d") is None
    assert {one.event_id for one in await cache.fetch_events("2c3d")} == {"ev1", "message"}


@pytest_twisted.ensureDeferred
async def test_all_keys_expire(server: RedisServer, make: Any) -> None:
    """No key is without an expiry."""
    cache = await make(server.url, remember_last=True, timeout=50)
    await cache.store_inbound(message("m1"))
    await cache.store_outbound(outbound("m2"))
    await cache.store_event(event("m3"))
    await cache.store_note("+27", [])
    keys = server.cli("KEYS", "*").split()
    assert len(keys) == 5
    assert all(45 <= ttl(server, key) <= 50 for key in keys)


# Faults


@pytest_twisted.ensureDeferred
async def test_away(private: Callable[..., RedisServer], make: Any) -> None:
    """A server that is away fails operations in time and keeps nothing waiting; one that comes back is used again."""
    server = private()
    cache = await make(server.url, cache_timeout=0.3)
    await cache.store_inbound(message("m1"))
    server.stop()
    await until(lambda: not cache.status()["connected"])
    began = reactor.seconds()
    for _ in range(3):
        with pytest.raises(CacheError):
            await cache.store_inbound(message("m2"))
    assert reactor.seconds() - began < 2
    assert cache._pool.waiting == {}
    status = cache.status()
    assert (status["ok"], status["failures"], status["fault"]) == (False, 3, "no answer within 0.3 s")
    server.start()
    await until(lambda: cache.status()["connected"])
    # What was stored before is there again.
    assert await cache.fetch_inbound("m1") is not None
    assert cache.status() == {"ok": True, "fault": None, "failures": 3, "connected": True}


@pytest_twisted.ensureDeferred
async def test_away_at_the_start(private: Callable[..., RedisServer], make: Any) -> None:
    """A cache starts without its server, says that it isn't well, and finds the server when it comes."""
    server = private()
    server.stop()
    cache = await make(server.url, cache_timeout=10)
    assert cache.status()["ok"] is False
    waiting = Deferred.fromCoroutine(cache.store_inbound(message("m1")))
    server.start()
    # An operation waits for the server, within its time.
    await waiting
    assert cache.status()["ok"] is True


@pytest_twisted.ensureDeferred
async def test_lost_connections_leave_nothing(server: RedisServer, make: Any) -> None:
    """Connections that are lost are replaced, not collected."""
    cache = await make(server.url)
    await cache.store_inbound(message("m1"))
    for _ in range(3):
        await until(lambda: len(cache._pool.pool) == SIZE)
        server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await until(lambda: not cache._pool.pool)
    await until(lambda: len(cache._pool.pool) == SIZE)
    assert cache._pool.connectionQueue.pending == []
    assert await cache.fetch_inbound("m1") is not None


@pytest_twisted.ensureDeferred
async def test_hanging(private: Callable[..., RedisServer], make: Any) -> None:
    """A server that doesn't answer holds an operation no longer than cache_timeout; its connections are given up."""
    server = private()
    cache = await make(server.url, cache_timeout=0.3)
    await cache.store_inbound(message("m1"))
    before = set(cache._pool.pool)
    server.cli("CLIENT", "PAUSE", "900", "ALL")
    began = reactor.seconds()
    with pytest.raises(CacheError):
        await cache.fetch_inbound("m1")
    assert reactor.seconds() - began < 0.6
    await until(lambda: not before <= set(cache._pool.pool))

    results: list[object] = []
    while not results or isinstance(results[-1], CacheError):
        assert reactor.seconds() - began < 10
        try:
            results.append(await cache.fetch_inbound("m1"))
        except CacheError as error:
            results.append(error)
    assert results[-1] is not None
    assert cache.status()["ok"] is True


class _Silent(Protocol):
    pass


@pytest_twisted.ensureDeferred
async def test_a_peer_that_never_speaks(make: Any) -> None:
    """Stopping is bounded, and an operation too, when the peer accepts connections and says nothing to AUTH."""
    listening = reactor.listenTCP(0, Factory.forProtocol(_Silent), interface="127.0.0.1")
    cache = await make(f"redis://:secret@127.0.0.1:{listening.getHost().port}", cache_timeout=0.2)
    with pytest.raises(CacheError):
        await cache.fetch_inbound("m1")
    await cache.stop()
    await listening.stopListening()


@pytest_twisted.ensureDeferred
async def test_wrong_password_for_a_while(private: Callable[..., RedisServer], make: Any) -> None:
    """A password that is refused is named in the status without being shown; once it is right the cache works."""
    server = private(requirepass="right")
    cache = await make(f"redis://:secret@{server.host}:{server.port}", cache_timeout=0.5)
    with pytest.raises(CacheError):
        await cache.store_inbound(message("m1"))
    assert "could not auth" in cache._pool.refusal
    assert "secret" not in str(cache.status()) + cache._pool.refusal
    server.cli("-a", "right", "--no-auth-warning", "CONFIG", "SET", "requirepass", "secret")
    await until(lambda: cache.status()["connected"])
    await cache.store_inbound(message("m1"))


@pytest_twisted.ensureDeferred
async def test_full(private: Callable[..., RedisServer], make: Any) -> None:
    """A server without memory left fails what stores, while reading goes on; the fault is told."""
    server = private()
    cache = await make(server.url)
    await cache.store_outbound(outbound("m1", "http://h/"))
    server.cli("CONFIG", "SET", "maxmemory", "1mb")
    with pytest.raises(CacheError):
        await cache.store_outbound(outbound("m2", "http://h/"))
    assert "OOM" in str(cache.status()["fault"])
    assert await cache.fetch_outbound("m1") is not None


@pytest_twisted.ensureDeferred
async def test_foreign_values(server: RedisServer, make: Any) -> None:
    """A key of a wrong type or with no JSON: an inbound message is unknown, an outbound one is told apart from that."""
    cache = await make(server.url, remember_last=True)
    for kind in ("inbound", "outbound"):
        server.cli("SET", f"chan:{kind}_messages:typed", "x")
        for name, value in (("text", "{"), ("list", "[1]"), ("bytes", "\udcff")):
            server.cli("HSET", f"chan:{kind}_messages:{name}", "message", value)
    server.cli("SADD", "chan:menus:+27", "x")
    server.cli("SET", "chan:menus:+28", "x")
    server.cli("SADD", "chan:last_inbound:+27", "x")
    for name in ("typed", "text", "list", "bytes"):
        assert await cache.fetch_inbound(name) is None
        with pytest.raises(UnreadableEntry):
            await cache.fetch_outbound(name)
    assert await cache.fetch_note("+27") is None
    assert await cache.fetch_note("+28") is None
    assert await cache.fetch_last_inbound("+27") is None
    with pytest.raises(CacheError):
        await cache.store_outbound(outbound("typed"))
    server.cli("HSET", "chan:outbound_messages:m", "e1", "{")
    await cache.store_event(event("m", "e2"))
    assert [one.event_id for one in await cache.fetch_events("m")] == ["e2"]


@pytest_twisted.ensureDeferred
async def test_numbers_stay_texts(server: RedisServer, make: Any) -> None:
    """A large message, and texts that look like numbers, come back as they were."""
    cache = await make(server.url)
    for content in ("1", "-1.5", "+27", "", "x" * 300_000, "\r\n$5\r\n"):
        stored = message("1", content=content)
        await cache.store_inbound(stored)
        assert await cache.fetch_inbound("1") == stored


@pytest_twisted.ensureDeferred
async def test_scripts_are_loaded_again(server: RedisServer, make: Any) -> None:
    """A server that forgot the scripts is told them again."""
    cache = await make(server.url)
    for _ in range(2 * SIZE):
        await cache.store_inbound(message("m1"))
    server.cli("SCRIPT", "FLUSH")
    for _ in range(2 * SIZE):
        assert await cache.fetch_inbound("m1") is not None
        await cache.store_inbound(message("m1"))


# Addresses


@pytest_twisted.ensureDeferred
async def test_database_and_user(private: Callable[..., RedisServer], make: Any) -> None:
    """User and password are percent-decoded, and the URL's database is used."""
    server = private(requirepass="admin")
    cli = ("-a", "admin", "--no-auth-warning")
    server.cli(*cli, "ACL", "SETUSER", "vu:mi", "on", ">p@ss/#", "~*", "+@all")
    cache = await make(f"redis://vu%3Ami:p%40ss%2F%23@{server.host}:{server.port}/3")
    await cache.store_inbound(message("m1"))
    assert server.cli(*cli, "-n", "3", "DBSIZE").strip() == "1"


@pytest_twisted.ensureDeferred
async def test_socket_file(server: RedisServer, make: Any) -> None:
    """unix:// is a socket file."""
    cache = await make(f"unix://{server.socket}?db=2")
    await cache.store_inbound(message("m1"))
    assert server.cli("-n", "2", "DBSIZE").strip() == "1"
    server.cli("-n", "2", "FLUSHDB")


@pytest.mark.parametrize("trusted", [True, False])
@pytest_twisted.ensureDeferred
async def test_tls(private: Callable[..., RedisServer], tmp_path: Path, trusted: bool) -> None:
    """rediss:// speaks TLS, only with a server whose certificate is good for its host."""
    certificate = self_signed("localhost")
    pem, key = tmp_path / "c.pem", tmp_path / "k.pem"
    pem.write_bytes(certificate.dumpPEM())
    private_key = certificate.privateKey.original.to_cryptography_key()
    key.write_bytes(
        private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    port = free_port()
    private(
        **{
            "tls-port": str(port),
            "tls-cert-file": str(pem),
            "tls-key-file": str(key),
            "tls-auth-clients": "no",
        }
    )
    cache = RedisStore(
        reactor,
        url=RedisAddress.from_url(f"rediss://localhost:{port}"),
        connector="c",
        cache_timeout=1,
        trust_root=trustRootFromCertificates([certificate]) if trusted else None,
    )
    await cache.start()
    if trusted:
        await cache.store_inbound(message("m1"))
    else:
        with pytest.raises(CacheError):
            await cache.store_inbound(message("m1"))
    await cache.stop()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", RedisAddress("h", 6379, None, False, 0, None, None)),
        ("redis://h:1/", RedisAddress("h", 1, None, False, 0, None, None)),
        ("redis://[::1]:1/5", RedisAddress("::1", 1, None, False, 5, None, None)),
        ("redis://:p%20@h?db=4", RedisAddress("h", 6379, None, False, 4, None, "p ")),
        ("rediss://u:p@h/0", RedisAddress("h", 6379, None, True, 0, "u", "p")),
        ("unix:///a%20b", RedisAddress("", 6379, "/a b", False, 0, None, None)),
        ("unix://u:p@/a?db=1", RedisAddress("", 6379, "/a", False, 1, "u", "p")),
    ],
)
def test_urls(url: str, address: RedisAddress) -> None:
    """A URL names host or socket file, port, TLS, database, user and password."""
    assert RedisAddress.from_url(url) == address
    assert "p " not in repr(address)


@pytest.mark.parametrize(
    "url",
    [
        *(5, None, "", "h:6379", "http://h", "redis://", "redis:///1", "redis://h:0", "redis://h:x"),
        *("redis://h/x", "redis://h/1?db=2", "redis://h?x=1", "redis://h/-1", "redis://h#f", "redis://u@h"),
        *("unix://h/p", "unix://", "unix:///", "redis://:%ff@h", "redis://h 1", "redis://h/²"),
    ],
)
def test_bad_urls(url: Any) -> None:
    """A URL that can't be used is a line that doesn't show it."""
    with pytest.raises(ConfigError) as caught:
        make_store("redis", {"url": url}, option="state_cache", connector="c", clock=reactor)
    (line,) = caught.value.lines
    assert line.startswith("state_cache_config.url: must ")


def test_url_is_required() -> None:
    """Without url there is no cache."""
    with pytest.raises(ConfigError, match=r"^state_cache_config\.url: required option$"):
        make_store("redis", {}, option="state_cache", connector="c", clock=reactor)

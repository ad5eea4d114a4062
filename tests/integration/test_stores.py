"""The daemon with each of its message stores: status, Junebug's keys, failures, restarts, and several processes."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
import treq
from pika.adapters.blocking_connection import BlockingChannel
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.task import deferLater
from twisted.web.client import HTTPConnectionPool

from junebug_turn.amqp import consumer
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.state.message_store import OutboundRecord
from tests.integration.test_outage import Process
from tests.support.daemon import running
from tests.support.store_harness import reactor, redis_server
from tools.servers.process import free_port
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver
from tools.servers.redis import RedisServer

PATH = "/channels/c"

# The whole proof of several processes takes a minute: LARGE=1 in the environment, or `make large`.
MESSAGES = 5000 if os.environ.get("LARGE") else 600


def inbound(number: int = 1) -> Message:
    return Message(
        to_addr="8110",
        from_addr=f"+27{number:06}",
        transport_name="t",
        transport_type="sms",
        content=str(number),
    )


def ack(message_id: str, **fields: Any) -> Event:
    return Event(user_message_id=message_id, event_type="ack", sent_message_id="1", **fields)


def options(receiver: Receiver, **changes: Any) -> dict[str, Any]:
    return {
        "base_url_path": PATH,
        "mo_message_url": receiver.url("/inbound"),
        "default_from_addr": "8110",
        "retry_delay_base": 0,
        **changes,
    }


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A server that is the test's alone."""
    with RedisServer() as server:
        yield server


Start = Callable[..., Any]


@pytest.fixture
def started(
    rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel, receiver: Receiver
) -> Start:
    """``async with started(kind, config)`` is the daemon with that store."""

    def start(kind: str, config: dict[str, Any], application: str = "junebug", **changes: Any) -> Any:
        name = "message_cache" if application == "turn" else "state_cache"
        extra = options(receiver) if application == "junebug" else {}
        extra |= {f"{name}_class": kind, f"{name}_config": config, **changes}
        return running(rabbitmq, connector_name, pika_channel, receiver, application, **extra)

    return start


def config_of(kind: str, folder: Path) -> dict[str, Any]:
    return {
        "memory": {},
        "redis": {"url": redis_server().url},
        "sqlite": {"path": str(folder / "cache.db")},
    }[kind]


# Message status


@pytest.mark.parametrize("kind", ["memory", "redis", "sqlite"])
@pytest_twisted.ensureDeferred
async def test_status(started: Start, tmp_path: Path, kind: str) -> None:
    """A message's status has its events in the form of the event API, by time, a redelivered one once."""
    async with started(kind, config_of(kind, tmp_path)) as side:
        sent = await side.post({"to": "+27", "content": "c", "event_url": side.receiver.url("/e")})
        message_id = sent.body["result"]["message_id"]
        at = inbound().timestamp.replace(microsecond=0)
        delivered = Event(
            user_message_id=message_id,
            event_type="delivery_report",
            delivery_status="delivered",
            timestamp=at.replace(year=2031),
        )
        first = ack(message_id, timestamp=at.replace(year=2030))
        for event in (delivered, first, first):
            side.publish("event", event)
        await side.receiver.received(3)
        answer = await side.request("GET", f"{PATH}/messages/{message_id}")
        events = [
            {
                "event_type": kind,
                "message_id": message_id,
                "channel_id": side.connector,
                "timestamp": f"{year}{at:-%m-%d %H:%M:%S}.000000",
                "event_details": {},
            }
            for kind, year in (("submitted", 2030), ("delivery_succeeded", 2031))
        ]
        assert answer.body == {
            "status": 200,
            "code": "OK",
            "description": "message status",
            "result": {
                "id": message_id,
                "last_event_type": "delivery_succeeded",
                "last_event_timestamp": events[1]["timestamp"],
                "events": events,
            },
        }
        assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("kind", ["memory", "redis", "sqlite"])
@pytest_twisted.ensureDeferred
async def test_status_of_the_unknown(started: Start, tmp_path: Path, kind: str) -> None:
    """An unknown message has a status of nulls and no events."""
    async with started(kind, config_of(kind, tmp_path)) as side:
        answer = await side.request("GET", f"{PATH}/messages/nobody%20knows")
        assert answer.status == 200
        assert answer.body["result"] == {
            "id": "nobody knows",
            "last_event_type": None,
            "last_event_timestamp": None,
            "events": [],
        }
        other = await side.request("POST", f"{PATH}/messages/x", b"{}")
        assert (other.status, other.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("kind", ["memory", "redis", "sqlite"])
@pytest_twisted.ensureDeferred
async def test_deep_values(started: Start, tmp_path: Path, kind: str) -> None:
    """What was accepted can be read: an event that is as deep as events can be finds its message, which is as deep as
    max_json_depth allows, and stands in the status; a deep inbound message is replied to."""

    def nested(levels: int) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for _ in range(levels - 1):
            value = {"a": value}
        return value

    async with started(kind, config_of(kind, tmp_path), limits_max_json_depth=200) as side:
        url = side.receiver.url("/e")
        sent = await side.post({"to": "+27", "content": "c", "event_url": url, "channel_data": nested(199)})
        assert (sent.status, sent.body["result"]["channel_data"]) == (201, nested(199))
        message_id = sent.body["result"]["message_id"]
        for number in range(2):
            side.publish("event", ack(message_id, transport_metadata=nested(63)))
            await side.receiver.received(1 + number)
        status = await side.request("GET", f"{PATH}/messages/{message_id}")
        assert (status.status, len(status.body["result"]["events"])) == (200, 2)
        arrived = attrs.evolve(inbound(), transport_metadata=nested(63))
        side.publish("inbound", arrived)
        await side.receiver.received(3)
        reply = await side.post({"reply_to": arrived.message_id, "content": "c", "channel_data": nested(199)})
        assert reply.status == 201
        assert [request.path for request in side.receiver.requests] == ["/e", "/e", "/inbound"]
        assert side.count("event.parked") == side.count("inbound.parked") == 0


# Junebug's keys


@pytest_twisted.ensureDeferred
async def test_after_junebug(started: Start, redis: RedisServer, connector_name: str) -> None:
    """A reply to a message that Junebug handled, and an event of one that it sent, find their way."""
    async with started("redis", {"url": redis.url}) as side:
        old = {**json.loads(inbound().to_json()), "message_id": "a1", "session_event": "new"}
        redis.cli("HSET", f"{connector_name}:inbound_messages:a1", "message", json.dumps(old))
        kept = {
            "to": "+27",
            "message_id": "b2",
            "event_url": side.receiver.url("/e"),
            "event_auth_token": "tk",
        }
        redis.cli("HSET", f"{connector_name}:outbound_messages:b2", "message", json.dumps(kept))
        answer = await side.post({"reply_to": "a1", "content": "c", "priority": "high"})
        assert answer.status == 201
        sent = await side.outbound()
        assert (sent["in_reply_to"], sent["to_addr"], sent["from_addr"]) == ("a1", "+27000001", "8110")
        side.publish("event", ack("b2"))
        (event,) = await side.receiver.received(1)
        assert (event.path, event.headers["authorization"]) == ("/e", "Token tk")
        # What Junebug needs, should it come back.
        key = f"{connector_name}:outbound_messages:{sent['message_id']}"
        stored = json.loads(redis.cli("HGET", key, "message"))
        # Junebug doesn't look at a key that it doesn't know.
        assert stored.pop("traceparent")
        assert stored == {
            **answer.body["result"],
            "priority": "high",
            "event_url": None,
            "event_auth_token": None,
        }


@pytest.mark.parametrize("kind", ["memory", "redis"])
@pytest_twisted.ensureDeferred
async def test_details(started: Start, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The JSON of an outbound message is built for a store that keeps it, and for no other."""
    records: list[OutboundRecord] = []
    async with started(kind, config_of(kind, tmp_path)) as side:
        store = side.daemon.stores[side.connector]
        original = store.store_outbound

        async def recorded(record: OutboundRecord) -> None:
            records.append(record)
            await original(record)

        monkeypatch.setattr(store, "store_outbound", recorded)
        answer = await side.post({"to": "+27", "content": "c", "priority": "high"})
        await side.taken("outbound")
    (record,) = records
    kept = {**answer.body["result"], "priority": "high"} if kind == "redis" else None
    assert record.details == kept


# Failures


@pytest_twisted.ensureDeferred
async def test_without_cache(
    started: Start, redis: RedisServer, connector_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the cache is away an outbound request gets 503 and is not published, an inbound message is delivered, an
    event waits, and health says so; when it is back so is everything."""
    monkeypatch.setattr(consumer, "REQUEUE_PAUSE", 0.2)
    async with started("redis", {"url": redis.url, "cache_timeout": 0.3}) as side:
        body = {"to": "+27", "content": "c", "event_url": side.receiver.url("/e")}
        sent = await side.post(body)
        await side.taken("outbound")
        redis.stop()
        refused = await side.post(body)
        assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        assert refused.body["result"]["errors"][0]["type"] == "CacheError"
        assert side.count("outbound") == 0
        assert (await side.request("GET", f"{PATH}/messages/x")).status == 503
        health = await side.request("GET", "/health")
        assert (health.status, health.body["health"]) == (200, "ok")
        cache = health.body["components"]["cache"]
        assert cache["state"] == "degraded"
        assert cache["connectors"][connector_name]["ok"] is False
        assert cache["connectors"][connector_name]["failures"] == 2
        side.publish("inbound", inbound())
        (delivered,) = await side.receiver.received(1)
        assert delivered.path == "/inbound"
        side.publish("event", ack(sent.body["result"]["message_id"]))
        await deferLater(reactor, 0.7)
        assert len(side.receiver.requests) == 1
        redis.start()
        await side.receiver.received(2)
        assert side.receiver.requests[1].path == "/e"
        assert side.count("event.parked") == 0
        assert (await side.post(body)).status == 201
        assert (await side.request("GET", "/health")).body["components"]["cache"]["state"] == "ok"


@pytest_twisted.ensureDeferred
async def test_foreign_key(started: Start, redis: RedisServer, connector_name: str) -> None:
    """A reply to a message whose key holds something else gets 400; an event of such a message is parked."""
    async with started("redis", {"url": redis.url}) as side:
        for kind in ("inbound", "outbound"):
            redis.cli("SET", f"{connector_name}:{kind}_messages:m", "x")
        assert (await side.post({"reply_to": "m", "content": "c"})).status == 400
        side.publish("event", ack("m"))
        properties, _ = await side.taken("event.parked")
        assert properties.headers["reason"] == "error"


@pytest_twisted.ensureDeferred
async def test_turn_without_cache(started: Start, redis: RedisServer, receiver: Receiver) -> None:
    """Turn's messages are delivered too while the cache is away."""
    changes = {
        "default_from_addr": "8110",
        "auth_token": "t",
        "turn_hmac_secret": "s",
        "retry_delay_base": 0,
    }
    config = {"url": redis.url, "cache_timeout": 0.3}
    async with started("redis", config, "turn", turn_api_url=receiver.url("/turn"), **changes) as side:
        redis.stop()
        side.publish("inbound", inbound())
        (delivered,) = await side.receiver.received(1)
        assert delivered.path == "/turn/messages"


# Load


class Conversations:
    """Inbound messages, each of which the receiver answers with a reply that wants an event, and the transport's acks.

    :param urls: of the daemon's messages, used in turn

    :ivar inbound: how often each inbound message came
    :ivar replies: how often each of them was replied to
    :ivar events: how often each event came, by the path of its URL and by its message
    :ivar failures: how many replies had to be tried again
    """

    def __init__(self, count: int, connector: str, channel: BlockingChannel, receiver: Receiver, *urls: str):
        self.messages = {message.message_id: message for message in map(inbound, range(count))}
        self.inbound: Counter[str] = Counter()
        self.replies: Counter[str] = Counter()
        self.events: Counter[tuple[str, str]] = Counter()
        self.acked: dict[str, str] = {}
        self._connector = connector
        self._channel = channel
        self._receiver = receiver
        self._urls = urls
        self._seen = 0
        self._answering: dict[str, Deferred[None]] = {}
        self._pool = HTTPConnectionPool(reactor)
        self._slots = DeferredSemaphore(30)
        self.failures = 0

    def begin(self) -> None:
        for message in self.messages.values():
            self._channel.basic_publish("vumi", f"{self._connector}.inbound", message.to_json())

    def done(self) -> bool:
        return (
            len(self.replies) == len(self.messages)
            and len(self.events) >= len(self.acked) >= len(self.messages)
            and all(answering.called for answering in self._answering.values())
        )

    async def run(self, until: Callable[[], bool], limit: float = 100) -> None:
        """Play both sides until something is true."""
        end = reactor.seconds() + limit
        while not until():
            assert reactor.seconds() < end, (
                len(self.inbound),
                len(self.replies),
                len(self.acked),
                len(self.events),
            )
            self._answer()
            self._acknowledge()
            await deferLater(reactor, 0.01)

    def _answer(self) -> None:
        for request in self._receiver.requests[self._seen :]:
            self._seen += 1
            message_id = request.json["message_id"]
            if request.path != "/inbound":
                self.events[request.path, message_id] += 1
                continue
            self.inbound[message_id] += 1
            if message_id not in self._answering:
                self._answering[message_id] = self._slots.run(
                    lambda message_id=message_id: Deferred.fromCoroutine(self._reply(message_id))
                )

    async def _reply(self, message_id: str) -> None:
        event_url = self._receiver.url(f"/events/{message_id}")
        body = json.dumps({"reply_to": message_id, "content": "r", "event_url": event_url}).encode()
        url = self._urls[int(self.messages[message_id].content or "") // 2 % len(self._urls)]
        while True:
            try:
                response = await treq.post(url, data=body, pool=self._pool, timeout=10)
                await response.content()
            except Exception:
                status = 0
            else:
                status = response.code
            if status == 201:
                return
            assert status in (0, 503), (status, message_id)
            self.failures += 1
            await deferLater(reactor, 0.2)

    def _acknowledge(self) -> None:
        while True:
            method, _, body = self._channel.basic_get(f"{self._connector}.outbound", auto_ack=True)
            if method is None:
                return
            sent = json.loads(body)
            self.replies[sent["in_reply_to"]] += 1
            assert sent["to_addr"] == self.messages[sent["in_reply_to"]].from_addr
            self.acked[sent["message_id"]] = sent["in_reply_to"]
            self._channel.basic_publish("vumi", f"{self._connector}.event", ack(sent["message_id"]).to_json())

    async def close(self) -> None:
        await self._pool.closeCachedConnections()


@pytest.fixture
def process(
    rabbitmq: RabbitNode, connector_name: str, receiver: Receiver
) -> Iterator[Callable[..., Process]]:
    """Starts daemons that are processes of their own."""
    running: list[Process] = []
    folders: list[tempfile.TemporaryDirectory[str]] = []

    def start(**changes: Any) -> Process:
        folders.append(tempfile.TemporaryDirectory())
        base = {
            "application": "junebug",
            "connector_name": connector_name,
            "amqp": {"hostname": rabbitmq.host, "port": rabbitmq.port},
        }
        running.append(Process(Path(folders[-1].name), **base, **options(receiver, **changes)))
        return running[-1]

    yield start
    for one in running:
        one.process.kill()
        one.process.wait()
    for folder in folders:
        folder.cleanup()


async def up(port: int) -> None:
    async def well() -> bool:
        try:
            response = await treq.get(f"http://127.0.0.1:{port}/health", persistent=False, timeout=2)
            await response.content()
        except Exception:
            return False
        return bool(response.code == 200)

    for _ in range(600):
        if await well():
            return
        await deferLater(reactor, 0.1)
    raise AssertionError("the daemon is not up")


@pytest_twisted.ensureDeferred
async def test_two_processes(
    process: Callable[..., Process],
    redis: RedisServer,
    connector_name: str,
    pika_channel: BlockingChannel,
    receiver: Receiver,
) -> None:
    """Of two processes behind one Redis each answers replies and delivers events for messages that the other saw first;
    each message, reply and event is there exactly once."""
    ports = [free_port(), free_port()]
    for port in ports:
        process(
            http_bind=f"127.0.0.1:{port}", state_cache_class="redis", state_cache_config={"url": redis.url}
        )
    for port in ports:
        await up(port)
    urls = [f"http://127.0.0.1:{port}{PATH}/messages" for port in ports]
    load = Conversations(MESSAGES, connector_name, pika_channel, receiver, *urls)
    load.begin()
    await load.run(load.done)
    assert load.inbound == Counter(list(load.messages))
    assert load.replies == Counter(list(load.messages))
    assert load.events == Counter([(f"/events/{load.acked[sent]}", sent) for sent in load.acked])
    assert load.failures == 0
    await load.close()


@pytest_twisted.ensureDeferred
async def test_redis_restarts_under_load(
    started: Start, redis: RedisServer, connector_name: str, pika_channel: BlockingChannel, receiver: Receiver
) -> None:
    """Redis that is restarted in the middle of a load costs no reply and no event."""
    async with started("redis", {"url": redis.url}) as side:
        load = Conversations(200, connector_name, pika_channel, receiver, f"{side.url}{PATH}/messages")
        load.begin()
        await load.run(lambda: len(load.replies) > 50)
        redis.stop()
        redis.start()
        await load.run(load.done)
        assert set(load.inbound) == set(load.messages)
        assert set(load.events) == {(f"/events/{load.acked[sent]}", sent) for sent in load.acked}
        await load.close()


@pytest_twisted.ensureDeferred
async def test_killed_under_load_with_sqlite(
    process: Callable[..., Process],
    tmp_path: Path,
    connector_name: str,
    pika_channel: BlockingChannel,
    receiver: Receiver,
) -> None:
    """After a daemon with a SQLite cache was killed in the middle of a load, every reply and every event of what it had
    handled finds its way."""
    port = free_port()
    changes = {
        "http_bind": f"127.0.0.1:{port}",
        "state_cache_class": "sqlite",
        "state_cache_config": {"path": str(tmp_path / "cache.db")},
    }
    daemon = process(**changes)
    await up(port)
    load = Conversations(
        200, connector_name, pika_channel, receiver, f"http://127.0.0.1:{port}{PATH}/messages"
    )
    load.begin()
    await load.run(lambda: len(load.replies) > 50)
    daemon.process.kill()
    daemon.process.wait()
    process(**changes)
    await load.run(load.done)
    assert set(load.inbound) == set(load.messages)
    assert set(load.replies) == set(load.messages)
    assert set(load.events) == {(f"/events/{load.acked[sent]}", sent) for sent in load.acked}
    await load.close()


# One address for several processes


@pytest_twisted.ensureDeferred
async def test_reuse_port(
    rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel, receiver: Receiver
) -> None:
    """Two daemons with reuse_port share an address; each gets some of the connections."""
    port = free_port()
    shared = options(receiver, http_bind=f"127.0.0.1:{port}", reuse_port=True)
    async with (
        running(rabbitmq, connector_name, pika_channel, receiver, "junebug", **shared) as one,
        running(rabbitmq, connector_name, pika_channel, receiver, "junebug", **shared) as other,
    ):
        assert one.url == other.url
        counts = Counter[int]()
        for number, side in enumerate((one, other)):
            for site in side.daemon.sites.values():
                _count(site, counts, number)
        for _ in range(60):
            assert (await one.request("GET", "/health")).status == 200
        assert counts.total() == 60
        assert min(counts[0], counts[1]) > 0


def _count(site: Any, counts: Counter[int], number: int) -> None:
    admit = site.admit

    def counted(request: Any) -> None:
        counts[number] += 1
        admit(request)

    site.admit = counted


@pytest_twisted.ensureDeferred
async def test_without_reuse_port(
    rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel, receiver: Receiver
) -> None:
    """Without reuse_port an address that is taken ends the start."""
    port = free_port()
    alone = options(receiver, http_bind=f"127.0.0.1:{port}")
    async with running(rabbitmq, connector_name, pika_channel, receiver, "junebug", **alone):
        with pytest.raises(SystemExit, match="Address already in use"):
            async with running(
                rabbitmq, connector_name, pika_channel, receiver, "junebug", reuse_port=True, **alone
            ):
                pass

"""The store of channels and the daemons that share it: SQLite, an old Redis, a store that is away, many daemons."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from pika.adapters.blocking_connection import BlockingChannel
from twisted.internet.task import deferLater

from tests.support.channels import Junebug, RunJunebug, inbound, made, reactor, redis_options, running
from tests.support.daemon import until
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver
from tools.servers.redis import RedisServer

# The whole proof of two daemons takes a minute: LARGE=1 in the environment, or `make large`.
SECONDS = 60 if os.environ.get("LARGE") else 4


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A server that is the test's alone."""
    with RedisServer() as server:
        yield server


@pytest_twisted.ensureDeferred
async def test_sqlite(run_junebug: RunJunebug, tmp_path: Path) -> None:
    """With SQLite channels, messages for replies and where events go survive a restart, in one file."""
    options = {"channels_store": "sqlite", "channels_path": str(tmp_path / "channels.db")}
    async with run_junebug(**options) as side:
        id = await side.create(mo_url=side.receiver.url("/mo"))
        side.of(id).publish("inbound", inbound(id))
        await side.receiver.received(1)
    async with run_junebug(**options) as side:
        assert (await side.call("GET", "/channels/")).body["result"] == [id]
        message_id = side.receiver.requests[0].json["message_id"]
        reply = {"reply_to": message_id, "content": "hi"}
        assert (await side.call("POST", f"/channels/{id}/messages/", reply)).status == 201


@pytest_twisted.ensureDeferred
async def test_an_old_redis(run_junebug: RunJunebug, redis: RedisServer) -> None:
    """A Redis that Junebug wrote is the store: its channels run, a reply to a message of before the switch is sent, and
    an event of a message sent before goes to its event_url."""
    old = inbound("c1")
    redis.cli("SADD", "channels", "c1")
    async with run_junebug(channels_store="redis", channels_url=redis.url) as side:
        properties = {"type": "smpp", "config": {"system_id": "s"}, "mo_url": side.receiver.url("/mo")}
        redis.cli("SET", "c1:properties", json.dumps(properties))
        redis.cli("HSET", f"c1:inbound_messages:{old.message_id}", "message", old.to_json().decode())
        sent = {"message_id": "m1", "to": "+27", "event_url": side.receiver.url("/ev")}
        redis.cli("HSET", "c1:outbound_messages:m1", "message", json.dumps(sent))
        found = (await side.call("GET", "/channels/c1")).body["result"]
        assert {name: found[name] for name in properties} == properties
        consumers = ("c1.inbound", "c1.event")
        await until(
            lambda: all(side.daemon.broker.status()["consumers"].get(each) for each in consumers),
            "its queues",
        )
        reply = {"reply_to": old.message_id, "content": "hi"}
        assert (await side.call("POST", "/channels/c1/messages/", reply)).status == 201
        assert (await side.of("c1").outbound())["to_addr"] == old.from_addr
        side.of("c1").publish(
            "event",
            json.dumps(
                {
                    "user_message_id": "m1",
                    "event_id": "e1",
                    "event_type": "ack",
                    "message_version": "20110921",
                    "message_type": "event",
                    "timestamp": "2026-01-01 00:00:00.0",
                    "sent_message_id": "1",
                }
            ).encode(),
        )
        (got,) = await side.receiver.received(1)
        assert (got.path, got.json["message_id"]) == ("/ev", "m1")


@pytest_twisted.ensureDeferred
async def test_away_at_the_start(
    rabbitmq: RabbitNode,
    junebug_vhost: str,
    junebug_channel: BlockingChannel,
    receiver: Receiver,
    redis: RedisServer,
) -> None:
    """A store that is away at the start is waited for: health says so, calls get 503, and the channels run once it is
    there."""
    options = {"channels_store": "redis", "channels_url": redis.url, "channels_cache_timeout": 1.5}
    async with running(rabbitmq, junebug_vhost, junebug_channel, receiver, **options) as side:
        id = await side.create(mo_url=receiver.url("/mo"))
    redis.stop()
    daemon = made(rabbitmq, junebug_vhost, **options)
    daemon.privilegedStartService()
    daemon.startService()
    side = Junebug(daemon, receiver, junebug_channel, "")
    try:
        await until(lambda: daemon.ready, "the start")
        health = await side.call("GET", "/health")
        assert (health.status, health.body["components"]["channels"]["ok"]) == (500, False)
        assert health.body["components"]["channels"]["state"] == "waiting for the store"
        for method, path in (
            ("GET", "/channels/"),
            ("GET", f"/channels/{id}"),
            ("POST", f"/channels/{id}/restart"),
        ):
            answer = await side.call(method, path)
            assert (answer.status, answer.body["description"]) == (503, "cache error")
            assert answer.headers["retry-after"]
        redis.start()
        side.of(id).publish("inbound", inbound(id))
        await receiver.received(1)
        await until(lambda: daemon.health()["channels"]["ok"], "the channels")
    finally:
        await daemon.stopService()


@pytest_twisted.ensureDeferred
async def test_away_later(run_junebug: RunJunebug, redis: RedisServer) -> None:
    """While the store is away the channels go on and are shown, changes get 503 and are not made, and health is ok."""
    options = {"channels_store": "redis", "channels_url": redis.url, "channels_cache_timeout": 1.5}
    async with run_junebug(**options) as side:
        id = await side.create(mo_url=side.receiver.url("/mo"), label="before")
        redis.stop()
        for method, path, body in (
            ("POST", "/channels/", {"type": "telnet", "config": {}}),
            ("POST", f"/channels/{id}", {"label": "after"}),
            ("DELETE", f"/channels/{id}", None),
            ("POST", "/routers/", {"type": "from_address", "config": {"channel": id}}),
        ):
            answer = await side.call(method, path, body)
            assert (answer.status, answer.body["result"]["errors"][0]["type"]) == (503, "CacheError"), path
        assert (await side.call("GET", "/channels/")).body["result"] == [id]
        shown = (await side.call("GET", f"/channels/{id}")).body["result"]
        assert (shown["label"], shown["status"]["components"]["store"]["type"]) == ("before", "away")
        side.of(id).publish("inbound", inbound(id))
        await side.receiver.received(1)
        health = await side.call("GET", "/health")
        assert (health.status, health.body["components"]["channels"]["state"]) == (200, "degraded")
        redis.start()
        await until(lambda: side.daemon.health()["channels"]["state"] == "ok", "the store")
        assert (await side.call("DELETE", f"/channels/{id}")).status == 200


@pytest_twisted.ensureDeferred
async def test_another_daemon_follows(run_junebug: RunJunebug) -> None:
    """What one daemon changes, another one on the same store does too, by itself within seconds, and at once for a
    request."""
    options = redis_options()
    async with run_junebug(**options) as one, run_junebug(**options) as two:
        id = await one.create(mo_url=one.receiver.url("/mo"))
        consumers = two.daemon.broker.status
        await until(lambda: consumers()["consumers"].get(f"{id}.inbound"), "the other daemon", limit=30)
        second = await one.create(mo_url="http://127.0.0.1:1/")
        sent = await two.call("POST", f"/channels/{second}/messages/", {"to": "+27", "content": "x"})
        assert sent.status == 201
        await one.call("POST", f"/channels/{id}", {"label": "changed"})
        assert (await two.call("GET", f"/channels/{id}")).body["result"]["label"] == "changed"
        await one.call("DELETE", f"/channels/{id}")
        await until(lambda: f"{id}.inbound" not in consumers()["consumers"], "the other daemon", limit=30)
        assert (await two.call("GET", f"/channels/{id}")).status == 404


@pytest_twisted.ensureDeferred
async def test_two_daemons(run_junebug: RunJunebug) -> None:
    """Two daemons on one store, channels made and deleted at random under load: no message is lost, and no channel is
    half there."""
    rng, options = random.Random(16), redis_options()
    async with run_junebug(**options) as one, run_junebug(**options) as two:
        sides = (one, two)
        steady = [await one.create(mo_url=one.receiver.url(f"/{number}")) for number in range(4)]
        alive: dict[str, int] = {}
        published: Counter[str] = Counter()
        end, number = reactor.seconds() + SECONDS, 0
        while reactor.seconds() < end:
            number += 1
            side = rng.choice(sides)
            for id in steady:
                side.of(id).publish("inbound", inbound(id, number))
                published[str(number)] += 1
            if len(alive) < 6 and rng.random() < 0.5:
                id = await side.create(mo_url=one.receiver.url("/short"), label=str(number))
                alive[id] = number
                sent = await rng.choice(sides).call(
                    "POST", f"/channels/{id}/messages/", {"to": "+27", "content": str(number)}
                )
                assert sent.status == 201, sent
            elif alive:
                id = rng.choice(list(alive))
                del alive[id]
                assert (await rng.choice(sides).call("DELETE", f"/channels/{id}")).status == 200
            await deferLater(reactor, 0)
        await one.receiver.received(4 * number)
        for each in sides:
            await each.handlers_done()
            listed = (await each.call("GET", "/channels/")).body["result"]
            assert listed == sorted([*steady, *alive])
            for id in listed:
                assert (await each.call("GET", f"/channels/{id}")).status == 200
            consumers = each.daemon.broker.status()["consumers"]
            assert set(consumers) == {
                f"{id}.{kind}" for id in listed for kind in ("inbound", "event", "status.status")
            }
        got = Counter(each.json["content"] for each in one.receiver.requests)
        assert got == published

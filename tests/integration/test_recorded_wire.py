"""What is on the wire, in Redis and in the queues is byte for byte what it was before the modules moved.

``tests/fixtures/wire/`` has what was seen then, by clients that share no code with ours: raw sockets, pika,
rabbitmqctl, redis-cli and sqlite3.  Each test plays its scenario again.  Where something shall change,
``RECORD_WIRE=1 pytest tests/integration/test_recorded_wire.py`` records it anew.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from tests.integration.conftest import RunDaemon
from tests.support.daemon import until
from tests.support.recorded import (
    EVENTS,
    HOOK_SECRET,
    JUNEBUG,
    JUNEBUG_FAULTS,
    MENU,
    PHONE,
    TEXT,
    TURN,
    TURN_FAULTS,
    WEBHOOK_SECRET,
    Recording,
    Scene,
    event,
    inbound,
    new_id,
    remember,
    webhook,
)
from tests.support.witnesses import Destination, asked, put, redis_entries, sqlite_contents, topology
from tools.servers.rabbitmq import RabbitNode
from tools.servers.redis import RedisServer

Begin = Callable[..., AbstractAsyncContextManager[Scene]]


@pytest_twisted.async_yield_fixture
async def destination() -> AsyncIterator[Destination]:
    server = Destination(WEBHOOK_SECRET.encode())
    yield server
    await server.stop()


@pytest.fixture
def scene(run_daemon: RunDaemon, destination: Destination, connector_name: str) -> Begin:
    """``async with scene(name, application, **options)`` is a daemon of which is recorded, and checked at the end."""

    @asynccontextmanager
    async def begin(name: str, application: str = "junebug", **options: Any) -> AsyncIterator[Scene]:
        agent = f"junebug-turn/{version('junebug-turn')}"
        places = {"connector": connector_name, "destination": destination.address, "agent": agent}
        recording = Recording(name, places)
        turn = {
            "vumi_api_path": TURN,
            "turn_api_url": destination.url("/v1"),
            "auth_token": "recorded-turn-token",
            "turn_hmac_secret": HOOK_SECRET,
        }
        junebug = {
            "base_url_path": JUNEBUG,
            "mo_message_url": destination.url("/inbound"),
            "default_event_url": destination.url("/events?a=b"),
        }
        given = turn if application == "turn" else junebug
        given |= {"default_from_addr": "8110", "retry_delay_base": 0, "webhook_secret": WEBHOOK_SECRET}
        async with run_daemon(application, **given | options) as side:
            yield Scene(side, destination, recording, TURN if application == "turn" else JUNEBUG)
        recording.check()

    return begin


@pytest_twisted.ensureDeferred
async def test_topology(scene: Begin, rabbitmq: RabbitNode) -> None:
    """Exchange, queues, their arguments and bindings, and the consumers' prefetch are what they were."""
    async with scene("topology") as on:
        on.recording.add("rabbitmqctl", **await topology(rabbitmq, on.side.connector))


@pytest_twisted.ensureDeferred
async def test_junebug_outbound(scene: Begin) -> None:
    """A message POSTed to Junebug's API has the answer that it had, and is published as it was, byte for byte."""
    async with scene("junebug_outbound") as on:
        await on.deliver("of the phone", "inbound", inbound(1))
        new = {"to": PHONE, "from": "8111", "content": TEXT, "group": "g", "priority": 1}
        await on.send("a new message", {**new, "channel_data": {"z": 1, "a": {"é": [1.5, None]}}})
        await on.send("what it needs", {"to": PHONE, "content": "c"}, slash="/")
        await on.send("null content", {"to": PHONE, "content": None, "from": None, "channel_data": None})
        for session in ("new", "resume", "close"):
            data = {"session_event": session, "k": 1}
            await on.send(f"session {session}", {"to": PHONE, "content": "c", "channel_data": data})
        reply = {"reply_to": new_id(1), "content": TEXT}
        await on.send("a reply", {**reply, "to": "x", "from": "y", "group": "z"})
        await on.send("a last reply", {**reply, "channel_data": {"continue_session": False, "k": 1}})
        await on.send("a reply that goes on", {**reply, "channel_data": {"continue_session": True}})
        await on.send("a reply with an event", {**reply, "channel_data": {"session_event": "resume"}})
        once = {"Idempotency-Key": "k"}
        await on.send("with a key", {"to": PHONE, "content": "1"}, **once)
        await on.send("with the same key", {"to": PHONE, "content": "1"}, messages=0, **once)
        await on.send("with a key that was used", {"to": PHONE, "content": "2"}, messages=0, **once)
        await on.end()


@pytest_twisted.ensureDeferred
async def test_junebug_faults(scene: Begin) -> None:
    """Each error has the status, headers and envelope that it had, and none is an HTML page."""
    async with scene("junebug_faults") as on:
        for what, body in JUNEBUG_FAULTS.items():
            await on.send(what, body, messages=0)
        length: dict[str, Any] = {"Content-Length": str(2**20 + 1)}
        await on.ask("too large", "POST", f"{JUNEBUG}/messages", **length)
        await on.ask("headers too large", "GET", "/" + "x" * 20000)
        await on.ask("not HTTP", "GET HTTP", "/")
        for what, method, path in (
            ("another channel", "POST", "/channels/other/messages"),
            ("another path", "GET", "/nothing"),
            ("a path below", "POST", f"{JUNEBUG}/nothing"),
            ("the channel itself", "GET", f"{JUNEBUG}/"),
            ("a wrong method", "GET", f"{JUNEBUG}/messages"),
            ("no method", "PROPFIND", f"{JUNEBUG}/messages/"),
            ("a wrong method for a status", "POST", f"{JUNEBUG}/messages/x"),
            ("the status of the unknown", "GET", f"{JUNEBUG}/messages/nobody%20knows"),
        ):
            await on.ask(what, method, path)
        key = f"{on.side.connector}.outbound"
        on.side.channel.queue_unbind(key, "vumi", key)
        await on.send("unroutable", {"to": PHONE, "content": "c"}, messages=0)
        await on.end()


@pytest_twisted.ensureDeferred
async def test_junebug_guards(scene: Begin) -> None:
    """Credentials, limits and a missing address are told as they were."""
    auth = {"tokens": ["recorded-api-token"], "users": {"user": "recorded-password"}}
    options = {"api_auth": auth, "rate_limit": 0.001, "character_limit": 3, "default_from_addr": ""}
    async with scene("junebug_guards", **options) as on:
        message = {"to": PHONE, "content": "four"}
        await on.send("no credentials", message, messages=0)
        await on.send("unknown credentials", message, messages=0, Authorization="Token x")
        known = {"Authorization": "Bearer recorded-api-token"}
        await on.send("too long", {**message, "from": "8110"}, messages=0, **known)
        answer = await asked(on.side.url, "POST", f"{JUNEBUG}/messages", b"{}", known)
        # About a thousand seconds.
        answer["head"] = [re.sub(rb"(Retry-After): \d+", rb"\1: <number>", line) for line in answer["head"]]
        on.recording.add("too many", answer=answer)
    async with scene("junebug_no_address", default_from_addr="") as on:
        await on.send("no from address", {"to": PHONE, "content": "c"}, messages=0)


@pytest_twisted.ensureDeferred
async def test_junebug_deliveries(scene: Begin) -> None:
    """Inbound messages and events are POSTed as they were: the same headers in the same order, the same bytes."""
    token = {
        "mo_message_url_auth_token": "recorded-token",
        "default_event_auth_token": "recorded-event-token",
    }
    async with scene("junebug_deliveries", **token) as on:
        await on.deliver("all of it", "inbound", inbound(1, in_reply_to="r", session_event="new"))
        empty: dict[str, Any] = {
            "helper_metadata": {},
            "group": None,
            "provider": None,
            "session_event": None,
        }
        await on.deliver("nulls", "inbound", inbound(2, **empty, content=None, from_addr=None))
        await on.deliver("a close", "inbound", inbound(3, session_event="close", content=None))
        lenient = {"timestamp": "2020-01-02T03:04:05Z", "transport_type": "pigeon", "unknown": {"key": 1}}
        await on.deliver("read leniently", "inbound", inbound(4, **lenient, message_id="an id é"))
        await on.deliver("tried again", "inbound", inbound(5), 503, 500, 200)
        mine = {"to": PHONE, "content": "c", "event_auth_token": "recorded-event-url-token"}
        url = on.destination.url
        known = await on.send("with an event URL", {**mine, "event_url": url("/mine?x=%20y")})
        user = await on.send("with a user", {**mine, "event_url": url("/mine", "us%40er:recorded%3Apw@")})
        for number, (what, fields) in enumerate(EVENTS.items()):
            await on.deliver(what, "event", event(number, known, **fields))
        await on.deliver("with a user", "event", event(10, user, **EVENTS["nack"] | {"nack_reason": None}))
        await on.deliver("of the unknown", "event", event(11, "nobody knows", **EVENTS["ack"]))
        await on.ask("the status", "GET", f"{JUNEBUG}/messages/{known}")
        await on.end()
    userinfo = {"mo_message_url": on.destination.url("/inbound", "user:recorded%20pw@"), "webhook_secret": ""}
    async with scene("junebug_deliveries_basic", **userinfo) as on:
        await on.deliver("with a user, unsigned", "inbound", inbound(1))
        await on.deliver("no token", "event", event(1, "nobody knows", **EVENTS["ack"]))


@pytest_twisted.ensureDeferred
async def test_turn_outbound(scene: Begin) -> None:
    """A webhook of Turn has the answer that it had, and is published as it was; so is a menu, whose
    choice comes back."""
    async with scene("turn_outbound", "turn") as on:
        await on.send("a new message", webhook(**{"from": "8111", "context": None, "block": {"é": 1}}))
        await on.send(
            "a caption", webhook({"type": "image"}, content="c", waiting_for_user_input=True), slash="/"
        )
        await on.deliver("of the phone", "inbound", inbound(1))
        await on.deliver("of the phone again", "inbound", inbound(2, session_event="new", content=None))
        await on.send("the last one's reply", webhook(waiting_for_user_input=True))
        await on.send("a reply", webhook(reply_to=new_id(1), waiting_for_user_input=False))
        await on.send("a menu", webhook(MENU, waiting_for_user_input=True))
        await on.deliver("a choice", "inbound", inbound(3, content=" 2 "))
        await on.deliver("no choice any more", "inbound", inbound(4, content="2"))
        await on.deliver("a close", "inbound", inbound(5, session_event="close", content=None))
        await on.send("after the close", webhook())
        for what, body in TURN_FAULTS.items():
            await on.send(what, body, messages=0)
        for what, given in (("no", ""), ("a wrong", "wrong"), ("no ASCII", "é")):
            headers = {"X-Turn-Hook-Signature": given} if given else {"X-Other": "x"}
            await on.ask(f"{what} signature", "POST", f"{TURN}/messages", b"{", **headers)
        length: dict[str, Any] = {"Content-Length": str(2**20 + 1)}
        await on.ask("too large", "POST", f"{TURN}/messages", **length)
        await on.ask("a path below", "POST", f"{TURN}/nothing")
        await on.ask("a wrong method", "GET", f"{TURN}/messages")
        await on.end()


@pytest.mark.parametrize("form", ["flat", "nested"])
@pytest_twisted.ensureDeferred
async def test_turn_deliveries(scene: Begin, form: str) -> None:
    """Turn gets inbound messages and statuses as it did, in either form."""
    async with scene(f"turn_deliveries_{form}", "turn", status_format=form) as on:
        await on.deliver("no text", "inbound", inbound(1, content="", from_addr=None))
        await on.deliver("tried again", "inbound", inbound(2), 500, 200)
        known = await on.send("a message", webhook())
        put(on.side.channel, f"{on.side.connector}.event", event(20, "nobody knows", **EVENTS["ack"]))
        for number, (what, fields) in enumerate(EVENTS.items()):
            await on.deliver(what, "event", event(number, known, **fields))
        await on.end()


@pytest_twisted.ensureDeferred
async def test_copies(scene: Begin) -> None:
    """What waits in a delay queue and what is parked has the body, headers and properties that it had."""
    async with scene("copies", max_retries=0, session_retry_window=0, parked_ttl=60) as on:
        sms: dict[str, Any] = {"transport_type": "sms"}
        headers = {"theirs": "é", "n": 2**40, "t": {"a": [1]}, "CC": ["x"], "x-death": [{"count": 1}]}
        told = {
            "headers": headers,
            "content_type": "text/x",
            "priority": 3,
            "message_id": "m",
            "expiration": "60000",
        }
        await on.deliver("a 500", "inbound", inbound(1, **sms), 500, queue="inbound.delayed.5s", **told)
        await on.deliver("well", "inbound", inbound(2))
        await on.deliver("a 500", "event", event(1, "m", **EVENTS["ack"]), 500, queue="event.delayed.5s")
        await on.deliver("no answer", "inbound", inbound(4, **sms), 0, queue="inbound.delayed.5s")
        await on.deliver("well", "inbound", inbound(5))
        await on.deliver("a 400", "inbound", inbound(6), 400, queue="inbound.parked", **told)
        await on.deliver("a 400", "event", event(2, "m", **EVENTS["nack"]), 400, queue="event.parked")
        history = {"delays": 1, "attempts": 4, "last_status": 503, "reason": "http_status"}
        since = datetime.fromtimestamp(int(time.time()) - 60, UTC).isoformat()
        history |= {"first_failure": since, "last_failure": since, "x-death": [{"count": 1}]}
        again: dict[str, Any] = {"headers": history, "queue": "inbound.delayed.5m"}
        await on.deliver("a second 500", "inbound", inbound(7, **sms), 500, **again)
        again = {
            "headers": history | {"first_failure": "2020-01-02T03:04:05+00:00"},
            "queue": "inbound.parked",
        }
        await on.deliver("a last 500", "inbound", inbound(8, **sms), 500, **again)
        await on.deliver("well", "inbound", inbound(9))
        await on.deliver("of a session", "inbound", inbound(10), 500, queue="inbound.parked")
        await on.deliver("a 404", "event", event(3, "m", **EVENTS["nack"]), 404, queue="event.delayed.5s")
        for kind, body in (("inbound", b"not JSON \xff"), ("event", b"[]")):
            put(on.side.channel, f"{on.side.connector}.{kind}", body, headers={"theirs": 1})
            await on.copied("unreadable", f"{kind}.parked")
        await on.end()


@pytest.mark.parametrize("application", ["junebug", "turn"])
@pytest_twisted.ensureDeferred
async def test_redis(scene: Begin, application: str) -> None:
    """Redis has the keys, types, values and times to live that it had; without it the answer is what it was."""
    cache = "message_cache" if application == "turn" else "state_cache"
    with RedisServer() as server:
        # Other times than the default's for one of them.
        ttl = {"inbound_ttl": 600, "outbound_ttl": 1200, "key_prefix": "p"} if application == "turn" else {}
        config = {f"{cache}_class": "redis", f"{cache}_config": {"url": server.url, **ttl}}
        async with scene(f"redis_{application}", application, **config) as on:
            await remember(on)
            on.recording.add("redis-cli", entries=redis_entries(server, on.recording.plain))
            server.stop()
            body = webhook() if application == "turn" else {"to": PHONE, "content": "c"}
            await on.send("without Redis", body, messages=0)


@pytest.mark.parametrize("application", ["junebug", "turn"])
@pytest_twisted.ensureDeferred
async def test_sqlite(scene: Begin, application: str, tmp_path: Path) -> None:
    """SQLite's file has the schema and the rows that it had."""
    cache = "message_cache" if application == "turn" else "state_cache"
    path = tmp_path / "cache.db"
    config = {f"{cache}_class": "sqlite", f"{cache}_config": {"path": str(path), "timeout": 900}}
    async with scene(f"sqlite_{application}", application, **config) as on:
        await remember(on)
        await on.side.daemon.stopService()
        on.recording.add("sqlite3", **sqlite_contents(path))


@pytest_twisted.ensureDeferred
async def test_pages(scene: Begin) -> None:
    """/health has the answer that it had, and /metrics the same metrics."""
    async with scene("pages") as on:
        await on.ask("health", "GET", "/health")
        await on.ask("health's head", "HEAD", "/health/")
        await on.ask("a wrong method", "POST", "/health")
        await on.ask("a path below", "GET", "/health/x")
        answer = await asked(on.side.url, "GET", "/metrics")
        lines = answer["body"].decode().splitlines()
        ours = [line for line in lines if line.startswith("# ") and "junebug_turn" in line]
        on.recording.add("metrics", status=answer["head"][0], metrics=ours)


@pytest.mark.parametrize("application", ["junebug", "turn"])
@pytest_twisted.ensureDeferred
async def test_without_broker(scene: Begin, rabbitmq: RabbitNode, application: str) -> None:
    """While the broker is away, a message and /health have the answers that they had."""
    async with scene(f"without_broker_{application}", application, request_timeout=0.3) as on:
        try:
            await deferToThread(rabbitmq.stop_app)
            await until(lambda: not on.side.live(), "the loss of the broker")
            body = webhook() if application == "turn" else {"to": PHONE, "content": "c"}
            await on.send("a message", body, messages=0)
            await on.ask("health", "GET", "/health")
        finally:
            await deferToThread(rabbitmq.start_app)

"""The operators' JSON API: connectors, parked messages, pause and resume."""

from __future__ import annotations

import html
import json
import os
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from junebug_turn.amqp.queue_browser import BATCH
from junebug_turn.daemon.operators import pausing
from junebug_turn.messages.vumi import Event
from tests.integration.conftest import RunDaemon
from tests.support.channels import RunJunebug, redis_options
from tests.support.daemon import until
from tests.support.operators import NUMBER, TEXT, Desk, inbound
from tests.support.store_harness import redis_server
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver

OPTIONS: dict[str, Any] = {"admin_bind": "localhost:0", "max_retries": 0, "retry_window": 0}


@asynccontextmanager
async def desk(run_daemon: RunDaemon, receiver: Receiver, **options: Any) -> AsyncIterator[Desk]:
    async with run_daemon("junebug", **({"mo_message_url": receiver.url()} | OPTIONS | options)) as side:
        yield Desk(side)


def path(desk: Desk, rest: str) -> str:
    return f"/api/connectors/{desk.side.connector}/{rest}"


@pytest_twisted.ensureDeferred
async def test_connectors(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """GET /api/connectors has each connector with its queues, rates and consumers, the transport's side too."""
    async with desk(run_daemon, receiver) as at:
        name = at.side.connector
        at.park_messages(2)
        at.side.publish("inbound", inbound())
        await until(lambda: len(receiver.requests) == 1, "the delivery")
        await until(lambda: at.side.count("inbound.parked") == 2, "the parked ones")
        await at.counted()
        (found,) = (await at.ask("GET", "/api/connectors")).body["connectors"]
        assert found.pop("rates").keys() == {"outbound", "inbound", "event"}
        assert found == {
            "name": name,
            "application": "junebug",
            "paused": False,
            "transport": "down",
            "queues": {
                "inbound": {"messages": 0, "consumers": 1, "live": True},
                "event": {"messages": 0, "consumers": 1, "live": True},
                "outbound": {"messages": 0, "consumers": 0},
            },
            "parked": {"inbound": 2, "event": 0},
        }
        at.side.channel.basic_consume(f"{name}.outbound", lambda *_: None)
        await at.counted()
        (found,) = (await at.ask("GET", "/api/connectors")).body["connectors"]
        assert found["transport"] == "up"


@pytest_twisted.ensureDeferred
async def test_parked(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """GET /api/parked and /api/parked/<id>: addresses masked and bodies left out unless ?full=true."""
    async with desk(run_daemon, receiver) as at:
        message, event = inbound(), Event(user_message_id="m", event_id="e", event_type="ack")
        at.park("inbound", message)
        at.park("event", event, reason="timeout")
        at.park("inbound", b"no JSON", reason="unreadable")
        await until(lambda: at.side.count("inbound.parked") == 2, "the parked ones")
        await until(lambda: at.side.count("event.parked") == 1, "the parked event")
        answer = await at.ask("GET", "/api/parked")
        assert (answer.status, answer.body["more"]) == (200, False)
        first, second, third = answer.body["parked"]
        assert (first["id"], first["from"], first["to"]) == (message.message_id, "****4567", "****8888")
        assert second["id"].startswith("unreadable-")
        assert (third["id"], third["kind"], third["user_message_id"]) == ("e", "event", "m")
        one = await at.ask("GET", f"/api/parked/{message.message_id}")
        assert one.body == {**first, "age": one.body["age"]}
        full = (await at.ask("GET", f"/api/parked/{message.message_id}?full=true")).body
        assert (full["from"], json.loads(full["body"])["content"]) == (NUMBER, TEXT)
        assert full["headers"]["last_status"] == 503
        listed = (await at.ask("GET", "/api/parked?full=true")).body["parked"]
        assert [each["body"] for each in listed][:2] == [message.to_json().decode(), "no JSON"]


@pytest_twisted.ensureDeferred
async def test_filters(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """The filters are the CLI's; a list is bounded and has pages; what is no filter is refused."""
    async with desk(run_daemon, receiver) as at:
        ids = at.park_messages(5)
        at.park("inbound", b"no JSON", reason="unreadable")
        await until(lambda: at.side.count("inbound.parked") == 6, "the parked ones")

        async def found(query: str) -> tuple[list[str], bool]:
            body = (await at.ask("GET", f"/api/parked?{query}")).body
            return [each["id"] for each in body["parked"]], body["more"]

        name = at.side.connector
        assert await found("limit=2") == (ids[:2], True)
        assert await found("limit=2&offset=2") == (ids[2:4], True)
        assert await found(f"connector={name}&kind=inbound&reason=http_status&limit=5") == (ids, False)
        assert await found("kind=event") == ([], False)
        for query in (
            "limit=0",
            "limit=1001",
            "limit=x",
            "offset=-1",
            "kind=outbound",
            "full=maybe",
            "colour=red",
            "kind=event&kind=event",
        ):
            assert (await at.ask("GET", f"/api/parked?{query}")).status == 400, query
        assert (await at.ask("GET", "/api/parked?connector=nobody")).status == 404


@pytest_twisted.ensureDeferred
async def test_replay_and_drop(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """POST replay puts a message back, as if it were new, DELETE drops it for ever; both say where it isn't there."""
    async with desk(run_daemon, receiver) as at:
        first, second, third = at.park_messages(3)
        await until(lambda: at.side.count("inbound.parked") == 3, "the parked ones")
        answer = await at.ask("POST", f"/api/parked/{second}/replay")
        assert (answer.status, answer.body) == (200, {"replayed": 1, "more": False})
        await until(lambda: len(receiver.requests) == 1, "the delivery")
        assert receiver.requests[0].json["message_id"] == second
        dropped = await at.ask("DELETE", f"/api/parked/{third}")
        assert (dropped.status, dropped.body) == (200, {"dropped": 1})
        left = (await at.ask("GET", "/api/parked")).body["parked"]
        assert [each["id"] for each in left] == [first]
        for method, rest in (("GET", ""), ("POST", "/replay"), ("DELETE", "")):
            missing = await at.ask(method, f"/api/parked/{third}{rest}")
            assert missing.status == 404
            assert third in missing.body["result"]["errors"][0]["message"]


@pytest_twisted.ensureDeferred
async def test_replay_of_a_choice(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """POST /api/parked/replay has the CLI's filters; one that is unknown replays nothing, rather than everything."""
    async with desk(run_daemon, receiver) as at:
        at.park_messages(3)
        at.park_messages(2, reason="timeout")
        await until(lambda: at.side.count("inbound.parked") == 5, "the parked ones")
        assert (await at.ask("POST", "/api/parked/replay", {"resaon": "timeout"})).status == 400
        assert (await at.ask("POST", "/api/parked/replay?resaon=timeout")).status == 400
        assert (await at.ask("POST", "/api/parked/replay", ["timeout"])).status == 400
        assert (await at.ask("POST", "/api/parked/replay", {"reason": 5})).status == 400
        assert (await at.ask("POST", "/api/parked/replay", {"older_than": "long"})).status == 400
        for none in ({"destination": "elsewhere.example"}, {"older_than": "3000d"}):
            assert (await at.ask("POST", "/api/parked/replay", none)).body["replayed"] == 0
        assert at.side.count("inbound.parked") == 5
        answer = await at.ask("POST", "/api/parked/replay", {"reason": "timeout"})
        assert answer.body == {"replayed": 2, "more": False}
        answer = await at.ask("POST", "/api/parked/replay?limit=1")
        assert answer.body == {"replayed": 1, "more": True}
        answer = await at.ask("POST", "/api/parked/replay")
        assert answer.body == {"replayed": 2, "more": False}
        await until(lambda: len(receiver.requests) == 5, "the deliveries")


@pytest_twisted.ensureDeferred
async def test_pause(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """A paused connector's inbound messages and events wait in their queues, its HTTP requests go out, and /health
    has it as paused, not as down; resumed, all that waited is delivered."""
    async with desk(run_daemon, receiver, default_event_url=receiver.url("/events")) as at:
        name = at.side.connector
        answer = await at.ask("POST", path(at, "pause"))
        assert (answer.status, answer.body) == (200, {"connector": name, "paused": True, "kept": False})
        at.side.publish("inbound", inbound())
        at.side.publish("event", Event(user_message_id="m", event_id="e", event_type="ack"))
        await until(lambda: (at.side.count("inbound"), at.side.count("event")) == (1, 1), "both")
        sent = await at.side.post({"to": NUMBER, "from": "8110", "content": "x"})
        assert sent.status == 201
        health = await at.side.request("GET", "/health")
        amqp = health.body["components"]["amqp"]
        assert (health.status, amqp["paused"], amqp["consumers"]) == (
            200,
            [f"{name}.inbound", f"{name}.event"],
            {},
        )
        (found,) = (await at.ask("GET", "/api/connectors")).body["connectors"]
        assert found["paused"]
        assert receiver.requests == []
        assert (await at.ask("POST", path(at, "resume"))).body["paused"] is False
        await until(lambda: len(receiver.requests) == 2, "the deliveries")
        assert (await at.ask("POST", "/api/connectors/nobody/pause")).status == 404


@pytest.mark.parametrize("store", ["redis", "sqlite"])
@pytest_twisted.ensureDeferred
async def test_pause_outlives_the_process(
    run_daemon: RunDaemon,
    receiver: Receiver,
    tmp_path: Path,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pause is kept over a restart when the store can, and holds for every process that shares the store."""
    monkeypatch.setattr(pausing, "FOLLOW_INTERVAL", 0.5)
    config = {"path": str(tmp_path / "cache.db")} if store == "sqlite" else {"url": redis_server().url}
    options = {"state_cache_class": store, "state_cache_config": config}
    async with desk(run_daemon, receiver, **options) as at:
        assert (await at.ask("POST", path(at, "pause"))).body["kept"] is True
    async with desk(run_daemon, receiver, **options) as at, desk(run_daemon, receiver, **options) as other:
        for each in (at, other):
            assert each.side.daemon.health()["amqp"]["consumers"] == {}
        at.side.publish("inbound", inbound())
        await until(lambda: at.side.count("inbound") == 1, "the message")
        await other.ask("POST", path(other, "resume"))
        await until(lambda: at.side.daemon.health()["amqp"]["consumers"], "the other process")
        await until(lambda: receiver.requests, "the delivery")


@pytest_twisted.ensureDeferred
async def test_broker_away(run_daemon: RunDaemon, rabbitmq: RabbitNode, receiver: Receiver) -> None:
    """While the broker is away the state is still there, and parked messages are a 503 with a clear text."""
    async with desk(run_daemon, receiver) as at:
        await deferToThread(rabbitmq.stop_app)
        try:
            await until(lambda: not at.side.daemon.broker.connected, "the loss")
            answer = await at.ask("GET", "/api/parked")
            connectors = await at.ask("GET", "/api/connectors")
            overview, parked = await at.page("/"), await at.page("/parked")
        finally:
            await deferToThread(rabbitmq.start_app)
        assert (answer.status, "retry-after" in answer.headers) == (503, True)
        assert "no AMQP broker at" in answer.body["result"]["errors"][0]["message"]
        assert connectors.status == 200
        assert "No messages flow." in overview[1]
        assert "the daemon has no connection to the broker" in overview[1]
        assert (parked[0], "no AMQP broker at" in parked[1]) == (503, True)
        await until(at.side.live, "the connection")


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
@pytest_twisted.ensureDeferred
async def test_other_sites(run_daemon: RunDaemon, receiver: Receiver, headers: dict[str, str]) -> None:
    """What another site's page has a browser send changes nothing."""
    async with desk(run_daemon, receiver) as at:
        assert (await at.ask("POST", path(at, "pause"), headers=headers)).status == 403
        assert (await at.ask("DELETE", "/api/parked/x", headers=headers)).status == 403
        assert at.side.live()


@pytest_twisted.ensureDeferred
async def test_names_of_other_sites(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """Without credentials the address answers to no name that another site's owner can have lead to it."""
    async with desk(run_daemon, receiver) as at:
        port = at.url.rpartition(":")[2]
        answers = {
            host: (await at.ask("GET", "/api/connectors", headers={"Host": f"{host}:{port}"})).status
            for host in ("localhost", "127.0.0.1", "[::1]", "evil.example")
        }
        assert answers == {"localhost": 200, "127.0.0.1": 200, "[::1]": 200, "evil.example": 403}


@pytest_twisted.ensureDeferred
async def test_messages(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """GET /api/messages/<id>: all that is known of a message; addresses masked, texts left out unless ?full=true."""
    async with desk(run_daemon, receiver) as at:
        message = inbound()
        receiver.script(404)
        at.side.publish("inbound", message)
        await until(lambda: at.side.count("inbound.parked") == 1, "the parked one")
        found = await at.ask("GET", f"/api/messages/{message.message_id}")
        assert (found.status, found.body["found"], found.body["broker"]) == (200, True, None)
        (part,) = found.body["connectors"]
        assert (part["connector"], part["kind"], part["from"]) == (at.side.connector, "inbound", "****4567")
        assert [each["id"] for each in part["parked"]] == [message.message_id]
        (part,) = (await at.ask("GET", f"/api/messages/{message.message_id}?full=true")).body["connectors"]
        assert part["from"] == NUMBER
        assert TEXT in part["parked"][0]["body"]
        status, page = await at.page(f"/messages?id={message.message_id}")
        assert status == 200
        assert f"Parked in {at.side.connector}.inbound.parked" in page
        assert NUMBER[1:] not in page
        missing = await at.ask("GET", "/api/messages/nothing")
        assert missing.status == 404
        assert (await at.page("/messages?id=nothing"))[0] == 404
        assert (await at.page("/messages"))[0] == 200


def _redelivered(at: Desk, many: int) -> int:
    """Take so many parked messages; how many of them were delivered before."""
    channel, read = at.side.channel, 0
    queue = f"{at.side.connector}.inbound.parked"
    for number, (method, _, _) in enumerate(channel.consume(queue, auto_ack=True, inactivity_timeout=60), 1):
        read += method.redelivered
        if number == many:
            break
    channel.cancel()
    return read


@pytest_twisted.ensureDeferred
async def test_many_parked(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """A page of parked messages reads those that it shows, and not all that there are; the overview reads none."""
    many = 100_000 if os.environ.get("LARGE") else 2000
    async with desk(run_daemon, receiver) as at:
        message = inbound()
        # In a thread: the daemon's heartbeats go on.
        await deferToThread(lambda: [at.park("inbound", message) for _ in range(many)])
        await until(lambda: at.side.count("inbound.parked") == many, "the parked ones")
        await at.counted()
        (found,) = (await at.ask("GET", "/api/connectors")).body["connectors"]
        assert found["parked"]["inbound"] == many
        listed = await at.ask("GET", "/api/parked?limit=50")
        assert (len(listed.body["parked"]), listed.body["more"]) == (50, True)
        assert (await at.page("/"))[0] == 200
        # The broker marks those that were delivered before.
        read = await deferToThread(_redelivered, at, many)
        assert 50 <= read <= 50 + 2 * BATCH


@pytest_twisted.ensureDeferred
async def test_no_address_and_no_text(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """No secret, body or whole address stands anywhere without ?full=true: all pages and answers are searched."""
    token, secret = "destinations-t0ken-of-this-test", "operators-t0ken-of-this-test"
    options = {
        "admin_auth": json.dumps({"tokens": [secret]}),
        "mo_message_url_auth_token": token,
        "default_event_url": receiver.url("/events"),
    }
    headers = {"Authorization": f"Token {secret}"}
    async with desk(run_daemon, receiver, **options) as at:
        name, message = at.side.connector, inbound(transport_metadata={"msisdn": NUMBER})
        receiver.script(404)
        at.side.publish("inbound", message)
        await until(lambda: at.side.count("inbound.parked") == 1, "the parked one")
        at.park("inbound", inbound(), extra=NUMBER)
        at.park("inbound", f"no JSON: {TEXT} {NUMBER}".encode(), reason="unreadable")
        sent = await at.side.post({"to": NUMBER, "from": "8110", "content": TEXT})
        outbound_id = sent.body["result"]["message_id"]
        at.side.publish("event", Event(user_message_id=outbound_id, event_id="e", event_type="ack"))
        await until(lambda: at.side.count("inbound.parked") == 3, "the parked ones")
        seen: dict[str, str] = {}
        ahead = ["/", "/parked", "/health", "/metrics", "/health/live", "/health/ready", "/nothing"]
        ahead += [f"/messages?id={id}" for id in (message.message_id, outbound_id)]
        ahead += [f"/api/{rest}" for rest in ("connectors", "parked", "parked/nothing", "messages/nothing")]
        ahead += [f"/api/messages/{id}" for id in (message.message_id, outbound_id)]
        ahead += [f"/api/parked/{message.message_id}", f"/api/parked?connector={name}&kind=inbound"]
        while ahead:
            path = ahead.pop()
            _, seen[path] = await at.page(path, headers=headers)
            links = [html.unescape(link) for link in re.findall(r'href="(/[^"]*)"', seen[path])]
            ahead += [link for link in links if link not in seen and "full=true" not in link]
        assert len(seen) > 20
        for path, text in seen.items():
            for private in (NUMBER[1:], TEXT, token, secret):
                assert private not in text, path


@pytest_twisted.ensureDeferred
async def test_channels_of_a_store(run_junebug: RunJunebug, receiver: Receiver) -> None:
    """A channel that was made at run time is a connector too: it can be paused, and stays so when it is restarted and
    when the daemon is; its parked messages are found."""
    prefix = uuid.uuid4().hex
    options: dict[str, Any] = {"admin_bind": "localhost:0", **redis_options(prefix)}
    async with run_junebug(**options) as side:
        id = await side.create(mo_url=receiver.url())
        at = Desk(side.of(id))
        assert (await at.ask("POST", path(at, "pause"))).body["kept"] is True
        assert (await side.call("POST", f"/channels/{id}/restart")).status == 200
        at.side.publish("inbound", inbound())
        await until(lambda: at.side.count("inbound") == 1, "the message")
        at.park_messages(1)
        await until(lambda: at.side.count("inbound.parked") == 1, "the parked one")
        assert len((await at.ask("GET", f"/api/parked?connector={id}")).body["parked"]) == 1
    async with run_junebug(**options) as side:
        at = Desk(side.of(id))
        (found,) = (await at.ask("GET", "/api/connectors")).body["connectors"]
        assert (found["name"], found["paused"], at.side.count("inbound")) == (id, True, 1)
        await at.ask("POST", path(at, "resume"))
        await until(lambda: receiver.requests, "the delivery")

"""An old deployment of Junebug goes on: its Redis, its ``junebug.yml`` and its command, with the real daemon."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_twisted

from junebug_turn.messages.vumi import Event, Message
from tests.conftest import pika_connection
from tests.support.commands import JB, RunCommand, asked, wait_for
from tests.support.daemon import taken, until
from tests.support.store_harness import redis_server
from tools.old_junebug.__main__ import junebug_yml, main
from tools.old_junebug.deployment import Deployment
from tools.servers.process import free_port
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver
from tools.servers.redis import RedisServer, commands


@pytest_twisted.ensureDeferred
async def test_an_old_deployment_goes_on(
    rabbitmq: RabbitNode, vhost: str, receiver: Receiver, run_command: RunCommand, tmp_path: Path
) -> None:
    """``jb -c junebug.yml`` on an old Redis is healthy and lists all 40 channels at once; replies to messages that were
    received before the switch reach the transports, events of messages that were sent before it their event_url."""
    receiver_url = receiver.url("")
    deployment = Deployment.of(receiver_url)
    redis, prefix, port = redis_server().url, tmp_path.name, free_port()
    commands(redis, list(deployment.commands(receiver_url, prefix)))
    broker = f"amqp://{rabbitmq.username}:{quote(rabbitmq.password)}@{rabbitmq.host}:{rabbitmq.port}/{vhost}"
    file = tmp_path / "junebug.yml"
    file.write_text(junebug_yml(redis, broker, port, prefix))
    process = run_command(*JB, "-c", str(file))
    base = f"http://127.0.0.1:{port}"
    wait_for(f"{base}/health", process, tmp_path / "output", 200)

    times = []
    for _ in range(10):
        began = time.monotonic()
        listed = asked(f"{base}/channels/")[1]["result"]
        times.append(time.monotonic() - began)
        assert listed == sorted(deployment.channels)
    assert len(listed) == 40
    assert min(times) < 0.5, times
    assert asked(f"{base}/routers/")[1]["result"] == sorted(deployment.routers)
    for id, properties in deployment.channels.items():
        shown = asked(f"{base}/channels/{id}")[1]["result"]
        assert properties.items() <= shown.items()
        assert shown["status"]["components"][properties["type"]]["message"] == "well"

    connection = pika_connection(rabbitmq, vhost)
    transport = connection.channel()
    destinations = {
        id: (deployment.routers[router]["config"]["channel"], f"/routers/{router}/destinations/{id}")
        for id, (router, _) in deployment.destinations.items()
    }
    places = {id: (id, f"/channels/{id}") for id in deployment.received} | destinations
    for id, (channel, path) in places.items():
        reply = {"reply_to": deployment.received[id], "content": "an answer"}
        status, answer = asked(f"{base}{path}/messages/", reply)
        assert status == 201, answer
        sent = await taken(transport, f"{channel}.outbound")
        assert (sent["in_reply_to"], sent["content"]) == (deployment.received[id], "an answer")
        events = asked(f"{base}{path}/messages/{deployment.sent[id]}")[1]["result"]["events"]
        assert [event["event_type"] for event in events] == ["submitted"]

    for id, (channel, _) in places.items():
        event = {
            "message_version": "20110921",
            "message_type": "event",
            "event_id": f"later-{id}",
            "event_type": "delivery_report",
            "delivery_status": "delivered",
            "user_message_id": deployment.sent[id],
            "timestamp": "2026-11-25 10:00:00.000000",
        }
        transport.basic_publish("vumi", f"{channel}.event", json.dumps(event).encode())
    # A channel that has an amqp_queue alone gives its events to that, as with Junebug.
    wanted = {
        f"/events/{id}"
        for id, (channel, _) in places.items()
        if id in destinations or "mo_url" in deployment.channels[channel]
    }
    await until(lambda: wanted <= {request.path for request in receiver.requests}, "the events")
    for request in receiver.requests:
        if request.path in wanted:
            assert request.headers["authorization"] == "Token event-token"
            assert request.json["event_type"] == "delivery_succeeded"
    for properties in deployment.channels.values():
        if "amqp_queue" in properties:
            got = await taken(transport, f"{properties['amqp_queue']}.event")
            assert got["event_type"] == "delivery_report"
    connection.close()


def test_the_tool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``python -m tools.old_junebug`` fills an empty Redis only, and writes files that nobody else can read."""
    with RedisServer() as server:
        url = server.url.removesuffix("/0") + "/1"
        argv = ["--redis", url, "--directory", str(tmp_path), "--port", "8090"]
        assert main(argv) == 0
        assert len(commands(url, [("GET", "none"), ("DBSIZE",)])) == 2
        assert (tmp_path / "junebug.yml").stat().st_mode & 0o777 == 0o600
        assert json.loads((tmp_path / "deployment.json").read_text()).keys() == {"received", "sent"}
        assert server.cli("-n", "1", "scard", "channels").strip() == "40"
        assert main(argv) == 1
        assert "name an empty one" in capsys.readouterr().err
    assert main(["--redis", f"redis://127.0.0.1:{free_port()}/0"]) == 1


def hash_of(key: str) -> dict[str, str]:
    words = redis_server().cli("hgetall", key).splitlines()
    return dict(zip(words[::2], words[1::2], strict=True))


def members(key: str) -> list[str]:
    return sorted(redis_server().cli("smembers", key).split())


@pytest_twisted.ensureDeferred
async def test_going_back(
    rabbitmq: RabbitNode, vhost: str, receiver: Receiver, run_command: RunCommand, tmp_path: Path
) -> None:
    """After the rollback of docs/migrating.md the Redis is one of Junebug 0.2: each key that it reads has the type, the
    JSON and the expiry that it writes, with what was made, changed and deleted, received and sent meanwhile."""
    url = receiver.url("")
    deployment = Deployment.of(url)
    redis, prefix, port = redis_server().url, tmp_path.name, free_port()
    commands(redis, list(deployment.commands(url, prefix)))
    keys = redis_server().cli("--scan", "--pattern", f"{prefix}:*").split()
    before = _kinds(redis, keys)
    broker = f"amqp://{rabbitmq.username}:{quote(rabbitmq.password)}@{rabbitmq.host}:{rabbitmq.port}/{vhost}"
    file = tmp_path / "junebug.yml"
    file.write_text(junebug_yml(redis, broker, port, prefix))
    process = run_command(*JB, "-c", str(file))
    base = f"http://127.0.0.1:{port}"
    wait_for(f"{base}/health", process, tmp_path / "output", 200)

    body = {"type": "telnet", "config": {"twisted_endpoint": "tcp:9002"}, "mo_url": f"{url}/new"}
    made = asked(f"{base}/channels/", body)[1]["result"]["id"]
    changed, deleted = (
        id for id, each in deployment.channels.items() if each["label"] in ("smpp 0", "smpp 1")
    )
    assert asked(f"{base}/channels/{changed}", {"label": "another", "mo_url": f"{url}/changed"})[0] == 200
    assert asked(f"{base}/channels/{deleted}", method="DELETE")[0] == 200
    router = next(iter(deployment.routers))
    destination = {"config": {"regular_expression": "^8130$"}, "mo_url": f"{url}/8130"}
    status, answer = asked(f"{base}/routers/{router}/destinations/", destination)
    assert status == 201, answer
    added = answer["result"]["id"]
    request = {"to": "+2781", "from": "8110", "content": "hi", "event_url": f"{url}/event"}
    sent = asked(f"{base}/channels/{made}/messages/", request)[1]["result"]
    connection = pika_connection(rabbitmq, vhost)
    transport = connection.channel()
    message = Message(
        to_addr="8110", from_addr="+2781", transport_name=made, transport_type="telnet", content="a"
    )
    transport.basic_publish("vumi", f"{made}.inbound", message.to_json())
    event = Event(user_message_id=sent["message_id"], event_type="ack", sent_message_id="s1")
    transport.basic_publish("vumi", f"{made}.event", event.to_json())
    await until(lambda: {"/new", "/event"} <= {each.path for each in receiver.requests}, "both")
    connection.close()
    process.terminate()
    process.wait(60)

    def stored(key: str) -> Any:
        (text,) = commands(redis, [("GET", f"{prefix}:{key}")])
        return json.loads(text)

    assert members(f"{prefix}:channels") == sorted({*deployment.channels, made} - {deleted})
    assert stored(f"{made}:properties") == body
    assert stored(f"{changed}:properties") == deployment.channels[changed] | {
        "label": "another",
        "mo_url": f"{url}/changed",
    }
    for id in set(deployment.channels) - {changed, deleted}:
        assert stored(f"{id}:properties") == deployment.channels[id]
    assert members(f"{prefix}:routers") == sorted(deployment.routers)
    assert added in members(f"{prefix}:routers:{router}:destinations")
    assert stored(f"routers:{router}:destinations:{added}") == destination | {"id": added}
    for id, (of_router, definition) in deployment.destinations.items():
        assert stored(f"routers:{of_router}:destinations:{id}") == definition

    # What Junebug's stores read: TransportUserMessage.from_json, the request with the result, TransportEvent.from_json.
    inbound = f"{prefix}:{made}:inbound_messages:{message.message_id}"
    assert json.loads(hash_of(inbound)["message"]) == json.loads(message.to_json())
    outbound = f"{prefix}:{made}:outbound_messages:{sent['message_id']}"
    fields = hash_of(outbound)
    kept = json.loads(fields.pop("message"))
    assert kept.pop("traceparent"), "which Junebug doesn't look at"
    assert {name: value for name, value in kept.items() if value is not None} == {
        name: value for name, value in (request | sent).items() if value is not None
    }
    assert {name: json.loads(text) for name, text in fields.items()} == {
        event.event_id: json.loads(event.to_json())
    }
    assert 0 < int(redis_server().cli("ttl", inbound)) <= 600
    assert 600 < int(redis_server().cli("ttl", outbound)) <= 172800
    # No key of the deployment has become something else.
    after = _kinds(redis, keys)
    assert {key for key in keys if after[key] != before[key]} == {f"{prefix}:{deleted}:properties"}
    assert after[f"{prefix}:{deleted}:properties"] == "none"


def _kinds(redis: str, keys: list[str]) -> dict[str, str]:
    return dict(zip(keys, commands(redis, [("TYPE", key) for key in keys]), strict=True))

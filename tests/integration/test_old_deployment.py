"""An old deployment of Junebug goes on: its Redis, its ``junebug.yml`` and its command, with the real daemon."""

from __future__ import annotations

import json
import time
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_twisted

from tests.conftest import pika_connection
from tests.support.commands import JB, RunCommand, asked, free_port, wait_for
from tests.support.daemon import taken, until
from tests.support.store_harness import redis_server
from tools.old_junebug.__main__ import junebug_yml, main
from tools.old_junebug.deployment import Deployment
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

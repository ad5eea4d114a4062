"""The status of a transport: what it publishes, and whether it is there, on a real RabbitMQ."""

from __future__ import annotations

import json
import time
from typing import Any

import pika
import pytest_twisted

from tests.integration.conftest import RunDaemon
from tests.support.channels import RunJunebug
from tests.support.connector_harness import count
from tests.support.daemon import Running, until
from tests.support.store_harness import redis_server
from tools.servers.receiver import Receiver

BOUND = {
    "message_version": "20110921",
    "message_type": "status_event",
    "timestamp": "2021-01-14 10:00:00.000001",
    "routing_metadata": {},
    "helper_metadata": {},
    "reasons": [],
    "details": {"a": 1},
    "component": "smpp",
    "status": "ok",
    "type": "bound",
    "message": "Successfully bound",
}


def tell(side: Running, status: dict[str, Any] | bytes) -> None:
    """Publish a status as a vumi transport does."""
    body = status if isinstance(status, bytes) else json.dumps(status).encode()
    properties = pika.BasicProperties(delivery_mode=2)
    side.channel.basic_publish("vumi", f"{side.connector}.status.status", body, properties)


@pytest_twisted.ensureDeferred
async def test_statuses(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """What a transport publishes to <id>.status.status is kept, in Junebug's key, and POSTed to status_url; an answer
    that is no 2xx has it POSTed again, and one that can't be read stops nothing."""
    server = redis_server()
    async with run_daemon(
        "junebug",
        mo_message_url=receiver.url("/in"),
        status_url=receiver.url("/status"),
        state_cache_class="redis",
        state_cache_config={"url": server.url},
        retry_delay_base=0,
    ) as side:
        tell(side, b"not JSON")
        receiver.script(503, path="/status")
        tell(side, BOUND)
        first, again = await receiver.received(2)
        form = {key: BOUND[key] for key in ("component", "status", "type", "message", "details")}
        assert first.json == again.json == {"channel_id": side.connector, **form}
        tell(side, BOUND | {"status": "down", "type": "connection_lost"})
        assert (await receiver.received(3))[-1].json["status"] == "down"
        await side.handlers_done()
        key = f"{side.connector}.status.status"
        assert side.channel.queue_declare(key, passive=True).method.message_count == 0
        kept = json.loads(server.cli("HGET", f"{side.connector}:status", "smpp"))
        assert kept == BOUND | {"status": "down", "type": "connection_lost"}
        side.channel.queue_delete(key)


@pytest_twisted.ensureDeferred
async def test_channel_of_the_store(run_junebug: RunJunebug, receiver: Receiver) -> None:
    """GET /channels/<id> shows what the transport of a channel tells, also without mo_url; a status_url that is new
    counts at once, and a channel that is deleted has its statuses left in their queue."""
    async with run_junebug() as side:
        id = await side.create()
        channel = side.of(id)
        tell(channel, BOUND | {"status": "degraded"})

        async def shown() -> Any:
            return (await side.call("GET", f"/channels/{id}")).body["result"]["status"]

        end = time.monotonic() + 30
        while "smpp" not in (found := await shown())["components"]:
            assert time.monotonic() < end, found
        assert found["components"]["smpp"] == {
            "channel_id": id,
            **{key: BOUND[key] for key in ("component", "type", "message", "details")},
            "status": "degraded",
        }
        assert found["status"] == "down"
        side.channel.basic_consume(f"{id}.outbound", lambda *_: None)
        assert (await shown())["status"] == "degraded"
        assert not receiver.requests
        answer = await side.call("POST", f"/channels/{id}", {"status_url": receiver.url("/status")})
        assert answer.status == 200
        tell(channel, BOUND)
        (request,) = await receiver.received(1)
        assert (request.path, request.json["status"], request.json["channel_id"]) == ("/status", "ok", id)
        assert (await side.call("DELETE", f"/channels/{id}")).status == 200
        queue = f"{id}.status.status"
        await until(
            lambda: not side.channel.queue_declare(queue, passive=True).method.consumer_count, "no consumer"
        )
        tell(channel, BOUND)
        await until(lambda: count(side.channel, queue) == 1, "the status in its queue")


@pytest_twisted.ensureDeferred
async def test_rates_of_a_channel(run_junebug: RunJunebug) -> None:
    """Messages that a channel sends are in its rate when their window is over."""
    defaults = {"retry_delay_base": 0, "metric_window": 1}
    async with run_junebug(channels_defaults=defaults) as side:
        id = await side.create(mo_url="http://127.0.0.1:1/")
        end = time.monotonic() + 30
        while time.monotonic() < end:
            answer = await side.of(id).post({"to": "1", "content": "c"})
            assert answer.status == 201
            status = (await side.call("GET", f"/channels/{id}")).body["result"]["status"]
            if status["outbound_message_rate"] > 0:
                break
        assert status["outbound_message_rate"] >= 1
        assert status["inbound_message_rate"] == 0

"""Kannel's interface on a real RabbitMQ: RapidPro's requests and rules at one side, pika at the other."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import treq
from pika.adapters.blocking_connection import BlockingChannel

from junebug_turn.messages.vumi import Event, Message
from tests.integration.conftest import RunDaemon
from tests.integration.test_outage import Process, healthy, processes
from tests.support.courier import KANNEL, Courier
from tests.support.daemon import Running
from tools.demo import courier
from tools.demo.courier import FAMILIES, Outgoing
from tools.servers.process import free_port
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import HANG

PATH = "/kannel"
PHONE = "+250788383383"


@pytest_twisted.async_yield_fixture
async def receiver() -> AsyncIterator[Courier]:
    """RapidPro."""
    server = Courier()
    server.start()
    yield server
    await server.stop()


def options(receiver: Courier, **changes: Any) -> dict[str, Any]:
    return {
        "base_url_path": PATH,
        "receive_url": receiver.url(f"{KANNEL}/receive"),
        "api_auth": {"users": {"rapidpro": "s3cret pass"}},
        "retry_delay_base": 0,
        **changes,
    }


@pytest_twisted.async_yield_fixture
async def side(run_daemon: RunDaemon, receiver: Courier) -> AsyncIterator[Running]:
    """The daemon with one Kannel application; a test gives more options through its mark."""
    async with run_daemon("kannel", **options(receiver)) as running:
        yield running


async def sendsms(url: str, receiver: Courier, family: str, id: str, text: str = "Molo ☺") -> tuple[int, str]:
    """Make the request of RapidPro's Kannel channel."""
    message = Outgoing(text=text, to=PHONE, id=id)
    path = f"{url}{PATH}/cgi-bin/sendsms"
    callback = receiver.url(KANNEL)
    request = courier.kannel(family, path, message, callback, "rapidpro", "s3cret pass")
    response = await treq.get(request.url, headers=request.headers, persistent=False, timeout=30)
    return response.code, await response.text()


def inbound(content: str | None = "hi", **fields: Any) -> Message:
    base: dict[str, Any] = {
        "to_addr": "8864",
        "from_addr": PHONE,
        "transport_name": "t",
        "transport_type": "sms",
    }
    return Message(**{**base, "content": content, **fields})


def events(message_id: str) -> list[Event]:
    report = {"event_type": "delivery_report"}
    return [
        Event(user_message_id=message_id, event_type="ack", sent_message_id="s"),
        Event(user_message_id=message_id, delivery_status="pending", **report),
        Event(user_message_id=message_id, delivery_status="delivered", **report),
        Event(user_message_id=message_id, delivery_status="failed", **report),
        Event(user_message_id=message_id, event_type="nack", nack_reason="no"),
    ]


@pytest.mark.parametrize("family", FAMILIES)
@pytest_twisted.ensureDeferred
async def test_sms(side: Running, receiver: Courier, family: str) -> None:
    """SMS both ways with each family: the reports that it asked for carry its id, and an inbound message has one."""
    receiver.numeric = family != "current"
    id = courier.new_id(family)
    status, body = await sendsms(side.url, receiver, family, id)
    assert (status, body) == (202, "0: Accepted for delivery")
    assert courier.judged(family, status, body) == "wired"
    sent = await side.outbound()
    assert (sent["to_addr"], sent["from_addr"], sent["content"]) == (PHONE, "+8864", "Molo ☺")
    for event in events(sent["message_id"]):
        side.publish("event", event)
    name = "uuid" if family == "current" else "id"
    # Its mask is 27: all but 4, buffered.
    assert await receiver.saw(4) == [
        ("status", {name: id, "status": bit}, 200) for bit in ("8", "1", "2", "16")
    ]
    assert {request.method for request in receiver.requests} == {"GET"}
    came = inbound("Ewe ☺ & +")
    side.publish("inbound", came)
    ((action, fields, answered),) = await receiver.saw(1)
    assert (action, answered) == ("receive", 200)
    assert (fields["id"], fields["sender"], fields["to"]) == (came.message_id, PHONE, "8864")
    assert fields["message"] == "Ewe ☺ & +"
    assert side.count("inbound") == side.count("event") == 0


@pytest.mark.options(receive_method="get")
@pytest_twisted.ensureDeferred
async def test_receive_by_get(run_daemon: RunDaemon, receiver: Courier) -> None:
    """With receive_method get an inbound message is a GET of the URL with its escapes replaced, tried again as any."""
    url = receiver.url(f"{KANNEL}/receive?id=%I&sender=%p&to=%P&message=%a&ts=%T")
    async with run_daemon("kannel", **options(receiver, receive_url=url)) as side:
        receiver.script(503)
        came = inbound("Ewe ☺ & +")
        side.publish("inbound", came)
        ((_, fields, status),) = await receiver.saw(1)
        assert (fields["id"], fields["message"], fields["to"], status) == (
            came.message_id,
            "Ewe ☺ & +",
            "8864",
            200,
        )
        assert [request.method for request in receiver.requests] == ["GET", "GET"]


@pytest_twisted.ensureDeferred
async def test_some_receivers_fail(side: Running) -> None:
    """Every receiver of a request has a message of its own, confirmed by the broker."""
    query = {"username": "rapidpro", "password": "s3cret pass", "from": "8864", "to": "271 272", "text": "hi"}
    response = await treq.get(f"{side.url}{PATH}/send", params=query, persistent=False, timeout=30)
    assert (response.code, await response.text()) == (202, "0: Accepted for delivery")
    assert {(await side.outbound())["to_addr"] for _ in range(2)} == {"271", "272"}
    side.channel.queue_unbind(f"{side.connector}.outbound", "vumi", f"{side.connector}.outbound")
    response = await treq.get(f"{side.url}{PATH}/send", params=query, persistent=False, timeout=30)
    assert (response.code, await response.text()) == (503, "Temporal failure, try again later.")
    side.channel.queue_bind(f"{side.connector}.outbound", "vumi", f"{side.connector}.outbound")


@pytest_twisted.ensureDeferred
async def test_refused_by_rapidpro(side: Running, receiver: Courier) -> None:
    """An answer of 400 is permanent: the message is parked at once, and the next one is delivered."""
    side.publish("inbound", inbound(from_addr=None))
    _, body = await side.taken("inbound.parked")
    assert json.loads(body)["content"] == "hi"
    side.publish("inbound", inbound("next"))
    await receiver.until(lambda: len(receiver.seen) >= 2, "both")
    assert [status for _, _, status in receiver.seen] == [400, 200]


# A daemon that is killed in the middle


@pytest.fixture
def process(
    rabbitmq: RabbitNode, connector_name: str, receiver: Courier, tmp_path: Path
) -> Iterator[Callable[[int], Process]]:
    """Starts daemons that are processes of their own, with one store."""
    store = {"message_cache_class": "sqlite", "message_cache_config": {"path": str(tmp_path / "cache.db")}}
    base = {"application": "kannel", "connector_name": connector_name, **store, **options(receiver)}
    with processes(tmp_path, rabbitmq, **base) as start:
        yield lambda port: start(http_bind=f"127.0.0.1:{port}")


@pytest_twisted.ensureDeferred
async def test_killed(
    process: Callable[[int], Process], receiver: Courier, pika_channel: BlockingChannel, connector_name: str
) -> None:
    """After kill -9, while a report and an inbound message were under way, both come again, with their ids."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    daemon = process(port)
    await healthy(url)
    assert (await sendsms(url, receiver, "stable", "7", "hi"))[0] == 202
    _, _, body = pika_channel.basic_get(f"{connector_name}.outbound", auto_ack=True)
    message_id = json.loads(body or b"")["message_id"]
    receiver.script(HANG, HANG)
    came = inbound()
    pika_channel.basic_publish("vumi", f"{connector_name}.inbound", came.to_json())
    ack = Event(user_message_id=message_id, event_type="ack", sent_message_id="s")
    pika_channel.basic_publish("vumi", f"{connector_name}.event", ack.to_json())
    await receiver.until(lambda: len(receiver.requests) == 2, "both")
    daemon.process.kill()
    daemon.process.wait()
    process(port)
    seen = {action: fields for action, fields, _ in await receiver.saw(2)}
    assert seen["status"] == {"id": "7", "status": "8"}
    assert seen["receive"]["id"] == came.message_id

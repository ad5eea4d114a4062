"""RapidPro's External channel on a real RabbitMQ: courier's requests and rules at one side, pika at the other."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from pika.adapters.blocking_connection import BlockingChannel

from junebug_turn.messages.vumi import Event, Message
from tests.integration.conftest import RunDaemon
from tests.integration.test_outage import Process, healthy, processes
from tests.support.courier import EXTERNAL, Courier, send
from tests.support.daemon import Running, until
from tools.demo import courier
from tools.demo.courier import FAMILIES, Outgoing
from tools.servers.process import free_port
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import HANG

PATH = "/rapidpro"
URL = f"{PATH}/send?id={{{{id}}}}&session_status={{{{session_status}}}}"
PHONE = "+250788383383"


@pytest_twisted.async_yield_fixture
async def receiver() -> AsyncIterator[Courier]:
    """RapidPro."""
    server = Courier()
    server.start()
    yield server
    await server.stop()


def options(receiver: Courier) -> dict[str, Any]:
    return {
        "base_url_path": PATH,
        "rapidpro_url": receiver.url(EXTERNAL),
        "default_from_addr": "8864",
        "retry_delay_base": 0,
    }


@pytest_twisted.async_yield_fixture
async def side(run_daemon: RunDaemon, receiver: Courier) -> AsyncIterator[Running]:
    """The daemon with one External channel; a test gives more options through its mark."""
    async with run_daemon("rapidpro", **options(receiver)) as running:
        yield running


def inbound(content: str | None = "hi", **fields: Any) -> Message:
    base: dict[str, Any] = {
        "to_addr": "*120*8864#",
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


@pytest.mark.parametrize("content", ["form", "json", "get"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest_twisted.ensureDeferred
async def test_sms(side: Running, receiver: Courier, family: str, content: str) -> None:
    """SMS both ways with each family, with the same set-up: sent, delivered and failed carry its id unchanged, and its
    handler takes all that it gets."""
    receiver.numeric = family != "current"
    id = courier.new_id(family)
    (request,) = courier.external(family, URL, Outgoing(text="Molo ☺", to=PHONE, id=id), content=content)
    answer = await send(side, request)
    sent = await side.outbound()
    assert answer.body == {"message_id": sent["message_id"], "status": "accepted"}
    assert courier.judged(family, answer.status, json.dumps(answer.body)) == "wired"
    expected = {
        "to_addr": PHONE,
        "from_addr": "+8864",
        "content": "Molo ☺",
        "transport_type": "sms",
        "in_reply_to": None,
        "session_event": None,
    }
    assert {key: sent[key] for key in expected} == expected
    for event in events(sent["message_id"]):
        side.publish("event", event)
    seen = await receiver.saw(4)
    assert seen == [(action, {"id": id}, 200) for action in ("sent", "delivered", "failed", "failed")]
    came = inbound("Ewe ☺ & +")
    side.publish("inbound", came)
    ((action, fields, status),) = await receiver.saw(1)
    assert (action, fields["from"], fields["text"], status) == ("receive", PHONE, "Ewe ☺ & +", 200)
    (request,) = courier.external(family, URL, Outgoing(text="reply", to=PHONE, id="2"), content=content)
    await send(side, request)
    reply = await side.outbound()
    assert (reply["in_reply_to"], reply["from_addr"]) == (came.message_id, "*120*8864#")
    assert side.count("inbound") == side.count("event") == 0


@pytest_twisted.ensureDeferred
async def test_ussd(side: Running, receiver: Courier) -> None:
    """A USSD session of four steps: its start without text, a menu, an answer in words, the end; the close that comes
    after it is not forwarded, and a late message is a new one."""

    async def dial(content: str | None, event: str) -> str:
        message = inbound(content, transport_type="ussd", session_event=event)
        side.publish("inbound", message)
        ((_, fields, status),) = await receiver.saw(1)
        assert status == 200
        dialled.append(message.message_id)
        return fields["text"]

    async def answer(text: str, status: str, *replies: str) -> dict[str, Any]:
        number = 100 + len(dialled)
        message = Outgoing(text=text, to=PHONE, id=str(number), session_status=status, quick_replies=replies)
        (request,) = courier.external("stable", URL, message)
        assert (await send(side, request)).status == 200
        return await side.outbound()

    dialled: list[str] = []
    assert await dial(None, "new") == "*120*8864#"
    shown = [await answer("Welcome. Language?", "W", "English", "isiXhosa")]
    assert shown[0]["content"] == "Welcome. Language?\n1. English\n2. isiXhosa"
    assert await dial("2", "resume") == "isiXhosa"
    shown.append(await answer("Igama lakho?", "W"))
    assert await dial("1", "resume") == "1"
    shown.append(await answer("Sure?", "W", "Yes", "No"))
    assert await dial("Yes", "resume") == "Yes"
    shown.append(await answer("Enkosi", "C"))
    assert [(each["in_reply_to"], each["session_event"]) for each in shown] == list(
        zip(dialled, ["resume", "resume", "resume", "close"], strict=True)
    )
    side.publish("inbound", inbound(None, transport_type="ussd", session_event="close"))
    await until(lambda: not side.count("inbound"))
    await side.handlers_done()
    late = await answer("Are you there?", "C")
    assert (late["in_reply_to"], late["transport_type"], late["session_event"]) == (None, "sms", None)
    assert receiver.seen == []


@pytest_twisted.ensureDeferred
async def test_refused_by_rapidpro(side: Running, receiver: Courier) -> None:
    """An answer of 400 is permanent: the message is parked at once, and the next one is delivered."""
    side.publish("inbound", inbound(from_addr=None))
    _, body = await side.taken("inbound.parked")
    assert json.loads(body)["content"] == "hi"
    side.publish("inbound", inbound("next"))
    await receiver.until(lambda: len(receiver.seen) >= 2, "both")
    assert [status for _, _, status in receiver.seen] == [400, 200]


@pytest_twisted.ensureDeferred
async def test_broker_away(side: Running, receiver: Courier) -> None:
    """Without a queue for the message the answer is a 503 in RapidPro's form, and each family tries it again."""
    side.channel.queue_unbind(f"{side.connector}.outbound", "vumi", f"{side.connector}.outbound")
    (request,) = courier.external("current", URL, Outgoing(text="hi", to=PHONE, id="7"))
    answer = await send(side, request)
    assert (answer.status, answer.body["error"]["type"]) == (503, "Unroutable")
    assert "retry-after" in answer.headers
    assert {courier.judged(family, answer.status, "") for family in FAMILIES} == {"retried"}
    side.channel.queue_bind(f"{side.connector}.outbound", "vumi", f"{side.connector}.outbound")
    assert (await send(side, request)).status == 200


# A daemon that is killed in the middle


class Outside(Running):
    """A daemon that is a process of its own."""

    def __init__(self, port: int, connector: str, receiver: Courier, channel: BlockingChannel) -> None:
        self.connector, self.receiver, self.channel = connector, receiver, channel
        self.url, self.path, self.port = f"http://127.0.0.1:{port}", PATH, port


@pytest.fixture
def process(
    rabbitmq: RabbitNode, connector_name: str, receiver: Courier, tmp_path: Path
) -> Iterator[Callable[[int], Process]]:
    """Starts daemons that are processes of their own, with one store."""
    store = {"message_cache_class": "sqlite", "message_cache_config": {"path": str(tmp_path / "cache.db")}}
    base = {"application": "rapidpro", "connector_name": connector_name, **store, **options(receiver)}
    with processes(tmp_path, rabbitmq, **base) as start:
        yield lambda port: start(http_bind=f"127.0.0.1:{port}")


@pytest_twisted.ensureDeferred
async def test_killed(
    process: Callable[[int], Process], receiver: Courier, pika_channel: BlockingChannel, connector_name: str
) -> None:
    """After kill -9 in the middle of a session the menu is known, its answer is a reply, and events find their id."""
    port = free_port()
    daemon = process(port)
    await healthy(f"http://127.0.0.1:{port}")
    side = Outside(port, connector_name, receiver, pika_channel)
    side.publish("inbound", inbound(None, transport_type="ussd", session_event="new"))
    await receiver.saw(1)
    menu = Outgoing(text="Well?", to=PHONE, id="1", session_status="W", quick_replies=["Yes", "No"])
    await send(side, courier.external("weni", URL, menu)[0])
    shown = await side.outbound()
    # RapidPro hangs while the answer comes: it is not acked when the daemon dies.
    receiver.script(HANG)
    chosen = inbound("2", transport_type="ussd", session_event="resume")
    side.publish("inbound", chosen)
    await receiver.until(lambda: len(receiver.requests) == 2, "the answer")
    daemon.process.kill()
    daemon.process.wait()
    process(port)
    await healthy(side.url)
    ((action, fields, _),) = await receiver.saw(1)
    assert (action, fields["text"]) == ("receive", "No")
    side.publish("event", Event(user_message_id=shown["message_id"], event_type="ack", sent_message_id="s"))
    assert await receiver.saw(1) == [("sent", {"id": "1"}, 200)]
    end = Outgoing(text="Bye", to=PHONE, id="2", session_status="C")
    await send(side, courier.external("weni", URL, end)[0])
    assert (await side.outbound())["in_reply_to"] == chosen.message_id

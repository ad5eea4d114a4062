"""Destinations that are down or set up wrongly, and what tells them a repeat, on the real daemon."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from pika.adapters.blocking_connection import BlockingChannel
from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater

from junebug_turn.delivery.circuit import FAILURES, PROOF
from junebug_turn.delivery.signature import Webhook, signing_key
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.state.message_store import OutboundRecord
from tests.support.daemon import Running, running, until
from tools.servers.process import free_port
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import HANG, Answer, Receiver

reactor: Any = _reactor

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TURN = {"default_from_addr": "8110", "auth_token": "t", "turn_hmac_secret": "s"}


def inbound(**fields: Any) -> Message:
    return Message(
        **{
            "to_addr": "8110",
            "from_addr": "+26612345678",
            "transport_name": "transport",
            "transport_type": "sms",
            "content": "hello",
            **fields,
        }
    )


@pytest.fixture
def start(
    rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel, receiver: Receiver
) -> Callable[..., Any]:
    """The daemon with one application; the first argument names it, the others are its options."""

    def run(application: str = "junebug", **options: Any) -> Any:
        if application == "junebug":
            options = {"mo_message_url": receiver.url("/inbound"), "default_from_addr": "8110"} | options
        else:
            options = {**TURN, "turn_api_url": receiver.url("/turn")} | options
        return running(
            rabbitmq,
            connector_name,
            pika_channel,
            receiver,
            application,
            **{"retry_delay_base": 0, **options},
        )

    return run


@pytest_twisted.async_yield_fixture
async def dead() -> AsyncIterator[Receiver]:
    """A host that takes requests and never answers."""
    host = Receiver(reactor)
    host.default = HANG
    host.start()
    yield host
    await host.stop()


async def destinations(side: Running) -> Any:
    answer = await side.request("GET", "/health")
    assert (answer.status, answer.body["health"]) == (200, "ok")
    shown = answer.body["components"]["destinations"]
    assert shown["ok"] is True
    assert shown["state"] == ("degraded" if shown["origins"] else "ok")
    return shown["origins"]


@pytest.mark.parametrize("application", ["junebug", "turn"])
@pytest_twisted.ensureDeferred
async def test_endpoint_set_up_wrongly(start: Callable[..., Any], application: str) -> None:
    """While mo_message_url, or Turn, answers 404 to several different messages nothing is parked and few requests go
    out; /health shows the origin; when it is repaired the whole backlog flows."""
    async with start(application, retry_delay_base=2) as side:
        side.receiver.default = Answer(404)
        messages = [inbound(content=f"m{number}", from_addr=f"+{number}") for number in range(50)]
        for message in messages:
            side.publish("inbound", message)
        await side.receiver.received(1)
        await until(lambda: side.daemon.health()["destinations"]["origins"], "the circuit")
        shown = await destinations(side)
        origin = f"http://127.0.0.1:{side.receiver.port}"
        assert list(shown) == [origin]
        assert (shown[origin]["state"], shown[origin]["fault"]) == ("degraded", "HTTP status 404")
        # What was under way when the first answer came, and the probes until the circuit opened; no more.
        assert len(side.receiver.requests) <= 20 + PROOF
        side.receiver.requests.clear()
        side.receiver.default = Answer(200)
        await side.receiver.received(len(messages))
        await until(lambda: side.count("inbound") == 0, "the acks")
        assert side.count("inbound.parked") == 0
        assert {request.headers["webhook-id"] for request in side.receiver.requests} == {
            message.message_id for message in messages
        }
        assert await destinations(side) == {}


@pytest_twisted.ensureDeferred
async def test_client_s_own_url(start: Callable[..., Any]) -> None:
    """A 404 from an event_url that a client gave parks the event, and blames nobody."""
    async with start() as side:
        side.receiver.script(404)
        answer = await side.post({"to": "1", "content": "c", "event_url": side.receiver.url("/mine")})
        side.publish("event", Event(user_message_id=answer.body["result"]["message_id"], event_type="ack"))
        properties, _ = await side.taken("event.parked")
        assert properties.headers["last_status"] == 404
        assert await destinations(side) == {}


async def event_for(side: Running, url: str) -> Event:
    """An event of a message with this event_url."""
    message = inbound()
    await side.daemon.stores[side.connector].store_outbound(
        OutboundRecord(message.message_id, message.to_addr, url)
    )
    return Event(user_message_id=message.message_id, event_type="ack", sent_message_id="s")


async def seconds_for(side: Running, live: int, dead_url: str | None) -> float:
    """How long ``live`` events take, among as many for a dead host if one is given."""
    side.receiver.requests.clear()
    events = []
    for _ in range(live):
        events.append(await event_for(side, side.receiver.url("/live")))
        if dead_url is not None:
            events.append(await event_for(side, dead_url))
    start = time.monotonic()
    for event in events:
        side.publish("event", event)
    await side.receiver.received(live)
    return time.monotonic() - start


@pytest.mark.parametrize("how", ["refuses", "hangs"])
@pytest_twisted.ensureDeferred
async def test_dead_host_slows_no_other(start: Callable[..., Any], dead: Receiver, how: str) -> None:
    """With one dead event_url host and one live one, the live one's throughput is within 20 % of what it is
    alone."""
    dead_url = dead.url() if how == "hangs" else f"http://127.0.0.1:{free_port()}/"
    async with start(event_url_timeout=1, max_retries=0) as side:
        side.receiver.default = Answer(200, delay=0.15)
        # One after the other: so many at once would wait in the broker for the places of clients' URLs.
        end = time.monotonic() + 60
        while not side.daemon.health()["destinations"]["others"]:
            assert time.monotonic() < end, "the circuit did not open"
            side.publish("event", await event_for(side, dead_url))
            await deferLater(reactor, 0.2)
        ratios = []
        begun = time.monotonic()
        # A machine that is busy with something else makes one measurement say little.
        for _ in range(6):
            alone = await seconds_for(side, 150, None)
            together = await seconds_for(side, 150, dead_url)
            ratios.append(alone / together)
            if ratios[-1] >= 0.8:
                break
        assert ratios[-1] >= 0.8, f"throughput beside a dead host, in parts of that alone: {ratios}"
        assert len(dead.requests) < FAILURES + PROOF + 7 + (time.monotonic() - begun) / 2


@pytest_twisted.ensureDeferred
async def test_chains_make_room(start: Callable[..., Any], dead: Receiver) -> None:
    """When a host is found dead, the chains that wait for their next attempt there make room at once."""
    async with start(event_url_timeout=0.5, retry_delay_base=3600) as side:
        for _ in range(20):
            side.publish("event", await event_for(side, dead.url()))
        await until(
            lambda: sum(side.count(f"event.delayed.{delay}") for delay in ("1s", "5s", "30s")) >= 16,
            "the ends of the chains",
        )
        side.publish("event", await event_for(side, side.receiver.url("/live")))
        await side.receiver.received(1)
        assert len(dead.requests) <= 21


@pytest_twisted.ensureDeferred
async def test_stop_while_messages_wait(start: Callable[..., Any]) -> None:
    """Messages that wait for a destination go back to the broker at once when the daemon stops."""
    async with start(shutdown_timeout=60, retry_delay_base=2) as side:
        side.receiver.default = Answer(404)
        for number in range(5):
            side.publish("inbound", inbound(from_addr=f"+{number}"))
        await until(lambda: side.daemon.health()["destinations"]["origins"], "the circuit")
        stopping = time.monotonic()
        await side.daemon.stopService()
        assert time.monotonic() - stopping < 40
        await until(lambda: side.count("inbound") == 5, "the messages")
        assert side.count("inbound.parked") == 0


@pytest.mark.parametrize("application", ["junebug", "turn"])
@pytest_twisted.ensureDeferred
async def test_webhook_headers(start: Callable[..., Any], application: str) -> None:
    """Every POST of a message or an event has its id, the same on each attempt, the time of the attempt and, with
    webhook_secret, a signature: that of event_webhook_secret where a client gave the URL."""
    secrets = {"webhook_secret": SECRET}
    if application == "junebug":
        secrets["event_webhook_secret"] = "the secret of clients"
    async with start(application, **secrets) as side:
        side.receiver.script(503)
        message = inbound()
        side.publish("inbound", message)
        await side.receiver.received(2)
        event = await event_for(side, side.receiver.url("/mine"))
        side.publish("event", event)
        requests = await side.receiver.received(3)
        ids = [request.headers["webhook-id"] for request in requests]
        assert ids == [message.message_id] * 2 + [event.event_id]
        for request in requests:
            now = int(request.headers["webhook-timestamp"])
            assert abs(now - time.time()) < 30
            secret = secrets["event_webhook_secret"] if request.path == "/mine" else SECRET
            webhook = Webhook(request.headers["webhook-id"], signing_key(secret))
            expected = webhook.headers(now, request.body)["webhook-signature"]
            assert request.headers["webhook-signature"] == expected


@pytest_twisted.ensureDeferred
async def test_the_operators_secret_signs_nothing_for_clients(start: Callable[..., Any]) -> None:
    """webhook_secret signs no event for an event_url that a client gave: whoever can verify it can forge messages to
    those that it is for.  Without event_webhook_secret such an event is unsigned; one for default_event_url isn't."""
    async with start(webhook_secret=SECRET) as side:
        side.publish("event", await event_for(side, side.receiver.url("/mine")))
        (request,) = await side.receiver.received(1)
        assert "webhook-id" in request.headers
        assert "webhook-signature" not in request.headers
    async with start(webhook_secret=SECRET, default_event_url=side.receiver.url("/ours")) as side:
        side.publish("event", Event(user_message_id="unknown", event_type="ack"))
        request = (await side.receiver.received(2))[1]
        assert (request.path, "webhook-signature" in request.headers) == ("/ours", True)


@pytest_twisted.ensureDeferred
async def test_no_secret(start: Callable[..., Any]) -> None:
    """Without webhook_secret there is no signature."""
    async with start() as side:
        side.publish("inbound", inbound())
        (request,) = await side.receiver.received(1)
        assert "webhook-id" in request.headers
        assert "webhook-signature" not in request.headers


@pytest.mark.parametrize("application", ["junebug", "turn"])
@pytest_twisted.ensureDeferred
async def test_content_type(start: Callable[..., Any], application: str) -> None:
    """JSON goes out as Content-Type: application/json, without parameters, as both peers send it: vumi2, and Junebug
    0.2.0."""
    async with start(application) as side:
        side.publish("inbound", inbound(content="héllo"))
        side.publish("event", await event_for(side, side.receiver.url("/mine")))
        requests = await side.receiver.received(2)
        assert [request.headers["content-type"] for request in requests] == ["application/json"] * 2
        assert all(isinstance(request.json, dict) for request in requests)


@pytest.mark.parametrize("application", ["junebug", "turn"])
@pytest_twisted.ensureDeferred
async def test_malformed_answer(start: Callable[..., Any], application: str) -> None:
    """A message whose answer is malformed after the status line of a 200 is acked and POSTed once; so is an event."""
    async with start(application, max_retries=3) as side:
        malformed = Answer(
            how="malformed", body=b"HTTP/1.1 200 OK\r\nno header\r\nContent-Length: two\r\n\r\n{}"
        )
        side.receiver.default = malformed
        message = inbound()
        side.publish("inbound", message)
        event = await event_for(side, side.receiver.url("/mine"))
        side.publish("event", event)
        await side.receiver.received(2)
        await side.handlers_done()
        # What isn't acked is back in its queue after the stop; what was put off or parked is in another one.
        await side.daemon.stopService()
        for kind in ("inbound", "event"):
            assert [side.count(kind), side.count(f"{kind}.parked")] == [0, 0]
            assert (
                sum(side.count(f"{kind}.delayed.{delay}") for delay in ("1s", "5s", "30s", "5m", "30m", "2h"))
                == 0
            )
        posted = [request.headers["webhook-id"] for request in side.receiver.requests]
        assert sorted(posted) == sorted([message.message_id, event.event_id])

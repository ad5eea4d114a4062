"""Programs that were written for Junebug, played literally: their requests, and their receivers' rules.

Each against a configured application and against a channel of the store, below ``/jb`` and behind Basic authentication,
as docker-junebug had it.  From the sources of courier (``handlers/junebug``), casepro (``backend/junebug.py``),
seed-message-sender (``factory.py``) and ndoh-hub (``JembiHelpdeskOutgoingView``).
"""

from __future__ import annotations

import json
import re
import uuid
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Any

import pytest
import pytest_twisted

from junebug_turn.messages.vumi import Event, Message
from tests.integration.conftest import RunDaemon
from tests.support.channels import RunJunebug
from tests.support.daemon import Answered, Running
from tools.servers.receiver import Received, Receiver

USER, PASSWORD = "guest", "jb-password"
AUTH = {"users": {USER: PASSWORD}}
BASIC = {"Authorization": "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
SECRET = "s3cret"
# What an old receiver needs: see docs/junebug.md.
OPTIONS = {
    "retry_delay_base": 0,
    "require_from": False,
    "forward_session_close": False,
    "forward_events": ["submitted", "rejected", "delivery_succeeded", "delivery_failed"],
}

Begin = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture(params=["configured", "store"])
def channel(request: pytest.FixtureRequest, connector_name: str) -> Begin:
    """Runs the daemon with one channel, whose path is ``/jb/channels/<its connector>``."""
    if request.param == "configured":
        run_daemon: RunDaemon = request.getfixturevalue("run_daemon")

        def configured(mo_url: str, token: str | None = None) -> AbstractAsyncContextManager[Running]:
            return run_daemon(
                "junebug",
                base_url_path=f"/jb/channels/{connector_name}",
                api_auth=AUTH,
                mo_message_url=mo_url,
                **({} if token is None else {"mo_message_url_auth_token": token}),
                **OPTIONS,
            )

        return configured
    run_junebug: RunJunebug = request.getfixturevalue("run_junebug")

    @asynccontextmanager
    async def stored(mo_url: str, token: str | None = None) -> AsyncIterator[Running]:
        options = {"channels_base_path": "/jb", "channels_api_auth": AUTH, "channels_defaults": OPTIONS}
        async with run_junebug(**options) as side:
            body = {"type": "telnet", "config": {}, "mo_url": mo_url}
            body |= {} if token is None else {"mo_url_auth_token": token}
            answer = await side.call("POST", "/channels/", body, headers=BASIC)
            assert answer.status == 201, answer
            yield side.of(answer.body["result"]["id"])

    return stored


async def post(side: Running, path: str, body: str, **headers: str) -> Answered:
    """POST a body below the channel's path, byte for byte."""
    return await side.request("POST", f"{side.path}{path}", body.encode(), headers={**BASIC, **headers})


def phone(side: Running, message_id: str, **fields: Any) -> Message:
    common = {"to_addr": "+27820", "from_addr": "+27123456789", "transport_name": side.connector}
    return Message(message_id=message_id, **({"transport_type": "sms", "content": "hi"} | common | fields))


def events(message_id: str) -> list[Event]:
    """Events of a message, of each kind, as a transport publishes them."""
    reports = [
        Event(user_message_id=message_id, event_type="delivery_report", delivery_status=status)
        for status in ("pending", "delivered", "failed")
    ]
    return [
        Event(user_message_id=message_id, event_type="ack", sent_message_id="s"),
        *reports,
        Event(user_message_id=message_id, event_type="nack", nack_reason="no"),
    ]


def by_courier(request: Received) -> dict[str, Any]:
    """Check what courier's handler checks of an inbound message or an event; returns the JSON."""
    assert request.method == "POST"
    assert request.headers["authorization"] == f"Token {SECRET}"
    body: dict[str, Any] = request.json
    names = (
        ("from", "timestamp", "to", "message_id")
        if "/inbound" in request.path
        else ("event_type", "message_id")
    )
    for name in names:
        assert isinstance(body[name], str), name
        assert body[name], name
    # Go: time.Parse("2006-01-02 15:04:05", ...), which takes a fraction.
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?", body["timestamp"])
    assert body.get("content") is None or isinstance(body["content"], str)
    return body


@pytest_twisted.ensureDeferred
async def test_courier(channel: Begin, receiver: Receiver) -> None:
    """Courier's Junebug handler sends with Basic and an event_url, keeps result.message_id, and is given inbound
    messages and events with the token of its channel."""
    place = f"/c/jn/{uuid.uuid4()}"
    async with channel(receiver.url(f"{place}/inbound"), SECRET) as side:
        body = (
            f'{{"event_url":"{receiver.url(f"{place}/event")}","content":"Simple \\u0026 ☺","from":"2020",'
            f'"to":"+250788383383","event_auth_token":"{SECRET}"}}'
        )
        types = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "Courier/2.3",
        }
        answer = await post(side, "/messages/", body, **types)
        assert 200 <= answer.status < 300
        message_id = answer.body["result"]["message_id"]
        assert isinstance(message_id, str)
        sent = await side.outbound()
        assert (sent["to_addr"], sent["from_addr"], sent["content"]) == (
            "+250788383383",
            "2020",
            "Simple & ☺",
        )
        assert sent["message_id"] == message_id
        for event in events(message_id):
            side.publish("event", event)
        inbound = phone(side, uuid.uuid4().hex)
        side.publish("inbound", inbound)
        # The end of a session, which Junebug never forwarded.
        side.publish("inbound", phone(side, uuid.uuid4().hex, session_event="close", content=None))
        bodies = [by_courier(request) for request in await receiver.received(5)]
        told = {body["event_type"] for body in bodies if "event_type" in body}
        assert told == {"submitted", "rejected", "delivery_succeeded", "delivery_failed"}
        (message,) = [body for body in bodies if "event_type" not in body]
        assert (message["message_id"], message["content"]) == (inbound.message_id, "hi")
        await side.handlers_done()
        assert len(receiver.requests) == 5


@pytest_twisted.ensureDeferred
async def test_casepro(channel: Begin, receiver: Receiver) -> None:
    """Casepro POSTs to, from and content, where from may be null; it takes an inbound message whose message_id is a
    UUID and whose timestamp can be parsed."""
    async with channel(receiver.url("/junebug/inbound/"), "t0ken") as side:
        for sender in ("null", '"+4321"'):
            body = f'{{"to": "+1234", "from": {sender}, "content": "That\'s great"}}'
            assert (
                await post(side, "/messages/", body, **{"Content-Type": "application/json"})
            ).status == 201
            sent = await side.outbound()
            assert sent["from_addr"] == json.loads(sender)
            assert (sent["to_addr"], sent["content"]) == ("+1234", "That's great")
        side.publish("inbound", phone(side, uuid.uuid4().hex))
        (request,) = await receiver.received(1)
        assert request.headers["authorization"].split(" ") == ["Token", "t0ken"]
        uuid.UUID(request.json["message_id"])
        datetime.fromisoformat(request.json["timestamp"])
        assert (request.json["from"], request.json["content"]) == ("+27123456789", "hi")


@pytest.mark.parametrize("path", ["/messages", "/messages/"])
@pytest_twisted.ensureDeferred
async def test_seed_message_sender(channel: Begin, receiver: Receiver, path: str) -> None:
    """seed-message-sender sends with from null, and channel_data with a voice's URL and a session_event that is null;
    its receiver of events, which answers 400 to any other type, gets the four types that it knows."""
    async with channel(receiver.url("/mo")) as side:
        body = {
            "to": "+27123",
            "from": None,
            "content": "Voice message",
            "channel_data": {"voice": {"speech_url": "http://example.com/voice.mp3"}, "session_event": None},
            "event_url": receiver.url("/api/v1/events"),
        }
        types = {"Content-Type": "application/json; charset=utf-8"}
        answer = await post(side, path, json.dumps(body), **types)
        assert answer.status == 201
        message_id = answer.body.get("result", {})["message_id"]
        sent = await side.outbound()
        assert (sent["from_addr"], sent["session_event"]) == (None, None)
        assert sent["helper_metadata"] == {"voice": {"speech_url": "http://example.com/voice.mp3"}}
        for event in events(message_id):
            side.publish("event", event)
        found = {request.json["event_type"]: request.json for request in await receiver.received(4)}
        assert set(found) == {"submitted", "rejected", "delivery_succeeded", "delivery_failed"}
        assert all(each["message_id"] == message_id and each["timestamp"] for each in found.values())
        await side.handlers_done()
        assert len(receiver.requests) == 4
        assert side.count("event.parked") == 0


@pytest_twisted.ensureDeferred
async def test_rapidpros_ussd(channel: Begin, receiver: Receiver) -> None:
    """RapidPro's former USSD channel answers by reply_to, and ends the session by channel_data.continue_session."""
    async with channel(receiver.url("/mo")) as side:
        inbound = phone(side, uuid.uuid4().hex, transport_type="ussd", session_event="new", content=None)
        side.publish("inbound", inbound)
        (request,) = await receiver.received(1)
        assert request.json["channel_data"] == {"session_event": "new"}
        for goes_on, session_event in ((True, None), (False, "close")):
            body = {
                "reply_to": request.json["message_id"],
                "content": "Menu",
                "channel_data": {"continue_session": goes_on},
            }
            assert (await post(side, "/messages", json.dumps(body))).status == 201
            sent = await side.outbound()
            assert (sent["in_reply_to"], sent["session_event"]) == (inbound.message_id, session_event)
            assert (sent["to_addr"], sent["from_addr"]) == (inbound.from_addr, inbound.to_addr)


@pytest_twisted.ensureDeferred
async def test_ndoh_hub(run_junebug: RunJunebug) -> None:
    """ndoh-hub looks up a channel's type with Basic; without it the answer is 401, and /jb/health needs none."""
    async with run_junebug(channels_base_path="/jb", channels_api_auth=AUTH) as side:
        body = {"type": "telnet", "config": {}, "mo_url": "http://127.0.0.1:1/"}
        made = await side.call("POST", "/channels/", body, headers=BASIC)
        path = f"/jb/channels/{made.body['result']['id']}"
        headers = {**BASIC, "Content-Type": "application/json"}
        answer = await side.request("GET", path, headers=headers)
        assert answer.status == 200
        assert answer.body["result"].get("type", None) == "telnet"
        assert (await side.request("GET", path)).status == 401
        assert (await side.request("GET", "/jb/health")).status == 200


@pytest_twisted.ensureDeferred
async def test_without_credentials(channel: Begin, receiver: Receiver) -> None:
    """A client without credentials is refused in Junebug's envelope, before its body is looked at."""
    async with channel(receiver.url("/mo")) as side:
        answer = await side.request("POST", f"{side.path}/messages/", b"{")
        assert (answer.status, answer.body["code"]) == (401, "Unauthorized")
        assert answer.body["result"]["errors"][0]["type"] == "Unauthorized"

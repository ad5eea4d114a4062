"""The Turn Channels API on a real RabbitMQ: HTTP at one side, pika at the other."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent

from junebug_turn.messages.vumi import Event, Message
from tests.integration.conftest import RunDaemon
from tests.support.daemon import Answered, Running, in_reactor, until
from tests.support.strategies import json_objects, json_values
from tests.unit.applications.turn.test_messages import BUTTONS, DOCUMENTED_REQUEST
from tools.servers.receiver import HANG, Answer, Receiver

SECRET = "h00k s3cret"
PATH = "/turn"
PHONE = "+26612345678"


@pytest_twisted.async_yield_fixture
async def turn(run_daemon: RunDaemon, receiver: Receiver) -> AsyncIterator[Running]:
    """The daemon with one Turn application; a test gives more options through its mark."""
    async with run_daemon(
        "turn",
        vumi_api_path=PATH,
        turn_api_url=receiver.url("/v1"),
        auth_token="t0ken",
        turn_hmac_secret=SECRET,
        default_from_addr="8110",
        retry_delay_base=0,
    ) as side:
        yield side


def signature(body: bytes) -> str:
    return base64.b64encode(hmac.new(SECRET.encode(), body, hashlib.sha256).digest()).decode()


async def webhook(turn: Running, body: Any, path: str = f"{PATH}/messages") -> Answered:
    """Send a signed webhook; ``body`` is bytes, or else written as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await turn.request("POST", path, data, headers={"X-Turn-Hook-Signature": signature(data)})


def text(body: str = "hi", **fields: Any) -> dict[str, Any]:
    return {"to": PHONE, "turn": {"type": "text", "text": {"body": body}}, **fields}


def inbound(**fields: Any) -> Message:
    base = {
        "to_addr": "*120#",
        "from_addr": PHONE,
        "transport_name": "t",
        "transport_type": "ussd",
        "content": "1",
    }
    return Message(**{**base, **fields})


def error_of(answer: Answered) -> tuple[int, str, str]:
    assert answer.headers["content-type"] == "application/json"
    (error,) = answer.body["errors"]
    assert set(error) == {"type", "message"}
    return answer.status, error["type"], error["message"]


async def delivered(turn: Running, message: Message) -> None:
    """Let an inbound message come, and wait until Turn has it."""
    before = len(turn.receiver.requests)
    turn.publish("inbound", message)
    await turn.receiver.received(before + 1)


# webhooks


@pytest.mark.parametrize("slash", ["", "/"])
@pytest_twisted.ensureDeferred
async def test_webhook(turn: Running, slash: str) -> None:
    """The documented webhook, with and without slash, is answered with the id of the message that was published."""
    answer = await webhook(turn, DOCUMENTED_REQUEST.encode(), f"{PATH}/messages{slash}")
    sent = await turn.outbound()
    assert (answer.status, answer.body) == (200, {"messages": [{"id": sent["message_id"]}]})
    expected = {
        "to_addr": PHONE,
        "from_addr": "8110",
        "content": "Hello world!",
        "transport_name": turn.connector,
        "transport_type": "sms",
        "session_event": "close",
        "in_reply_to": None,
        "helper_metadata": {},
    }
    assert {key: sent[key] for key in expected} == expected


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Turn-Hook-Signature": "wrong"},
        {"X-Turn-Hook-Signature": ["é".encode()]},
        {"X-Turn-Hook-Signature": [signature(b"{not json"), signature(b"{not json")]},
    ],
)
@pytest_twisted.ensureDeferred
async def test_wrong_signature(turn: Running, headers: dict[str, Any]) -> None:
    """A missing, wrong, non-ASCII or doubled signature is a 401, before the body is parsed; nothing of it is told."""
    with capturedLogs() as logs:
        answer = await turn.request("POST", f"{PATH}/messages", b"{not json", headers=headers)
    assert error_of(answer)[:2] == (401, "Unauthorized")
    secrets = (SECRET, signature(b"{not json"))
    assert not any(secret in str(logs) + str(answer.body) for secret in secrets)
    assert turn.count("outbound") == 0


@pytest_twisted.ensureDeferred
async def test_signature_over_the_raw_bytes(turn: Running) -> None:
    """The raw bytes are signed: a non-ASCII body, and one with other white space, have their own signatures."""
    body = '{ "to":"1",\n"turn": {"text": {"body": "sawubona é 🐞"}} }'.encode()
    assert (await webhook(turn, body)).status == 200
    assert (await turn.outbound())["content"] == "sawubona é 🐞"
    headers = {"X-Turn-Hook-Signature": signature(body)}
    answer = await turn.request("POST", f"{PATH}/messages", body.replace(b"\n", b" "), headers=headers)
    assert answer.status == 401


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{", (400, "JsonDecodeError", "char 1")),
        (b"\xff", (400, "JsonDecodeError", "UTF-8")),
        (
            b'\xef\xbb\xbf{"to": "1", "turn": {"text": {"body": "b"}}}',
            (400, "JsonDecodeError", "byte order mark"),
        ),
        (b"[]", (400, "invalid_body", "object")),
        (b'{"turn": {"text": {"body": "b"}}}', (400, "invalid_body", "'to'")),
        (b'{"to": "1"}', (400, "invalid_body", "'turn'")),
        (b'{"to": "1", "turn": {"type": 5}}', (400, "invalid_body", "'turn.type'")),
        (b'{"to": "1", "turn": {"text": {"body": "b"}}, "reply_to": "X"}', (400, "MessageNotFound", "id X")),
    ],
)
@pytest_twisted.ensureDeferred
async def test_permanent_faults(turn: Running, body: bytes, expected: tuple[int, str, str]) -> None:
    """Permanent faults are 4xx, with a type and a message that names what is wrong."""
    status, kind, message = error_of(await webhook(turn, body))
    assert (status, kind) == expected[:2]
    assert expected[2] in message
    assert turn.count("outbound") == 0


@pytest_twisted.ensureDeferred
async def test_passing_faults(turn: Running) -> None:
    """Passing faults are 5xx with Retry-After, so that Turn tries again."""
    turn.channel.queue_unbind(f"{turn.connector}.outbound", "vumi", f"{turn.connector}.outbound")
    answer = await webhook(turn, text())
    assert error_of(answer)[:2] == (503, "Unroutable")
    assert int(answer.headers["retry-after"]) > 0


@pytest_twisted.ensureDeferred
async def test_other_paths_and_methods(turn: Running) -> None:
    """Unknown paths and wrong methods below the API's path get its JSON errors."""
    assert error_of(await turn.request("POST", f"{PATH}/nothing"))[:2] == (404, "NotFound")
    answer = await turn.request("GET", f"{PATH}/messages")
    assert error_of(answer)[:2] == (405, "MethodNotAllowed")


@pytest_twisted.ensureDeferred
async def test_any_signed_json(turn: Running) -> None:
    """Any JSON value, signed, posted to /messages gets a JSON answer that is not a 500."""

    @hypothesis_settings(max_examples=100, deadline=None)
    @given(json_values | json_objects)
    def check(value: Any) -> None:
        answer = in_reactor(webhook(turn, value))
        assert answer.status in (200, 400)
        assert isinstance(answer.body, dict)

    await deferToThread(check)


# replies


@pytest_twisted.ensureDeferred
async def test_last_inbound_is_replied_to(turn: Running) -> None:
    """Without reply_to, the last inbound message from there is replied to, and the session goes on or ends."""
    first, last = inbound(transport_metadata={"n": 1}), inbound(transport_metadata={"n": 2})
    for message in (first, last):
        await delivered(turn, message)
    assert (await webhook(turn, text(waiting_for_user_input=True))).status == 200
    sent = await turn.outbound()
    expected = {
        "in_reply_to": last.message_id,
        "to_addr": PHONE,
        "from_addr": "*120#",
        "transport_name": "t",
        "transport_type": "ussd",
        "transport_metadata": {"n": 2},
        "session_event": "resume",
    }
    assert {key: sent[key] for key in expected} == expected
    assert (await webhook(turn, text(waiting_for_user_input=False))).status == 200
    assert (await turn.outbound())["session_event"] == "close"


@pytest_twisted.ensureDeferred
async def test_reply_to_is_honoured(turn: Running) -> None:
    """reply_to is honoured when given, also where a later message is known."""
    first, last = inbound(), inbound()
    for message in (first, last):
        await delivered(turn, message)
    await webhook(turn, text(reply_to=first.message_id))
    assert (await turn.outbound())["in_reply_to"] == first.message_id


@pytest_twisted.ensureDeferred
async def test_closed_session(turn: Running) -> None:
    """After a session's close too, the last inbound message is replied to, as vumi2 does."""
    await delivered(turn, inbound())
    close = inbound(session_event="close", content=None)
    await delivered(turn, close)
    await webhook(turn, text())
    sent = await turn.outbound()
    assert (sent["in_reply_to"], sent["transport_type"]) == (close.message_id, "ussd")
    assert (sent["from_addr"], sent["to_addr"]) == (close.to_addr, close.from_addr)


@pytest_twisted.ensureDeferred
async def test_another_address(turn: Running) -> None:
    """A message to an address that sent nothing is new, from from or default_from_addr."""
    await delivered(turn, inbound())
    await webhook(turn, text(to="+1", **{"from": "9999"}))
    sent = await turn.outbound()
    assert (sent["in_reply_to"], sent["from_addr"]) == (None, "9999")


# webhooks that come again


@pytest_twisted.ensureDeferred
async def test_identical_after_an_answer(turn: Running) -> None:
    """An identical webhook after an answer that was written is a new message."""
    first, second = await webhook(turn, text()), await webhook(turn, text())
    assert first.body != second.body
    await until(lambda: turn.count("outbound") == 2)


async def _lost_webhook(turn: Running, data: bytes) -> None:
    """Send a webhook while the broker's confirm is held back, and go away before the answer."""
    head = (
        f"POST {PATH}/messages HTTP/1.1\r\nHost: h\r\nX-Turn-Hook-Signature: {signature(data)}\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    address = ("127.0.0.1", turn.port)
    with socket.create_connection(address) as client:
        client.sendall(head.encode() + data)
        await until(lambda: turn.daemon.sites and any(site.under_way for site in turn.daemon.sites.values()))


@pytest_twisted.ensureDeferred
async def test_again_after_a_lost_connection(turn: Running) -> None:
    """A webhook that comes again after its connection went away unanswered gets the first id; nothing is sent twice."""
    cache = turn.daemon.stores[turn.connector]
    original = cache.store_outbound
    gate: Deferred[None] = Deferred()

    async def slow(*args: Any) -> None:
        await gate
        await original(*args)

    cache.store_outbound = slow  # type: ignore[method-assign]
    data = json.dumps(text()).encode()
    await _lost_webhook(turn, data)
    await until(lambda: not any(site.under_way for site in turn.daemon.sites.values()))
    again = Deferred.fromCoroutine(webhook(turn, data))
    gate.callback(None)
    answer = await again
    sent = await turn.outbound()
    assert answer.body == {"messages": [{"id": sent["message_id"]}]}
    assert turn.count("outbound") == 0


@pytest_twisted.ensureDeferred
async def test_answers_while_turn_is_slow(turn: Running) -> None:
    """Answering webhooks is fast even while inbound deliveries to Turn hang."""
    turn.receiver.script(*[HANG] * 30)
    for number in range(30):
        turn.publish("inbound", inbound(from_addr=f"+2782{number}"))
    await turn.receiver.received(20)
    for _ in range(5):
        assert (await webhook(turn, text(to="+1"))).status == 200
    assert turn.count("outbound") == 5


# inbound


@pytest_twisted.ensureDeferred
async def test_inbound(turn: Running) -> None:
    """An inbound message is POSTed to {turn_api_url}/messages with the Bearer token and the documented body."""
    message = inbound(content="Hello world!")
    await delivered(turn, message)
    (request,) = turn.receiver.requests
    assert (request.path, request.headers["authorization"]) == ("/v1/messages", "Bearer t0ken")
    assert request.json["contact"] == {"id": PHONE, "profile": {"name": PHONE}}
    sent = request.json["message"]
    assert sent["timestamp"].isdigit()
    del sent["timestamp"]
    assert sent == {"type": "text", "text": {"body": "Hello world!"}, "from": PHONE, "id": message.message_id}


@pytest_twisted.ensureDeferred
async def test_inbound_is_retried(turn: Running) -> None:
    """Turn's 503 is followed by another attempt; its 400 parks the message at once."""
    turn.receiver.script(503, 200, 400)
    turn.publish("inbound", inbound())
    await turn.receiver.received(2)
    turn.publish("inbound", inbound())
    properties, _ = await turn.taken("inbound.parked")
    assert properties.headers["last_status"] == 400


@pytest.mark.parametrize("connection", ["kept", "closed"])
@pytest_twisted.ensureDeferred
async def test_errors_of_turn(turn: Running, connection: str) -> None:
    """The titles of Turn's error body are in the log line and in last_error of the parked message, without tokens,
    numbers and line breaks; a body that is none, of whatever size, changes nothing."""
    error = {"code": 470, "title": "Recipient 27821234567 has\nno\x1b[2J opt-in, t0ken", "details": "secret"}
    refusal = {"meta": {"api_status": "stable"}, "errors": [error, {"code": 1}, "?"]}
    headers = {} if connection == "kept" else {"Connection": "close"}
    bodies = [json.dumps(refusal).encode(), b"\xff" * 100_000, b"[" * 60_000, b""]
    turn.receiver.script(*[Answer(400, headers, body) for body in bodies])
    with capturedLogs() as events:
        for _ in bodies:
            turn.publish("inbound", inbound())
        await until(lambda: turn.count("inbound.parked") == len(bodies), "the parked messages")
    found = [turn.take("inbound.parked") for _ in bodies]
    said = [properties.headers.get("last_error") for properties, _ in filter(None, found)]
    words = "Recipient ***4567 has no [2J opt-in, *** (470); code 1"
    assert sorted(filter(None, said)) == [words]
    lines = [formatEvent(event) or "" for event in events]
    failed = [line for line in lines if line.startswith("Delivery to") and words in line]
    parked = [line for line in lines if line.startswith("Parked") and words in line]
    assert len(failed) == len(parked) == 1
    assert not any("t0ken" in line or "27821234567" in line for line in lines)


# menus


@pytest_twisted.ensureDeferred
async def test_menu(turn: Running) -> None:
    """A menu's number comes back to Turn as the choice it stands for; only the next message can choose."""
    await webhook(turn, {"to": PHONE, "turn": BUTTONS, "waiting_for_user_input": True})
    assert (await turn.outbound())["content"].endswith("1. Well\n2. Not well\nChoose a number")
    await delivered(turn, inbound(content=" 2 "))
    await delivered(turn, inbound(content="1"))
    choice, plain = (request.json["message"] for request in turn.receiver.requests)
    assert choice["type"] == "interactive"
    assert choice["interactive"] == {
        "type": "button_reply",
        "button_reply": {"id": "b2", "title": "Not well"},
    }
    assert plain["text"] == {"body": "1"}


@pytest_twisted.ensureDeferred
async def test_choice_that_is_delivered_again(turn: Running) -> None:
    """A choice that the broker delivers again is the same choice again."""
    await webhook(turn, {"to": PHONE, "turn": BUTTONS})
    message = inbound(content="1")
    await delivered(turn, message)
    await delivered(turn, message)
    assert [request.json["message"]["type"] for request in turn.receiver.requests] == ["interactive"] * 2


@pytest_twisted.ensureDeferred
async def test_text_after_a_menu(turn: Running) -> None:
    """A number after a later text answers that text, not the menu before it."""
    await webhook(turn, {"to": PHONE, "turn": BUTTONS})
    await webhook(turn, text("How many children do you have?"))
    await delivered(turn, inbound(content="2"))
    assert turn.receiver.requests[0].json["message"]["text"] == {"body": "2"}


@pytest_twisted.ensureDeferred
async def test_foreign_menu(turn: Running) -> None:
    """A note of the sender's address that is not a menu counts as none."""
    await turn.daemon.stores[turn.connector].store_note(PHONE, [1])
    await delivered(turn, inbound(content="1"))
    assert turn.receiver.requests[0].json["message"]["text"] == {"body": "1"}


@pytest.mark.options(render_interactive=False)
@pytest_twisted.ensureDeferred
async def test_menus_off(turn: Running) -> None:
    """With render_interactive false an interactive message is its text, without choices."""
    assert (await webhook(turn, {"to": PHONE, "turn": BUTTONS})).status == 200
    assert (await turn.outbound())["content"] == "MomConnect\nHow are you?\nChoose a number"


LINK = "https://turn.example/media/1.jpg"
MESSAGE_TYPES: list[tuple[dict[str, Any], str | None]] = [
    ({"type": "image", "image": {"link": LINK, "caption": "An image"}}, f"An image\n{LINK}"),
    ({"type": "video", "video": {"link": LINK}}, LINK),
    ({"type": "audio", "audio": {"link": LINK}}, LINK),
    ({"type": "document", "document": {"link": LINK, "filename": "a.pdf"}}, f"a.pdf\n{LINK}"),
    ({"type": "sticker", "sticker": {"link": LINK}}, LINK),
    (
        {"type": "location", "location": {"name": "Clinic", "latitude": -33.9, "longitude": 18.4}},
        "Clinic\n-33.9, 18.4",
    ),
    (
        {
            "type": "contacts",
            "contacts": [{"name": {"formatted_name": "Ann"}, "phones": [{"phone": "+271"}]}],
        },
        "Ann +271",
    ),
    (BUTTONS, "MomConnect\nHow are you?\n1. Well\n2. Not well\nChoose a number"),
    ({"type": "image", "image": {"id": "a1b2"}}, None),
    ({"type": "sticker", "sticker": {"id": "a1b2"}}, None),
    ({"type": "template", "template": {"name": "hello"}}, None),
    (
        {
            "type": "template",
            "template": {
                "name": "visit",
                "components": [
                    {"type": "body", "parameters": [{"type": "text", "text": "Thandi"}]},
                    {"type": "header", "parameters": [{"type": "image", "image": {"link": LINK}}]},
                ],
            },
        },
        f"{LINK}\nThandi",
    ),
    ({"type": "interactive", "interactive": {"type": "cta_url", "body": {"text": "Look"}}}, "Look"),
    ({"type": "text", "text": {"body": "Hello"}}, "Hello"),
    ({"type": "reaction", "reaction": {"emoji": "x"}}, None),
    ({"type": "something new"}, None),
]


@pytest.mark.options(status_format="nested")
@pytest_twisted.ensureDeferred
async def test_each_message_type(turn: Running) -> None:
    """Each type of message that Turn sends is answered with 200, and is a text on the phone, or is reported as failed:
    many 4xx would have the webhook switched off."""
    failed = []
    for message, content in MESSAGE_TYPES:
        answer = await webhook(turn, {"to": PHONE, "turn": message, "content": None})
        assert answer.status == 200
        (sent,) = answer.body["messages"]
        if content is None:
            failed.append(sent["id"])
        else:
            outbound = await turn.outbound()
            assert (outbound["message_id"], outbound["content"]) == (sent["id"], content)
    await turn.receiver.received(len(failed))
    statuses = [request.json["status"] for request in turn.receiver.requests]
    told = {(each["id"], each["status"], each["recipient_id"]) for each in statuses}
    assert told == {(id, "failed", PHONE) for id in failed}
    assert turn.count("outbound") == 0


# events


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"event_type": "ack", "sent_message_id": "s"}, "sent"),
        ({"event_type": "nack", "nack_reason": "r"}, "sent"),
        ({"event_type": "delivery_report", "delivery_status": "pending"}, "sent"),
        ({"event_type": "delivery_report", "delivery_status": "failed"}, "sent"),
        ({"event_type": "delivery_report", "delivery_status": "delivered"}, "delivered"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_flat_events(turn: Running, fields: dict[str, Any], status: str) -> None:
    """Events are POSTed to {turn_api_url}/statuses, flat by default; sent_message_id may be null."""
    message_id = (await webhook(turn, text())).body["messages"][0]["id"]
    event = Event(user_message_id=message_id, **fields)
    turn.publish("event", event)
    (request,) = await turn.receiver.received(1)
    assert (request.path, request.headers["authorization"]) == ("/v1/statuses", "Bearer t0ken")
    assert request.json == {
        "user_message_id": message_id,
        "timestamp": event.timestamp.strftime("%Y-%m-%d %H:%M:%S"),
        "status": status,
    }


@pytest.mark.options(status_format="nested")
@pytest_twisted.ensureDeferred
async def test_nested_events(turn: Running) -> None:
    """With status_format nested an event has Turn's form of today, with failed and the recipient."""
    message_id = (await webhook(turn, text())).body["messages"][0]["id"]
    turn.publish("event", Event(user_message_id=message_id, event_type="nack", nack_reason="r"))
    (request,) = await turn.receiver.received(1)
    status = request.json["status"]
    assert status.pop("timestamp").isdigit()
    assert status == {"id": message_id, "status": "failed", "recipient_id": PHONE}


@pytest_twisted.ensureDeferred
async def test_unknown_events(turn: Running) -> None:
    """An event whose message is not known is not forwarded, but logged, counted and acked."""
    with capturedLogs() as logs:
        turn.publish("event", Event(user_message_id="gone", event_type="ack"))
        await until(lambda: any("not forwarded" in str(event.get("log_format")) for event in logs))
    event = next(event for event in logs if "not forwarded" in str(event.get("log_format")))
    assert (event["message_id"], event["count"]) == ("gone", 1)
    await until(lambda: turn.count("event") == 0)
    assert turn.receiver.requests == []
    assert turn.count("event.parked") == 0


@pytest.mark.options(turn_api_url="")
@pytest_twisted.ensureDeferred
async def test_without_url(turn: Running) -> None:
    """While turn_api_url is empty, its default, webhooks are served and inbound messages are parked."""
    assert (await webhook(turn, text())).status == 200
    turn.publish("inbound", inbound())
    properties, _ = await turn.taken("inbound.parked")
    assert properties.headers["reason"] == "bad_url"

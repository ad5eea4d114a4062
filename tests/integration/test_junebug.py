"""The Junebug Message API on a real RabbitMQ: HTTP at one side, pika at the other."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from twisted.internet.threads import deferToThread

from junebug_turn.messages.vumi import Event, Message
from junebug_turn.state.message_store import OutboundRecord
from tests.integration.conftest import RunDaemon
from tests.support.daemon import Answered, Running, in_reactor, until
from tests.support.strategies import json_objects, json_values
from tests.unit.messages.test_vumi import MESSAGE_KEYS
from tools.servers.receiver import HANG, Answer, Receiver

PATH = "/channels/some-channel"


def inbound(**fields: Any) -> Message:
    return Message(
        **{
            "to_addr": "8110",
            "from_addr": "+26612345678",
            "transport_name": "transport",
            "transport_type": "ussd",
            "content": "héllo",
            **fields,
        }
    )


@pytest_twisted.async_yield_fixture
async def junebug(run_daemon: RunDaemon, receiver: Receiver) -> AsyncIterator[Running]:
    """The daemon with one Junebug application; a test gives more options through ``with_options``."""
    async with run_daemon(
        "junebug",
        base_url_path=PATH,
        mo_message_url=receiver.url("/inbound"),
        default_event_url=receiver.url("/events"),
        default_from_addr="8110",
        retry_delay_base=0,
    ) as side:
        yield side


def error_of(answer: Answered) -> tuple[int, str, str, str]:
    assert answer.headers["content-type"] == "application/json"
    assert answer.body["status"] == answer.status
    (error,) = answer.body["result"]["errors"]
    return answer.status, answer.body["description"], error["type"], error["message"]


# outbound


@pytest.mark.parametrize("slash", ["", "/"])
@pytest_twisted.ensureDeferred
async def test_outbound(junebug: Running, slash: str) -> None:
    """A message POSTed to <base_url_path>/messages, with or without slash, is in the outbound queue after a 201."""
    body = {
        "to": "+27123",
        "from": "8110",
        "content": "héllo 🐞",
        "channel_data": {"a": 1},
        "group": "g",
        "priority": 1,
    }
    answer = await junebug.request("POST", f"{PATH}/messages{slash}", json.dumps(body).encode())
    assert answer.status == 201
    properties, sent = await junebug.taken("outbound")
    message = json.loads(sent)
    assert set(message) == MESSAGE_KEYS
    assert properties.delivery_mode == 2
    assert properties.content_type == "application/json"
    expected = {
        "to_addr": "+27123",
        "from_addr": "8110",
        "content": "héllo 🐞",
        "group": "g",
        "transport_name": junebug.connector,
        "transport_type": "sms",
        "helper_metadata": {"a": 1},
        "session_event": None,
        "in_reply_to": None,
    }
    assert {key: message[key] for key in expected} == expected
    assert answer.body == {
        "status": 201,
        "code": "Created",
        "description": "message submitted",
        "result": {
            "to": "+27123",
            "from": "8110",
            "group": "g",
            "message_id": message["message_id"],
            "channel_id": junebug.connector,
            "timestamp": message["timestamp"],
            "reply_to": None,
            "content": "héllo 🐞",
            "channel_data": {"a": 1},
        },
    }


@pytest_twisted.ensureDeferred
async def test_null_content(junebug: Running) -> None:
    """A null content stays null on the wire."""
    assert (await junebug.post({"to": "1", "content": None})).status == 201
    assert (await junebug.outbound())["content"] is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{", (400, "json decode error", "JsonDecodeError", "char 1")),
        (b'{"to": "1", "content": "c"} x', (400, "json decode error", "JsonDecodeError", "Extra data")),
        (b'{"to": "1", "content": NaN}', (400, "json decode error", "JsonDecodeError", "NaN")),
        (
            b'\xef\xbb\xbf{"to": "1", "content": "c"}',
            (400, "json decode error", "JsonDecodeError", "byte order mark"),
        ),
        (b'{"content": "\xff"}', (400, "json decode error", "JsonDecodeError", "not UTF-8")),
        (b"[]", (400, "api usage error", "invalid_body", "must be an object")),
        (b'{"to": 1, "content": "c"}', (400, "api usage error", "invalid_body", "u'to'")),
        (
            b'{"to": "1", "content": "c", "foo": 1}',
            (
                400,
                "api usage error",
                "invalid_body",
                "Additional properties are not allowed (u'foo' was unexpected)",
            ),
        ),
        (b'{"to": "1"}', (400, "api usage error", "invalid_body", "u'content' is a required property")),
        (
            b'{"content": "c"}',
            (400, "api usage error", "ApiUsageError", 'Either "to" or "reply_to" must be specified'),
        ),
        (
            b'{"reply_to": "X", "content": "c"}',
            (400, "message not found", "MessageNotFound", "Inbound message with id X not found"),
        ),
        (
            b'{"reply_to": "X", "to": "1", "content": "c"}',
            (400, "message not found", "MessageNotFound", "Inbound message with id X not found"),
        ),
        (b'"' + b"x" * 2**20 + b'"', (413, "request body too large", "BodyTooLarge", "larger than")),
    ],
)
@pytest_twisted.ensureDeferred
async def test_errors(junebug: Running, body: bytes, expected: tuple[int, str, str, str]) -> None:
    """Each row of the error table has its status, description, type and message, and publishes nothing."""
    status, description, kind, message = error_of(await junebug.post(body))
    assert (status, description, kind) == expected[:3]
    assert expected[3] in message
    assert junebug.count("outbound") == 0


@pytest_twisted.ensureDeferred
async def test_unknown_channel_and_method(junebug: Running) -> None:
    """An unknown channel is ChannelNotFound; other paths and methods get the same envelope."""
    assert error_of(await junebug.request("POST", "/channels/x/messages"))[:3] == (
        404,
        "channel not found",
        "ChannelNotFound",
    )
    assert error_of(await junebug.request("POST", f"{PATH}/nothing"))[:2] == (404, "not found")
    assert error_of(await junebug.request("GET", PATH + "/"))[:2] == (404, "not found")
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"):
        answer = await junebug.request(method, f"{PATH}/messages")
        assert error_of(answer)[:2] == (405, "method not allowed")
        assert answer.headers["allow"] == "POST"


@pytest.mark.options(default_from_addr="")
@pytest_twisted.ensureDeferred
async def test_no_from_address(junebug: Running) -> None:
    """A non-reply with neither from nor default_from_addr is told that the latter can be configured."""
    status, _, kind, message = error_of(await junebug.post({"to": "1", "content": "c"}))
    assert (status, kind) == (400, "ApiUsageError")
    assert "default_from_addr" in message


@pytest_twisted.ensureDeferred
async def test_unroutable(junebug: Running) -> None:
    """201 means routed to a queue: without one the answer is 503 with Retry-After."""
    junebug.channel.queue_unbind(f"{junebug.connector}.outbound", "vumi", f"{junebug.connector}.outbound")
    answer = await junebug.post({"to": "1", "content": "c"})
    assert error_of(answer)[:3] == (503, "message not routed", "Unroutable")
    assert int(answer.headers["retry-after"]) > 0


# inbound


@pytest_twisted.ensureDeferred
async def test_inbound(junebug: Running) -> None:
    """An inbound message is POSTed to mo_message_url with exactly the documented keys, and then acked."""
    message = inbound(session_event="new", helper_metadata={"x": 1}, in_reply_to="r")
    junebug.publish("inbound", message)
    (request,) = await junebug.receiver.received(1)
    assert (request.method, request.path) == ("POST", "/inbound")
    assert request.headers["content-type"] == "application/json"
    assert "authorization" not in request.headers
    assert request.json == {
        "to": "8110",
        "from": "+26612345678",
        "group": None,
        "message_id": message.message_id,
        "channel_id": "transport",
        "timestamp": message.timestamp.strftime("%Y-%m-%d %H:%M:%S.%f"),
        "reply_to": "r",
        "content": "héllo",
        "channel_data": {"x": 1, "session_event": "new"},
    }
    await until(lambda: junebug.count("inbound") == 0)


@pytest_twisted.ensureDeferred
async def test_session_close_is_forwarded(junebug: Running) -> None:
    """A session close is forwarded too, with its null content."""
    junebug.publish("inbound", inbound(session_event="close", content=None))
    (request,) = await junebug.receiver.received(1)
    assert request.json["content"] is None
    assert request.json["channel_data"] == {"session_event": "close"}


@pytest.mark.options(mo_message_url_auth_token="t0ken")
@pytest_twisted.ensureDeferred
async def test_inbound_token(junebug: Running) -> None:
    """mo_message_url_auth_token is sent as Authorization: Token."""
    junebug.publish("inbound", inbound())
    (request,) = await junebug.receiver.received(1)
    assert request.headers["authorization"] == "Token t0ken"


@pytest_twisted.ensureDeferred
async def test_reply(junebug: Running) -> None:
    """A reply is built from the stored inbound message; the request's own to, from and group are ignored."""
    message = inbound(group="g", provider="mtn", transport_metadata={"s": 1})
    junebug.publish("inbound", message)
    await junebug.receiver.received(1)
    body = {
        "reply_to": message.message_id,
        "to": "x",
        "from": "y",
        "group": "z",
        "content": "bye",
        "channel_data": {"continue_session": False, "k": 1},
    }
    answer = await junebug.post(body)
    assert answer.status == 201
    sent = await junebug.outbound()
    expected = {
        "to_addr": "+26612345678",
        "from_addr": "8110",
        "group": "g",
        "provider": "mtn",
        "transport_name": "transport",
        "transport_type": "ussd",
        "transport_metadata": {"s": 1},
        "in_reply_to": message.message_id,
        "session_event": "close",
        "helper_metadata": {"k": 1},
    }
    assert {key: sent[key] for key in expected} == expected
    assert answer.body["result"]["reply_to"] == message.message_id


@pytest.mark.options(allow_expired_replies=True)
@pytest_twisted.ensureDeferred
async def test_allow_expired_replies(junebug: Running) -> None:
    """With allow_expired_replies a reply to an unknown message that has a to is sent as a non-reply."""
    assert (await junebug.post({"reply_to": "gone", "to": "+27123", "content": "c"})).status == 201
    sent = await junebug.outbound()
    assert (sent["to_addr"], sent["in_reply_to"], sent["transport_type"]) == ("+27123", None, "sms")
    answer = await junebug.post({"reply_to": "gone", "content": "c"})
    assert error_of(answer)[:3] == (400, "message not found", "MessageNotFound")


@pytest.mark.parametrize("body", [b"not JSON", b"[]", b"{}", b"\xff"])
@pytest_twisted.ensureDeferred
async def test_unreadable_is_parked(junebug: Running, body: bytes) -> None:
    """What can't be read is parked, never dropped, and doesn't stop the consumer."""
    for kind in ("inbound", "event"):
        junebug.publish(kind, body)
        properties, parked = await junebug.taken(f"{kind}.parked")
        assert parked == body
        assert properties.headers["reason"] == "unreadable"
    junebug.publish("inbound", inbound())
    await junebug.receiver.received(1)


@pytest_twisted.ensureDeferred
async def test_503_twice(junebug: Running) -> None:
    """A destination that answers 503 twice and then 200 gets the message the third time, and only then is it acked."""
    junebug.receiver.script(503, 503)
    message = inbound()
    junebug.publish("inbound", message)
    requests = await junebug.receiver.received(3)
    assert {request.json["message_id"] for request in requests} == {message.message_id}
    await until(lambda: junebug.count("inbound") == 0)
    assert junebug.count("inbound.parked") == 0


@pytest_twisted.ensureDeferred
async def test_400_is_parked_at_once(junebug: Running) -> None:
    """A permanent answer parks the message at once, with headers that say why."""
    junebug.receiver.script(400)
    message = inbound()
    junebug.publish("inbound", message)
    properties, body = await junebug.taken("inbound.parked")
    assert Message.from_json(body) == message
    assert properties.delivery_mode == 2
    headers = properties.headers
    assert (headers["reason"], headers["last_status"], headers["attempts"]) == ("http_status", 400, 1)
    assert headers["first_failure"] <= headers["last_failure"]
    assert len(junebug.receiver.requests) == 1


@pytest.mark.options(max_retries=1, mo_message_url_timeout=0.2, retry_window=0)
@pytest_twisted.ensureDeferred
async def test_chain_is_over(junebug: Running) -> None:
    """When the chain is over and there is no retry_window a confirmed copy is parked; the consumer goes on."""
    junebug.receiver.script(HANG, HANG)
    junebug.publish("inbound", inbound(transport_type="sms"))
    properties, _ = await junebug.taken("inbound.parked")
    assert (properties.headers["reason"], properties.headers["attempts"]) == ("timeout", 2)
    assert "last_status" not in properties.headers
    junebug.publish("inbound", inbound())
    await junebug.receiver.received(3)


@pytest.mark.options(max_retries=0, parked_ttl=60, session_retry_window=0)
@pytest_twisted.ensureDeferred
async def test_windows(junebug: Running) -> None:
    """After a chain an SMS waits in a delay queue, shortly at first, and USSD is parked after session_retry_window;
    what is parked has parked_ttl."""
    junebug.receiver.script(Answer(503), Answer(503))
    junebug.publish("inbound", inbound(transport_type="sms"))
    properties, _ = await junebug.taken("inbound.delayed.5s")
    assert (properties.headers.get("delays"), properties.expiration) == (None, None)
    junebug.publish("inbound", inbound(transport_type="ussd"))
    properties, _ = await junebug.taken("inbound.parked")
    assert (properties.headers["reason"], properties.expiration) == ("session_expired", "60000")


@pytest.mark.options(mo_message_url="http://name.invalid/", max_retries=1, retry_window=0)
@pytest_twisted.ensureDeferred
async def test_name_that_does_not_resolve(junebug: Running) -> None:
    """A destination whose name doesn't resolve is tried again, then the message is parked."""
    junebug.publish("inbound", inbound(transport_type="sms"))
    properties, _ = await junebug.taken("inbound.parked")
    assert (properties.headers["reason"], properties.headers["attempts"]) == ("dns", 2)


@pytest_twisted.ensureDeferred
async def test_retry_after(junebug: Running) -> None:
    """Retry-After on a 503 replaces the computed delay."""
    junebug.receiver.script(Answer(503, {"Retry-After": "1"}))
    junebug.publish("inbound", inbound())
    first, second = await junebug.receiver.received(2)
    assert 0.9 <= second.seconds - first.seconds < 5


# events


@pytest_twisted.ensureDeferred
async def test_event_url(junebug: Running) -> None:
    """Events go to the message's event_url, with its token."""
    body = {
        "to": "1",
        "content": "c",
        "event_url": junebug.receiver.url("/mine"),
        "event_auth_token": "s3cret",
    }
    answer = await junebug.post(body)
    message_id = answer.body["result"]["message_id"]
    event = Event(user_message_id=message_id, event_type="nack", nack_reason="no credit")
    junebug.publish("event", event)
    (request,) = await junebug.receiver.received(1)
    assert request.path == "/mine"
    assert request.headers["authorization"] == "Token s3cret"
    assert request.json == {
        "event_type": "rejected",
        "message_id": message_id,
        "channel_id": junebug.connector,
        "timestamp": event.timestamp.strftime("%Y-%m-%d %H:%M:%S.%f"),
        "event_details": {"reason": "no credit"},
    }
    await until(lambda: junebug.count("event") == 0)


@pytest_twisted.ensureDeferred
async def test_event_url_with_user(junebug: Running) -> None:
    """User and password in an event_url are used for Basic authentication, and beat the token."""
    url = junebug.receiver.url("/mine", userinfo="us%40er:p%3Aw@")
    answer = await junebug.post({"to": "1", "content": "c", "event_url": url, "event_auth_token": "t"})
    event = Event(user_message_id=answer.body["result"]["message_id"], event_type="ack", sent_message_id="s")
    junebug.publish("event", event)
    (request,) = await junebug.receiver.received(1)
    assert request.headers["authorization"] == "Basic dXNAZXI6cDp3"
    assert request.path == "/mine"


@pytest.mark.options(default_event_auth_token="d")
@pytest_twisted.ensureDeferred
async def test_default_event_url(junebug: Running) -> None:
    """An event of a message that gave no event_url, or is unknown, goes to default_event_url with its token."""
    junebug.publish(
        "event", Event(user_message_id="unknown", event_type="delivery_report", delivery_status="delivered")
    )
    (request,) = await junebug.receiver.received(1)
    assert (request.path, request.headers["authorization"]) == ("/events", "Token d")
    assert request.json["event_type"] == "delivery_succeeded"


@pytest.mark.options(default_event_url="")
@pytest_twisted.ensureDeferred
async def test_undeliverable_event(junebug: Running) -> None:
    """Without any event URL an event is logged as undeliverable and acked."""
    junebug.publish("event", Event(user_message_id="unknown", event_type="ack"))
    junebug.publish("inbound", inbound())
    await junebug.receiver.received(1)
    await until(lambda: junebug.count("event") == 0)
    assert [request.path for request in junebug.receiver.requests] == ["/inbound"]
    assert junebug.count("event.parked") == 0


@pytest_twisted.ensureDeferred
async def test_event_destinations_are_known_before_publishing(junebug: Running) -> None:
    """The event URL is stored before the message is published: an event can come at once."""
    stored: list[str] = []
    cache, connector = junebug.daemon.stores[junebug.connector], junebug.connector
    original = cache.store_outbound

    async def store(record: OutboundRecord) -> None:
        assert junebug.count("outbound") == 0
        await original(record)
        stored.append(record.message_id)

    cache.store_outbound = store  # type: ignore[method-assign]
    answer = await junebug.post({"to": "1", "content": "c", "event_url": junebug.receiver.url("/mine")})
    assert stored == [answer.body["result"]["message_id"]]
    assert junebug.connector == connector


# together


@pytest_twisted.ensureDeferred
async def test_health(junebug: Running) -> None:
    """/health is ok when the broker is there and both consumers are live; it names no credentials."""
    answer = await junebug.request("GET", "/health")
    assert answer.status == 200
    assert answer.body["health"] == "ok"
    amqp = answer.body["components"]["amqp"]
    # vumi2's body has these two.
    assert (amqp["health"], amqp["state"]) == ("ok", "open")
    assert set(amqp["consumers"]) == {f"{junebug.connector}.{k}" for k in ("inbound", "event")}
    assert "guest" not in json.dumps(answer.body)


@pytest_twisted.ensureDeferred
async def test_any_json(junebug: Running) -> None:
    """Any JSON value posted to /messages gets a JSON answer that is not a 500."""

    @hypothesis_settings(max_examples=100, deadline=None)
    @given(json_values | json_objects)
    def check(value: Any) -> None:
        answer = in_reactor(junebug.post(value))
        assert answer.status in (201, 400)
        assert answer.body["status"] == answer.status

    await deferToThread(check)


@pytest_twisted.ensureDeferred
async def test_slow_destination_holds_up_no_other(junebug: Running) -> None:
    """A destination that hangs doesn't delay the events of another."""
    junebug.receiver.script(HANG)
    junebug.publish("inbound", inbound())
    await junebug.receiver.received(1)
    junebug.publish("event", Event(user_message_id="unknown", event_type="ack"))
    requests = await junebug.receiver.received(2)
    assert requests[1].path == "/events"

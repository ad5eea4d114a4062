"""Messages and events of channels of the store, by black-box requests, and changes while they flow."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import DeferredList, ensureDeferred

from junebug_turn.messages.vumi import Event
from tests.support.channels import Junebug, RunJunebug, inbound
from tests.support.daemon import taken
from tests.support.store_harness import redis_server

DELIVERY_STATUSES = ("pending", "failed", "delivered")


async def send(side: Junebug, channel: str, **body: Any) -> Any:
    return await side.call("POST", f"/channels/{channel}/messages/", {"content": "hi", **body})


@pytest_twisted.ensureDeferred
async def test_send_message(run_junebug: RunJunebug) -> None:
    """A message is published to the channel's outbound queue; a null ``from`` goes out as null."""
    async with run_junebug() as side:
        id = await side.create(mo_url="http://127.0.0.1:1/")
        answer = await send(side, id, to="+1234", **{"from": None})
        assert (answer.status, answer.body["description"]) == (201, "message submitted")
        result = answer.body["result"]
        assert (result["to"], result["from"], result["channel_id"]) == ("+1234", None, id)
        wire = await side.of(id).outbound()
        assert (wire["to_addr"], wire["from_addr"], wire["content"]) == ("+1234", None, "hi")
        assert (wire["transport_name"], wire["message_id"]) == (id, result["message_id"])


@pytest_twisted.ensureDeferred
async def test_send_message_no_destination(run_junebug: RunJunebug) -> None:
    """A channel without ``mo_url`` and ``amqp_queue`` takes no messages, and has no status of them: 400."""
    async with run_junebug() as side:
        id = await side.create()
        for answer in (
            await send(side, id, to="+1234"),
            await side.call("GET", f"/channels/{id}/messages/m1"),
        ):
            assert (answer.status, answer.body["description"]) == (400, "api usage error")
            assert answer.body["result"]["errors"] == [
                {"type": "ApiUsageError", "message": 'This channel has no "mo_url" or "amqp_queue"'}
            ]
        assert (await side.call("POST", f"/channels/{id}", {"mo_url": None})).status == 200
        assert (await send(side, id, to="+1234")).status == 201


@pytest.mark.parametrize("expired", [False, True])
@pytest_twisted.ensureDeferred
async def test_forms_of_requests(run_junebug: RunJunebug, expired: bool) -> None:
    """To a number or a group, with and without a from, a reply that isn't known with and without a to: as Junebug
    answers each, with and without ``allow_expired_replies``."""
    async with run_junebug(channels_defaults={"allow_expired_replies": expired}) as side:
        id = await side.create(mo_url="http://127.0.0.1:1/")
        unknown = "MessageNotFound"
        for body, type in (
            ({"to": "+1234"}, None),
            ({"to": "+1234", "from": "8110", "group": "the-group"}, None),
            ({"to": "+1234", "event_url": "http://h/", "event_auth_token": "the-token-of-it"}, None),
            ({"to": "+1234", "channel_data": {"voice": {"speech_url": "http://h/"}}, "priority": "5"}, None),
            ({"from": "8110"}, "ApiUsageError"),
            ({"to": "+1234", "foo": "bar"}, "invalid_body"),
            ({"reply_to": "none"}, unknown),
            ({"reply_to": "none", "from": "8110"}, unknown),
            ({"to": "+1234", "reply_to": "none"}, None if expired else unknown),
        ):
            answer = await send(side, id, **body)
            if type is None:
                assert answer.status == 201, body
                wire = await side.of(id).outbound()
                assert (wire["to_addr"], wire["from_addr"], wire["group"], wire["in_reply_to"]) == (
                    "+1234",
                    body.get("from"),
                    body.get("group"),
                    None,
                )
            else:
                assert (answer.status, answer.body["result"]["errors"][0]["type"]) == (400, type), body


@pytest_twisted.ensureDeferred
async def test_character_limit(run_junebug: RunJunebug) -> None:
    """``character_limit`` counts the characters of the content: under and at the limit are sent, over is a 400."""
    async with run_junebug() as side:
        id = await side.create(mo_url="http://127.0.0.1:1/", character_limit=3)
        assert [(await send(side, id, to="+1", content=text)).status for text in ("é", "ééé", "éééé")] == [
            201,
            201,
            400,
        ]


@pytest_twisted.ensureDeferred
async def test_inbound_and_reply(run_junebug: RunJunebug) -> None:
    """An inbound message is POSTed to ``mo_url`` with the channel's token, and can be replied to."""
    async with run_junebug() as side:
        id = await side.create(mo_url=side.receiver.url("/mo"), mo_url_auth_token="t0ken-of-mo")
        message = inbound(id)
        side.of(id).publish("inbound", message)
        (got,) = await side.receiver.received(1)
        assert got.headers["authorization"] == "Token t0ken-of-mo"
        assert got.json["channel_id"] == id
        answer = await send(side, id, reply_to=message.message_id)
        assert answer.status == 201
        wire = await side.of(id).outbound()
        assert (wire["to_addr"], wire["in_reply_to"]) == (message.from_addr, message.message_id)


@pytest.mark.parametrize(
    ("defaults", "expected"), [({}, ["new"]), ({"forward_session_close": True}, ["close", "new"])]
)
@pytest_twisted.ensureDeferred
async def test_session_close(run_junebug: RunJunebug, defaults: dict[str, Any], expected: list[str]) -> None:
    """The end of a session is not forwarded, as Junebug forwarded none, unless ``channels.defaults`` say so."""
    async with run_junebug(channels_defaults=defaults) as side:
        id = await side.create(mo_url=side.receiver.url("/mo"))
        side.of(id).publish("inbound", inbound(id, session_event="close"))
        side.of(id).publish("inbound", inbound(id, session_event="new"))
        # Of one sender, and so in order.
        received = await side.receiver.received(len(expected))
        assert [each.json["channel_data"]["session_event"] for each in received] == expected


@pytest_twisted.ensureDeferred
async def test_events_and_status(run_junebug: RunJunebug) -> None:
    """Events go to the message's event_url, and stand in its status, in Junebug's keys of Redis."""
    async with run_junebug() as side:
        id = await side.create(mo_url="http://127.0.0.1:1/")
        answer = await send(side, id, to="+1234", event_url=side.receiver.url("/ev"))
        message_id = answer.body["result"]["message_id"]
        status = (await side.call("GET", f"/channels/{id}/messages/{message_id}")).body
        assert status["description"] == "message status"
        assert status["result"] == {
            "id": message_id,
            "last_event_type": None,
            "last_event_timestamp": None,
            "events": [],
        }
        event = Event(user_message_id=message_id, event_type="ack", sent_message_id="1")
        side.of(id).publish("event", event)
        (got,) = await side.receiver.received(1)
        assert (got.json["event_type"], got.json["channel_id"]) == ("submitted", id)
        status = (await side.call("GET", f"/channels/{id}/messages/{message_id}")).body["result"]
        assert (status["last_event_type"], len(status["events"])) == ("submitted", 1)
        keys = redis_server().cli("KEYS", f"*{id}:outbound_messages:{message_id}").split()
        stored = json.loads(redis_server().cli("--raw", "HGET", keys[0], event.event_id))
        assert stored["event_type"] == "ack"


@pytest_twisted.ensureDeferred
async def test_each_type_of_event(run_junebug: RunJunebug) -> None:
    """Each type of event is POSTed in Junebug's words with its details, published to the ``amqp_queue`` unchanged, and
    stands in the message's status, of which the last one to come is the state."""
    async with run_junebug() as side:
        id = await side.create(mo_url="http://127.0.0.1:1/", amqp_queue=f"app-{uuid.uuid4().hex}")
        queue = (await side.call("GET", f"/channels/{id}")).body["result"]["amqp_queue"]
        answer = await send(side, id, to="+1234", event_url=side.receiver.url("/ev"))
        message_id = answer.body["result"]["message_id"]
        fields: list[dict[str, Any]] = [
            {"event_type": "ack", "sent_message_id": "1"},
            {"event_type": "nack", "nack_reason": "no credit"},
            *({"event_type": "delivery_report", "delivery_status": each} for each in DELIVERY_STATUSES),
        ]
        events = [Event(user_message_id=message_id, **each) for each in fields]
        for each in events:
            side.of(id).publish("event", each)
        got = [request.json for request in await side.receiver.received(len(events))]
        # Of one message, and so in order.
        types = [request["event_type"] for request in got]
        assert types == [
            "submitted",
            "rejected",
            "delivery_pending",
            "delivery_failed",
            "delivery_succeeded",
        ]
        assert [each["event_details"] for each in got] == [{}, {"reason": "no credit"}, {}, {}, {}]
        for each in events:
            assert (await taken(side.channel, f"{queue}.event"))["event_id"] == each.event_id
        status = (await side.call("GET", f"/channels/{id}/messages/{message_id}")).body["result"]
        assert sorted(each["event_type"] for each in status["events"]) == sorted(types)
        assert status["last_event_type"] == "delivery_succeeded"


@pytest_twisted.ensureDeferred
async def test_mo_url_taken_away(run_junebug: RunJunebug) -> None:
    """A channel whose ``mo_url`` became null goes on without POSTs: it sends and can reply.  Junebug dropped what came
    then; here it is parked, so that nothing is lost by a mistake."""
    async with run_junebug() as side:
        id = await side.create(mo_url=side.receiver.url("/mo"))
        side.of(id).publish("inbound", inbound(id, 1))
        await side.receiver.received(1)
        assert (await side.call("POST", f"/channels/{id}", {"mo_url": None})).status == 200
        message = inbound(id, 2)
        side.of(id).publish("inbound", message)
        _, body = await side.of(id).taken("inbound.parked")
        assert body == message.to_json()
        assert len(side.receiver.requests) == 1
        assert (await send(side, id, reply_to=message.message_id)).status == 201
        assert (await side.of(id).outbound())["in_reply_to"] == message.message_id


@pytest_twisted.ensureDeferred
async def test_changes_while_messages_flow(run_junebug: RunJunebug) -> None:
    """Channels are made, changed, restarted and deleted while messages flow: none of another channel is lost or
    repeated, and those of a changed one go to the old or the new URL, each once."""
    async with run_junebug() as side:
        steady = await side.create(mo_url=side.receiver.url("/steady"))
        changed = await side.create(mo_url=side.receiver.url("/first"))
        sent = 60
        for number in range(sent):
            for id in (steady, changed):
                side.of(id).publish("inbound", inbound(id, number))
            if number % 6 == 0:
                url = side.receiver.url(f"/changed/{number}")
                assert (await side.call("POST", f"/channels/{changed}", {"mo_url": url})).status == 200
            if number % 15 == 0:
                other = await side.create(mo_url=side.receiver.url("/other"))
                assert (await side.call("POST", f"/channels/{other}/restart")).status == 200
                assert (await side.call("DELETE", f"/channels/{other}")).status == 200
        await side.receiver.received(2 * sent)
        await side.handlers_done()
        got: dict[str, list[str]] = {"/steady": [], "": []}
        for each in side.receiver.requests:
            got["/steady" if each.path == "/steady" else ""].append(each.json["content"])
        assert sorted(got["/steady"], key=int) == [str(number) for number in range(sent)]
        assert sorted(got[""], key=int) == [str(number) for number in range(sent)]


@pytest_twisted.ensureDeferred
async def test_sending_while_it_changes(run_junebug: RunJunebug) -> None:
    """Requests to a channel that is changed meanwhile are all answered, and all are published."""
    async with run_junebug() as side:
        id = await side.create(mo_url="http://127.0.0.1:1/a")
        work = [ensureDeferred(send(side, id, to=f"+{number}")) for number in range(30)]
        for number in range(5):
            body = {"mo_url": f"http://127.0.0.1:1/{number}"}
            assert (await side.call("POST", f"/channels/{id}", body)).status == 200
            assert (await side.call("POST", f"/channels/{id}/restart")).status == 200
        answers = await DeferredList(work)
        assert {answer.status for _, answer in answers} == {201}
        assert side.of(id).count("outbound") == 30

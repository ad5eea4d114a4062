"""Use cases of the Junebug Message API."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from twisted.logger import LogLevel

from junebug_turn.applications.junebug import TYPE
from junebug_turn.errors import DeliveryRefused
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.state.message_store import OutboundRecord
from tests.support.application_harness import Face, done, logged
from tests.support.configurations import JUNEBUG

INBOUND = Message(to_addr="8", from_addr="9", transport_name="t", transport_type="sms", message_id="m")
EVENT = Event(user_message_id="m", event_type="ack", event_id="e")


def junebug(**options: Any) -> Face:
    return Face.of(TYPE, JUNEBUG, **{"default_from_addr": "8110"} | options)


def error_of(face: Face, body: bytes) -> tuple[str, str]:
    (error,) = face.ask("POST", "/messages", body).body["result"]["errors"]
    return error["type"], error["message"]


def test_event_url_is_refused() -> None:
    """An event_url that no event may be sent to is refused before anything is stored or published."""
    face = junebug()
    face.break_store("fetch_inbound", "store_outbound")
    body = b'{"content": "c", "reply_to": "m", "event_url": "http://169.254.169.254/"}'
    kind, message = error_of(face, body)
    assert kind == "invalid_body"
    assert message.startswith("u'event_url' is refused: ")
    assert not face.published


@pytest.mark.parametrize(("allowed", "to", "sent"), [(True, "1", 1), (True, None, 0), (False, "1", 0)])
def test_expired_reply(allowed: bool, to: str | None, sent: int) -> None:
    """A reply to an unknown message is a new message where that is allowed and there is an address for it."""
    face = junebug(allow_expired_replies=allowed)
    body = b'{"content": "c", "reply_to": "m"%s}' % (b', "to": "1"' if to else b"")
    if sent:
        face.ask("POST", "/messages", body)
    else:
        assert error_of(face, body) == ("MessageNotFound", "Inbound message with id m not found")
    assert [message.in_reply_to for message in face.published] == [None] * sent


@pytest.mark.parametrize("keeps_details", [False, True])
def test_stored(keeps_details: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The destination of its events is stored with a message; the whole request in a store that shows it to others."""
    face = junebug()
    records: list[OutboundRecord] = []

    async def store_outbound(record: OutboundRecord) -> None:
        records.append(record)

    monkeypatch.setattr(face.store, "store_outbound", store_outbound)
    monkeypatch.setattr(type(face.store), "keeps_details", keeps_details)
    face.ask(
        "POST",
        "/messages",
        b'{"content": "c", "to": "1", "priority": 1, "event_url": "http://e/", "event_auth_token": "t"}',
    )
    (record,) = records
    (message,) = face.published
    assert (record.message_id, record.to_addr) == (message.message_id, "1")
    assert (record.event_url, record.event_auth_token) == ("http://e/", "t")
    assert (record.details is not None) == keeps_details
    if record.details is not None:
        assert (record.details["priority"], record.details["message_id"]) == (1, message.message_id)


def test_inbound() -> None:
    """An inbound message is stored for replies, and delivered in Junebug's form."""
    face = junebug()
    assert logged(face.application.handle_inbound(INBOUND)) == []
    ((destination, body, options),) = face.deliverer.delivered
    assert (destination.origin, body["message_id"], options["kind"]) == ("http://rapidpro:80", "m", "inbound")
    assert face.ask("POST", "/messages", b'{"content": "c", "reply_to": "m"}').status == 201


def test_inbound_without_a_destination() -> None:
    """An inbound message of a channel without ``mo_url`` and ``amqp_queue`` is refused, and so parked, by a reason that
    names the option."""
    face = Face(TYPE, attrs.evolve(junebug().application.options, mo_message_url=""))
    with pytest.raises(DeliveryRefused, match="mo_message_url is empty"):
        done(face.application.handle_inbound(INBOUND))
    assert face.deliverer.delivered == []


def test_inbound_without_store() -> None:
    """An inbound message that can't be stored is delivered all the same, and a warning says so."""
    face = junebug()
    face.break_store("store_inbound")
    (line,) = logged(face.application.handle_inbound(INBOUND))
    assert line == "Inbound message m on sms is not stored for replies: away"
    assert len(face.deliverer.delivered) == 1


@pytest.mark.parametrize(
    "body", [b'{"to": "1", "content": "c"}', b'{"to": "1", "from": null, "content": "c"}']
)
def test_no_from(body: bytes) -> None:
    """With ``require_from: false``, ``from`` null goes out as null; by default it is a 400."""
    assert error_of(junebug(default_from_addr=None), body)[0] == "ApiUsageError"
    face = junebug(default_from_addr=None, require_from=False)
    answer = face.ask("POST", "/messages", body)
    assert (answer.status, answer.body["result"]["from"]) == (201, None)
    (message,) = face.published
    assert message.from_addr is None


@pytest.mark.parametrize(("session_event", "forwarded"), [("close", 0), ("resume", 1), (None, 1)])
def test_session_close(session_event: str | None, forwarded: int) -> None:
    """With ``forward_session_close: false`` the end of a session is not forwarded, as Junebug did; all else is."""
    message = attrs.evolve(INBOUND, session_event=session_event)
    face = junebug(forward_session_close=False)
    done(face.application.handle_inbound(message))
    assert len(face.deliverer.delivered) == forwarded
    face = junebug()
    done(face.application.handle_inbound(message))
    assert len(face.deliverer.delivered) == 1


EVENTS = {
    "submitted": {"event_type": "ack"},
    "rejected": {"event_type": "nack"},
    "delivery_pending": {"event_type": "delivery_report", "delivery_status": "pending"},
    "delivery_failed": {"event_type": "delivery_report", "delivery_status": "failed"},
    "delivery_succeeded": {"event_type": "delivery_report", "delivery_status": "delivered"},
}


@pytest.mark.parametrize("kind", EVENTS)
def test_forward_events(kind: str) -> None:
    """``forward_events`` chooses which events are forwarded, in Junebug's words; the status has the others too."""
    event = attrs.evolve(EVENT, **EVENTS[kind])
    for chosen, forwarded in (
        (None, 1),
        ([kind], 1),
        ([], 0),
        ([each for each in EVENTS if each != kind], 0),
    ):
        face = junebug(default_event_url="http://default/", forward_events=chosen)
        assert logged(face.application.handle_event(event), LogLevel.info) == []
        assert [body["event_type"] for _, body, _ in face.deliverer.delivered] == [kind] * forwarded
        status = face.ask("GET", f"/messages/{event.user_message_id}").body["result"]
        assert status["last_event_type"] == kind


@pytest.mark.parametrize(
    ("default", "event_url", "expected"),
    [
        ("http://default/", "http://own/", ("http://own:80", False)),
        ("http://default/", None, ("http://default:80", True)),
        (None, "http://own/", ("http://own:80", False)),
    ],
)
def test_event(default: str | None, event_url: str | None, expected: tuple[str, bool]) -> None:
    """An event goes to its message's event_url, which is not a configured one, or to the default."""
    face = junebug(default_event_url=default)
    done(face.store.store_outbound(OutboundRecord("m", "1", event_url)))
    assert logged(face.application.handle_event(EVENT)) == []
    ((destination, body, options),) = face.deliverer.delivered
    assert (destination.origin, options["configured"]) == expected
    assert (body["event_type"], body["message_id"]) == ("submitted", "m")


def test_event_without_destination() -> None:
    """An event with neither is logged."""
    face = junebug()
    assert logged(face.application.handle_event(EVENT)) == [
        "ack e of message m on sms can't be delivered: no event_url is known for the message, and no "
        "default_event_url is configured"
    ]
    assert not face.deliverer.delivered


def test_event_without_status() -> None:
    """An event that can't be stored for the message's status is delivered all the same."""
    face = junebug(default_event_url="http://default/")
    face.break_store("store_event")
    (line,) = logged(face.application.handle_event(EVENT))
    assert line == "ack e on sms is not in the status of message m: away"
    assert len(face.deliverer.delivered) == 1

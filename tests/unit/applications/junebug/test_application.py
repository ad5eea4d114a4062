"""Use cases of the Junebug Message API."""

from __future__ import annotations

from typing import Any

import pytest

from junebug_turn.applications.junebug import TYPE
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.state.message_store import OutboundRecord
from tests.support.application_harness import Face, done, logged
from tests.support.configurations import JUNEBUG

INBOUND = Message(to_addr="8", from_addr="9", transport_name="t", transport_type="sms", message_id="m")
EVENT = Event(user_message_id="m", event_type="ack", event_id="e")


def junebug(**options: Any) -> Face:
    return Face.of(TYPE, JUNEBUG, default_from_addr="8110", **options)


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


def test_inbound_without_store() -> None:
    """An inbound message that can't be stored is delivered all the same, and a warning says so."""
    face = junebug()
    face.break_store("store_inbound")
    (line,) = logged(face.application.handle_inbound(INBOUND))
    assert line == "Inbound message m on sms is not stored for replies: away"
    assert len(face.deliverer.delivered) == 1


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

"""Use cases of Kannel's interface: dlr-urls, their masks and host rules; inbound messages."""

from __future__ import annotations

from typing import Any

import pytest

from junebug_turn.applications.kannel import TYPE
from junebug_turn.applications.kannel.messages import OutboundRequest
from junebug_turn.errors import ApiUsageError, DeliveryRefused, InvalidBody, MessageTooLong
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.net.addresses import ALL_HOSTS
from junebug_turn.state.message_store import OutboundRecord
from tests.support.application_harness import Face, done, logged
from tests.support.configurations import KANNEL

DLR = "http://client/dlr?id=7&status=%d"


@pytest.fixture
def face() -> Face:
    return Face.of(TYPE, KANNEL, default_from_addr="8110")


def send(face: Face, **fields: Any) -> Message:
    request = OutboundRequest(**{"to": "+27820000001", "content": "c", **fields})
    done(face.application.send(request, lambda message: b"", lambda _: None))
    return face.published[-1]


def inbound(**fields: Any) -> Message:
    base: dict[str, Any] = {
        "to_addr": "8110",
        "from_addr": "+27",
        "transport_name": "t",
        "transport_type": "sms",
    }
    return Message(**{**base, "content": "hi & ü", "message_id": "m1", **fields})


def event(message_id: str, event_type: str = "ack", **fields: Any) -> Event:
    return Event(user_message_id=message_id, event_type=event_type, **fields)


EVENTS = [
    ({"event_type": "delivery_report", "delivery_status": "delivered"}, 1),
    ({"event_type": "delivery_report", "delivery_status": "failed"}, 2),
    ({"event_type": "delivery_report", "delivery_status": "pending"}, 4),
    ({"event_type": "ack"}, 8),
    ({"event_type": "nack"}, 16),
]


def test_message(face: Face) -> None:
    """A message is a new one, from the request's address or the default one."""
    sent = send(face, from_addr="8888")
    assert (sent.to_addr, sent.from_addr, sent.transport_type) == ("+27820000001", "8888", "sms")
    assert (sent.session_event, sent.in_reply_to) == (None, None)
    assert send(face).from_addr == "8110"
    with pytest.raises(ApiUsageError, match="default_from_addr"):
        send(Face.of(TYPE, KANNEL))


@pytest.mark.parametrize("mask", [0, 1, 8, 16, 27, 31])
def test_mask(face: Face, mask: int) -> None:
    """Of the events only those in the mask are told, by a GET of the dlr-url, which is a client's."""
    message = send(face, dlr_url=DLR, dlr_mask=mask)
    for fields, _ in EVENTS:
        done(face.application.handle_event(event(message.message_id, **fields)))
    told = [(destination.method, destination.url) for destination, _, _ in face.deliverer.delivered]
    assert told == [("GET", f"http://client/dlr?id=7&status={bit}") for _, bit in EVENTS if mask & bit]
    for destination, body, options in face.deliverer.delivered:
        assert (destination.rules, body, options["configured"]) == (ALL_HOSTS, b"", False)
    assert face.application.unknown_events == 0


def test_forward_events() -> None:
    """Only the events that the option lists are told, whatever the mask."""
    face = Face.of(TYPE, KANNEL, default_from_addr="8110", forward_events=["delivered", "rejected"])
    message = send(face, dlr_url=DLR, dlr_mask=31)
    for fields, _ in EVENTS:
        done(face.application.handle_event(event(message.message_id, **fields)))
    assert [destination.url[-2:] for destination, _, _ in face.deliverer.delivered] == ["=1", "16"]


def test_escapes(face: Face) -> None:
    """The escapes of the dlr-url are those of the message and of its event."""
    message = send(face, dlr_url="http://c/%d/?from=%p&to=%P&smsc=%F&id=%I", dlr_mask=8)
    done(face.application.handle_event(event(message.message_id, sent_message_id="s 1")))
    ((destination, _, _),) = face.deliverer.delivered
    assert destination.url == f"http://c/8/?from=8110&to=%2B27820000001&smsc=s+1&id={message.message_id}"


def test_without_dlr_url(face: Face) -> None:
    """A message without a dlr-url wants no report."""
    message = send(face, dlr_mask=31)
    assert logged(face.application.handle_event(event(message.message_id))) == []
    assert face.deliverer.delivered == []


def test_unknown_message(face: Face) -> None:
    """An event whose message isn't known is logged and counted."""
    (line,) = logged(face.application.handle_event(event("unknown")))
    assert "unknown" in line
    assert "is not forwarded" in line
    assert face.application.unknown_events == 1


@pytest.mark.parametrize("note", [None, "x", [1], ["1", "8110"], {}])
def test_foreign_note(face: Face, note: Any) -> None:
    """A note of another application has no mask."""
    done(face.store.store_outbound(OutboundRecord("m", "+27", DLR, note=note)))
    done(face.application.handle_event(event("m")))
    assert face.deliverer.delivered == []


def test_host_rules() -> None:
    """A dlr-url has the rules of an event_url: refused with the request where its host tells, else at delivery."""
    face = Face.of(TYPE, KANNEL, default_from_addr="8110", event_url_allowed_hosts=["*.example.org"])
    send(face, dlr_url="http://a.example.org/%d", dlr_mask=8)
    for url in ("http://other/%d", "http://169.254.169.254/%d", "http://%p/"):
        with pytest.raises(InvalidBody, match="dlr-url is refused"):
            send(face, dlr_url=url, dlr_mask=8)
    with pytest.raises(InvalidBody, match="never connected to"):
        send(Face.of(TYPE, KANNEL, default_from_addr="8110"), dlr_url="http://169.254.169.254/", dlr_mask=8)


def test_rules_that_came_later(face: Face) -> None:
    """A dlr-url that was stored before the rules is refused when its report is delivered."""
    done(face.store.store_outbound(OutboundRecord("m", "+27", "http://169.254.169.254/", note=[8, "8110"])))
    with pytest.raises(DeliveryRefused):
        done(face.application.handle_event(event("m")))


def test_inbound_post(face: Face) -> None:
    """An inbound message is POSTed as a form."""
    done(face.application.handle_inbound(inbound()))
    ((destination, form, options),) = face.deliverer.delivered
    assert (destination.method, destination.url) == ("POST", "http://rapidpro/c/kn/8eb23e93/receive")
    assert form["sender"] == "+27"
    assert form["message"] == "hi & ü"
    assert options["configured"]


def test_inbound_get() -> None:
    """With receive_method get the escapes of the URL are replaced; all messages share the circuit of that URL."""
    url = "http://u:s3cret@client/mo?from=%p&to=%P&text=%a&id=%I&q=%Q"
    face = Face.of(TYPE, KANNEL, receive_url=url, receive_method="get")
    for content in ("hi & ü", None):
        done(face.application.handle_inbound(inbound(content=content)))
    (first, body, _), (second, _, _) = face.deliverer.delivered
    assert (first.method, body) == ("GET", b"")
    assert first.url == "http://client/mo?from=%2B27&to=8110&text=hi+%26+%C3%BC&id=m1&q=8110"
    assert second.url == "http://client/mo?from=%2B27&to=8110&text=&id=m1&q=8110"
    assert first.authorization.startswith(b"Basic ")
    assert first.configured_url == second.configured_url
    assert "%p" in first.configured_url


def test_session_close(face: Face) -> None:
    """The close of a session has no place in Kannel."""
    done(face.application.handle_inbound(inbound(session_event="close", content=None)))
    assert face.deliverer.delivered == []


def test_character_limit() -> None:
    """The limit of characters holds here, too."""
    with pytest.raises(MessageTooLong):
        send(Face.of(TYPE, KANNEL, default_from_addr="1", character_limit=2), content="xxx")

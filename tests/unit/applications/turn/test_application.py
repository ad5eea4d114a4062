"""Use cases of the Turn Channels API."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.logger import LogLevel, capturedLogs, formatEvent

from junebug_turn.applications.turn import TYPE
from junebug_turn.applications.turn.menus import Choice
from junebug_turn.applications.turn.messages import OutboundRequest, flat_status, nested_status
from junebug_turn.applications.turn.signature import sign
from junebug_turn.errors import DeliveryRefused, MessageNotFound, RateLimited
from junebug_turn.http.errors import answer_for
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.state.message_store import OutboundRecord
from tests.support.application_harness import Face, done, logged
from tests.support.configurations import TURN

PHONE = "+27123"
CHOICES = (Choice("button_reply", "b1", "Well"), Choice("button_reply", "b2", "Not well"))
EVENT = Event(user_message_id="m", event_type="nack", event_id="e", nack_reason="x")


@pytest.fixture
def face() -> Face:
    return Face.of(TYPE, TURN, turn_api_url="http://turn")


def inbound(content: str | None = "hi", **fields: Any) -> Message:
    return Message(
        to_addr="8110", from_addr=PHONE, transport_name="t", transport_type="ussd", content=content, **fields
    )


def send(face: Face, **fields: Any) -> Message:
    request = OutboundRequest(to=PHONE, **{"content": "c", **fields})
    sent: list[Message] = []

    def answer(message: Message) -> bytes:
        sent.append(message)
        return b""

    done(face.application.send(request, answer, lambda _: None))
    return sent[0]


def delivered(face: Face) -> dict[str, Any]:
    body: dict[str, Any] = face.deliverer.delivered[-1][1]
    return body


def test_reply(face: Face) -> None:
    """The message that reply_to names is replied to, else the last one of the address, else it is a new message."""
    assert send(face).in_reply_to is None
    first, last = inbound(), inbound()
    for message in (first, last):
        done(face.application.handle_inbound(message))
    assert send(face).in_reply_to == last.message_id
    assert send(face, reply_to=first.message_id).in_reply_to == first.message_id
    with pytest.raises(MessageNotFound, match="id m not found"):
        send(face, reply_to="m")


def test_menu(face: Face) -> None:
    """The number that comes back to a menu is its choice, for the first message that comes, however often it does."""
    send(face, choices=CHOICES)
    answer = inbound("2")
    for _ in range(2):
        done(face.application.handle_inbound(answer))
        assert delivered(face)["message"]["interactive"]["button_reply"]["id"] == "b2"
    done(face.application.handle_inbound(inbound("2")))
    assert delivered(face)["message"]["text"] == {"body": "2"}


def test_text_after_a_menu(face: Face) -> None:
    """A text takes the place of a menu: the number that comes back answers the text."""
    send(face, choices=CHOICES)
    send(face)
    done(face.application.handle_inbound(inbound("2")))
    assert delivered(face)["message"]["type"] == "text"


def test_foreign_note(face: Face) -> None:
    """A note that is no menu counts as none, and is logged."""
    done(face.store.store_note(PHONE, "odd"))
    assert logged(face.application.handle_inbound(inbound("2"))) == [
        "A menu in the store counts as unknown: not a menu"
    ]
    assert delivered(face)["message"]["type"] == "text"


@pytest.mark.parametrize("broken", ["store_inbound", "fetch_note", "store_note"])
def test_inbound_without_store(face: Face, broken: str) -> None:
    """An inbound message is delivered, as a text, also when the store fails; a warning says so."""
    send(face, choices=CHOICES)
    face.break_store(broken)
    message = inbound("2", message_id="m")
    assert logged(face.application.handle_inbound(message)) == [
        "Inbound message m on ussd is not stored for replies: away"
    ]
    assert delivered(face)["message"]["type"] == "text"


@pytest.mark.parametrize("status_format", ["flat", "nested"])
def test_event(status_format: str) -> None:
    """An event is POSTed to /statuses in the form of status_format."""
    face = Face.of(TYPE, TURN, turn_api_url="http://turn/api", status_format=status_format)
    done(face.store.store_outbound(OutboundRecord("m", PHONE)))
    assert logged(face.application.handle_event(EVENT)) == []
    ((destination, body, _),) = face.deliverer.delivered
    assert destination.url.endswith("/api/statuses")
    assert body == (flat_status(EVENT) if status_format == "flat" else nested_status(EVENT, PHONE))


@pytest.mark.parametrize(
    ("status_format", "kinds"),
    [("flat", ["sent", "sent", "delivered", "sent"]), ("nested", ["sent", "failed", "delivered", "failed"])],
)
def test_forward_events(status_format: str, kinds: list[str]) -> None:
    """``forward_events`` chooses which events are forwarded, by the status that Turn would get."""
    events = [
        Event(user_message_id="m", event_type="ack"),
        EVENT,
        Event(user_message_id="m", event_type="delivery_report", delivery_status="delivered"),
        Event(user_message_id="m", event_type="delivery_report", delivery_status="failed"),
    ]
    for chosen in ([], ["sent"], ["delivered", "failed"]):
        face = Face.of(
            TYPE, TURN, turn_api_url="http://turn", status_format=status_format, forward_events=chosen
        )
        done(face.store.store_outbound(OutboundRecord("m", PHONE)))
        for event in events:
            done(face.application.handle_event(event))
        statuses = [body["status"] for _, body, _ in face.deliverer.delivered]
        told = [status["status"] if status_format == "nested" else status for status in statuses]
        assert told == [kind for kind in kinds if kind in chosen]


def test_unknown_event(face: Face) -> None:
    """An event whose message isn't known is counted and logged, and not delivered."""
    for count in (1, 2):
        (line,) = logged(face.application.handle_event(EVENT))
        assert line == (
            "nack e on ussd is not forwarded: its message m is not known, or no longer "
            f"({count} of these since the start)"
        )
    assert not face.deliverer.delivered


@pytest.mark.parametrize("status_format", ["flat", "nested"])
def test_forward_unknown_events(status_format: str) -> None:
    """forward_unknown_events: true sends an event whose message isn't known all the same, in the flat form."""
    options = {"forward_unknown_events": True, "status_format": status_format}
    face = Face.of(TYPE, TURN, turn_api_url="http://turn", **options)
    assert logged(face.application.handle_event(EVENT)) == []
    assert delivered(face) == flat_status(EVENT)


def test_a_message_that_no_phone_can_show(face: Face) -> None:
    """It is answered with an id, published as a nack into the connector's own events, and logged in one line; the event
    is then a status like any other."""
    request = OutboundRequest(to=PHONE, content="", unshown="sticker")
    (line,) = logged(face.application.send(request, lambda message: b"", lambda _: None), LogLevel.warn)
    (published,) = face.broker.published
    assert published.queue == "ussd.event"
    event = Event.from_json(published.body)
    assert event.event_type == "nack"
    assert line == (
        f"Outbound message {event.user_message_id} on ussd is reported as failed: its type 'sticker' has neither text "
        "nor link"
    )
    done(face.application.handle_event(event))
    assert delivered(face)["user_message_id"] == event.user_message_id


def test_without_url() -> None:
    """While turn_api_url is empty a warning says so at the start, and nothing can be delivered."""
    with capturedLogs() as logs:
        face = Face.of(TYPE, TURN)
    assert any("turn_api_url of ussd is empty" in formatEvent(event) for event in logs)
    with pytest.raises(DeliveryRefused):
        done(face.application.handle_inbound(inbound()))


def test_errors(face: Face) -> None:
    """An error has Turn's form; what passes is a 503, since Turn takes any 4xx for the message's end."""
    status, body = face.application.answer(answer_for(RateLimited("m", 1)))
    assert (status, body) == (503, {"errors": [{"type": "RateLimited", "message": "m"}]})


def test_renew() -> None:
    """Secrets that were read again are used from then on: the first token, each webhook secret, any HMAC secret."""
    face = Face.of(TYPE, TURN, turn_api_url="http://turn")
    before, after = [
        Face.of(TYPE, TURN, turn_api_url="http://elsewhere", **given).application.options
        for given in (
            {},
            {"auth_token": ["new", "old"], "webhook_secret": ["a", "b"], "turn_hmac_secret": ["x", "y"]},
        )
    ]
    for options, token, keys, secret in ((before, "t0ken", (), "hm4c"), (after, "new", (b"a", b"b"), "y")):
        face.application.renew(options)
        done(face.application.handle_inbound(inbound()))
        destination, _, given = face.deliverer.delivered[-1]
        assert destination.origin == "http://turn:80"
        assert destination.authorization == f"Bearer {token}".encode()
        assert given["webhook"].keys == keys
        body = b'{"to": "1", "turn": {"text": {"body": "b"}}}'
        signature = sign(secret.encode(), body).decode()
        assert face.ask("POST", "/messages", body, X_Turn_Hook_Signature=signature).status == 200

"""Use cases of an External channel: replies, sessions, menus and events."""

from __future__ import annotations

from typing import Any

import pytest

from junebug_turn.applications.rapidpro import TYPE
from junebug_turn.applications.rapidpro.messages import OutboundRequest
from junebug_turn.errors import ApiUsageError, MessageTooLong
from junebug_turn.http.errors import answer_for
from junebug_turn.messages.vumi import Event, Message
from tests.support.application_harness import Face, done, logged
from tests.support.configurations import RAPIDPRO

PHONE = "+27820000001"


@pytest.fixture
def face() -> Face:
    return Face.of(TYPE, RAPIDPRO)


def inbound(content: str | None = "hi", **fields: Any) -> Message:
    base: dict[str, Any] = {
        "to_addr": "*120#",
        "from_addr": PHONE,
        "transport_name": "t",
        "transport_type": "ussd",
    }
    return Message(**{**base, "content": content, **fields})


def come(face: Face, content: str | None = "hi", **fields: Any) -> Message:
    message = inbound(content, **fields)
    done(face.application.handle_inbound(message))
    return message


def send(face: Face, **fields: Any) -> Message:
    request = OutboundRequest(**{"to": PHONE, "content": "c", **fields})
    done(face.application.send(request, lambda message: b"", lambda _: None))
    return face.published[-1]


def received(face: Face) -> list[tuple[str, dict[str, str]]]:
    return [(destination.url, form) for destination, form, _ in face.deliverer.delivered]


@pytest.mark.parametrize("sender", ["+27820000001", "27820000001"])
@pytest.mark.parametrize("to", ["+27820000001", "27820000001"])
def test_reply(face: Face, sender: str, to: str) -> None:
    """A message answers the last one of its address, which the transport writes with or without a plus; else it is
    new."""
    new = send(face, to=to)
    assert (new.to_addr, new.from_addr, new.in_reply_to, new.transport_type) == (to, "8110", None, "sms")
    last = [come(face, from_addr=sender, transport_type="sms") for _ in range(2)][-1]
    reply = send(face, to=to, from_addr="8888")
    assert (reply.to_addr, reply.from_addr, reply.in_reply_to) == (sender, "*120#", last.message_id)


def test_other_addresses(face: Face) -> None:
    """An address that is no number has one form only."""
    come(face, from_addr="+alice", transport_type="sms")
    assert send(face, to="alice").in_reply_to is None


@pytest.mark.parametrize(("strip", "to"), [(False, PHONE), (True, PHONE[1:])])
def test_strip_plus(strip: bool, to: str) -> None:
    """The plus of a new message's number stays, or is taken away; a reply's is the transport's."""
    face = Face.of(TYPE, RAPIDPRO, strip_plus=strip)
    assert send(face).to_addr == to
    come(face)
    assert send(face).to_addr == PHONE


@pytest.mark.parametrize(
    ("status", "event"), [("W", "resume"), ("C", "close"), ("", "close"), ("X", "close")]
)
def test_session_event(status: str, event: str) -> None:
    """W keeps a session open, all else closes it, where the transport has sessions; elsewhere there is none."""
    face = Face.of(TYPE, RAPIDPRO, transport_type="ussd")
    assert send(face, status=status).session_event == event
    come(face)
    assert send(face, status=status).session_event == event
    come(face, transport_type="sms")
    assert send(face, status=status).session_event is None
    assert send(Face.of(TYPE, RAPIDPRO), status=status).session_event is None


def test_several_messages_in_one_step(face: Face) -> None:
    """Several messages of one flow step answer the same message; the one with W or C decides about the session."""
    opened = come(face, None, session_event="new")
    steps = [send(face, id="1"), send(face, id="2", status="W")]
    assert [(each.in_reply_to, each.session_event) for each in steps] == [
        (opened.message_id, "close"),
        (opened.message_id, "resume"),
    ]
    answer = come(face, "1", session_event="resume")
    assert [send(face, id=id, status="W").in_reply_to for id in "34"] == [answer.message_id] * 2
    assert send(face, id="5", status="C").in_reply_to == answer.message_id
    # Its further part, and its repeat after a failure, are of the session still.
    assert send(face, id="5", status="C").in_reply_to == answer.message_id


@pytest.mark.parametrize("ends", ["by RapidPro", "by RapidPro, without status", "by the network"])
def test_late_reply(ends: str) -> None:
    """After the end of its session a message is a new one, or refused, as the option says, until the next session."""
    for option in ("send", "refuse"):
        face = Face.of(TYPE, RAPIDPRO, late_replies=option)
        come(face, None, session_event="new")
        if ends == "by the network":
            come(face, None, session_event="close")
        else:
            send(face, id="1", status="" if ends.endswith("status") else "C")
        for _ in range(2):
            if option == "send":
                assert send(face, id="2").in_reply_to is None
            else:
                with pytest.raises(ApiUsageError, match="the session has ended"):
                    send(face, id="2")
        again = come(face, None, session_event="new")
        assert send(face, id="3", status="W").in_reply_to == again.message_id


def test_session_close_is_not_forwarded(face: Face) -> None:
    """The close of a session is not forwarded, its start is, with a text."""
    come(face, None, session_event="new")
    come(face, None, session_event="close")
    ((url, form),) = received(face)
    assert url == "http://rapidpro/c/ex/8eb23e93/receive"
    assert (form["from"], form["text"]) == (PHONE, "*120#")


def test_session_start_text() -> None:
    """The text of a session's start is an option."""
    face = Face.of(TYPE, RAPIDPRO, session_start_text="start")
    come(face, None, session_event="new")
    assert received(face)[0][1]["text"] == "start"


def test_menu(face: Face) -> None:
    """The number that comes back to a menu is the quick reply's text, for the next message only, with each delivery."""
    send(face, to=PHONE[1:], choices=("Yes", "No"))
    chosen = come(face, "2")
    done(face.application.handle_inbound(chosen))
    come(face, "2")
    send(face, choices=("Yes", "No"))
    come(face, "maybe")
    send(face, choices=("Yes", "No"))
    send(face)
    come(face, "1")
    assert [form["text"] for _, form in received(face)] == ["No", "No", "2", "maybe", "1"]


def test_store_away(face: Face) -> None:
    """An inbound message that can't be stored is delivered all the same, and logged; nothing is sent without store."""
    face.break_store("store_inbound")
    (line,) = logged(face.application.handle_inbound(inbound("2")))
    assert "is not stored for replies: away" in line
    assert received(face)[0][1]["text"] == "2"


def test_foreign_note(face: Face) -> None:
    """A note of another application counts as none, and is logged."""
    done(face.store.store_note(PHONE[1:], "foreign"))
    lines = logged(face.application.handle_inbound(inbound("2")))
    assert any("counts as unknown: not a conversation" in line for line in lines)
    assert received(face)[0][1]["text"] == "2"


def test_no_sender(face: Face) -> None:
    """A message without a sender is delivered; what RapidPro refuses is parked."""
    come(face, "x", from_addr=None)
    assert received(face)[0][1]["from"] == ""


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"event_type": "ack"}, "/sent"),
        ({"event_type": "nack"}, "/failed"),
        ({"event_type": "delivery_report", "delivery_status": "delivered"}, "/delivered"),
        ({"event_type": "delivery_report", "delivery_status": "failed"}, "/failed"),
    ],
)
def test_event(face: Face, fields: dict[str, Any], path: str) -> None:
    """An event goes to its path with the id of the request, unchanged."""
    message = send(face, id="0199-é")
    done(face.application.handle_event(Event(user_message_id=message.message_id, **fields)))
    assert received(face) == [(f"http://rapidpro/c/ex/8eb23e93{path}", {"id": "0199-é"})]


def test_forward_events() -> None:
    """Only the events that the option lists are forwarded."""
    face = Face.of(TYPE, RAPIDPRO, forward_events=["failed"])
    message = send(face, id="7")
    for event_type in ("ack", "nack"):
        done(face.application.handle_event(Event(user_message_id=message.message_id, event_type=event_type)))
    assert [url.rpartition("/")[2] for url, _ in received(face)] == ["failed"]


def test_pending(face: Face) -> None:
    """Pending has no word in RapidPro: nothing is sent, and nothing counted."""
    message = send(face, id="7")
    event = Event(user_message_id=message.message_id, event_type="delivery_report", delivery_status="pending")
    assert logged(face.application.handle_event(event)) == []
    assert (received(face), face.application.unknown_events) == ([], 0)


def test_event_without_id(face: Face) -> None:
    """An event of a message that isn't known, or that had no id, is logged and counted."""
    for message_id in ("unknown", send(face).message_id):
        (line,) = logged(face.application.handle_event(Event(user_message_id=message_id, event_type="ack")))
        assert message_id in line
        assert "is not forwarded" in line
    assert (received(face), face.application.unknown_events) == ([], 2)


def test_character_limit() -> None:
    """The limit counts the text with its menu."""
    face = Face.of(TYPE, RAPIDPRO, character_limit=10)
    send(face, content="x" * 10)
    with pytest.raises(MessageTooLong):
        send(face, content="x" * 11)


@pytest.mark.parametrize(("error", "status"), [(ApiUsageError("x"), 400), (RuntimeError("secret"), 500)])
def test_answer(face: Face, error: Exception, status: int) -> None:
    """An error has a type and a message."""
    answered, body = face.application.answer(answer_for(error))
    assert answered == status
    assert list(body["error"]) == ["type", "message"]
    assert "secret" not in str(body)

"""Turn's JSON to and from vumi's messages."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from junebug_turn.applications.turn.menus import Choice
from junebug_turn.applications.turn.messages import (
    OutboundRequest,
    error_titles,
    errors_to_json,
    flat_status,
    inbound_to_json,
    nested_status,
)
from junebug_turn.errors import InvalidBody
from junebug_turn.http.errors import answer_for
from junebug_turn.messages import strictjson
from junebug_turn.messages.vumi import TRANSPORT_TYPES, Event, Message
from tests.support.strategies import events, json_objects, json_values, messages

DOCUMENTED_REQUEST = """
{
  "to": "+26612345678",
  "from": "8110",
  "turn": {"type": "text", "text": {"body": "Hello world!"}}
}
"""
TURN_TEXT = {"type": "text", "text": {"body": "hi"}}
BUTTONS = {
    "type": "interactive",
    "interactive": {
        "type": "button",
        "header": {"type": "text", "text": "MomConnect"},
        "body": {"text": "How are you?"},
        "footer": {"text": "Choose a number"},
        "action": {
            "buttons": [
                {"type": "reply", "reply": {"id": "b1", "title": "Well"}},
                {"type": "reply", "reply": {"id": "b2", "title": "Not well"}},
            ]
        },
    },
}
INBOUND = Message(
    to_addr="*120#",
    from_addr="+26612345678",
    transport_name="ussd_transport",
    transport_type="ussd",
    message_id="message-uuid-5678",
    content="Hello world!",
    timestamp=datetime(2021, 8, 7, 14, 17, 58, 999999),
    transport_metadata={"session": 7},
)


def parse(*, render_interactive: bool = True, render_media: bool = True, **fields: Any) -> OutboundRequest:
    body = {"to": "+27123", "turn": TURN_TEXT, **fields}
    return OutboundRequest.from_json(body, render_interactive=render_interactive, render_media=render_media)


def new(**fields: Any) -> Message:
    return parse(**fields).as_new(default_from_addr="8110", transport_name="conn", transport_type="sms")


def test_documented_request() -> None:
    """The reference's example request is accepted as it is printed there, without the comma that JSON forbids."""
    request = OutboundRequest.from_json(json.loads(DOCUMENTED_REQUEST), render_interactive=True)
    assert request == OutboundRequest(to="+26612345678", from_addr="8110", content="Hello world!")


def test_keys_that_turn_sends_beside() -> None:
    """block, resources, evaluated_resources, content, context, also null, and unknown keys are accepted."""
    extra = dict.fromkeys(
        ["block", "resources", "evaluated_resources", "content", "context", "reply_to", "from"]
    )
    assert parse(**extra, future={"a": 1}) == parse()


@pytest.mark.parametrize("field", ["to", "from", "reply_to"])
def test_lengths(field: str) -> None:
    """An address or an id has 255 characters at most; a longer one is refused, and the field named."""
    parse(**{field: "x" * 255})
    with pytest.raises(InvalidBody, match=f"^'{field}' must not be longer than 255 characters$"):
        parse(**{field: "x" * 256})


@pytest.mark.parametrize("to", [None, "", 27, ["+27"]])
def test_to_is_required(to: object) -> None:
    """A webhook without to, or with another type there, is refused and the field is named."""
    with pytest.raises(InvalidBody, match="'to'"):
        parse(to=to)


@pytest.mark.parametrize(
    "turn",
    [None, "text", {}, {"type": "text"}, {"type": "text", "text": {}}, {"text": {"body": 5}}, {"text": "hi"}],
)
def test_body_is_required(turn: object) -> None:
    """A webhook without turn.text.body is refused, also when it has a content beside."""
    with pytest.raises(InvalidBody, match="turn"):
        parse(turn=turn, content="beside")


def test_type_absent_counts_as_text() -> None:
    """turn.type absent counts as text."""
    assert parse(turn={"text": {"body": "hi"}}).content == "hi"


def test_other_types_fall_back_to_content() -> None:
    """Another turn.type falls back to a non-empty top-level content."""
    assert parse(turn={"type": "image", "image": {}}, content="see image").content == "see image"


@pytest.mark.parametrize("content", [None, "", 5])
def test_other_types_without_content(content: object) -> None:
    """Another turn.type without a text to send can't be shown, which is no fault of the webhook."""
    request = parse(turn={"type": "image"}, content=content)
    assert (request.content, request.unshown) == ("", "image")


@pytest.mark.parametrize(("waiting", "session_event"), [(True, "resume"), (False, "close"), (None, "close")])
def test_session_event(waiting: bool | None, session_event: str) -> None:
    """waiting_for_user_input true means session_event resume, else close, on replies and non-replies."""
    request = parse(waiting_for_user_input=waiting)
    assert request.as_reply(INBOUND, transport_name="c", transport_type="sms").session_event == session_event
    assert new(waiting_for_user_input=waiting).session_event == session_event


@pytest.mark.parametrize("waiting", ["true", 1, []])
def test_wrong_session_type(waiting: object) -> None:
    """waiting_for_user_input of a wrong type is refused and named; nothing is coerced."""
    with pytest.raises(InvalidBody, match="waiting_for_user_input"):
        parse(waiting_for_user_input=waiting)


def test_new_message() -> None:
    """A new message comes from from or default_from_addr, over the connector, with the configured type."""
    message = new()
    assert message == Message(
        to_addr="+27123",
        from_addr="8110",
        content="hi",
        transport_name="conn",
        transport_type="sms",
        session_event="close",
        message_id=message.message_id,
        timestamp=message.timestamp,
    )
    assert new(**{"from": "9"}).from_addr == "9"
    assert new(**{"from": None}).from_addr == "8110"


def test_documented_inbound() -> None:
    """An inbound message has the documented body, its timestamp a string of Unix seconds."""
    assert inbound_to_json(INBOUND) == {
        "contact": {"id": "+26612345678", "profile": {"name": "+26612345678"}},
        "message": {
            "type": "text",
            "text": {"body": "Hello world!"},
            "from": "+26612345678",
            "id": "message-uuid-5678",
            "timestamp": "1628345878",
        },
    }


@pytest.mark.parametrize("content", [None, ""])
def test_empty_inbound(content: str | None) -> None:
    """Turn refuses an empty text: the address that was dialled is sent in its place."""
    message = Message(
        to_addr="*120#", from_addr="1", transport_name="t", transport_type="ussd", content=content
    )
    assert inbound_to_json(message)["message"]["text"]["body"] == "*120#"


@pytest.mark.parametrize(
    ("fields", "flat", "nested"),
    [
        ({"event_type": "ack"}, "sent", "sent"),
        ({"event_type": "nack", "nack_reason": "x"}, "sent", "failed"),
        ({"event_type": "delivery_report", "delivery_status": "pending"}, "sent", "sent"),
        ({"event_type": "delivery_report", "delivery_status": "failed"}, "sent", "failed"),
        ({"event_type": "delivery_report", "delivery_status": "delivered"}, "delivered", "delivered"),
        ({"event_type": "ack", "delivery_status": "delivered"}, "sent", "sent"),
    ],
)
def test_events(fields: dict[str, Any], flat: str, nested: str) -> None:
    """Each event has its status in both forms: flat knows no failure, nested does."""
    event = Event(user_message_id="msg-uuid-1234", timestamp=datetime(2015, 6, 15, 13, 0, 0, 7), **fields)
    assert flat_status(event) == {
        "user_message_id": "msg-uuid-1234",
        "timestamp": "2015-06-15 13:00:00",
        "status": flat,
    }
    assert nested_status(event, "+27123") == {
        "status": {
            "id": "msg-uuid-1234",
            "timestamp": "1434373200",
            "status": nested,
            "recipient_id": "+27123",
        }
    }


def test_errors() -> None:
    """An error is told as a list with type and message."""
    assert errors_to_json(answer_for(InvalidBody("m"))) == {
        "errors": [{"type": "invalid_body", "message": "m"}]
    }


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"errors": [{"code": 470, "title": "No opt-in", "details": "d"}]}', "No opt-in (470)"),
        (b'{"meta": {}, "errors": [{"title": "a"}, {"code": "b", "title": " c "}]}', "a; c (b)"),
        (b'{"errors": [{"code": 429}, {}, null, {"title": 5, "code": true}]}', "code 429"),
        (b'{"errors": {"title": "a"}}', ""),
        (b'{"error": "a"}', ""),
        (b'["errors"]', ""),
        (b'{"errors": [{"title": "cut', ""),
        (b"<html>", ""),
        (b"\xff\x00", ""),
        (b"", ""),
        (b"[" * 4096, ""),
    ],
)
def test_error_titles(body: bytes, text: str) -> None:
    """Titles and codes of Turn's error body are read; any other body has none."""
    assert error_titles(body) == text


@given(json_values | json_objects | st.fixed_dictionaries({"errors": st.lists(json_values | json_objects)}))
def test_titles_of_any_json(body: Any) -> None:
    """Whatever JSON an error body is, reading it does not fail, and the text is bounded."""
    assert len(error_titles(strictjson.dumps(body))) < 1500


def test_buttons_become_numbers() -> None:
    """Buttons are rendered as a plain numbered text, with header and footer."""
    request = parse(turn=BUTTONS)
    assert request.content == "MomConnect\nHow are you?\n1. Well\n2. Not well\nChoose a number"
    assert request.choices == (Choice("button_reply", "b1", "Well"), Choice("button_reply", "b2", "Not well"))


def test_render_interactive_off() -> None:
    """With render_interactive false an interactive message is its content, or its text without the choices."""
    text = "MomConnect\nHow are you?\nChoose a number"
    assert parse(render_interactive=False, turn=BUTTONS).content == text
    request = parse(render_interactive=False, turn=BUTTONS, content="text")
    assert (request.content, request.choices) == ("text", ())


@pytest.mark.parametrize("interactive", [None, [], {}, {"body": {"text": "b"}}, {"action": {"buttons": []}}])
def test_interactive_without_choices(interactive: object) -> None:
    """An interactive message without choices falls back to content, else to its text, else it can't be shown."""
    turn = {"type": "interactive", "interactive": interactive}
    assert parse(turn=turn, content="text").content == "text"
    assert parse(turn=turn).content == ("b" if interactive == {"body": {"text": "b"}} else "")


@pytest.mark.parametrize("kind", [5, ["image"], {}, True])
def test_a_type_that_is_no_text(kind: object) -> None:
    """A turn.type that is no text is refused."""
    with pytest.raises(InvalidBody, match=r"'turn\.type' must be a string"):
        parse(turn={"type": kind}, content="c")


def test_render_media() -> None:
    """Media with a link become their caption and the link; without one they are the content, or their caption; with
    render_media false they are the content only."""
    image = {"link": "https://h/1", "caption": "c"}
    for value, content, render_media, expected in (
        (image, None, True, "c\nhttps://h/1"),
        (image, "content", True, "c\nhttps://h/1"),
        ({"id": "1", "caption": "c"}, "content", True, "content"),
        ({"id": "1", "caption": "c"}, None, True, "c"),
        (image, "content", False, "content"),
        (image, None, False, ""),
    ):
        request = parse(render_media=render_media, turn={"type": "image", "image": value}, content=content)
        assert (request.content, bool(request.unshown)) == (expected, not expected)


@pytest.mark.parametrize(
    ("contact_name", "profile"),
    [
        ("address", {"profile": {"name": "+26612345678"}}),
        ("none", {}),
        ("name", {"profile": {"name": "Thandi"}}),
        ("other", {}),
        ("empty", {}),
        ("number", {}),
    ],
)
def test_contact_name(contact_name: str, profile: dict[str, Any]) -> None:
    """The contact's name is the address, none, or what a key of helper_metadata has; without that there is none, so
    that a name which was given in Turn stays."""
    helper_metadata = {"name": "Thandi", "empty": " ", "number": 5}
    told = inbound_to_json(attrs.evolve(INBOUND, helper_metadata=helper_metadata), contact_name=contact_name)
    assert told["contact"] == {"id": "+26612345678", **profile}


@pytest.mark.parametrize("where", ["helper_metadata", "transport_metadata"])
def test_inbound_media(where: str) -> None:
    """The URL of an inbound message's media, under the key that media_url_key names, is added to the text."""
    for content, url, expected in (
        ("hi", "https://h/1.jpg", "hi\nhttps://h/1.jpg"),
        (None, "https://h/1.jpg", "https://h/1.jpg"),
        ("hi", "javascript:x", "hi"),
        ("hi", {"url": "https://h/"}, "hi"),
        (None, None, "*120#"),
    ):
        message = attrs.evolve(INBOUND, content=content, **{where: {"media": url}})
        told = inbound_to_json(message, media_url_key="media")
        assert told["message"]["text"]["body"] == expected


@pytest.mark.parametrize("kind", ["button_reply", "list_reply"])
def test_chosen_inbound(kind: str) -> None:
    """A choice is sent to Turn as type interactive with the button's or row's id and title, instead of text."""
    message = inbound_to_json(INBOUND, Choice(kind, "b1", "Well"))["message"]
    assert "text" not in message
    assert message["type"] == "interactive"
    assert message["interactive"] == {"type": kind, kind: {"id": "b1", "title": "Well"}}


@given(
    messages, st.none() | st.builds(Choice, st.just("list_reply"), st.text(max_size=5), st.text(max_size=5))
)
def test_any_inbound_can_be_told(message: Message, choice: Choice | None) -> None:
    """Every inbound message that can be read can be told to Turn."""
    told = json.loads(strictjson.dumps(inbound_to_json(message, choice)))
    assert told["message"]["id"] == message.message_id
    assert told["message"]["timestamp"].isdigit()


@given(events)
def test_any_event_can_be_told(event: Event) -> None:
    """Every event that can be read has a status in both forms."""
    assert flat_status(event)["status"] in {"sent", "delivered"}
    assert nested_status(event, None)["status"]["status"] in {"sent", "delivered", "failed"}


_names = st.sampled_from(
    ["to", "from", "reply_to", "turn", "content", "waiting_for_user_input", "type", "text", "body"]
)
_parts = st.sampled_from(
    ["type", "interactive", "text", "body", "action", "buttons", "sections", "rows", "reply", "id"]
)
_nested = st.recursive(
    json_values | st.sampled_from(["interactive", "text"]),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(_parts, children, max_size=4),
    max_leaves=10,
)


@given(json_values | json_objects | st.dictionaries(_names, _nested, max_size=6), st.booleans(), messages)
def test_any_webhook(body: Any, render_interactive: bool, inbound: Message) -> None:
    """Any JSON value is refused as an invalid body, or makes a valid vumi message."""
    try:
        request = OutboundRequest.from_json(body, render_interactive=render_interactive)
    except InvalidBody:
        return
    for message in (
        request.as_reply(inbound, transport_name="conn", transport_type="sms"),
        request.as_new(default_from_addr="8110", transport_name="conn", transport_type="sms"),
    ):
        assert message.session_event in {"resume", "close"}
        assert message.transport_type in TRANSPORT_TYPES
        assert isinstance(message.content, str)
        assert Message.from_json(message.to_json()) == message

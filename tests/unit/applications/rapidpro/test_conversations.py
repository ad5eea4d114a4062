"""Menus and the ends of sessions, as they are noted in the store."""

from __future__ import annotations

import json
from typing import Any

import pytest

from junebug_turn.applications.rapidpro.conversations import (
    Conversation,
    SessionEnd,
    has_sessions,
    with_choices,
)
from junebug_turn.messages.vumi import Message

END = SessionEnd("in1", "7", "C")
MENU = Conversation(("Yes", "No"))


def inbound(content: str | None = None, message_id: str = "in1", **fields: Any) -> Message:
    base: dict[str, Any] = {
        "to_addr": "*120#",
        "from_addr": "+27",
        "transport_name": "t",
        "transport_type": "ussd",
    }
    return Message(**{**base, "content": content, "message_id": message_id, **fields})


@pytest.mark.parametrize(
    "conversation", [MENU, MENU.answered("in1"), Conversation(end=END), Conversation(("a",), "in1", END)]
)
def test_note(conversation: Conversation) -> None:
    """A conversation comes back from its note, which is JSON; one with nothing to note has none."""
    assert Conversation.from_note(json.loads(json.dumps(conversation.to_note()))) == conversation
    assert Conversation().to_note() is None


@pytest.mark.parametrize("note", [0, "abcd", [], [1, None, None], [[], None, [1]], {"a": 1}])
def test_other_notes(note: Any) -> None:
    """Another value is no conversation."""
    with pytest.raises(ValueError, match="not a conversation"):
        Conversation.from_note(note)


@pytest.mark.parametrize(
    ("content", "chosen"),
    [
        ("1", "Yes"),
        (" 2 ", "No"),
        ("2.", "No"),
        ("2)", "No"),
        ("3", None),
        ("0", None),
        ("No", None),
        (None, None),
    ],
)
def test_chosen(content: str | None, chosen: str | None) -> None:
    """The number of a line is its quick reply; any other answer is itself."""
    assert MENU.answered("in1").chosen(inbound(content)) == chosen


def test_only_the_next_message_chooses() -> None:
    """Only the message that comes next can choose, and each time that it is delivered."""
    answered = MENU.answered("in1")
    assert answered.answered("in2") == answered
    assert answered.chosen(inbound("1", "in2")) is None
    assert answered.answered("in1").chosen(inbound("1")) == "Yes"


@pytest.mark.parametrize(
    ("end", "request_id", "status", "goes_on"),
    [
        (None, "", "", True),
        (SessionEnd("in0", "7", "C"), "8", "", True),
        (END, "8", "C", False),
        (END, "8", "W", False),
        (END, "8", "", False),
        (END, "7", "C", True),
        (SessionEnd("in1", "", "C"), "", "C", False),
        (SessionEnd("in1", "7", ""), "8", "", False),
        (SessionEnd("in1", "7", ""), "8", "W", True),
        (SessionEnd("in1", "7", ""), "8", "C", True),
    ],
)
def test_goes_on(end: SessionEnd | None, request_id: str, status: str, goes_on: bool) -> None:
    """A session goes on until the message that ended it; that one's repeats and parts are still of it, and after one
    without status W and C decide."""
    conversation = Conversation(end=end)
    assert conversation.goes_on(inbound(), request_id, status) is goes_on
    assert not conversation.goes_on(inbound(session_event="close"), request_id, status)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"transport_type": "sms"}, False),
        ({"transport_type": "telnet", "session_event": "resume"}, True),
        ({"transport_type": None}, False),
    ],
)
def test_has_sessions(fields: dict[str, Any], expected: bool) -> None:
    """A message is of a session when its transport says so, or is one of USSD."""
    assert has_sessions(inbound(**fields)) is expected


def test_with_choices() -> None:
    """Quick replies are numbered lines below the text."""
    assert with_choices("Well?", ("Yes", " No ")) == "Well?\n1. Yes\n2. No"
    assert with_choices("Well?", ()) == "Well?"
    assert with_choices("", ("Yes",)) == "1. Yes"

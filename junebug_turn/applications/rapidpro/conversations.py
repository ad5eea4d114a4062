"""Conversations with phones: the last menu that one was sent, and the end of its session; noted in the store."""

from __future__ import annotations

import re
from typing import Any, Self

from attrs import evolve, frozen

from junebug_turn.messages.vumi import CLOSE, Message

_NUMBER = re.compile(r"\s*(\d{1,2})\s*[.)]?\s*")

MAX_CHOICES = 99
"""Quick replies of one message: more than RapidPro has, and few enough for a menu that someone reads."""

WAITING = "W"
"""The session status of a message whose answer RapidPro waits for."""


def has_sessions(message: Message) -> bool:
    """Return whether an inbound message came over a transport that has sessions."""
    return message.transport_type == "ussd" or message.session_event is not None


def with_choices(text: str, choices: tuple[str, ...]) -> str:
    """Return a text with quick replies as numbered lines below it."""
    lines = [f"{number}. {choice.strip()}" for number, choice in enumerate(choices, 1)]
    return "\n".join([text, *lines] if text else lines)


@frozen
class SessionEnd:
    """Message that ended a session.

    :ivar inbound_id: the inbound message that it answered: a later one is of another session
    :ivar request_id: RapidPro's id of it, empty where it had none; its repeats and further parts belong to the session
    :ivar status: its session status; where that was empty, RapidPro may still say how the session goes on
    """

    inbound_id: str
    request_id: str
    status: str


@frozen
class Conversation:
    """State of the conversation with one address.

    :ivar choices: the quick replies of the last message to it
    :ivar answered_by: the id of the inbound message that came next: only that one can choose, however often it is
        delivered
    :ivar end: the end of its session
    """

    choices: tuple[str, ...] = ()
    answered_by: str | None = None
    end: SessionEnd | None = None

    @classmethod
    def from_note(cls, note: Any) -> Self:
        """Read a conversation from the JSON value of ``to_note``.

        :raises ValueError: it is another value
        """
        try:
            choices, answered_by, end = note
            return cls(tuple(str(choice) for choice in choices), answered_by, end and SessionEnd(*end))
        except (TypeError, ValueError):
            raise ValueError("not a conversation") from None

    def to_note(self) -> Any:
        """Return the conversation as a JSON value for the store; None where there is nothing to note."""
        if self == Conversation():
            return None
        end = self.end and [self.end.inbound_id, self.end.request_id, self.end.status]
        return [list(self.choices), self.answered_by, end]

    def answered(self, message_id: str) -> Conversation:
        """Return the conversation after an inbound message."""
        return evolve(self, answered_by=message_id) if self.choices and self.answered_by is None else self

    def chosen(self, message: Message) -> str | None:
        """Return the quick reply whose number an inbound message is, as ``2``, `` 2 `` or ``2.``"""
        match = _NUMBER.fullmatch(message.content or "") if self.answered_by == message.message_id else None
        number = int(match[1]) if match else 0
        return self.choices[number - 1] if 1 <= number <= len(self.choices) else None

    def goes_on(self, inbound: Message, request_id: str, status: str) -> bool:
        """Return whether a message to the phone belongs to the session that its last inbound message is of."""
        if inbound.session_event == CLOSE:
            return False
        end = self.end
        if end is None or end.inbound_id != inbound.message_id:
            return True
        return bool((request_id and request_id == end.request_id) or (status and not end.status))

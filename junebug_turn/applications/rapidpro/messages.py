"""Translation of the External channel's requests to and from vumi's messages, without I/O.

The formats are those of the handler ``external`` of RapidPro's courier; docs/rapidpro.md shows them.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

from attrs import frozen

from junebug_turn.applications.message_request import MessageRequest, check_size
from junebug_turn.applications.rapidpro.conversations import MAX_CHOICES, with_choices
from junebug_turn.applications.rapidpro.parameters import Parameters
from junebug_turn.errors import InvalidBody
from junebug_turn.http.errors import Answer
from junebug_turn.messages import strictjson, vumi
from junebug_turn.messages.vumi import NEW, Event, Message

RECEIVE = "/receive"

_PATHS = {
    vumi.ACK: "/sent",
    vumi.NACK: "/failed",
    vumi.DELIVERED: "/delivered",
    vumi.FAILED: "/failed",
    vumi.PENDING: None,
}
STATUS_PATHS = ("/sent", "/delivered", "/failed")


@frozen(kw_only=True)
class OutboundRequest(MessageRequest):
    """A send request, validated; ``content`` has the quick replies as numbered lines.

    :ivar id: RapidPro's id of the message, which its events carry; empty where it gave none
    :ivar status: its session status, as it came
    """

    to: str
    content: str
    id: str = ""
    status: str = ""
    choices: tuple[str, ...] = ()

    @classmethod
    def from_parameters(cls, parameters: Parameters) -> OutboundRequest:
        """Validate a request.  Parameters that are unknown, or of no use here, are passed over.

        :raises InvalidBody: one that is needed is missing, or one is of a wrong type or too long
        """
        to = parameters.word("to")
        # A plus that the URL has as it is stands for a space.
        to = f"+{to.strip()}" if to.startswith(" ") else to.strip()
        if not to:
            raise InvalidBody("'to' is required")
        from_addr = parameters.word("from").strip() or None
        text = parameters.text("text")
        if text is None:
            raise InvalidBody("'text' is required")
        choices = tuple(parameters.texts("quick_reply", "quick_replies"))
        if len(choices) > MAX_CHOICES:
            raise InvalidBody(f"there must be at most {MAX_CHOICES} quick replies")
        id = parameters.id("id") or parameters.id("uuid")
        for name, value in (("id", id), ("to", to), ("from", from_addr)):
            check_size(f"'{name}'", value)
        return cls(
            to=to,
            content=with_choices(text, choices),
            from_addr=from_addr,
            id=id,
            status=parameters.word("session_status").strip().upper(),
            choices=choices,
        )

    @property
    def key(self) -> bytes:
        """The key of its repeats, which have the same id and text; further parts have the same id only."""
        return sha256(strictjson.dumps([self.id, self.to, self.content])).digest()


def inbound_to_form(message: Message, text: str | None, session_start_text: str | None) -> bytes:
    """Return an inbound message as the body of ``/receive``."""
    if not text and message.session_event == NEW:
        text = session_start_text or message.to_addr
    date = message.timestamp.isoformat(timespec="microseconds") + "Z"
    return form({"from": message.from_addr or "", "text": text or "", "date": date})


def form(fields: dict[str, str]) -> bytes:
    """Return a form of these fields; half a surrogate pair, which is no UTF-8, becomes a question mark."""
    return urlencode(fields, encoding="utf-8", errors="replace").encode("ascii")


def status_path(event: Event) -> str | None:
    """Return the end of the URL that an event is POSTed to; None for one that RapidPro has no word for."""
    is_report = event.event_type == vumi.DELIVERY_REPORT
    return _PATHS[event.delivery_status or "" if is_report else event.event_type]


def accepted(message: Message) -> dict[str, Any]:
    """Return the JSON of the answer to a request whose message was sent."""
    return {"message_id": message.message_id, "status": "accepted"}


def error_to_json(answer: Answer) -> dict[str, Any]:
    """Return the JSON of an error answer."""
    return {"error": {"type": answer.type, "message": answer.message}}

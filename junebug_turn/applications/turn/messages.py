"""Translation of Turn's JSON to and from vumi's messages, without I/O.

The formats are those of the Turn Channels API, as ``docs/turn.md`` shows them.
"""

from __future__ import annotations

from calendar import timegm
from datetime import datetime
from typing import Any

from attrs import frozen

from junebug_turn.applications.message_request import MessageRequest, check_size
from junebug_turn.applications.turn import media
from junebug_turn.applications.turn.interactive import render
from junebug_turn.applications.turn.menus import Choice
from junebug_turn.errors import InvalidBody
from junebug_turn.http.errors import Answer
from junebug_turn.messages import strictjson
from junebug_turn.messages.vumi import CLOSE, DELIVERED, DELIVERY_REPORT, FAILED, NACK, RESUME, Event, Message

MAX_KIND = 100
"""Characters of a message's type that are logged."""

MAX_NAME = 255

MAX_ERRORS, MAX_TITLE = 5, 200
"""Errors in the body of a refusal that are read, and the characters of the title of each."""


@frozen(kw_only=True)
class OutboundRequest(MessageRequest):
    """A webhook of Turn, validated.

    :ivar choices: those of a menu that became the ``content``'s numbered lines
    :ivar unshown: the type of a message that no phone can show: it has no content; empty otherwise
    """

    to: str
    content: str
    session_event: str | None = CLOSE
    choices: tuple[Choice, ...] = ()
    unshown: str = ""

    @classmethod
    def from_json(
        cls, body: Any, *, render_interactive: bool = True, render_media: bool = True
    ) -> OutboundRequest:
        """Validate a webhook's JSON.  Keys that are unknown, or of no use here, are passed over.

        :raises InvalidBody: a field that is needed is missing or of a wrong type
        """
        if not isinstance(body, dict):
            raise InvalidBody("the body must be an object")
        to = _optional_text(body, "to")
        if not to:
            raise InvalidBody("'to' is required")
        waiting = body.get("waiting_for_user_input")
        if waiting is not None and not isinstance(waiting, bool):
            raise InvalidBody("'waiting_for_user_input' must be a boolean or null")
        content, choices, unshown = _content(body, render_interactive, render_media)
        return cls(
            to=to,
            content=content,
            from_addr=_optional_text(body, "from") or None,
            reply_to=_optional_text(body, "reply_to") or None,
            # The session goes on when Turn waits for an answer.
            session_event=RESUME if waiting else CLOSE,
            choices=choices,
            unshown=unshown,
        )


def _optional_text(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidBody(f"'{name}' must be a string")
    return check_size(f"'{name}'", value)


def _content(
    body: dict[str, Any], render_interactive: bool, render_media: bool
) -> tuple[str, tuple[Choice, ...], str]:
    turn = body.get("turn")
    if not isinstance(turn, dict):
        raise InvalidBody("'turn' is required and must be an object")
    kind = turn.get("type")
    if kind is None or kind == "text":
        text = turn.get("text")
        content = text.get("body") if isinstance(text, dict) else None
        if not isinstance(content, str):
            raise InvalidBody("'turn.text.body' is required and must be a string")
        return content, (), ""
    if not isinstance(kind, str):
        raise InvalidBody("'turn.type' must be a string")
    if kind == "interactive" and render_interactive:
        rendered = render(turn.get("interactive"))
        if rendered is not None:
            return *rendered, ""
    text, complete = media.render(kind, turn.get(kind)) if render_media else ("", False)
    content = body.get("content")
    if isinstance(content, str) and content and not (text and complete):
        text = content
    return text, (), "" if text else kind[:MAX_KIND]


def inbound_to_json(
    message: Message,
    choice: Choice | None = None,
    *,
    contact_name: str = "address",
    media_url_key: str | None = None,
) -> dict[str, Any]:
    """Return an inbound message in Turn's form: a text, or the choice that it made from a menu.

    Turn refuses an empty text: the address that was dialled stands in for it.

    :param contact_name: see the option
    :param media_url_key: see the option
    """
    text = message.content or ""
    if media_url_key is not None:
        given = (message.helper_metadata.get(media_url_key), message.transport_metadata.get(media_url_key))
        text = "\n".join(part for part in (text, media.link_of(given[0]) or media.link_of(given[1])) if part)
    content: dict[str, Any] = {"type": "text", "text": {"body": text or message.to_addr}}
    if choice is not None:
        content = {
            "type": "interactive",
            "interactive": {"type": choice.kind, choice.kind: {"id": choice.id, "title": choice.title}},
        }
    return {
        "contact": {"id": message.from_addr, **_profile(message, contact_name)},
        "message": {
            **content,
            "from": message.from_addr,
            "id": message.message_id,
            "timestamp": _unix_seconds(message.timestamp),
        },
    }


def _profile(message: Message, contact_name: str) -> dict[str, Any]:
    if contact_name == "none":
        return {}
    if contact_name == "address":
        return {"profile": {"name": message.from_addr}}
    name = message.helper_metadata.get(contact_name)
    # Without one Turn keeps the name that it has.
    return {"profile": {"name": name[:MAX_NAME]}} if isinstance(name, str) and name.strip() else {}


def flat_status(event: Event) -> dict[str, Any]:
    """Return an event in the documented form, which has no failure."""
    return {
        "user_message_id": event.user_message_id,
        "timestamp": event.timestamp.isoformat(" ", "seconds"),
        "status": "delivered" if _is_report(event, DELIVERED) else "sent",
    }


def nested_status(event: Event, recipient: str | None) -> dict[str, Any]:
    """Return an event in the form that Turn's API takes today; ``recipient`` is the outbound message's to_addr."""
    if event.event_type == NACK or _is_report(event, FAILED):
        status = "failed"
    else:
        status = "delivered" if _is_report(event, DELIVERED) else "sent"
    return {
        "status": {
            "id": event.user_message_id,
            "timestamp": _unix_seconds(event.timestamp),
            "status": status,
            "recipient_id": recipient,
        }
    }


def errors_to_json(answer: Answer) -> dict[str, Any]:
    """Return the JSON of an error answer."""
    return {"errors": [{"type": answer.type, "message": answer.message}]}


def error_titles(body: bytes) -> str:
    """Return the titles and codes in the body of a refusal by Turn, whatever is in it; empty where it has none.

    The form is ``{"errors": [{"code": 470, "title": "..."}]}``.
    """
    try:
        answer = strictjson.loads(body)
    except ValueError:
        return ""
    errors = answer.get("errors") if isinstance(answer, dict) else None
    texts = [_error_title(error) for error in errors[:MAX_ERRORS]] if isinstance(errors, list) else []
    return "; ".join(text for text in texts if text)


def _error_title(error: Any) -> str:
    if not isinstance(error, dict):
        return ""
    title, code = error.get("title"), error.get("code")
    title = title.strip()[:MAX_TITLE] if isinstance(title, str) else ""
    if isinstance(code, int | str) and not isinstance(code, bool):
        return f"{title} ({code!s:.20})" if title else f"code {code!s:.20}"
    return title


def _is_report(event: Event, status: str) -> bool:
    return event.event_type == DELIVERY_REPORT and event.delivery_status == status


def _unix_seconds(timestamp: datetime) -> str:
    return str(timegm(timestamp.utctimetuple()))

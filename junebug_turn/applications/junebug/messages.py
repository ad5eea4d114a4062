"""Translation of Junebug's JSON to and from vumi's messages, without I/O.

The formats are those of the Junebug HTTP API, as vumi2's Junebug Message API speaks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from attrs import field, frozen

from junebug_turn.applications.message_request import MAX_ADDRESS, MessageRequest, check_size
from junebug_turn.errors import ApiUsageError, InvalidBody
from junebug_turn.messages import vumi
from junebug_turn.messages.vumi import Event, Message, format_timestamp

# The content has no length of its own: a body's size bounds it, and character_limit.
_TEXT_FIELDS = {
    "to": MAX_ADDRESS,
    "from": MAX_ADDRESS,
    "group": MAX_ADDRESS,
    "reply_to": MAX_ADDRESS,
    "content": None,
    "event_url": 8192,
    "event_auth_token": 4096,
}
_FIELDS = frozenset({*_TEXT_FIELDS, "priority", "channel_data"})

EVENT_TYPES = {
    vumi.ACK: "submitted",
    vumi.NACK: "rejected",
    vumi.PENDING: "delivery_pending",
    vumi.FAILED: "delivery_failed",
    vumi.DELIVERED: "delivery_succeeded",
}
"""An event's type, or a delivery report's status, to Junebug's word for it."""

# JSON's words for the types that Python's decoder makes.
_JSON_TYPES = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "null",
}


@frozen(kw_only=True)
class OutboundRequest(MessageRequest):
    """The body of ``POST .../messages``, validated.  ``session_event`` and ``continue_session`` are those of its
    channel_data, which holds the rest; ``body`` is the JSON as it came."""

    event_url: str | None = field(default=None, repr=False)
    event_auth_token: str | None = field(default=None, repr=False)
    body: Mapping[str, Any] = field(factory=dict, repr=False, eq=False)

    @classmethod
    def from_json(cls, body: Any) -> OutboundRequest:
        """Validate a request's JSON; nothing is coerced.

        :raises InvalidBody: a field is missing, unknown or of a wrong type
        :raises ApiUsageError: neither ``to`` nor ``reply_to`` is given
        """
        if not isinstance(body, dict):
            raise _invalid(f"the body must be an object, not {_JSON_TYPES[type(body)]}", "type")
        _refuse_unknown(body)
        if "content" not in body:
            raise _invalid("u'content' is a required property", "required")
        texts = {name: _typed(body.get(name), name, str) for name in _TEXT_FIELDS}
        for name, most in _TEXT_FIELDS.items():
            if most is not None:
                check_size(f"u'{name}'", texts[name], most)
        _check_priority(body.get("priority"))
        channel_data = dict(_typed(body.get("channel_data"), "channel_data", dict) or {})
        request = cls(
            content=texts["content"],
            to=texts["to"] or None,
            from_addr=texts["from"] or None,
            reply_to=texts["reply_to"] or None,
            group=texts["group"],
            event_url=_checked_url(texts["event_url"]),
            event_auth_token=_header_text(texts["event_auth_token"], "event_auth_token"),
            session_event=_session_event(channel_data.pop("session_event", None)),
            continue_session=_typed(
                channel_data.pop("continue_session", None), "channel_data.continue_session", bool
            ),
            channel_data=channel_data,
            body=body,
        )
        if request.to is None and request.reply_to is None:
            raise ApiUsageError('Either "to" or "reply_to" must be specified')
        return request


def message_to_json(message: Message, channel_id: str | None) -> dict[str, Any]:
    """Return a message in Junebug's form: POSTed to ``mo_message_url``, and in the answer to an outbound request."""
    channel_data = message.helper_metadata
    if message.session_event is not None:
        channel_data = {**channel_data, "session_event": message.session_event}
    return {
        "to": message.to_addr,
        "from": message.from_addr,
        "group": message.group,
        "message_id": message.message_id,
        "channel_id": channel_id,
        "timestamp": format_timestamp(message.timestamp),
        "reply_to": message.in_reply_to,
        "content": message.content,
        "channel_data": channel_data,
    }


def event_to_json(event: Event, channel_id: str) -> dict[str, Any]:
    """Return an event in the form that Junebug POSTs to the event URL."""
    is_report = event.event_type == vumi.DELIVERY_REPORT
    return {
        "event_type": EVENT_TYPES[event.delivery_status or "" if is_report else event.event_type],
        "message_id": event.user_message_id,
        "channel_id": channel_id,
        "timestamp": format_timestamp(event.timestamp),
        "event_details": {"reason": event.nack_reason} if event.event_type == vumi.NACK else {},
    }


def status_to_json(message_id: str, events: Iterable[Event], channel_id: str) -> dict[str, Any]:
    """Return the status of an outbound message by its events: the ``result`` of Junebug's answer."""
    listed = sorted(
        (event_to_json(event, channel_id) for event in events), key=lambda event: event["timestamp"]
    )
    last = listed[-1] if listed else {"event_type": None, "timestamp": None}
    return {
        "id": message_id,
        "last_event_type": last["event_type"],
        "last_event_timestamp": last["timestamp"],
        "events": listed,
    }


def _invalid(message: str, *path: str) -> InvalidBody:
    """Return the error for a body; ``path`` leads to the part of Junebug's JSON Schema that refuses it."""
    return InvalidBody(message, ((message, path),))


def _refuse_unknown(body: dict[str, Any]) -> None:
    unknown = sorted(body.keys() - _FIELDS)
    if unknown:
        names = ", ".join(f"u'{name[:100]}'" for name in unknown[:10])
        verb = "was" if len(unknown) == 1 else "were"
        raise _invalid(
            f"Additional properties are not allowed ({names} {verb} unexpected)", "additionalProperties"
        )


def _typed(value: Any, name: str, kind: type) -> Any:
    if value is not None and not isinstance(value, kind):
        raise _invalid(
            f"u'{name}' must be {_JSON_TYPES[kind]} or null, not {_JSON_TYPES[type(value)]}",
            "properties",
            *name.replace(".", ".properties.").split("."),
            "type",
        )
    return value


def _check_priority(value: Any) -> None:
    if value is None or isinstance(value, str):
        check_size("u'priority'", value)
        return
    # JSON has one kind of number: 1.0 is the integer 1.
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole and not (isinstance(value, float) and value.is_integer()):
        raise _invalid(
            f"u'priority' must be an integer, a string or null, not {_JSON_TYPES[type(value)]}",
            "properties",
            "priority",
            "type",
        )


def _session_event(value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or value not in vumi.SESSION_EVENTS):
        raise _invalid(
            "u'channel_data.session_event' must be null, 'new', 'resume' or 'close'",
            "properties",
            "channel_data",
        )
    return value


def _header_text(text: str | None, name: str) -> str | None:
    """Check a text that becomes a part of a header, where a line's end would begin another header."""
    if text and not text.isprintable():
        raise _invalid(f"u'{name}' must not have line ends or control characters", "properties", name)
    return text


def _checked_url(url: str | None) -> str | None:
    if not url:
        return None
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        usable = usable and url.isprintable()
    except ValueError:
        usable = False
    if not usable:
        raise _invalid("u'event_url' must be an absolute http or https URL", "properties", "event_url")
    return url

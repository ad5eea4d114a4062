"""Junebug's JSON to and from vumi's messages: pure translation, no I/O.

The formats are those of the Junebug HTTP API, as vumi2's Junebug Message API speaks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from attrs import Factory, field, frozen

from junebug_turn.errors import ApiUsageError, InvalidBody
from junebug_turn.messages.vumi import (
    ACK,
    CLOSE,
    DELIVERED,
    FAILED,
    NACK,
    PENDING,
    SESSION_EVENTS,
    Event,
    Message,
    format_timestamp,
)

_TEXT_FIELDS = ("to", "from", "group", "reply_to", "content", "event_url", "event_auth_token")
_FIELDS = frozenset({*_TEXT_FIELDS, "priority", "channel_data"})

_DELIVERY_EVENTS = {
    PENDING: "delivery_pending",
    FAILED: "delivery_failed",
    DELIVERED: "delivery_succeeded",
}

# How JSON's own words call what Python's decoder makes of them.
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
class OutboundRequest:
    """The body of ``POST .../messages``, validated.  ``session_event`` and ``continue_session`` are those of its
    channel_data, which holds the rest; ``body`` is the JSON as it came."""

    content: str | None
    to: str | None = None
    from_addr: str | None = None
    reply_to: str | None = None
    group: str | None = None
    event_url: str | None = None
    event_auth_token: str | None = None
    session_event: str | None = None
    continue_session: bool | None = None
    channel_data: dict[str, Any] = Factory(dict)
    body: Mapping[str, Any] = field(factory=dict, repr=False, eq=False)

    @classmethod
    def from_json(cls, body: Any) -> OutboundRequest:
        """Validate a request's JSON; nothing is coerced.

        :raises InvalidBody: a field is missing, unknown or of a wrong type
        :raises ApiUsageError: neither ``to`` nor ``reply_to`` is given
        """
        if not isinstance(body, dict):
            raise InvalidBody(f"the body must be an object, not {_JSON_TYPES[type(body)]}")
        _refuse_unknown(body)
        if "content" not in body:
            raise InvalidBody("u'content' is a required property")
        texts = {name: _optional(body, name, str, "a string") for name in _TEXT_FIELDS}
        _check_priority(body.get("priority"))
        channel_data = dict(_optional(body, "channel_data", dict, "an object") or {})
        request = cls(
            content=texts["content"],
            to=texts["to"] or None,
            from_addr=texts["from"] or None,
            reply_to=texts["reply_to"] or None,
            group=texts["group"],
            event_url=_checked_url(texts["event_url"]),
            event_auth_token=_header_text(texts["event_auth_token"], "event_auth_token"),
            session_event=_session_event(channel_data.pop("session_event", None)),
            continue_session=_continue_session(channel_data.pop("continue_session", None)),
            channel_data=channel_data,
            body=body,
        )
        if request.to is None and request.reply_to is None:
            raise ApiUsageError('Either "to" or "reply_to" must be specified')
        return request

    def as_reply(self, inbound: Message, *, transport_name: str, transport_type: str) -> Message:
        """The outbound message that answers ``inbound``; the request's own addresses and group are ignored."""
        session_event = self.session_event
        if session_event is None and self.continue_session is False:
            session_event = CLOSE
        return inbound.reply(
            self.content,
            session_event=session_event,
            helper_metadata=self.channel_data,
            transport_name=transport_name,
            transport_type=transport_type,
        )

    def as_new(self, *, default_from_addr: str | None, transport_name: str, transport_type: str) -> Message:
        """The outbound message that answers nothing.

        :raises ApiUsageError: there is no address to send it from
        """
        from_addr = self.from_addr or default_from_addr
        if from_addr is None:
            raise ApiUsageError(
                '"from" must be specified for a message that is no reply, unless default_from_addr is configured'
            )
        return Message(
            to_addr=self.to,
            from_addr=from_addr,
            group=self.group,
            content=self.content,
            transport_name=transport_name,
            transport_type=transport_type,
            session_event=self.session_event,
            helper_metadata=self.channel_data,
        )


def message_to_json(message: Message, channel_id: str | None) -> dict[str, Any]:
    """A message as Junebug shows it: POSTed to ``mo_message_url``, and in the answer to an outbound request."""
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
    """An event as Junebug POSTs it to the event URL."""
    details: dict[str, Any] = {}
    if event.event_type == ACK:
        event_type = "submitted"
    elif event.event_type == NACK:
        event_type = "rejected"
        details = {"reason": event.nack_reason}
    else:
        event_type = _DELIVERY_EVENTS[event.delivery_status or ""]
    return {
        "event_type": event_type,
        "message_id": event.user_message_id,
        "channel_id": channel_id,
        "timestamp": format_timestamp(event.timestamp),
        "event_details": details,
    }


def status_to_json(message_id: str, events: Iterable[Event], channel_id: str) -> dict[str, Any]:
    """What became of a message: the ``result`` of the answer that Junebug has for a message's status."""
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


def _refuse_unknown(body: dict[str, Any]) -> None:
    unknown = sorted(body.keys() - _FIELDS)
    if unknown:
        names = ", ".join(f"u'{name[:100]}'" for name in unknown[:10])
        verb = "was" if len(unknown) == 1 else "were"
        raise InvalidBody(f"Additional properties are not allowed ({names} {verb} unexpected)")


def _optional(body: dict[str, Any], name: str, kind: type, words: str) -> Any:
    value = body.get(name)
    if value is not None and not isinstance(value, kind):
        raise InvalidBody(f"u'{name}' must be {words} or null, not {_JSON_TYPES[type(value)]}")
    return value


def _check_priority(value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | str)):
        raise InvalidBody(f"u'priority' must be an integer, a string or null, not {_JSON_TYPES[type(value)]}")


def _session_event(value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or value not in SESSION_EVENTS):
        raise InvalidBody("u'channel_data.session_event' must be null, 'new', 'resume' or 'close'")
    return value


def _continue_session(value: Any) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise InvalidBody(
            f"u'channel_data.continue_session' must be a boolean or null, not {_JSON_TYPES[type(value)]}"
        )
    return value


def _header_text(text: str | None, name: str) -> str | None:
    """A text that becomes a part of a header, where a line's end would begin another one."""
    if text and not text.isprintable():
        raise InvalidBody(f"u'{name}' must not have line ends or control characters")
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
        raise InvalidBody("u'event_url' must be an absolute http or https URL")
    return url

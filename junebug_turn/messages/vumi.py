"""Messages, events and statuses of vumi, which transports and applications put into each other's queues.

The wire format is that of vumi and vumi2 (``TransportUserMessage``, ``TransportEvent`` and
``TransportStatus``, message version 20110921): a JSON object with a fixed set of keys.  We write exactly those keys
and read leniently.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Self

import attrs
from attrs import Factory, field, frozen

from junebug_turn.errors import MessageTooLong, UnreadableMessage
from junebug_turn.messages import strictjson

MESSAGE_VERSION = "20110921"

TRANSPORT_TYPES = frozenset({"http_api", "irc", "telnet", "twitter", "sms", "ussd", "xmpp", "mxit", "wechat"})
SESSION_EVENTS = NEW, RESUME, CLOSE = "new", "resume", "close"
EVENT_TYPES = ACK, NACK, DELIVERY_REPORT = "ack", "nack", "delivery_report"
DELIVERY_STATUSES = PENDING, FAILED, DELIVERED = "pending", "failed", "delivered"


STATUSES = OK, DEGRADED, DOWN = ("ok", "degraded", "down")
"""The statuses of a transport's component, from good to bad."""


def utcnow() -> datetime:
    """Return the time, in UTC, without a zone: the form that all timestamps here have."""
    return datetime.now(UTC).replace(tzinfo=None)


def new_id() -> str:
    """Make a message id: the 32 hexadecimal digits of a version 4 UUID."""
    return uuid.uuid4().hex


def format_timestamp(timestamp: datetime) -> str:
    """Write a timestamp as vumi does, ``%Y-%m-%d %H:%M:%S.%f``; strftime would take several times as long."""
    return timestamp.isoformat(" ", "microseconds")


def parse_timestamp(value: object) -> datetime:
    """Read a timestamp, with or without fraction and zone; the time now where ``value`` is none."""
    if isinstance(value, str):
        try:
            timestamp = datetime.fromisoformat(value.strip())
            if timestamp.tzinfo is None:
                return timestamp
            return timestamp.astimezone(UTC).replace(tzinfo=None)
        except (ValueError, OverflowError):
            pass
    return utcnow()


def check_length(content: str | None, limit: int | None) -> None:
    """Check an outbound message's content against ``character_limit``; None is no limit.

    :raises MessageTooLong: it has more characters (Unicode's code points, as Junebug counted them)
    """
    if limit is not None and content is not None and len(content) > limit:
        raise MessageTooLong(
            f"Message content is of length {len(content)}, which is greater than the character limit of {limit}"
        )


def _text(value: Any) -> str | None:
    """Return a text field as it comes; a peer's number, list or object becomes its JSON text: nothing is lost."""
    if value is None or isinstance(value, str):
        return value
    return strictjson.dumps(value).decode("ascii")


def _read(body: bytes, kind: str, id_key: str, loads: Callable[[bytes], Any]) -> dict[str, Any]:
    """Read the object of a body, in which ``id_key`` has an id."""
    try:
        value = loads(body)
    except ValueError as error:
        raise UnreadableMessage(f"{kind} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UnreadableMessage(f"{kind} is a JSON {type(value).__name__}, not an object")
    if not isinstance(value.get(id_key), str) or not value[id_key]:
        raise UnreadableMessage(f"{kind} has no {id_key}")
    return value


def _read_common(fields: dict[str, Any]) -> dict[str, Any]:
    """Read the fields that messages and events have in common."""
    read: dict[str, Any] = {"timestamp": parse_timestamp(fields.get("timestamp"))}
    for name in ("routing_metadata", "helper_metadata", "transport_metadata"):
        value = fields.get(name)
        read[name] = value if isinstance(value, dict) else {}
    return read


def _write(item: Message | Event | TransportStatus, names: tuple[str, ...], message_type: str) -> bytes:
    fields: dict[str, Any] = {name: getattr(item, name) for name in names}
    fields["timestamp"] = format_timestamp(item.timestamp)
    fields["message_version"] = MESSAGE_VERSION
    fields["message_type"] = message_type
    return strictjson.dumps(fields)


@frozen(kw_only=True)
class Message:
    """A user message, inbound or outbound: 18 keys on the wire, two of which never change.

    ``timestamp`` is in UTC, without a zone.  ``transport_type`` and ``session_event`` of an inbound message
    may be null or words unknown to us: whoever builds an outbound message gives words of the sets above.
    Its ``repr`` has no text and no address: a traceback may show it.
    """

    to_addr: str | None = field(repr=False)
    from_addr: str | None = field(repr=False)
    transport_name: str | None
    transport_type: str | None
    content: str | None = field(default=None, repr=False)
    session_event: str | None = None
    in_reply_to: str | None = None
    group: str | None = field(default=None, repr=False)
    provider: str | None = None
    to_addr_type: str | None = None
    from_addr_type: str | None = None
    message_id: str = Factory(new_id)
    timestamp: datetime = Factory(utcnow)
    routing_metadata: dict[str, Any] = field(factory=dict, repr=False)
    helper_metadata: dict[str, Any] = field(factory=dict, repr=False)
    transport_metadata: dict[str, Any] = field(factory=dict, repr=False)

    def to_json(self) -> bytes:
        """Write the body of the AMQP message: exactly the keys of the format."""
        return _write(self, _MESSAGE_FIELDS, "user_message")

    def without_content(self) -> Self:
        """Return the message without its text and the metadata that no reply to it has."""
        return attrs.evolve(self, content=None, helper_metadata={}, routing_metadata={})

    @classmethod
    def from_json(cls, body: bytes, loads: Callable[[bytes], Any] = strictjson.loads) -> Self:
        """Read an AMQP message's body, leniently.

        :param loads: reads the JSON; ``strictjson.loads_stored`` for a body that a store has kept
        :raises UnreadableMessage: not JSON, not an object, or without message id
        """
        fields = _read(body, "user message", "message_id", loads)
        texts: dict[str, Any] = {name: _text(fields.get(name)) for name in _MESSAGE_TEXTS}
        return cls(message_id=fields["message_id"], **texts, **_read_common(fields))


@frozen(kw_only=True)
class Event:
    """The fate of an outbound message, named by ``user_message_id``: an ack, a nack or a delivery report."""

    user_message_id: str
    event_type: str
    sent_message_id: str | None = None
    nack_reason: str | None = field(default=None, repr=False)
    delivery_status: str | None = None
    event_id: str = Factory(new_id)
    timestamp: datetime = Factory(utcnow)
    routing_metadata: dict[str, Any] = field(factory=dict, repr=False)
    helper_metadata: dict[str, Any] = field(factory=dict, repr=False)
    transport_metadata: dict[str, Any] = field(factory=dict, repr=False)

    def to_json(self) -> bytes:
        """Write the body of the AMQP message."""
        return _write(self, _EVENT_FIELDS, "event")

    @classmethod
    def from_json(cls, body: bytes, loads: Callable[[bytes], Any] = strictjson.loads) -> Self:
        """Read an AMQP message's body, leniently.

        :param loads: reads the JSON; ``strictjson.loads_stored`` for a body that a store has kept
        :raises UnreadableMessage: not JSON, not an object, without ``user_message_id``, or saying
            nothing that is known of the message's fate
        """
        fields = _read(body, "event", "user_message_id", loads)
        get = fields.get
        event_type, delivery_status = _text(get("event_type")), _text(get("delivery_status"))
        if event_type not in EVENT_TYPES:
            raise UnreadableMessage("event has no known event_type")
        if event_type == DELIVERY_REPORT and delivery_status not in DELIVERY_STATUSES:
            raise UnreadableMessage("delivery report has no known delivery_status")
        return cls(
            user_message_id=fields["user_message_id"],
            event_type=event_type,
            event_id=_text(get("event_id")) or new_id(),
            sent_message_id=_text(get("sent_message_id")),
            nack_reason=_text(get("nack_reason")),
            delivery_status=delivery_status,
            **_read_common(fields),
        )


@frozen(kw_only=True)
class TransportStatus:
    """The status of a component of a transport, such as its connection, as the transport itself tells it."""

    component: str
    status: str
    type: str | None = None
    message: str | None = None
    reasons: list[Any] = Factory(list)
    details: dict[str, Any] = Factory(dict)
    timestamp: datetime = Factory(utcnow)
    routing_metadata: dict[str, Any] = Factory(dict)
    helper_metadata: dict[str, Any] = Factory(dict)

    def to_json(self) -> bytes:
        """Write the body of the AMQP message, which is also what Junebug has stored."""
        return _write(self, _STATUS_FIELDS, "status_event")

    @classmethod
    def from_json(cls, body: bytes, loads: Callable[[bytes], Any] = strictjson.loads) -> Self:
        """Read an AMQP message's body, leniently.

        :param loads: reads the JSON; ``strictjson.loads_stored`` for a body that a store has kept
        :raises UnreadableMessage: not JSON, not an object, without component, or with a status that isn't known
        """
        fields = _read(body, "status", "component", loads)
        get = fields.get
        if get("status") not in STATUSES:
            raise UnreadableMessage("status is none of ok, degraded and down")
        common = _read_common(fields)
        del common["transport_metadata"]
        reasons, details = get("reasons"), get("details")
        return cls(
            component=fields["component"],
            status=fields["status"],
            type=_text(get("type")),
            message=_text(get("message")),
            reasons=reasons if isinstance(reasons, list) else [],
            details=details if isinstance(details, dict) else {},
            **common,
        )


_MESSAGE_FIELDS = tuple(field.name for field in attrs.fields(Message))
_EVENT_FIELDS = tuple(field.name for field in attrs.fields(Event))
_STATUS_FIELDS = tuple(field.name for field in attrs.fields(TransportStatus))
_OWN_READING = {"message_id", "timestamp", "routing_metadata", "helper_metadata", "transport_metadata"}
_MESSAGE_TEXTS = tuple(name for name in _MESSAGE_FIELDS if name not in _OWN_READING)

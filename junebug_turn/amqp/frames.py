"""AMQP frames: splitting a stream into them, and packing and reading their payloads.

Each message costs a few frames, so publishing, deliveries and acknowledgements don't go through txamqp's general
methods, which build objects, streams and Deferreds for every field.  Layouts: AMQP 0-9-1 specification, sections
2.3.5 (frames), 4.2.6 (content); class basic (60).  All numbers are big-endian.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from io import BytesIO
from struct import Struct
from typing import Any

from txamqp import spec
from txamqp.codec import EOF

from junebug_turn.amqp.codec import AmqpCodec, decode_shortstr, encode_shortstr, encode_table

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
END = 206
OVERHEAD = 8  # type (1), channel (2), size of the payload (4), end (1)

BASIC = 60  # the class
# class and method ids, as one number
BASIC_PUBLISH = BASIC << 16 | 40
BASIC_RETURN = BASIC << 16 | 50
BASIC_DELIVER = BASIC << 16 | 60
BASIC_ACK = BASIC << 16 | 80
BASIC_NACK = BASIC << 16 | 120

HEARTBEAT_FRAME = bytes((HEARTBEAT, 0, 0, 0, 0, 0, 0, END))
FRAME_END = bytes((END,))

_start = Struct(">BHI").pack  # type, channel, size
_frame_start = Struct(">BHI").unpack_from
_publish_start = Struct(">BHIIH").pack  # and method, reserved
_header_start = Struct(">BHIHHQ").pack  # and class, weight, size of the body
_acknowledgement = Struct(">BHIIQBB").pack  # and method, delivery tag, flags, end
_tag_and_flags = Struct(">QB").unpack_from
_size = Struct(">Q").unpack_from

_MANDATORY = b"\x01"
_CONTENT_TYPE, _CONTENT_ENCODING, _HEADERS, _DELIVERY_MODE, _EXPIRATION, _USER_ID = (
    1 << bit for bit in (15, 14, 13, 12, 8, 4)
)
# Of each property, from the highest flag: a short string, a table, an octet, a timestamp.
_LAYOUT = "sstoossssTssss"
_NOT_COPIED = (_HEADERS, _EXPIRATION, _USER_ID)
_JSON = encode_shortstr("application/json")
_PERSISTENT = b"\x02"
_flags = Struct(">H").pack
PLAIN_PROPERTIES = _flags(_CONTENT_TYPE | _DELIVERY_MODE) + _JSON + _PERSISTENT


@cache
def specification() -> Any:
    """Load AMQP 0-9-1 with RabbitMQ's extensions as a ``txamqp.spec.Spec``, which txamqp does not bring along."""
    text = resources.files(__package__).joinpath("amqp0-9-1.xml").read_bytes()
    return spec.load_string(text, "amqp0-9-1.xml")


class FrameReader:
    """The frames in a stream of bytes, however its chunks are cut.

    :ivar frame_max: the largest frame that is allowed, in bytes
    :ivar unread: the beginning of a frame whose rest has not come yet
    """

    def __init__(self, frame_max: int) -> None:
        self.frame_max = frame_max
        self.unread = bytearray()

    def read(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Yield the type, the channel and the payload of each frame that ``data`` completes.

        :raises ValueError: the bytes are no frame, or one larger than ``frame_max``; the stream is of no use then
        """
        unread = self.unread
        # Most chunks hold whole frames: those are read in place, and only a rest is copied.
        source: bytes | bytearray = data
        if unread:
            unread += data
            source = unread
        at, end = 0, len(source)
        while end - at >= OVERHEAD:
            kind, channel, size = _frame_start(source, at)
            if size > self.frame_max - OVERHEAD:
                raise ValueError(f"a frame of {size} bytes is larger than agreed")
            stop = at + 7 + size
            if stop >= end:
                break
            if source[stop] != END:
                raise ValueError("a frame does not end where it should")
            payload = bytes(source[at + 7 : stop])
            at = stop + 1
            yield kind, channel, payload
        if source is unread:
            del unread[:at]
        else:
            unread += data[at:]


def publish_properties(
    headers: Mapping[str, Any] | None, expiration: int | None, original: bytes = b""
) -> bytes:
    """Pack the properties of a message of ours: JSON, persistent, with headers and expiration (ms) when given.

    :param original: the content header's payload of the message that this is a copy of: its other properties are kept,
        but for user-id, which the broker takes from the user of that name only
    :raises ValueError: a header has no form in AMQP
    """
    if not headers and expiration is None and not original:
        return PLAIN_PROPERTIES
    parts = {_CONTENT_TYPE: _JSON}
    parts |= {flag: value for flag, value in _split_properties(original).items() if flag not in _NOT_COPIED}
    parts[_DELIVERY_MODE] = _PERSISTENT
    if headers:
        parts[_HEADERS] = encode_table(headers)
    if expiration is not None:
        parts[_EXPIRATION] = encode_shortstr(str(expiration))
    return _flags(sum(parts)) + b"".join(parts[flag] for flag in sorted(parts, reverse=True))


def publish_arguments(exchange: str | bytes, routing_key: str | bytes) -> bytes:
    """Pack the arguments of basic.publish after the reserved one, with the mandatory flag.

    :raises ValueError: a name over 255 bytes
    """
    return encode_shortstr(exchange) + encode_shortstr(routing_key) + _MANDATORY


def publish(channel: int, arguments: bytes, properties: bytes, body: bytes, frame_max: int) -> bytes:
    """Pack basic.publish with its content, in as many frames as ``frame_max`` asks for.

    :raises ValueError: the properties are larger than a frame, which can't be split
    """
    if len(properties) + 12 + OVERHEAD > frame_max:
        raise ValueError("the message's headers are larger than a frame")
    start = _publish_start(METHOD, channel, len(arguments) + 6, BASIC_PUBLISH, 0)
    return b"".join((start, arguments, FRAME_END, *_content(channel, properties, body, frame_max)))


def _content(channel: int, properties: bytes, body: bytes, frame_max: int) -> list[bytes | memoryview]:
    size, largest = len(body), frame_max - OVERHEAD
    header = _header_start(HEADER, channel, len(properties) + 12, BASIC, 0, size)
    parts: list[bytes | memoryview] = [header, properties, FRAME_END]
    if 0 < size <= largest:
        parts += (_start(BODY, channel, size), body, FRAME_END)
    elif size:
        view = memoryview(body)
        for at in range(0, size, largest):
            chunk = view[at : at + largest]
            parts += (_start(BODY, channel, len(chunk)), chunk, FRAME_END)
    return parts


def acknowledgement(channel: int, method: int, delivery_tag: int, flags: int) -> bytes:
    """Pack basic.ack (flags 1: multiple) or basic.nack (2: requeue)."""
    return _acknowledgement(METHOD, channel, 13, method, delivery_tag, flags, END)


def encode_method(channel: int, method: Any, arguments: tuple[Any, ...]) -> bytes:
    """Pack any method's frame, by its definition in the specification."""
    stream = BytesIO()
    codec = AmqpCodec(stream)
    codec.encode_short(method.klass.id)
    codec.encode_short(method.id)
    for field, value in zip(method.fields, arguments, strict=True):
        codec.encode(field.type, value)
    codec.flush()
    payload = stream.getvalue()
    return _start(METHOD, channel, len(payload)) + payload + FRAME_END


def decode_method(payload: bytes) -> tuple[Any, tuple[Any, ...]]:
    """Read any method: its definition in the specification, and its arguments.

    :raises ValueError: unknown or malformed
    """
    try:
        codec = AmqpCodec(BytesIO(payload))
        method = specification().classes.byid[codec.decode_short()].methods.byid[codec.decode_short()]
        return method, tuple([codec.decode(field.type) for field in method.fields])
    except KeyError as unknown:
        raise ValueError(f"unknown class or method {unknown}") from None
    except EOF:
        raise ValueError("a method is cut off") from None


def deliver_tag(payload: bytes) -> tuple[int, bool]:
    """Read the delivery tag of a basic.deliver, and whether the message was delivered before."""
    tag, flags = _tag_and_flags(payload, 5 + payload[4])
    return tag, bool(flags & 1)


def deliver_routing(payload: bytes) -> tuple[str | bytes, str | bytes]:
    """Read the exchange and the routing key of a basic.deliver."""
    return routing_of(payload, 5 + payload[4] + 9)


def confirm_tag(payload: bytes) -> tuple[int, bool]:
    """Read the delivery tag of a basic.ack or basic.nack, and whether it stands for all before it too."""
    tag, flags = _tag_and_flags(payload, 4)
    return tag, bool(flags & 1)


def body_size(header: bytes) -> int:
    """Read from a content header's payload how many bytes of body follow."""
    size: int = _size(header, 4)[0]
    return size


def routing_of(payload: bytes, at: int) -> tuple[str | bytes, str | bytes]:
    """Read the exchange and the routing key at offset ``at`` of a method's payload."""
    exchange, at = decode_shortstr(payload, at)
    return exchange, decode_shortstr(payload, at)[0]


def return_reason(payload: bytes) -> tuple[str, int]:
    """Read the reason of a basic.return ("312 NO_ROUTE"), and the offset of its exchange."""
    reply, at = decode_shortstr(payload, 6)
    return f"{int.from_bytes(payload[4:6])} {reply!s}", at


def _split_properties(header: bytes) -> dict[int, bytes]:
    """Split the basic properties in a content header's payload, by their flags; none where it is cut off."""
    flags, at = int.from_bytes(header[12:14]), 14
    parts = {}
    for bit, kind in zip(range(15, 1, -1), _LAYOUT, strict=True):
        if flags >> bit & 1:
            match kind:
                case "s":
                    size = 1 + int.from_bytes(header[at : at + 1])
                case "t":
                    size = 4 + int.from_bytes(header[at : at + 4])
                case "o":
                    size = 1
                case _:
                    size = 8
            parts[1 << bit] = header[at : at + size]
            at += size
    return {} if at > len(header) else parts


def content_encoding(header: bytes) -> str:
    """Read content-encoding from a content header's payload; empty where there is none."""
    if not int.from_bytes(header[12:14]) & _CONTENT_ENCODING:
        return ""
    return _split_properties(header).get(_CONTENT_ENCODING, b"")[1:].decode("utf-8", "replace")


def decode_properties(header: bytes) -> dict[str, Any]:
    """Read the basic properties in a content header's payload, by their names in the specification.

    :raises ValueError: malformed
    """
    try:
        codec = AmqpCodec(BytesIO(header[12:]))
        flags = codec.decode_short()
        fields = specification().classes.byname["basic"].fields
        return {
            field.name: codec.decode(field.type)
            for bit, field in zip(range(15, 1, -1), fields, strict=True)
            if flags >> bit & 1
        }
    except EOF:
        raise ValueError("a content header is cut off") from None

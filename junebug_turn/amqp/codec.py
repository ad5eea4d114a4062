"""AMQP 0-9-1's data types in bytes, as RabbitMQ reads and writes them.

Source of the field types: https://www.rabbitmq.com/amqp-0-9-1-errata (section 3), which differs from the
specification where RabbitMQ and other brokers do.
"""

from __future__ import annotations

from calendar import timegm
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from struct import Struct, error, pack, unpack_from
from typing import Any

from txamqp.codec import EOF, Codec

MAX_DEPTH = 64


def encode_shortstr(value: str | bytes) -> bytes:
    """Encode a short string; its length is that of its UTF-8 bytes.

    :raises ValueError: longer than 255 bytes
    """
    data = value.encode() if isinstance(value, str) else value
    if len(data) > 255:
        raise ValueError(f"a short string has at most 255 bytes, this one has {len(data)}")
    return bytes((len(data),)) + data


def encode_longstr(value: str | bytes) -> bytes:
    """Encode a long string; its length is that of its UTF-8 bytes."""
    data = value.encode() if isinstance(value, str) else value
    return pack(">I", len(data)) + data


def encode_table(table: Mapping[Any, Any]) -> bytes:
    """Encode a field table, with the length before it.

    Values are None, bool, int (64 bits, signed), float, Decimal, datetime (one without a zone is in UTC),
    str, bytes, mappings and sequences of these.

    :raises ValueError: a value that has no form in AMQP, or a name over 255 bytes
    """
    parts = []
    for name, value in table.items():
        parts.append(encode_shortstr(name))
        parts.append(encode_value(value))
    return encode_longstr(b"".join(parts))


def encode_value(value: Any) -> bytes:
    """Encode a field value: the letter of its type and its bytes."""
    try:
        match value:
            case str():
                return b"S" + encode_longstr(value)
            case None:
                return b"V"
            case bool():
                return b"t\x01" if value else b"t\x00"
            case int():
                return pack(">ci", b"I", value) if -(2**31) <= value < 2**31 else pack(">cq", b"l", value)
            case float():
                return pack(">cd", b"d", value)
            case bytes() | bytearray() | memoryview():
                return b"x" + encode_longstr(bytes(value))
            case datetime():
                return pack(">cQ", b"T", timegm(value.utctimetuple()))
            case Decimal():
                return _encode_decimal(value)
            case Mapping():
                return b"F" + encode_table(value)
            case Sequence():
                return b"A" + encode_longstr(b"".join(map(encode_value, value)))
    except error as fault:
        raise ValueError(f"{type(value).__name__} out of AMQP's range: {fault}") from None
    raise ValueError(f"a {type(value).__name__} has no form in an AMQP table")


def _encode_decimal(value: Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise ValueError("a decimal that is no number has no form in AMQP")
    if abs(exponent) > 255:
        raise ValueError("a decimal has at most 255 places in AMQP")
    number = int("".join(map(str, digits)) or "0") * 10 ** max(exponent, 0)
    return pack(">cBi", b"D", max(-exponent, 0), -number if sign else number)


def text(data: bytes) -> str | bytes:
    """Return ``data`` as text where it is UTF-8, else as it is."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def decode_shortstr(data: bytes, at: int) -> tuple[str | bytes, int]:
    """Return the short string at offset ``at``, and the offset after it."""
    end = at + 1 + data[at]
    if end > len(data):
        raise ValueError("a short string is cut off")
    return text(data[at + 1 : end]), end


def _decode_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    start = at + 4
    end = start + unpack_from(">I", data, at)[0]
    if end > len(data):
        raise ValueError("a string, table or array is cut off")
    return data[start:end], end


def decode_table(data: bytes, at: int = 0, depth: int = 0) -> tuple[dict[Any, Any], int]:
    """Return the field table at offset ``at``, and the offset after it.

    Names and strings that are not UTF-8 come as bytes, timestamps as datetimes in UTC (as int where a
    datetime can't hold them).

    :raises ValueError: malformed, or nested deeper than ``MAX_DEPTH``
    """
    try:
        content, end = _decode_bytes(data, at)
        table, position = {}, 0
        while position < len(content):
            name, position = decode_shortstr(content, position)
            table[name], position = _decode_value(content, position, depth)
    except (error, IndexError):
        raise ValueError("a field table is cut off") from None
    return table, end


def _decode_value(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    kind = data[at]
    number = _NUMBERS.get(kind)
    if number is not None:
        convert, form = number
        return convert(form.unpack_from(data, at + 1)[0]), at + 1 + form.size
    match chr(kind):
        case "S":
            value, end = _decode_bytes(data, at + 1)
            return text(value), end
        case "x":
            return _decode_bytes(data, at + 1)
        case "V":
            return None, at + 1
        case "D":
            places, digits = unpack_from(">Bi", data, at + 1)
            return Decimal(digits).scaleb(-places), at + 6
    if depth >= MAX_DEPTH:
        raise ValueError(f"a table is nested deeper than {MAX_DEPTH} levels")
    match chr(kind):
        case "F":
            return decode_table(data, at + 1, depth + 1)
        case "A":
            content, end = _decode_bytes(data, at + 1)
            values, position = [], 0
            while position < len(content):
                value, position = _decode_value(content, position, depth + 1)
                values.append(value)
            return values, end
    raise ValueError(f"unknown field type {chr(kind)!r}")


def _time(seconds: int) -> datetime | int:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return seconds


# "l" and "L" are both signed: https://github.com/rabbitmq/rabbitmq-server/issues/1093
_NUMBERS: dict[int, tuple[Callable[[Any], Any], Struct]] = {
    ord(kind): (convert, Struct(">" + form))
    for convert, kinds, forms in (
        (bool, "t", "B"),
        (int, "bBsUuIilL", "bBhhHiIqq"),
        (float, "fd", "fd"),
        (_time, "T", "Q"),
    )
    for kind, form in zip(kinds, forms, strict=True)
}


class AmqpCodec(Codec):  # type: ignore[misc]
    """txamqp's codec, with strings measured in bytes and tables of every type."""

    def read(self, n: int) -> bytes:
        """Return the next ``n`` bytes; txamqp's would return fewer at the end of the data."""
        data: bytes = self.stream.read(n)
        if len(data) < n:
            raise EOF()
        self.nread += n
        return data

    def encode_shortstr(self, s: str | bytes) -> None:
        self.write(encode_shortstr(s))

    def encode_longstr(self, s: str | bytes | Mapping[str, Any]) -> None:
        self.write(encode_table(s) if isinstance(s, Mapping) else encode_longstr(s))

    def encode_table(self, tbl: Mapping[str, Any]) -> None:
        self.write(encode_table(tbl))

    def decode_table(self) -> dict[Any, Any]:
        size = self.decode_long()
        return decode_table(pack(">I", size) + self.read(size))[0]

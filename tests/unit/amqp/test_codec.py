"""AMQP's data types, against pika's codec, which shares no code with ours."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from struct import pack
from typing import Any

import pika.data
import pika.spec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from junebug_turn.amqp import frames
from junebug_turn.amqp import spec as our_spec
from junebug_turn.amqp.codec import AmqpCodec, decode_table, encode_table

names = st.text(max_size=60)
texts = st.text(max_size=200)
# Seconds only, as AMQP has them.
times = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC)).map(
    lambda value: value.replace(microsecond=0)
)
decimals = st.builds(
    lambda digits, places: Decimal(digits).scaleb(-places),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(0, 20),
)
plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | texts
    | st.binary(max_size=100)
    | times
    | decimals
)


def tables(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    values = st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(names, inner, max_size=5),
        max_leaves=20,
    )
    return st.dictionaries(names, values, max_size=8)


@given(tables(plain))
def test_pika_reads_our_tables(table: dict[str, Any]) -> None:
    """A table of any type that we write, nested or not, is read by pika as it was."""
    encoded = encode_table(table)
    assert pika.data.decode_table(encoded, 0) == (table, len(encoded))


@given(tables(plain))
def test_we_read_pikas_tables(table: dict[str, Any]) -> None:
    """A table of any type that pika writes is read by us as it was."""
    pieces: list[bytes] = []
    pika.data.encode_table(pieces, table)
    encoded = b"".join(pieces)
    assert decode_table(encoded) == pika.data.decode_table(encoded, 0)


@given(tables(plain | st.floats(allow_nan=False)))
def test_tables_come_back(table: dict[str, Any]) -> None:
    """What we write, floats too, we read as it was."""
    encoded = encode_table(table)
    assert decode_table(encoded) == (table, len(encoded))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"t\x01", True),
        (b"t\x00", False),
        (b"b\xff", -1),
        (b"B\xff", 255),
        (b"s\xff\xfe", -2),
        (b"U\xff\xfe", -2),
        (b"u\xff\xfe", 65534),
        (b"I" + pack(">i", -5), -5),
        (b"i" + pack(">I", 2**32 - 1), 2**32 - 1),
        (b"l" + pack(">q", -(2**63)), -(2**63)),
        (b"L" + pack(">q", -7), -7),
        (b"f" + pack(">f", 0.5), 0.5),
        (b"d" + pack(">d", 0.1), 0.1),
        (b"D\x02" + pack(">i", -314), Decimal("-3.14")),
        (b"S" + pack(">I", 3) + "ü!".encode(), "ü!"),
        (b"S" + pack(">I", 2) + b"\xff\xfe", b"\xff\xfe"),
        (b"x" + pack(">I", 2) + b"ab", b"ab"),
        (b"A" + pack(">I", 3) + b"Vt\x01", [None, True]),
        (b"T" + pack(">Q", 86400), datetime(1970, 1, 2, tzinfo=UTC)),
        (b"T" + pack(">Q", 2**63), 2**63),
        (b"F" + pack(">I", 4) + b"\x01kB\x07", {"k": 7}),
        (b"V", None),
    ],
)
def test_every_field_type_is_read(field: bytes, value: object) -> None:
    """Each type that RabbitMQ sends has its value; a string that is not UTF-8 comes as bytes."""
    table, end = decode_table(pack(">I", len(field) + 2) + b"\x01n" + field)
    assert (table, end) == ({"n": value}, len(field) + 6)


@pytest.mark.parametrize("value", [2**63, object(), Decimal("NaN"), Decimal(2**40), {"n" * 256: 1}])
def test_what_has_no_form_is_refused(value: object) -> None:
    """A value that AMQP can't carry is a ValueError, before a byte is written."""
    with pytest.raises(ValueError):  # noqa: PT011
        encode_table({"n": value})


@given(st.binary(max_size=60))
def test_malformed_tables_are_value_errors(data: bytes) -> None:
    """No bytes whatever raise anything else."""
    try:
        decode_table(pack(">I", len(data)) + data)
    except ValueError:
        pass


def test_deep_tables_are_refused() -> None:
    """A table nested deeper than any sane one is a ValueError, not the end of the stack."""
    value: Any = {}
    for _ in range(300):
        value = {"n": value}
    with pytest.raises(ValueError, match="deeper"):
        decode_table(encode_table(value))


@given(st.sampled_from(["shortstr", "longstr"]), st.text(max_size=63))
def test_strings_are_measured_in_bytes(kind: str, value: str) -> None:
    """A non-ASCII string does not corrupt what follows it."""
    stream = BytesIO()
    codec = AmqpCodec(stream)
    codec.encode(kind, value)
    codec.encode_octet(7)
    stream.seek(0)
    assert codec.decode(kind) == value
    assert codec.decode_octet() == 7


def test_a_short_string_over_255_bytes_is_refused() -> None:
    """128 times "ü" are 256 bytes: too many, though not too many characters."""
    with pytest.raises(ValueError, match="255"):
        frames.publish_arguments("", "ü" * 128)


@given(tables(plain), st.integers(0, 2**40) | st.none())
def test_pika_reads_our_properties(headers: dict[str, Any], expiration: int | None) -> None:
    """A message of ours has mode 2 and its type, and headers and expiration only when given."""
    properties = pika.spec.BasicProperties()
    properties.decode(frames.publish_properties(headers, expiration))
    assert properties.content_type == "application/json"
    assert properties.delivery_mode == 2
    assert properties.headers == (headers or None)
    assert properties.expiration == (None if expiration is None else str(expiration))


@given(tables(plain), texts.filter(lambda value: len(value.encode()) < 256), st.integers(0, 255))
def test_we_read_pikas_properties(headers: dict[str, Any], message_id: str, priority: int) -> None:
    """A header frame that pika writes has all its properties for us."""
    theirs = pika.spec.BasicProperties(headers=headers, message_id=message_id, priority=priority, timestamp=5)
    payload = pika.frame.Header(1, 10, theirs).marshal()[7:-1]
    assert frames.body_size(payload) == 10
    assert frames.decode_properties(payload) == {
        "headers": headers,
        "message-id": message_id,
        "priority": priority,
        "timestamp": 5,
    }


def test_the_table_of_methods_is_pikas() -> None:
    """Every method of AMQP 0-9-1 and RabbitMQ that pika knows is in our table, with the same fields."""
    classes = our_spec.load().classes
    for number, theirs in pika.spec.methods.items():
        # 0-9-1 has no more class access (30); pika reads update-secret into another method's fields.
        if number >> 16 == 30 or number == pika.spec.Connection.UpdateSecret.INDEX:
            continue
        method = classes.byid[number >> 16].methods.byid[number & 0xFFFF]
        assert theirs.NAME.lower() == f"{method.klass.name}.{method.name.replace('-', '')}"
        stream = BytesIO()
        codec = AmqpCodec(stream)
        values = [_SAMPLES[field.type] for field in method.fields]
        for field, value in zip(method.fields, values, strict=True):
            codec.encode(field.type, value)
        codec.flush()
        read = theirs.__new__(theirs)
        read.decode(stream.getvalue())
        assert frames.decode_method(number.to_bytes(4) + b"".join(read.encode())) == (method, tuple(values))


_SAMPLES = {
    "bit": True,
    "octet": 9,
    "short": 999,
    "long": 99999,
    "longlong": 2**40,
    "shortstr": "ü",
    "longstr": "ä",
    "table": {"a": 1},
}

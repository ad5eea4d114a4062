"""AMQP's data types, against pika's codec, which shares no code with ours."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from struct import pack
from typing import Any

import pika.data
import pytest
from hypothesis import given
from hypothesis import strategies as st

from junebug_turn.amqp.codec import AmqpCodec, decode_table, encode_table
from tests.support.strategies import amqp_values as plain
from tests.support.strategies import tables


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

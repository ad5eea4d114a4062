"""Frames: a stream split into them however it is cut, and payloads against pika, which shares no code with ours."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pika.frame
import pika.spec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from junebug_turn.amqp import frames
from junebug_turn.amqp.codec import AmqpCodec
from tests.support.strategies import amqp_values, tables


@given(st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=60)), max_size=6), st.integers(1, 40))
def test_a_stream_cut_anywhere(parts: list[tuple[int, bytes]], chunk_size: int) -> None:
    """The frames of a stream come whole and in order, wherever its chunks are cut, and nothing is left over."""
    stream = b"".join(pika.frame.Body(channel, payload).marshal() for channel, payload in parts)
    reader = frames.FrameReader(4096)
    found = []
    for at in range(0, len(stream), chunk_size):
        found += reader.read(stream[at : at + chunk_size])
    assert found == [(frames.BODY, channel, payload) for channel, payload in parts]
    assert not reader.unread


def test_a_chunk_costs_its_own_length() -> None:
    """A large frame in small chunks is not copied again at each of them."""
    reader = frames.FrameReader(131072)
    unread, payload, found = reader.unread, b"\xe2\x82\xac" * 40000, []
    stream = pika.frame.Body(1, payload).marshal()
    for at in range(0, len(stream), 16):
        found += reader.read(stream[at : at + 16])
    # The bytes were added to one buffer; a copy would be a new object.
    assert unread is reader.unread
    assert not unread
    assert found == [(frames.BODY, 1, payload)]


def test_an_oversize_frame_is_refused_early() -> None:
    """A frame larger than agreed is refused at its first bytes; the limit counts what stands around its payload."""
    reader = frames.FrameReader(4096)
    whole = pika.frame.Body(1, b"x" * 4088).marshal()
    assert [payload for _, _, payload in reader.read(whole)] == [b"x" * 4088]
    with pytest.raises(ValueError, match="larger than agreed"):
        list(reader.read(pika.frame.Body(1, b"x" * 4089).marshal()[:8]))
    reader.frame_max = 8192
    assert list(reader.read(b"")) == []


def test_a_wrong_end_is_refused() -> None:
    """A frame that does not end with the end octet is refused, after those before it."""
    good = pika.frame.Body(1, b"good").marshal()
    stream = frames.FrameReader(4096).read(good + good[:-1] + b"!")
    assert next(stream) == (frames.BODY, 1, b"good")
    with pytest.raises(ValueError, match="does not end"):
        next(stream)


def test_a_short_string_over_255_bytes_is_refused() -> None:
    """128 times "ü" are 256 bytes: too many, though not too many characters."""
    with pytest.raises(ValueError, match="255"):
        frames.publish_arguments("", "ü" * 128)


@given(tables(amqp_values), st.integers(0, 2**40) | st.none())
def test_pika_reads_our_properties(headers: dict[str, Any], expiration: int | None) -> None:
    """A message of ours has mode 2 and its type, and headers and expiration only when given."""
    properties = pika.spec.BasicProperties()
    properties.decode(frames.publish_properties(headers, expiration))
    assert properties.content_type == "application/json"
    assert properties.delivery_mode == 2
    assert properties.headers == (headers or None)
    assert properties.expiration == (None if expiration is None else str(expiration))


@given(
    tables(amqp_values),
    st.text(max_size=200).filter(lambda value: len(value.encode()) < 256),
    st.integers(0, 255),
)
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
    classes = frames.specification().classes
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


short_texts = st.text(max_size=63)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "headers": tables(amqp_values),
            "delivery_mode": st.integers(0, 255),
            "priority": st.integers(0, 255),
            "timestamp": st.integers(0, 2**64 - 1),
        }
        | dict.fromkeys(
            (
                "content_type",
                "content_encoding",
                "correlation_id",
                "reply_to",
                "expiration",
                "message_id",
                "type",
                "user_id",
                "app_id",
                "cluster_id",
            ),
            short_texts,
        ),
    ),
    tables(amqp_values),
    st.integers(0, 2**40) | st.none(),
)
def test_a_copy_has_the_properties_of_its_original(
    theirs: dict[str, Any], headers: dict[str, Any], expiration: int | None
) -> None:
    """A copy has all properties of the original but for user_id, and headers, expiration and mode 2 of its own."""
    original = pika.frame.Header(1, 10, pika.spec.BasicProperties(**theirs)).marshal()[7:-1]
    properties = pika.spec.BasicProperties()
    properties.decode(frames.publish_properties(headers, expiration, original))
    wanted = {"content_type": "application/json"} | theirs | {"delivery_mode": 2, "user_id": None}
    wanted |= {"headers": headers or None, "expiration": None if expiration is None else str(expiration)}
    given_ = {name: value for name, value in vars(properties).items() if value is not None}
    assert given_ == {name: value for name, value in wanted.items() if value is not None}
    assert frames.content_encoding(original) == theirs.get("content_encoding", "")


@given(
    st.binary(max_size=40)
    | st.binary(min_size=14, max_size=40).map(lambda data: bytes(12) + b"\xff\xfc" + data)
)
def test_properties_that_are_cut_off(header: bytes) -> None:
    """Of a header that is cut off nothing is copied in part."""
    frames.content_encoding(header)
    properties = pika.spec.BasicProperties()
    properties.decode(frames.publish_properties(None, None, header))


def test_an_encoding_that_is_no_text() -> None:
    """A content_encoding that is not UTF-8 is a text that can be shown, and is copied as it is."""
    header = bytes(12) + b"\x40\x00\x02\xff\xfe"
    assert frames.content_encoding(header) == "\ufffd\ufffd"
    assert b"\x02\xff\xfe" in frames.publish_properties(None, None, header)

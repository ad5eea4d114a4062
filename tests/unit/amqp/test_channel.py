"""A channel, byte by byte, against a broker's side made with pika's frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec
from txamqp.client import ChannelClosed
from txamqp.content import Content

from junebug_turn.amqp import frames
from tests.support.broker_peer import Ear, connected, split


@given(st.binary(max_size=300), st.integers(1, 50), st.integers(1, 40))
def test_content_in_pieces(body: bytes, frame_size: int, chunk_size: int) -> None:
    """A body in several frames, cut anywhere, in chunks cut anywhere, arrives as bytes, unchanged."""
    peer = connected()
    channel = peer.open_channel()
    channel.listener = ear = Ear()
    deliver = spec.Basic.Deliver("tag", 7, True, "vumi", "c.inbound")
    stream = peer.content(deliver, body, 1, frame_size, {"x": "ü"}) * 2
    for at in range(0, len(stream), chunk_size):
        peer.protocol.dataReceived(stream[at : at + chunk_size])
    assert [delivery.body for delivery in ear.deliveries] == [body, body]
    delivery = ear.deliveries[0]
    assert delivery.tag == 7
    assert delivery.properties == {"content-type": "application/json", "headers": {"x": "ü"}}


def test_contents_of_channels_may_interleave() -> None:
    """Frames of two channels between each other make two whole bodies."""
    peer = connected()
    first, second = peer.open_channel(), peer.open_channel()
    first.listener, second.listener = Ear(), Ear()
    deliver = spec.Basic.Deliver("tag", 1, False, "", "q")
    one = [peer.content(deliver, b"\xc3\xbc" * 3, 1, 1), peer.content(deliver, b"\xff" * 6, 2, 1)]
    cut = [split(stream) for stream in one]
    for a, b in zip(*cut, strict=True):
        peer.protocol.dataReceived(a + b)
    assert [delivery.body for delivery in first.listener.deliveries] == [b"\xc3\xbc" * 3]
    assert [delivery.body for delivery in second.listener.deliveries] == [b"\xff" * 6]


@given(st.binary(max_size=200), st.integers(4096, 4200))
def test_publishing_is_one_write(start: bytes, frame_max: int) -> None:
    """Method, header and body frames, none over frame_max, go in one write and hold the body."""
    peer = connected(frame_max=frame_max)
    channel = peer.open_channel()
    writes: list[bytes] = []
    peer.transport.write = writes.append
    body = start + b"\xff\xfe" * 5000
    channel.publish(
        frames.publish_arguments("vumi", "ü.outbound"), frames.publish_properties(None, 5000), body
    )
    assert len(writes) == 1
    parts = split(writes[0])
    assert max(map(len, parts)) <= frame_max
    method, header, *bodies = [frame.decode_frame(part)[1] for part in parts]
    assert (method.method.exchange, method.method.routing_key) == ("vumi", "ü.outbound")
    assert method.method.mandatory
    assert header.body_size == len(body)
    assert (header.properties.delivery_mode, header.properties.expiration) == (2, "5000")
    assert b"".join(part.fragment for part in bodies) == body


def test_headers_larger_than_a_frame_are_refused() -> None:
    """A header frame can't be split, so such a publish is a ValueError and nothing is written."""
    peer = connected(frame_max=4096)
    channel = peer.open_channel()
    with pytest.raises(ValueError, match="larger than a frame"):
        channel.publish(b"", b"x" * 4096, b"")
    assert not peer.transport.value()


def test_txamqps_own_publish_is_refused() -> None:
    """txamqp's general basic_publish, which measures texts in characters, is refused and writes nothing."""
    peer = connected()
    channel = peer.open_channel()
    faults: list[object] = []
    publishing = channel.basic_publish(routing_key="q", content=Content("ü" * 10))
    publishing.addErrback(lambda failure: faults.append(failure.type))
    assert faults == [ValueError]
    assert not peer.sent()


def test_one_message_fetched() -> None:
    """txamqp's basic_get brings a body of several frames as bytes."""
    peer = connected()
    channel = peer.open_channel()
    results: list[object] = []
    channel.basic_get(queue="q").addCallback(results.append)
    peer.protocol.dataReceived(peer.content(spec.Basic.GetOk(1, False, "", "q", 0), b"\xff\xc3\xbc", 1, 1))
    assert results[0].content.body == b"\xff\xc3\xbc"
    assert results[0].content.properties["content-type"] == "application/json"
    results[0].content.ack()
    assert peer.methods()[-1].delivery_tag == 1


def test_what_the_broker_says_of_messages() -> None:
    """Confirms, refusals and returns from the broker reach the channel's user."""
    peer = connected()
    channel = peer.open_channel()
    channel.listener = ear = Ear()
    peer.send(spec.Basic.Ack(3, True), 1)
    peer.send(spec.Basic.Nack(2**40, False), 1)
    peer.protocol.dataReceived(
        peer.content(spec.Basic.Return(312, "NO_ROUTE", "vumi", "nobody"), b"\xffbody", 1, 2)
    )
    assert ear.confirms == [(3, True, True), (2**40, False, False)]
    assert ear.returns == [("vumi", "nobody", b"\xffbody", "312 NO_ROUTE")]


def test_acknowledgements() -> None:
    """A delivery's ack and requeue are what pika reads as basic.ack and basic.nack."""
    peer = connected()
    channel = peer.open_channel()
    channel.listener = ear = Ear()
    peer.protocol.dataReceived(peer.content(spec.Basic.Deliver("t", 2**40, False, "", "q"), b"", 1, 1) * 2)
    ear.deliveries[0].ack()
    ear.deliveries[1].requeue()
    ack, nack = peer.methods()
    assert (ack.NAME, ack.delivery_tag, ack.multiple) == ("Basic.Ack", 2**40, False)
    assert (nack.NAME, nack.delivery_tag, nack.multiple, nack.requeue) == ("Basic.Nack", 2**40, False, True)


def test_a_closed_channel() -> None:
    """channel.close is answered, fails the call under way and tells the user; the connection lives on."""
    peer = connected()
    channel = peer.open_channel()
    channel.listener = ear = Ear()
    peer.protocol.dataReceived(peer.content(spec.Basic.Deliver("t", 1, False, "", "q"), b"x", 1, 1))
    faults: list[object] = []
    channel.queue_declare(queue="q").addErrback(lambda failure: faults.append(failure.check(ChannelClosed)))
    peer.sent()
    peer.send(spec.Channel.Close(406, "PRECONDITION_FAILED", 50, 10), 1)
    assert [method.NAME for method in peer.methods()] == ["Channel.CloseOk"]
    assert faults == [ChannelClosed]
    assert ear.ends == ["406 PRECONDITION_FAILED"]
    ear.deliveries[0].ack()
    assert not peer.sent(), "its delivery tags have lost their meaning"
    assert peer.open_channel().id == 2


def test_cancel_and_flow() -> None:
    """basic.cancel reaches the user; channel.flow does too and is answered."""
    peer = connected()
    channel = peer.open_channel()
    channel.listener = ear = Ear()
    peer.send(spec.Basic.Cancel("t", True), 1)
    peer.send(spec.Channel.Flow(False), 1)
    assert ear.cancels == 1
    assert ear.flows == [False]
    assert [(method.NAME, method.active) for method in peer.methods()] == [("Channel.FlowOk", False)]

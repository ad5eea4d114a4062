"""The connection, byte by byte, against a broker's side made with pika's frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from txamqp.client import ChannelClosed, Closed, ConnectionClosed
from txamqp.content import Content
from zope.interface import implementer

from junebug_turn.amqp import frames
from junebug_turn.amqp.channel import Delivery, Listener, describe
from junebug_turn.amqp.connection import AmqpProtocol
from tests.support.broker_peer import HEADER, Peer


class Ear(Listener):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.confirms: list[tuple[int, bool, bool]] = []
        self.returns: list[tuple[str | bytes, str | bytes, bytes, str]] = []
        self.flows: list[bool] = []
        self.cancels = 0
        self.ends: list[str] = []

    def delivered(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)

    def confirmed(self, tag: int, multiple: bool, taken: bool) -> None:
        self.confirms.append((tag, multiple, taken))

    def returned(self, exchange: str | bytes, routing_key: str | bytes, body: bytes, why: str) -> None:
        self.returns.append((exchange, routing_key, body, why))

    def flow(self, active: bool) -> None:
        self.flows.append(active)

    def cancelled(self) -> None:
        self.cancels += 1

    def closed(self, why: str) -> None:
        self.ends.append(why)


def connected(**limits: int) -> Peer:
    peer = Peer()
    peer.connect(**limits)
    peer.sent()
    return peer


def test_it_announces_0_9_1() -> None:
    """The first bytes are AMQP 0-9-1's protocol header."""
    assert Peer().transport.value() == HEADER


def test_it_does_not_wait_for_more_to_send() -> None:
    """Nagle's algorithm is off, so that no message waits for the acknowledgement of what went before it."""

    @implementer(ITCPTransport)
    class Tcp(StringTransport):
        delay = True

        def setTcpNoDelay(self, enabled: bool) -> None:
            self.delay = not enabled

    transport = Tcp()
    AmqpProtocol(Clock(), username="u", password="p", vhost="/", name="n").makeConnection(transport)
    assert not transport.delay


def test_the_handshake() -> None:
    """It logs in with PLAIN, in UTF-8, tells what it can, and opens the virtual host."""
    peer = Peer(username="jürg", password="pä", vhost="/ö")
    peer.connect()
    start, tune, opening = peer.methods()
    assert start.mechanism == "PLAIN"
    assert start.response == "\0jürg\0pä".encode()
    for capability in (
        "publisher_confirms",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "authentication_failure_close",
    ):
        assert start.client_properties["capabilities"][capability] is True
    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == (2047, 131072, 30)
    assert opening.virtual_host == "/ö"
    assert peer.opening.called
    assert peer.opening.result is None


def test_a_limit_of_zero_is_no_limit() -> None:
    """frame_max 0, channel_max 0 and heartbeat 0 from the broker leave ours."""
    peer = Peer()
    peer.connect(frame_max=0, channel_max=0, heartbeat=0)
    tune = peer.methods()[1]
    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == (65535, 131072, 30)


def test_a_shorter_heartbeat_of_the_broker_holds() -> None:
    """Of the two heartbeats the shorter one is agreed."""
    peer = Peer()
    peer.connect(heartbeat=10)
    assert peer.methods()[1].heartbeat == 10


def test_a_refused_login_fails_the_opening() -> None:
    """connection.close instead of tune: the opening fails with the broker's words."""
    peer = Peer()
    peer.send(spec.Connection.Start(server_properties={}, mechanisms="PLAIN"))
    peer.send(spec.Connection.Close(403, "ACCESS_REFUSED - Login was refused", 0, 0))
    failure = peer.opening.result
    assert failure.check(Closed)
    assert describe(failure) == "403 ACCESS_REFUSED - Login was refused"
    assert isinstance(peer.methods()[-1], spec.Connection.CloseOk)


def test_a_broker_without_plain_is_refused() -> None:
    """Where PLAIN is not offered, the opening fails and says so."""
    peer = Peer()
    peer.send(spec.Connection.Start(server_properties={}, mechanisms="EXTERNAL"))
    assert "PLAIN" in describe(peer.opening.result)


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
    assert (delivery.tag, delivery.redelivered, delivery.routing_key) == (7, True, "c.inbound")
    assert delivery.properties == {"content-type": "application/json", "headers": {"x": "ü"}}


def test_contents_of_channels_may_interleave() -> None:
    """Frames of two channels between each other make two whole bodies."""
    peer = connected()
    first, second = peer.open_channel(), peer.open_channel()
    first.listener, second.listener = Ear(), Ear()
    deliver = spec.Basic.Deliver("tag", 1, False, "", "q")
    one = [peer.content(deliver, b"\xc3\xbc" * 3, 1, 1), peer.content(deliver, b"\xff" * 6, 2, 1)]
    cut = [list(_frames(stream)) for stream in one]
    for a, b in zip(*cut, strict=True):
        peer.protocol.dataReceived(a + b)
    assert [delivery.body for delivery in first.listener.deliveries] == [b"\xc3\xbc" * 3]
    assert [delivery.body for delivery in second.listener.deliveries] == [b"\xff" * 6]


def _frames(stream: bytes) -> list[bytes]:
    found = []
    while stream:
        used, _ = frame.decode_frame(stream)
        found.append(stream[:used])
        stream = stream[used:]
    return found


def test_a_chunk_costs_its_own_length() -> None:
    """A large body in small chunks is not copied again at each of them."""
    peer = connected()
    channel = peer.open_channel()
    channel.listener = ear = Ear()
    unread = peer.protocol._unread
    stream = peer.content(spec.Basic.Deliver("t", 1, False, "", "q"), b"\xe2\x82\xac" * 40000, 1, 131064)
    for at in range(0, len(stream), 16):
        peer.protocol.dataReceived(stream[at : at + 16])
    # The bytes were added to one buffer; a copy would be a new object.
    assert unread is peer.protocol._unread
    assert not unread
    assert ear.deliveries[0].body == b"\xe2\x82\xac" * 40000


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
    parts = _frames(writes[0])
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


def test_txamqps_own_publish_measures_bytes() -> None:
    """A text given to txamqp's general basic_publish is measured in bytes too."""
    peer = connected()
    channel = peer.open_channel()
    channel.basic_publish(routing_key="q", content=Content("ü" * 10, properties={"content type": "t"}))
    _, header, body = peer.sent()
    assert header.body_size == 20
    assert body.fragment == ("ü" * 10).encode()


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


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=5), st.booleans())
def test_any_bytes(chunks: list[bytes], shaped: bool) -> None:
    """No bytes whatever raise out of the connection: it waits for more, or it is over."""
    peer = connected()
    peer.open_channel()
    for chunk in chunks:
        data = b"\x01\x00\x01" + len(chunk).to_bytes(4) + chunk + b"\xce" if shaped else chunk
        peer.protocol.dataReceived(data)
    assert peer.protocol.closed == peer.transport.disconnecting


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


def test_blocked() -> None:
    """connection.blocked and unblocked are seen, and whoever publishes is told."""
    peer = connected()
    seen: list[bool] = []
    peer.protocol.sendable_changed = lambda: seen.append(peer.protocol.blocked)
    peer.send(spec.Connection.Blocked("low on memory"))
    peer.send(spec.Connection.Unblocked())
    assert seen == [True, False]


def test_the_broker_closes() -> None:
    """connection.close is answered; every channel and call ends with the broker's reason."""
    peer = connected()
    channel = peer.open_channel()
    channel.listener = ear = Ear()
    faults: list[object] = []
    channel.queue_declare(queue="q").addErrback(
        lambda failure: faults.append(failure.check(ConnectionClosed))
    )
    peer.sent()
    peer.send(spec.Connection.Close(320, "CONNECTION_FORCED", 0, 0))
    assert [method.NAME for method in peer.methods()] == ["Connection.CloseOk"]
    assert faults == [ConnectionClosed]
    assert ear.ends == ["320 CONNECTION_FORCED"]
    assert peer.transport.disconnecting


def test_a_lost_connection_ends_the_channels() -> None:
    """When the transport is lost, calls and channels end, and no timer is left."""
    peer = connected()
    channel = peer.open_channel()
    channel.listener = ear = Ear()
    peer.lose(ConnectionLost("gone"))
    assert len(ear.ends) == 1
    assert "gone" in ear.ends[0]
    assert not peer.clock.getDelayedCalls()


@pytest.mark.parametrize(
    "data",
    [
        b"\x01\x00\x00\x00\x01\xff\xf9",  # 131065 bytes of payload and 8 around them: one too many
        b"\x03\x00\x01\xff\xff\xff\xff",
    ],
)
def test_an_oversize_frame_is_refused(data: bytes) -> None:
    """A frame larger than agreed ends the connection at its first bytes, before it is collected."""
    peer = connected()
    peer.protocol.dataReceived(data + b"\0")
    assert peer.protocol.closed
    assert "larger than agreed" in peer.protocol.ended


@pytest.mark.parametrize(
    "data",
    [
        b"\x08\x00\x00\x00\x00\x00\x00\x00",  # not the frame end
        b"\x01\x00\x09\x00\x00\x00\x00\xce",  # a channel that is not open
        b"\x01\x00\x00\x00\x00\x00\x04\x00\x63\x00\x0a\xce",  # a class that does not exist
        b"\x05\x00\x00\x00\x00\x00\x00\xce",  # a type of frame that does not exist
        b"\x01\x00\x00\x00\x00\x00\x05\x00\x0a\x00\x32\x01\xce",  # connection.close, cut off
        b"HTTP/1.1 400 Bad Request\r\n",
    ],
)
def test_garbage_ends_the_connection(data: bytes) -> None:
    """What is not AMQP ends the connection, and nothing worse."""
    peer = connected()
    peer.protocol.dataReceived(data)
    assert peer.protocol.closed
    assert peer.transport.disconnecting or peer.transport.disconnected


def test_heartbeats_are_sent_when_idle() -> None:
    """An idle connection says something in each interval of 30 s; a busy one needs no heartbeats."""
    peer = connected()
    peer.clock.advance(15)
    peer.sent()
    peer.clock.advance(15)
    assert [type(value) for value in peer.sent()] == [frame.Heartbeat]
    peer.protocol.write(frame.Heartbeat().marshal())
    peer.sent()
    peer.protocol.dataReceived(frame.Heartbeat().marshal())
    peer.clock.advance(15)
    assert not peer.sent()


def test_a_silent_broker_is_left() -> None:
    """Two intervals without a byte end the connection; any byte starts them anew."""
    peer = connected()
    channel = peer.open_channel()
    channel.listener = ear = Ear()
    for _ in range(20):
        peer.clock.advance(29)
        peer.protocol.dataReceived(frame.Heartbeat().marshal())
    peer.clock.pump([15] * 3)
    assert not peer.protocol.closed
    peer.clock.pump([15] * 2)
    assert peer.protocol.closed
    assert "nothing heard" in ear.ends[0]


def test_an_operation_has_a_time_limit() -> None:
    """A call that the broker leaves unanswered for 10 s ends the connection."""
    peer = connected()
    opening = Deferred.fromCoroutine(peer.protocol.open_channel())
    faults: list[str] = []
    opening.addErrback(lambda failure: faults.append(describe(failure)))
    peer.clock.advance(9)
    assert not faults
    peer.clock.advance(1.5)
    assert faults == ["no answer from the broker for 10 s"]
    assert peer.protocol.closed


def test_an_orderly_goodbye() -> None:
    """Disconnecting says connection.close and waits for its answer; not longer than the limit."""
    peer = connected()
    leaving = Deferred.fromCoroutine(peer.protocol.disconnect(5))
    assert [method.NAME for method in peer.methods()] == ["Connection.Close"]
    peer.send(spec.Connection.CloseOk())
    assert peer.transport.disconnecting
    peer.lose(ConnectionLost())
    assert leaving.called
    assert not peer.clock.getDelayedCalls()

    peer = connected()
    leaving = Deferred.fromCoroutine(peer.protocol.disconnect(5))
    peer.clock.advance(5)
    assert peer.transport.disconnecting
    peer.lose(ConnectionLost())
    assert leaving.called

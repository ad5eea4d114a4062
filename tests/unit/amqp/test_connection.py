"""The connection, byte by byte, against a broker's side made with pika's frames."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from txamqp.client import Closed, ConnectionClosed
from zope.interface import implementer

from junebug_turn.amqp import frames
from junebug_turn.amqp.channel import describe
from junebug_turn.amqp.connection import AmqpProtocol
from tests.support.broker_peer import HEADER, Ear, Peer, connected


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


@pytest.mark.parametrize(
    ("offered", "agreed"), [(4096, 4096), (8192, 8192), (131072, 131072), (2**20, 131072), (2**31, 131072)]
)
def test_frames_have_a_bound_of_ours(offered: int, agreed: int) -> None:
    """The broker's frame_max is agreed as it is up to 128 kB, since newer brokers refuse a client that wants less than
    8192; a broker that offers larger frames gets 128 kB, and one that sends a larger one is left."""
    peer = Peer()
    peer.connect(frame_max=offered)
    assert (peer.methods()[1].frame_max, peer.protocol.frame_max) == (agreed, agreed)
    peer.protocol.dataReceived(struct.pack(">BHI", frames.BODY, 1, agreed) + b"x")
    assert peer.protocol.ended == f"protocol error: a frame of {agreed} bytes is larger than agreed"


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


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=5), st.booleans())
def test_any_bytes(chunks: list[bytes], shaped: bool) -> None:
    """No bytes whatever raise out of the connection: it waits for more, or it is over."""
    peer = connected()
    peer.open_channel()
    for chunk in chunks:
        data = b"\x01\x00\x01" + len(chunk).to_bytes(4) + chunk + b"\xce" if shaped else chunk
        peer.protocol.dataReceived(data)
    assert peer.protocol.closed == peer.transport.disconnecting


def test_blocked() -> None:
    """connection.blocked and unblocked are seen, and whoever publishes is told."""
    peer = connected()
    seen: list[bool] = []
    peer.protocol.sendable_changed.append(lambda: seen.append(peer.protocol.blocked))
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


def test_all_channels_in_use() -> None:
    """With as many channels as the broker's channel_max allows, another one is an error that says so; one that is
    closed makes room."""
    peer = connected(channel_max=2)
    first, _ = peer.open_channel(), peer.open_channel()
    found: list[Any] = []
    Deferred.fromCoroutine(peer.protocol.open_channel()).addBoth(found.append)
    assert found[0].check(Closed)
    assert "all 2 channels that the broker's channel_max allows are in use" in str(found[0].value)
    peer.send(spec.Channel.Close(406, "PRECONDITION_FAILED", 0, 0), first.id)
    assert peer.open_channel().id == first.id

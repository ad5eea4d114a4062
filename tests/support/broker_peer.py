"""The broker's side of a connection, in memory, its frames made and read by pika."""

from __future__ import annotations

from typing import Any

from pika import frame, spec
from pika.amqp_object import Method
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from junebug_turn.amqp.connection import AmqpProtocol

HEADER = b"AMQP\x00\x00\x09\x01"


class Peer:
    """A connection of ours and what a broker would do at its other end."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.transport = StringTransport()
        self.protocol = AmqpProtocol(
            self.clock, **({"username": "guest", "password": "pw", "vhost": "/", "name": "test"} | options)
        )
        self.protocol.makeConnection(self.transport)
        self.opening = Deferred.fromCoroutine(self.protocol.open())
        self.opening.addErrback(lambda failure: failure)

    def sent(self) -> list[Any]:
        """The frames that came from us since the last call, without the protocol header."""
        data = self.transport.value()
        self.transport.clear()
        if data.startswith(HEADER):
            data = data[len(HEADER) :]
        frames = []
        while data:
            used, value = frame.decode_frame(data)
            assert used, "half a frame"
            frames.append(value)
            data = data[used:]
        return frames

    def methods(self) -> list[Any]:
        """The methods among them."""
        return [value.method for value in self.sent() if isinstance(value, frame.Method)]

    def send(self, method: Method, channel: int = 0) -> None:
        """Have the broker call ``method``."""
        self.protocol.dataReceived(frame.Method(channel, method).marshal())

    def content(self, method: Method, body: bytes, channel: int, size: int, headers: Any = None) -> bytes:
        """The bytes of a method with content, its body in frames of ``size`` bytes."""
        properties = spec.BasicProperties(headers=headers, content_type="application/json")
        parts = [
            frame.Method(channel, method).marshal(),
            frame.Header(channel, len(body), properties).marshal(),
        ]
        parts += [frame.Body(channel, body[at : at + size]).marshal() for at in range(0, len(body), size)]
        return b"".join(parts)

    def connect(self, frame_max: int = 131072, heartbeat: int = 60, channel_max: int = 2047) -> None:
        """Go through the handshake."""
        self.send(spec.Connection.Start(server_properties={}, mechanisms="AMQPLAIN PLAIN", locales="en_US"))
        self.send(spec.Connection.Tune(channel_max, frame_max, heartbeat))
        self.send(spec.Connection.OpenOk())

    def lose(self, why: Exception) -> None:
        """The transport is gone."""
        self.protocol.connectionLost(Failure(why))

    def open_channel(self) -> Any:
        """A channel of ours, open."""
        opening = Deferred.fromCoroutine(self.protocol.open_channel())
        self.send(spec.Channel.OpenOk(), self.protocol._last_channel)
        self.sent()
        channels: list[Any] = []
        opening.addCallback(channels.append)
        return channels[0]

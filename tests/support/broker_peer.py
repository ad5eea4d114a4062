"""The broker's side of a connection, in memory, its frames made and read by pika."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pika import frame, spec
from pika.amqp_object import Method
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from junebug_turn.amqp.channel import Listener
from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.delivery import Delivery

HEADER = b"AMQP\x00\x00\x09\x01"


ANSWERS = {
    "Channel.Open": spec.Channel.OpenOk(),
    "Channel.Close": spec.Channel.CloseOk(),
    "Exchange.Declare": spec.Exchange.DeclareOk(),
    "Exchange.Unbind": spec.Exchange.UnbindOk(),
    "Queue.Declare": spec.Queue.DeclareOk("q", 3, 1),
    "Queue.Delete": spec.Queue.DeleteOk(0),
    "Queue.Bind": spec.Queue.BindOk(),
    "Basic.Qos": spec.Basic.QosOk(),
    "Basic.Consume": spec.Basic.ConsumeOk("t"),
    "Basic.Cancel": spec.Basic.CancelOk("t"),
    "Confirm.Select": spec.Confirm.SelectOk(),
    "Connection.Close": spec.Connection.CloseOk(),
}


def answer_to(method: Method) -> Method | None:
    """The usual answer to a method; None where there is none."""
    return None if getattr(method, "nowait", False) else ANSWERS.get(method.NAME)


class Peer:
    """A connection of ours and what a broker would do at its other end.

    :param protocol: our side, when it was made already
    """

    def __init__(self, protocol: AmqpProtocol | None = None, **options: Any) -> None:
        self.transport = StringTransport()
        if protocol is not None:
            self.clock = protocol.clock
            self.protocol = protocol
            protocol.makeConnection(self.transport)
            return
        self.clock = Clock()
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

    def opened(self) -> int:
        """The number of the channel that we open now."""
        *_, number = [
            value.channel_number
            for value in self.sent()
            if isinstance(value, frame.Method) and isinstance(value.method, spec.Channel.Open)
        ]
        return int(number)

    def answer(self, **refusals: Method | Callable[[Any], Method]) -> list[Any]:
        """Answer the calls that came, and those that follow, and return their methods.

        :param refusals: answers in place of the usual ones, by names such as ``Queue_Declare``; or what makes the
            answer to a call
        """
        answered = []
        closed = set()
        while calls := [value for value in self.sent() if isinstance(value, frame.Method)]:
            for call in calls:
                name = call.method.NAME
                if name == "Channel.CloseOk":
                    closed.discard(call.channel_number)
                if call.channel_number in closed:
                    # Sent before the end of its channel was known.
                    continue
                answered.append(call.method)
                answer = refusals.get(name.replace(".", "_"), answer_to)
                if callable(answer):
                    answer = answer(call.method)
                if answer is not None:
                    if isinstance(answer, spec.Channel.Close):
                        closed.add(call.channel_number)
                    self.send(answer, call.channel_number)
        return answered

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
        self.send(spec.Channel.OpenOk(), self.opened())
        self.sent()
        channels: list[Any] = []
        opening.addCallback(channels.append)
        return channels[0]


def connected(**limits: int) -> Peer:
    """A peer after the handshake."""
    peer = Peer()
    peer.connect(**limits)
    peer.sent()
    return peer


class Ear(Listener):
    """Keeps what its channel calls it with."""

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


def split(stream: bytes) -> list[bytes]:
    """The frames in a stream, as bytes."""
    found = []
    while stream:
        used, _ = frame.decode_frame(stream)
        found.append(stream[:used])
        stream = stream[used:]
    return found

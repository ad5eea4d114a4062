"""An AMQP channel: txamqp's, with calls, content and confirms that don't wait in queues."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from txamqp.client import Closed
from txamqp.message import Message
from txamqp.protocol import AMQChannel
from txamqp.queue import Closed as QueueClosed
from txamqp.queue import TimeoutDeferredQueue

from junebug_turn.amqp import frames
from junebug_turn.amqp.delivery import Delivery


class Connection(Protocol):
    """The connection, as a channel needs it.

    :ivar frame_max: the largest frame, in bytes
    :ivar channels: the open channels by their number
    """

    clock: Any
    frame_max: int
    channels: dict[int, Any]

    def write(self, data: bytes) -> None:
        """Put whole frames on the wire."""

    async def call(self, operation: Deferred[Any]) -> Any:
        """Wait for the answer to a method, with a time limit."""

    def called(self, channel: Channel, method: Any, arguments: tuple[Any, ...]) -> None:
        """Take a method that the broker calls."""


class Listener:
    """The user of a channel, as the channel calls it; each method does nothing until it is overridden."""

    def delivered(self, delivery: Delivery) -> None:
        """Take a message for the channel's consumer."""

    def confirmed(self, tag: int, multiple: bool, taken: bool) -> None:
        """Note that the broker took (or, ``taken`` false, refused) the publish number ``tag``, or all up to it."""

    def returned(self, exchange: str | bytes, routing_key: str | bytes, body: bytes, why: str) -> None:
        """Take back a mandatory message that no queue took."""

    def cancelled(self) -> None:
        """Note that the broker ended the channel's consumer, for a reason that it does not give."""

    def flow(self, active: bool) -> None:
        """Stop publishing on this channel, or go on, as the broker asks."""

    def closed(self, why: str) -> None:
        """Note that the channel is gone, alone or with its connection."""


class Channel(AMQChannel):  # type: ignore[misc]
    """txamqp's channel, without its queues and coroutines where messages go by.

    :ivar listener: its user, called with what comes unasked
    """

    log = Logger()
    client: Connection

    def __init__(self, id: int, outgoing: Any, client: Connection) -> None:
        # Not AMQChannel's own __init__: it would make its queues with the global reactor.
        self.id = id
        self.outgoing = outgoing
        self.client = client
        self.incoming = TimeoutDeferredQueue(clock=client.clock)
        self.responses = TimeoutDeferredQueue(clock=client.clock)
        self.queue = None
        self._closing = False
        self.closed = False
        self.reason: Any = None
        self.listener = Listener()
        # The content that is coming in: its method, its header, its body so far, how many bytes it lacks.
        self._method = b""
        self._header = b""
        self._chunks: list[bytes] = []
        self._lacking = 0

    # what comes in

    def method_received(self, payload: bytes) -> None:
        """Handle a method frame; the frequent methods are tested first."""
        method_id = int.from_bytes(payload[:4])
        if method_id == frames.BASIC_DELIVER or method_id == frames.BASIC_RETURN:
            self._method = payload
        elif method_id == frames.BASIC_ACK or method_id == frames.BASIC_NACK:
            tag, multiple = frames.confirm_tag(payload)
            self.listener.confirmed(tag, multiple, method_id == frames.BASIC_ACK)
        else:
            method, arguments = frames.decode_method(payload)
            if method.content:
                self._method = payload
            elif method.response:
                self.responses.put(Message(method, arguments))
            else:
                self.client.called(self, method, arguments)

    def header_received(self, payload: bytes) -> None:
        """Handle a content header, which follows its method."""
        if not self._method:
            raise ValueError("a content header without its method")
        self._header = payload
        self._lacking = frames.body_size(payload)
        if not self._lacking:
            self._content_complete(b"")

    def body_received(self, payload: bytes) -> None:
        """Handle a part of a body, which follows its header."""
        lacking = self._lacking - len(payload)
        if lacking < 0 or not payload:
            raise ValueError("more body than its header said")
        self._lacking = lacking
        if lacking:
            self._chunks.append(payload)
        elif self._chunks:
            self._chunks.append(payload)
            body = b"".join(self._chunks)
            self._chunks = []
            self._content_complete(body)
        else:
            self._content_complete(payload)

    def _content_complete(self, body: bytes) -> None:
        method, self._method = self._method, b""
        if self.closed:
            return
        method_id = int.from_bytes(method[:4])
        if method_id == frames.BASIC_DELIVER:
            tag, again = frames.deliver_tag(method)
            self.listener.delivered(Delivery(self, tag, body, self._header, again, method))
        elif method_id == frames.BASIC_RETURN:
            why, at = frames.return_reason(method)
            self.listener.returned(*frames.routing_of(method, at), body, why)
        else:
            row, arguments = frames.decode_method(method)
            self.responses.put(
                Message(row, arguments, Delivery(self, arguments[0], body, self._header, bool(arguments[1])))
            )

    # what goes out

    def invoke(self, method: Any, args: tuple[Any, ...], content: None = None) -> Deferred[Any]:
        """Call a method, as ``channel.queue_declare(...)`` and its like do.

        txamqp's own writes through a queue, and leans on parts of Twisted that are to go.

        :returns: the answer's ``Message``; None where there is none to come
        :raises Closed: (in the Deferred) the channel or the connection was closed
        :raises ValueError: (in the Deferred) the method has content, which only ``publish`` writes
        """
        return Deferred.fromCoroutine(self._invoke(method, args))

    async def _invoke(self, method: Any, args: tuple[Any, ...]) -> Any:
        if self.closed:
            self._raise_closed(self.reason)
        if method.content:
            raise ValueError(f"{method} has content: see publish")
        self.client.write(frames.encode_method(self.id, method, args))
        nowait = any(
            field.name == "nowait" and value for field, value in zip(method.fields, args, strict=True)
        )
        if nowait or not method.responses:
            return None
        try:
            answer = await self.responses.get()
        except QueueClosed:
            return self._raise_closed(self.reason)
        if answer.method not in method.responses:
            raise ValueError(f"{answer.method} is no answer to {method}")
        return answer

    def publish(self, arguments: bytes, properties: bytes, body: bytes) -> None:
        """basic.publish in one write; see ``frames`` for the two byte strings.

        :raises ValueError: the properties are larger than a frame
        """
        client = self.client
        client.write(frames.publish(self.id, arguments, properties, body, client.frame_max))

    def acknowledge(self, method: int, delivery_tag: int, flags: int) -> None:
        """basic.ack or basic.nack; nothing once the channel is closed, when the tag has lost its meaning."""
        if not self.closed:
            self.client.write(frames.acknowledgement(self.id, method, delivery_tag, flags))

    # its end

    def do_close(self, reason: Any) -> None:
        """End the channel on this side: calls under way fail, and ``listener.closed`` is called."""
        if self.closed:
            return
        self.closed = True
        self.reason = reason
        self._chunks = []
        self.incoming.close()
        self.responses.close()
        self.client.channels.pop(self.id, None)
        self.listener.closed(describe(reason))


def describe(reason: Any) -> str:
    """Put into words, for an operator, why a channel or connection ended.

    ``reason`` is a close method's message, an exception (txamqp's ``Closed`` carries such a message), a
    ``Failure`` or a text.
    """
    while True:
        if isinstance(reason, Failure):
            reason = reason.value
        elif isinstance(reason, Closed) and reason.args:
            reason = reason.args[0]
        else:
            break
    if hasattr(reason, "reply_text"):
        return f"{reason.reply_code} {reason.reply_text!s}"
    return str(reason) or type(reason).__name__


def reply_code(reason: BaseException) -> int | None:
    """Find the reply code of the close method that an exception of txamqp's carries."""
    message = reason.args[0] if reason.args else None
    return getattr(message, "reply_code", None)

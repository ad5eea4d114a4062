"""A connection to a RabbitMQ broker: AMQP 0-9-1 over txamqp's client.

txamqp brings the methods from their table, the channels, the dispatch to a delegate and the order of closing.
Reading, writing and heartbeats are our own: its buffers are copied at each chunk, its queues and coroutines run for
each frame, and it can't take confirms, a consumer's cancellation or ``connection.blocked``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, TimeoutError
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.logger import Logger
from txamqp.client import Closed
from txamqp.message import Message
from txamqp.protocol import AMQClient
from zope.interface import implementer

from junebug_turn.amqp import frames
from junebug_turn.amqp.channel import Channel, Listener, describe
from junebug_turn.amqp.delegate import Delegate

HEARTBEAT = 30  # seconds
FRAME_MAX = 131072  # bytes; a broker that names no limit, or a larger one, gets this one
CHANNEL_MAX = 65535
OPERATION_TIMEOUT = 10  # seconds
_NO_ANSWER = f"no answer from the broker for {OPERATION_TIMEOUT} s"

CAPABILITIES = {
    "publisher_confirms": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
}


@implementer(IPushProducer)
class AmqpProtocol(AMQClient):  # type: ignore[misc]
    """A connection for one purpose (publishing or consuming), which its transport can pause.

    :ivar frame_max: the largest frame that was agreed, in bytes
    :ivar blocked: the broker takes no messages for now
    :ivar writable: the transport's write buffer has room
    :ivar sendable_changed: each is called after either changed
    :ivar ended: why the connection is over, in words
    """

    log = Logger()
    channelClass = Channel

    def __init__(
        self, clock: Any, *, username: str, password: str, vhost: str, name: str, heartbeat: int = HEARTBEAT
    ) -> None:
        super().__init__(Delegate(), vhost, frames.specification(), heartbeat=0, clock=clock)
        self.response = b"\0" + username.encode() + b"\0" + password.encode()
        self.properties: dict[str, Any] = {
            "product": "junebug-turn",
            "connection_name": name,
            "capabilities": CAPABILITIES,
        }
        self.heartbeat = heartbeat
        self.channel_max = CHANNEL_MAX
        self.frame_max = FRAME_MAX
        self.blocked = False
        self.writable = True
        self.sendable_changed: list[Callable[[], None]] = []
        self.ended = ""
        self.closed = False
        self._last_channel = 0
        self._reader = frames.FrameReader(FRAME_MAX)
        self._written = False
        self._heard = False
        self._silent_ticks = 0
        self._ticking: Any = None

    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            # Otherwise a message waits in the kernel until the broker has acknowledged what went before it.
            self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self.write(b"AMQP\x00\x00\x09\x01")

    async def open(self) -> None:
        """Log in and open the virtual host.

        :raises Closed: refused, or lost meanwhile
        """
        await self.started.wait()
        await self.call(self._channel(0).connection_open(self.vhost))

    def tuned(self, channel_max: int, frame_max: int, heartbeat: int) -> None:
        """Settle the connection's limits; a 0 from the broker is no limit, and no heartbeat of its own.

        Of a frame's size the smaller limit counts, the broker's or ours.
        """
        self.channel_max = channel_max or CHANNEL_MAX
        self.frame_max = self._reader.frame_max = min(frame_max or FRAME_MAX, FRAME_MAX)
        self.heartbeat = min(heartbeat, self.heartbeat) if heartbeat else self.heartbeat
        self._ticking = self.clock.callLater(self.heartbeat / 2, self._tick)

    def _tick(self) -> None:
        """Send a heartbeat if nothing else was sent, and see that the broker lives; runs twice an interval."""
        self._silent_ticks = 0 if self._heard else self._silent_ticks + 1
        self._heard = False
        if self._silent_ticks >= 4:
            self.abort(f"nothing heard from the broker for {2 * self.heartbeat} s")
            return
        if not self._written:
            self.transport.write(frames.HEARTBEAT_FRAME)
        self._written = False
        self._ticking = self.clock.callLater(self.heartbeat / 2, self._tick)

    # channels and calls

    def _channel(self, id: int) -> Channel:
        channel: Channel | None = self.channels.get(id)
        if channel is None:
            channel = self.channels[id] = self.channelFactory(id, self.outgoing, self)
        return channel

    @property
    def free_channels(self) -> int:
        """The number of further channels that the broker allows."""
        # Channel 0, the connection's own, is among those that are open.
        return self.channel_max + 1 - len(self.channels)

    async def open_channel(
        self,
        listener: Listener | None = None,
        prepare: Callable[[Channel], Sequence[Deferred[Any]]] = lambda channel: (),
    ) -> Channel:
        """Open a new channel.

        :param listener: its user; not called when the channel can't be opened or prepared
        :param prepare: makes the first calls, at once: one after the other, each would take a round trip
        :raises Closed: the connection is lost, a call is refused, or the broker allows no more channels on it
        """
        if self.closed:
            raise Closed(self.ended)
        if self.free_channels <= 0:
            raise Closed(f"all {self.channel_max} channels that the broker's channel_max allows are in use")
        while True:
            self._last_channel = self._last_channel % self.channel_max + 1
            if self._last_channel not in self.channels:
                break
        channel = self._channel(self._last_channel)
        channel.listener = listener or channel.listener
        for answered, answer in await self.calls([channel.channel_open(), *prepare(channel)]):
            if not answered:
                # Told as the end of this channel as well, it would end the user's next one.
                channel.listener = Listener()
                answer.raiseException()
        return channel

    async def close_channel(self, channel: Channel) -> None:
        """End a channel; frames that are still on their way to it are dropped.

        :raises Closed: the connection is lost
        """
        if not channel.closed:
            await self.call(channel.channel_close(reply_code=200, reply_text="done"))
            channel.close("closed by us")

    async def call(self, operation: Deferred[Any]) -> Any:
        """Wait for the answer to a method; without one in time the connection is of no use and is aborted.

        :raises Closed: the channel or the connection was closed
        """
        try:
            return await operation.addTimeout(OPERATION_TIMEOUT, self.clock)
        except TimeoutError:
            self.abort(_NO_ANSWER)
            raise Closed(self.ended) from None

    async def calls(self, operations: Sequence[Deferred[Any]]) -> Any:
        """Wait for the answers to methods that were called at once, in the form of ``DeferredList``.

        They have one time limit, as in ``call``: one for each would cost more than the call.
        """
        late = self.clock.callLater(OPERATION_TIMEOUT, self.abort, _NO_ANSWER)
        try:
            return await DeferredList(operations, consumeErrors=True)
        finally:
            if late.active():
                late.cancel()

    def called(self, channel: Channel, method: Any, arguments: tuple[Any, ...]) -> None:
        """Handle a method that the broker calls."""
        self.delegate.dispatch(channel, Message(method, arguments))

    # reading and writing

    def dataReceived(self, data: bytes) -> None:
        if self.closed:
            return
        self._heard = True
        try:
            for kind, channel_id, payload in self._reader.read(data):
                self._frame_received(kind, channel_id, payload)
                if self.ended:
                    return
        except Exception as fault:
            # Whatever it is, the stream can't be trusted from here on; reconnecting starts afresh.
            if not isinstance(fault, ValueError):
                self.log.failure("Fault while reading from the broker")
            self.abort(f"protocol error: {fault}")

    def _frame_received(self, kind: int, channel_id: int, payload: bytes) -> None:
        if kind == frames.HEARTBEAT:
            return
        channel: Channel | None = self.channels.get(channel_id)
        if channel is None:
            if channel_id:
                raise ValueError(f"a frame for channel {channel_id}, which is not open")
            channel = self._channel(0)
        if kind == frames.METHOD:
            channel.method_received(payload)
        elif kind == frames.HEADER:
            channel.header_received(payload)
        elif kind == frames.BODY:
            channel.body_received(payload)
        else:
            raise ValueError(f"a frame of unknown type {kind}")

    def write(self, data: bytes) -> None:
        """Put whole frames on the wire."""
        self._written = True
        self.transport.write(data)

    # whether it takes messages

    def set_blocked(self, blocked: bool, reason: str) -> None:
        """Hold publishing back as the broker asks, or let it go on."""
        self.blocked = blocked
        if blocked:
            self.log.warn(
                "The AMQP broker takes no messages for now: {reason}; give it memory or disk", reason=reason
            )
        else:
            self.log.info("The AMQP broker takes messages again")
        self._sendable_changed()

    def pauseProducing(self) -> None:
        """Hold publishing back: the transport's write buffer is full."""
        self.writable = False
        self._sendable_changed()

    def resumeProducing(self) -> None:
        """Let publishing go on: the write buffer is empty again."""
        self.writable = True
        self._sendable_changed()

    stopProducing = pauseProducing

    def _sendable_changed(self) -> None:
        for changed in self.sendable_changed:
            changed()

    async def disconnect(self, within: float) -> None:
        """Close the connection in order, in at most ``within`` seconds, or else abort it."""
        if not self.closed:
            goodbye = self._channel(0).connection_close(reply_code=200, reply_text="goodbye")
            try:
                await goodbye.addTimeout(within, self.clock)
            except TimeoutError:
                self.transport.abortConnection()
            except Closed:
                pass
            self.do_close(ConnectionDone())
        gone = self.disconnected.wait()
        late = self.clock.callLater(within, self.transport.abortConnection)
        await gone
        if late.active():
            late.cancel()

    def abort(self, why: str) -> None:
        """Drop the connection at once; calls under way and the channels end with ``why``."""
        self.transport.abortConnection()
        self.do_close(why)

    def do_close(self, reason: Any) -> None:
        """End everything on this side and drop the transport."""
        if self.closed:
            return
        self.closed = True
        self.ended = describe(reason)
        # A transport with a producer would wait for it before it closes.
        self.transport.unregisterProducer()
        for channel in list(self.channels.values()):
            channel.close(reason)
        self.delegate.close(reason)

    def connectionLost(self, reason: Any) -> None:
        if self._ticking is not None and self._ticking.active():
            self._ticking.cancel()
        super().connectionLost(reason)

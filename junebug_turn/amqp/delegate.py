"""What the broker and the transport tell a connection, handed to it by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer
from txamqp.client import TwistedDelegate
from zope.interface import implementer

if TYPE_CHECKING:
    from junebug_turn.amqp.channel import Channel
    from junebug_turn.amqp.connection import AmqpProtocol


class Delegate(TwistedDelegate):  # type: ignore[misc]
    """The methods that the broker calls, each by its name."""

    client: AmqpProtocol

    def connection_start(self, channel: Channel, message: Any) -> None:
        if "PLAIN" not in message.mechanisms.split():
            self.client.abort("the broker does not offer PLAIN authentication")
            return
        channel.connection_start_ok(
            client_properties=self.client.properties,
            mechanism="PLAIN",
            response=self.client.response,
            locale="en_US",
        )

    def connection_secure(self, channel: Channel, message: Any) -> None:
        self.client.abort("the broker asks for more than a user name and password")

    def connection_tune(self, channel: Channel, message: Any) -> None:
        self.client.tuned(message.channel_max, message.frame_max, message.heartbeat)
        client = self.client
        channel.connection_tune_ok(client.channel_max, client.MAX_LENGTH, client.heartbeat)
        client.started.fire()

    def connection_blocked(self, channel: Channel, message: Any) -> None:
        self.client.set_blocked(True, message.reason)

    def connection_unblocked(self, channel: Channel, message: Any) -> None:
        self.client.set_blocked(False, "")

    def basic_cancel(self, channel: Channel, message: Any) -> None:
        channel.listener.cancelled()

    def channel_flow(self, channel: Channel, message: Any) -> None:
        channel.channel_flow_ok(active=message.active)
        channel.listener.flow(message.active)


@implementer(IPushProducer)
class WriteGate:
    """Hears from the transport when its write buffer is full, and when it is empty again."""

    def __init__(self, client: AmqpProtocol) -> None:
        self._client = client

    def pauseProducing(self) -> None:
        self._client.set_writable(False)

    def resumeProducing(self) -> None:
        self._client.set_writable(True)

    def stopProducing(self) -> None:
        self._client.set_writable(False)

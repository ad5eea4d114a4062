"""The methods that the broker calls on a connection or a channel without being asked.

Tested by tests/unit/amqp/test_connection.py.
"""

from __future__ import annotations

from typing import Any, Protocol

from txamqp.client import TwistedDelegate

from junebug_turn.amqp.channel import Channel


class Client(Protocol):
    """The connection, as the delegate needs it."""

    properties: dict[str, Any]
    response: bytes
    channel_max: int
    frame_max: int
    heartbeat: int
    started: Any

    def abort(self, why: str) -> None:
        """Drop the connection."""

    def tuned(self, channel_max: int, frame_max: int, heartbeat: int) -> None:
        """Settle the connection's limits."""

    def set_blocked(self, blocked: bool, reason: str) -> None:
        """Hold publishing back, or let it go on."""


class Delegate(TwistedDelegate):  # type: ignore[misc]
    """The broker's methods, each by its name; txamqp's class handles the closing methods."""

    client: Client

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
        client = self.client
        client.tuned(message.channel_max, message.frame_max, message.heartbeat)
        channel.connection_tune_ok(client.channel_max, client.frame_max, client.heartbeat)
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

"""The connections that consume: as many as the consumers need channels for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from twisted.internet.defer import Deferred, DeferredList

from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.reconnecting import ReconnectingConnection, User

CHANNELS = 2000
"""Channels of a connection for its users: RabbitMQ allows 2,047 by default, and declarations need some."""


class ConsumingConnections:
    """Connections that share consumers, in the form of one; another is made where no channel is left for a consumer.

    Where the broker allows fewer channels than ``CHANNELS``, that counts for the consumers that come once it is known.

    :param make: makes a connection for a purpose
    """

    def __init__(self, make: Callable[[str], ReconnectingConnection]) -> None:
        self._make = make
        self._connections = [make("consuming")]
        self._of: dict[User, ReconnectingConnection] = {}
        self._started = False

    def __iter__(self) -> Iterator[ReconnectingConnection]:
        return iter(self._connections)

    @property
    def protocol(self) -> AmqpProtocol | None:
        """The connection for declarations and questions, while it is up."""
        return self._connections[0].protocol

    @property
    def connected(self) -> bool:
        """Whether all are up."""
        return all(each.protocol is not None for each in self._connections)

    @property
    def channels_needed(self) -> int:
        """The number of channels that the broker must allow on a connection."""
        return max(each.channels_needed for each in self._connections)

    def add(self, user: User) -> None:
        """Have ``user`` work on one of the connections, and on those that follow it."""
        connection = next((each for each in self._connections if self._has_room(each)), None)
        if connection is None:
            connection = self._make(f"consuming {len(self._connections) + 1}")
            self._connections.append(connection)
            if self._started:
                connection.start()
        self._of[user] = connection
        connection.add(user)

    def remove(self, user: User) -> None:
        """Have ``user`` work on no connection that follows; it ends its work on this one itself."""
        self._of.pop(user).remove(user)

    def start(self) -> None:
        """Connect, and stay connected."""
        self._started = True
        for each in self._connections:
            each.start()

    async def stop(self) -> None:
        """Close the connections in order and make no others."""
        stopping = [Deferred.fromCoroutine(each.stop()) for each in self._connections]
        await DeferredList(stopping, consumeErrors=True)

    def _has_room(self, connection: ReconnectingConnection) -> bool:
        protocol = connection.protocol
        allowed = CHANNELS if protocol is None else min(CHANNELS, protocol.channel_max)
        return connection.channels_needed < allowed

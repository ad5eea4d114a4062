"""Connections to a Redis: txredisapi's, with the holes closed that would leave a daemon without its cache.

txredisapi 1.6 stops connecting for good when a server that is just going down cuts a connection during AUTH or
SELECT, or refuses the password for a while; it keeps each lost connection, and each command that gave up waiting for
one, in a queue of its own; it goes on using a connection that it is about to abort; and it takes texts that look like
numbers for numbers.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import UNIXClientEndpoint, wrapClientTLS
from twisted.logger import Logger
from txredisapi import RedisFactory

from junebug_turn.net.endpoints import NameEndpoint
from junebug_turn.net.tls import ClientTls
from junebug_turn.state.redis.address import RedisAddress

SIZE = 3  # connections: one that hangs holds up a part of the commands only


class RedisPool(RedisFactory):  # type: ignore[misc]  # it has no annotations
    """Connections to one server, made anew when they are lost.

    :param timeout: seconds for a connection to be made, and for an answer; a connection that owes one for longer
        is aborted, as its peer may be gone without a word
    :param trust_root: who may sign the server's certificate, as ``optionsForClientTLS`` takes it

    :ivar refusal: why the last connection could not be used; None as long as the server takes us
    """

    log = Logger()
    initialDelay = 0.1
    maxDelay = 5.0

    def __init__(self, reactor: Any, address: RedisAddress, timeout: float, trust_root: Any = None) -> None:
        super().__init__(
            address.name,
            address.database,
            SIZE,
            charset=None,
            username=address.username,
            password=address.password,
            # Shorter than that of the whole operation, whose end would end the watch over the connection.
            replyTimeout=0.9 * timeout,
            convertNumbers=False,
        )
        # It would be fired once, for somebody who waits for the first connections.
        self.deferred = None
        self.refusal: str | None = None
        self._reactor = reactor
        self._address = address
        self._timeout = timeout
        self._trust_root = trust_root
        self._turn = count()
        self._waiting: dict[Deferred[Any], None] = {}

    def start(self) -> None:
        """Connect, and keep connected."""
        address = self._address
        endpoint: Any
        if address.path is not None:
            endpoint = UNIXClientEndpoint(self._reactor, address.path, timeout=self._timeout)
        else:
            endpoint = NameEndpoint(self._reactor, address.host, address.port, timeout=self._timeout)
            if address.tls:
                endpoint = wrapClientTLS(ClientTls(self._trust_root).creator(address.host), endpoint)
        self.startConnecting(endpoint)

    async def stop(self) -> None:
        """Close all connections; what still waits for one is cancelled."""
        for waiting in list(self._waiting):
            waiting.cancel()
        try:
            await self.disconnect().addTimeout(self._timeout, self._reactor)
        except DeferredTimeout:
            for connection in list(self.pool):
                connection.transport.abortConnection()

    def connection(self) -> Deferred[Any]:
        """A connection that is ready, now or when there is one; cancelling ends the wait."""
        if self.pool:
            return succeed(self.pool[next(self._turn) % len(self.pool)])
        waiting: Deferred[Any] = Deferred(lambda cancelled: self._waiting.pop(cancelled, None))
        self._waiting[waiting] = None
        return waiting

    def give_up(self, connection: Any) -> None:
        """Take out of use a connection that did not answer.

        txredisapi aborts it only after it has failed all that it owed, so that whoever tries again at once would get it
        again, and never give the reactor the turn in which it goes.
        """
        if connection in self.pool:
            self.pool.remove(connection)
            self.size = len(self.pool)

    # What the base class calls.

    def addConnection(self, conn: Any) -> None:
        """A connection is ready.  (The base class would also put it into a queue that nobody empties.)"""
        if self.disconnectCalled:
            conn.transport.loseConnection()
            return
        if not conn.connected:
            return
        conn.whenDisconnected().addCallback(self.delConnection)
        self.pool.append(conn)
        self.size = len(self.pool)
        self.refusal = None
        waiting, self._waiting = self._waiting, {}
        for one in waiting:
            one.callback(conn)

    def delConnection(self, conn: Any) -> None:
        """A connection is lost; the base class takes it for one of the pool."""
        if conn not in self.pool:
            self.pool.append(conn)
        super().delConnection(conn)

    def stopTrying(self) -> Deferred[None]:
        """What went wrong may be over at the next attempt, so there is a next one."""
        return succeed(None)

    def connectionError(self, why: Any) -> None:
        """The server did not take us: a wrong password, no such database, or the connection's end meanwhile."""
        why = str(why)
        if why != self.refusal:
            self.log.warn("{name} can't be used: {why}", name=self._address.name, why=why)
        self.refusal = why

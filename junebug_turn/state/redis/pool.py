"""Connection pool for Redis: txredisapi's, without the faults that would leave a daemon without its store.

txredisapi 1.6 stops connecting for good when a server that is just going down cuts a connection during AUTH or
SELECT, or refuses the password for a while; it keeps each lost connection, and each command that gave up waiting for
one, in a queue of its own; it goes on using a connection that it is about to abort; and it turns texts that look like
numbers into numbers.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import UNIXClientEndpoint, wrapClientTLS
from twisted.logger import Logger
from txredisapi import ConnectionError, RedisFactory, TimeoutError

from junebug_turn.net.endpoints import NameEndpoint
from junebug_turn.net.tls import ClientTls
from junebug_turn.state.redis.address import RedisAddress

SIZE = 3
"""Connections of a pool: one that hangs holds up a part of the commands only."""


class RedisPool(RedisFactory):  # type: ignore[misc]  # it has no annotations
    """Connections to one server, made again when they are lost.

    :param timeout: seconds for a connection to be made, and for an answer; a connection that owes one for longer
        is aborted, as its peer may be gone without closing it
    :param trust_root: the authorities for the server's certificate, as ``CertificateOptions`` takes them

    :ivar refusal: the reason why the last connection could not be used; None while the server accepts them
    :ivar waiting: the requests for a connection that are not answered yet
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
            # Shorter than that of the whole operation, which would cancel this timeout with the command.
            replyTimeout=0.9 * timeout,
            convertNumbers=False,
        )
        # The base class would fire it once, for the first connections; nothing here waits for it.
        self.deferred = None
        self.refusal: str | None = None
        self._reactor = reactor
        self._address = address
        self._timeout = timeout
        self._trust_root = trust_root
        self._turn = count()
        self.waiting: dict[Deferred[Any], None] = {}

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
        """Close all connections, and cancel the requests for one."""
        for request in list(self.waiting):
            request.cancel()
        try:
            await self.disconnect().addTimeout(self._timeout, self._reactor)
        except DeferredTimeout:
            for connection in list(self.pool):
                connection.transport.abortConnection()

    def connection(self) -> Deferred[Any]:
        """Return a ready connection, at once or when there is one; cancelling ends the wait."""
        if self.pool:
            return succeed(self.pool[next(self._turn) % len(self.pool)])
        request: Deferred[Any] = Deferred(lambda cancelled: self.waiting.pop(cancelled, None))
        self.waiting[request] = None
        return request

    async def run(self, method: str, *args: Any) -> Any:
        """Return the result of a connection's ``method``, waiting for a connection where none is ready.

        The method is called again where its connection is lost, so it must be one that can run twice.

        :raises RedisError: the server refuses the command, or does not answer it
        """
        while True:
            connection = await self.connection()
            try:
                return await getattr(connection, method)(*args)
            except TimeoutError:
                self._give_up(connection)
                raise
            except ConnectionError:
                self._give_up(connection)

    def _give_up(self, connection: Any) -> None:
        """Take a connection that did not answer out of use.

        txredisapi aborts it only after it has failed all commands that it owed: a new attempt made at once would get
        the same connection again, and never give the reactor the turn in which it is aborted.
        """
        if connection in self.pool:
            self.pool.remove(connection)
            self.size = len(self.pool)

    # Called by the base class.

    def addConnection(self, conn: Any) -> None:
        """Take a ready connection into the pool; the base class would also put it into a queue that nobody empties."""
        if self.disconnectCalled:
            conn.transport.loseConnection()
            return
        if not conn.connected:
            return
        conn.whenDisconnected().addCallback(self.delConnection)
        self.pool.append(conn)
        self.size = len(self.pool)
        self.refusal = None
        waiting, self.waiting = self.waiting, {}
        for request in waiting:
            request.callback(conn)

    def delConnection(self, conn: Any) -> None:
        """Remove a lost connection; the base class expects it in the pool."""
        if conn not in self.pool:
            self.pool.append(conn)
        super().delConnection(conn)

    def stopTrying(self) -> Deferred[None]:
        """Go on connecting: the fault may be over at the next attempt."""
        return succeed(None)

    def connectionError(self, why: Any) -> None:
        """Note why the server refused a connection: a wrong password, no such database, or its own shutdown."""
        why = str(why)
        if why != self.refusal:
            self.log.warn("{name} can't be used: {why}", name=self._address.name, why=why)
        self.refusal = why

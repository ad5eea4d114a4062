"""Connection pool for Redis: txredisapi's, without the faults that would leave a daemon without its store.

txredisapi 1.6 stops connecting for good when a server that is just going down cuts a connection during AUTH or
SELECT, or refuses the password for a while; it keeps each lost connection, and each command that gave up waiting for
one, in a queue of its own; it goes on using a connection that it is about to abort; and it turns texts that look like
numbers into numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from txredisapi import ConnectionError, RedisFactory, ResponseError, TimeoutError
from zope.interface import implementer

from junebug_turn.net.endpoints import NameEndpoint
from junebug_turn.net.tls import ClientTls
from junebug_turn.state.redis.address import RedisAddress
from junebug_turn.state.redis.errors import Kind, meaning, remedy
from junebug_turn.state.redis.sentinel import STEP_TIMEOUT, SentinelEndpoint

SIZE = 3
"""Connections of a pool: one that hangs holds up a part of the commands only."""

FAILOVER_TIME = 10.0
"""Seconds within which giving up the connections again is taken for the same failover, which is not over."""


@implementer(IStreamClientEndpoint)
@frozen
class _Noted:
    """Endpoint whose failures are noted."""

    _endpoint: Any
    _note: Callable[[Failure], Failure]

    def connect(self, factory: Any) -> Deferred[Any]:
        connecting: Deferred[Any] = self._endpoint.connect(factory)
        return connecting.addErrback(self._note)


class RedisPool(RedisFactory):  # type: ignore[misc]  # it has no annotations
    """Connections to one server, made again when they are lost.

    :param timeout: seconds for a connection to be made, and for an answer; a connection that owes one for longer
        is aborted, as its peer may be gone without closing it
    :param trust_root: the authorities for the server's certificate, as ``CertificateOptions`` takes them

    :ivar refusal: the reason why the last connection could not be made or used; None while the server accepts them
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
        self._renewed_at: float | None = None
        self._pause = 0.0

    def start(self) -> None:
        """Connect, and keep connected."""
        address = self._address
        endpoint: Any
        if address.path is not None:
            endpoint = _Noted(
                UNIXClientEndpoint(self._reactor, address.path, timeout=self._timeout), self._unreachable
            )
        elif address.sentinels:
            step = min(STEP_TIMEOUT, self._timeout)
            connect = partial(self._endpoint, timeout=step)
            endpoint = SentinelEndpoint(self._reactor, address, connect, step, self.connectionError)
        else:
            endpoint = _Noted(self._endpoint(address.host, address.port, self._timeout), self._unreachable)
        self.startConnecting(endpoint)

    def _endpoint(self, host: str, port: int, timeout: float) -> Any:
        endpoint: Any = NameEndpoint(self._reactor, host, port, timeout=timeout)
        if self._address.tls:
            endpoint = wrapClientTLS(ClientTls(self._trust_root).creator(host), endpoint)
        return endpoint

    def _unreachable(self, failure: Failure) -> Failure:
        """Note why no connection could be made; the base class tries again without a word."""
        if not self.disconnectCalled:
            self.refusal = failure.getErrorMessage().rstrip(".")
        return failure

    def fault(self, last: str | None) -> str | None:
        """Return the fault of the server, where ``last`` is that of the last operation.

        Without a connection the reason for this comes first: an operation only says that it had no answer.
        """
        return last if self.pool else self.refusal or last or "not connected"

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

        The method is called again where its connection is lost, so it must be one that can run twice.  It is called
        once more, on a new connection, where the server says that it is no longer the one to write to.

        :raises RedisError: the server refuses the command, or does not answer it
        """
        renewed = False
        while True:
            connection = await self.connection()
            try:
                return await getattr(connection, method)(*args)
            except TimeoutError:
                self._give_up(connection)
                raise
            except ConnectionError:
                self._give_up(connection)
            except ResponseError as error:
                if meaning(error).kind is not Kind.STALE:
                    raise
                self._renew(connection, error)
                if renewed:
                    raise
                renewed = True

    def _give_up(self, connection: Any) -> None:
        """Take a connection that did not answer out of use.

        txredisapi aborts it only after it has failed all commands that it owed: a new attempt made at once would get
        the same connection again, and never give the reactor the turn in which it is aborted.
        """
        if connection in self.pool:
            self.pool.remove(connection)
            self.size = len(self.pool)

    def _renew(self, connection: Any, error: ResponseError) -> None:
        """Close all connections, which lead to the same server, and open new ones.

        At once for the first time, then with pauses: the address may lead to the same server for some time yet.
        """
        if connection not in self.pool:
            # Another command has had the same answer.
            return
        now = self._reactor.seconds()
        repeated = self._renewed_at is not None and now - self._renewed_at < FAILOVER_TIME
        self._renewed_at = now
        # So short that a command meets the second refusal, and not the end of its time.
        self._pause = self._timeout / 4 if repeated else 0.0
        if not repeated:
            self.log.warn(
                "{name} is not to be written to, so its connections are made anew: {error!s}",
                name=self._address.name,
                error=error,
            )
        for each in tuple(self.pool):
            self._give_up(each)
            each.transport.abortConnection()

    # Called by the base class.

    def retryDelay(self, attempt: int) -> float:
        """Return the seconds before the next connection is made."""
        return max(float(super().retryDelay(attempt)), self._pause)

    def addConnection(self, conn: Any) -> None:
        """Take a ready connection into the pool, with Sentinel once it has said that it leads to a primary."""
        if self._address.sentinels:
            conn.role().addCallbacks(
                lambda role: self._take(conn) if role[0] == b"master" else conn.transport.loseConnection(),
                lambda _: conn.transport.loseConnection(),
            )
        else:
            self._take(conn)

    def _take(self, conn: Any) -> None:
        """Take a connection into the pool; the base class would also queue it for ever."""
        if self.disconnectCalled:
            conn.transport.loseConnection()
            return
        if not conn.connected:
            return
        conn.whenDisconnected().addCallback(self.delConnection)
        self.pool.append(conn)
        self.size = len(self.pool)
        self.refusal = None
        self._pause = 0.0
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
        why = "; ".join(filter(None, (str(why), remedy(str(why)))))
        if why != self.refusal:
            self.log.warn("{name} can't be used: {why}", name=self._address.name, why=why)
        self.refusal = why

"""Endpoints that connect through an HTTP proxy, by the method CONNECT (RFC 9110, section 9.3.6)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from junebug_turn.net.proxies import Proxy, ProxyFault

MAX_ANSWER = 16 * 1024
"""Bytes of a proxy's answer to CONNECT."""

MAX_ADDRESSES = 3
"""Addresses of a destination that the proxy is asked for, one after the other."""

_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")


@implementer(IStreamClientEndpoint)
@frozen
class ProxyEndpoint:
    """Endpoint of the proxy itself, which fails with ``ProxyFault``.

    :ivar endpoint: connects to its host and port
    """

    proxy: Proxy
    endpoint: IStreamClientEndpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """Connect to the proxy."""
        return self.endpoint.connect(protocolFactory).addErrback(self._explained)

    def _explained(self, failure: Failure) -> Failure:
        if failure.check(ConnectError, ConnectTimeout, DNSLookupError):
            # The first sentence; the others are Twisted's, for programmers.
            why = str(failure.value).partition(":")[0].rstrip(".")
            return Failure(ProxyFault(f"no connection to {self.proxy.name}: {why}"))
        return failure


@implementer(IStreamClientEndpoint)
@frozen
class TunnelEndpoint:
    """Endpoint for a host and a port behind a proxy.

    :ivar hosts: returns the names or addresses that the proxy is asked for, until it can reach one
    """

    proxy: ProxyEndpoint
    hosts: Callable[[], Awaitable[Sequence[str]]]
    port: int

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """Connect to the proxy and through it; fails with ``ProxyFault`` where that can't be done."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol | None:
        *others, last = (await self.hosts())[:MAX_ADDRESSES]
        for host in others:
            try:
                return await self._tunnel(host, factory)
            except ProxyFault:
                continue
        return await self._tunnel(last, factory)

    async def _tunnel(self, host: str, factory: IProtocolFactory) -> IProtocol | None:
        opening = Factory.forProtocol(lambda: _Tunnel(self.proxy.proxy, host, self.port))
        opening.noisy = False
        tunnel: _Tunnel = await self.proxy.connect(opening)
        await tunnel.opened
        return tunnel.hand_over(factory)


class _Tunnel(Protocol):
    """Connection to a proxy, whose bytes are another protocol's once ``opened`` has fired."""

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self._proxy = proxy
        self._target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._answer = b""
        self._inner: Any = None
        self.opened: Deferred[None] = Deferred(lambda _: self._abort())

    def connectionMade(self) -> None:
        target = self._target.encode("ascii")
        lines = [b"CONNECT %b HTTP/1.1" % target, b"Host: %b" % target]
        if self._proxy.authorization is not None:
            lines.append(b"Proxy-Authorization: %b" % self._proxy.authorization)
        transport: Any = self.transport
        transport.write(b"\r\n".join([*lines, b"", b""]))

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        self._answer += data
        if self.opened.called:
            return
        head, end, _ = self._answer.partition(b"\r\n\r\n")
        status = _STATUS.match(self._answer)
        if status is not None and status[1] != b"200" and status[1][:1] != b"1":
            # Whatever follows is a page for a person.
            self._fail(self._proxy.fault(int(status[1])))
        elif len(self._answer) > MAX_ANSWER or (end and status is None):
            self._fail(ProxyFault(f"{self._proxy.name} gave an answer that is not HTTP"))
        elif end:
            self._answer = self._answer[len(head) + len(end) :]
            if status is not None and status[1] == b"200":
                self.opened.callback(None)
            else:
                self.dataReceived(b"")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif not self.opened.called:
            self.opened.errback(ProxyFault(f"{self._proxy.name} closed the connection without an answer"))

    def hand_over(self, factory: IProtocolFactory) -> IProtocol | None:
        """Give the connection to a protocol of ``factory``, and return that."""
        transport: Any = self.transport
        self._inner = factory.buildProtocol(transport.getPeer())
        self._inner.makeConnection(transport)
        rest, self._answer = self._answer, b""
        if rest:
            self._inner.dataReceived(rest)
        inner: IProtocol = self._inner
        return inner

    def _fail(self, fault: ProxyFault) -> None:
        self.opened.errback(fault)
        self._abort()

    def _abort(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()

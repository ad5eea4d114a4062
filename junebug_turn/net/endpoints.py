"""Connections to host names, also to those that are names in a local network only."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IConnector, IHostnameResolver, IReactorPluggableNameResolver
from zope.interface import implementer

from junebug_turn.net.addresses import is_local_name
from junebug_turn.net.tcp import PromptConnector


@implementer(IReactorPluggableNameResolver)
class _Reactor:
    """The reactor, with another name resolver where one is given, and with prompt connections."""

    def __init__(self, reactor: Any, resolver: IHostnameResolver | None) -> None:
        self._reactor = reactor
        self._resolver = resolver

    @property
    def nameResolver(self) -> IHostnameResolver:
        return self._resolver or self._reactor.nameResolver

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        raise NotImplementedError("this reactor's resolver stays")

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> IConnector:
        connector = PromptConnector(host, port, factory, timeout, bindAddress, self._reactor)
        connector.connect()
        return connector

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


class NameEndpoint(HostnameEndpoint):
    """Twisted's endpoint for a name or an address, without its refusal of names such as ``rapidpro_web``.

    An underscore has no place in IDNA, but it has in the names that Docker Compose gives to services, and every
    resolver takes it.

    :param timeout: seconds for the connection
    :param resolver: in place of the reactor's
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        *,
        timeout: float = 30,
        resolver: IHostnameResolver | None = None,
    ) -> None:
        super().__init__(_Reactor(reactor, resolver), host, port, timeout=timeout)

    @staticmethod
    def _hostAsBytesAndText(host: bytes | str) -> tuple[bool, bytes, str]:
        if isinstance(host, str) and is_local_name(host):
            return False, host.encode("ascii"), host
        return HostnameEndpoint._hostAsBytesAndText(host)

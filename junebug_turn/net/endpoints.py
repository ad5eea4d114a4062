"""Endpoints of outgoing connections: host names, and the check of the addresses that a client's URL may lead to.

A name's owner can have it resolve to another address each time it is asked (DNS rebinding).  So the check stands
between the resolver and the connection, and the connection is made to an address, not to the name again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import Any

from attrs import frozen
from twisted.internet._resolver import GAIResolver
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IHostnameResolver,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

from junebug_turn.net.addresses import HostRules, is_local_name
from junebug_turn.net.lookups import AddressResolver, LookupResolver, Lookups
from junebug_turn.net.proxies import DIRECT, Proxies, Proxy
from junebug_turn.net.tcp import PromptConnector
from junebug_turn.net.tunnel import ProxyEndpoint, TunnelEndpoint

CONNECT_TIMEOUT = 30.0
"""Seconds to connect for an HTTP request; each attempt of a delivery has a shorter limit of its own."""


class ForbiddenAddress(Exception):
    """A host has no address that may be connected to."""


@implementer(IReactorPluggableNameResolver)
class _Reactor:
    """The reactor, with another name resolver where one is given, and with prompt connections."""

    def __init__(self, reactor: Any, resolver: IHostnameResolver | None) -> None:
        self._reactor = reactor
        self._resolver = resolver

    @property
    def nameResolver(self) -> IHostnameResolver:
        return self._resolver or AddressResolver(self._reactor.nameResolver)

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
    """Endpoint for a name or an address, without Twisted's refusal of names such as ``rapidpro_web``.

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


@implementer(IHostnameResolver)
class _CheckingResolver:
    """Resolver that passes on only the addresses that the rules permit for ``host``; for one connection."""

    def __init__(self, resolver: IHostnameResolver, rules: HostRules, host: str) -> None:
        self._resolver = resolver
        self._rules = rules
        self._host = host
        self._permitted = self._refused = 0
        self._resolution: IHostResolution | None = None

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        return self._resolver.resolveHostName(
            _CheckingReceiver(resolutionReceiver, self),
            hostName,
            portNumber,
            addressTypes,
            transportSemantics,
        )

    def began(self, resolution: IHostResolution) -> None:
        self._resolution = resolution

    def permits(self, address: Any) -> bool:
        try:
            permitted = self._rules.permits(self._host, ip_address(address.host))
        except (AttributeError, ValueError):
            permitted = False
        self._permitted += permitted
        self._refused += not permitted
        return permitted

    def explained(self, failure: Failure) -> Failure:
        """The failure of the connection; ``ForbiddenAddress`` where the host has only addresses that are refused."""
        if self._resolution is not None:
            # It may have been cancelled, which Twisted's endpoint doesn't pass on, as Twisted's resolver can't.
            with suppress(NotImplementedError):
                self._resolution.cancel()
        return Failure(ForbiddenAddress()) if self._refused and not self._permitted else failure


@implementer(IResolutionReceiver)
class _CheckingReceiver:
    """Receiver of the addresses of a ``_CheckingResolver``."""

    def __init__(self, receiver: IResolutionReceiver, resolver: _CheckingResolver) -> None:
        self._receiver = receiver
        self._resolver = resolver

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self._resolver.began(resolutionInProgress)
        self._receiver.resolutionBegan(resolutionInProgress)

    def addressResolved(self, address: IAddress) -> None:
        if self._resolver.permits(address):
            self._receiver.addressResolved(address)

    def resolutionComplete(self) -> None:
        self._receiver.resolutionComplete()


@implementer(IResolutionReceiver)
class _Addresses:
    """Receiver that collects the addresses of a host; ``found`` fires with them at the end."""

    def __init__(self) -> None:
        self._addresses: list[str] = []
        self.found: Deferred[list[str]] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        pass

    def addressResolved(self, address: Any) -> None:
        self._addresses.append(address.host)

    def resolutionComplete(self) -> None:
        if not self.found.called:
            self.found.callback(self._addresses)


@implementer(IAgentEndpointFactory)
@frozen
class UrlEndpoints:
    """Endpoint factory of an HTTP ``Agent``.

    :ivar tls_policy: verifies the certificates
    :ivar rules: which addresses may be connected to; None: any
    :ivar lookups: those of its hosts' names; None: those of the reactor
    :ivar proxies: those that are asked for a tunnel.  Where there are rules it leads to an address that was resolved
        and checked here, since a proxy would resolve the name anew
    """

    reactor: Any
    tls_policy: IPolicyForHTTPS
    rules: HostRules | None
    lookups: Lookups | None = None
    proxies: Proxies = DIRECT

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """The endpoint for a URL's host and port; connecting fails with ``ForbiddenAddress`` by the rules."""
        return _UrlEndpoint(self, uri)

    def connect(self, uri: URI, factory: IProtocolFactory) -> Deferred[IProtocol]:
        name = host_of(uri)
        resolver = AddressResolver(self._names())
        check = None if self.rules is None else _CheckingResolver(resolver, self.rules, name)
        proxy = self.proxies.proxy(uri.scheme.decode("ascii"), name, uri.port)
        endpoint: Any
        if proxy is None:
            endpoint = NameEndpoint(
                self.reactor, name, uri.port, timeout=CONNECT_TIMEOUT, resolver=check or resolver
            )
        else:
            hosts = partial(_tunnelled, name, uri.port, check)
            endpoint = TunnelEndpoint(self.proxy_endpoint(proxy), hosts, uri.port)
        if uri.scheme == b"https":
            endpoint = wrapClientTLS(self.tls_policy.creatorForNetloc(uri.host, uri.port), endpoint)
        connecting: Deferred[IProtocol] = endpoint.connect(factory)
        return connecting.addErrback(check.explained) if check else connecting

    def proxy_endpoint(self, proxy: Proxy) -> ProxyEndpoint:
        """Return the endpoint of a proxy."""
        return ProxyEndpoint(
            proxy, NameEndpoint(self.reactor, proxy.host, proxy.port, timeout=CONNECT_TIMEOUT)
        )

    def _names(self) -> IHostnameResolver:
        resolver: IHostnameResolver = self.reactor.nameResolver
        # One that was put in the place of Twisted's own needs no threads.
        if self.lookups is not None and isinstance(resolver, GAIResolver):
            return LookupResolver(self.lookups)
        return resolver


async def _tunnelled(name: str, port: int, check: _CheckingResolver | None) -> list[str]:
    """Return the host that a proxy is asked for: an operator's by its name, a client's by its checked addresses."""
    if check is None:
        return [name]
    addresses = _Addresses()
    check.resolveHostName(addresses, name, port)
    found = await addresses.found
    if not found:
        raise DNSLookupError()
    return found


def host_of(uri: URI) -> str:
    """Return the host of a URL, an IPv6 address without brackets."""
    host: str = uri.host.decode("ascii")
    return host.removeprefix("[").removesuffix("]")


@implementer(IStreamClientEndpoint)
@frozen(repr=False)
class _UrlEndpoint:
    """Endpoint that is made ready when it connects: an ``Agent`` asks for one for each request, and connects rarely.

    Twisted takes its ``repr`` at each connection, where one with all its parts would take as long as the rest.
    """

    endpoints: UrlEndpoints
    uri: URI

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return maybeDeferred(self.endpoints.connect, self.uri, protocolFactory)

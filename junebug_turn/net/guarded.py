"""Connections for URLs; for those that clients gave, the address that is checked is the one that is connected to.

A name's owner can have it resolve to another address each time it is asked.  So the check stands between the
resolver and the connection, and what is connected to is an address, not the name again.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

from junebug_turn.net.addresses import HostRules
from junebug_turn.net.endpoints import NameEndpoint

CONNECT_TIMEOUT = 30.0
"""Seconds; each attempt of a delivery has a shorter limit of its own."""


class ForbiddenAddress(Exception):
    """A host has no address that may be connected to."""


@implementer(IHostnameResolver)
class _CheckingResolver:
    """Lets only those addresses through that the rules permit for ``host``.

    :ivar permitted: how many these were
    :ivar refused: how many there were besides
    """

    def __init__(self, resolver: IHostnameResolver, rules: HostRules, host: str) -> None:
        self._resolver = resolver
        self._rules = rules
        self._host = host
        self.permitted = self.refused = 0

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

    def permits(self, address: Any) -> bool:
        try:
            permitted = self._rules.permits(self._host, ip_address(address.host))
        except (AttributeError, ValueError):
            permitted = False
        self.permitted += permitted
        self.refused += not permitted
        return permitted


@implementer(IResolutionReceiver)
class _CheckingReceiver:
    def __init__(self, receiver: IResolutionReceiver, resolver: _CheckingResolver) -> None:
        self._receiver = receiver
        self._resolver = resolver

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self._receiver.resolutionBegan(resolutionInProgress)

    def addressResolved(self, address: IAddress) -> None:
        if self._resolver.permits(address):
            self._receiver.addressResolved(address)

    def resolutionComplete(self) -> None:
        self._receiver.resolutionComplete()


@implementer(IStreamClientEndpoint)
class _GuardedEndpoint:
    def __init__(self, reactor: Any, rules: HostRules, name: str, port: int) -> None:
        self._resolver = _CheckingResolver(reactor.nameResolver, rules, name)
        self._endpoint = NameEndpoint(reactor, name, port, timeout=CONNECT_TIMEOUT, resolver=self._resolver)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect to an address that is permitted.

        :raises ForbiddenAddress: (in the Deferred) the host has others only
        """
        resolver = self._resolver
        resolver.permitted = resolver.refused = 0

        def failed(failure: Failure) -> Failure:
            if resolver.refused and not resolver.permitted:
                return Failure(ForbiddenAddress())
            return failure

        return self._endpoint.connect(protocolFactory).addErrback(failed)


@implementer(IAgentEndpointFactory)
class Endpoints:
    """Makes the connections of an ``Agent``.

    :param tls_policy: verifies the certificates
    :param rules: where they may lead; None: anywhere
    """

    def __init__(self, reactor: Any, tls_policy: IPolicyForHTTPS, rules: HostRules | None) -> None:
        self._reactor = reactor
        self._tls_policy = tls_policy
        self._rules = rules

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """The endpoint for a URL's host and port."""
        name = uri.host.decode("ascii").removeprefix("[").removesuffix("]")
        endpoint: Any
        if self._rules is None:
            endpoint = NameEndpoint(self._reactor, name, uri.port, timeout=CONNECT_TIMEOUT)
        else:
            endpoint = _GuardedEndpoint(self._reactor, self._rules, name, uri.port)
        if uri.scheme != b"https":
            return endpoint  # type: ignore[no-any-return]
        return wrapClientTLS(self._tls_policy.creatorForNetloc(uri.host, uri.port), endpoint)

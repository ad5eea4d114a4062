"""Where HTTP servers listen, and TLS listeners whose certificate can be changed while they do."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import SSL4ServerEndpoint, serverFromString
from twisted.internet.interfaces import IOpenSSLContextFactory, IStreamServerEndpoint
from zope.interface import implementer


@implementer(IOpenSSLContextFactory)
class RenewableContext:
    """The TLS context that new connections get; those that are made keep the one that they have.

    :param description: an ``ssl:`` endpoint description, whose files are read again
    :raises Exception: the files can't be used
    """

    def __init__(self, reactor: Any, description: str) -> None:
        self._reactor = reactor
        self._description = description
        self._options = self._load()

    def _load(self) -> Any:
        endpoint: Any = serverFromString(self._reactor, self._description)
        options = endpoint._sslContextFactory
        options.getContext()  # an error that only shows when the context is made shall show here
        return options

    def getContext(self) -> Any:
        """The context, as pyOpenSSL has it; Twisted asks for each connection."""
        return self._options.getContext()

    def renew(self) -> None:
        """Read the files again.

        :raises Exception: they can't be used; then everything stays as it was
        """
        self._options = self._load()


def server_endpoint(reactor: Any, description: str) -> tuple[IStreamServerEndpoint, RenewableContext | None]:
    """The endpoint for a description, with what renews its certificate where it has one.

    :raises Exception: the description or the files that it names can't be used
    """
    endpoint: Any = serverFromString(reactor, description)
    if not isinstance(endpoint, SSL4ServerEndpoint):
        return endpoint, None
    context = RenewableContext(reactor, description)
    endpoint._sslContextFactory = context
    return endpoint, context
